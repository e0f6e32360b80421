"""Which version is the newest, what came before it, and whether someone has turned the clock back.

The backend finds the newest version. This module compares it with what was seen, and a writer reads besides which versions are
gone: who accepts a rollback writes down what is lost before the next version stands above it, and if that was all that came to
be, the numbers that are lost are not to be given out again.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager._store.last_seen import SeenVersion
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointNotFoundError, FormatError, Hint, IntegrityError, RollbackError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")
_LOOK_BACK = 16
"""How many damaged versions are passed over to learn the time of the last readable one."""


class Tip(NamedTuple):
    """The newest version of a stage, as a writer needs it.

    Attributes:
        version: Its number; 0: the stage has none yet.
        id: Its id; None: it has none, or it can't be read.
        created_at: When it, or the last readable one before it, was written.
        passed: A number that was used already, whatever is there now: the next one is above it.
    """

    version: int
    id: str | None
    created_at: datetime | None
    passed: int = 0

    @property
    def next_number(self) -> int:
        """The number of the version to come."""
        return max(self.version, self.passed) + 1


class Look(NamedTuple):
    """What a look at a stage gave.

    Attributes:
        number: The newest version's number; 0: none.
        seen: What was seen before.
        durable: It is known to be durable.
    """

    number: int
    seen: SeenVersion | None
    durable: bool


NOTHING = Tip(0, None, None)


class History:
    """The histories of all stages of a store, with what this process remembers of their tips."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._tips: dict[str, Tip] = {}

    def look(self, stage: str, session: Session | None = None) -> Look:
        """Find the newest version. Whoever reads it then calls :meth:`confirm`.

        Raises:
            RollbackError: This user has seen a newer version, or another history.
        """
        seen = self._store.last_seen.recall(stage)  # before the store is looked at: it must never be ahead of it
        number, durable = self._store.backend.newest(stage, session=session)
        if seen is not None and number < seen.version:
            number, durable = self._store.backend.newest(stage, exact=True, session=session)
        if seen is not None:
            if number < seen.version:
                self._rolled_back(stage, f"its newest version is {number or 'gone'}", seen)
            elif number > seen.version + 1 and not self._still_has(stage, seen):
                self._rolled_back(stage, f"its version {seen.version} is not the one that was seen", seen)
        return Look(number, seen, durable)

    def confirm(self, stage: str, look: Look, entry: Entry) -> None:
        """Check the newest version's own words against what was seen before, and remember it.

        One that is not known to be durable is made so first: what was shown to a reader, and is remembered, must not be gone
        after a power cut.

        Raises:
            RollbackError: It is not the one that was seen, or does not follow it.
            StorageError: It can't be made durable.
        """
        if look.seen is not None:
            expected = {look.seen.version: entry.id, look.seen.version + 1: entry.previous}.get(look.number)
            if expected is not None and expected != look.seen.id:
                self._rolled_back(stage, f"its version {look.seen.version} is not the one that was seen", look.seen)
                return
        known = self._tips.get(stage, NOTHING)
        if known.version < look.number:
            if not look.durable:
                self._store.backend.flush(stage)
            self.learn(stage, Tip(look.number, entry.id, entry.created_at), look.seen)

    def tip(self, stage: str, session: Session | None = None) -> Tip:
        """Return the newest version as a writer needs it. Damage does not stop a writer: the stage is computed again.

        Raises:
            IntegrityError: The record of deletions is damaged: no number is known to be free.
        """
        look = self.look(stage, session)
        tip = self._tip(stage, look, look.seen.version if look.seen else 0)
        gap = self._store.gaps(stage, session)[0].last
        return tip if gap is None or gap.last < tip.next_number else tip._replace(id=gap.id, passed=gap.last)

    def _tip(self, stage: str, look: Look, passed: int) -> Tip:
        known = self._tips.get(stage, NOTHING)
        if look.number == known.version and known.id is not None:
            return Tip(known.version, known.id, known.created_at, passed)
        for version in range(look.number, max(0, look.number - _LOOK_BACK), -1):
            try:
                entry = self._store.entry(stage, version)
            except (IntegrityError, FormatError, VersionAbsentError):
                continue
            if version == look.number:
                self.confirm(stage, look, entry)
            return Tip(look.number, entry.id if version == look.number else None, entry.created_at, passed)
        return Tip(look.number, None, None, passed)

    def learn(self, stage: str, tip: Tip, seen: SeenVersion | None = None) -> None:
        """Remember a version that is durable and authentic as the newest, in this process and for this user.

        Args:
            stage: The stage.
            tip: The version.
            seen: What was seen before, if that is known: it need not be written down once more.
        """
        self._tips[stage] = tip
        if tip.id is not None and (seen is None or seen.version < tip.version):
            self._store.last_seen.remember(stage, SeenVersion(tip.version, tip.id))

    def forget(self, stage: str) -> None:
        """Drop what is remembered of a stage: its user has accepted a rollback."""
        self._tips.pop(stage, None)
        self._store.last_seen.forget(stage)

    def entries(self, stage: str) -> list[tuple[int, Entry]]:
        """Return the readable versions of a stage, newest first, without reading their data.

        Versions that do not open are passed over with an ERROR line: a damaged one must not hide the others.
        """
        look = self.look(stage)
        gaps, _ = self._store.gaps(stage)
        found: list[tuple[int, Entry]] = []
        for version in reversed(self._store.backend.versions(stage)):
            if version in gaps:
                continue
            try:
                found.append((version, self._store.entry(stage, version)))
            except VersionAbsentError:  # deleted since it was listed
                continue
            except (IntegrityError, FormatError) as error:
                _LOG.error("%s", error)  # the message says all; a traceback would not help
        if found and found[0][0] == look.number:
            self.confirm(stage, look, found[0][1])
        return found

    def versions(self, stage: str) -> list[Version]:
        """Return the versions of a stage as callers see them, newest first."""
        return [entry.as_version(stage, version) for version, entry in self.entries(stage)]

    def at(self, stage: str, moment: datetime) -> tuple[int, Entry] | None:
        """Return the version that was the newest at a moment, or None if the stage did not exist then."""
        return next(((version, entry) for version, entry in self.entries(stage) if entry.created_at <= moment), None)

    def entry(self, stage: str, version: int) -> Entry:
        """Return one version's entry; its data is not read.

        Raises:
            CheckpointNotFoundError: There is none, or it is gone on purpose.
            IntegrityError: It is damaged, or missing without a record.
        """
        look = self.look(stage)
        try:
            if version < 1 or version in self._store.gaps(stage)[0]:
                raise VersionAbsentError
            entry = self._store.entry(stage, version)
        except VersionAbsentError:
            raise self.absent(stage, version, look.number) from None
        if version == look.number:
            self.confirm(stage, look, entry)
        return entry

    def before(self, stage: str, version: int) -> int | None:
        """Return the number of the version before one, whole or not; None if there is none."""
        gaps, _ = self._store.gaps(stage)
        present = (number for number in reversed(self._store.backend.versions(stage)) if number < version)
        return next((number for number in present if number not in gaps), None)

    def absent(self, stage: str, version: int, newest: int) -> Exception:
        """Return the error that says why a version can't be had; ``newest``: the newest one before it was looked for."""
        where = f"in {self._store.backend.location}"
        if newest == 0:
            message = f"there is no checkpoint of stage {display(stage)} {where}"
            return CheckpointNotFoundError(message, hint=Hint.SEE_STAGES, stage=stage)
        gap = self._store.gaps(stage)[0].find(version)
        if gap is not None:
            message = f"version {version} of stage {display(stage)} {where} was {gap.reason}"
            return CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage, version=version)
        if not 1 <= version <= newest:
            message = f"there is no version {version} of stage {display(stage)} {where}: the newest is {newest}"
            return CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage, version=version)
        message = (
            f"version {version} of stage {display(stage)} {where} is missing, and there is no record that it was deleted: "
            "put it back from a backup, or load another version"
        )
        return IntegrityError(message, stage=stage, version=version)

    def _still_has(self, stage: str, seen: SeenVersion) -> bool:
        try:
            return self._store.entry(stage, seen.version).id == seen.id
        except (IntegrityError, FormatError, VersionAbsentError):
            # Damaged or deleted: that is told where it is read. It is no evidence of another history.
            return True

    def _rolled_back(self, stage: str, found: str, seen: SeenVersion) -> None:
        message = (
            f"stage {display(stage)} in {self._store.backend.location} was turned back: {found}, and this user has "
            f"already seen version {seen.version}"
        )
        error = RollbackError(message, hint=Hint.ACCEPT_ROLLBACK, stage=stage, version=seen.version)
        if self._store.on_rollback == "raise":
            raise error
        _LOG.warning("%s", error)
