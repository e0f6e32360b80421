"""``run``: a command that is done is not run again, and its exit code is passed on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Program = Callable[..., Result]

COUNT = ("sh", "-c", "echo run >> runs; echo out")


def runs(tmp_path: Path) -> int:
    return len((tmp_path / "runs").read_text().splitlines())


def test_it_runs_once(program: Program, store: Path, tmp_path: Path) -> None:
    first, second = program("run", "new", "--", *COUNT), program("run", "new", "--", *COUNT)
    assert (first.code, first.out, second.code, second.out) == (0, "out\n", 0, "")
    assert "new: ran version 1 (no version yet)" in first.err
    assert "new: reused version 1" in second.err
    assert runs(tmp_path) == 1
    assert CheckpointManager(store).load_checkpoint("new") == {"command": list(COUNT), "exit_code": 0}


def test_another_command_and_again_run_it_again(program: Program, store: Path, tmp_path: Path) -> None:
    program("run", "new", "--", *COUNT)
    assert "arguments changed: command" in program("run", "new", "--", *COUNT, "x").err
    assert "the stage is cleared" in program("run", "new", "--again", "--", *COUNT).err
    assert runs(tmp_path) == 3


def test_what_is_captured_is_written_again(program: Program, store: Path, tmp_path: Path) -> None:
    results = [program("run", "new", "--capture", "--", *COUNT) for _ in range(2)]
    assert [(result.code, result.out) for result in results] == [(0, "out\n")] * 2
    assert runs(tmp_path) == 1
    assert CheckpointManager(store).load_checkpoint("new")["stdout"] == "out\n"


def test_bytes_that_are_no_text_are_captured(store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--capture", "--", "printf", r"\377\000"]
    for _ in range(2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
        assert done.stdout == b"\xff\x00"


def test_a_failure_passes_its_exit_code_on_and_runs_again(program: Program, store: Path) -> None:
    for _ in range(2):
        result = program("run", "new", "--", "sh", "-c", "exit 7")
        assert result.code == 7
        assert "new: failed with exit code 7" in result.err
    cm = CheckpointManager(store)
    assert [version.status for version in cm.history("new")] == ["failed", "failed"]
    assert cm.load_checkpoint("new")["message"] == "exit code 7"
    assert program("has", "new").code == 1


@pytest.mark.parametrize(("command", "code"), [("no-such-command", 127), ("/", 126), ("sh -c kill\t-9\t$$", 137)])
def test_commands_that_can_not_run(program: Program, store: Path, command: str, code: int) -> None:
    words = [word.replace("\t", " ") for word in command.split(" ")]
    assert program("run", "new", "--", *words).code == code


def test_for_programs(program: Program, store: Path) -> None:
    document = json.loads(program("run", "new", "--json", "--", "true").out)
    assert {name: document[name] for name in ("what", "version", "exit_code")} == {"what": "ran", "version": 1, "exit_code": 0}
    assert json.loads(program("run", "new", "--json", "--", "true").out)["what"] == "reused"
    noisy = program("run", "noisy", "--json", "--", "echo", "out")
    assert (json.loads(noisy.out)["what"], noisy.err) == ("ran", "out\n")
    for what in ("ran", "reused"):
        captured = json.loads(program("run", "kept", "--json", "--capture", "--", "echo", "out").out)
        assert (captured["what"], captured["stdout"]) == (what, "out\n")


def test_another_process_that_runs_it_is_waited_for_or_not(program: Program, store: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "checkpoint_manager", "run", "new", "--", "sh", "-c", "echo begun; sleep 60"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, env=dict(os.environ), start_new_session=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "begun\n"
        refused = program("run", "new", "--no-wait", "--", *COUNT)
        assert refused.code == 11
        assert str(first.pid) in refused.err
        os.killpg(first.pid, signal.SIGKILL)
    time.sleep(0.05)
    assert program("run", "new", "--", *COUNT).code == 0
