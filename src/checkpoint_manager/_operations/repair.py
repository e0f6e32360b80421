"""Repair a store. Damaged files are set aside, never deleted, so that they remain as evidence."""

from __future__ import annotations

import contextlib
import errno
import logging
from typing import TYPE_CHECKING

from checkpoint_manager._format.gaps import Gaps
from checkpoint_manager._lazy_log import MOST_LOGGED
from checkpoint_manager._operations import delete, tag, unused_attachments
from checkpoint_manager._operations.save import Draft, append
from checkpoint_manager._operations.verify import Check, is_strange
from checkpoint_manager._store.waits import Waits
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import RecordChangedError
from checkpoint_manager.backends.maintenance import maintenance_of
from checkpoint_manager.errors import IntegrityError, RollbackError, StorageError
from checkpoint_manager.reports import Finding, RepairStep

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session, StageRecord
    from checkpoint_manager.backends.maintenance import Leftover

_LOG = logging.getLogger("checkpoint_manager")
_BROKEN = {"damaged", "foreign"}
_GONE = "; gone by now"
_NOT_BROKEN = {"whole", "unreadable", "newer"}
_MOST_MARKED = 1000
"""How many unknown stages in which nothing opens get a delete marker, which keeps their numbers from being used again."""
_AFTER_DAMAGE = Draft(b"null", {"repair": "the version before this one was damaged and set aside"}, "failed")


def repair(store: Store, *, dry_run: bool) -> list[RepairStep]:
    """Repair the store and return the steps; with ``dry_run``, only return them.

    * A file that can't be read at the moment, or that a newer version of the library wrote, is left alone; and so is a stage
      that this user may not read or change, with a warning in the log.
    * A damaged or foreign version is moved to the folder ``damaged`` and entered in the record of gaps. If it was the newest, a
      ``failed`` version is appended first, so that its number is not reused and no older version silently becomes the newest.
      Its tags stay, and using them raises an error that names the reason.
    * A damaged record of deletions or tags is moved there, too. Its content is lost, so ``verify`` will go on reporting deleted
      versions or tags as missing.
    * The head of a stage is rebuilt if it is missing or wrong.
    * Leftovers of interrupted operations are removed, attachments that no version refers to among them.
    * Unknown stages in which nothing opens are repaired like this up to ``_MOST_MARKED``. Beyond that, they are planted, and
      their whole folders are moved to ``damaged``.

    Missing versions can't be recovered, only the user can judge a rollback, and what stands in the place of a stage's folder is
    not the store's; ``verify`` goes on reporting all three. The versions of a stage that was rolled back are left alone, with a
    warning in the log.
    """
    maintenance, check, waits = maintenance_of(store.backend), Check(store), Waits(store)
    leftovers: dict[str | None, list[Leftover]] = {}
    for leftover in maintenance.leftovers():
        leftovers.setdefault(leftover.stage, []).append(leftover)
    # What stands in the place of a stage's folder is not ours, and there is no stage to lock: it is left to the user.
    displaced = {name for name, found in leftovers.items() if any(each.kind == "displaced" for each in found)}
    touched = {name for name in leftovers if name is not None}
    known = {*store.last_seen.stages()}
    done: list[RepairStep] = []
    strange = 0
    for stage in sorted({*store.backend.stages(), *touched}.difference(displaced)):
        # A dry run takes no lock, because taking one removes the leftovers of killed writers.
        try:
            with (
                contextlib.nullcontext() if dry_run else waits.lock(stage) as lock,
                store.backend.session(stage) if dry_run else waits.session(stage, lock) as session,
            ):
                if stage not in known and maintenance.moves_stages and is_strange(store, stage, session):
                    strange += 1
                    if strange > _MOST_MARKED:
                        if not dry_run:
                            maintenance.quarantine_stage(stage)
                        continue
                done += _stage(check, stage, leftovers.get(stage, ()), session, dry_run=dry_run)
        except (IntegrityError, RollbackError, StorageError) as error:
            if not _leaves_others(error):
                raise
            _LOG.warning("Not repaired: %s", error)
    if strange > _MOST_MARKED:
        where = "" if dry_run else ", now in the folder damaged"
        done.append(RepairStep("set-aside", None, None, f"{strange - _MOST_MARKED} more folders in which nothing opens{where}"))
    store_lock = contextlib.nullcontext() if dry_run else store.backend.lock(None, waits.left)
    with store_lock as lock, store.backend.session(None, lock):
        done += _leftovers(store, leftovers.get(None, ()), dry_run=dry_run)
    return done


def _leaves_others(error: IntegrityError | RollbackError | StorageError) -> bool:
    """Return whether an error about one stage is left to the user, and the others are repaired."""
    if isinstance(error, StorageError):
        return error.errno in {errno.EACCES, errno.EPERM}
    return isinstance(error, RollbackError) or error.is_newer


def _stage(check: Check, stage: str, leftovers: Iterable[Leftover], session: Session, *, dry_run: bool) -> Iterator[RepairStep]:
    store = check.store
    newest = store.backend.newest(stage, exact=True, session=session).number
    version = store.only_copy(stage, newest)
    if version is not None:
        if not dry_run:
            store.history.take_back(stage, newest, None)
        yield RepairStep("put-back", stage, version, "it was gone from the history, and one copy was left")
    yield from _records(store, stage, session, dry_run=dry_run)
    found = [*check.stage(stage)]
    is_whole = all(each.state == "whole" for each in found)
    if not is_whole:
        findings = sorted((each for each in found if each.version is not None), key=lambda each: each.version or 0)
        yield from _damaged(store, stage, findings, dry_run=dry_run)
        yield from _gone_but_there(store, stage, findings, dry_run=dry_run)
    yield from _leftovers(store, leftovers, dry_run=dry_run)
    if not is_whole:
        yield from _attachments(store, stage, dry_run=dry_run)


def _attachments(store: Store, stage: str, *, dry_run: bool) -> Iterator[RepairStep]:
    """Remove the attachments that no version refers to, but for those that are being written."""
    # The record of deletions was rolled back, which only the user can judge, or is damaged, and a dry run leaves it there.
    with contextlib.suppress(IntegrityError, RollbackError):
        unused = unused_attachments.find(store, stage)
        for each in unused if dry_run else unused_attachments.remove(store, stage, unused, None):
            yield RepairStep("remove", stage, None, f"the attachment {each}, which no version refers to")


def _records(store: Store, stage: str, session: Session, *, dry_run: bool) -> Iterator[RepairStep]:
    try:
        store.gaps(stage, session)
    except IntegrityError as error:
        if error.is_newer:  # what follows needs it
            raise
        where = ""
        if not dry_run:
            where = _moved(store, stage, ["gaps"])["gaps"]
            seen = store.last_seen.recall_record(stage, "gaps")
            with contextlib.suppress(RecordChangedError):  # another writer was faster
                store.write_gaps(stage, Gaps().renewed(above=seen.serial), None)  # else its absence would count as a rollback
        yield RepairStep("set-aside", stage, None, f"{error}{where}")
    try:
        tag.stored(store, stage, session)
    except IntegrityError as error:
        if error.is_newer:
            return
        where = "" if dry_run else _moved(store, stage, ["tags"])["tags"]
        yield RepairStep("set-aside", stage, None, f"{error}{where}")


def _damaged(store: Store, stage: str, findings: list[Finding], *, dry_run: bool) -> Iterator[RepairStep]:
    broken = {f.version: f for f in findings if f.state in _BROKEN and f.version is not None}
    sound = [f.version for f in findings if f.state in _NOT_BROKEN and f.version is not None and f.version not in broken]
    planted = set(_planted(store, stage, findings, sound))
    real = [version for version in broken if version not in planted]
    yield from _set_aside(store, stage, {version: broken[version].detail for version in sorted(planted)}, dry_run=dry_run)
    if real and max(real) > max(sound, default=0):
        # A folder in which nothing opens may have been planted: that it is repaired must not make it a stage.
        is_known = bool(sound) or store.last_seen.recall(stage) is not None
        if not dry_run:
            append(store, stage, store.history.tip(stage), _AFTER_DAMAGE if is_known else delete.MARKER)
        detail = "a failed version: the newest one was damaged, the stage is to be run again"
        unknown = "a delete marker: no version opens, and this user has never seen one that did"
        yield RepairStep("append", stage, max(real) + 1, detail if is_known else unknown)
    if real and not dry_run:
        delete.record(store, stage, real, "set aside")
    yield from _set_aside(store, stage, {version: broken[version].detail for version in real}, dry_run=dry_run)


def _planted(store: Store, stage: str, findings: list[Finding], sound: list[int]) -> list[int]:
    """Return the broken versions whose numbers were never assigned: above a missing range and above all that was seen."""
    seen = store.last_seen.recall(stage)
    missing = next((f.version for f in reversed(findings) if f.state == "missing" and f.version), None)
    if missing is None:
        return []
    above = max(missing, seen.version if seen else 0)
    if max(sound, default=0) > above:
        return []
    return [f.version for f in findings if f.version is not None and f.version > above and f.state in _BROKEN]


def _gone_but_there(store: Store, stage: str, findings: list[Finding], *, dry_run: bool) -> Iterator[RepairStep]:
    """Finish a deletion that was killed between the record of the gap and the removal of the files."""
    left = [f.version for f in findings if f.state == "leftover" and f.version is not None]
    if not left:
        return
    gaps = store.gaps(stage)[0]
    reasons = {version: gap.reason for version in left if (gap := gaps.find(version)) is not None}
    deleted = [version for version, reason in reasons.items() if reason == "deleted"]
    if deleted and not dry_run:
        store.backend.delete(stage, deleted)
    for version in deleted:
        yield RepairStep("remove", stage, version, "the file of a version that was deleted")
    others = {
        version: f"was {reason}, and its file is still there" for version, reason in reasons.items() if reason != "deleted"
    }
    yield from _set_aside(store, stage, others, dry_run=dry_run)


def _set_aside(store: Store, stage: str, versions: Mapping[int, str], *, dry_run: bool) -> Iterator[RepairStep]:
    """Set versions aside, each for a reason."""
    moved = _moved(store, stage, versions) if versions and not dry_run else {}
    aside = [version for version, where in moved.items() if where != _GONE]
    for version in aside[:MOST_LOGGED]:
        _LOG.info("Set aside: version %d of stage %s%s", version, printable(stage), moved[version])
    if len(aside) > MOST_LOGGED:
        _LOG.info("Set aside: %d more versions of stage %s", len(aside) - MOST_LOGGED, printable(stage))
    for version, why in versions.items():
        where = moved.get(version, "")
        yield RepairStep("set-aside", stage, version, f"{why}{where}")


def _moved(store: Store, stage: str, what: Iterable[int | StageRecord]) -> dict[int | StageRecord, str]:
    """Move versions or records out of the history, and return the end of a sentence on where each is now."""
    wanted = list(what)
    places = maintenance_of(store.backend).quarantine(stage, wanted)
    return {each: f"; now {places[each]}" if each in places else _GONE for each in wanted}


def _leftovers(store: Store, leftovers: Iterable[Leftover], *, dry_run: bool) -> Iterator[RepairStep]:
    for leftover in leftovers:
        if leftover.kind == "leftover":
            if dry_run or maintenance_of(store.backend).remove(leftover):
                yield RepairStep("remove", leftover.stage, None, f"{leftover.path} {leftover.detail}")
        elif leftover.kind == "stale head" and leftover.stage is not None:
            newest = store.backend.newest(leftover.stage).number
            if dry_run or maintenance_of(store.backend).remove(leftover):
                yield RepairStep("rebuild-head", leftover.stage, newest, f"{leftover.path} {leftover.detail}")
