"""Does operations under faults, each in a process of its own, and looks at what is left in another one.

A process without threads that has imported everything, and forks: an operation under strace takes some ten milliseconds.
Started once and told by standard input, a line for each task; see :class:`Task`.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import logging
import os
import pkgutil
import random
import re
import select
import shutil
import signal
import stat
import tempfile
import time
import traceback
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

import checkpoint_manager
from checkpoint_manager import CheckpointError, StorageError
from tests.faults.operations import BROKEN, OPERATIONS, SECOND_KEY, Operation, opened, scheme, snapshot
from tests.faults.strace import CHANGING, OF_FILES, Call, Strace, calls
from tests.hosting import serve

if TYPE_CHECKING:
    from collections.abc import Callable

ERRNOS = ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EMFILE", "EACCES", "EINTR")
PATIENCE = 10
TAIL = 1500
NOT_OF_OPERATIONS = {"writev", "select", "pselect6", "restart_syscall", "exit_group", "alarm"}
HARMLESS = (
    (OF_FILES - CHANGING - {"open", "openat"})
    | NOT_OF_OPERATIONS
    | {
        *("socket", "connect"),
        *(
            "brk",
            "mmap",
            "munmap",
            "mremap",
            "mprotect",
            "madvise",
            "futex",
            "getrandom",
            "rt_sigaction",
            "rt_sigprocmask",
            "poll",
        ),
        *("getpid", "gettid", "getuid", "geteuid", "getgid", "getegid", "uname", "sysinfo", "statfs", "fstatfs", "readlink"),
        *(
            "getcwd",
            "access",
            "faccessat2",
            "ioctl",
            "clock_nanosleep",
            "sched_yield",
            "sched_getaffinity",
            "prctl",
            "getrusage",
        ),
    }
)
"""The calls that leave files as they are; one that is not known is taken for one that changes them."""
WRITING = {"write", "pwrite64"}
_ENDED = re.compile(r"(.*\)) += (-?\d+)(?: .*)?")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_DESCRIPTOR = re.compile(r'(?<=\()\d+|(?<=, )\d+(?=, ")')
_RANDOM = re.compile(r"[0-9a-f]{16,}")
_PR_SET_PTRACER = 0x59616D61


@dataclass(frozen=True)
class Task:
    """What the host is told.

    Attributes:
        operation: Which one.
        fault: ``kill``, or the name of an errno.
        everywhere: At each system call of files, of a kill at each that may change them; else at those that do.
        on: Only at the calls of this name.
        scheme: What the location of the store begins with.
        sample: Only at so many of them, at even distances, from another one on each time; and at the last one.
    """

    operation: str
    fault: str
    everywhere: bool = False
    on: str | None = None
    sample: int | None = None
    scheme: str = ""


@dataclass
class Tally:
    """What came of it: how many faults were tried, how the operation ended, and what was wrong afterwards."""

    tried: int = 0
    missed: int = 0  # calls for memory, of which there are now more and now fewer
    acknowledged: int = 0
    refused: int = 0
    looked: int = 0  # at ways to leave the files that had not been seen before
    problems: list[str] = field(default_factory=list)


def in_child(function: Callable[[], object], log: Path | None = None, *options: str) -> tuple[int, Any]:
    """Call a function in a fork, under strace if there is a log, and return how that ended and what it returned.

    Returns:
        The exit code (minus a signal's number) and the result; None: it never came to its end.
    """
    go_read, go_write = os.pipe()
    out_read, out_write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go_write)
        os.close(out_read)
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(-1), 0, 0, 0)
        os.writev(out_write, [b"\n"])  # what comes from here on is the operation
        select.select([go_read], [], [])  # a call that no operation makes: it counts for none of theirs
        signal.alarm(PATIENCE)
        try:
            result = function()
        except BaseException:
            result = {"broken": traceback.format_exc()[-TAIL:]}
        os.writev(out_write, [orjson.dumps(result, default=repr)])
        os._exit(0)
    os.close(go_read)
    os.close(out_write)
    os.read(out_read, 1)
    if log is None:
        os.close(go_write)
    else:
        with Strace(child, log, *options):
            os.close(go_write)
    with open(out_read, "rb") as pipe:
        said = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, orjson.loads(said) if said else None


class Trial:
    """One operation, to be done again and again on copies of the same store.

    What is left is looked at once for each way in which the operation changed the files: with the same calls of the same sizes
    on the same names, from the same store, it leaves the same but for what is random.
    """

    def __init__(self, operation: Operation, place: Path) -> None:
        self._operation = operation
        self._found: dict[object, list[str]] = {}
        self._place = place
        self._log = place / "log"
        self._begin = place / "begin"
        (self._begin / "home").mkdir(parents=True)
        if operation.prepare is not None:
            code, said = in_child(self._in(self._begin, lambda store: operation.prepare(opened(str(store)), store)))
            assert (code, said) == (0, None), said
        self._before = self._look(self._begin) if operation.prepare else {}
        self.looked = 0
        self.calls = self._record()

    def _record(self) -> list[Call]:
        """Do it once without a fault: what it calls, and what it leaves."""
        run = self._copy()
        code, said = in_child(self._act(run), self._log)
        assert (code, said) == (0, {"done": True}), said
        self._after = self._look(run)
        return [call for call in calls(self._log) if call.name not in NOT_OF_OPERATIONS]

    def kill(self, call: Call) -> tuple[bool, list[str]]:
        """Kill it at a call; return whether it was acknowledged first, and what is wrong afterwards."""
        run = self._copy()
        code, said = in_child(self._act(run), self._log, "-e", _traced(call.name), "-e", call.injection("signal=KILL"))
        self.reached = code == -signal.SIGKILL
        problems = [] if self.reached or said == {"done": True} else [f"it was not killed: {code} {said}"]
        return not self.reached, problems + self._check(run, None, acknowledged=not self.reached)

    def fail(self, call: Call, errno: str) -> tuple[bool, list[str]]:
        """Make a call fail; return whether the operation was acknowledged all the same, and what is wrong afterwards."""
        run = self._copy()
        code, said = in_child(self._act(run), self._log, "-e", _traced(call.name), "-e", call.injection(f"error={errno}"))
        problems: list[str] = []
        if code != 0 or "broken" in said:
            problems.append(f"it ended with {code}: {said}")
        elif not scheme.get() and said.get("error") == "StorageError" and (said["errno"] != errno or not said["filename"]):
            problems.append(f"the error does not say what and where: {said}")
        self.reached = "(INJECTED)" in self._log.read_text(errors="replace")
        acknowledged = code == 0 and said.get("done", False)
        if call.name == "fsync" and errno != "EINTR":
            made = calls(self._log)
            if acknowledged and self.reached and not self._operation.tidies and not _thrown_away(call, made):
                problems.append("a failed sync was acknowledged")
            problems += _synced_again(call, made)
        return acknowledged, problems + self._check(run, call, acknowledged=acknowledged)

    def _act(self, run: Path) -> Callable[[], object]:
        def act(store: Path) -> dict[str, object]:
            try:
                self._operation.act(manager, str(store))
            except StorageError as error:
                name = None if error.errno is None else errno_name(error.errno)
                return {"error": "StorageError", "errno": name, "filename": error.filename, "message": str(error)}
            except CheckpointError as error:
                return {"error": type(error).__name__, "message": str(error)}
            return {"done": True}

        manager: Any = None
        if self._operation.opens:
            return self._in(run, act)
        os.environ["HOME"] = str(run / "home")
        manager = opened(str(run / "store"))
        return self._in(run, act)

    @staticmethod
    def _in(run: Path, function: Callable[[Path], object]) -> Callable[[], object]:
        def call() -> object:
            os.environ["HOME"] = str(run / "home")
            return function(run / "store")

        return call

    def _copy(self) -> Path:
        run = self._place / "run"
        if run.exists():
            shutil.rmtree(run)
        shutil.copytree(self._begin, run)
        return run

    def _look(self, run: Path) -> Any:
        code, said = in_child(self._in(run, lambda store: snapshot(opened(str(store)))))
        return said if code == 0 else {"broken": f"looking at it ended with {code}"}

    def _check(self, run: Path, failed: Call | None, *, acknowledged: bool) -> list[str]:
        """Return what is wrong afterwards; of a database, which changes memory that it shares, each time anew."""
        left = (acknowledged, failed and (failed.name, failed.ordinal), changes(self._log), _shape(run))
        if left not in self._found or scheme.get():
            code, said = in_child(self._in(run, lambda store: self._problems(store, acknowledged=acknowledged)))
            looked = code == 0 and isinstance(said, list)
            self._found[left] = said if looked else [f"looking at it afterwards ended with {code}: {said}"]
            self.looked += 1
        return self._found[left]

    def _problems(self, store: Path, *, acknowledged: bool) -> list[str]:
        """Look at what is left, as the next process that comes along, and go on working."""
        cm = opened(str(store))
        problems: list[str] = []
        if not self._operation.mends:
            allowed = {"leftover", "unfinished"} if self._operation.rotates and not acknowledged else {"leftover"}
            problems += [f"verify: {each}" for each in cm.verify().problems if each.state not in allowed]
            if problems:  # what is damaged may not even be looked at
                return problems
        else:  # it begins damaged, and what can't be read just then is not mended: the next try has to do it
            self._operation.act(cm, str(store))
        here = snapshot(cm)
        if acknowledged and self._operation.tidies:
            problems += differences(here, _together(self._before, self._after), self._after)
        elif acknowledged or self._operation.mends:
            problems += differences(here, self._after, self._after)
        else:
            left = without_cleared(here) if self._operation.clears else here
            problems += differences(left, self._before, self._after)
        for stage in {*here, self._operation.stage}:
            newest = max(map(int, here.get(stage, {})), default=0)
            version = cm.save_checkpoint(stage, "next").number
            follows = version == newest + 1 or (stage not in here and version > newest)  # above a delete marker, maybe
            if not follows or cm.load_checkpoint(stage) != "next":
                problems.append(f"the next save of {stage} became version {version}, not {newest + 1}")
        if not self._operation.tidies:  # what that leaves is for a repair
            problems += [f"left over: {each.path}" for each in cm.verify().problems if each.stage is not None and each.path]
        if problems:
            return problems
        cm.keys.rotate(also=[SECOND_KEY])  # it finishes one that was interrupted
        cm.repair()
        problems += [f"verify after repair: {each}" for each in opened(str(store)).verify().problems]
        return problems


def _traced(name: str) -> str:
    """Return the option that leaves out of the log what leaves files as they are, but for calls of one name."""
    return f"trace=!{','.join(sorted(HARMLESS - {name}))}"


def _may_change(call: Call) -> bool:
    makes = call.name not in {"open", "openat"} or "O_CREAT" in call.text or "O_TRUNC" in call.text
    return makes and call.name not in HARMLESS


def changes(log: Path) -> tuple[str, ...]:
    """Return the calls in a log that may have changed files: what is random in them, and why one failed, is left out."""
    found: list[str] = []
    names: dict[str, str] = {}  # of the descriptors
    for call in calls(log):
        ended = _ENDED.fullmatch(call.text)
        if ended is None:
            continue
        opens = call.name in {"open", "openat"} and not ended[2].startswith("-")
        what = _TEXT.sub("", ended[1]) if call.name in WRITING else _RANDOM.sub("*", ended[1])
        what = _DESCRIPTOR.sub(lambda number: names.get(number[0], "before"), what)
        if opens:
            names[ended[2]] = what
        if _may_change(call):
            found.append(what if opens else f"{what} = {ended[2]}")
    return tuple(found)


def _shape(run: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Return the names below a path, with their modes, sizes and links; what is random in them is left out."""
    found = []
    for folder, _, names in os.walk(run):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            status = os.lstat(path)
            size = status.st_size if stat.S_ISREG(status.st_mode) else 0
            found.append((_RANDOM.sub("*", path), status.st_mode, size, status.st_nlink))
    return tuple(sorted(found))


def differences(here: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """What is in both must be there, what is in neither must not be, and all of it as it was."""
    problems: list[str] = []
    for stage in here.keys() | before.keys() | after.keys():
        old, new, now = before.get(stage, {}), after.get(stage, {}), here.get(stage, {})
        for version in old.keys() | new.keys() | now.keys():
            if version in old and version in new and version not in now:
                problems.append(f"version {version} of {stage} is lost")
            elif version in now and now[version] not in (old.get(version), new.get(version)):
                problems.append(f"version {version} of {stage} is {now[version]}")
    return problems


def without_cleared(here: dict[str, Any]) -> dict[str, Any]:
    """Leave out the versions that an interrupted deletion of a stage may leave."""
    return {stage: {number: version for number, version in here[stage].items() if version[0] != "cleared"} for stage in here}


def _together(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What was there before or is there after, so that what is in the second must be there, and what is in neither must not."""
    return {stage: {**before.get(stage, {}), **after.get(stage, {})} for stage in before.keys() | after.keys()}


def _synced_again(failed: Call, made: list[Call]) -> list[str]:
    """After a file's sync failed, another one of the same descriptor, not opened anew since, would be a lie."""
    at = next((index for index, call in enumerate(made) if (call.name, call.ordinal) == (failed.name, failed.ordinal)), None)
    if at is None:
        return []
    same = made[at].text.partition(")")[0]
    for call in made[at + 1 :]:
        if call.name in {"open", "openat"}:
            return []
        if call.text.startswith(same):
            return [f"it was synced again: {call.text}"]
    return []


def _thrown_away(failed: Call, made: list[Call]) -> bool:
    """Return whether what a failed sync was to make durable was removed: it was written again, then, under another name.

    Of a file, that is the file itself; of a directory, the names that were made in it since its sync before.
    """
    at = next((index for index, call in enumerate(made) if (call.name, call.ordinal) == (failed.name, failed.ordinal)), None)
    if at is None:
        return False
    descriptor = made[at].text.partition("(")[2].partition(")")[0]
    opened = [call.text for call in made[:at] if call.name == "openat" and call.text.endswith(f"= {descriptor}")]
    if not opened:
        return False
    removed = [call.text.split('"')[1] for call in made[at + 1 :] if call.name == "unlinkat" and call.text.endswith("= 0")]
    if "O_DIRECTORY" not in opened[-1]:
        name = opened[-1].split('"')[1]
        after = next((call.name for call in made[at + 1 :] if f'"{name}"' in call.text), None)
        return "O_EXCL" in opened[-1] and after == "unlinkat"
    names = []
    for call in reversed(made[:at]):
        if call.text.startswith(f"fsync({descriptor})"):
            break
        if found := re.search(rf'\b{descriptor}, "([^"]*)", (?:0|[^"]*O_EXCL[^"]*)\) += \d+$', call.text):
            names.append(found[1])
    return bool(names) and set(names) <= set(removed)


def errno_name(number: int) -> str:
    """Return the name of an errno."""
    import errno

    return errno.errorcode[number]


@lru_cache(maxsize=1)
def _trial(operation: str, scheme: str) -> tuple[Trial, tempfile.TemporaryDirectory[str]]:
    """Return what tries an operation, whatever the fault, and where: in memory, for a sync there takes no time."""
    place = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    return Trial((OPERATIONS | BROKEN)[operation], Path(place.name)), place


def perform(task: Task) -> Tally:
    """Try a fault at one call after the other."""
    scheme.set(task.scheme)
    trial, _ = _trial(task.operation, task.scheme)
    looked = trial.looked
    kill = task.fault == "kill"
    names = None if kill else OF_FILES
    if not task.everywhere:
        names = CHANGING
    if task.on:
        names = frozenset({task.on})
    tally = Tally()
    chosen = [call for call in trial.calls if names is None or call.name in names]
    if kill and task.everywhere and not task.scheme:  # killed between two of these, it leaves what it leaves at the second
        chosen = [call for call in chosen if _may_change(call) or call is chosen[-1]]
    step = max(1, len(chosen) // task.sample) if task.sample else 1
    for call in [*chosen[random.randrange(step) : -1 : step], *chosen[-1:]]:
        acknowledged, problems = trial.kill(call) if kill else trial.fail(call, task.fault)
        tally.tried += 1
        tally.missed += not trial.reached
        tally.acknowledged += acknowledged
        tally.refused += not acknowledged
        tally.problems += [f"{task.operation}, {task.fault} at {call.name} {call.ordinal}: {each}" for each in problems]
    tally.looked = trial.looked - looked
    return tally


def attempt(task: dict[str, Any]) -> dict[str, Any]:
    """Try the faults of a task, and return the tally."""
    started = time.monotonic()
    tally = perform(Task(**task))
    return {**asdict(tally), "seconds": time.monotonic() - started}


def import_everything() -> None:
    """Import what operations would import under the fault, which Python would raise as it is."""
    for module in pkgutil.walk_packages(checkpoint_manager.__path__, "checkpoint_manager."):
        if module.name.split(".")[1] in {"_filesystem", "_format", "_operations", "_store", "backends", "keys", "stages"}:
            with contextlib.suppress(ImportError):  # of another library, for an extra
                importlib.import_module(module.name)


if __name__ == "__main__":
    logging.disable()
    import_everything()
    serve(attempt)
