"""Restoring and clearing: each appends a version, and removes nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._operations import select
from checkpoint_manager._operations.load import Loaded, load_version
from checkpoint_manager._operations.save import Draft, append
from checkpoint_manager._text import printable
from checkpoint_manager.errors import IntegrityError

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")
_CLEARED = Draft(b"null", {}, "cleared")


def restore(store: Store, stage: str, version: int | str) -> Version:
    """Append a copy of a version; errors as in :func:`select.number` and :func:`load_version`."""
    with store.lock(stage) as session:
        number = select.number(store, stage, version)
        return _append_copy(store, stage, load_version(store, stage, number, session), session)


def restore_at(store: Store, stage: str, moment: datetime) -> Version:
    """Append a copy of the version that was the newest at a moment.

    Raises:
        CheckpointNotFoundError: The stage had no version then.
    """
    with store.lock(stage) as session:
        number = select.number_at(store, stage, moment)
        return _append_copy(store, stage, load_version(store, stage, number, session), session)


def restore_pipeline(store: Store, moment: datetime) -> list[Version]:
    """Bring every stage back to its state at a moment; stages that did not exist then end up cleared.

    What will be appended is read and verified for all stages before the first one is changed. Killed in between, it can be run
    again: stages that are already as they were are left alone.

    Raises:
        RollbackError: A stage that this user has seen is gone, or older. Nothing was changed.
        IntegrityError: A version that would be restored is damaged. Nothing was changed.
    """
    stages = store.stages()
    for stage in stages:
        with store.reading(stage) as session:
            then = select.newest_at(store.history.entries(stage, session), moment)
            if then is not None:
                load_version(store, stage, then[0], session)
    appended = (_restore_state(store, stage, moment) for stage in stages)
    return [version for version in appended if version is not None]


def clear(store: Store, stage: str) -> Version | None:
    """Append a version that says that the stage is not done; return None if it is cleared already or never was there."""
    with store.lock(stage) as session:
        return _clear_locked(store, stage, session)


def clear_all(store: Store) -> list[Version]:
    """Clear every stage, and return the versions that this appended.

    Raises:
        RollbackError: A stage that this user has seen is gone, or older. Nothing was changed.
    """
    stages = store.stages()
    for stage in stages:
        store.history.look(stage)
    cleared = (clear(store, stage) for stage in stages)
    return [version for version in cleared if version is not None]


def _restore_state(store: Store, stage: str, moment: datetime) -> Version | None:
    with store.lock(stage) as session:
        entries = store.history.entries(stage, session)
        then = select.newest_at(entries, moment)
        if then is None:
            if entries and entries[-1][0] > 1:
                _LOG.warning(
                    "Stage %s: what it was at %s is not there any more, or it did not exist then; it is cleared",
                    printable(stage),
                    moment.isoformat(),
                )
            return _clear_locked(store, stage, session)
        number, entry = then
        newest, current = entries[0]
        if number in {newest, current.restored_from}:
            return None
        if current.status == entry.status == "cleared":
            return None
        return _append_copy(store, stage, load_version(store, stage, number, session), session)


def _clear_locked(store: Store, stage: str, session: Session) -> Version | None:
    tip = store.history.tip(stage, session)
    if tip.version == 0 or _is_cleared(store, stage, tip.version, session):
        return None
    return append(store, stage, tip, _CLEARED, session)


def _append_copy(store: Store, stage: str, loaded: Loaded, session: Session) -> Version:
    entry = loaded.entry
    copy = Draft(bytes(loaded.data), entry.metadata, entry.status, restored_from=loaded.version)
    return append(store, stage, store.history.tip(stage, session), copy, session)


def _is_cleared(store: Store, stage: str, version: int, session: Session) -> bool:
    try:
        return store.entry(stage, version, session).status == "cleared"
    except IntegrityError:  # whatever it was, a cleared one on top is right
        return False
