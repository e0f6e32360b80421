"""Decides whether a record is a correct one. Pure: it knows the promises, and nothing of how the store keeps them.

The numbers that a store gives its versions say in which order it claims that things happened. That makes the check simple: each
version is owned by one call; owners must follow one another in real time; and what a reader was told must fit between the
newest version that was certain when it began and the newest one that anyone had begun to write when it ended.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from tests.concurrency.record import APPENDING, NEVER, Event, Record, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator

ALLOWED_ERRORS = {
    "expect": {"VersionConflictError"},
    "get": {"CheckpointNotFoundError"},
    "load": {"CheckpointNotFoundError"},
    "restore": {"CheckpointNotFoundError"},
    "delete": {"CheckpointNotFoundError", "CheckpointError"},
}


def check(record: Record) -> list[str]:
    """Return every way in which a record breaks a promise; nothing: it is a correct one."""
    found = list(record.problems)
    for event in record.events:
        if event.error and event.error not in ALLOWED_ERRORS.get(event.op.kind, set()):
            found += [f"{_name(event)} raised {event.error}: {event.result}"]
    stages = {event.op.stage for event in record.events if event.op.kind not in {"clear all", "rotate"}} | set(record.stored)
    for stage in sorted(stages):
        found += (f"{stage}: {problem}" for problem in _Stage(stage, record).problems())
    return found


def _name(event: Event) -> str:
    return f"{event.op.kind} {event.op.argument} by {event.by}"


class _Stage:
    """What a record says of one stage."""

    def __init__(self, stage: str, record: Record) -> None:
        self._stored = {each.version: each for each in record.stored.get(stage, [])}
        self._listed = [each.version for each in record.stored.get(stage, [])]
        self._writers = record.pids
        self._events = [event for event in record.events if event.op.stage == stage and event.op.kind not in _OF_ALL]
        self._clear_all = [event for event in record.events if event.op.kind == "clear all"]
        self._deletions: defaultdict[int, list[Event]] = defaultdict(list)
        for event in self._events:
            if event.op.kind == "delete" and not event.error:
                self._deletions[event.op.argument].append(event)
        self._unowned: list[str] = []
        self._owners = self._find_owners()
        self._certain = self._find_certain()
        self._begun = self._find_begun()

    def problems(self) -> Iterator[str]:
        yield from self._unowned
        yield from self._numbers()
        yield from self._real_time()
        yield from self._contents()
        for event in self._events:
            if not event.pending:
                yield from (f"{_name(event)} {problem}" for problem in self._answer(event))
        yield from self._back_in_time()

    # Who wrote what

    def _find_owners(self) -> dict[int, Event]:
        owners: dict[int, Event] = {}
        for event in self._events:
            if event.appended is not None:
                if event.appended in owners:
                    self._unowned.append(f"version {event.appended} was acknowledged twice, also to {_name(event)}")
                owners[event.appended] = event
        saves = {event.by: event for event in self._events if event.op.kind in _SAVING}
        used: list[Event] = []
        for version, stored in self._stored.items():
            if version in owners:
                continue
            if stored.status == "completed" and stored.restored_from is None:
                owner = saves.get(stored.by) if stored.by else None
                may = [] if owner is None or owner.error or owner.appended is not None else [owner]
            else:
                may = self._anonymous_owners(stored)
            left = [event for event in may if event not in used]
            if not left:
                self._unowned.append(f"version {version} was written by nobody who may have: {stored}")
                continue
            used.append(left[0])
            times = min(event.invoked for event in may), max(event.returned for event in may)  # it may be any one of them
            owners[version] = replace(left[0], invoked=times[0], returned=times[1])
        return owners

    def _anonymous_owners(self, stored: Stored) -> list[Event]:
        """Find the calls that may have written what nobody was told of: a killed restore or clear, or one of all stages."""
        writers = self._writers.get(stored.pid, set())
        may: list[Event] = []
        for event in [*self._events, *self._clear_all]:
            restored = event.op.kind == "restore" and event.pending and event.op.argument == stored.restored_from
            cleared = event.op.kind in {"clear", "clear all"} and stored.status == "cleared" and stored.restored_from is None
            if event.by[0] in writers and (restored or (cleared and (event.pending or event.op.kind == "clear all"))):
                may.append(event)
        return may

    # What was certain when, and what was possible

    def _find_certain(self) -> tuple[list[float], list[int]]:
        """The newest version that anyone had been told of, as it grew: (times, versions)."""
        told = [(event.returned, version) for event in self._events if (version := self._told(event)) is not None]
        return _growing(told)

    def _find_begun(self) -> tuple[list[float], list[int]]:
        deleted = [(0.0, version) for version in self._deletions if version not in self._owners]  # nobody knows whose
        return _growing([*deleted, *((owner.invoked, version) for version, owner in self._owners.items())])

    def _told(self, event: Event) -> int | None:
        """The version that a call showed to be the newest, or not newer than it."""
        if event.appended is not None:
            return event.appended
        if event.op.kind == "get" and event.result is not None:
            return event.result["version"]  # of a cleared one, the error has it
        if event.op.kind == "history" and event.result and not event.error:
            return max(event.result["versions"], default=None)
        return None

    def _window(self, event: Event) -> tuple[int, int]:
        return _newest_before(self._certain, event.invoked), _newest_before(self._begun, event.returned)

    # The promises

    def _numbers(self) -> Iterator[str]:
        if self._listed != sorted(set(self._listed)):
            yield f"the history is not in order: {self._listed}"
        newest = max(self._listed, default=0)
        for version in range(1, max(newest, *self._owners, 0) + 1):
            if version not in self._stored and not self._deletions[version]:
                owner = self._owners.get(version)
                yield f"version {version} is gone; it was written by {_name(owner) if owner else 'nobody known'}"
        if max(self._owners, default=0) > newest:
            yield f"version {max(self._owners)} was the newest and is gone"
        times = [self._stored[version].created_at for version in self._listed]
        if any(earlier > later for earlier, later in pairwise(times)):
            yield "a version claims to be older than the one before it"

    def _real_time(self) -> Iterator[str]:
        """A returned before B was invoked: A's version is smaller."""
        latest: Event | None = None
        for version in sorted(self._owners):
            owner = self._owners[version]
            if latest is not None and owner.returned < latest.invoked:
                yield f"version {version} of {_name(owner)} had returned before {_name(latest)} began, whose version is smaller"
            if latest is None or owner.invoked > latest.invoked:
                latest = owner

    def _contents(self) -> Iterator[str]:
        for version, owner in self._owners.items():
            stored = self._stored.get(version)
            if stored is None:
                continue
            if owner.op.kind in _SAVING and (stored.by, stored.status, stored.restored_from) != (owner.by, "completed", None):
                yield f"version {version} is not what {_name(owner)} wrote: {stored}"
            if owner.op.kind == "update":
                yield from self._update(version, stored, owner)
            if owner.op.kind == "restore":
                original = self._stored.get(owner.op.argument)
                if stored.restored_from != owner.op.argument:
                    yield f"version {version} of {_name(owner)} says it was restored from {stored.restored_from}"
                if original and (original.digest, original.status) != (stored.digest, stored.status):
                    yield f"version {version} of {_name(owner)} differs from what it restored"
            if owner.op.kind == "clear" and stored.status != "cleared":
                yield f"version {version} of {_name(owner)} is {stored.status}"

    def _update(self, version: int, stored: Stored, owner: Event) -> Iterator[str]:
        before = self._stored.get(version - 1)
        if before is None and version > 1:
            return
        expected = before.by if before is not None and before.status != "cleared" else None
        if stored.saw != expected:
            yield f"version {version} of {_name(owner)} saw {stored.saw}, and the one before it is of {expected}"

    def _answer(self, event: Event) -> Iterator[str]:
        """Check what one call was told against what may have been true while it ran."""
        low, high = self._window(event)
        result = event.result or {}
        match event.op.kind:
            case "expect":
                if event.appended is not None and event.appended != event.op.argument + 1:
                    yield f"got version {event.appended}"
                if event.error and (result["version"] == event.op.argument or not low <= result["version"] <= high):
                    yield f"was told that version {result['version']} is the newest, which lies in {low} to {high}"
            case "get":
                yield from self._newest_read(result["version"], result.get("digest"), low, high)
            case "has":
                if not any(self._completed(version) in {result.get("has"), None} for version in range(low, high + 1)):
                    yield f"said {result.get('has')}, but the newest version lay in {low} to {high}"
            case "history":
                yield from self._history(event, result.get("versions", []), low, high)
            case "load" | "restore" if not event.error:
                stored = self._stored.get(event.op.argument)
                if "digest" in result and stored and stored.digest != result["digest"]:
                    yield "gave other data than was written"
                if event.op.argument > high or self._surely_deleted(event.op.argument, event.invoked):
                    yield "gave a version that can't have been there"
            case "load" | "restore" | "delete" if event.error == "CheckpointNotFoundError":
                if event.op.argument <= low and not self._maybe_deleted(event.op.argument, event):
                    yield f"did not find a version that was there: {result}"
            case "clear" if event.appended is None and not event.error:
                if not any(self._is_cleared(version) for version in range(low, high + 1)):
                    yield f"found nothing to clear, but the newest version lay in {low} to {high}"
            case "delete" if not event.error and event.op.argument in self._stored:
                yield "was acknowledged, and the version is there"

    def _newest_read(self, version: int | None, digest: str | None, low: int, high: int) -> Iterator[str]:
        newest = version or 0
        if not low <= newest <= high:
            yield f"found version {newest}, but the newest lay in {low} to {high}"
        stored = self._stored.get(newest)
        if stored is not None and (digest is None) != (stored.status == "cleared"):
            yield f"found version {newest}, which is {stored.status}, and answered {digest}"
        if stored is not None and digest is not None and digest != stored.digest:
            yield f"found version {newest} with other data than was written"

    def _history(self, event: Event, versions: list[int], low: int, high: int) -> Iterator[str]:
        newest = max(versions, default=0)
        if not low <= newest <= high or versions != sorted(set(versions), reverse=True):
            yield f"showed {versions}, but the newest lay in {low} to {high}"
        for version in set(range(1, newest + 1)) - set(versions):
            if not self._maybe_deleted(version, event):
                yield f"did not show version {version}"
        for version in versions:
            if self._surely_deleted(version, event.invoked):
                yield f"showed version {version}, which was deleted"

    def _back_in_time(self) -> Iterator[str]:
        """Check what each reader was told against what anyone had been told before it began."""
        for event in self._events:
            told = self._told(event)
            before = _newest_before(self._certain, event.invoked)
            if event.op.kind in {"get", "history"} and told is not None and told < before:
                yield f"{_name(event)} showed version {told} after version {before} had been seen"

    # What is known of a version

    def _completed(self, version: int) -> bool | None:
        if version == 0:
            return False
        return self._stored[version].status == "completed" if version in self._stored else None

    def _is_cleared(self, version: int) -> bool:
        return version == 0 or version not in self._stored or self._stored[version].status == "cleared"

    def _surely_deleted(self, version: int, moment: float) -> bool:
        return any(event.returned < moment for event in self._deletions[version])

    def _maybe_deleted(self, version: int, reader: Event) -> bool:
        return any(event.invoked < reader.returned for event in self._deletions[version])


_OF_ALL = {"clear all", "rotate"}
_SAVING = APPENDING - {"restore", "clear"}


def _growing(pairs: list[tuple[float, int]]) -> tuple[list[float], list[int]]:
    ordered = sorted(pair for pair in pairs if pair[0] < NEVER)
    return [moment for moment, _ in ordered], list(accumulate((version for _, version in ordered), max))


def _newest_before(growing: tuple[list[float], list[int]], moment: float) -> int:
    times, versions = growing
    index = bisect_left(times, moment)
    return versions[index - 1] if index else 0
