"""Upkeep: deleting for good, checking, repairing, and moving on after a rollback."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager.backends.names import validate
from checkpoint_manager.model import Repair, Report, Version, display
from checkpoint_manager.store import drafting

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from checkpoint_manager.store.store import Store

_LOG = logging.getLogger("checkpoint_manager")


class Upkeep:
    """The part of a manager that looks after the store."""

    _store: Store

    def delete_versions(self, stage_name: str, versions: Iterable[int]) -> None:
        """Delete versions for good. An authenticated record remains, so that ``verify`` can tell it from a theft.

        Args:
            stage_name: The stage.
            versions: The numbers, which are never used again. Not the newest one's.

        Raises:
            CheckpointNotFoundError: One of them does not exist. Nothing was deleted.
            CheckpointError: One of them is the newest. Nothing was deleted.
        """
        stage = validate(stage_name)
        deleted = self._store.deleter.delete(stage, [drafting.number(version) for version in versions])
        _LOG.info("Versions deleted: %s %s", display(stage), deleted)

    def verify(self, stage: str | None = None, *, progress: Callable[[int, int], None] | None = None) -> Report:
        """Read and check everything, and return what was found. Never raises for what it finds.

        Args:
            stage: One stage, or None for the whole store.
            progress: Called after each version with how many are done, and how many there are.
        """
        return self._store.verifier.verify(None if stage is None else validate(stage), progress)

    def repair(self, *, dry_run: bool = False) -> list[Repair]:
        """Move damaged files aside, set the marks of the newest versions again, remove leftovers; return what was done.

        Args:
            dry_run: Change nothing, and return what would be done.
        """
        return self._store.repairer.repair(dry_run=dry_run)

    def accept_rollback(self, stage: str | None = None) -> list[Version]:
        """Accept that the directory is older than what was seen, because an older copy was put back on purpose.

        The versions that are gone are recorded as lost, their numbers stay used, and what is the newest now is appended once
        more above them. If the keyring is older too, open the store with ``on_rollback="warn"`` to get here.

        Returns:
            The versions that this appended.
        """
        return self._store.acceptance.accept(None if stage is None else validate(stage))
