"""One writer at a time: a kernel lock on a file of its own, freed by the kernel when its holder dies, however it dies.

The lock is `flock(2)`, taken through :mod:`filelock` on a descriptor opened here: links are not followed, nothing is
truncated, and a file that has other names is never written to. Each acquisition opens the file anew, so that the
threads and the managers of one process exclude one another just as processes do.

**Waiting.** ``filelock`` would look every 50 ms. Here a waiter stands in the kernel's queue (:mod:`.queue`), and takes over as
soon as it is its turn. Where it can't, it looks for itself: the pause is 5 % of what was already waited, between 0.5 and 10 ms.

**Kills.** Each holder leaves a note of who it is, and strikes it out when it lets go. One that still stands was left by one
that was killed, or that the system refused something: whoever takes the lock next can clear up after it.

**Forks.** A child that is forked while the lock is held neither holds nor frees it: see :mod:`.descriptors`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson
from filelock import lock_descriptor, unlock_descriptor

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager.backends.local import lock_descriptors as descriptors
from checkpoint_manager.backends.local.lock_queue import wait_in_turn
from checkpoint_manager.errors import LockTimeoutError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

_SHORTEST_PAUSE = 0.0005
_LONGEST_PAUSE = 0.01
_PAUSE_PER_WAIT = 0.05
_NOTE_BYTES = 512
_NOTE_BEGINS, _STRUCK_OUT = b"{", b" "

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_NOT_OURS = {errno.EACCES, errno.EPERM, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EMLINK}
_HOST = os.uname().nodename


class FileLock:
    """The lock of one stage (or of the store's records), for one ``with`` block.

    Args:
        folder: Where the lock file is; itself no link.
        name: The lock file's name; made if it is not there.
        stage: Whose lock it is, for messages; None: the store's records.
        timeout: How long to wait, in seconds.
        clear_up: Called with the stage, once the lock is taken, if its last holder was killed.
        is_removed: Whether the holder removes the file when it lets go, as there may be very many of them. Those that wait for
            the lock of a removed file begin again with a new one.
    """

    __slots__ = (
        *("_clear_up", "_folder", "_is_removed", "_name", "_stage", "_timeout"),
        *("_descriptor", "_noted", "_process", "_status", "_was_abandoned"),
    )

    def __init__(
        self,
        folder: str,
        name: str,
        stage: str | None,
        timeout: float,
        clear_up: Callable[[str | None], None] | None = None,
        *,
        is_removed: bool = False,
    ) -> None:
        self._folder = folder
        self._name = name
        self._stage = stage
        self._timeout = timeout
        self._descriptor = -1
        self._process = 0
        self._noted = False
        self._was_abandoned = False
        self._clear_up = clear_up
        self._is_removed = is_removed

    def __enter__(self) -> Self:
        """Wait for the lock.

        Raises:
            LockTimeoutError: It was not free within ``timeout`` seconds, or what stands at its name is no lock file.
        """
        with as_our_errors("take the lock of", self._folder, self._stage):
            self._take(time.monotonic())
        if self._was_abandoned and self._clear_up is not None:
            try:
                self._clear_up(self._stage)
            except BaseException:
                self._close()
                raise
        return self

    def _take(self, started: float) -> None:
        self._process = os.getpid()
        while True:
            self._descriptor = self._open()
            try:
                self._wait(started)
                named = self._named()
                if named is not None:
                    with contextlib.suppress(OSError):  # on a full disk, say: the lock is held without a note, too
                        self._leave_note(named)
                    return
            except BaseException:
                self._close()
                raise
            self._close()  # it was removed meanwhile: a lock on a file that nobody else will find

    def _wait(self, started: float) -> None:
        if lock_descriptor(self._descriptor, blocking=False):
            return
        taken = wait_in_turn(self._descriptor, self._timeout - (time.monotonic() - started))
        if taken is None:
            self._look_now_and_again(started)
        elif not taken:
            raise self._timed_out(time.monotonic() - started)

    def _look_now_and_again(self, started: float) -> None:
        while not lock_descriptor(self._descriptor, blocking=False):
            waited = time.monotonic() - started
            if waited >= self._timeout:
                raise self._timed_out(waited)
            pause = min(max(waited * _PAUSE_PER_WAIT, _SHORTEST_PAUSE), _LONGEST_PAUSE)
            time.sleep(min(pause, self._timeout - waited))

    def __exit__(self, _: object, error: object, __: object) -> None:
        if os.getpid() != self._process:  # a child that was forked inside the block: nothing here is its own
            return
        if self._is_removed:
            self._remove()
        if self._noted and not isinstance(error, OSError):  # one that the system refused something may leave something, too
            with contextlib.suppress(OSError):
                os.pwrite(self._descriptor, _STRUCK_OUT, 0)
        with contextlib.suppress(OSError):  # what was done under the lock is done; closing frees it in any case
            unlock_descriptor(self._descriptor)  # at once, even if a child forked a moment ago still has it open
        self._close()

    def _remove(self) -> None:
        """Remove the file that is locked, if it still has its name: then nobody else can hold a lock of that name."""
        with contextlib.suppress(OSError):
            if self._named() is None:
                return
            folder = self._open_folder()
            try:
                os.unlink(self._name, dir_fd=folder)
            finally:
                os.close(folder)

    def _close(self) -> None:
        descriptors.close(self._descriptor)

    def _open(self) -> int:
        try:
            folder = self._open_folder()
            try:
                descriptor = descriptors.opened(lambda: os.open(self._name, _FLAGS, files.FILE_MODE, dir_fd=folder))
            finally:
                os.close(folder)
        except files.NotAFileError as error:
            raise self._unusable(f"{error} stands in place of its folder") from None
        except OSError as error:
            if error.errno in _NOT_OURS:
                raise self._unusable(error.strerror or "it can't be opened") from error
            raise
        self._status = os.fstat(descriptor)
        if not stat.S_ISREG(self._status.st_mode):
            self._descriptor = descriptor
            self._close()
            raise self._unusable("it is no regular file")
        return descriptor

    def _open_folder(self) -> int:
        try:
            return files.directory_descriptor(self._folder)
        except FileNotFoundError:
            files.make_directory(self._folder)
            return files.directory_descriptor(self._folder)

    def _unusable(self, why: str) -> LockTimeoutError:
        message = (
            f"the lock of {self._whose()} can't be taken: {os.path.join(self._folder, self._name)}: {why}. "
            "Look at what stands there and who owns it; it should be a file of yours"
        )
        return LockTimeoutError(message, stage=self._stage)

    def _named(self) -> os.stat_result | None:
        """Return what stands at the lock's name if it is the file that was locked, else None."""
        try:
            named = os.lstat(f"{self._folder}{os.sep}{self._name}")
        except FileNotFoundError:
            return None
        return named if os.path.samestat(self._status, named) else None

    def _leave_note(self, named: os.stat_result) -> None:
        if named.st_nlink != 1:
            return  # a file with a second name may be someone else's: it is locked, but never written to
        self._was_abandoned = os.pread(self._descriptor, 1, 0) == _NOTE_BEGINS
        since = datetime.now(UTC).isoformat(timespec="seconds")
        note = orjson.dumps({"pid": self._process, "host": _HOST, "since": since})
        os.pwrite(self._descriptor, note[: _NOTE_BYTES - 1].ljust(_NOTE_BYTES - 1) + b"\n", 0)
        self._noted = True

    def _timed_out(self, waited: float) -> LockTimeoutError:
        holder = _read_note(self._descriptor)
        message = (
            f"{self._whose()} is locked by {holder or 'another writer'}; waited {waited:.1f} s. "
            "Wait until it is done, stop it, or pass a longer lock_timeout"
        )
        return LockTimeoutError(message, stage=self._stage, holder=holder)

    def _whose(self) -> str:
        return "the store" if self._stage is None else f"stage {display(self._stage)}"


def _read_note(descriptor: int) -> str | None:
    """Say who holds the lock, from what the holder wrote; whoever may write to the directory may have forged it."""
    try:
        note = orjson.loads(os.pread(descriptor, _NOTE_BYTES, 0))
        since = datetime.fromisoformat(note["since"])
        pid, host = int(note["pid"]), str(note["host"])
    except (ValueError, TypeError, KeyError, OSError):
        return None
    return f"process {pid} on {display(host)[:64]} since {since.isoformat(timespec='seconds')}"
