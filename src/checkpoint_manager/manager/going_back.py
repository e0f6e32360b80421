"""Going back: to an earlier version, to a moment, or to nothing done. Each appends, and can be undone by another one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._operations import draft as drafting
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.models import Version, display

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._operations.services import Store

_LOG = logging.getLogger("checkpoint_manager")


class GoingBack:
    """The part of a manager that goes back, by appending: nothing is ever removed here."""

    _store: Store

    def restore_checkpoint(
        self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None
    ) -> Version:
        """Make an earlier version the newest, by appending a copy of it that says ``restored_from``.

        Nothing is removed, and restoring can itself be undone by restoring.

        Args:
            stage_name: The stage.
            version: The version's number, ``"prev"`` or a tag; or
            at: a moment, as for ``load_checkpoint``: the version that was the newest then.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``. Nothing was written.
        """
        stage = validate(stage_name)
        if (version is None) == (at is None):
            raise TypeError("restore_checkpoint needs either version= or at=, and not both")
        if at is None:
            restored = self._store.restorer.restore(stage, drafting.chosen(version))
        else:
            restored = self._store.restorer.restore_at(stage, drafting.moment(at))
        _LOG.info("Checkpoint restored: %s (version %d, from %s)", display(stage), restored.number, restored.restored_from)
        return restored

    def restore_pipeline(self, *, at: datetime | str) -> list[Version]:
        """Bring every stage back to its state at a moment, and return the versions that this appended.

        Stages that did not exist then, or whose versions of that time are deleted, end up cleared; those that are as they were
        are left alone. All that is to be restored is read and verified before the first stage is touched; killed in between,
        run it again.

        Args:
            at: The moment, as for ``load_checkpoint``.
        """
        moment = drafting.moment(at)
        appended = self._store.restorer.restore_all(moment)
        _LOG.info("Pipeline restored: %d stages changed, to their state at %s", len(appended), moment.isoformat())
        return appended

    def clear_checkpoint(self, stage_name: str) -> Version | None:
        """Mark a stage as not done, by appending a ``cleared`` version: a restore undoes it.

        Returns:
            The version, or None if there was nothing to clear.
        """
        stage = validate(stage_name)
        cleared = self._store.restorer.clear(stage)
        _LOG.info("Checkpoint cleared: %s", display(stage))
        return cleared

    def clear_checkpoints(self) -> None:
        """Mark all stages as not done, by appending a ``cleared`` version to each: a restore undoes it."""
        self._store.restorer.clear_all()
        _LOG.info("All checkpoints cleared.")
