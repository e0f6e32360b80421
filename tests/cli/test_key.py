"""``key``: list, add, remove, rotate; and the ways to name a key, none of which is an argument that holds one."""

from __future__ import annotations

import contextlib
import errno
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, KeyFile, Passphrase
from checkpoint_manager._store import key_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


@pytest.fixture
def passphrase(tmp_path: Path) -> str:
    path = tmp_path / "passphrase.txt"
    path.write_text("correct horse\n")
    path.chmod(0o600)
    return str(path)


@contextlib.contextmanager
def lines(text: str) -> Iterator[str]:
    """Offer lines of text as a source of keys: an open descriptor."""
    reading, writing = os.pipe()
    try:
        os.write(writing, text.encode())
        os.close(writing)
        yield f"fd:{reading}"
    finally:
        os.close(reading)


def test_a_slot_comes_and_goes(cli: Cli, store: Path, passphrase: str) -> None:
    slot = cli("key", "add", f"passphrase-file:{passphrase}", "--label", "alice").out.strip()
    slots = cli("key", "list", "--json").json["slots"]
    assert [(s["kind"], s["label"], s["current"]) for s in slots] == [("key-file", "", True), ("passphrase", "alice", False)]
    assert "alice" in cli("key", "list").out
    assert cli("status", "--key", f"passphrase-file:{passphrase}").code == 0
    assert cli("key", "remove", slot, "--yes").out == f"{slot}\n"
    assert cli("status", "--key", f"passphrase-file:{passphrase}").code == 12


def test_a_new_key_file_is_made_and_opens_the_store(cli: Cli, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "backup.key"
    mistyped = cli("key", "add", f"file:{path}")
    assert (mistyped.code, path.exists()) == (12, False)
    assert "Check the path, or make a new key file there with --create" in mistyped.err
    result = cli("key", "add", f"file:{path}", "--create", "--json")
    assert result.json["slot"]["kind"] == "key-file"
    assert "safe place" in result.err
    assert path.stat().st_mode & 0o777 == 0o600
    assert CheckpointManager(store, key=KeyFile(str(path))).has_checkpoint("train")
    slot = cli("key", "list", "--key", f"file:{path}", "--json").json["slots"][1]
    assert slot["current"]
    assert cli("key", "remove", slot["slot"], "--yes", "--json").json["slot"] == slot["slot"]


def test_a_file_is_said_to_exist_only_where_one_was_to_be_made(cli: Cli, store: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.key"
    key_sources.create_key_file(path)
    assert "exists" not in cli("key", "add", f"file:{path}").err
    assert f"{path} exists already, and is read as the key file\n" in cli("key", "add", f"file:{path}", "--create").err
    path.write_text("{}")
    assert "is used" not in cli("key", "add", f"file:{path}", "--create").err


def test_a_key_that_opens_the_store_already_is_refused(cli: Cli, store: Path, passphrase: str) -> None:
    slot = cli("key", "add", f"passphrase-file:{passphrase}", "--label", "alice").out.strip()
    again = cli("key", "add", f"passphrase-file:{passphrase}", "--label", "bob")
    assert (again.code, again.out) == (16, "")
    assert f"opens the store already, by key slot {slot} (passphrase, alice)" in again.err
    assert len(cli("key", "list", "--json").json["slots"]) == 2


def test_removing_asks_and_needs_a_slot_that_exists(cli: Cli, program: Cli, store: Path) -> None:
    assert program("key", "remove", "12345678").code == 14
    assert cli("key", "remove", "12345678", "--yes").code == 14


def test_the_last_slot_stays(cli: Cli, store: Path) -> None:
    slot = cli("key", "list", "--json").json["slots"][0]["slot"]
    result = cli("key", "remove", slot, "--yes")
    assert result.code == 16
    assert "last one" in result.err


def test_rotation(cli: Cli, store: Path, tmp_path: Path, passphrase: str) -> None:
    alice = cli("key", "add", f"passphrase-file:{passphrase}", "--label", "alice").out.strip()
    cli("key", "add", f"file:{tmp_path / 'backup.key'}", "--create")
    refused = cli("key", "rotate")
    assert refused.code == 16
    assert "alice" in refused.err
    result = cli("key", "rotate", "--also", f"passphrase-file:{passphrase}", "--also", f"file:{tmp_path / 'backup.key'}")
    assert (result.code, result.out) == (0, "4 versions sealed under a new key\n")
    dropped = cli("key", "rotate", "--also", f"file:{tmp_path / 'backup.key'}", "--drop", alice, "--yes", "--json")
    assert dropped.json["versions"] == 4
    assert cli("show", "train", "--key", f"file:{tmp_path / 'backup.key'}").code == 0
    assert cli("show", "train", "--key", f"passphrase-file:{passphrase}").code == 12


@pytest.mark.parametrize("label", ["x" * 101, "a\nb"], ids=["long", "not printable"])
def test_no_key_file_is_made_for_a_label_that_a_slot_can_not_have(cli: Cli, store: Path, tmp_path: Path, label: str) -> None:
    refused = cli("key", "add", f"file:{tmp_path / 'new.key'}", "--create", "--label", label)
    assert (refused.code, refused.out) == (2, "")
    assert "a label has at most 100 printable characters" in refused.err
    assert not (tmp_path / "new.key").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["key", "add"],
        ["key", "add", "prompt", "file:x"],
        ["key", "add", "prompt", "--create"],
        ["status", "--key", "file:x", "--key", "prompt"],
        ["status", "--key", "prompt"],
    ],
)
def test_what_is_unclear_or_needs_a_terminal_is_a_usage_error(
    cli: Cli, program: Cli, store: Path, arguments: list[str]
) -> None:
    result = program(*arguments)
    assert (result.code, result.out) == (2, "")
    assert "error: " in result.err


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("file:", "what follows file: is missing"),
        ("cmd", "what follows cmd: is missing"),
        ("prompt:", "nothing may follow prompt"),
        ("prompt:secret", "nothing may follow prompt"),
    ],
)
def test_it_is_said_what_a_source_lacks(program: Cli, store: Path, source: str, said: str) -> None:
    result = program("key", "add", source)
    assert result.code == 2
    assert said in result.err
    assert "secret" not in result.err


def test_no_key_at_all(cli: Cli, store: Path, home: Path) -> None:
    for path in home.rglob("*.key"):
        path.unlink()
    result = cli("status")
    assert result.code == 12
    assert "default key file" in result.err


class TestPassphrases:
    """By a prompt (see test_terminal.py), a file, a command, a descriptor or the environment; never by an argument."""

    @pytest.fixture
    def store(self, cli: Cli, tmp_path: Path, passphrase: str) -> Path:
        assert cli("init", "--key", f"passphrase-file:{passphrase}").code == 0
        CheckpointManager(tmp_path / "checkpoints", key=Passphrase("correct horse")).save_checkpoint("train", 1)
        return tmp_path / "checkpoints"

    def test_by_a_command(self, cli: Cli, store: Path) -> None:
        assert cli("show", "train", "--key", "cmd:echo 'correct horse'").out == "1\n"
        failed = cli("show", "train", "--key", "cmd:false")
        assert failed.code == 12
        assert "the command of --key cmd failed with exit code 1" in failed.err
        assert cli("show", "train", "--key", "cmd:echo wrong").code == 12

    def test_by_a_descriptor_which_is_read_no_further_than_its_line(self, program: Cli, store: Path) -> None:
        result = program("save", "train", "--key", "fd:0", stdin='correct horse\n{"after": "the line"}')
        assert (result.code, result.out) == (0, "2\n"), result.err
        shown = program("show", "train", "--key", "fd:0", stdin="correct horse")
        assert json.loads(shown.out) == {"after": "the line"}

    def test_a_descriptor_that_is_not_open(self, program: Cli, store: Path) -> None:
        result = program("show", "train", "--key", "fd:77")
        assert result.code == 12
        assert "77<" in result.err

    def test_a_descriptor_that_can_not_be(self, cli: Cli, store: Path) -> None:
        for number in ("-1", "9" * 30):
            assert cli("show", "train", "--key", f"fd:{number}").code == 2

    def test_a_descriptor_that_never_ends_its_line(self, program: Cli, store: Path) -> None:
        result = program("show", "train", "--key", "fd:0", stdin="x" * 100_000)
        assert result.code == 12
        assert "longer than" in result.err

    def test_two_at_once_are_refused(self, cli: Cli, store: Path, passphrase: str, monkeypatch: pytest.MonkeyPatch) -> None:
        result = cli("status", "--key", f"passphrase-file:{passphrase}", "--key", "cmd:true")
        assert result.code == 2
        assert "--key is given twice" in result.err
        monkeypatch.setenv("CHECKPOINT_MANAGER_PASSPHRASE", "correct horse")
        assert cli("status").code == 0
        result = cli("status", "--key", f"passphrase-file:{passphrase}")
        assert result.code == 12
        assert "by --key passphrase-file and by the environment variable CHECKPOINT_MANAGER_PASSPHRASE" in result.err

    def test_new_and_further_ones_come_the_same_ways(self, cli: Cli, store: Path, passphrase: str) -> None:
        opened = ("--key", f"passphrase-file:{passphrase}")
        words = "first of all\nsecond of all\n"
        with lines(words) as source:
            assert cli("key", "add", *opened, source).code == 0
        assert cli("key", "add", *opened, "cmd:echo 'second of all'").code == 0
        with lines(words) as source:
            assert cli("key", "rotate", *opened, "--also", source, "--also", source).code == 0
        with lines("second of all\n") as source:
            result = cli("key", "rotate", *opened, "--also", "cmd:echo first of all", "--also", source)
            assert result.code == 0, result.err
        for each in words.splitlines():
            with lines(each) as source:
                assert cli("show", "train", "--key", source).out == "1\n"

    def test_a_new_one_costs_whoever_guesses_it_64_mib_and_three_passes(
        self, program: Cli, store: Path, passphrase: str
    ) -> None:
        """The second recommended option of RFC 9106."""
        assert program("key", "add", "cmd:echo other words", "--key", f"passphrase-file:{passphrase}").code == 0
        slot = json.loads((store / "keyring.json").read_bytes())["slots"][-1]
        assert (slot["memory_kib"], slot["passes"], slot["lanes"]) == (64 * 1024, 3, 4)


def test_a_slot_goes_by_its_label_and_a_misspelt_one_is_not_guessed(cli: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "alice.txt").write_text("correct horse")
    (tmp_path / "alice.txt").chmod(0o600)
    slot = cli("key", "add", f"passphrase-file:{tmp_path / 'alice.txt'}", "--label", "alice").out.strip()
    result = cli("key", "remove", "alcie", "--yes")
    assert result.code == 14
    assert "did you mean alice?" in result.err
    result = cli("key", "remove", "alice")
    assert result.code == 2
    assert "--dry-run" not in result.err
    assert cli("key", "remove", "alice", "--yes").out == f"{slot}\n"
    for text in ("one", "another"):
        (tmp_path / "alice.txt").write_text(text)
        cli("key", "add", f"passphrase-file:{tmp_path / 'alice.txt'}", "--label", "alice")
    result = cli("key", "remove", "alice", "--yes")
    assert result.code == 16
    assert "several key slots" in result.err
    slots = [each["slot"] for each in cli("key", "list", "--json").json["slots"] if each["label"]]
    assert cli("key", "remove", slots[0], "--yes").code == 0
    assert cli("key", "rotate", "--drop", "alice", "--yes").code == 0
    assert len(cli("key", "list", "--json").json["slots"]) == 1


def test_a_key_file_that_nobody_gave_is_not_called_given(
    cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "another"))
    cli("init", "--store", "mine")
    result = cli("status")
    assert result.code == 12
    assert "given" not in result.err


def test_without_a_terminal_no_passphrase_is_asked_for(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = os.open

    def without_terminal(path: Any, *rest: Any, **named: Any) -> int:
        if path == "/dev/tty":
            raise OSError(errno.ENXIO, os.strerror(errno.ENXIO), path)
        return opened(path, *rest, **named)

    monkeypatch.setattr(os, "open", without_terminal)
    result = cli("status", "--key", "prompt")
    assert (result.code, result.out) == (2, "")
    assert "there is no terminal to ask for a passphrase. Name another source: passphrase-file:PATH" in result.err
