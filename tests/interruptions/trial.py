"""Interrupts an operation at one instruction of the library's own code, and lets another process look at what is left.

What must hold after Ctrl-C at any instruction, while the traceback still refers to all that the operation had opened:

* Another process writes to the stage at once, and so does this one: no lock is held.
* No temporary file stays.
* Each version is there whole or not at all, and all earlier ones are as they were.
* What was acknowledged is there. What was not ends with the KeyboardInterrupt, and no other error.
"""

from __future__ import annotations

import dis
import logging
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import orjson

from checkpoint_manager import CheckpointManager
from tests import forking
from tests.faults.host import differences, without_cleared
from tests.faults.operations import LEFT_OVER, OPERATIONS, Operation, opened, snapshot, three_versions

if TYPE_CHECKING:
    from types import FrameType

ROOT = Path(__file__).parents[2]
_OURS = f"{os.sep}checkpoint_manager{os.sep}"
_NEVER = {dis.opmap["RETURN_VALUE"], dis.opmap["POP_EXCEPT"]}
"""No signal is handled before these: CPython looks for signals after calls, at the start of functions and in loops."""
_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp")


def _load(cm: CheckpointManager, _: str) -> None:
    cm.load_checkpoint("train")
    cm.history("train")
    cm.has_checkpoint("train")


def _stage(cm: CheckpointManager, _: str) -> None:
    def double(number: int) -> int:
        return 2 * number

    assert cm.stage("train")(double)(4) == 8


ALL = OPERATIONS | {
    operation.name: operation
    for operation in (Operation("load", _load, three_versions), Operation("stage", _stage, three_versions, is_stage=True))
}
"""What is interrupted: everything that writes, and two that mostly read."""


class Interrupting:
    """Counts the instructions of the library's own code, and raises a KeyboardInterrupt before one of them.

    Instructions of a finaliser don't count: what is raised there is lost, whoever raises it.
    """

    def __init__(self, at: int = 0) -> None:
        self.at = at
        self.count = 0
        self.where = ""
        self._ignored = 0

    def __enter__(self) -> Self:
        self._before = sys.gettrace()  # that of a measurement of coverage
        sys.settrace(self._call)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(self._before)

    def _call(self, frame: FrameType, event: str, argument: object) -> Any:
        if _OURS not in frame.f_code.co_filename or _is_finaliser(frame):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, argument: object) -> Any:
        if event == "opcode" and frame.f_code.co_code[frame.f_lasti] not in _NEVER:
            self.count += 1
            if self.count == self.at:
                sys.settrace(None)
                self.where = f"{frame.f_code.co_filename.rpartition(_OURS)[2]}:{frame.f_lineno} {frame.f_code.co_qualname}"
                raise KeyboardInterrupt
        return self._step


def _is_finaliser(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_name in {"__del__", "_call", "_step"}:
            return True
        frame = frame.f_back
    return False


class Trial:
    """One operation, to be interrupted again and again on copies of the same store.

    Attributes:
        instructions: How many there are.
    """

    def __init__(self, operation: Operation, place: Path, witness: Witness) -> None:
        self._operation = operation
        self._begin, self._run = place / "begin", place / "run"
        self._witness = witness
        (self._begin / "home").mkdir(parents=True)
        self._home(self._begin)
        if operation.prepare is not None:
            operation.prepare(opened(str(self._begin / "store")), self._begin / "store")
        self._before = {} if operation.prepare is None or operation.mends else witness.ask("look", self._begin)
        self._once(0)  # what is loaded at its first use
        count, _, error = self._once(0)
        assert error is None, error
        self.instructions = count.count
        self._after = witness.ask("look", self._run)

    @staticmethod
    def _home(run: Path) -> None:
        os.environ["HOME"] = str(run / "home")

    def _once(self, at: int) -> tuple[Interrupting, Any, BaseException | None]:
        shutil.rmtree(self._run, ignore_errors=True)
        shutil.copytree(self._begin, self._run)
        self._home(self._run)
        store = str(self._run / "store")
        manager: Any = None if self._operation.opens else opened(store)
        with Interrupting(at) as interrupting:
            try:
                self._operation.act(manager, store)
            except BaseException as error:
                sys.settrace(None)
                return interrupting, manager, error
        return interrupting, manager, None

    def interrupt(self, at: int) -> list[str]:
        """Interrupt it before an instruction, in a child, and return what is wrong afterwards.

        A child of its own, because an exception that a tracing function raises while another one is handled may leave that one
        current in its thread for good, with all that its traceback refers to.
        """
        problems: list[str] | None = forking.answer(lambda: self._problems(at))
        return ["it ended its process"] if problems is None else problems

    def _problems(self, at: int) -> list[str]:
        interrupting, manager, error = self._once(at)
        problems = []
        if error is not None and not isinstance(error, KeyboardInterrupt):
            problems.append(f"it ended with {error!r}")
        elif error is None and interrupting.where:
            problems.append("the interruption was swallowed")
        found = self._witness.ask("check", self._run, self._operation.name)  # while the traceback is alive
        problems += [each for each in found["problems"] if not (self._operation.mends and each.startswith("verify: "))]
        if not found["problems"] and not self._operation.mends:
            before = self._after if error is None else self._before
            left = without_cleared(found["snapshot"]) if error is not None and self._operation.clears else found["snapshot"]
            held = (left, before, self._after)
            if self._operation.goes_on:  # a loop may save how far it came more often than the one that ran to its end
                held = tuple(map(_without_progress, held))
            problems += differences(*held)
        if manager is not None and not problems and not self._operation.mends:
            error = None
            try:
                if self._operation.is_stage:
                    self._operation.act(manager, str(self._run / "store"))
                manager.save_checkpoint(self._operation.stage, "from here")
            except Exception as refused:
                problems.append(f"this process can't save: {refused!r}")
        return [f"{interrupting.where or 'acknowledged'}, instruction {at}: {problem}" for problem in problems]


def _without_progress(held: dict[str, Any]) -> dict[str, Any]:
    return {stage: {number: said for number, said in each.items() if said[0] != "progress"} for stage, each in held.items()}


class Witness:
    """Another process that looks at a store."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.interruptions.trial"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, what: str, run: Path, *more: str) -> Any:
        """Ask it, and return the answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps([what, str(run), *more]) + b"\n")
        self._process.stdin.flush()
        return orjson.loads(self._process.stdout.readline())


def look(run: str) -> Any:
    """Return what a store holds."""
    return snapshot(opened(f"{run}/store"))


def check(run: str, name: str) -> dict[str, Any]:
    """Return what is wrong with a store after an operation, and what it holds. One that mends is done again first."""
    operation = ALL[name]
    problems = [
        f"{path} is left"
        for path in map(str, Path(run).rglob("*.tmp"))
        if _TEMPORARY.fullmatch(os.path.basename(path)) and os.path.basename(path) != LEFT_OVER
    ]
    held: dict[str, Any] = {}
    try:
        cm = CheckpointManager(f"{run}/store", lock_timeout=1)
        if operation.mends:
            operation.act(cm, f"{run}/store")
        problems += [f"verify: {each}" for each in cm.verify().problems if each.state not in {"unfinished", "leftover"}]
        held = held if problems else snapshot(cm)
        cm.save_checkpoint(operation.stage, "from another process")
        cm.keys.list()
        cm.tag(operation.stage, "latest", "reached")
    except Exception as error:
        problems.append(f"another process: {error!r}")
    return {"problems": problems, "snapshot": held}


def main() -> None:
    """Answer questions, a line each."""
    logging.disable()
    for line in sys.stdin.buffer:
        what, run, *more = orjson.loads(line)
        os.environ["HOME"] = f"{run}/home"
        sys.stdout.buffer.write(orjson.dumps({"look": look, "check": check}[what](run, *more)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
