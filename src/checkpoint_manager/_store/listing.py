"""The versions of a stage, newest first: damaged, unreadable and missing ones are among them.

Which one is the newest, and whether it may be believed, :mod:`checkpoint_manager._store.history` finds out.
"""

from __future__ import annotations

import errno
import itertools
from bisect import bisect_left
from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import MAX_UNREADABLE
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._lazy_log import MOST_LOGGED
from checkpoint_manager._loading import load
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointError, IntegrityError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.gaps import Gaps
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Version

_MOST_MISSING = 1000
"""How many missing versions in a row are listed one by one."""
_OF_ONE_FILE = {errno.EACCES, errno.EPERM, errno.EIO}
"""With these errors, the system refuses to read one version, and may let the others be read."""


class Scanned(NamedTuple):
    """One version of a listing.

    Attributes:
        number: Its number.
        entry: Its metadata; None: it does not open, can't be read, or is missing.
        fault: Why.
        is_missing: It is not there, and no record says that it was deleted.
    """

    number: int
    entry: Entry | None
    fault: CheckpointError | None
    is_missing: bool = False


def walk(store: Store, stage: str, session: Session, below: int | None = None) -> Iterator[Scanned]:
    """Yield the versions of a stage, newest first, without reading their data, with the damaged, unreadable and missing ones.

    With ``below``, only those below a number: what is above is not read, but for the version that names the first of them.

    Each is read when it is asked for, and not kept: there may be any number of planted ones. A version is missing if a
    later one opens, and neither the version nor a record of its deletion exists. What a load would refuse, because the
    versions above do not lead back to it, counts as damaged, and so does all below it.
    """
    # They open, and the version above names another one: they could not be read when that was saved, or are foreign.
    held: list[Scanned] = []
    above, wanted = 0, None
    scanned = _scan(store, stage, session, below)
    for each in scanned:
        if below is not None and each.number >= below:
            above, wanted = each.number, each.entry.previous if each.entry is not None else None
            continue
        if each.number < above - 1:
            wanted = _across_gaps(store, stage, each.number, above, wanted, session)
        if each.entry is not None and wanted in {None, each.entry.id}:
            yield from held
            held.clear()
            wanted = each.entry.previous
            yield each
        elif each.entry is None and not held:
            wanted = None
            yield each
        else:
            held.append(each)
            if each.entry is None or len(held) > MAX_UNREADABLE:
                break
        above = each.number
    for each in itertools.chain(held, scanned if held else ()):
        is_foreign = each.entry is not None
        yield Scanned(each.number, None, store.history.of_another(stage, held[0].number)) if is_foreign else each


def entries(store: Store, stage: str, session: Session) -> Iterator[tuple[int, Entry]]:
    """Yield the versions of a stage that open, newest first. The others are logged as ERROR, and many of them counted.

    Raises:
        StorageError: The operating system does not let one be read. It is as good as the others, and must not be passed over.
    """
    unreadable = 0
    for version, entry, fault, _ in walk(store, stage, session):
        if entry is not None:
            yield version, entry
            continue
        if isinstance(fault, StorageError):
            raise fault
        unreadable += 1
        if unreadable <= MOST_LOGGED:
            _LOG.error("%s", fault)  # the message says all; a traceback would not help
    if unreadable > MOST_LOGGED:
        where = f"stage {printable(stage)} in {store.backend.location}"
        _LOG.error("%d more versions of %s are damaged or missing", unreadable - MOST_LOGGED, where)


def versions(store: Store, stage: str, below: int | None = None) -> Iterator[Version]:
    """Yield the versions of a stage as callers see them, newest first, damaged, unreadable and missing ones among them.

    With ``below``, only those below a number. A stage that was deleted as a whole has none.
    """
    with store.session(stage) as session:
        if store.history.is_deleted(stage, session):
            return
        for version, entry, fault, is_missing in walk(store, stage, session, below):
            if entry is None:
                status = "missing" if is_missing else "unreadable" if isinstance(fault, StorageError) else "damaged"
                yield load("checkpoint_manager.models").Version(stage, version, status)
            else:
                yield entry.as_version(stage, version)


def _scan(store: Store, stage: str, session: Session, start: int | None) -> Iterator[Scanned]:
    """Yield what :func:`walk` judges: each version that is there, whichever history it is of, and those that are missing.

    With ``start``, from the version above it on, which names the first one below.
    """
    look = store.history.look(stage, session)
    below: int | None = None  # the next number that should be there; None: no version that opens was met yet
    numbers = store.backend.versions(stage, session=session)
    gaps, _ = store.gaps(stage, session)
    if start is not None:
        numbers = numbers[: bisect_left(numbers, start) + 1]
    for version in reversed(numbers):
        if version in gaps:
            continue
        if below is not None:
            yield from _missing(store, stage, version + 1, below, look.number, session)
            below = version - 1
        try:
            entry = store.entry(stage, version, session)
        except VersionAbsentError:  # deleted since it was listed
            continue
        except (IntegrityError, StorageError) as error:
            yield Scanned(version, None, of_one_version(error))
            continue
        if version == look.number:
            try:
                store.history.confirm(stage, look, entry, session)
            except VersionAbsentError:
                yield from _scan(store, stage, session, start)
                return
        below = version - 1
        yield Scanned(version, entry, None)
    if below is not None:
        yield from _missing(store, stage, 1, below, look.number, session)


def of_one_version(error: IntegrityError | StorageError) -> IntegrityError | StorageError:
    """Return an error of reading a version if it says nothing about the others.

    Raises:
        StorageError: It does.
    """
    if isinstance(error, StorageError) and error.errno not in _OF_ONE_FILE:
        raise error
    return error


def _across_gaps(store: Store, stage: str, below: int, above: int, wanted: str | None, session: Session) -> str | None:
    """Return the id that a version must have, given that of the highest one between it and another one; None: unknown."""
    gaps, _ = store.gaps(stage, session)  # after the listing: they may have been deleted meanwhile
    for gap in reversed([*gaps.between(below + 1, above - 1)]):
        if gap.last < above - 1:
            return None
        if gap.last >= above or None in {gap.id, wanted} or gap.id == wanted:  # the one above it may have gone with it since
            wanted = gap.before
        above = gap.first
    return wanted if above == below + 1 else None


def _missing(store: Store, stage: str, first: int, last: int, newest: int, session: Session) -> Iterator[Scanned]:
    """Yield the numbers of a range that are not recorded as gone, the highest first.

    At most ``_MOST_MISSING`` of a run are listed, and an ERROR line tells how far it goes. A planted version that does not
    open says nothing about the numbers below it.
    """
    if first > last:
        return
    gaps, _ = store.gaps(stage, session)  # after the listing: what was deleted meanwhile is not missing
    edges = [(gap.first, gap.last) for gap in gaps.between(first, last)]
    for low, high in reversed([*ranges_between(edges, first, last)]):
        for version in range(high, max(low, high - _MOST_MISSING + 1) - 1, -1):
            yield Scanned(version, None, store.history.absent(stage, version, newest), is_missing=True)
        if high - low >= _MOST_MISSING:
            where = f"of stage {printable(stage)} in {store.backend.location}"
            _LOG.error("versions %d to %d %s are missing, and not all of them are listed", low, high, where)


def ranges_between(edges: Iterable[tuple[int, int]], first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges from ``first`` to ``last`` that lie between others, which ascend."""
    for low, high in edges:
        if low > first:
            yield first, low - 1
        first = max(first, high + 1)
    if first <= last:
        yield first, last


def missing_ranges(numbers: Sequence[int], gaps: Gaps) -> Iterator[tuple[int, int]]:
    """Yield the first and last number of each range below the newest version or gap that is neither there nor recorded as gone.

    Args:
        numbers: The versions that are there, ascending.
        gaps: The stage's record of gaps.
    """
    newest = max(numbers[-1] if numbers else 0, gaps.last.last if gaps.last else 0)
    for first, last in ranges_between(zip(numbers, numbers, strict=True), 1, newest):
        yield from ranges_between(((gap.first, gap.last) for gap in gaps.between(first, last)), first, last)
