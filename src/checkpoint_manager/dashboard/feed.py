"""What happened, newest first, a part at a time: what was done in the dashboard, and what the stores hold.

A store adds its versions, and the reasons that it keeps for tags and deletions. The newest version of each stage is known; an
older one is read when everything newer was shown. A version is never shown as newer than the version after it, because a clock
may have been wrong. A part begins where the one before it ended, whatever was saved meanwhile.
"""

from __future__ import annotations

import heapq
import itertools
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from checkpoint_manager._format.notes import read_run
from checkpoint_manager.dashboard.cell import shown_state
from checkpoint_manager.dashboard.filters import count, plural
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from checkpoint_manager import Reason, Version
    from checkpoint_manager.dashboard.activity import Event
    from checkpoint_manager.dashboard.stores import ShownStore

SECONDS = 0.12
"""How long older versions are read for a part. What was found by then is shown, and the next part goes on from there."""
_CHUNK = 16
"""How many versions of a stage are read at once."""
_FOLDED = 4
"""If one run saved this many stages or more, they are shown as one row."""

_Order: TypeAlias = "tuple[float, str, str, int]"


class Place(NamedTuple):
    """Where something stands in the feed: by its time, and at the same time by store, stage and version."""

    at: datetime
    store: str = ""
    stage: str = ""
    version: int = 0

    @property
    def order(self) -> _Order:
        """What sorts the feed."""
        return -self.at.timestamp(), self.store, self.stage, -self.version


START = Place(datetime(9999, 1, 1, tzinfo=UTC))


class Row(NamedTuple):
    """One thing that happened. Rows with an equal ``run`` may be shown as one; ``stages`` are the stages of all of them."""

    place: Place
    kind: str
    what: str
    who: str = ""
    reason: str = ""
    run: tuple[str, ...] = ()
    stages: Sequence[str] = ()


class Part(NamedTuple):
    """A part of the feed.

    Attributes:
        rows: What happened.
        end: Where the next part begins; None if there is none.
        is_cut: Whether the time was too short to find anything.
    """

    rows: list[Row]
    end: Place | None = None
    is_cut: bool = False


class _OutOfTimeError(Exception):
    """What follows in the feed can't be found in time."""


def part(stores: Sequence[ShownStore], events: Sequence[Event], kind: str, start: Place, most: int) -> Part:
    """Return what happened before a place.

    Args:
        stores: The stores. What is known of their stages is not looked at again.
        events: What was done in the dashboard.
        kind: What kind of thing; empty: any.
        start: The place.
        most: How many things to return at most.
    """
    until = time.monotonic() + SECONDS
    known = [_of_event(event) for event in events]
    told = {(event.store, event.stage, event.reason) for event in events if event.reason}
    for store in stores:
        known += [
            _of_reason(store, stage, reason)
            for stage, reasons in store.reasons.items()
            for reason in reasons
            if not {(store.id, stage, reason.text), (store.id, "", reason.text)} & told
        ]
    wanted = [row for row in known if kind in {"", row.kind} and row.place.order > start.order]
    sources: list[Iterable[Row]] = [sorted(wanted, key=_order)]
    if kind in {"", "saved"}:
        sources += [_versions(store, start, until) for store in stores]
    rows, is_cut = list[Row](), False
    try:
        rows.extend(itertools.islice(heapq.merge(*sources, key=_order), most + 1))
    except _OutOfTimeError:
        is_cut = True
    is_more = len(rows) > most or is_cut
    del rows[most:]
    return Part(_folded(rows), rows[-1].place if rows and is_more else None, is_cut and not rows)


def _order(row: Row) -> _Order:
    return row.place.order


def _of_event(event: Event) -> Row:
    who = "" if event.session is None else f"session {event.session}"
    place = Place(event.at, event.store, event.stage, event.version or 0)
    return Row(place, event.kind, event.what, who, event.reason)


def _of_reason(store: ShownStore, stage: str, reason: Reason) -> Row:
    version = 0 if reason.action == "deleted" else reason.first
    return Row(Place(reason.at, store.id, stage, version), "change", what_was_done(reason), reason.by, reason.text)


def what_was_done(reason: Reason) -> str:
    """Return what was done for a reason, such as "deleted version 3"."""
    if reason.action == "deleted":
        if reason.versions == 1:
            return f"deleted version {reason.first}"
        is_gapless = reason.versions == reason.last - reason.first + 1
        return f"deleted {'' if is_gapless else f'{count(reason.versions)} of the '}versions {reason.first} to {reason.last}"
    return f"{'tagged as' if reason.action == 'tagged' else 'removed the tag'} {reason.tag}"


def _versions(store: ShownStore, start: Place, until: float) -> Iterator[Row]:
    """Yield the versions of a store before a place, newest first."""
    waiting: list[tuple[_Order, Place, Version]] = []
    for cell in store.known():
        if cell.version is None or cell.version.created_at is None:
            continue
        place = Place(cell.version.created_at, store.id, cell.stage, cell.version.number)
        if place.order > start.order:
            waiting.append((place.order, place, cell.version))
        elif place.version > 1:
            below = start if start[1:3] == place[1:3] and start.version else place
            waiting += _next(store, below, start, until)
    heapq.heapify(waiting)
    while waiting:
        _, place, version = heapq.heappop(waiting)
        yield _of_version(place, version)
        for each in _next(store, place, start, until):
            heapq.heappush(waiting, each)


def _next(store: ShownStore, place: Place, start: Place, until: float) -> list[tuple[_Order, Place, Version]]:
    """Return the newest version of a stage that is below a version and older than the start; empty if there is none.

    Raises:
        _OutOfTimeError: It is not found in time.
    """
    at = place.at
    try:
        for version in store.older(place.stage, place.version, _CHUNK):
            if time.monotonic() > until:
                raise _OutOfTimeError
            at = min(at, version.created_at or at)
            found = Place(at, place.store, place.stage, version.number)
            if found.order > start.order:
                return [(found.order, found, version)]
    except CheckpointError:  # told where its versions are
        pass
    return []


def _of_version(place: Place, version: Version) -> Row:
    run = read_run(version.metadata)
    who = "" if version.origin is None else f"{version.origin.user}@{version.origin.host}"
    state, reason = shown_state(version), str(version.metadata.get("reason", ""))
    what_is_shared = (f"{place.at:%Y-%m-%d}" if run is None else run.id, state, who, reason, place.store)
    what = f"version {version.number}: {state}"
    return Row(place, "saved", what, who, reason, what_is_shared if state == "done" else ())


def _folded(rows: list[Row]) -> list[Row]:
    """Return rows with one in place of those for many stages of the same run or, without one, day."""
    runs: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        runs.setdefault(row.run, []).append(row)
    folded: list[Row] = []
    for row in rows:
        same = runs[row.run] if row.run else [row]
        stages = sorted({each.place.stage for each in same})
        if len(stages) < _FOLDED:
            folded.append(row)
        elif row is same[0]:
            place = Place(row.place.at, row.place.store)
            folded.append(row._replace(place=place, what=f"{plural(len(stages), 'stage')} done", stages=stages))
    return folded
