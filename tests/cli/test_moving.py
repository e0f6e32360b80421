"""``export`` and ``import``: between two stores, through files and pipes, with a key that is asked for or read."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, KeyFile
from tests.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


@pytest.fixture
def words(tmp_path: Path) -> tuple[str, str]:
    """The options that name the bundle's passphrase."""
    path = tmp_path / "words.txt"
    path.write_text("seven words\n")
    path.chmod(0o600)
    return "--bundle-passphrase-file", str(path)


@pytest.fixture
def there(tmp_path: Path) -> tuple[str, str, str, str]:
    """The options that name another store, under another key."""
    CheckpointManager(tmp_path / "there", key=_key_file(tmp_path / "there.key"))
    return "--store", str(tmp_path / "there"), "--key-file", str(tmp_path / "there.key")


def _key_file(path: Path) -> KeyFile:
    from checkpoint_manager._store.key_sources import create_key_file

    create_key_file(path)
    return KeyFile(str(path))


def test_a_store_is_moved_and_kept_up_to_date(
    cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], there: tuple[str, ...]
) -> None:
    result = cli("export", "x.bundle", *words)
    assert result.code == 0
    assert [line.split() for line in result.out.splitlines()[1:]] == [["clean", "1", "1"], ["train", "3", "3"]]
    assert "2 stages, 4 versions" in result.err
    planned = cli("import", "x.bundle", *words, *there, "--dry-run")
    assert [line.split() for line in planned.out.splitlines()[1:]] == [["clean", "1", "1", "1"], ["train", "3", "3", "3"]]
    assert "4 of 4 versions would be added" in planned.err
    assert cli("list", *there).out == ""
    imported = cli("import", "x.bundle", *words, *there)
    assert (imported.code, imported.out) == (0, planned.out)
    assert "4 of 4 versions added" in imported.err
    assert cli("show", "train", *there).out == cli("show", "train").out
    assert cli("verify", *there).out == "4 whole\n"
    cli("save", "train", os.devnull)
    CheckpointManager(store).save_checkpoint("train", "newer")
    assert cli("export", "train", "x.bundle", *words).code == 2  # it is there already
    assert cli("export", "train", "x.bundle", *words, "--overwrite").code == 0
    assert cli("import", "x.bundle", *words, *there, "--json").json["added"] == 1


def test_tags_come_along_and_are_never_moved_silently(
    cli: Cli, store: Path, words: tuple[str, str], there: tuple[str, ...]
) -> None:
    for version, name in (("1", "first"), ("2", "good")):
        assert cli("tag", f"train@{version}", name).code == 0
    exported = cli("export", "train", "x.bundle", *words)
    assert "1 stages, 3 versions and 2 tags" in exported.err
    planned = cli("import", "x.bundle", *words, *there, "--dry-run")
    assert "3 of 3 versions would be added and 2 tags" in planned.err
    assert "3 of 3 versions added and 2 tags" in cli("import", "x.bundle", *words, *there).err
    assert cli("tag", "train", *there).out == cli("tag", "train").out
    assert cli("tag", "train@3", "good", "--force", *there).code == 0
    assert cli("tag", "train", "first", "--delete", *there).code == 0
    before = cli("tag", "train", *there).out
    said = cli("import", "x.bundle", *words, *there, "--dry-run")
    assert "stage train: another version has the tag here and keeps it: good; tag --force moves one" in said.err
    assert "0 of 3 versions would be added and 1 tags" in said.err
    assert cli("tag", "train", *there).out == before
    stage = cli("import", "x.bundle", *words, *there, "--json").json["stages"][0]
    assert (stage["added"], stage["tags"], stage["tags_kept"]) == (0, ["first"], ["good"])
    assert cli("verify", *there).out == "3 whole\n"


def test_json(cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], there: tuple[str, ...]) -> None:
    exported = cli("export", "train", "x.bundle", *words, "--json").json
    size = (tmp_path / "x.bundle").stat().st_size
    stage = {"stage": "train", "versions": 3, "newest": 3, "tags": []}
    rest = {"file": "x.bundle", "bytes": size, "versions": 3, "stages": [stage]}
    assert exported == {"schema": 1, "command": "export"} | rest
    imported = cli("import", "x.bundle", *words, *there, "--into", "train", "fit", "--json").json
    assert imported["stages"] == [stage | {"stage": "fit", "added": 3, "tags_kept": []}]
    assert (imported["bytes"], imported["added"], imported["dry_run"]) == (size, 3, False)


def test_through_a_pipe(cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], there: tuple[str, ...]) -> None:
    program = [sys.executable, "-m", "checkpoint_manager"]
    with subprocess.Popen([*program, "export", "-", *words], cwd=tmp_path, stdout=subprocess.PIPE) as exporting:
        done = subprocess.run([*program, "import", "-", *words, *there], stdin=exporting.stdout, check=False)
    assert (exporting.returncode, done.returncode) == (0, 0)
    assert cli("verify", *there).out == "4 whole\n"


def test_a_reader_that_goes_away_has_no_bundle_and_is_told(store: Path, tmp_path: Path, words: tuple[str, str]) -> None:
    CheckpointManager(store).save_checkpoint("long", "x" * 3_000_000)
    command = [sys.executable, "-m", "checkpoint_manager", "export", "-", *words]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as exporting:
        assert exporting.stdout is not None
        assert exporting.stderr is not None
        exporting.stdout.close()
        said = exporting.stderr.read().decode()
    assert exporting.returncode == 2
    assert said == "error: whoever read the bundle went away before its end: what came there is no bundle, export it again\n"


def test_a_full_disk_behind_stdout_is_told(store: Path, tmp_path: Path, words: tuple[str, str]) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "export", "-", *words]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(command, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 20
    assert b"No space left" in done.stderr


def test_a_key_file_is_made_for_an_export_and_not_for_an_import(
    cli: Cli, store: Path, tmp_path: Path, there: tuple[str, ...]
) -> None:
    result = cli("export", "x.bundle", "--bundle-key-file", "b.key")
    assert result.code == 0
    assert "made the key file b.key" in result.err
    assert (tmp_path / "b.key").stat().st_mode & 0o777 == 0o600
    again = cli("export", "x.bundle", "--bundle-key-file", "b.key", "--overwrite")
    assert "made" not in again.err
    assert cli("import", "x.bundle", "--bundle-key-file", "c.key", *there).code == 12
    assert not (tmp_path / "c.key").exists()
    assert cli("import", "x.bundle", "--bundle-key-file", str(tmp_path / "there.key"), *there).code == 12
    assert cli("import", "x.bundle", "--bundle-key-file", "b.key", *there).code == 0


def test_what_is_not_right_on_the_command_line(
    cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, says in (
        (("export", "x.bundle"), "no terminal to ask"),
        (("import", "x.bundle"), "no terminal to ask"),
        (("export", "x.bundle", *words, "--bundle-key-file", "k"), "not two"),
        (("export", "train", *words), "train is a stage: name the file behind it"),
        (("export", "-", *words, "--json"), "--json needs stdout"),
        (("import", "x.bundle", *words, "--into", "a", "b", "--into", "a", "c"), "names a stage twice"),
        (("export",), "FILE"),
    ):
        result = cli(*arguments)
        assert result.code == 2, arguments
        assert says in result.err + result.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "words.txt"]


def test_exit_codes_of_bundles_that_are_refused(
    cli: Cli, store: Path, tmp_path: Path, words: tuple[str, str], there: tuple[str, ...]
) -> None:
    assert cli("export", "trian", "x.bundle", *words).code == 14
    assert cli("import", "x.bundle", *words, *there).code == 20
    cli("export", "x.bundle", *words)
    assert cli("import", "x.bundle", *words, *there, "--into", "trian", "x").code == 14
    assert cli("import", "x.bundle", *words, "--store", str(tmp_path / "nowhere")).code == 10
    assert not (tmp_path / "nowhere").exists()
    (tmp_path / "there.key").rename(tmp_path / "moved.key")
    there = (*there[:3], str(tmp_path / "moved.key"))
    CheckpointManager(tmp_path / "there", key=KeyFile(there[3])).save_checkpoint("train", "own")
    parted = cli("import", "x.bundle", *words, *there)
    assert parted.code == 2
    assert "--into" in parted.err
    whole = (tmp_path / "x.bundle").read_bytes()
    (tmp_path / "x.bundle").write_bytes(whole[:-1])
    assert cli("import", "x.bundle", *words, *there).code == 13
    (tmp_path / "words.txt").write_text("other words")
    assert cli("import", "x.bundle", *words, *there).code == 12


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
        assert "0 of 4 versions added" in terminal.shown
    with Terminal("export", "-", "--store", str(store)) as terminal:
        assert terminal.end() == 2
        assert "no text for a terminal" in " ".join(terminal.shown.split())
