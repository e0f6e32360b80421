"""The locks of a store that the processes of one host share: files in one folder.

What takes them, :mod:`.lock`, is loaded for a program that will write: one that only reads takes none.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from checkpoint_manager._loading import load
from checkpoint_manager.backends.local.layout import LOCK_SUFFIX, STORE_LOCK, lock_name

if TYPE_CHECKING:
    from checkpoint_manager._filesystem.descriptors import Kept
    from checkpoint_manager.backends.base import HeldRun, Purpose
    from checkpoint_manager.backends.local.lock import FileLock, LockFile


class HostLocks:
    """A backend's ``lock``, and what goes with it.

    Attributes:
        _locks: The folder.
        _is_shared: Whether other hosts write to it.
        _kept_locks: The lock files of writers that are kept open.
    """

    _locks: str
    _is_shared = False
    _kept_locks: Kept[LockFile] | None = None

    def prepare_to_write(self) -> None:
        _lock().prepare()

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> FileLock:
        module, file = _lock(), STORE_LOCK if stage is None else lock_name(stage, purpose, name)
        lock: FileLock
        if purpose == "write" and not self._is_shared:
            lock = module.FileLock(self._locks, file, stage, timeout, kept=self._kept_locks)
        else:
            kind = module.FileLock if purpose != "run" else module.NamedRunLock if name else module.RunLock
            lock = kind(self._locks, file, stage, timeout, is_shared=self._is_shared)
        return lock

    def _holds(self, stage: str | None) -> bool:
        """Return whether this thread holds the lock of a stage, or of the store's records (None), to write."""
        held: bool = _lock().is_held(f"{self._locks}{os.sep}{STORE_LOCK if stage is None else lock_name(stage)}")
        return held

    def held_runs(self) -> list[HeldRun]:
        return [*_lock().held_runs(self._locks)]

    def lock_descriptors(self) -> tuple[int, ...]:
        descriptors: tuple[int, ...] = _lock().descriptors_held()
        return descriptors

    def wait_for_writers(self, timeout: float) -> None:
        _lock().wait_for_writers(self._locks, timeout)


def lock_of(locks: str, name: str) -> FileLock:
    """Return the lock, to write, of the stage whose folder has this name; nobody is waited for."""
    lock: FileLock = _lock().FileLock(locks, name + LOCK_SUFFIX, None, 0)
    return lock


def let_go(lock: object) -> None:
    """Release a lock, if this is one, and ignore an error of the system."""
    if isinstance(lock, _lock().FileLock):
        lock.let_go()


@functools.cache
def _lock() -> Any:  # noqa: ANN401  # a module
    return load("checkpoint_manager.backends.local.lock")
