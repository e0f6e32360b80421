"""Looking at everything there is and saying what is wrong with it. Changes nothing, and never raises for what it finds."""

from __future__ import annotations

import contextlib
from itertools import pairwise
from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.gaps import Gaps
from checkpoint_manager._operations import tag
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import FormatError, IntegrityError, RollbackError, StorageError, WrongKeyError
from checkpoint_manager.models import Finding, Progress, State, VerificationReport

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.tags import Tagged
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Stray
    from checkpoint_manager.models import OnProgress

_OTHER_STAGES = 1000
"""How many other stages are tried for a file that does not open where it is."""
_STATE_OF: dict[str, State] = {
    "leftover": "leftover",
    "unknown": "leftover",
    "stale mark": "leftover",
    "exposed": "exposed",
    "displaced": "damaged",
}


def verify(store: Store, stage: str | None, progress: OnProgress | None = None) -> VerificationReport:
    """Return what is wrong with the store, or with one stage of it.

    Args:
        store: The store.
        stage: The stage, or None for all of them and what belongs to none.
        progress: Called after each version.
    """
    if stage is not None:
        counter = _Counter(progress, _count(store, [stage]))
        return VerificationReport((*_stage(store, stage, counter), *_findings_of(store.backend.strays(), stage)))
    strays = store.backend.strays()
    stages = sorted({*store.backend.stages(), *store.last_seen.stages(), *(stray.stage for stray in strays if stray.stage)})
    counter = _Counter(progress, _count(store, stages))
    findings = [*_keyring(store), *_findings_of(strays, None)]
    for name in stages:
        findings += _stage(store, name, counter)
        findings += _findings_of(strays, name)
    return VerificationReport(tuple(findings))


def _count(store: Store, stages: Iterable[str]) -> int:
    total = 0
    for stage in stages:
        with contextlib.suppress(IntegrityError):  # told where the stage is looked at
            total += len(store.backend.versions(stage))
    return total


def _keyring(store: Store) -> Iterable[Finding]:
    try:
        store.keyring.refresh()
    except RollbackError as error:
        yield Finding(None, None, "rolled-back", str(error))
    except (IntegrityError, FormatError, WrongKeyError) as error:
        yield Finding(None, None, "damaged", str(error))
    if store.keyring.unlocked.rotating:
        yield Finding(None, None, "leftover", "a key rotation is not finished: rotate again, and it goes on where it stopped")


def _stage(store: Store, stage: str, counter: _Counter) -> Iterable[Finding]:
    try:
        present = store.backend.versions(stage)
    except IntegrityError as error:
        return [Finding(stage, None, "damaged", str(error))]
    findings: list[Finding] = []
    try:
        gaps = store.gaps(stage)[0]
    except IntegrityError as error:
        findings.append(Finding(stage, None, "damaged", str(error)))
        gaps = Gaps()
    entries: dict[int, Entry] = {}
    for version in present:
        findings.append(_version(store, stage, version, gaps, entries))
        counter.step(stage)
    findings += _missing(stage, present, gaps)
    findings += _breaks_in_the_chain(stage, entries, gaps)
    findings += _rolled_back(store, stage, max(present, default=0), entries)
    findings += _tags(store, stage, entries)
    return sorted(findings, key=lambda finding: finding.version or 0)


def _version(store: Store, stage: str, version: int, gaps: Gaps, entries: dict[int, Entry]) -> Finding:
    if version in gaps:
        return Finding(stage, version, "leftover", "was deleted, and its file is still there")
    try:
        entries[version], _ = store.examine(stage, version)
    except BrokenError as broken:
        return _broken(store, stage, version, broken)
    except (FormatError, IntegrityError) as error:
        return Finding(stage, version, "damaged", str(error))
    except StorageError as error:
        return Finding(stage, version, "unreadable", str(error))
    except VersionAbsentError:
        return Finding(stage, version, "leftover", "was deleted while this was looking")
    return Finding(stage, version, "whole")


def _broken(store: Store, stage: str, version: int, broken: BrokenError) -> Finding:
    if broken.foreign:
        return Finding(stage, version, "foreign", str(broken))
    others = [name for name in store.backend.stages()[:_OTHER_STAGES] if name != stage]
    for other in others:
        if store.belongs_to(stage, version, other):
            return Finding(stage, version, "foreign", f"belongs to stage {other!r}")
    return Finding(stage, version, "damaged", str(broken))


def _missing(stage: str, present: list[int], gaps: Gaps) -> Iterable[Finding]:
    """Report each hole once, however wide: a planted number can make it as wide as it likes."""
    known = sorted([(version, version) for version in present] + [(gap.first, gap.last) for gap in gaps.gaps])
    reached = 0
    for first, last in known:
        if first > reached + 1:
            more = "" if first == reached + 2 else f", and so are those up to {first - 1}"
            yield Finding(stage, reached + 1, "missing", f"is gone without a record of its deletion{more}")
        reached = max(reached, last)


def _breaks_in_the_chain(stage: str, entries: dict[int, Entry], gaps: Gaps) -> Iterable[Finding]:
    """Each version names the id of the one before it; across a gap, the gap's own record does."""
    ids: dict[int, str | None] = {version: entry.id for version, entry in entries.items()}
    ids.update({gap.last: gap.id for gap in gaps.gaps})
    for version, entry in entries.items():
        before = ids.get(version - 1)
        if before is not None and entry.previous is not None and before != entry.previous:
            yield Finding(stage, version, "foreign", f"does not continue version {version - 1}: it is of another history")
    for earlier, later in pairwise(sorted(entries)):
        if entries[later].created_at < entries[earlier].created_at:
            yield Finding(stage, later, "foreign", f"claims to be older than version {earlier} before it")


def _rolled_back(store: Store, stage: str, newest: int, entries: dict[int, Entry]) -> Iterable[Finding]:
    try:
        seen = store.last_seen.recall(stage)
    except StorageError as error:
        yield Finding(stage, None, "unreadable", str(error))
        return
    if seen is None:
        return
    if newest < seen.version:
        detail = f"its newest version is {newest or 'gone'}, and version {seen.version} was already seen"
        yield Finding(stage, seen.version, "rolled-back", detail)
    elif seen.version in entries and entries[seen.version].id != seen.id:
        yield Finding(stage, seen.version, "rolled-back", "is not the one that was already seen")


def _tags(store: Store, stage: str, entries: dict[int, Entry]) -> Iterable[Finding]:
    """Compare the tags with the versions they name. No finding names a version: each of those is judged by itself."""
    try:
        tags, _, turned_back = tag.look(store, stage)
    except IntegrityError as error:
        yield Finding(stage, None, "damaged", str(error))
        return
    except StorageError as error:
        yield Finding(stage, None, "unreadable", str(error))
        return
    if turned_back:
        yield Finding(stage, None, "rolled-back", turned_back)
    for name, tagged in tags.named.items():
        if tagged.version not in entries:
            yield from _without_a_version(store, stage, name, tagged)
        elif entries[tagged.version].id != tagged.id:
            yield Finding(stage, None, "foreign", f"version {tagged.version} is not the one that was tagged {name}")


def _without_a_version(store: Store, stage: str, name: str, tagged: Tagged) -> Iterable[Finding]:
    with contextlib.suppress(IntegrityError, FormatError, StorageError):  # told where the version or the gaps are looked at
        gap = store.gaps(stage)[0].find(tagged.version)
        if gap is None:
            with contextlib.suppress(VersionAbsentError):
                store.entry(stage, tagged.version)
                return  # saved and tagged while this was looking
            detail = "is gone without a record of its deletion, and the tag {} names it"
            yield Finding(stage, None, "missing", f"version {tagged.version} {detail.format(name)}")
        elif gap.reason == "deleted" and tag.look(store, stage)[0].named.get(name) == tagged:  # not taken away meanwhile
            detail = f"was deleted, and the tag {name} names it: the record of tags is older than that"
            yield Finding(stage, None, "rolled-back", f"version {tagged.version} {detail}")


class _Counter:
    def __init__(self, progress: OnProgress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self._done = 0

    def step(self, stage: str) -> None:
        self._done += 1
        if self._progress is not None:
            self._progress(Progress(self._done, max(self._total, self._done), "versions", stage))


def _findings_of(strays: Iterable[Stray], stage: str | None) -> list[Finding]:
    return [Finding(stage, None, _STATE_OF[stray.kind], stray.detail, stray.path) for stray in strays if stray.stage == stage]
