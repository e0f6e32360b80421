"""Restoring and clearing: each appends a version, and removes nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._operations import select
from checkpoint_manager._operations.load import Loaded, load_version
from checkpoint_manager._operations.save import Draft, append
from checkpoint_manager.errors import FormatError, IntegrityError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")
_CLEARED = Draft(b"null", {}, "cleared")


def restore(store: Store, stage: str, version: int | str) -> Version:
    """Append a copy of a version; errors as in :func:`select.number` and :func:`load_version`."""
    with store.lock(stage):
        return _append_copy(store, stage, load_version(store, stage, select.number(store, stage, version)))


def restore_at(store: Store, stage: str, moment: datetime) -> Version:
    """Append a copy of the version that was the newest at a moment.

    Raises:
        CheckpointNotFoundError: The stage had no version then.
    """
    with store.lock(stage):
        return _append_copy(store, stage, load_version(store, stage, select.number_at(store, stage, moment)))


def restore_pipeline(store: Store, moment: datetime) -> list[Version]:
    """Bring every stage back to its state at a moment; stages that did not exist then end up cleared.

    What will be appended is read and verified for all stages before the first one is changed. Killed in between, it can be run
    again: stages that are already as they were are left alone.
    """
    stages = store.backend.stages()
    for stage in stages:
        then = store.history.at(stage, moment)
        if then is not None:
            load_version(store, stage, then[0])
    appended = (_restore_state(store, stage, moment) for stage in stages)
    return [version for version in appended if version is not None]


def clear(store: Store, stage: str) -> Version | None:
    """Append a version that says that the stage is not done; return None if it is cleared already or never was there."""
    with store.lock(stage):
        return _clear_locked(store, stage)


def clear_all(store: Store) -> list[Version]:
    """Clear every stage, and return the versions that this appended."""
    cleared = (clear(store, stage) for stage in store.backend.stages())
    return [version for version in cleared if version is not None]


def _restore_state(store: Store, stage: str, moment: datetime) -> Version | None:
    with store.lock(stage):
        entries = store.history.entries(stage)
        then = next(((number, entry) for number, entry in entries if entry.created_at <= moment), None)
        if then is None:
            if entries and entries[-1][0] > 1:
                _LOG.warning(
                    "Stage %s: what it was at %s is not there any more, or it did not exist then; it is cleared",
                    display(stage),
                    moment.isoformat(),
                )
            return _clear_locked(store, stage)
        number, entry = then
        newest, current = entries[0]
        if number in {newest, current.restored_from}:
            return None
        if current.status == entry.status == "cleared":
            return None
        return _append_copy(store, stage, load_version(store, stage, number))


def _clear_locked(store: Store, stage: str) -> Version | None:
    tip = store.history.tip(stage)
    if tip.version == 0 or _is_cleared(store, stage, tip.version):
        return None
    return append(store, stage, tip, _CLEARED)


def _append_copy(store: Store, stage: str, loaded: Loaded) -> Version:
    entry = loaded.entry
    copy = Draft(bytes(loaded.data), entry.metadata, entry.status, restored_from=loaded.version)
    return append(store, stage, store.history.tip(stage), copy)


def _is_cleared(store: Store, stage: str, version: int) -> bool:
    try:
        return store.entry(stage, version).status == "cleared"
    except (IntegrityError, FormatError):  # whatever it was, a cleared one on top is right
        return False
