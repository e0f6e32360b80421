"""Locks: one writer at a time, by a kernel lock on a file of its own, which the kernel frees when its holder dies.

The lock is `flock(2)`, taken through :mod:`filelock` on a descriptor opened here: links are not followed. Each holder has a
descriptor of its own, so that the threads and the managers of one process exclude one another just as processes do. A writer's
is kept open for its manager's next save, if the name still leads to that file. The kernel names the holder, because a note in
the file could be forged. The lock of a run has a notice in its file, for those who watch: nothing that is read there decides
anything.

**Waiting.** ``filelock`` would poll every 50 ms. Here, a waiter joins the kernel's queue (:mod:`.lock_queue`) and takes over as
soon as the lock is free. Where that is not possible, it polls: the pause is 5 % of the time waited so far, between 0.5 and
10 ms. One deadline holds for the whole wait, whatever happens to the file meanwhile.

**Interruptions.** A signal handler may raise an exception between any two steps of the interpreter, also before the first one
of an ``__exit__`` or a ``close`` that is written in Python. So the lock is the descriptor, and its owner a :class:`io.FileIO`:
if the end of the ``with`` block is cut off, the interpreter closes it as soon as nothing refers to it. Only what has been
unlocked is kept. A signal handler or finaliser that asks for a lock which its own thread holds, or is taking, is refused at
once, because it would wait for itself.

**Forks.** A child shares its parent's open file descriptions and the locks on them, and would keep a lock alive after the
parent's death. So each descriptor of a lock file is noted, and a child closes at once what it inherited, which frees nothing
for the parent. A signal may interrupt any of this between two steps, and its handler may take a lock or fork itself. So a
descriptor is opened and put into a list in one step of the interpreter, and the lock that a fork waits for is re-entrant.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import io
import os
import re
import stat
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.descriptors import make_room
from checkpoint_manager._filesystem.os_errors import as_our_errors, passing_over_refusals, translate
from checkpoint_manager._loading import load
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import HeldRun
from checkpoint_manager.backends.local.layout import LOCK_SUFFIX, RUN_SUFFIX
from checkpoint_manager.backends.local.lock_queue import wait_in_turn
from checkpoint_manager.backends.local.shared import ask_again
from checkpoint_manager.backends.stage_names import from_filename, is_hashed
from checkpoint_manager.errors import CheckpointError, Hint, LockTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Self

    from checkpoint_manager._filesystem.descriptors import Kept

T = TypeVar("T")

_SHORTEST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.01
_PAUSE_PER_WAIT = 0.05
_REPLACEMENTS = 3
"""How many times a lock file may vanish before the deadline is checked: the file of a run's lock is removed at its end."""

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_KEPT_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
"""For a file that stays open: what is open for writing keeps its file system from being mounted read-only."""

_LOOK = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAX_NOTICE_BYTES = 16 * 1024
_READINGS = 4
_LISTED = r"^\d+: FLOCK +\S+ +\S+ ([1-9]\d*) (\S+) "
"""A lock of a file, its holder and the file, in ``/proc/locks``."""

_NOT_ALLOWED = {errno.EACCES, errno.EPERM}
_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EMLINK}


_files: set[weakref.ref[io.FileIO]] = set()
_numbers: dict[int, tuple[int, int]] = {}
"""Device and inode of the file that each descriptor was opened for. The number may since be reused for another file."""
_opening = threading.RLock()
"""Held while a descriptor is opened and noted, and during a fork, so that a child knows every descriptor it inherits."""


class UnusableError(LockTimeoutError):
    """The file at the lock's name is not a lock file, or belongs to another user."""


class _Mine(threading.local):
    """The locks that a thread holds or is taking, by path; closed ones have been released."""

    def __init__(self) -> None:
        self.locks: dict[str, weakref.ref[FileLock]] = {}


_mine = _Mine()


def is_held(path: str) -> bool:
    """Return whether this thread holds the lock of a file, or is taking it."""
    reference = _mine.locks.get(path)
    lock = None if reference is None else reference()
    return lock is not None and lock.is_taken


def prepare() -> None:
    """Load what the first lock needs."""
    _filelock()


@functools.cache
def _filelock() -> Any:  # noqa: ANN401  # a module
    """Return the module that takes locks. It takes long to import."""
    return load("filelock")


class LockFile(io.FileIO):
    """An open lock file, which is closed as soon as nothing refers to it.

    Attributes:
        status: Its status when it was opened.
        is_kept: It is not locked, and waits for its next use.
    """

    status: os.stat_result
    is_kept = False

    __del__ = io.FileIO.close  # without the warning that a file was not closed


_CLOSED = LockFile.__new__(LockFile)


class FileLock(io.IOBase):
    """The lock of one stage (or of the store's records), for one ``with`` block.

    No interruption can leave it locked, because the end of its block is a single step of the interpreter: ``IOBase.__exit__``
    closes this object, for which it calls ``flush``, and that is the function that closes the lock file. The step would raise
    an error of the system. So the session inside the block lets go of the lock before that, and ignores such errors.

    Args:
        folder: Where the lock file is; itself not a link.
        name: The lock file's name; made if it is not there, never removed.
        stage: Whose lock it is, for messages; None: the store's records.
        timeout: How long to wait, in seconds.
        is_shared: Whether other hosts write to the folder (:mod:`.shared`).
        kept: Where lock files are kept open, by their paths; None: this one is not.
    """

    _refuses_itself = True

    def __init__(
        self,
        folder: str,
        name: str,
        stage: str | None,
        timeout: float,
        *,
        is_shared: bool = False,
        kept: Kept[LockFile] | None = None,
    ) -> None:
        self._folder = folder
        self._name = name
        self._stage = stage
        self._timeout = timeout
        self._is_shared = is_shared
        self._path = f"{folder}{os.sep}{name}"
        self._kept = kept
        self._file = _CLOSED

    def __enter__(self) -> Self:
        """Wait for the lock.

        Raises:
            LockTimeoutError: It was not free within ``timeout`` seconds, or what stands at its name is not a lock file.
            CheckpointError: This thread is taking it, or holds it.
        """
        before = _mine.locks.get(self._path)  # as is_held, without the call
        if before is not None and (lock := before()) is not None and lock.is_taken and self._refuses_itself:
            raise self._held_by_this_thread()
        if self.closed:
            raise ValueError("a lock is taken once")
        try:
            kept = None if self._kept is None else self._kept.pop(self._path, None)
            if kept is not None:
                self._file = kept
                self.flush = kept.close  # type: ignore[method-assign]  # what IOBase calls at its end
                kept.is_kept = False
                _mine.locks[self._path] = weakref.ref(self)  # a signal handler that came before has replaced it by its own
                try:
                    fcntl.flock(kept, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as filelock, which took it before
                    named = os.lstat(self._path)
                    if named.st_ino == kept.status.st_ino and named.st_dev == kept.status.st_dev:
                        return self
                except (BlockingIOError, PermissionError, FileNotFoundError):
                    pass
            self._take(kept, time.monotonic() + self._timeout)
        except BaseException as error:
            with passing_over_refusals():
                self.close()
            translate(error, f"take the lock of{'' if self._stage else ' the store'}", self._folder, self._stage)
            raise
        return self

    def _take(self, kept: LockFile | None, deadline: float) -> None:
        """Take the lock, with a file that was kept or the one that its name leads to, and wait if another holds it."""
        replaced = 0
        while True:
            if kept is None:
                self._open()
            kept = None
            if not _filelock().lock_descriptor(self._file.fileno(), blocking=False):
                self._wait(deadline)
            if self._named() is not None:
                return
            self._file.close()  # it was removed meanwhile: a lock on a file that nobody else will find
            replaced += 1
            if replaced > _REPLACEMENTS and time.monotonic() >= deadline:
                raise self._timed_out("another file keeps being put in the place of its lock file")

    @property
    def is_taken(self) -> bool:
        """Whether it is held, or waited for; not in a forked child, which has closed the file."""
        return not (self.closed or self._file.closed)

    def fileno(self) -> int:
        return self._file.fileno()

    def let_go(self) -> None:
        """Release the lock and ignore an error of the system: the work under the lock is done, and nothing is lost."""
        file = self._file
        try:
            if self._kept is None or self.closed or file.closed:
                self.close()
            else:
                self.flush = functools.partial(fcntl.flock, file, fcntl.LOCK_UN)  # type: ignore[method-assign]  # likewise
                self.close()
                file.is_kept = True
                self._kept[self._path] = file
        except OSError as error:
            if error.errno is None:  # not the system's
                raise

    def _held_by_this_thread(self) -> CheckpointError:
        message = f"{self._whose()} is already locked by this thread"
        hint = (
            "Return the new data from the function given to update_checkpoint instead of saving it there; "
            "in a signal handler, set a flag, and save where the program looks at it"
        )
        return CheckpointError(message, hint=hint, stage=self._stage)

    def _open(self) -> None:
        """Open the lock file."""
        self._file = file = LockFile.__new__(LockFile)
        self.flush = file.close  # type: ignore[method-assign]  # likewise
        self._open_file()
        _mine.locks[self._path] = weakref.ref(self)  # likewise
        if self._kept is not None:
            make_room()

    def _open_file(self) -> None:
        file = self._file
        try:
            try:
                folder = os.open(self._folder, files.DIRECTORY)
            except FileNotFoundError:
                root, name = os.path.split(self._folder)
                with files.open_directory(root) as place:  # of a running process: a link in its place leads elsewhere
                    files.make_directory(name, place)
                folder = os.open(self._folder, files.DIRECTORY)
            try:
                flags = _FLAGS if self._kept is None else _KEPT_FLAGS
                file.status = open_into(
                    file, functools.partial(os.open, flags=flags, mode=files.FILE_MODE, dir_fd=folder), self._name
                )
            finally:
                try:
                    os.close(folder)
                except OSError as error:  # as files.close, without the call
                    if error.errno is None:
                        raise
        except files.NotAFileError as other:
            raise self._unusable(f"{other} stands in place of the directory of its folder") from None
        except OSError as error:
            if error.errno in {errno.ENOTDIR, errno.ELOOP, errno.EMLINK} and error.filename == self._folder:
                raise self._unusable(f"{files.what_stands_at(self._folder)} stands in place of its folder") from None
            if error.errno in _NOT_OURS and not (error.errno in _NOT_ALLOWED and self._is_free_of_others()):
                raise self._unusable(error.strerror or "it can't be opened") from error
            raise
        if not stat.S_ISREG(file.status.st_mode):
            raise self._unusable("it is not a regular file")
        if file.status.st_mode & files.FILE_MODE != files.FILE_MODE and file.status.st_nlink == 1:
            os.fchmod(file.fileno(), files.FILE_MODE)  # a strict umask: the next writer could not open what this one made

    def _is_free_of_others(self) -> bool:
        """Return whether no file of another user has the lock's name, so that the store itself can't be written to."""
        with passing_over_refusals():
            there = os.lstat(self._path)
            return stat.S_ISREG(there.st_mode) and there.st_uid == os.geteuid()
        return True

    def _wait(self, deadline: float) -> None:
        started = time.monotonic()
        taken = wait_in_turn(self._file.fileno(), deadline - started, open_into)
        if taken is None:
            self._look_now_and_again(started, deadline)
        elif not taken:
            raise self._timed_out()

    def _look_now_and_again(self, started: float, deadline: float) -> None:
        while not _filelock().lock_descriptor(self._file.fileno(), blocking=False):
            now = time.monotonic()
            if now >= deadline:
                raise self._timed_out()
            pause = min(max((now - started) * _PAUSE_PER_WAIT, _SHORTEST_PAUSE), _LONGEST_PAUSE)
            time.sleep(min(pause, deadline - now))

    def _named(self) -> os.stat_result | None:
        """Return what stands at the lock's name if it is the file that was locked, else None."""
        try:
            if self._is_shared:
                ask_again(self._folder)
            named = os.lstat(self._path)
        except FileNotFoundError:
            return None
        return named if os.path.samestat(self._file.status, named) else None

    def _unusable(self, why: str) -> UnusableError:
        message = f"the lock of {self._whose()} can't be taken: {printable(self._path)}: {why}"
        hint = "Check what is there and who owns it; it should be a regular file of yours"
        return UnusableError(message, hint=hint, stage=self._stage)

    def _timed_out(self, why: str = "") -> LockTimeoutError:
        holder = "" if why else _holder(self._file.status)
        reason = why or (f"the kernel says that it is held by {holder}" if holder else "it is held by another writer")
        message = f"{self._whose()} is locked, and was not free within {round(self._timeout, 3):g} s: {reason}"
        return LockTimeoutError(message, hint=Hint.WAIT_FOR_LOCK, stage=self._stage, holder=holder or None)

    def _whose(self) -> str:
        return "the store" if self._stage is None else f"stage {printable(self._stage)}"


class RunLock(FileLock):
    """The lock of a run. A task may hold it while other tasks of its thread run; they wait for it like any other caller."""

    _refuses_itself = False

    _is_noted = False

    def write_notice(self, notice: bytes) -> None:
        """Write what others may read of the run into the file, unless it has a second name, which may lead anywhere.

        Raises:
            OSError: The operating system refused.
        """
        descriptor = self._file.fileno()
        if os.fstat(descriptor).st_nlink > 1:
            return
        if not self._is_noted:
            os.ftruncate(descriptor, 0)  # what a killed holder left may be longer
            self._is_noted = True
        os.pwrite(descriptor, notice, 0)

    def __exit__(self, *_: object) -> None:
        """Release the lock, and ignore an error of the system."""
        self.let_go()


class NamedRunLock(RunLock):
    """The lock of one run of many: its holder removes the file on release.

    Those that wait for the lock of a removed file begin again with a new one.
    """

    def __exit__(self, *_: object) -> None:
        """Remove the file if it still has its name, and release the lock: no other holder of that name can exist."""
        try:
            if self.is_taken and self._named() is not None:
                with files.open_directory(self._folder) as folder:
                    os.unlink(self._name, dir_fd=folder)
        except OSError as error:
            if error.errno is None:
                raise
        finally:
            self.let_go()


def wait_for_writers(locks: str, timeout: float) -> None:
    """Wait until each lock of a stage in this folder was free once; see :meth:`Backend.wait_for_writers`."""
    deadline = time.monotonic() + timeout
    for name, stage in _ever_locked(locks):
        lock = FileLock(locks, name, stage, max(deadline - time.monotonic(), 0))
        with contextlib.suppress(UnusableError), lock:  # an unusable lock can't be held by anyone else, either
            lock.let_go()


def _ever_locked(locks: str) -> Iterator[tuple[str, str]]:
    """Yield the name of each stage's lock file with the stage, or its hash if that is all that is known."""
    with as_our_errors("list the locks", locks):
        try:
            with files.open_directory(locks) as folder, files.entries(folder) as entries:
                names = [entry.name for entry in entries if entry.name.endswith(LOCK_SUFFIX)]
        except FileNotFoundError:
            return
    for name in names:
        stem = name.removesuffix(LOCK_SUFFIX)
        if (stage := from_filename(stem)) is not None or is_hashed(stem):
            yield name, stage or stem


def held_runs(locks: str) -> Iterator[HeldRun]:
    """Yield each run whose lock file is held, with what its holder wrote into it."""
    with as_our_errors("list the locks", locks), contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(files.open_directory(locks))
        except FileNotFoundError:
            return
        with files.entries(folder) as entries:
            names = [entry.name for entry in entries if entry.name.endswith(RUN_SUFFIX) and "~" in entry.name]
        listed = _listed_locks() if names else {}
        for lock_file in names:
            file, _, name = lock_file.removesuffix(RUN_SUFFIX).rpartition("~")
            stage = from_filename(file)
            if stage is None and not is_hashed(file):
                continue
            with passing_over_refusals():  # it is gone, or is not a file
                notice = _notice(lock_file, folder, listed)
                if notice is not None:
                    yield HeldRun(stage or "", name, notice)


def _notice(name: str, folder: int, listed: dict[str, str]) -> bytes | None:
    """Return what stands in a lock file; None if nobody holds it."""
    descriptor = os.open(name, _LOOK, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            return None
        if _place(status) not in listed and _is_free(descriptor):
            return None
        found = b""
        for _ in range(_READINGS):  # its holder may be writing it
            before, found = found, os.pread(descriptor, _MAX_NOTICE_BYTES, 0)
            if found == before:
                break
        return found
    finally:
        files.close(descriptor)


def _is_free(descriptor: int) -> bool:
    """Return whether nobody holds the lock of a file that the kernel does not list, as on a file server.

    For this it is taken, for a moment.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listed_locks() -> dict[str, str]:
    """Return the process that holds each lock that Linux lists, by the file; nothing where it does not tell."""
    with passing_over_refusals(), open("/proc/locks", encoding="ascii") as locks:
        return {place: process for process, place in re.findall(_LISTED, locks.read(), re.MULTILINE)}
    return {}


def _place(lock: os.stat_result) -> str:
    """Return a file as Linux names it in its list."""
    return f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"


def _holder(lock: os.stat_result) -> str:
    """Return the holder of a file's lock, as Linux reports it; "" if unknown, such as a holder on another host."""
    process = _listed_locks().get(_place(lock))
    return f"process {process}" if process else ""


def open_into(file: io.FileIO, open_it: Callable[[T], int], what: T) -> os.stat_result:
    """Open a descriptor for a file object, which is closed so far, note it, and return the file's status.

    Args:
        file: What owns the descriptor from now on.
        open_it: Opens it: a function of the interpreter's own, for one written in Python could be interrupted at its end.
        what: Its argument.
    """
    opened: list[int] = []
    with _opening:
        try:
            opened += map(open_it, (what,))
            status = os.fstat(opened[0])
            _numbers[opened[0]] = status.st_dev, status.st_ino
            _files.add(weakref.ref(file, _files.discard))
            io.FileIO.__init__(file, opened[0], "r+b")
        except BaseException:
            if opened and file.closed:  # the file object does not own it yet
                os.close(opened[0])
            with passing_over_refusals():
                file.close()
            raise
    return status


def descriptors_held() -> tuple[int, ...]:
    """Return the descriptors of locks that are held, or waited for, now."""
    with _opening:
        files = [reference() for reference in tuple(_files)]
        return tuple(
            file.fileno() for file in files if file is not None and not (file.closed or getattr(file, "is_kept", False))
        )


def _close_inherited() -> None:
    for reference in tuple(_files):
        file = reference()
        if file is not None:
            with passing_over_refusals():
                file.close()
    for number, file_id in _numbers.items():  # another thread was closing it at the fork, and its file object is closed
        with passing_over_refusals():
            status = os.fstat(number)
            if (status.st_dev, status.st_ino) == file_id:
                os.close(number)
    _files.clear()
    _numbers.clear()
    _opening.release()


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_close_inherited)
