"""Verify a store: read and check everything, and report each fault as a finding, without changing anything.

The work is linear in what the store holds, whatever names are planted in it: each version is read once, and files that do not
open are compared with other stages only up to a limit for the whole check. Of a version, only its id and its finding are kept.
"""

from __future__ import annotations

import contextlib
import functools
import heapq
from collections import Counter, deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import MAX_UNREADABLE, BrokenError
from checkpoint_manager._format.gaps import Gaps
from checkpoint_manager._operations import tag, unused_attachments
from checkpoint_manager._store import attachments
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.backends.maintenance import maintenance_of
from checkpoint_manager.errors import (
    CheckpointNotFoundError,
    FormatError,
    IntegrityError,
    RollbackError,
    StorageError,
    WrongKeyError,
)
from checkpoint_manager.reports import Finding, Progress, State, VerificationReport
from checkpoint_manager.times import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.tags import Tagged
    from checkpoint_manager._store.last_seen import SeenVersion
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.backends.maintenance import Leftover
    from checkpoint_manager.reports import OnProgress

_STATE_OF: dict[str, State] = {
    "leftover": "leftover",
    "unknown": "leftover",
    "stale head": "leftover",
    "exposed": "exposed",
    "displaced": "damaged",
}
_MAX_COMPARISONS = 20_000
"""How many times one run tries a file that does not open as the file of another stage; each try opens the file."""
_pass_over = deque[object](maxlen=0).extend
"""Takes what was read, and keeps none of it."""
MOST_FINDINGS = 1000
"""How many findings of a state a report lists of a stage, and of all unknown stages together in which nothing is whole."""


def verify(store: Store, stage: str | None, progress: OnProgress | None = None, *, quick: bool = False) -> VerificationReport:
    """Return the findings about the store, or about one stage. A finding is never raised as an error.

    Args:
        store: The store.
        stage: The stage, or None for all stages and what belongs to none.
        progress: Called after each version.
        quick: Don't read the attachments: check only that they exist with their right lengths.
    """
    leftovers: dict[str | None, list[Leftover]] = {}
    unreadable: list[Finding] = []
    try:
        for each in maintenance_of(store.backend).leftovers():
            leftovers.setdefault(each.stage, []).append(each)
        named = store.backend.stages()
    except (IntegrityError, StorageError) as error:
        unreadable.append(Finding(None, None, _state_of_error(error), str(error)))
        leftovers, named = {}, []
    check = Check(store, quick=quick)
    check.others = named
    if stage is not None:
        check.count([stage], progress)
        return VerificationReport((*_by_version(check.stage(stage)), *_left(leftovers, stage)))
    seen = {*store.last_seen.stages()}
    stages = sorted({*named, *seen, *(name for name in leftovers if name is not None)})
    check.count(stages, progress)
    findings = [*_keyring(store), *unreadable, *_left(leftovers, None)]
    strangers = Bound()
    for name in stages:
        if name not in seen and strangers.is_full and (planted := _planted_in(store, name)):
            strangers.count("damaged", planted)
            for _ in range(planted):
                check.step(name)
            findings += strangers.apply(_left(leftovers, name))
            continue
        found = [*_by_version(check.stage(name)), *_left(leftovers, name)]
        is_known = name in seen or any(each.state == "whole" for each in found)
        findings += found if is_known else strangers.apply(found)
    return VerificationReport((*findings, *strangers.rest(None)))


def is_strange(store: Store, stage: str, session: Session) -> bool:
    """Return whether a stage has versions, and neither one of them nor a record opens."""
    if not store.backend.versions(stage, session=session) or store.history.is_authentic(stage, session):
        return False
    for record in (store.found_gaps, functools.partial(tag.stored, store)):
        with contextlib.suppress(IntegrityError):
            if record(stage, session)[1] is not None:
                return False
    return True


def _planted_in(store: Store, stage: str) -> int:
    """Return how many versions a stage has, if nothing in it opens; 0 if something does, or it can't be told."""
    try:
        with store.backend.session(stage) as session:
            return len(store.backend.versions(stage, session=session)) if is_strange(store, stage, session) else 0
    except (IntegrityError, StorageError):  # reported where the stage is checked
        return 0


class Bound:
    """A bound on the findings that planted files cause: what goes beyond it is counted, state by state.

    Findings of whole versions are not bounded.
    """

    def __init__(self) -> None:
        self._found: Counter[State] = Counter()

    def apply(self, findings: Iterable[Finding]) -> Iterator[Finding]:
        """Yield the first findings of each state."""
        for finding in findings:
            self._found[finding.state] += 1
            if finding.state == "whole" or self._found[finding.state] <= MOST_FINDINGS:
                yield finding

    @property
    def is_full(self) -> bool:
        """Whether no more damaged versions are listed."""
        return self._found["damaged"] > MOST_FINDINGS

    def count(self, state: State, more: int) -> None:
        """Count findings of a state that were not made."""
        self._found[state] += more

    def rest(self, stage: str | None) -> Iterator[Finding]:
        """Yield how many more there were."""
        for state, count in self._found.items():
            if state != "whole" and count > MOST_FINDINGS:
                yield Finding(stage, None, state, f"is found {count - MOST_FINDINGS} times more, and not listed")


class Check:
    """The state of one run over some or all stages of a store: what is left to compare, and its progress."""

    def __init__(self, store: Store, *, quick: bool = False) -> None:
        self.store = store
        self.quick = quick
        self.now = datetime.now(UTC)
        self.comparisons = _MAX_COMPARISONS
        self._progress: OnProgress | None = None
        self._done = 0
        self._total = 0

    @functools.cached_property
    def others(self) -> list[str]:
        """The stages that a file may belong to which does not open where it is."""
        return self.store.backend.stages()

    def count(self, stages: Iterable[str], progress: OnProgress | None) -> None:
        """Report progress of these stages from now on."""
        self._progress = progress
        if progress is not None:
            for stage in stages:
                with contextlib.suppress(IntegrityError, StorageError):  # reported where the stage is checked
                    self._total += len(self.store.backend.versions(stage))

    def stage(self, stage: str) -> Iterator[Finding]:
        """Yield the findings about one stage, in no particular order."""
        return _stage(self, stage)

    def step(self, stage: str) -> None:
        """Report one more version."""
        self._done += 1
        if self._progress is not None:
            self._progress(Progress(self._done, max(self._total, self._done), "versions", stage))


def _by_version(findings: Iterable[Finding]) -> list[Finding]:
    """Return the findings about one stage in order, with a bound on those that planted files cause."""
    bound = Bound()
    found = sorted(bound.apply(findings), key=_version_of)
    return [*found, *bound.rest(found[0].stage if found else None)]


def _version_of(finding: Finding) -> int:
    return finding.version or 0


def _left(leftovers: dict[str | None, list[Leftover]], stage: str | None) -> Iterator[Finding]:
    for each in leftovers.get(stage, ()):
        yield Finding(stage, None, _STATE_OF[each.kind], each.detail, each.path)


def _keyring(store: Store) -> Iterator[Finding]:
    try:
        store.keyring.refresh()
    except RollbackError as error:
        yield Finding(None, None, "rolled-back", str(error))
    except (IntegrityError, FormatError, WrongKeyError) as error:
        yield Finding(None, None, "damaged", str(error))
    except StorageError as error:
        yield Finding(None, None, "unreadable", str(error))
    if store.keyring.unlocked.rotating:
        detail = "a key rotation is not finished: until it is rotated again, the key that was to be given up opens and signs"
        yield Finding(None, None, "unfinished", detail)


def _stage(check: Check, stage: str) -> Iterator[Finding]:
    store, seen = check.store, None
    try:
        seen = store.last_seen.recall(stage)  # before the store is looked at
    except StorageError as error:
        yield Finding(stage, None, "unreadable", str(error))
    try:
        with store.backend.session(stage) as session:
            yield from _in_session(check, stage, seen, session)
    except (IntegrityError, StorageError) as error:
        yield Finding(stage, None, _state_of_error(error), str(error))


def _in_session(check: Check, stage: str, seen: SeenVersion | None, session: Session) -> Iterator[Finding]:
    store = check.store
    present = store.backend.versions(stage, session=session)
    newest = max(present, default=0)
    only_copy = store.only_copy(stage, store.backend.newest(stage, exact=True, session=session).number)
    if only_copy is not None:
        newest = only_copy
        detail = "is gone from the history; one copy is left, from which it is put back when the stage is used"
        yield Finding(stage, only_copy, "leftover", detail)
    gaps = Gaps()
    try:
        gaps = store.gaps(stage, session)[0]
    except RollbackError as error:
        yield Finding(stage, None, "rolled-back", str(error))
        gaps = store.found_gaps(stage, session)[0]
    except (IntegrityError, FormatError, StorageError) as error:
        yield Finding(stage, None, _state_of_error(error), str(error))
    last = gaps.last
    if last is not None and last.last >= newest and last.reason != "lost":  # or a newer one was saved since the listing
        newest = max(newest, store.backend.newest(stage, exact=True, session=session).number)
    if last is not None and last.last >= newest and last.reason != "lost":
        detail = f"was {last.reason} below a newer version, and the newest one is {newest or 'gone'}"
        yield Finding(stage, last.last, "rolled-back", detail)
    chain = _Chain(check.now, stage, gaps, 0 if seen is None else seen.version)
    read: set[str] = set()
    is_broken = False
    for version in present:
        finding, entry = _version(check, stage, version, gaps, session)
        is_broken = is_broken or finding.state in {"damaged", "foreign"}
        yield finding
        if entry is not None:
            yield from chain.add(version, entry)
            yield from _attachments(check, stage, version, entry, read)
        check.step(stage)
    if chain.ids or not is_broken:  # else nothing tells what the attachments belong to
        yield from _unused_attachments(store, stage)
    yield from _missing(stage, present, gaps)
    if seen is not None:
        yield from _rolled_back(stage, newest, seen, chain.ids)
    yield from _tags(store, stage, chain.ids, session)


def _state_of_error(error: Exception) -> State:
    if isinstance(error, FormatError) or (isinstance(error, IntegrityError) and error.is_newer):
        return "newer"
    return "unreadable" if isinstance(error, StorageError) else "damaged"


def _version(check: Check, stage: str, version: int, gaps: Gaps, session: Session) -> tuple[Finding, Entry | None]:
    """Return what a version is like, and its entry if it is whole."""
    if version in gaps:
        return Finding(stage, version, "leftover", "was deleted, and its file is still there"), None
    try:
        entry = check.store.examine(stage, version, session).entry
    except BrokenError as broken:
        return _broken(check, stage, version, broken, session), None
    except (FormatError, IntegrityError, StorageError) as error:
        return Finding(stage, version, _state_of_error(error), str(error)), None
    except VersionAbsentError:
        return Finding(stage, version, "leftover", "was deleted during the check"), None
    return Finding(stage, version, "whole"), entry


def _attachments(check: Check, stage: str, version: int, entry: Entry, seen: set[str]) -> Iterator[Finding]:
    """Read each attachment of a version once, and report what is wrong with it; its version is whole all the same."""
    for record in entry.attachments:
        if record.id not in seen:
            seen.add(record.id)
            try:
                if check.quick:
                    attachments.check_there(check.store, stage, [record])
                else:
                    for index in range(len(record.digests)):
                        attachments.read_segment_into(check.store, stage, version, record, index, _pass_over)
            except (CheckpointNotFoundError, IntegrityError) as error:
                if attachments.was_deleted(check.store, stage, version):
                    seen.discard(record.id)  # a version above may refer to it as well
                    return
                yield Finding(stage, None, "incomplete", str(error))
            except StorageError as error:
                yield Finding(stage, None, "unreadable", str(error))


def _unused_attachments(store: Store, stage: str) -> Iterator[Finding]:
    with contextlib.suppress(IntegrityError, RollbackError, StorageError):  # reported with the versions or the gaps
        for each in unused_attachments.find(store, stage):
            detail = f"no version refers to the attachment {each}: an interrupted save left it, or it is being written"
            yield Finding(stage, None, "leftover", detail)


def _broken(check: Check, stage: str, version: int, broken: BrokenError, session: Session) -> Finding:
    if broken.foreign:
        return Finding(stage, version, "foreign", str(broken))
    for other in check.others if _may_open(check.store, stage, version, session) else ():
        if check.comparisons == 0:
            break
        if other != stage:
            check.comparisons -= 1
            if check.store.belongs_to(stage, version, other):
                return Finding(stage, version, "foreign", f"belongs to stage {printable(other)}")
    return Finding(stage, version, "damaged", str(broken))


def _may_open(store: Store, stage: str, version: int, session: Session) -> bool:
    """Return whether a version names a key that the keyring has: only then may it open in another place."""
    try:
        return store.keyring.key(store.key_of(stage, version, session)) is not None
    except (IntegrityError, VersionAbsentError):
        return False


class _Chain:
    """The versions of one stage so far, in ascending order.

    Attributes:
        ids: The id of each version.
    """

    def __init__(self, now: datetime, stage: str, gaps: Gaps, seen: int) -> None:
        self.ids: dict[int, str] = {}
        self._seen = seen
        self._now = now
        self._stage = stage
        self._gaps = gaps
        self._earlier: deque[str | None] = deque(maxlen=MAX_UNREADABLE)
        self._before: tuple[int, datetime] | None = None

    def add(self, version: int, entry: Entry) -> Iterator[Finding]:
        """Add a version, and yield what is wrong with its place in the history."""
        if not self._continues(version, entry.previous):
            if version <= self._seen and version - 1 in self.ids:  # what leads to the version that was seen is genuine
                yield Finding(
                    self._stage, version - 1, "foreign", f"is of another history: version {version} does not continue it"
                )
            else:
                yield Finding(
                    self._stage, version, "foreign", f"is of another history: it does not continue version {version - 1}"
                )
        if entry.created_at > self._now + CLOCK_TOLERANCE:
            yield Finding(self._stage, version, "clock", "is dated in the future: a clock was wrong")
        elif self._before is not None and entry.created_at < self._before[1]:
            detail = f"is dated before version {self._before[0]}: a clock was wrong at one of them"
            yield Finding(self._stage, version, "clock", detail)
        self.ids[version] = entry.id
        self._earlier.append(entry.id)
        self._before = (version, entry.created_at)

    def _continues(self, version: int, previous: str | None) -> bool:
        """Return whether a version names the one before it, or an earlier one; True if that is unknown."""
        gap = self._gaps.find(version - 1)
        before = self.ids.get(version - 1) if gap is None else gap.id
        return before is None or previous is None or previous == before or previous in self._earlier


def _missing(stage: str, present: list[int], gaps: Gaps) -> Iterator[Finding]:
    """Report each missing range once, because a planted number can make a range arbitrarily wide."""
    versions, deleted = ((version, version) for version in present), ((gap.first, gap.last) for gap in gaps)
    reached = 0
    for first, last in heapq.merge(versions, deleted):
        if first > reached + 1:
            more = "" if first == reached + 2 else f", and so are those up to {first - 1}"
            yield Finding(stage, reached + 1, "missing", f"is gone without a record of its deletion{more}")
        reached = max(reached, last)


def _rolled_back(stage: str, newest: int, seen: SeenVersion, ids: dict[int, str]) -> Iterator[Finding]:
    if newest < seen.version:
        detail = f"its newest version is {newest or 'gone'}, and version {seen.version} was already seen"
        yield Finding(stage, seen.version, "rolled-back", detail)
    elif seen.version in ids and ids[seen.version] != seen.id:
        yield Finding(stage, seen.version, "rolled-back", "is not the one that was already seen")


def _tags(store: Store, stage: str, ids: dict[int, str], session: Session) -> Iterator[Finding]:
    """Compare the tags with the versions they name. These findings name no version: each version has a finding of its own."""
    try:
        tags, _, turned_back = tag.look(store, stage, session)
    except (IntegrityError, FormatError, StorageError) as error:
        yield Finding(stage, None, _state_of_error(error), str(error))
        return
    if turned_back:
        yield Finding(stage, None, "rolled-back", turned_back)
    for name, tagged in tags.named.items():
        if tagged.version not in ids:
            yield from _without_a_version(store, stage, name, tagged)
        elif ids[tagged.version] != tagged.id:
            yield Finding(stage, None, "foreign", f"version {tagged.version} is not the one that was tagged {name}")


def _without_a_version(store: Store, stage: str, name: str, tagged: Tagged) -> Iterator[Finding]:
    with contextlib.suppress(IntegrityError, FormatError, StorageError):  # reported with the version or the gaps
        gap = store.gaps(stage)[0].find(tagged.version)
        if gap is None:
            with contextlib.suppress(VersionAbsentError):
                store.entry(stage, tagged.version)
                return  # saved and tagged during the check
            detail = f"is gone without a record of its deletion, and the tag {name} names it"
            yield Finding(stage, None, "missing", f"version {tagged.version} {detail}")
        elif gap.reason == "deleted" and tag.look(store, stage)[0].named.get(name) == tagged:  # not removed meanwhile
            detail = f"was deleted, and the tag {name} names it: the record of tags is older than that"
            yield Finding(stage, None, "rolled-back", f"version {tagged.version} {detail}")
