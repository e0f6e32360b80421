"""At a real terminal: questions are asked there, and a bar is shown."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, Passphrase

if TYPE_CHECKING:
    from pathlib import Path


def at_a_terminal(arguments: list[str], *answers: str) -> tuple[int, str]:
    """Run the program with a terminal as stdin, stdout and stderr; give each answer when something is asked."""
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    command = [sys.executable, "-m", "checkpoint_manager", *arguments]
    child = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True)
    os.close(theirs)
    shown, waiting = b"", list(answers)
    while True:
        if not select.select([ours], [], [], 60)[0]:
            child.kill()
            pytest.fail(f"waits for something else: {shown!r}")
        try:
            piece = os.read(ours, 4096)
        except OSError:  # the terminal is closed: the program has ended
            break
        shown += piece
        if waiting and shown.endswith(b": "):  # with the space: what is typed before it is thrown away
            os.write(ours, waiting.pop(0).encode() + b"\n")
            shown += b"\n"
    os.close(ours)
    return child.wait(), shown.decode()


@pytest.mark.parametrize(("answer", "code", "versions"), [("y", 0, 4), ("n", 15, 3), ("", 15, 3)])
def test_restore_asks(store: Path, answer: str, code: int, versions: int) -> None:
    ended, shown = at_a_terminal(["restore", "train@1", "--store", str(store)], answer)
    assert ended == code, shown
    assert "Restore it? [y/N]" in shown
    assert len(CheckpointManager(store).history("train")) == versions


def test_a_passphrase_is_typed_unseen(store: Path) -> None:
    words = ["key", "add", "--new-passphrase", "--store", str(store)]
    ended, shown = at_a_terminal(words, "correct horse", "correct horse")
    assert ended == 0, shown
    assert "correct horse" not in shown
    assert CheckpointManager(store, key=Passphrase("correct horse")).has_checkpoint("train")
    ended, shown = at_a_terminal(["show", "train", "--ask-passphrase", "--store", str(store)], "correct horse")
    assert ended == 0, shown
    assert '"epoch": 3' in shown


def test_verifying_shows_how_far_it_is(store: Path) -> None:
    ended, shown = at_a_terminal(["verify", "--store", str(store)])
    assert ended == 0
    assert "verifying" in shown
    assert "4 whole" in shown


def test_no_color(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in at_a_terminal(["status", "--store", str(store)])[1]
