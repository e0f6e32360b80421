"""Loading: the newest version, an earlier one, or only whether a stage is done. A reader takes no lock."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointNotFoundError, Hint, IntegrityError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store

_LOG = logging.getLogger("checkpoint_manager")


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version, verified as a whole."""

    version: int
    entry: Entry
    data: bytearray = field(repr=False)


def load_newest(store: Store, stage: str) -> Loaded:
    """Return the newest version of a stage.

    Raises:
        CheckpointNotFoundError: The stage has none, or is cleared.
        IntegrityError: It is damaged or forged.
        RollbackError: It is older than what this user has seen.
    """
    loaded = newest_of_any_kind(store, stage)
    if loaded is None:
        raise store.history.absent(stage, 0, 0)
    if loaded.entry.status == "cleared":
        message = f"stage {display(stage)} in {store.backend.location} is cleared (version {loaded.version})"
        raise CheckpointNotFoundError(message, hint=Hint.RESTORE_EARLIER, stage=stage, version=loaded.version)
    return loaded


def newest_of_any_kind(store: Store, stage: str) -> Loaded | None:
    """Return the newest version of a stage, a cleared one too, or None if it has none; errors as in :func:`load_newest`."""
    while True:
        try:
            with store.backend.session(stage) as session:
                look = store.history.look(stage, session)
                if look.number == 0:
                    return None
                entry, data = store.load(stage, look.number, session)
        except VersionAbsentError:
            if store.history.look(stage).number == look.number:
                raise store.history.absent(stage, look.number, look.number) from None
            continue  # it was the newest when looked for, and is deleted by now: there is a newer one
        store.history.confirm(stage, look, entry)
        return Loaded(look.number, entry, data)


def load_version(store: Store, stage: str, version: int) -> Loaded:
    """Return one version of a stage, whatever its status; errors as in :func:`load_newest`."""
    look = store.history.look(stage)
    try:
        if version < 1 or version in store.gaps(stage)[0]:
            raise VersionAbsentError
        entry, data = store.load(stage, version)
    except VersionAbsentError:
        raise store.history.absent(stage, version, look.number) from None
    if version == look.number:
        store.history.confirm(stage, look, entry)
    return Loaded(version, entry, data)


def is_completed(store: Store, stage: str) -> bool:
    """Return whether the newest version is whole, authentic and completed.

    If it is damaged, the answer is no, with an ERROR line: the stage is computed again, and the damaged file stays as evidence.

    Raises:
        RollbackError, WrongKeyError, StorageError: The question has no answer.
    """
    try:
        loaded = newest_of_any_kind(store, stage)
    except IntegrityError as error:
        _LOG.error("%s", error)  # the message says all; a traceback would not help
        return False
    return loaded is not None and loaded.entry.status == "completed"
