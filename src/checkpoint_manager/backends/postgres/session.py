"""A session on one stage: what has been read of it before it is asked for."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from checkpoint_manager.backends.base import Session
from checkpoint_manager.backends.postgres import look
from checkpoint_manager.backends.postgres.lock import AdvisoryLock
from checkpoint_manager.errors import CheckpointError

_MOST_AHEAD = 64
"""How many versions are read ahead at most."""
AHEAD_BYTES = 16 * 1024
"""How long a version may be that is read ahead."""
_FRESH_SECONDS = 1.0


class PostgresSession(Session):
    """The answers of one look at a stage. Each is used once, and all are dropped when something else is read or changed.

    Attributes:
        stage: The stage.
        looked: The answers that are left, by what they answer; None: not looked yet.
        ahead: Versions that were read ahead.
    """

    __slots__ = ("_lock", "ahead", "looked", "stage")

    def __init__(self, stage: str | None, lock: object) -> None:
        self.stage = stage
        self.looked: dict[str, Any] | None = {} if lock is not None or stage is None else None
        self._lock = lock
        self.ahead = Ahead()
        if isinstance(lock, AdvisoryLock) and lock.looked:
            self.looked, lock.looked = look.answers(lock.looked), None

    def end(self) -> None:
        if isinstance(self._lock, AdvisoryLock):
            with contextlib.suppress(CheckpointError):
                self._lock.release()


class Ahead:
    """Versions that are read ahead while a caller goes down a history: four at first, then four times as many each time.

    They are used for a second at most.
    """

    __slots__ = ("_at", "_contents", "_last", "_read", "_step")

    def __init__(self) -> None:
        self._last = self._step = 0
        self._at = 0.0
        self._read = range(0)
        self._contents: dict[int, bytes] = {}

    def take(self, version: int) -> bytes | None:
        """Return the content of a version that was read; None: it was not, or is too long."""
        return self._contents.pop(version, None) if self._is_fresh else None

    def seen(self, version: int) -> None:
        """Note that a version was asked for."""
        self._last = version

    def step(self, version: int) -> int:
        """Return how many versions below this one are worth reading with it."""
        if self._is_fresh and version in self._read:  # and not among the contents: it is too long
            return 0
        is_going_down = 0 < self._last - version <= _MOST_AHEAD
        self._step = min(4 * self._step or 4, _MOST_AHEAD) if is_going_down else 0
        return self._step

    def keep(self, rows: list[tuple[int, bytes]], version: int) -> bytes | None:
        """Keep what was read, and return the content of this version."""
        self._contents, self._at = dict(rows), time.monotonic()
        self._read = range(version - self._step, version)
        return self._contents.pop(version, None)

    @property
    def _is_fresh(self) -> bool:
        return time.monotonic() - self._at < _FRESH_SECONDS
