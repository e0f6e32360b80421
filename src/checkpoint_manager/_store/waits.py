"""The time that one operation waits for others: one limit for all of its locks together."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session


class Waits:
    """The waits of one operation that takes several locks, one after the other.

    Without it, another process that holds one lock after the other could make the operation wait ``lock_timeout`` for each.
    Only waiting counts: an operation that works for an hour between two locks may wait for the second as long as for the first.

    A stage is locked by ``with waits.lock(stage) as lock, waits.session(stage, lock) as session``.

    Attributes:
        left: How long it may still wait, in seconds.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._since = 0.0
        self.left = store.lock_timeout

    def lock(self, stage: str) -> AbstractContextManager[object]:
        """Return as :meth:`Store.lock`. The wait begins now; :meth:`session` ends it."""
        self._since = time.monotonic()
        return self._store.backend.lock(stage, self.left)

    def session(self, stage: str, lock: object) -> Session:
        """Return as :meth:`Store.session`."""
        self._end()
        return self._store.session(stage, lock)

    @contextlib.contextmanager
    def waiting(self) -> Iterator[float]:
        """Provide how long a ``with`` block may wait, and count the time it takes."""
        self._since = time.monotonic()
        yield self.left
        self._end()

    def _end(self) -> None:
        self.left = max(0.0, self.left - (time.monotonic() - self._since))
