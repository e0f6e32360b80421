"""Locks between the threads of one process, in memory.

They are all the locks that a store in memory has. A backend whose locks belong to a connection takes them first, so that the
threads that share the connection exclude one another, and a thread that would wait for itself gets an error.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import HeldRun
from checkpoint_manager.errors import CheckpointError, Hint, LockTimeoutError

if TYPE_CHECKING:
    from typing import Self

    from checkpoint_manager.backends.base import Purpose


class ProcessLocks:
    """The locks of one store. A lock exists while it is held or waited for. A forked child needs new ones."""

    def __init__(self) -> None:
        self._entries: WeakValueDictionary[tuple[str | None, Purpose, str], _Entry] = WeakValueDictionary()
        self._changing = threading.RLock()  # a signal handler of the thread that holds it may save, too

    def lock(self, stage: str | None, timeout: float, purpose: Purpose, name: str) -> ProcessLock:
        """Return a lock; arguments and errors as for :meth:`Backend.lock`."""
        with self._changing:
            entry = self._entries.setdefault((stage, purpose, name), _Entry())
        return ProcessLock(entry, stage, timeout, purpose)

    def writers(self) -> list[str]:
        """Return the stages whose lock to write is held or waited for."""
        return [stage for stage, purpose, _ in tuple(self._entries) if stage is not None and purpose == "write"]

    def held_runs(self) -> list[HeldRun]:
        """Return the runs whose lock is held."""
        return [
            HeldRun(stage or "", name, entry.notice)
            for (stage, purpose, name), entry in tuple(self._entries.items())
            if purpose == "run" and entry.lock.locked()
        ]


class ProcessLock:
    """A lock for one ``with`` block."""

    _is_held = False  # of the class, because __del__ runs even if an interruption has ended the constructor at once

    def __init__(self, entry: _Entry, stage: str | None, timeout: float, purpose: Purpose) -> None:
        self._purpose = purpose
        self._entry = entry
        self._stage = stage
        self._timeout = timeout

    def __enter__(self) -> Self:
        entry, stage = self._entry, self._stage
        whose = "the store" if stage is None else f"stage {printable(stage)}"
        if entry.thread == threading.get_ident() and self._purpose == "write":
            hint = "Return the new data from the function given to update_checkpoint instead of saving it there"
            raise CheckpointError(f"{whose} is already locked by this thread", hint=hint, stage=stage)
        if not entry.lock.acquire(timeout=min(max(0, self._timeout), threading.TIMEOUT_MAX)):
            holder = f"a thread of this process for {time.monotonic() - entry.since:.1f} s"
            raise LockTimeoutError(f"{whose} is locked by {holder}", hint=Hint.WAIT_FOR_LOCK, stage=stage, holder=holder)
        self._is_held, entry.thread, entry.since = True, threading.get_ident(), time.monotonic()
        return self

    def write_notice(self, notice: bytes) -> None:
        """Note what its holder tells others."""
        self._entry.notice = notice

    def __exit__(self, *_: object) -> None:
        if self._is_held:
            self._is_held, self._entry.thread, self._entry.notice = False, 0, b""
            self._entry.lock.release()

    def __del__(self) -> None:
        """Release the lock if an interruption kept the block from doing so."""
        self.__exit__()


class _Entry:
    """A lock with its holding thread, the time of acquisition, and the notice of its holder."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread = 0
        self.since = 0.0
        self.notice = b""
