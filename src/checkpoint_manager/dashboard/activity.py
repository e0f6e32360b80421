"""What was done with this dashboard: logins, refusals, reveals and changes. It is logged, and kept while the process lives.

It names who (a session, by its number), what, and of which stage and version: never data, a key, a token or an address.
Anybody can cause refusals without logging in: these are kept in a list of their own, so that they push out nothing else.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Literal, TypeAlias

from checkpoint_manager._text import escaped, printable

if TYPE_CHECKING:
    from checkpoint_manager.dashboard.auth import Session

Kind: TypeAlias = Literal["login", "refused", "reveal", "change", "upkeep"]
_MOST_KEPT, _MOST_REFUSED = 1000, 100
_MOST_TOLD, _TOLD_WITHIN = 20, timedelta(minutes=1)
"""How many refusals without a session are logged one by one within such a time; the others are counted."""
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
        self._lock = threading.Lock()
        self._events: deque[Event] = deque(maxlen=_MOST_KEPT)
        self._refusals: deque[Event] = deque(maxlen=_MOST_REFUSED)
        self._counted_since = datetime.min.replace(tzinfo=UTC)
        self._counted = 0

    def newest(self) -> list[Event]:
        """Return all that are kept, newest first."""
        with self._lock:
            return sorted([*self._events, *self._refusals], key=attrgetter("at"), reverse=True)

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
        with self._lock:
            number = None if session is None else session.number
            event = Event(datetime.now(UTC), kind, number, what, store, stage, version, reason)
            if kind == "refused" and session is None:
                self._count(event)
            else:
                self._events.appendleft(event)
                _log(event)

    def _count(self, event: Event) -> None:
        """Keep and log a refusal without a session; or only count it, if there were many within a minute."""
        if event.at - self._counted_since >= _TOLD_WITHIN:
            self._counted_since, self._counted = event.at, 0
        self._counted += 1
        more = self._counted - _MOST_TOLD
        if more > 1:
            self._refusals.popleft()
        told = event if more <= 0 else Event(event.at, "refused", None, f"{more} more within a minute, which are not logged")
        self._refusals.appendleft(told)
        if more <= 1:
            _log(
                told if more <= 0 else Event(event.at, "refused", None, "more, which are counted for a minute, and not logged")
            )


def _log(event: Event) -> None:
    who = "" if event.session is None else f" by session {event.session}"
    version = "" if event.version is None else f"@{event.version}"
    of = f": {printable(event.stage)}{version} in store {event.store}" if event.stage else ""
    why = f" ({printable(event.reason)})" if event.reason else ""
    level = logging.WARNING if event.kind == "refused" else logging.INFO
    _LOG.log(level, "%s", escaped(f"{event.kind}{who}: {event.what}{of}{why}"))
