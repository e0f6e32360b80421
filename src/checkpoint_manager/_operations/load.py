"""Reading checkpoints: the newest one, an earlier one, or only whether a stage is done."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointNotFoundError, IntegrityError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.history import History
    from checkpoint_manager._store.store import Vault

_LOG = logging.getLogger("checkpoint_manager")


@dataclass(frozen=True, slots=True)
class Loaded:
    """One version, verified as a whole."""

    version: int
    entry: Entry
    data: bytearray = field(repr=False)


class Library:
    """Reads the versions of one store. Takes no locks: a reader never waits for a writer."""

    def __init__(self, vault: Vault, history: History) -> None:
        self._vault = vault
        self._history = history

    def newest(self, stage: str) -> Loaded:
        """Return the newest version of a stage.

        Raises:
            CheckpointNotFoundError: The stage has none, or is cleared.
            IntegrityError: It is damaged or forged.
            RollbackError: It is older than what this user has seen.
        """
        loaded = self.newest_of_any_kind(stage)
        if loaded is None:
            raise self._history.absent(stage, 0, 0)
        if loaded.entry.status == "cleared":
            message = (
                f"stage {display(stage)} in {self._vault.backend.location} is cleared (version {loaded.version}): "
                "compute it again, "
                "or restore an earlier version from history()"
            )
            raise CheckpointNotFoundError(message, stage=stage, version=loaded.version)
        return loaded

    def newest_of_any_kind(self, stage: str) -> Loaded | None:
        """Return the newest version of a stage, a cleared one too, or None if it has none; errors as in :meth:`newest`."""
        while True:
            try:
                with self._vault.backend.visit(stage):
                    look = self._history.look(stage)
                    if look.number == 0:
                        return None
                    entry, data = self._vault.load(stage, look.number)
            except VersionAbsentError:
                if self._history.look(stage).number == look.number:
                    raise self._history.absent(stage, look.number, look.number) from None
                continue  # it was the newest when looked for, and is deleted by now: there is a newer one
            self._history.confirm(stage, look, entry)
            return Loaded(look.number, entry, data)

    def version(self, stage: str, version: int) -> Loaded:
        """Return one version of a stage, whatever its status; errors as in :meth:`newest`."""
        look = self._history.look(stage)
        try:
            if version < 1 or version in self._vault.gaps(stage)[0]:
                raise VersionAbsentError
            entry, data = self._vault.load(stage, version)
        except VersionAbsentError:
            raise self._history.absent(stage, version, look.number) from None
        if version == look.number:
            self._history.confirm(stage, look, entry)
        return Loaded(version, entry, data)

    def pair(self, stage: str, old: int | None, new: int | None) -> tuple[Loaded, Loaded]:
        """Return two versions to compare: by default, the newest and the one before it; errors as in :meth:`version`.

        Raises:
            CheckpointNotFoundError: There is none before the later one.
        """
        later = new if new is not None else self._history.look(stage).number
        second = self.version(stage, later)
        if old is None:
            old = self._history.before(stage, later)
            if old is None:
                where = f"{display(stage)} in {self._vault.backend.location}"
                message = f"stage {where} has no version before version {later}: there is nothing to compare it with"
                raise CheckpointNotFoundError(message, stage=stage, version=later)
        return self.version(stage, old), second

    def is_completed(self, stage: str) -> bool:
        """Return whether the newest version is whole, authentic and completed.

        A damaged one means no, with an ERROR line: the stage is computed again, and the damaged file stays as evidence.

        Raises:
            RollbackError, WrongKeyError, StorageError: These are no answers.
        """
        try:
            loaded = self.newest_of_any_kind(stage)
        except IntegrityError as error:
            _LOG.error("%s", error)  # the message says all; a traceback would not help
            return False
        return loaded is not None and loaded.entry.status == "completed"
