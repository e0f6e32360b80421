"""The writers of a store whose locks are files in one folder."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager.backends.local import layout
from checkpoint_manager.backends.local.lock import FileLock, UnusableError
from checkpoint_manager.backends.stage_names import from_filename, is_hashed

if TYPE_CHECKING:
    from collections.abc import Iterator


def wait_for_writers(locks: str, timeout: float) -> None:
    """Wait until every writer that now holds a stage's lock has released it.

    Args:
        locks: The folder of the lock files.
        timeout: How long to wait, in seconds, for all of them together.

    Raises:
        LockTimeoutError: Not all of them did.
    """
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
                names = [entry.name for entry in entries if entry.name.endswith(layout.LOCK_SUFFIX)]
        except FileNotFoundError:
            return
    for name in names:
        stem = name.removesuffix(layout.LOCK_SUFFIX)
        if (stage := from_filename(stem)) is not None or is_hashed(stem):
            yield name, stage or stem
