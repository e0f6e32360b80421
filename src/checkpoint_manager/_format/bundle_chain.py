"""The rules for the versions of one stage in a bundle: a whole history, from its first version to its newest.

An export applies them, so that each bundle can be imported. An import applies them, so that ``verify`` finds nothing wrong in
what was imported, whoever made the bundle.

* Numbers ascend. Each number from 1 to the newest is either a version or lies in a gap, and no number is both.
* Each version names the id of the one before it, or of one a little further back if those between could not be read then.
  Across a gap, the gap's own ids must fit. Null means that it is not known.
* A copy is of an earlier version. Times may go back, as clocks do.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import MAX_UNREADABLE, MAX_VERSION, BrokenError
from checkpoint_manager._format.gaps import Gap, Gaps
from checkpoint_manager._named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._format.checkpoint_file import Entry

MAX_MISSING_RANGES = 1_000_000
"""More than the gaps that fit into a part of a bundle, so that memory stays bounded."""


class MissingRange(NamedTuple):
    """Numbers without a version, between two versions or before the first one.

    Attributes:
        first: The first one.
        last: The last one.
        before: The id of the version before it, or None.
        after: What the version after it names as its predecessor, or None.
    """

    first: int
    last: int
    before: str | None
    after: str | None


class Chain:
    """The versions of one stage so far, in ascending order."""

    def __init__(self) -> None:
        self.newest = 0
        self.id: str | None = None
        self.missing: list[MissingRange] = []
        self._recent: deque[str] = deque(maxlen=MAX_UNREADABLE)
        self._numbers = array("Q")
        self._ids = bytearray()  # 16 bytes each: with its number, a version takes 24 bytes here and hundreds in the bundle

    def add(self, version: int, entry: Entry) -> None:
        """Add the next version.

        Raises:
            BrokenError: It does not continue the versions before it.
        """
        if not self.newest < version <= MAX_VERSION:
            raise BrokenError(f"holds version {version} after version {self.newest}")
        if version == self.newest + 1:
            if entry.previous is not None and entry.previous not in self._recent:
                raise BrokenError(f"holds a version {version} that does not continue the one before it")
        elif len(self.missing) < MAX_MISSING_RANGES:
            self.missing.append(MissingRange(self.newest + 1, version - 1, self.id, entry.previous))
        else:
            raise BrokenError(f"holds a history with more than {MAX_MISSING_RANGES} gaps")
        if entry.restored_from is not None and not 1 <= entry.restored_from < version:
            raise BrokenError(f"holds a version {version} that claims to be a copy of version {entry.restored_from}")
        self.newest, self.id = version, entry.id
        self._recent.append(entry.id)
        self._numbers.append(version)
        self._ids += bytes.fromhex(entry.id)

    def has(self, version: int, version_id: str) -> bool:
        """Return whether this very version was added."""
        at = bisect_left(self._numbers, version)
        return version in self._numbers[at : at + 1] and self._ids[16 * at : 16 * at + 16].hex() == version_id

    def fitted(self, gaps: Gaps) -> Gaps:
        """Return the part of these gaps that lies in missing ranges: a version may have been deleted after it was added."""
        found: list[Gap] = []
        ascending = iter(gaps)
        gap = next(ascending, None)
        for missing in self.missing:
            while gap is not None and gap.first <= missing.last:
                if gap.last >= missing.first:
                    found.append(_cut(gap, missing))
                if gap.last > missing.last:
                    break
                gap = next(ascending, None)
        return Gaps(found)

    def close(self, gaps: Gaps) -> None:
        """Check that the gaps are the missing ranges.

        Raises:
            BrokenError: They are not, or do not fit between their neighbours.
        """
        if not self.newest:
            raise BrokenError("holds a stage without a version")
        ascending = iter(gaps)
        for missing in self.missing:
            _close_range(missing, ascending)
        if next(ascending, None) is not None:
            raise BrokenError("holds a record of deletions for numbers that have a version")


def _cut(gap: Gap, missing: MissingRange) -> Gap:
    if gap.first < missing.first:
        gap = gap._replace(first=missing.first, before=missing.before)
    if gap.last > missing.last:
        gap = gap._replace(last=missing.last, id=missing.after)
    return gap


def _close_range(missing: MissingRange, gaps: Iterator[Gap]) -> None:
    """Take the gaps of a missing range, and check that they fill it and fit between their neighbours."""
    reached, before = missing.first - 1, missing.before
    while reached < missing.last:
        gap = next(gaps, None)
        if gap is None or gap.first != reached + 1 or gap.last < gap.first:
            raise BrokenError(f"holds no record of what became of version {reached + 1}")
        first_of_all = gap.first == 1 and gap.before is not None
        if gap.last > missing.last or first_of_all or not _may_be_same(before, gap.before):
            raise _of_another_history(missing)
        reached, before = gap.last, gap.id
    # A version names the one before it, or the last one before the range if those in it could not be read.
    if not _may_be_same(before, missing.after) and missing.after != missing.before:
        raise _of_another_history(missing)


def _may_be_same(one: str | None, other: str | None) -> bool:
    return one is None or other is None or one == other


def _of_another_history(missing: MissingRange) -> BrokenError:
    return BrokenError(f"holds a record of deletions from version {missing.first} on that is of another history")
