"""Choose what is indexed, and put the fields of the versions that are there into the columns."""

from __future__ import annotations

from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING

from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._text import counted
from checkpoint_manager.backends.base import Fields, VersionAbsentError
from checkpoint_manager.backends.searchable import ColumnsChangedError
from checkpoint_manager.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._format.index import Index
    from checkpoint_manager._store.index import OpenIndex
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session

_AT_ONCE = 100
"""How many versions of a stage are read before their fields are written."""


def choose_index(store: Store, opened: OpenIndex, names: tuple[str, ...]) -> None:
    """Index these fields and no others, of the versions that are there, too.

    Raises:
        StorageError: The backend refuses.
    """
    while True:
        index = opened.choose(names)
        try:
            _fill(store, opened, index)
        except ColumnsChangedError:  # another process has chosen meanwhile
            continue
        return


def _fill(store: Store, opened: OpenIndex, index: Index) -> None:
    """Fill the columns of the versions that were stored under another choice, or under none."""
    if not index.names:
        return
    filled = 0
    for stage, versions in groupby(opened.backend.unfilled(index.serial), key=itemgetter(0)):
        numbers = (number for _, number in versions)
        with store.session(stage) as session:
            while some := list(islice(numbers, _AT_ONCE)):
                fields = dict(_fields(store, index, stage, some, session))
                opened.backend.fill(stage, fields)
                filled += len(fields)
    if filled:
        _LOG.info("Indexed: %s in %s", counted(filled, "version"), store.backend.location)


def _fields(store: Store, index: Index, stage: str, numbers: list[int], session: Session) -> Iterator[tuple[int, Fields]]:
    """Yield the fields of those versions that open. The others stay candidates of every search."""
    for number in numbers:
        try:
            entry = store.entry(stage, number, session)
        except (IntegrityError, VersionAbsentError):
            continue
        yield number, Fields(index.serial, index.values(entry))
