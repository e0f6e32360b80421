"""Reading: the data of a version, what versions there are, and what changed between two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkpoint_manager._format import payload
from checkpoint_manager._operations import draft as drafting
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.models import Checkpoint, Version

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._operations.diff import Diff
    from checkpoint_manager._operations.services import Store


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

    def load_checkpoint(self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None) -> Any:  # noqa: ANN401  # JSON is what it is
        """Return a stage's data, equal to what was saved.

        Args:
            stage_name: The stage.
            version: The version's number, ``"latest"``, ``"prev"`` (the one before the newest) or a tag; None: the newest.
            at: In its place, a moment: the version that was the newest then, of those that are there. An aware ``datetime``, or
                text such as ``2026-11-20T14:00`` (local, unless it names a zone) or ``1d`` (ago).

        Raises:
            CheckpointNotFoundError: There is no such version, or it was deleted, or the stage is cleared.
            IntegrityError: It is damaged, forged or missing.
            RollbackError: The directory is older than what this user has seen.
        """
        return self.get_checkpoint(stage_name, version, at=at).data

    def get_checkpoint(
        self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None
    ) -> Checkpoint:
        """Return a version with its data; arguments and errors as for ``load_checkpoint``."""
        stage = validate(stage_name)
        number = self._number(stage, version, at)
        loaded = self._store.library.newest(stage) if number is None else self._store.library.version(stage, number)
        return Checkpoint(loaded.entry.as_version(stage, loaded.version), payload.decode(loaded.data))

    def resolve(self, selector: str, *, at: datetime | str | None = None) -> Version:
        """Return the version that ``STAGE``, ``STAGE@7``, ``STAGE@latest``, ``STAGE@prev`` or ``STAGE@TAG`` names.

        The newest version is returned also where the stage is cleared.

        Args:
            selector: As on the command line. A stage whose own name ends like that is written ``STAGE@3@latest``.
            at: As for ``load_checkpoint``, with a selector that names no version.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``; the data is not read.
            StageNameError, TagError: It can't be a selector, or could mean two things.
        """
        stage, version = self._store.selecting.split(selector)
        number = self._number(stage, version, at)
        if number is None:
            number = self._store.selecting.number(stage, "latest")
        return self._store.history.entry(stage, number).as_version(stage, number)

    def _number(self, stage: str, version: int | str | None, at: datetime | str | None) -> int | None:
        """Return the number of the version that is meant; None: the newest, or an error if the stage is cleared."""
        if at is None:
            chosen = None if version is None else drafting.chosen(version)
            return self._store.selecting.number(stage, chosen) if isinstance(chosen, str) else chosen
        if version is not None:
            raise TypeError("give a version or at=, and not both")
        return self._store.selecting.at(stage, drafting.moment(at))

    def history(self, stage_name: str) -> list[Version]:
        """Return the versions of a stage, newest first, without reading their data; empty if there are none.

        Versions whose metadata does not open are left out with an ERROR log line; ``verify`` lists them.
        """
        return self._store.history.versions(validate(stage_name))

    def stages(self) -> list[str]:
        """Return the names of all stages that have a history, sorted; cleared ones too."""
        return sorted(self._store.backend.stages())

    def diff(
        self,
        stage_name: str,
        old: int | str | None = None,
        new: int | str | None = None,
        *,
        at: datetime | str | None = None,
    ) -> Diff:
        """Return what changed from one version of a stage to another one.

        Args:
            stage_name: The stage.
            old: The earlier version, as for ``load_checkpoint``; None: the one before ``new``.
            new: The later version; None: the newest.
            at: In the place of ``old``, a moment, as for ``load_checkpoint``.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
        """
        from checkpoint_manager._operations import compare as comparing  # noqa: PLC0415  # for those who compare
        from checkpoint_manager._operations.diff import Diff  # noqa: PLC0415  # likewise

        stage = validate(stage_name)
        pair = self._store.library.pair(stage, self._number(stage, old, at), self._number(stage, new, None))
        before, after = (each.entry.as_version(stage, each.version) for each in pair)
        return Diff(before, after, comparing.changes(*(payload.decode(each.data) for each in pair)))
