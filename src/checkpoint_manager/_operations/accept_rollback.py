"""Accept a rollback of the store, so that it can be used again.

The present state becomes the accepted one, but no number is used twice: versions that were seen or recorded as deleted, and are
gone, are recorded as lost, and the present newest version is appended again above them.

The record is written before the version. If the process is killed in between, the next writer finds the lost versions at the
top of the record and writes above them (see :mod:`checkpoint_manager._store.history`); accepting again continues from there.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from checkpoint_manager._format.gaps import Gap
from checkpoint_manager._operations import tag
from checkpoint_manager._operations.save import Draft, append
from checkpoint_manager._store import attachments
from checkpoint_manager._store.history import Tip
from checkpoint_manager._store.listing import missing_ranges
from checkpoint_manager._store.waits import Waits
from checkpoint_manager._text import counted, printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.gaps import Gaps
    from checkpoint_manager._store.last_seen import SeenVersion
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")


def accept_rollback(store: Store, stage: str | None) -> list[Version]:
    """Accept the present state of one stage, or of all stages and the keyring; return the appended versions."""
    if stage is None:
        store.keyring.accept_rollback()
    stages = store.all_stages() if stage is None else [stage]
    waits = Waits(store)
    appended = [_accept(store, name, waits) for name in stages]
    for name in stages:
        tag.accept_rollback(store, name, waits)
    for name in stages:
        store.history.look(name)  # report now, not at the next save, what could not be accepted
    return [version for version in appended if version is not None]


def _accept(store: Store, stage: str, waits: Waits) -> Version | None:
    with waits.lock(stage) as lock, waits.session(stage, lock) as session:
        seen = store.last_seen.recall(stage)
        number = store.backend.newest(stage, exact=True, session=session).number
        if store.history.take_back(stage, number, session):
            number = store.backend.newest(stage, exact=True, session=session).number
        try:
            _accept_gaps(store, stage, session)
        except IntegrityError as error:  # a repair sets it aside; until then, no number is known to be free
            _LOG.error("%s", error)
            return None
        _accept_missing(store, stage, session)
        gap = store.gaps(stage, session)[0].last
        used = max(0 if seen is None else seen.version, 0 if gap is None or gap.reason == "lost" else gap.last)
        if used > number:
            return _close_the_gap(store, stage, number, seen, used, session)
        if seen is None:
            return None
        try:
            entry: Entry | None = store.entry(stage, number, session)
        except (IntegrityError, VersionAbsentError):
            entry = None
        if entry is not None and store.history.leads_back(stage, number, entry, seen, session):
            return None
        if entry is None and number == seen.version:
            return None  # damaged; reported where it is read
        store.forget(stage)
        if entry is not None:
            store.flush(stage, session)
            store.history.learn(stage, Tip(number, entry.id, entry.created_at), session)
        _LOG.warning("Rollback accepted: stage %s, version %d is the newest from now on", printable(stage), number)
        return None


def _accept_gaps(store: Store, stage: str, session: Session) -> None:
    """Write the record of deletions again with a serial above all that was seen, if another one than that is there."""

    def change() -> bool:
        seen = store.last_seen.recall_record(stage, "gaps")
        gaps, record = store.found_gaps(stage, session)
        if gaps.serial > seen.serial or (gaps.serial, gaps.id) == seen:
            return False
        store.write_gaps(stage, gaps.renewed(above=seen.serial), record, session)
        return True

    if store.change_record(stage, change):
        _LOG.warning("Rollback accepted: the deletions of stage %s are those that are recorded now", printable(stage))


def _accept_missing(store: Store, stage: str, session: Session) -> None:
    """Record as lost what is missing below the newest version that opens: above it, planted files may leave any gap."""
    versions = store.backend.versions(stage, session=session)
    newest = next((number for number in reversed(versions) if _opens(store, stage, number, session)), 0)

    def change() -> list[Gap]:
        gaps, expected = store.gaps(stage, session)
        missing = [(first, last) for first, last in missing_ranges(versions, gaps) if last < newest]
        ids = [
            (_id_before(store, stage, first, gaps, session), _id_after(store, stage, last, gaps, session))
            for first, last in missing
        ]
        lost = [Gap(*numbers, *around, "lost") for numbers, around in zip(missing, ids, strict=True)]
        if lost:
            store.write_gaps(stage, gaps.add(*lost), expected, session)
        return lost

    lost = store.change_record(stage, change)
    if lost:
        missing = sum(gap.last - gap.first + 1 for gap in lost)
        _LOG.warning("Rollback accepted: stage %s goes on without %s", printable(stage), counted(missing, "missing version"))


def _opens(store: Store, stage: str, number: int, session: Session) -> bool:
    try:
        store.entry(stage, number, session)
    except (IntegrityError, VersionAbsentError):
        return False
    return True


def _id_before(store: Store, stage: str, number: int, gaps: Gaps, session: Session) -> str | None:
    """Return the id of the version before a number, or None if it is not known."""
    gap = gaps.find(number - 1)
    if gap is not None:
        return gap.id
    try:
        return store.entry(stage, number - 1, session).id if number > 1 else None
    except (IntegrityError, VersionAbsentError):
        return None


def _id_after(store: Store, stage: str, number: int, gaps: Gaps, session: Session) -> str | None:
    """Return the id of the version of a number, as the one after it names it, or None if it is not known."""
    gap = gaps.find(number + 1)
    if gap is not None:
        return gap.before
    try:
        return store.entry(stage, number + 1, session).previous
    except (IntegrityError, VersionAbsentError):
        return None


def _close_the_gap(store: Store, stage: str, number: int, seen: SeenVersion | None, used: int, session: Session) -> Version:
    store.flush(stage, session)
    draft, before = Draft(b"null", {}, "cleared"), None
    with contextlib.suppress(IntegrityError, VersionAbsentError):
        entry, data = store.load(stage, number, session)
        before = entry.id
        attachments.check_there(store, stage, entry.attachments)
        draft = Draft(bytes(data), entry.metadata, entry.status, restored_from=number, attachments=entry.attachments)
    last_id = seen.id if seen is not None and seen.version == used else None

    def change() -> Gap | None:
        gaps, expected = store.gaps(stage, session)
        lost = list(_unrecorded(gaps, number + 1, used, before, last_id))
        if lost:  # there are none if this was killed here the last time
            gaps = gaps.add(*lost)
            store.write_gaps(stage, gaps, expected, session)
        return gaps.last

    last = store.change_record(stage, change)
    tip = Tip(number, (last.id if last is not None else None) or before, None, used)
    version = append(store, stage, tip, draft, session)
    _LOG.warning(
        "Rollback accepted: stage %s goes on as version %d without %s",
        printable(stage),
        version.number,
        f"version {used}" if used == number + 1 else f"versions {number + 1} to {used}",
    )
    return version


def _unrecorded(gaps: Gaps, first: int, last: int, before: str | None, last_id: str | None) -> Iterator[Gap]:
    """Yield the numbers of a range that are in no gap yet, as lost."""
    for gap in gaps:
        if gap.last >= first:
            if first < gap.first:
                yield Gap(first, gap.first - 1, before, gap.before, "lost")
            first, before = gap.last + 1, gap.id
    if first <= last:
        yield Gap(first, last, before, last_id, "lost")
