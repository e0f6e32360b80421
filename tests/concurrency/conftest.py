"""A process that runs programs, one for all tests of a worker."""

from __future__ import annotations

import contextlib
import itertools
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from checkpoint_manager import CheckpointManager
from tests.concurrency.record import Record, events_of, stored_in
from tests.concurrency.writer import KEY, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.concurrency.program import Program

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[Program], Record]]:
    """Return what runs a program for real, in a directory of its own, and returns its record."""
    command = [sys.executable, "-m", "tests.concurrency.host"]
    host = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert host.stdin is not None
    assert host.stdout is not None
    numbers = itertools.count()

    def run(program: Program) -> Record:
        place = tmp_path / str(next(numbers))
        (place / "home").mkdir(parents=True)
        task = {"directory": str(place / "store"), "home": str(place / "home"), "program": program.as_json()}
        host.stdin.write(orjson.dumps(task) + b"\n")
        host.stdin.flush()
        answer = orjson.loads(host.stdout.readline())
        with _home(place / "home"):
            return _record(program, answer, place / "store")

    with host:
        yield run
        host.stdin.close()


@contextlib.contextmanager
def _home(home: Path) -> Iterator[None]:
    before = os.environ["HOME"]
    os.environ["HOME"] = str(home)
    try:
        yield
    finally:
        os.environ["HOME"] = before


def _record(program: Program, answer: dict, store: Path) -> Record:  # type: ignore[type-arg]
    problems: list[str] = []
    cm = opened(str(store))
    killed = any(signal.kind == "kill" for signal in program.signals)
    problems += [f"verify: {each}" for each in cm.verify().problems if not (killed and each.state == "leftover")]
    held = stored_in(cm)
    cm.repair()
    if killed:
        cm.keys.rotate()  # one that was killed is finished by the next
    problems += [f"verify after repair: {finding}" for finding in CheckpointManager(store, key=KEY).verify().problems]
    for stage, versions in held.items():
        number = cm.save_checkpoint(stage, {"by": [0, 0, 0], "saw": None}).version
        if number != versions[-1].version + 1:
            problems.append(f"the next save of {stage} became version {number}")
    pids = {int(pid): writer for pid, writer in answer["pids"].items()}
    return Record(events_of(program, answer["events"]), pids, held, problems)
