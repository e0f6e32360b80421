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
from checkpoint_manager._operations import tag
from checkpoint_manager._operations.save import Draft, append
from checkpoint_manager._store.history import Tip
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import FormatError, IntegrityError
from checkpoint_manager.models import Version, display

if TYPE_CHECKING:
    from checkpoint_manager._store.last_seen import SeenVersion
    from checkpoint_manager._store.store import Store

_LOG = logging.getLogger("checkpoint_manager")


def accept_rollback(store: Store, stage: str | None) -> list[Version]:
    """Accept what is there, of one stage or of all and the keyring, and return the versions that this appended."""
    if stage is None:
        store.keyring.accept_rollback()
    stages = sorted({*store.backend.stages(), *store.last_seen.stages()}) if stage is None else [stage]
    appended = [_accept(store, name) for name in stages]
    for name in stages:
        tag.accept_rollback(store, name)
    for name in stages:
        store.history.look(name)  # what could not be accepted is told now, and not by the next save
    return [version for version in appended if version is not None]


def _accept(store: Store, stage: str) -> Version | None:
    with store.lock(stage):
        seen = store.last_seen.recall(stage)
        number = store.backend.newest(stage, exact=True).number
        if seen is None:
            return None
        if number < seen.version:
            return _close_the_gap(store, stage, number, seen)
        try:
            entry = store.entry(stage, number)
        except (IntegrityError, FormatError, VersionAbsentError):
            entry = None
        if number == seen.version and (entry is None or entry.id == seen.id):
            return None
        store.history.forget(stage)
        if entry is not None:
            store.history.learn(stage, Tip(number, entry.id, entry.created_at))
        _LOG.warning("Rollback accepted: stage %s, version %d is the newest from now on", display(stage), number)
        return None


def _close_the_gap(store: Store, stage: str, number: int, seen: SeenVersion) -> Version:
    try:
        entry, data = store.load(stage, number)
        draft = Draft(bytes(data), entry.metadata, entry.status, restored_from=number)
        tip = Tip(seen.version, seen.id, entry.created_at)
        before: str | None = entry.id
    except (IntegrityError, FormatError, VersionAbsentError):
        draft = Draft(b"null", {}, "cleared")
        tip = Tip(seen.version, seen.id, None)
        before = None
    gaps, expected = store.gaps(stage)
    if seen.version not in gaps:  # it is if this was killed here the last time
        store.write_gaps(stage, gaps.add(Gap(number + 1, seen.version, before, seen.id, "lost")), expected)
    version = append(store, stage, tip, draft)
    _LOG.warning(
        "Rollback accepted: stage %s, versions %d to %d are lost, and what is there is now version %d",
        display(stage),
        number + 1,
        seen.version,
        version.number,
    )
    return version
