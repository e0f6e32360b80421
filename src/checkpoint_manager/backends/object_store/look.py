"""One look at a stage: what an operation is about to ask of the server, asked all at once.

Each answer is used once, and for a moment. What is asked again, or later, is asked of the server again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager.backends.base import Session

if TYPE_CHECKING:
    from checkpoint_manager.backends.base import Record, RecordName
    from checkpoint_manager.backends.object_store.calls import Pending
    from checkpoint_manager.backends.object_store.lease import Stamped

_FRESH_SECONDS = 1.0


class PendingRecord(NamedTuple):
    """A record that is being read, unless it is still the remembered one."""

    answer: Pending[Stamped]
    remembered: Record | None


class Look(Session):
    """A session on a stage.

    Attributes:
        stage: The stage.
        records: Its records and the keyring, being read.
        newest: Its newest version, being looked for from the last number that is known.
        versions: Versions that are being read, by number.
    """

    __slots__ = ("_began", "newest", "records", "stage", "versions")

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.forget()

    def forget(self) -> None:
        """Forget what was asked: something has changed since."""
        self._began = time.monotonic()
        self.records: dict[RecordName, PendingRecord] = {}
        self.newest: Pending[int] | None = None
        self.versions: dict[int, Pending[Stamped]] = {}

    @property
    def is_fresh(self) -> bool:
        """Whether the answers count as those of now."""
        return time.monotonic() - self._began < _FRESH_SECONDS
