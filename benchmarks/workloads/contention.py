"""Many processes that save at once: on one stage, where they must wait for one another, and on a stage for each."""

from __future__ import annotations

import contextlib
import os
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks import payload
from benchmarks.contenders import floors, registry
from benchmarks.contenders.lean import LEAN
from benchmarks.contenders.ours import IN_SQLITE
from benchmarks.scale import KIB
from benchmarks.summary import Result, Row, percentile
from benchmarks.workloads.context import Context, folder_of, fresh_processes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.synchronize import Barrier
    from pathlib import Path

    from benchmarks.contenders.base import Contender

_FLOORS = {floors.SAME_PROTOCOL, LEAN}
_CASES = ("alone", "on one stage", "on a stage each")


def run(context: Context) -> list[Result]:
    kinds = context.choose(_FLOORS, lambda kind: kind.shared, variants={IN_SQLITE})
    outcome: dict[tuple[str, str], list[_Slice]] = {(kind.name, case): [] for kind in kinds for case in _CASES}
    chance = random.Random(0)
    with context.place() as place, _crew(context.scale.writers, place) as crew:
        for kind in kinds:
            crew.open(kind)
        for number in range(context.scale.slices):
            context.tell(f"contention: {context.scale.writers} processes, turn {number + 1} of {context.scale.slices}")
            turns = list(outcome)
            chance.shuffle(turns)
            for name, case in turns:
                outcome[name, case].append(crew.write(name, case, context.scale.slice_seconds))
                os.sync()  # what is not synced is not to be the next one's burden
        for kind in kinds:
            _check(kind, folder_of(kind, place), outcome[kind.name, _CASES[1]])
    return _results(outcome, kinds, context.scale.writers)


@dataclass(slots=True)
class _Report:
    """What one writer did in one turn: how long each save took, and how many were done when time was up."""

    waits: list[float] = field(default_factory=list)
    in_time: int = 0
    failures: int = 0
    reason: str = ""


class _Slice:
    """What the crew did in one turn."""

    def __init__(self, seconds: float, reports: list[_Report]) -> None:
        self.waits = [wait for report in reports for wait in report.waits]
        self.per_second = sum(report.in_time for report in reports) / seconds
        self.failures = sum(report.failures for report in reports)
        self.reason = next((report.reason for report in reports if report.reason), "")


def _check(kind: type[Contender], folder: Path, slices: list[_Slice]) -> None:
    """Make sure that each save that was acknowledged is a version, where that is what the contender does."""
    if kind.lacks & {"versions", "exclude"}:
        return
    acknowledged = sum(len(each.waits) for each in slices)
    reader = kind(folder)
    kept = reader.history(_CASES[1])
    reader.close()
    if kept < acknowledged:
        raise AssertionError(f"{kind.name} keeps {kept} versions of {acknowledged} saves that it acknowledged")


def _results(outcome: dict[tuple[str, str], list[_Slice]], kinds: list[type[Contender]], writers: int) -> list[Result]:
    results = []
    titles = {
        "alone": "1 process",
        _CASES[1]: f"{writers} processes on one stage",
        _CASES[2]: f"{writers} processes on a stage each",
    }
    for case in _CASES:
        rates = tuple(_rate(kind.name, outcome[kind.name, case]) for kind in kinds)
        results.append(Result(f"contention/{titles[case]}/throughput", f"{titles[case]}: saves of 1 KiB", "/s", rates))
        waits = tuple(_waiting(kind.name, outcome[kind.name, case]) for kind in kinds)
        results.append(
            Result(f"contention/{titles[case]}/waiting", f"{titles[case]}: time of a save, waiting included", "s", waits)
        )
    return results


def _rate(name: str, slices: list[_Slice]) -> Row:
    failures = sum(each.failures for each in slices)
    reason = next((each.reason for each in slices if each.reason), "")
    note = f"{failures} saves failed: {reason}" if failures else ""
    return Row(name, statistics.median(each.per_second for each in slices), None, len(slices), note)


def _waiting(name: str, slices: list[_Slice]) -> Row:
    waits = [wait for each in slices for wait in each.waits]
    return Row(name, statistics.median(waits), percentile(waits, 0.99), len(waits)) if waits else Row(name, 0.0, runs=0)


class _Crew:
    """Writers that live through all turns, each a process of its own with its own handles."""

    def __init__(self, pipes: list[Connection], place: Path) -> None:
        self._pipes = pipes
        self._place = place

    def open(self, kind: type[Contender]) -> None:
        folder = folder_of(kind, self._place)
        kind(folder).close()  # what has to be made is made once
        for number, pipe in enumerate(self._pipes):
            pipe.send(("open", kind.name, folder, number))
        for pipe in self._pipes:
            pipe.recv()

    def write(self, name: str, case: str, seconds: float) -> _Slice:
        team = self._pipes[:1] if case == "alone" else self._pipes
        start = time.monotonic() + 0.02
        for number, pipe in enumerate(team):
            stage = f"of {number}" if case == "on a stage each" else case
            pipe.send(("write", name, stage, start, start + seconds))
        return _Slice(seconds, [pipe.recv() for pipe in team])


@contextlib.contextmanager
def _crew(writers: int, place: Path) -> Iterator[_Crew]:
    processes = fresh_processes()
    ready = processes.Barrier(writers + 1)
    pairs = [processes.Pipe() for _ in range(writers)]
    crew = [processes.Process(target=_writer, args=(child, ready), daemon=True) for _, child in pairs]
    for process in crew:
        process.start()
    ready.wait(timeout=60)
    try:
        yield _Crew([parent for parent, _ in pairs], place)
    finally:
        for parent, _ in pairs:
            with contextlib.suppress(OSError):
                parent.send(("end",))
        for process in crew:
            process.join(timeout=10)


def _writer(pipe: Connection, ready: Barrier) -> None:
    kinds = {kind.name: kind for kind in registry.ALL}
    contenders: dict[str, Contender] = {}
    value = payload.rows(KIB)
    ready.wait(timeout=60)
    while True:
        order = pipe.recv()
        if order[0] == "end":
            return
        if order[0] == "open":
            _, name, folder, number = order
            contenders[name] = kinds[name](folder)
            for stage in ("alone", "on one stage", f"of {number}"):  # the first save of a handle looks around
                with contextlib.suppress(Exception):  # some fail when they are overrun: counted when it counts
                    contenders[name].save(stage, contenders[name].prepare(value))
            pipe.send(None)
        else:
            _, name, stage, start, end = order
            pipe.send(_write(contenders[name], stage, start, end, value))


def _write(contender: Contender, stage: str, start: float, end: float, value: dict[str, Any]) -> _Report:
    given = contender.prepare(value)
    report = _Report()
    time.sleep(max(0.0, start - time.monotonic()))
    while (started := time.monotonic()) < end:
        try:
            contender.save(stage, given)
        except Exception as error:  # noqa: BLE001  # whatever a contender raises when it is overrun is its answer
            report.failures += 1
            report.reason = f"{type(error).__name__}: {str(error)[:60]}"
        else:
            done = time.monotonic()
            report.waits.append(done - started)
            report.in_time += done <= end
    return report
