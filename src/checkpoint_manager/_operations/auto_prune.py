"""Retention after each save, at a cost that does not depend on how long the history is.

The first save of a process looks at a stage's versions from the newest downwards, until it has found one batch of deletable
versions or has examined ``_MOST_LOOKED_AT``; later saves continue below. The process remembers what it has read, and each save
adds one version to it (see :mod:`checkpoint_manager.retention`). So a save reads nothing unless another process has saved to
the stage; then it reads what that process has added.

A deletion costs as many syncs as two saves, however many versions it removes. So versions are deleted once no rule holds
``_ENOUGH`` of them, or ``_ENOUGH_BYTES`` in total: **a history holds up to 15 versions more than the policy keeps.** One save
deletes at most ``_MOST_AT_A_TIME``, so a long history that was never pruned shrinks step by step.

The deletion runs under the lock of the save. The record of gaps shows what other processes have deleted meanwhile. If that
includes a version that a rule holds here, or if the clock goes back, the history is examined again from the top. An error never
fails the save, which is acknowledged already: it is logged as a WARNING, and the next save tries again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem.os_errors import is_refusal
from checkpoint_manager._format.gaps import Gaps
from checkpoint_manager._format.notes import read_group
from checkpoint_manager._operations import delete, tag
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.retention import HeldVersions, VersionFacts
from checkpoint_manager.times import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.retention import Retention

_LOG = logging.getLogger("checkpoint_manager")
_ENOUGH = 16
_ENOUGH_BYTES = 1024 * 1024
_MOST_AT_A_TIME = 64
_MOST_LOOKED_AT = 4096
_MOST_CAUGHT_UP = 256
"""If others have saved more versions than these since, it is quicker to look at the stage from its newest version again."""
_BATCH = 64
"""How many versions are read before their times are compared with one another."""


@dataclass(slots=True)
class _Memory:
    """What this process knows of a stage.

    Attributes:
        held_versions: The versions from ``floor`` to ``newest``.
        newest: The newest one.
        floor: The lowest number that was looked at.
        clock: The latest time of a version that was added on top.
        gaps: What was gone when that was last looked at.
        spared: Held by no rule, but tagged.
        serial: The serial number of the record of tags by which they were spared.
        proven: The newest completed version that this process has read or written as a whole.
        tidied: The leftovers of killed deletions were removed.
    """

    held_versions: HeldVersions
    newest: int
    floor: int
    clock: datetime
    gaps: Gaps = field(default_factory=Gaps)
    spared: dict[int, VersionFacts] = field(default_factory=dict)
    serial: int = 0
    proven: int | None = None
    tidied: bool = False

    def is_in_time(self, version: VersionFacts) -> bool:
        """Return whether a version's time follows on those that are known."""
        return self.clock - version.created_at <= CLOCK_TOLERANCE

    def add(self, version: VersionFacts) -> None:
        """Add a version on top."""
        self.newest = version.number
        self.clock = max(self.clock, version.created_at)
        self.held_versions.newer(version._replace(created_at=self.clock))

    def add_below(self, batch: list[VersionFacts]) -> None:
        """Add versions below all others, newest first."""
        self.held_versions.older_all(batch, self.clock)


class AutoPrune:
    """Prunes the stages of one store, each a little with each save."""

    def __init__(self, store: Store, policy: Retention) -> None:
        self._store = store
        self._policy = policy
        self._stages: dict[str, _Memory] = {}

    def after(self, stage: str, number: int, entry: Entry, session: Session | None) -> None:
        """Take note of a version that was just appended, and delete what is due. The caller holds the stage's lock."""
        try:
            self._prune(stage, _facts(number, entry), session)
        except BaseException as error:
            self._stages.pop(stage, None)  # half of it may have been noted
            if not isinstance(error, Exception) or isinstance(error, MemoryError):
                raise
            if isinstance(error, OSError) and not is_refusal(error):
                raise
            _LOG.warning(
                "Stage %s was saved (version %d), and could not be pruned: %s. The next save tries again",
                printable(stage),
                number,
                str(error) or type(error).__name__,
            )

    def _prune(self, stage: str, saved: VersionFacts, session: Session | None) -> None:
        memory = self._stages.get(stage)
        if memory is None or not self._catch_up(stage, memory, saved, session):
            memory = _Memory(HeldVersions(self._policy, saved.created_at), saved.number, saved.number, saved.created_at)
            self._stages[stage] = memory
        memory.add(saved)
        memory.held_versions.pass_time(saved.created_at)
        if saved.status == "completed":
            memory.proven = saved.number
        if memory.floor > 1:
            if not self._follow_gaps(stage, memory, session):
                return
            self._look_below(stage, memory, session)
        free = memory.held_versions.free
        if len(free) >= _ENOUGH or sum(version.size for version in free.values()) >= _ENOUGH_BYTES:
            self._delete(stage, memory, session)

    def _catch_up(self, stage: str, memory: _Memory, saved: VersionFacts, session: Session | None) -> bool:
        """Take note of what others have saved since; False if that is too much, or a clock went back."""
        if not memory.newest < saved.number <= memory.newest + _MOST_CAUGHT_UP:
            return False
        for version in range(memory.newest + 1, saved.number):
            facts = self._read(stage, version, session)
            if facts is not None:
                if not memory.is_in_time(facts) or facts.created_at - saved.created_at > CLOCK_TOLERANCE:
                    return False
                memory.add(facts)
        return memory.is_in_time(saved)

    def _look_below(self, stage: str, memory: _Memory, session: Session | None) -> None:
        looked_at = 0
        while memory.floor > 1 and looked_at < _MOST_LOOKED_AT and len(memory.held_versions.free) < _MOST_AT_A_TIME:
            batch: list[VersionFacts] = []
            while memory.floor > 1 and len(batch) < _BATCH:
                gap = memory.gaps.find(memory.floor - 1)
                memory.floor = memory.floor - 1 if gap is None else gap.first
                if gap is None:
                    looked_at += 1
                    facts = self._read(stage, memory.floor, session)
                    if facts is not None:
                        batch.append(facts)
            memory.add_below(batch)
        if memory.floor == 1 and not memory.tidied:  # only now: no more is left than a policy keeps, and listing it is quick
            memory.tidied = True
            delete.remove_leftovers(self._store, stage, session)

    def _read(self, stage: str, version: int, session: Session | None) -> VersionFacts | None:
        """Return what a version says; None: it is not there, or does not open, which is not judged here."""
        try:
            return _facts(version, self._store.entry(stage, version, session))
        except (VersionAbsentError, IntegrityError):
            return None

    def _delete(self, stage: str, memory: _Memory, session: Session | None) -> None:
        if not self._follow_gaps(stage, memory, session):
            return
        self._spare_tagged(stage, memory)
        free = memory.held_versions.free
        chosen = sorted(free)[:_MOST_AT_A_TIME]
        if not chosen:
            return
        self._prove(stage, memory, session)
        self._store.flush(stage, session)
        if not self._policy.keep_tagged:
            tags = tag.certain(self._store, stage)
            tag.untag_locked(self._store, stage, [name for number in chosen for name in tags.of(number)])
        memory.gaps = delete.drop(self._store, stage, chosen, session)
        for number in chosen:
            del free[number]
        _LOG.info("Versions pruned: %s %s", printable(stage), chosen)

    def _follow_gaps(self, stage: str, memory: _Memory, session: Session | None) -> bool:
        """Take note of what others have deleted; False if some of it was held, and the next save has to look at all again."""
        gaps, _ = self._store.gaps(stage, session)
        if gaps != memory.gaps:
            if any(number in gaps for number in memory.held_versions.held):
                del self._stages[stage]
                return False
            for versions in (memory.held_versions.free, memory.spared):
                for number in [number for number in versions if number in gaps]:
                    del versions[number]
            memory.gaps = gaps
        return True

    def _spare_tagged(self, stage: str, memory: _Memory) -> None:
        if not self._policy.keep_tagged:
            return
        tags = tag.certain(self._store, stage)
        free = memory.held_versions.free
        if tags.serial != memory.serial:
            memory.serial = tags.serial
            free.update(memory.spared)
            memory.spared.clear()
        for number in {tagged.version for tagged in tags.named.values()} & free.keys():
            memory.spared[number] = free.pop(number)

    def _prove(self, stage: str, memory: _Memory, session: Session | None) -> None:
        """Read the newest completed version, if this process has not written it: older ones go because that one is there."""
        newest_completed = memory.held_versions.holder("newest completed")
        if newest_completed is not None and newest_completed != memory.proven:
            self._store.load(stage, newest_completed, session)
            memory.proven = newest_completed


def _facts(number: int, entry: Entry) -> VersionFacts:
    size = entry.size + sum(each.size for each in entry.attachments)
    return VersionFacts(number, entry.status, entry.created_at, size, read_group(entry.metadata))
