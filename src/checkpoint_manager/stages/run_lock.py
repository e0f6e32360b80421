"""The lock of one run: of all calls of a stage with the same arguments, one runs and the others wait for its result.

Calls with other arguments are independent. Between processes, a lock of the backend excludes the others. Within a process, a
table of the active runs is consulted first: it knows which thread and task hold a lock, and so whether waiting for it would
ever end (:mod:`.deadlock`).

A lock is taken inside the ``try`` whose ``finally`` releases it, and is released as well when nothing refers to it any more,
because a signal may interrupt either step. The table is changed only by single operations of a dict, so that a signal handler
that calls a stage never meets a lock held by the code it interrupted.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem.os_errors import passing_over_refusals
from checkpoint_manager._format.run_notice import RunNotice
from checkpoint_manager._operations.running import seal_notice
from checkpoint_manager._store.sealed_store import origin
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import Lease, NoticeBoard
from checkpoint_manager.errors import CheckpointError, Hint, LockTimeoutError
from checkpoint_manager.stages.deadlock import Worker, standstill, would_deadlock
from checkpoint_manager.stages.run_id import current_run

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from checkpoint_manager._store.store import Store

_LOG = logging.getLogger("checkpoint_manager")
SILENT_WAIT = 0.4
"""How long a run waits before the log names the holder, in seconds; short enough to keep its place in a queue."""
_POLL = 0.05
_FIRST_PAUSE, _LONGEST_PAUSE, _SHARE_OF_CHECKS = 0.02, 10.0, 0.05
_STANDSTILL = 3.0
"""The seconds after which threads that all wait for one another count as deadlocked."""
_WITHOUT_END = 86_400.0
"""The timeout from which a wait counts as unlimited, in seconds."""
_HINT = "Call the plain function inside of it, call it with other arguments, or give the inner stage another name"

_holders: dict[tuple[str, str, str, str], weakref.ref[RunLock]] = {}
_waiting: dict[int, RunLock] = {}
os.register_at_fork(after_in_child=_holders.clear)  # a child runs none of its parent's runs
os.register_at_fork(after_in_child=_waiting.clear)


class RunLock:
    """The lock of one run, for one owner.

    Args:
        store: The store.
        stage: The stage.
        name: The digest of the note of the run.
        is_blocking: Whether its owner waits without giving the event loop back.
        is_in_parent: Whether this process was forked in the middle of such a run: the parent may wait for it.
        is_within: Whether such a run, of this process, started the code that takes the lock, and may wait for it.
        stages: The stages that its program has defined.
    """

    def __init__(
        self,
        store: Store,
        stage: str,
        name: str,
        *,
        is_blocking: bool,
        is_in_parent: bool,
        is_within: bool = False,
        stages: tuple[str, ...] = (),
    ) -> None:
        self.stage = stage
        self.released = threading.Event()
        self._name = name
        self._stages = stages
        self._is_in_parent = is_in_parent
        self._is_within = is_within
        self._patience = store.lock_timeout
        self._store = store
        self._notice: RunNotice | None = None
        self._backend = store.backend
        self._key = (store.backend.location, store.keyring.store_id, stage, name)
        self._reference = weakref.ref(self)
        self._worker = Worker.current(is_blocking=is_blocking)
        self._thread_name = threading.current_thread().name
        # Those that were there before. A single operation on the table: threading.enumerate() takes a lock.
        self._threads = frozenset(threading._active)  # type: ignore[attr-defined]  # noqa: SLF001
        self._process = os.getpid()
        self._lock: AbstractContextManager[object] | None = None
        self._standstill: tuple[object, ...] = ()
        self._standstill_since = 0.0
        self._pause = _FIRST_PAUSE
        self._next_check = 0.0 if is_blocking else time.monotonic() + _FIRST_PAUSE

    @property
    def is_held(self) -> bool:
        """Whether this process holds the lock."""
        return self._process == os.getpid() and _holders.get(self._key) is self._reference

    @property
    def lost(self) -> str:
        """Why another process may run the same now, as a clause; empty if the lock is held."""
        lock: object = self._lock
        return lock.lost if isinstance(lock, Lease) else ""

    @property
    def was_inherited(self) -> bool:
        """Whether the parent held this lock when it forked this process."""
        return self._process != os.getpid() and self._lock is not None

    def acquire(self, timeout: float, log: Callable[[LockTimeoutError], None]) -> None:
        """Wait for the lock, and keep this thread waiting.

        Args:
            timeout: How long, in seconds; may be infinite.
            log: Called once with an error that names the holder, when this has waited for a moment.

        Raises:
            LockTimeoutError: Another run held it for so long.
            CheckpointError: The run that holds it waits for this one.
        """
        started, is_logged = time.monotonic(), False
        timeout = self.bounded(timeout)
        _waiting[id(self)] = self
        try:
            while (holder := self._claim()) is not None:
                waited = time.monotonic() - started
                if waited >= timeout:
                    raise self._timed_out(holder)
                if waited >= SILENT_WAIT and not is_logged:
                    is_logged = True
                    log(self._timed_out(holder))
                holder.released.wait(min(_POLL, timeout - waited))
                del holder  # which is free when nothing refers to it any more
            try:
                self._enter(min(started + timeout - time.monotonic(), SILENT_WAIT))
            except LockTimeoutError as error:
                left = started + self.bounded(timeout, error.holder) - time.monotonic()
                if left <= 0:
                    raise
                if not is_logged:
                    log(error)
                self._enter(left)
        finally:
            _waiting.pop(id(self), None)

    def try_acquire(self) -> LockTimeoutError | None:
        """Take the lock, or return an error that names its holder.

        Raises:
            CheckpointError: The run that holds it waits for this one.
        """
        _waiting[id(self)] = self
        holder = None if self.is_held else self._claim()
        if holder is not None:
            return self._timed_out(holder)
        try:
            self._enter(0)
        except LockTimeoutError as error:
            return error
        _waiting.pop(id(self), None)
        return None

    def bounded(self, timeout: float, holder: str | None = None) -> float:
        """Return how long to wait: only for a limited time if the holder started this call, because it may wait for it.

        Args:
            timeout: How long is asked for, in seconds.
            holder: The process that runs it, as an error names it; None: it is a run of this process, or nobody knows.
        """
        may_wait_for_this = self._is_within or (holder is not None and started_this_process(holder))
        return self._patience if timeout >= _WITHOUT_END and may_wait_for_this else timeout

    def release(self) -> None:
        """Release the lock, or stop waiting for it. May be called again."""
        _waiting.pop(id(self), None)
        lock, self._lock = self._lock, None
        try:
            if lock is not None:
                lock.__exit__(None, None, None)
        finally:
            if self.is_held:
                _holders.pop(self._key, None)
                self.released.set()

    def _claim(self) -> RunLock | None:
        """Take the place of this run in the table of this process, or return the lock that has it."""
        while True:
            found = _holders.setdefault(self._key, self._reference)
            if found is self._reference:
                return None
            holder = found()
            if holder is not None:
                self._check(holder)
                return holder
            # It was dropped by code that was interrupted. Should another thread be faster, the backend's lock excludes the two.
            if _holders.get(self._key) is found:
                _holders.pop(self._key, None)

    def _check(self, holder: RunLock) -> None:
        """Raise an error if the holder waits for this one. Searches at once where waiting blocks a thread, then more rarely."""
        now = time.monotonic()
        if now >= self._next_check:
            waits = [(each._worker, held._worker) for each, held in _waits() if each is not self]  # noqa: SLF001
            if would_deadlock(self._worker, holder._worker, waits) or self._is_at_a_standstill(holder, now):
                raise self._calls_itself()
            took = time.monotonic() - now
            self._pause = min(max(2 * self._pause, took / _SHARE_OF_CHECKS), _LONGEST_PAUSE)
            self._next_check = now + self._pause

    def _is_at_a_standstill(self, holder: RunLock, now: float) -> bool:
        """Return whether this thread was started during the holder's run, and all threads are blocked for good."""
        is_new = self._worker.is_blocking and self._worker.thread not in holder._threads
        found = standstill() if is_new else ()
        if found != self._standstill:
            self._standstill, self._standstill_since = found, now
        return bool(found) and now - self._standstill_since >= _STANDSTILL

    def _enter(self, timeout: float) -> None:
        lock = self._backend.lock(self.stage, max(timeout, 0), purpose="run", name=self._name)
        try:
            lock.__enter__()
        except LockTimeoutError as error:
            if self._is_in_parent:
                raise self._calls_itself() from None
            if error.holder is None:
                raise
            raise self._is_run_by(error.holder, started_this=started_this_process(error.holder)) from None
        self._lock = lock
        now = datetime.now(UTC)
        self._notice = RunNotice(self.stage, self._name, current_run(), now, now, origin(os.getpid()), stages=self._stages)
        self._tell()

    def tell(self, done: int, total: int | None) -> None:
        """Tell other processes that so many items are done, of so many."""
        if self._notice is not None and self.is_held:
            self._notice = self._notice.at(done, total, datetime.now(UTC))
            self._tell()

    def _tell(self) -> None:
        """Write the notice, if that is possible: the run goes on without it."""
        lock: object = self._lock
        if self._notice is not None and isinstance(lock, NoticeBoard):
            try:
                lock.write_notice(seal_notice(self._store, self._notice))
            except CheckpointError as error:
                _LOG.debug("%s: its notice could not be written: %s", printable(self.stage), error)
            except OSError as error:
                if error.errno is None:  # not the system's
                    raise
                _LOG.debug("%s: its notice could not be written: %s", printable(self.stage), error)

    def _timed_out(self, holder: RunLock) -> LockTimeoutError:
        return self._is_run_by(f"{holder._thread_name} of this process", started_this=self._is_within)

    def _is_run_by(self, who: str, *, started_this: bool) -> LockTimeoutError:
        message = f"stage {printable(self.stage)} is being run with these arguments by {printable(who)}"
        if started_this:
            message += ", which started this call and may be waiting for it"
        hint = _HINT if started_this else Hint.WAIT_FOR_RUN
        return LockTimeoutError(message, hint=hint, stage=self.stage, holder=who)

    def _calls_itself(self) -> CheckpointError:
        message = f"stage {printable(self.stage)} is called by itself with the same arguments, and would wait for itself"
        return CheckpointError(message, hint=_HINT, stage=self.stage)


def started_this_process(holder: str) -> bool:
    """Return whether a process, as an error names it, is a parent of this one, or the parent of a parent."""
    process = os.getpid()
    while process > 1:
        process = _parent_of(process)
        if holder == f"process {process}":
            return True
    return False


def _parent_of(process: int) -> int:
    if process == os.getpid():
        return os.getppid()
    with passing_over_refusals(), open(f"/proc/{process}/stat", "rb") as status:  # only Linux tells
        return int(status.read().rpartition(b")")[2].split()[1])
    return 0


def _waits() -> list[tuple[RunLock, RunLock]]:
    """Return the pairs of waiting and holding locks in this process."""
    found = []
    for waiter in tuple(_waiting.values()):
        reference = _holders.get(waiter._key)  # noqa: SLF001
        holder = None if reference is None else reference()
        if holder is not None and holder is not waiter:
            found.append((waiter, holder))
    return found
