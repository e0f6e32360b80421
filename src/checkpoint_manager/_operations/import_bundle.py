"""Taking histories over from a bundle: first the whole bundle is verified and compared, then it is read again and written.

**Nothing is written before all of it is verified**, down to its last byte, and fits all stages that it brings. So a bundle
that is damaged, forged, or of another history changes nothing. Killed while it is written, each stage has the first of its new
versions, as if the bundle had been made earlier, and the next import of the same bundle goes on from there; until then
``verify`` may report numbers as missing that the bundle knows to be deleted.

**A stage that is not there** gets the versions with their numbers, ids, times, metadata and origins, and the record of those
that were deleted. **One that is there** gets what is newer in the bundle, if both are one history: at the newest version that
both have reached, the ids must be the same, and each version names the id of the one before it. What was deleted on one side
only stays as it is on each. If the histories differ, or if that can't be told, the import is refused.

**Tags** of versions that the store has then, with the same id, are added, after the versions. A name that another version has
here stays where it is, and is reported; so is none taken away.

A stage's lock is held while its versions are written, so that no other writer gets between them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from checkpoint_manager._format import payload
from checkpoint_manager._format.bundle_parts import GapsPart, StagePart, TagsPart, VersionPart
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._operations import tag
from checkpoint_manager._store.history import Tip
from checkpoint_manager.backends.base import VersionAbsentError, VersionTakenError
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.errors import CheckpointNotFoundError, FormatError, RollbackError, StageNameError, VersionConflictError
from checkpoint_manager.models import BundledStage, display

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checkpoint_manager._format.bundle_parts import Part
    from checkpoint_manager._format.gaps import Gap, Gaps
    from checkpoint_manager._format.tags import Tagged
    from checkpoint_manager._store.store import Store


@dataclass(slots=True)
class Arrival:
    """A stage of a bundle, and what is to become of it.

    Attributes:
        source: Its name in the bundle.
        stage: Its name in the store.
        tip: The newest version in the store, before anything is written.
        versions: How many versions the bundle holds.
        newest: The number of the newest one.
        id: Its id.
        added: How many of them are newer than the tip.
        id_at_tip: What the bundle says is the id of the version that has the tip's number, or None: it does not know.
        gaps: How many gaps are to be recorded.
        tags: The tags that the bundle holds.
        tags_added: The names of those that are to be added, and were in the end.
        tags_kept: The names that another version has in the store.
    """

    source: str
    stage: str
    tip: Tip
    versions: int = 0
    newest: int = 0
    id: str | None = None
    added: int = 0
    id_at_tip: str | None = None
    gaps: int = 0
    tags: Mapping[str, Tagged] = field(default_factory=dict)
    tags_added: tuple[str, ...] = ()
    tags_kept: tuple[str, ...] = ()

    @property
    def brings_something(self) -> bool:
        """Whether anything is to be written."""
        return bool(self.added or self.gaps or self.tags_added)

    def see(self, part: VersionPart) -> None:
        """Take note of a version, in ascending order."""
        tip = self.tip.version
        if part.version == tip:
            self.id_at_tip = part.entry.id
        elif part.version == tip + 1 and self.id_at_tip is None:
            self.id_at_tip = part.entry.previous
        self.versions += 1
        self.added += part.version > tip
        self.newest, self.id = part.version, part.entry.id

    def see_gaps(self, gaps: Gaps) -> None:
        """Take note of the gaps: one may know the id, too."""
        gap = gaps.find(self.tip.version)
        if gap is not None and gap.last == self.tip.version and self.id_at_tip is None:
            self.id_at_tip = gap.id

    def as_result(self) -> BundledStage:
        """Return what a caller sees of it."""
        return BundledStage(self.stage, self.versions, self.newest, self.added, self.tags_added, self.tags_kept)


class Importer:
    """Imports stages into one store."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def plan(self, parts: Iterator[Part], into: Mapping[str, str]) -> list[Arrival]:
        """Read a whole bundle, compare it with the store, and return what is to be done. Changes nothing.

        Args:
            parts: All parts of the bundle; they are used up.
            into: Other names for stages, by their names in the bundle.

        Raises:
            BrokenError: The bundle does not open, or holds what can't be.
            CheckpointNotFoundError: The bundle has no stage that ``into`` names.
            VersionConflictError: A stage has another history in the store; all of them are named.
            RollbackError: A stage is older than what this user has seen.
            StorageError, TagError: A stage's record of deletions would become too long, or it would have too many tags.
        """
        arrivals: list[Arrival] = []
        for part in parts:
            match part:
                case StagePart():
                    arrivals.append(self._arrival(part.name, into))
                case VersionPart():
                    _check_data(part)
                    arrivals[-1].see(part)
                case GapsPart():
                    arrivals[-1].see_gaps(part.gaps)
                    self._weigh_gaps(arrivals[-1], part.gaps)
                case TagsPart():
                    arrivals[-1].tags = part.named
                case _:
                    pass
        _check_names(arrivals, into)
        self._compare(arrivals)
        for arrival in arrivals:
            added, arrival.tags_kept = tag.weigh(self._store, arrival.stage, arrival.tags, arrival.tip.version)
            arrival.tags_added = tuple(added)
        return arrivals

    def add(self, parts: Iterator[Part], arrivals: list[Arrival]) -> None:
        """Write what was planned.

        Args:
            parts: All parts of the same bundle, once more.
            arrivals: What :meth:`plan` returned.

        Raises:
            VersionConflictError: Another writer was faster. What is there by now stays; the import can be run again.
            LockTimeoutError: Another writer holds a stage. Likewise.
            StorageError: The operating system refused. Likewise.
        """
        planned = {arrival.source: arrival for arrival in arrivals}
        for part in parts:
            if not isinstance(part, StagePart):
                continue
            arrival = planned[part.name]
            if arrival.brings_something:
                with self._store.lock(arrival.stage):
                    self._add_stage(arrival, parts)

    def _arrival(self, source: str, into: Mapping[str, str]) -> Arrival:
        try:
            validate(source)
        except StageNameError:
            raise BrokenError("holds a stage name that can't be one") from None
        stage = validate(into.get(source, source))
        return Arrival(source, stage, self._tip(stage))

    def _tip(self, stage: str) -> Tip:
        tip = self._store.history.tip(stage)
        if tip.passed > tip.version:  # a rollback that was only warned of
            message = (
                f"stage {display(stage)} in {self._store.backend.location} was turned back, and nothing is imported into it: "
                "call accept_rollback() first, or import it under another name"
            )
            raise RollbackError(message, stage=stage, version=tip.passed)
        return tip

    def _compare(self, arrivals: list[Arrival]) -> None:
        """Refuse histories that are not the continuation, or the beginning, of what is in the store."""
        differing = [arrival for arrival in arrivals if arrival.tip.version and not self._is_one_history(arrival)]
        if not differing:
            return
        first = differing[0]
        named = ", ".join(f"{display(each.stage)} (version {each.tip.version} here, {each.newest} there)" for each in differing)
        message = (
            f"these stages have another history in {self._store.backend.location} than in the bundle, or it can't be told that "
            f"it is the same one: {named}. Nothing was imported. Import them under other names: rename="
        )
        raise VersionConflictError(message, stage=first.stage, expected=first.newest, actual=first.tip.version)

    def _is_one_history(self, arrival: Arrival) -> bool:
        """Compare the ids at the newest number that both sides have reached."""
        if arrival.newest < arrival.tip.version:
            here, there = self._id_of(arrival.stage, arrival.newest), arrival.id
        else:
            here, there = self._id_of(arrival.stage, arrival.tip.version), arrival.id_at_tip
        return here is not None and here == there

    def _id_of(self, stage: str, version: int) -> str | None:
        """Return the id that a version of the store has, or had; None: nothing here knows it.

        Raises:
            IntegrityError: It is damaged.
        """
        gap = self._store.gaps(stage)[0].find(version)
        if gap is not None and gap.last == version:
            return gap.id
        try:
            return self._store.entry(stage, version).id if gap is None else None
        except VersionAbsentError:
            return None

    def _weigh_gaps(self, arrival: Arrival, gaps: Gaps) -> None:
        lacking = self._lacking(arrival.stage, gaps)
        arrival.gaps = len(lacking)
        if lacking:
            self._store.check_gaps(arrival.stage, self._store.gaps(arrival.stage)[0].add(*lacking))

    def _lacking(self, stage: str, gaps: Gaps) -> list[Gap]:
        """Return the gaps of which the store has neither a version nor a record."""
        if not gaps.gaps:
            return []
        present = self._store.backend.versions(stage)
        known = self._store.gaps(stage)[0].gaps
        firsts = [gap.first for gap in known]

        def is_lacking(gap: Gap) -> bool:
            at, before = bisect_left(present, gap.first), bisect_right(firsts, gap.last) - 1
            has_version = at < len(present) and present[at] <= gap.last
            return not has_version and (before < 0 or known[before].last < gap.first)

        return [gap for gap in gaps.gaps if is_lacking(gap)]

    # Writing, under the stage's lock

    def _add_stage(self, arrival: Arrival, parts: Iterator[Part]) -> None:
        tip = self._tip(arrival.stage)
        if (tip.version, tip.id) == (arrival.newest, arrival.id) != (arrival.tip.version, arrival.tip.id):
            arrival.added = 0  # another import of the same bundle was faster, and did it all
        elif (tip.version, tip.id) != (arrival.tip.version, arrival.tip.id):
            self._refuse_conflict(arrival, tip.version)
        for part in parts:
            if isinstance(part, GapsPart):
                self._record(arrival, part.gaps)
                added, arrival.tags_kept = tag.add_locked(self._store, arrival.stage, arrival.tags)
                arrival.tags_added = tuple(added)
                return
            if isinstance(part, VersionPart) and part.version > tip.version:
                tip = self._append(arrival, tip, part)

    def _append(self, arrival: Arrival, tip: Tip, part: VersionPart) -> Tip:
        stage, version, entry = arrival.stage, part.version, part.entry
        if tip.version and version != tip.version + 1:
            self._store.backend.drop_mark(stage)
        try:
            self._store.append(stage, version, entry, part.data)
        except VersionTakenError:  # by a writer without a working lock
            self._refuse_conflict(arrival, version)
        added = Tip(version, entry.id, entry.created_at)
        self._store.history.learn(stage, added)
        return added

    def _record(self, arrival: Arrival, gaps: Gaps) -> None:
        """Write down which numbers have no version on purpose. Last: beyond the newest version, it would swallow a save."""
        lacking = self._lacking(arrival.stage, gaps)
        if not lacking:
            return
        known, expected = self._store.gaps(arrival.stage)
        self._store.write_gaps(arrival.stage, known.add(*lacking), expected)

    def _refuse_conflict(self, arrival: Arrival, actual: int) -> NoReturn:
        message = (
            f"stage {display(arrival.stage)} in {self._store.backend.location}: another writer saved a version while this was "
            "importing, and was faster. What was imported before stays; run the import again, and it says what can be done"
        )
        raise VersionConflictError(message, stage=arrival.stage, expected=arrival.tip.version, actual=actual)


def _check_data(part: VersionPart) -> None:
    try:
        payload.decode(part.data)
    except FormatError:
        raise BrokenError(f"holds a version {part.version} whose data is not JSON") from None


def _check_names(arrivals: list[Arrival], into: Mapping[str, str]) -> None:
    """Refuse names that the bundle does not have, and two stages that would become one."""
    missing = sorted(into.keys() - {arrival.source for arrival in arrivals})
    if missing:
        there = ", ".join(display(arrival.source) for arrival in arrivals) or "none"
        message = f"the bundle has no stage {display(missing[0])}; it has: {there}. Nothing was imported"
        raise CheckpointNotFoundError(message, stage=missing[0])
    names: set[str] = set()
    for arrival in arrivals:
        if arrival.stage in names:
            message = f"two stages of the bundle would become {display(arrival.stage)}: give each a name of its own"
            raise StageNameError(message, stage=arrival.stage)
        names.add(arrival.stage)
