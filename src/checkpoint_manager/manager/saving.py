"""Saving: a stage's progress as its newest version, or what a function makes of it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format import payload
from checkpoint_manager._operations import draft as drafting
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.models import Version, display

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from checkpoint_manager._operations.save import Draft
    from checkpoint_manager._operations.services import Store
    from checkpoint_manager._store.history import Tip

_LOG = logging.getLogger("checkpoint_manager")


class Saving:
    """The part of a manager that saves."""

    _store: Store

    def save_checkpoint(
        self,
        stage_name: str,
        data: object = None,
        *,
        metadata: Mapping[str, object] | None = None,
        expected_version: int | None = None,
    ) -> Version:
        """Save a stage's progress as its newest version. When this returns, the version survives a power cut.

        Args:
            stage_name: Any non-empty text up to 255 characters.
            data: Any JSON value; see :mod:`checkpoint_manager._format.payload` for what is refused.
            metadata: A dict of JSON values that ``history`` shows without reading the data.
            expected_version: Refuse unless this is the newest version now (0: none yet).

        Raises:
            PayloadError: The data would not come back equal; the error names the value's path. Nothing was written.
            VersionConflictError: Another version is the newest. Nothing was written.
            LockTimeoutError: Another writer held the stage for longer than ``lock_timeout``. Nothing was written.
            RollbackError: The directory is older than what this user has seen. Nothing was written.
            StorageError: The operating system refused. All older versions are as they were.
        """
        stage = validate(stage_name)
        draft = drafting.draft(stage, data, metadata)
        return self._saved(self._store.writer.save(stage, draft, expected_version))

    def update_checkpoint(
        self,
        stage_name: str,
        function: Callable[[Any], object],
        *,
        metadata: Mapping[str, object] | None = None,
    ) -> Version:
        """Replace a stage's data by what a function makes of it, with no other writer in between.

        Args:
            stage_name: The stage.
            function: Is called with the newest version's data (None if there is none, or the stage is cleared) under the
                stage's lock, and returns the new data. Keep it short, and don't write to the same stage in it.
            metadata: As for ``save_checkpoint``.

        Raises:
            IntegrityError: The newest version is damaged; an update of it would lose what it held.
            Exception: Whatever the function raises. Nothing was written then. And as ``save_checkpoint``.
        """
        stage = validate(stage_name)

        def make(_: Tip) -> Draft:
            loaded = self._store.library.newest_of_any_kind(stage)
            present = None if loaded is None or loaded.entry.status == "cleared" else payload.decode(loaded.data)
            return drafting.draft(stage, function(present), metadata)

        return self._saved(self._store.writer.update(stage, make))

    def _saved(self, version: Version) -> Version:
        _LOG.info("Checkpoint saved: %s (version %d)", display(version.stage), version.number)
        return version
