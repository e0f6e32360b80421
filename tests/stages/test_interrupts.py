"""Ctrl-C at any moment: no lock stays behind, and the next run resumes from what was saved."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager.stages.loop import Loop

if TYPE_CHECKING:
    from pathlib import Path
    from types import FrameType

PROGRAM = """
import random, signal, sys, time
from checkpoint_manager import CheckpointManager

signal.signal(signal.SIGALRM, signal.default_int_handler)
cm = CheckpointManager(sys.argv[1], key=bytes(32), lock_timeout=20)
kind, rounds = sys.argv[2], int(sys.argv[3])

def f(key):
    return 435

def g(key):
    return work("loop", key, name="g")

def work(kind, key, name="sum"):
    if kind != "loop":
        return cm.stage(name, wait=False)(f)(key) if kind == "stage" else cm.stage("g", wait=False)(g)(key)
    with cm.loop(name, range(30), initial=0, every_items=5, key=key, wait=False, bar=False) as progress:
        for item in progress:
            progress.state += item
    return progress.result

work(kind, -1)
started = time.perf_counter()
work(kind, -2)
took = time.perf_counter() - started
interrupted = 0
for key in range(rounds):
    try:
        signal.setitimer(signal.ITIMER_REAL, random.random() * took * 1.5 + 1e-5)
        work(kind, key)
        time.sleep(10 * took)
    except KeyboardInterrupt:
        interrupted += 1
    signal.setitimer(signal.ITIMER_REAL, 0)
    assert work(kind, key) == 435  # wait=False: a lock that is left would end this
print(interrupted)
"""


@pytest.mark.parametrize("kind", ["loop", "stage", "loop in a stage"])
def test_interrupted_at_any_moment_it_leaves_no_lock_and_goes_on(tmp_path: Path, kind: str) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), kind, "60"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 40
    assert CheckpointManager(tmp_path / "store", key=bytes(32)).verify().ok


@pytest.mark.parametrize("fails", [False, True])
def test_interrupted_in_the_first_instruction_of_its_end_a_loop_is_saved_and_leaves_no_lock(
    tmp_path: Path, *, fails: bool
) -> None:
    """No ``try`` can stand before that instruction. The traceback is kept, and the loop with it."""
    cm = CheckpointManager(tmp_path / "store", key=bytes(32))

    def interrupt(frame: FrameType, _: str, __: object) -> None:
        if frame.f_code is Loop.__exit__.__code__:
            sys.settrace(None)
            handler = signal.getsignal(signal.SIGINT)
            assert callable(handler)
            handler(signal.SIGINT, frame)

    def run() -> int:
        with cm.loop("sum", range(3), initial=0, wait=False, bar=False) as progress:
            for item in progress:
                progress.state += item
                if fails and item == 1:
                    raise ZeroDivisionError
        return progress.result

    before = sys.gettrace()  # what measures the coverage of all tests that follow
    try:
        sys.settrace(interrupt)
        with pytest.raises(KeyboardInterrupt) as kept:
            run()
    finally:
        sys.settrace(before)
    fails = False
    assert run() == 3
    assert kept.tb is not None
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_handler_that_calls_the_stage_that_runs_is_told_so(tmp_path: Path) -> None:
    program = """
import signal, sys
from checkpoint_manager import CheckpointError, CheckpointManager
cm = CheckpointManager(sys.argv[1], key=bytes(32))
said = []

def handle(*_):
    try:
        train(1)
    except CheckpointError as error:
        said.append(str(error))
    said.append(train(2))

signal.signal(signal.SIGUSR1, handle)

@cm.stage
def train(number):
    if number == 1:
        signal.raise_signal(signal.SIGUSR1)
    return number

assert train(1) == 1
assert "called by itself" in said[0] and said[1] == 2, said
"""
    command = [sys.executable, "-c", program, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
