"""One look at a stage: what an operation is about to ask of the server, asked all at once.

Each answer is used once, and for a moment. What is asked again, or later, is asked of the server again.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager.backends.base import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager.backends.base import Record, RecordName
    from checkpoint_manager.backends.object_store.calls import Pending
    from checkpoint_manager.backends.object_store.objects import Stamped

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
        trusts_memory: What this process remembers is the answer, until a version was appended.
    """

    __slots__ = ("_ask", "_began", "newest", "records", "stage", "trusts_memory", "versions")

    def __init__(self, stage: str, ask: Callable[[Look], None] | None) -> None:
        self.stage = stage
        self.forget(ask)

    def forget(self, ask: Callable[[Look], None] | None = None) -> None:
        """Forget what was asked, and what is remembered: something has changed since.

        Args:
            ask: Asks for everything, at the first question; None: each question is asked for itself.
        """
        self._ask = ask
        self._began = time.monotonic()
        self.trusts_memory = False
        self.records: dict[RecordName, PendingRecord] = {}
        self.newest: Pending[int] | None = None
        self.versions: dict[int, Pending[Stamped]] = {}

    def only_append(self) -> None:
        """Answer from memory."""
        self.trusts_memory = True

    def begin(self) -> None:
        """Ask for everything, unless that was done."""
        ask, self._ask = self._ask, None
        if ask is not None:
            ask(self)

    @property
    def is_fresh(self) -> bool:
        """Whether the answers count as those of now."""
        return time.monotonic() - self._began < _FRESH_SECONDS
