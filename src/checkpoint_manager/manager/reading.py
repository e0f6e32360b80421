"""Reading: the data of a version, what versions there are, and what changed between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkpoint_manager.backends.names import validate
from checkpoint_manager.envelope import payload
from checkpoint_manager.model import Checkpoint, Version
from checkpoint_manager.store import comparing, drafting
from checkpoint_manager.store.diff import Diff

if TYPE_CHECKING:
    from checkpoint_manager.store.store import Store


class Reading:
    """The part of a manager that reads. It never waits for a writer."""

    _store: Store

    def has_checkpoint(self, stage_name: str) -> bool:
        """Return True only if the stage's newest version is whole, authentic and completed.

        A damaged one gives False and an ERROR log line: the stage is computed again, and the file is kept as evidence.

        Raises:
            RollbackError: The directory is older than what this user has seen.
            WrongKeyError: The key was removed from the store meanwhile.
        """
        return self._store.library.is_completed(validate(stage_name))

    def load_checkpoint(self, stage_name: str, version: int | None = None) -> Any:  # noqa: ANN401  # JSON is what it is
        """Return a stage's data, equal to what was saved.

        Args:
            stage_name: The stage.
            version: The version's number; None: the newest.

        Raises:
            CheckpointNotFoundError: There is no such version, or it was deleted, or the stage is cleared.
            IntegrityError: It is damaged, forged or missing.
            RollbackError: The directory is older than what this user has seen.
        """
        return self.get_checkpoint(stage_name, version).data

    def get_checkpoint(self, stage_name: str, version: int | None = None) -> Checkpoint:
        """Return a version with its data; arguments and errors as for ``load_checkpoint``."""
        stage = validate(stage_name)
        loaded = (
            self._store.library.newest(stage)
            if version is None
            else self._store.library.version(stage, drafting.number(version))
        )
        return Checkpoint(loaded.entry.as_version(stage, loaded.version), payload.decode(loaded.data))

    def history(self, stage_name: str) -> list[Version]:
        """Return the versions of a stage, newest first, without reading their data; empty if there are none.

        Versions whose metadata does not open are left out with an ERROR log line; ``verify`` lists them.
        """
        return self._store.history.versions(validate(stage_name))

    def stages(self) -> list[str]:
        """Return the names of all stages that have a history, sorted; cleared ones too."""
        return sorted(self._store.backend.stages())

    def diff(self, stage_name: str, old: int | None = None, new: int | None = None) -> Diff:
        """Return what changed from one version of a stage to another one.

        Args:
            stage_name: The stage.
            old: The earlier version's number; None: the one before ``new``.
            new: The later version's number; None: the newest.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
        """
        stage = validate(stage_name)
        pair = self._store.library.pair(stage, old and drafting.number(old), new and drafting.number(new))
        before, after = (each.entry.as_version(stage, each.version) for each in pair)
        return Diff(before, after, comparing.changes(*(payload.decode(each.data) for each in pair)))
