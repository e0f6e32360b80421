"""A process that runs programs, one for all tests of a worker."""

from __future__ import annotations

import contextlib
import itertools
import os
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from tests.concurrency.hosting import Host
from tests.concurrency.record import Record, events_of, stored_in
from tests.concurrency.writer import KEY, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.concurrency.program import Program


@pytest.fixture
def run(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., Record]]:
    """Return what runs a program for real, in a store of its own, and returns its record.

    The store is in a directory or, where a scheme is given, in a database.
    """
    numbers = itertools.count()
    with Host() as host:

        def run(program: Program, scheme: str = "") -> Record:
            place = tmp_path / str(next(numbers))
            (place / "home").mkdir(parents=True)
            served = {"postgresql://": "new_postgres_url", "s3://": "new_s3_url"}.get(scheme)
            store = f"{scheme}{place / 'store'}" if served is None else request.getfixturevalue(served)()
            answer = host.run(program, store, place / "home")
            with _home(place / "home"):
                return _record(program, answer, store)

        yield run


@contextlib.contextmanager
def _home(home: Path) -> Iterator[None]:
    before = os.environ["HOME"]
    os.environ["HOME"] = str(home)
    try:
        yield
    finally:
        os.environ["HOME"] = before


def _record(program: Program, answer: dict, store: str) -> Record:  # type: ignore[type-arg]
    problems: list[str] = []
    cm = opened(store)
    killed = any(signal.kind == "kill" for signal in program.signals)
    expected = {"leftover", "unfinished"} if killed else set()  # what a writer that was killed leaves behind
    problems += [f"verify: {each}" for each in cm.verify().problems if each.state not in expected]
    held = stored_in(cm)
    cm.repair()
    if killed:
        cm.keys.rotate()  # one that was killed is finished by the next
    problems += [f"verify after repair: {finding}" for finding in CheckpointManager(store, key=KEY).verify().problems]
    for stage, versions in held.items():
        number = cm.save_checkpoint(stage, {"by": [0, 0, 0], "saw": None}).number
        if number != versions[-1].version + 1:
            problems.append(f"the next save of {stage} became version {number}")
    pids = {int(pid): {writer} for pid, writer in answer["pids"].items()}
    return Record(events_of(program, answer["events"]), pids, held, problems)
