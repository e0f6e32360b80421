"""Going back, which is going forward: a restore appends a copy of an earlier version and removes nothing."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._operations.save import Draft
from checkpoint_manager.errors import FormatError, IntegrityError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._operations.load import Library, Loaded
    from checkpoint_manager._operations.save import Writer
    from checkpoint_manager._operations.select import Selecting
    from checkpoint_manager._store.history import History
    from checkpoint_manager._store.store import Vault
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")
_CLEARED = Draft(b"null", {}, "cleared")


class Restorer:
    """Restores and clears the stages of one store."""

    def __init__(self, vault: Vault, history: History, selecting: Selecting, library: Library, writer: Writer) -> None:
        self._vault = vault
        self._history = history
        self._selecting = selecting
        self._library = library
        self._writer = writer

    def restore(self, stage: str, version: int | str) -> Version:
        """Append a copy of a version; errors as in :meth:`Selecting.number` and :meth:`Library.version`."""
        with self._vault.lock(stage):
            return self._append_copy(stage, self._library.version(stage, self._selecting.number(stage, version)))

    def restore_at(self, stage: str, moment: datetime) -> Version:
        """Append a copy of the version that was the newest at a moment.

        Raises:
            CheckpointNotFoundError: The stage had no version then.
        """
        with self._vault.lock(stage):
            return self._append_copy(stage, self._library.version(stage, self._selecting.at(stage, moment)))

    def restore_all(self, moment: datetime) -> list[Version]:
        """Bring every stage back to its state at a moment; stages that did not exist then end up cleared.

        What would be appended is read and verified for all stages before the first one is touched. Killed in between, it can be
        run again: stages that are already as they were are left alone.
        """
        stages = self._vault.backend.stages()
        for stage in stages:
            then = self._history.at(stage, moment)
            if then is not None:
                self._library.version(stage, then[0])
        appended = (self._restore_state(stage, moment) for stage in stages)
        return [version for version in appended if version is not None]

    def clear(self, stage: str) -> Version | None:
        """Append a version that says that the stage is not done; None if it is cleared already or never was there."""
        with self._vault.lock(stage):
            return self._clear_locked(stage)

    def clear_all(self) -> list[Version]:
        """Clear every stage."""
        cleared = (self.clear(stage) for stage in self._vault.backend.stages())
        return [version for version in cleared if version is not None]

    def _restore_state(self, stage: str, moment: datetime) -> Version | None:
        with self._vault.lock(stage):
            entries = self._history.entries(stage)
            then = next(((number, entry) for number, entry in entries if entry.created_at <= moment), None)
            if then is None:
                if entries and entries[-1][0] > 1:
                    _LOG.warning(
                        "Stage %s: what it was at %s is not there any more, or it did not exist then; it is cleared",
                        display(stage),
                        moment.isoformat(),
                    )
                return self._clear_locked(stage)
            number, entry = then
            newest, current = entries[0]
            if number in {newest, current.restored_from}:
                return None
            if current.status == entry.status == "cleared":
                return None
            return self._append_copy(stage, self._library.version(stage, number))

    def _clear_locked(self, stage: str) -> Version | None:
        tip = self._history.tip(stage)
        if tip.version == 0 or self._is_cleared(stage, tip.version):
            return None
        return self._writer.append(stage, tip, _CLEARED)

    def _append_copy(self, stage: str, loaded: Loaded) -> Version:
        entry = loaded.entry
        draft = Draft(bytes(loaded.data), entry.metadata, entry.status, restored_from=loaded.version)
        return self._writer.append(stage, self._history.tip(stage), draft)

    def _is_cleared(self, stage: str, version: int) -> bool:
        try:
            return self._vault.entry(stage, version).status == "cleared"
        except (IntegrityError, FormatError):  # whatever it was, a cleared one on top is right
            return False
