"""Delete versions, with a record that distinguishes a deletion from a theft.

The remaining versions are made durable first, then the record of the deletion is written, and then the files are removed. If
the process is killed in between, the versions count as deleted, and the next deletion, pruning or repair removes their files.

The newest version of a stage is never deleted, because nothing would tell the deletion from a theft. To delete a whole stage, a
*delete marker* is appended first: a cleared version without data, with the note ``@deleted``. It is authenticated and leads
back to the version before it, so other users of the store accept it as the newest, and the next save continues above it. A
stage that holds nothing but the marker is not listed.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING

from checkpoint_manager._format.gaps import Gap, Gaps, Reason
from checkpoint_manager._format.note_keys import DELETED
from checkpoint_manager._operations import tag, unused_attachments
from checkpoint_manager._operations.save import Draft, append, expect
from checkpoint_manager._store.listing import ranges_between
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointError, Hint, IntegrityError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session

MARKER = Draft(b"null", {DELETED: True}, "cleared")
"""A delete marker."""


def delete_versions(
    store: Store, stage: str, versions: Iterable[int], expected: int | None = None, reason: str | None = None
) -> list[int]:
    """Delete versions, and return their numbers, ascending.

    Args:
        store: The store.
        stage: The stage.
        versions: The numbers of the versions.
        expected: The number that the newest version must have, or None for any.
        reason: Why, or None.

    Raises:
        VersionConflictError: Another version is the newest. Nothing is deleted.
        CheckpointNotFoundError: One of them does not exist, or is deleted already. Nothing is deleted.
        CheckpointError: One of them is the newest, or has a tag. Nothing is deleted.
    """
    wanted = sorted(set(versions))
    with store.lock(stage) as lock, store.session(stage, lock) as session:
        newest = store.history.look(stage, session).number
        expect(store, stage, newest, expected)
        present = set(store.backend.versions(stage, session=session))
        gaps, _ = store.gaps(stage, session)
        tags = tag.certain(store, stage)
        for version in wanted:
            if version == newest:
                message = (
                    f"version {version} of stage {printable(stage)} in {store.backend.location} is the newest, "
                    "which can't be deleted; nothing was deleted"
                )
                hint = "Save or clear the stage first, then delete the version"
                raise CheckpointError(message, hint=hint, stage=stage, version=version)
            if version not in present or version in gaps or version > newest:  # saved since, where the lock does not exclude
                raise store.history.absent(stage, version, newest)
            if names := tags.of(version):
                raise _tagged(store, stage, version, names)
        if wanted:
            drop(store, stage, wanted, session)
            tag.note_deletion_locked(store, stage, wanted, reason)
        return wanted


def delete_stage(store: Store, stage: str) -> list[int]:
    """Delete a whole stage with its tags, and return the numbers of its versions, ascending.

    If this is killed in between, the stage is cleared, with some of its versions left; deleting it again finishes that.

    Raises:
        CheckpointNotFoundError: There is no such stage, or it is deleted already.
        IntegrityError, RollbackError: The record of tags or deletions can't be trusted. Nothing is deleted.
    """
    with store.lock(stage) as lock, store.session(stage, lock) as session:
        newest = store.history.existing(stage)
        tag.certain(store, stage)
        gaps, _ = store.gaps(stage, session)
        versions = store.backend.versions(stage, session=session)
        there = [version for version in versions if version not in gaps]
        if not _is_marker(store, stage, newest, session):
            newest = _append_marker(store, stage, there, session)
        tag.untag_up_to_locked(store, stage)
        store.flush(stage, session)
        _record_ranges(store, stage, [(1, newest - 1)], "deleted", session)  # missing versions among them
        if not store.backend.capabilities.lock_excludes:
            tag.untag_up_to_locked(store, stage, newest)  # those that were given until just now
        store.backend.delete(stage, [version for version in versions if version < newest], session=session)
        unused_attachments.remove_all(store, stage, session)
        return [version for version in there if version < newest]


def _is_marker(store: Store, stage: str, version: int, session: Session) -> bool:
    try:
        return DELETED in store.entry(stage, version, session).metadata
    except IntegrityError:
        return False


def _append_marker(store: Store, stage: str, versions: list[int], session: Session) -> int:
    """Append the marker, and return its number. On a full disk, the older versions are deleted first, which makes room."""
    try:
        return append(store, stage, store.history.tip(stage, session), MARKER, session).number
    except StorageError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT} or len(versions) < 2:  # the newest one must stay
            raise
    tag.certain(store, stage)
    tag.untag_up_to_locked(store, stage)
    drop(store, stage, versions[:-1], session)
    return append(store, stage, store.history.tip(stage, session), MARKER, session).number


def drop(store: Store, stage: str, versions: list[int], session: Session | None = None) -> Gaps:
    """Delete versions and return the gaps. The caller holds the lock and has checked that they may be deleted."""
    store.flush(stage, session)
    attachments = _attachments_of(store, stage, versions, session)
    gaps = record(store, stage, versions, "deleted", session)
    if not store.backend.capabilities.lock_excludes:
        _refuse_tagged_meanwhile(store, stage, versions, session)
    store.backend.delete(stage, versions, session=session)
    if attachments:
        unused_attachments.remove(store, stage, attachments, session)
    return gaps


def _refuse_tagged_meanwhile(store: Store, stage: str, versions: list[int], session: Session | None) -> None:
    """Take the record of a deletion back, and raise, if another writer has tagged one of the versions since it was decided.

    A writer that tags looks at the deletions afterwards, so of the two, one at least notices the other.
    """
    tags = tag.certain(store, stage)
    late = next((version for version in versions if tags.of(version)), None)
    if late is None:
        return

    def change() -> None:
        gaps, expected = store.gaps(stage, session)
        others = gaps.only(lambda gap: not any(gap.first <= version <= gap.last for version in versions))
        cut = (gap for gap in gaps if any(gap.first <= version <= gap.last for version in versions))
        left = (each for gap in cut for each in _runs(set(range(gap.first, gap.last + 1)) - set(versions)))
        store.write_gaps(
            stage, others.add(*(_gap(store, stage, *each, "deleted", session) for each in left)), expected, session
        )

    store.change_record(stage, change)
    raise _tagged(store, stage, late, tags.of(late))


def _attachments_of(store: Store, stage: str, versions: Iterable[int], session: Session | None) -> list[str]:
    found: list[str] = []
    for version in versions:
        with contextlib.suppress(IntegrityError, VersionAbsentError):
            found += (each.id for each in store.entry(stage, version, session).attachments)
    return found


def remove_leftovers(store: Store, stage: str, session: Session | None = None) -> None:
    """Remove the files that a killed deletion left behind. The caller holds the lock."""
    gaps, _ = store.gaps(stage, session)
    found = ((version, gaps.find(version)) for version in store.backend.versions(stage, session=session))
    left = [version for version, gap in found if gap is not None and gap.reason == "deleted"]
    if left:
        store.flush(stage, session)
        attachments = _attachments_of(store, stage, left, session)
        store.backend.delete(stage, left, session=session)
        if attachments:
            unused_attachments.remove(store, stage, attachments, session)


def record(store: Store, stage: str, versions: Iterable[int], reason: Reason, session: Session | None = None) -> Gaps:
    """Record that these versions are deleted. The caller holds the lock and removes them afterwards."""
    return _record_ranges(store, stage, _runs(versions), reason, session)


def _record_ranges(
    store: Store, stage: str, ranges: Iterable[tuple[int, int]], reason: Reason, session: Session | None
) -> Gaps:
    wanted = list(ranges)

    def change() -> Gaps:
        gaps, expected = store.gaps(stage, session)
        new = [_gap(store, stage, low, high, reason, session) for low, high in _unrecorded(gaps, wanted)]
        if new:
            gaps = gaps.add(*new)
            store.write_gaps(stage, gaps, expected, session)
        return gaps

    return store.change_record(stage, change)


def _unrecorded(gaps: Gaps, ranges: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the parts of ranges that lie in no gap: another writer may be deleting the same versions."""
    for first, last in ranges:
        yield from ranges_between(((gap.first, gap.last) for gap in gaps.between(first, last)), first, last)


def _gap(store: Store, stage: str, first: int, last: int, reason: Reason, session: Session | None) -> Gap:
    if reason == "set aside":  # the file may be of another history: those around it say which versions belong here
        before = _id_of(store, stage, first - 1, session) if first > 1 else None
        return Gap(first, last, before, _id_by_neighbours(store, stage, last, session), reason)
    return Gap(first, last, _id_before(store, stage, first, session), _id_of(store, stage, last, session), reason)


def _tagged(store: Store, stage: str, version: int, names: list[str]) -> CheckpointError:
    where = f"version {version} of stage {printable(stage)} in {store.backend.location}"
    message = f"{where} is tagged {' and '.join(names)}, which protects it; nothing was deleted"
    return CheckpointError(message, hint=Hint.REMOVE_TAG, stage=stage, version=version)


def _id_of(store: Store, stage: str, version: int, session: Session | None = None) -> str | None:
    try:
        return store.entry(stage, version, session).id
    except (IntegrityError, VersionAbsentError):
        return _id_by_neighbours(store, stage, version, session)


def _id_by_neighbours(store: Store, stage: str, version: int, session: Session | None) -> str | None:
    try:  # what comes after it names the last version that could be read by then: this one, unless it was damaged already
        named = store.entry(stage, version + 1, session).previous
        return named if version == 1 or store.entry(stage, version - 1, session).id != named else None
    except (IntegrityError, VersionAbsentError):
        return None


def _id_before(store: Store, stage: str, version: int, session: Session | None = None) -> str | None:
    try:
        return store.entry(stage, version, session).previous
    except (IntegrityError, VersionAbsentError):
        return _id_of(store, stage, version - 1, session) if version > 1 else None


def _runs(versions: Iterable[int]) -> Iterable[tuple[int, int]]:
    first = last = 0
    for version in sorted(versions):
        if version != last + 1 or not first:
            if first:
                yield first, last
            first = version
        last = version
    if first:
        yield first, last
