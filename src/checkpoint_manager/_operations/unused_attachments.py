"""Find and remove the attachments that no version refers to.

The ids of the attachments that one save writes begin with the name of the run lock that it holds. An attachment that no version
refers to, and whose lock is free, was left by a killed writer: the next save, deletion or repair removes it.

Several versions of a stage may refer to one attachment, which is stored once. So an attachment is removed only if every version
that is left can be read, and none of them refers to it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import checkpoint_manager.attachment_info  # noqa: F401  # else it would be imported under the lock
from checkpoint_manager._store import listing
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointError, IntegrityError, LockTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session

LOCK_DIGITS = 24
"""How many digits at the start of an attachment's id name the lock of its save; the others count the save's attachments."""
_FEW_VERSIONS = 20
"""How many versions are read to find what killed writers left, before a stage's first attachment is written."""


def find(store: Store, stage: str, session: Session | None = None) -> list[str]:
    """Return the attachments of a stage that no version refers to; see :func:`find_among`."""
    candidates = store.backend.attachments(stage)
    return find_among(store, stage, candidates, session) if candidates else []


def remove(store: Store, stage: str, candidates: Iterable[str], session: Session | None) -> list[str]:
    """Remove those of some attachments that no version refers to and nobody is writing, and return them.

    The caller holds the stage's lock.
    """
    written = [each for each in candidates if not _is_being_written(store, stage, each)]
    removed = find_among(store, stage, written, session)  # after that: a writer lets go when its version is there
    if removed:
        store.backend.delete_attachments(stage, removed)
    return removed


def sweep(store: Store, stage: str) -> None:
    """Remove what a killed writer left, once, if the stage is free and has few versions; else, a deletion or repair does so."""
    with contextlib.suppress(CheckpointError), store.backend.lock(stage, 0) as lock, store.session(stage, lock) as session:
        store.swept.add(stage)
        there = store.backend.attachments(stage)
        if there and len(store.backend.versions(stage, session=session)) <= _FEW_VERSIONS:
            remove(store, stage, there, session)


def remove_all(store: Store, stage: str, session: Session) -> None:
    """Remove the attachments of a deleted stage, except those of a version that was saved since, or is being saved."""
    there = {each for each in store.backend.attachments(stage) if not _is_being_written(store, stage, each)}
    if there:
        there -= {each.id for _, entry in listing.entries(store, stage, session) for each in entry.attachments}
        store.backend.delete_attachments(stage, there)


def find_among(store: Store, stage: str, candidates: Iterable[str], session: Session | None) -> list[str]:
    """Return those of some attachments that no version refers to.

    None are returned if that can't be told: a version can't be read, or one was set aside, which may be put back.
    """
    left = dict.fromkeys(candidates)
    gaps, _ = store.gaps(stage, session)
    if not left or any(gap.reason == "set aside" for gap in gaps):
        return []
    for version in store.backend.versions(stage, session=session):
        if version not in gaps:
            try:
                entry = store.entry(stage, version, session)
            except IntegrityError:
                return []
            except VersionAbsentError:
                continue
            for each in entry.attachments:
                left.pop(each.id, None)
    return list(left)


def _is_being_written(store: Store, stage: str, attachment: str) -> bool:
    try:
        with store.backend.lock(stage, 0, purpose="run", name=attachment[:LOCK_DIGITS]):
            return False
    except LockTimeoutError:
        return True
