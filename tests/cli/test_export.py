"""``export``"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from tests.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_through_a_pipe(cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], there: tuple[str, ...]) -> None:
    program = [sys.executable, "-m", "checkpoint_manager"]
    with subprocess.Popen([*program, "export", "-", *words], cwd=tmp_path, stdout=subprocess.PIPE) as exporting:
        done = subprocess.run([*program, "import", "-", *words, *there], stdin=exporting.stdout, check=False)
    assert (exporting.returncode, done.returncode) == (0, 0)
    assert cli("verify", *there).out == "4 whole\n"


@pytest.mark.children_measured
def test_a_reader_that_goes_away_has_no_bundle_and_is_told(store: Path, tmp_path: Path, words: tuple[str, str]) -> None:
    CheckpointManager(store).save_checkpoint("long", "x" * 3_000_000)
    command = [sys.executable, "-m", "checkpoint_manager", "export", "-", *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as exporting:
        assert exporting.stdout is not None
        assert exporting.stderr is not None
        exporting.stdout.close()
        said = exporting.stderr.read().decode()
    assert exporting.returncode == 20
    assert said == "error: the reader of the bundle went away before its end. Export it again: what arrived is incomplete\n"


def test_a_full_disk_behind_stdout_is_told(store: Path, tmp_path: Path, words: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "export", "-", *words]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 20
    assert b"No space left" in done.stderr


def test_a_key_file_is_made_for_an_export_and_not_for_an_import(
    cli: Cli, store: Path, tmp_path: Path, there: tuple[str, ...]
) -> None:
    result = cli("export", "x.bundle", "--bundle-key", "file:b.key")
    assert result.code == 0
    assert "made the key file b.key" in result.err
    assert (tmp_path / "b.key").stat().st_mode & 0o777 == 0o600
    again = cli("export", "x.bundle", "--bundle-key", "file:b.key", "--overwrite")
    assert "made" not in again.err
    assert cli("import", "x.bundle", "--bundle-key", "file:c.key", *there).code == 12
    assert not (tmp_path / "c.key").exists()
    assert cli("import", "x.bundle", "--bundle-key", f"file:{tmp_path / 'there.key'}", *there).code == 12
    assert cli("import", "x.bundle", "--bundle-key", "file:b.key", *there).code == 0


def test_what_is_not_right_on_the_command_line(
    cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, says in (
        (("export", "x.bundle"), "no terminal to ask"),
        (("import", "-"), "no terminal to ask"),
        (("export", "x.bundle", *words, "--bundle-key", "file:k"), "--bundle-key is given twice"),
        (("export", "train", *words), "train is a stage, and FILE is missing"),
        (("export", "-", *words, "--json"), "--json needs stdout"),
        (("import", "x.bundle", *words, "--rename", "a", "b", "--rename", "a", "c"), "names a stage twice"),
        (("export",), "FILE"),
    ):
        result = cli(*arguments)
        assert result.code == 2, arguments
        assert says in result.err + result.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "words.txt"]


def test_what_can_be_known_before_is_told_before_a_passphrase_is_asked_for(
    cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str]
) -> None:
    (tmp_path / "taken").touch()
    for line, code, says in (
        ("export trian x.bundle", 14, "did you mean train?"),
        ("export trian x.bundle --bundle-key file:b.key", 14, "did you mean train?"),
        ("export taken --key prompt", 16, "taken exists already"),
        ("export nowhere/x.bundle --key prompt", 20, "nowhere"),
        ("import nowhere.bundle --key prompt", 20, "nowhere.bundle"),
        ("import words.txt --key prompt", 13, "words.txt is not a bundle. Nothing was imported. Name a file"),
        ("import checkpoints --key prompt", 20, "checkpoints is not a regular file"),
    ):
        result = cli(*line.split())
        assert (result.code, says in result.err) == (code, True), result.err
    assert not (tmp_path / "b.key").exists()


def test_nothing_that_is_not_text_is_printed_at_a_terminal(
    cli: Cli, store: Path, words: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    CheckpointManager(store).save_checkpoint("beside", attachments={"raw": b"1"})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for arguments, says in (
        (("export", "-", *words), "a bundle is not text for a terminal. Name a file, or send stdout to one"),
        (("show", "beside", "--attachment", "raw"), "Write it to a file: add > FILE"),
    ):
        result = cli(*arguments)
        assert (result.code, result.out) == (2, "")
        assert says in result.err


def test_a_bundles_passphrase_is_typed_unseen(store: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "x.bundle")
    with Terminal("export", path, "--store", str(store)) as terminal:
        terminal.answer("Passphrase of the bundle", "seven words")
        terminal.answer("Repeat for confirmation", "seven words")
        assert terminal.end() == 0, terminal.shown
        assert "seven words" not in terminal.shown
    with Terminal("import", path, "--store", str(store)) as terminal:
        terminal.answer("Passphrase of the bundle", "seven words")
        assert terminal.end() == 0, terminal.shown
        assert "nothing in the bundle is new: 2 stages, 4 versions, " in terminal.shown
    with Terminal("export", "-", "--store", str(store)) as terminal:
        assert terminal.end() == 2
        assert "not text for a terminal" in " ".join(terminal.shown.split())
