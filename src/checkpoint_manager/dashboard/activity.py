"""What was done with this dashboard: logins, refusals, reveals and changes. It is logged, and kept while the process lives.

It names who (a session, by its number), what, and of which stage and version: never data, a key, a token or an address.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, TypeAlias

from checkpoint_manager._text import escaped, printable

if TYPE_CHECKING:
    from checkpoint_manager.dashboard.auth import Session

Kind: TypeAlias = Literal["login", "refused", "reveal", "change", "upkeep"]
_MOST_KEPT = 1000
_LOG = logging.getLogger("checkpoint_manager.dashboard")


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that was done.

    Attributes:
        at: When.
        kind: What kind of thing.
        session: The number of the session that did it; None if there was none.
        what: What was done, as a clause.
        store: The id of the store concerned, or the empty string.
        stage: The stage concerned, or the empty string.
        version: The version concerned, or None.
        reason: What its user gave as the reason, or the empty string.
    """

    at: datetime
    kind: Kind
    session: int | None
    what: str
    store: str = ""
    stage: str = ""
    version: int | None = None
    reason: str = ""


class Activity:
    """The newest events, newest first."""

    def __init__(self) -> None:
        self._events: deque[Event] = deque(maxlen=_MOST_KEPT)

    def newest(self) -> list[Event]:
        """Return all that are kept, newest first."""
        return list(self._events)

    def note(
        self,
        kind: Kind,
        what: str,
        *,
        session: Session | None = None,
        store: str = "",
        stage: str = "",
        version: int | None = None,
        reason: str = "",
    ) -> None:
        """Keep and log an event."""
        number = None if session is None else session.number
        event = Event(datetime.now(UTC), kind, number, what, store, stage, version, reason)
        self._events.appendleft(event)
        who = "" if number is None else f" by session {number}"
        of = f": {printable(stage)}{'' if version is None else f'@{version}'} in store {store}" if stage else ""
        why = f" ({printable(reason)})" if reason else ""
        _LOG.log(logging.WARNING if kind == "refused" else logging.INFO, "%s", escaped(f"{kind}{who}: {what}{of}{why}"))
