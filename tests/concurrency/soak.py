"""Many processes on one store for minutes, killed and stopped at random: ``python -m tests.concurrency.soak --minutes 10``.

Prints what happened, whether the record is a correct one, and what grew; ends with 1 if anything was wrong. Two processes
are never killed: what they hold of memory and file descriptors is what could grow.
"""

from __future__ import annotations

import argparse
import json
import logging
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import orjson

from checkpoint_manager import CheckpointError, CheckpointManager
from checkpoint_manager._filesystem import descriptors
from tests.concurrency import writer
from tests.concurrency.checker import check
from tests.concurrency.program import Kind, Op
from tests.concurrency.record import NEVER, Event, Record, stored_in

STAGES = [f"stage {number}" for number in range(20)]
BUSY = STAGES[:3]
KINDS: dict[Kind, int] = {
    "save": 600,
    "update": 150,
    "get": 100,
    "has": 100,
    "expect": 20,
    "restore": 20,
    "clear": 10,
    "load": 20,
    "delete": 5,
    "history": 1,
}
BURST, PAUSE = 20, 0.8
SURVIVORS = 2
SAMPLED_EVERY = 5.0
ENOUGH_FILES = descriptors.MOST + 16
"""What a survivor keeps open at most, and what any process has open: a slow one may have met all stages only at the end."""
ENOUGH_KB = 20_000
"""More memory than at the first look that a survivor may hold at the last one: what is remembered of each stage, and noise."""


@dataclass(frozen=True)
class Sample:
    """What the survivors hold at most, and the store, at one moment."""

    descriptors: int
    memory_kb: int
    leftovers: int


def work(number: int, store: str, log: str, seed: int) -> None:
    """Call whatever, for ever, and write down what came of it."""
    dice = random.Random(seed)
    cm = writer.opened(store)
    newest: dict[str, int] = {}
    told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    index = 0
    while True:
        for _ in range(BURST):
            op = _draw(dice, newest)
            where = {"by": [number, 0, index], "op": [op.kind, op.stage, op.argument]}
            os.write(told, orjson.dumps({**where, "invoked": time.monotonic_ns()}) + b"\n")
            try:
                result = writer.call(cm, op, [number, 0, index])
            except CheckpointError as error:
                result = {"error": type(error).__name__, "version": error.version, "message": str(error)}
            os.write(told, orjson.dumps({**where, "returned": time.monotonic_ns(), "result": result}) + b"\n")
            if result.get("version"):
                newest[op.stage] = result["version"]
            index += 1
        time.sleep(dice.random() * PAUSE * 2)


def _draw(dice: random.Random, newest: dict[str, int]) -> Op:
    kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
    stage = dice.choice(BUSY if dice.random() < 0.6 else STAGES)
    if kind == "expect":
        return Op(kind, stage, newest.get(stage, 0))
    if kind in {"load", "restore", "delete"}:
        return Op(kind, stage, dice.randint(1, newest.get(stage, 0) + 2))
    return Op(kind, stage, dice.choice([0, 100, 2000, 30_000]))


class Soak:
    """The processes, and what is done to them."""

    def __init__(self, place: Path, processes: int, seed: int) -> None:
        self.store, self.logs = place / "store", place / "logs"
        self.logs.mkdir()
        self.dice = random.Random(seed)
        self.pids: dict[int, set[int]] = {}
        self._started = 0
        self.kills = 0
        self.stops = 0
        self.samples: list[Sample] = []
        self._running: list[Any] = [self._start() for _ in range(processes)]

    def _start(self) -> Any:
        number, self._started = self._started, self._started + 1
        arguments = (number, str(self.store), str(self.logs / str(number)), self.dice.getrandbits(32))
        process = multiprocessing.get_context("fork").Process(target=work, args=arguments)
        process.start()
        self.pids.setdefault(process.pid or 0, set()).add(number)  # the system gives the same number out again
        return process

    def run(self, seconds: float) -> None:
        """Kill and stop at random until the time is up."""
        end = time.monotonic() + seconds
        next_sample = time.monotonic() + min(SAMPLED_EVERY, seconds / 4)
        while time.monotonic() < end:
            time.sleep(self.dice.random() * 0.5)
            victim = self.dice.randrange(SURVIVORS, len(self._running))
            if self.dice.random() < 0.3:
                os.kill(self._running[victim].pid, signal.SIGSTOP)
                time.sleep(0.05)
                os.kill(self._running[victim].pid, signal.SIGCONT)
                self.stops += 1
            else:
                self._running[victim].kill()
                self._running[victim].join()
                self._running[victim] = self._start()
                self.kills += 1
            if time.monotonic() > next_sample:
                self.samples.append(self._sample())
                next_sample = time.monotonic() + SAMPLED_EVERY
                if sys.stderr.isatty():
                    print(f"\r{end - time.monotonic():5.0f} s left, {self.kills} kills", end="", file=sys.stderr)
        for process in self._running:
            process.kill()
            process.join()

    def _sample(self) -> Sample:
        survivors = [process.pid for process in self._running[:SURVIVORS]]
        return Sample(
            max(len(os.listdir(f"/proc/{pid}/fd")) for pid in survivors),
            max(_resident(pid) for pid in survivors),
            sum(1 for _ in self.store.rglob("*.tmp")),
        )

    def record(self) -> Record:
        """Return all that is known."""
        calls: dict[tuple[int, int, int], dict[str, Any]] = {}
        for log in self.logs.iterdir():
            for line in log.read_bytes().splitlines():
                call = orjson.loads(line)
                calls.setdefault(tuple(call["by"]), {}).update(call)
        events = [
            Event(by, Op(*call["op"]), call["invoked"], call.get("returned", NEVER), call.get("result"))
            for by, call in calls.items()
        ]
        cm = CheckpointManager(self.store, key=writer.KEY)
        problems = [f"verify: {each}" for each in cm.verify().problems if each.state != "leftover"]
        try:
            return Record(events, self.pids, stored_in(cm), problems)
        except CheckpointError as error:
            return Record(events, self.pids, {}, [*problems, f"what is stored can't be read: {error}"])


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def _least(samples: list[Sample]) -> Sample:
    """Return the least of each figure: what is held between two calls, not in the middle of one."""
    return Sample(*(min(figures) for figures in zip(*map(astuple, samples), strict=True)))


def main() -> int:
    """Run the soak."""
    logging.disable()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["HOME"] = place
        writer.opened(f"{place}/store")
        soak = Soak(Path(place), asked.processes, asked.seed)
        soak.run(asked.minutes * 60)
        leftovers = sum(1 for _ in soak.store.rglob("*.tmp"))
        record = soak.record()
    acknowledged = sum(event.appended is not None for event in record.events)
    problems = check(record)
    quarter = -(-len(soak.samples) // 4)
    first, last = _least(soak.samples[:quarter]), _least(soak.samples[-quarter:])
    most = max(sample.leftovers for sample in soak.samples)
    if last.descriptors > max(first.descriptors + 2, ENOUGH_FILES):
        problems.append(f"the number of open files grew from {first.descriptors} to {last.descriptors}")
    if last.memory_kb > first.memory_kb + ENOUGH_KB:
        problems.append(f"the memory grew from {first.memory_kb} to {last.memory_kb} kB")
    if max(most, leftovers) > len(STAGES) + 1:
        problems.append(f"there were up to {most} leftovers, at the end {leftovers}")
    figures = {
        "calls": len(record.events),
        "acknowledged saves": acknowledged,
        "versions at the end": sum(map(len, record.stored.values())),
        "kills": soak.kills,
        "stops": soak.stops,
        "killed in a call": sum(event.pending for event in record.events),
        "open files, least in the first and the last quarter": [first.descriptors, last.descriptors],
        "memory in kB, in the course of time": [sample.memory_kb for sample in soak.samples[:: max(1, len(soak.samples) // 8)]],
        "leftovers, most and at the end": [most, leftovers],
        "problems": problems[:50],
    }
    print(json.dumps(figures, indent=2))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
