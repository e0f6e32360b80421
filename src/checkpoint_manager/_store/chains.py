"""Whether a version below the newest one belongs to the same history.

A version file that opens may still be of another history: of a copy of the store that went on by itself, it has the same stage
and number. Each version names the id of the one before it, so the newest version, which is compared with what this user has
seen, decides for all below it. The chain is followed as far down as a version is asked for, and what was followed once is
remembered.

A damaged or missing version interrupts the chain, because only itself says what came before it: what is below is taken as it
is. The damage shows wherever versions are listed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import MAX_UNREADABLE
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.gaps import Gap
    from checkpoint_manager._store.history import History, Look
    from checkpoint_manager._store.sealed_store import SealedStore
    from checkpoint_manager.backends.base import Session

_STEPS = 256
"""How far below the version that is asked for the chain is followed, so that going down costs one listing for many versions."""


class _Followed(NamedTuple):
    """The part of a stage's chain that was followed, from its newest version downwards.

    Attributes:
        newest: The version that it was followed from.
        ids: The ids of the versions on it.
        lowest: It was followed down to this number.
        wanted: The id that the next version below must have; None: it is not known.
    """

    newest: int
    ids: dict[int, str]
    lowest: int
    wanted: str | None


class _Link(NamedTuple):
    """The id of a version, or of the last one of a gap, and of the version before it; None: it is not known."""

    id: str | None
    before: str | None


class Chains:
    """The chains of all stages of a store, as far as this process has followed them."""

    def __init__(self, store: SealedStore, history: History) -> None:
        self._store = store
        self._history = history
        self._stages: dict[str, _Followed] = {}

    def check(self, stage: str, version: int, entry: Entry, look: Look, session: Session) -> None:
        """Check that the newest version leads back to a version below it.

        Args:
            stage: The stage.
            version: The version.
            entry: Its metadata.
            look: The look at the stage that found the newest version.
            session: A session on the stage.

        Raises:
            IntegrityError: The version is of another history, or one above it is.
            RollbackError: The newest version is of another history than what this user has seen.
        """
        followed = self._stages.get(stage)
        if followed is None or followed.newest != look.number:
            followed = self._stages[stage] = self._begin(stage, look, followed, session)
        if version not in followed.ids and version < followed.lowest:
            followed = self._stages[stage] = self._follow(stage, followed, max(1, version - _STEPS), session)
        if followed.ids.get(version, entry.id) != entry.id:
            raise self._history.of_another(stage, version)

    def forget(self, stage: str) -> None:
        """Forget a stage, after its user has accepted another history."""
        self._stages.pop(stage, None)

    def _begin(self, stage: str, look: Look, before: _Followed | None, session: Session) -> _Followed:
        """Begin at the newest version, and go on from what was followed of an earlier one, if it leads there."""
        try:
            entry = self._store.entry(stage, look.number, session)
        except (IntegrityError, VersionAbsentError):
            return _Followed(look.number, {}, look.number, None)
        try:
            self._history.confirm(stage, look, entry, session)
        except VersionAbsentError:
            return self._begin(stage, self._history.look(stage, session, exact=True), before, session)
        followed = _Followed(look.number, {look.number: entry.id}, look.number, entry.previous)
        if before is None or before.newest > look.number:
            return followed
        followed = self._follow(stage, followed, before.newest, session)
        if followed.ids.get(before.newest, "") != before.ids.get(before.newest):
            return followed
        before.ids.update(followed.ids)
        return before._replace(newest=look.number)

    def _follow(self, stage: str, followed: _Followed, lowest: int, session: Session) -> _Followed:
        """Follow the chain down to a number. Only ids are added to what was followed: other threads may be using it."""
        ids, reached, wanted = followed.ids, followed.lowest, followed.wanted
        skipped: dict[int, str] = {}
        for number, gap in self._steps(stage, reached, max(1, lowest - MAX_UNREADABLE), session):
            if not skipped and number < lowest:
                break
            link = self._link(stage, number, gap, session)
            if link is None:
                if skipped:
                    break
                reached, wanted = number, None
            elif None not in {link.id, wanted} and link.id != wanted:  # it was unreadable when the one above it was saved, or
                skipped[number] = str(link.id)  # it is of another history
                if len(skipped) > MAX_UNREADABLE:
                    break
            else:
                ids.update(skipped)
                skipped = {}
                reached, wanted = number if gap is None else gap.first, link.before
                if link.id is not None:
                    ids[number] = link.id
        if skipped:
            raise self._history.of_another(stage, max(skipped))
        return _Followed(followed.newest, ids, min(reached, lowest), wanted)

    def _link(self, stage: str, number: int, gap: Gap | None, session: Session) -> _Link | None:
        """Return how a version or a gap is linked; None: it can't be read."""
        if gap is not None:
            return _Link(gap.id, gap.before)
        try:
            entry = self._store.entry(stage, number, session)
        except (IntegrityError, VersionAbsentError):
            return None
        return _Link(entry.id, entry.previous)

    def _steps(self, stage: str, above: int, lowest: int, session: Session) -> Iterator[tuple[int, Gap | None]]:
        """Yield the versions and the gaps below a version, down to ``lowest``, newest first; of missing ones, the highest."""
        gaps, _ = self._store.gaps(stage, session)
        versions = self._store.backend.versions(stage, session=session)
        steps: list[tuple[int, Gap | None]] = [(gap.last, gap) for gap in gaps.between(lowest, above - 1)]
        steps += [(number, None) for number in versions if lowest <= number < above and number not in gaps]
        for number, gap in sorted(steps, key=_number, reverse=True):
            if number < above - 1:
                yield above - 1, None
            if gap is not None and number >= above:  # the version above was deleted, too, since the chain was followed to it
                gap = gap._replace(id=None)  # noqa: PLW2901
            yield number, gap
            above = number if gap is None else gap.first


def _number(step: tuple[int, Gap | None]) -> int:
    return step[0]
