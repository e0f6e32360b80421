"""What a file says is checked where it is read: it ends as an error of ours, as a finding, or as "not done"."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager
from checkpoint_manager._operations import save
from checkpoint_manager._store import sealed_store

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))

HOSTILE = [
    b"",
    b"\n",
    b'{"format":"checkpoint-manager/2","x":1}\n',
    b'{"format":"checkpoint-manager/999999999999"}\n',
    b'{"format":"checkpoint-manager/1","store":"' + b"0" * 32 + b'"}\n',
    b"\x1b]0;own\x07" * 100,
    b"\xff\xfe" * 1000,
    b"[" * 100_000,
    b"null\n",
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_a_planted_newest_version_is_damage_and_not_a_crash(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for stage in ("train", "other"):
        cm.save_checkpoint(stage, 1)
    planted = tmp_path / "store" / "history" / "train" / "000000000002.checkpoint"
    planted.write_bytes(content)
    caplog.set_level(logging.INFO)
    for reader in (cm, CheckpointManager(tmp_path / "store", key=KEY)):
        assert reader.has_checkpoint("train") is False
        assert reader.has_checkpoint("other") is True
        with pytest.raises(CheckpointError) as caught:
            reader.load_checkpoint("train")
        assert str(caught.value).isprintable()
        assert [version.status for version in reader.history("train")] == ["damaged", "completed"]
        assert not reader.verify().ok
        assert reader.load_checkpoint("train", 1) == 1
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert cm.save_checkpoint("train", 2).number == 3


def test_names_that_are_not_utf_8_or_act_on_a_terminal_are_shown_and_break_no_json(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store")
    cm.save_checkpoint("train", 1)
    root = os.fsencode(tmp_path / "store")
    for name in (b"caf\xe9", b"\x1b[2Jx", b"a\nERROR forged", "\u202etxt".encode(), b"%zz", b"x" * 200):
        os.mkdir(root + b"/history/" + name)
        for place in (b"/history/" + name + b"/000000000001.checkpoint", b"/.locks/" + name + b".lock", b"/" + name):
            with open(root + place, "wb") as file:
                file.write(b"x")
    assert cm.stages() == ["train"]
    assert cm.verify().ok
    assert cm.save_checkpoint("train", 2).number == 2
    for line in ("status", "list", "verify", "repair --dry-run"):
        for more in ([], ["--json"]):
            command = [sys.executable, "-m", "checkpoint_manager", *line.split(), *more, "--store", str(tmp_path / "store")]
            done = subprocess.run(command, capture_output=True, check=False)
            assert done.returncode == 0, done.stderr
            assert all(text.isprintable() for text in (done.stdout + done.stderr).decode().splitlines())
            if more:
                json.loads(done.stdout)


def test_the_metadata_of_an_older_library_crashes_nothing(tmp_path: Path) -> None:
    """It let callers use keys that begin with "@", which are the library's own now."""
    cm = CheckpointManager(tmp_path / "store")
    odd = [5, "x", None, [], {}, {"done": "many", "total": []}, {"type": 7, "message": []}, {"arguments": 3}, 1e300]
    for number, value in enumerate(odd):
        for status in ("completed", "progress", "failed"):
            notes = {"@failure": value, "@progress": value, "@stage": value}
            draft = save.draft("train", number, None, status=status, notes=notes)  # type: ignore[arg-type]
            save.save(cm._store, "train", draft, None)

    @cm.stage
    def train(number: int) -> int:
        return number

    assert train(3) == 3
    with cm.loop("train", [1, 2], initial=0, every_items=1) as loop:
        for number in loop:
            loop.state += number
    assert loop.result == 3
    assert len(cm.history("train")) >= 3 * len(odd)
    assert cm.verify().ok
    assert "train" in str(cm.run_report())
    for command in (
        ["log", "train"],
        ["log", "train", "--json"],
        ["status"],
        ["status", "--json"],
        ["show", "train@2", "--meta"],
    ):
        words = [sys.executable, "-m", "checkpoint_manager", *command, "--store", str(tmp_path / "store")]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
        if "--json" in command:
            json.loads(done.stdout)


@pytest.mark.parametrize("name", ["caf\udce9", "\x1b]0;own\x07\nERROR forged", "x" * 100_000])
def test_the_name_of_a_user_that_is_anything_stops_no_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It comes from the environment, where it may be any bytes."""
    monkeypatch.setenv("LOGNAME", name)
    sealed_store.origin.cache_clear()
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    version = cm.save_checkpoint("train", 1)
    sealed_store.origin.cache_clear()
    assert version.origin is not None
    assert len(version.origin.user) <= 255
    assert cm.history("train") == [version]
