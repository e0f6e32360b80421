"""Moving on after a rollback of the directory that its user accepts.

What is there becomes the truth again, but no number is used twice: the versions that were seen and are gone are written down as
lost, and what is the newest now is appended once more above them.

The mark goes first. Killed before the new version has one, whoever comes next finds by listing whether it is there; and if it
is not, reads in the record of what is lost from which number on to write (see :mod:`checkpoint_manager._store.history`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._format.gaps import Gap
from checkpoint_manager._operations.save import Draft
from checkpoint_manager._store.history import Tip
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import FormatError, IntegrityError
from checkpoint_manager.models import Version, display

if TYPE_CHECKING:
    from checkpoint_manager._operations.save import Writer
    from checkpoint_manager._operations.tag import Tagger
    from checkpoint_manager._store.history import History
    from checkpoint_manager._store.last_seen import SeenVersion
    from checkpoint_manager._store.store import Vault

_LOG = logging.getLogger("checkpoint_manager")


class Acceptance:
    """Accepts the rollback of one store."""

    def __init__(self, vault: Vault, history: History, writer: Writer, tagger: Tagger) -> None:
        self._vault = vault
        self._history = history
        self._writer = writer
        self._tagger = tagger

    def accept(self, stage: str | None) -> list[Version]:
        """Accept what is there, of one stage or of all and the keyring, and return the versions that this appended."""
        if stage is None:
            self._vault.keychain.accept_age()
        stages = sorted({*self._vault.backend.stages(), *self._vault.last_seen.stages()}) if stage is None else [stage]
        appended = [self._accept(name) for name in stages]
        for name in stages:
            self._tagger.accept(name)
        for name in stages:
            self._history.look(name)  # what could not be accepted is told now, and not by the next save
        return [version for version in appended if version is not None]

    def _accept(self, stage: str) -> Version | None:
        with self._vault.lock(stage):
            seen = self._vault.last_seen.recall(stage)
            number = self._vault.backend.newest(stage)
            if seen is None:
                return None
            if number < seen.version:
                return self._close_the_gap(stage, number, seen)
            try:
                entry = self._vault.entry(stage, number)
            except (IntegrityError, FormatError, VersionAbsentError):
                entry = None
            if number == seen.version and (entry is None or entry.id == seen.id):
                return None
            self._history.forget(stage)
            if entry is not None:
                self._history.learn(stage, Tip(number, entry.id, entry.created_at))
            _LOG.warning("Rollback accepted: stage %s, version %d is the newest from now on", display(stage), number)
            return None

    def _close_the_gap(self, stage: str, number: int, seen: SeenVersion) -> Version:
        try:
            entry, data = self._vault.load(stage, number)
            draft = Draft(bytes(data), entry.metadata, entry.status, restored_from=number)
            tip = Tip(seen.version, seen.id, entry.created_at)
            before: str | None = entry.id
        except (IntegrityError, FormatError, VersionAbsentError):
            draft = Draft(b"null", {}, "cleared")
            tip = Tip(seen.version, seen.id, None)
            before = None
        gaps, expected = self._vault.gaps(stage)
        self._vault.backend.drop_mark(stage)
        if seen.version not in gaps:  # it is if this was killed here the last time
            self._vault.write_gaps(stage, gaps.add(Gap(number + 1, seen.version, before, seen.id, "lost")), expected)
        version = self._writer.append(stage, tip, draft)
        _LOG.warning(
            "Rollback accepted: stage %s, versions %d to %d are lost, and what is there is now version %d",
            display(stage),
            number + 1,
            seen.version,
            version.number,
        )
        return version
