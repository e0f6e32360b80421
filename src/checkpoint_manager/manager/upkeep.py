"""Upkeep: checking, repairing, and moving on after a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager.backends.stage_names import validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager._operations.services import Store
    from checkpoint_manager.models import RepairStep, VerificationReport, Version


class Upkeep:
    """The part of a manager that looks after the store."""

    _store: Store

    def verify(self, stage: str | None = None, *, progress: Callable[[int, int], None] | None = None) -> VerificationReport:
        """Read and check everything, and return what was found. Never raises for what it finds.

        Args:
            stage: One stage, or None for the whole store.
            progress: Called after each version with how many are done, and how many there are.
        """
        return self._store.verifier.verify(None if stage is None else validate(stage), progress)

    def repair(self, *, dry_run: bool = False) -> list[RepairStep]:
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
