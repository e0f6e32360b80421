"""Putting a store in order without destroying evidence: damaged files are moved aside, never deleted."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._format.gaps import Gaps
from checkpoint_manager._operations import delete, tag
from checkpoint_manager._operations.save import Draft, append
from checkpoint_manager._operations.verify import verify
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.models import Finding, RepairStep, display

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Stray

_LOG = logging.getLogger("checkpoint_manager")
_NOT_BROKEN = {"whole", "unreadable"}
_AFTER_DAMAGE = Draft(b"null", {"repair": "the version before this one was damaged and put aside"}, "failed")


def repair(store: Store, *, dry_run: bool) -> list[RepairStep]:
    """Repair the store and return what was done, or with ``dry_run`` what would be.

    * What can't be read at this moment is left alone, whatever is wrong with it.
    * A damaged or foreign version is moved to the folder ``damaged``, and the record of gaps says so. If it was the
      newest, a ``failed`` version is appended first: its number is not used again, and no older version becomes the newest
      without a word. Its tags stay, and lead to an error that says so.
    * A damaged record of deletions or tags is moved there, too. What it said is lost: that deleted versions are missing, or
      that the tags are gone, stays as ``verify`` reports it.
    * The mark of each stage's newest version is set again where it is missing or wrong; after a killed acceptance of a
      rollback, the next save does that (see :meth:`Store.mark`).
    * What interrupted operations left behind is removed.

    Missing versions can't be brought back, and a rollback is for its user to judge: both stay as ``verify`` reports them.
    """
    done: list[RepairStep] = []
    left_over = {stray.stage or "" for stray in store.backend.strays() if stray.kind == "leftover"} - {""}
    for stage in sorted(left_over.union(store.backend.stages())):
        with store.lock(stage):
            done += _stage(store, stage, dry_run=dry_run)
    with store.backend.lock(None, store.lock_timeout):
        done += _strays(store, None, dry_run=dry_run)
    return done


def _stage(store: Store, stage: str, *, dry_run: bool) -> Iterator[RepairStep]:
    yield from _gaps(store, stage, dry_run=dry_run)
    yield from _tags(store, stage, dry_run=dry_run)
    findings = [finding for finding in verify(store, stage).findings if finding.version is not None]
    yield from _damaged(store, stage, findings, dry_run=dry_run)
    yield from _gone_but_there(store, stage, findings, dry_run=dry_run)
    yield from _strays(store, stage, dry_run=dry_run)


def _gaps(store: Store, stage: str, *, dry_run: bool) -> Iterator[RepairStep]:
    try:
        store.gaps(stage)
    except IntegrityError as error:
        where = "" if dry_run else f"; now {store.backend.set_aside(stage, 'gaps')}"
        yield RepairStep("set-aside", stage, None, f"{error}{where}")


def _tags(store: Store, stage: str, *, dry_run: bool) -> Iterator[RepairStep]:
    try:
        tag.stored(store, stage)
    except IntegrityError as error:
        where = "" if dry_run else f"; now {store.backend.set_aside(stage, 'tags')}"
        yield RepairStep("set-aside", stage, None, f"{error}{where}")


def _damaged(store: Store, stage: str, findings: list[Finding], *, dry_run: bool) -> Iterator[RepairStep]:
    broken = {f.version: f for f in findings if f.state in {"damaged", "foreign"} and f.version is not None}
    planted = _planted(store, stage, findings)
    real = [version for version in broken if version not in planted]
    for version in planted:
        yield _set_aside(store, stage, version, broken[version].detail, dry_run=dry_run)
    if real and max(real) > max((f.version for f in findings if f.state in _NOT_BROKEN and f.version), default=0):
        if not dry_run:
            append(store, stage, store.history.tip(stage), _AFTER_DAMAGE)
        yield RepairStep(
            "append", stage, max(real) + 1, "a failed version: the newest one was damaged, the stage is to be run again"
        )
    if real and not dry_run:
        delete.record(store, stage, real, "set aside")
    for version in real:
        yield _set_aside(store, stage, version, broken[version].detail, dry_run=dry_run)


def _planted(store: Store, stage: str, findings: list[Finding]) -> list[int]:
    """Return the broken versions whose numbers were never given out: beyond a hole, and beyond all that was seen."""
    seen = store.last_seen.recall(stage)
    hole = next((f.version for f in reversed(findings) if f.state == "missing" and f.version), None)
    if hole is None:
        return []
    above = max(hole, seen.version if seen else 0)
    beyond = [f for f in findings if f.version is not None and f.version > above]
    return [] if any(f.state in _NOT_BROKEN for f in beyond) else [f.version for f in beyond if f.version]


def _gone_but_there(store: Store, stage: str, findings: list[Finding], *, dry_run: bool) -> Iterator[RepairStep]:
    """Finish what was killed between the record of a gap and the removal of its files."""
    leftovers = [f.version for f in findings if f.state == "leftover" and f.version is not None]
    gaps = store.gaps(stage)[0] if leftovers else Gaps()
    for version in leftovers:
        gap = gaps.find(version)
        if gap is not None and gap.reason == "deleted":
            if not dry_run:
                store.backend.delete(stage, [version])
            yield RepairStep("remove", stage, version, "the file of a version that was deleted")
        elif gap is not None:
            yield _set_aside(store, stage, version, f"was {gap.reason}, and its file is still there", dry_run=dry_run)


def _set_aside(store: Store, stage: str, version: int, why: str, *, dry_run: bool) -> RepairStep:
    where = ""
    if not dry_run:
        where = f"; now {store.backend.set_aside(stage, version)}"
        _LOG.warning("Put aside: version %d of stage %s%s", version, display(stage), where)
    return RepairStep("set-aside", stage, version, f"{why}{where}")


def _strays(store: Store, stage: str | None, *, dry_run: bool) -> Iterator[RepairStep]:
    for stray in store.backend.strays():
        if stray.stage == stage:
            yield from _stray(store, stray, dry_run=dry_run)


def _stray(store: Store, stray: Stray, *, dry_run: bool) -> Iterator[RepairStep]:
    if stray.kind == "leftover":
        if dry_run or store.backend.sweep(stray):
            yield RepairStep("remove", stray.stage, None, f"{stray.path} {stray.detail}")
    elif stray.kind == "stale mark" and stray.stage is not None:
        newest = store.backend.newest(stray.stage)
        if dry_run or store.mark(stray.stage, newest):
            yield RepairStep("rebuild-head", stray.stage, newest, f"{stray.path} {stray.detail}")
