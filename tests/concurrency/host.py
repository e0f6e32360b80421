"""Runs programs for real, one after the other, in a process without threads of its own: started once, told by standard input.

Each line in: ``{"directory", "home", "program"}``. Each line out: the events of that program and the process id of each writer.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import select
import shutil
import signal
import tempfile
import time
from typing import Any

import orjson

from tests.concurrency import writer
from tests.concurrency.program import Program
from tests.hosting import serve

STOPPED_FOR = 0.02
PATIENCE = 100.0


class Run:
    """One program in one directory."""

    def __init__(self, program: Program, directory: str) -> None:
        self._program = program
        self._directory = directory
        self._pipes = tempfile.mkdtemp()
        self._channel, self._gate = os.path.join(self._pipes, "channel"), os.path.join(self._pipes, "gate")
        os.mkfifo(self._channel)
        os.mkfifo(self._gate)
        self._told = os.open(self._channel, os.O_RDONLY | os.O_NONBLOCK)
        self._rest = b""
        self._deadline = time.monotonic() + PATIENCE
        self._due: list[tuple[float, int, int]] = []
        self._processes: list[Any] = []

    def run(self) -> dict[str, Any]:
        """Run the program to its end and return what its writers told."""
        inherited = writer.opened(self._directory) if self._program.opened_before else None
        for number, each in enumerate(self._program.writers):
            manager = inherited if each.start == "fork" and each.shared else None
            arguments = (each, number, self._directory, self._channel, self._gate, manager)
            process = multiprocessing.get_context(each.start).Process(target=writer.run, args=arguments)
            process.start()
            self._processes.append(process)
        pids = self._pids()
        gate = os.open(self._gate, os.O_WRONLY)
        try:
            events = self._events()
        finally:
            os.close(gate)
            os.close(self._told)
            shutil.rmtree(self._pipes)
        return {"events": events, "pids": pids}

    def _pids(self) -> dict[str, int]:
        pids: dict[str, int] = {}
        while len(pids) < len(self._processes):
            for line in self._lines(0.1):
                pids[str(line["pid"])] = line["writer"]
            if any(process.exitcode for process in self._processes) or time.monotonic() > self._deadline:
                raise RuntimeError("a writer did not start")
        return pids

    def _events(self) -> list[dict[str, Any]]:
        events: dict[tuple[int, int, int], dict[str, Any]] = {}
        steps = [0] * len(self._processes)
        waiting = list(self._program.signals)
        while True:
            alive = any(process.exitcode is None for process in self._processes)
            lines = self._lines(0.002)
            for line in lines:
                events.setdefault((line["writer"], line["thread"], line["index"]), {}).update(line)
                steps[line["writer"]] += 1
            for each in [each for each in waiting if steps[each.writer] >= each.after]:
                waiting.remove(each)
                self._due.append((time.monotonic() + each.delay, each.writer, _NUMBERS[each.kind]))
            self._send_what_is_due()
            if not alive and not lines:
                return list(events.values())
            if time.monotonic() > self._deadline:
                for process in self._processes:
                    process.kill()

    def _send_what_is_due(self) -> None:
        for moment, number, kind in sorted(self._due):
            if moment <= time.monotonic():
                self._due.remove((moment, number, kind))
                with contextlib.suppress(ProcessLookupError, TypeError):
                    os.kill(self._processes[number].pid, kind)
                if kind == signal.SIGSTOP:
                    self._due.append((time.monotonic() + STOPPED_FOR, number, signal.SIGCONT))

    def _lines(self, patience: float) -> list[dict[str, Any]]:
        if self._due:
            patience = 0.0
        if not select.select([self._told], [], [], patience)[0]:
            return []
        data = os.read(self._told, 1 << 16)
        if not data:  # nobody has it open: they have not started, or they have ended
            time.sleep(0.001)
        *whole, self._rest = (self._rest + data).split(b"\n")
        return [orjson.loads(line) for line in whole]


_NUMBERS = {"kill": signal.SIGKILL, "stop": signal.SIGSTOP}


def run(task: dict[str, Any]) -> dict[str, Any]:
    """Run the program of a task."""
    os.environ["HOME"] = task["home"]
    return Run(Program.from_json(task["program"]), task["directory"]).run()


if __name__ == "__main__":
    serve(run)
