"""The index of a store in a searchable place: which fields of its versions its writers put into columns, in the clear.

What is indexed is the choice of who has a key: a sealed record of the store holds it. A writer reads the record before its
first save, again every minute, and whenever the columns are not those that it knows. A record that is forged, or older than the
one that this user has seen, is not followed, with a WARNING: nothing is put into columns then, and nothing is looked for in
them.

The columns are hints. A version that was stored under an earlier choice, or under none, is always a candidate; each candidate
is compared with its sealed entry.
"""

from __future__ import annotations

import contextlib
import logging
import time
from datetime import UTC, datetime
from itertools import chain, islice
from typing import TYPE_CHECKING

from checkpoint_manager._format import index as sealed_index
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.index import RECORD, STAGE, Index
from checkpoint_manager._store.last_seen import SeenRecord
from checkpoint_manager.backends.base import Fields, RecordChangedError
from checkpoint_manager.backends.searchable import ColumnsChangedError, Conditions
from checkpoint_manager.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.open_keyring import OpenKeyring
    from checkpoint_manager.backends.base import Record
    from checkpoint_manager.backends.searchable import Searchable

_LOG = logging.getLogger("checkpoint_manager")
_FRESH_SECONDS = 60.0
_MOST_BYTES = 1 << 28


class OpenIndex:
    """The index of an opened store.

    Args:
        backend: Where the store is kept.
        keyring: Its keys.

    Attributes:
        backend: The same.
    """

    def __init__(self, backend: Searchable, keyring: OpenKeyring) -> None:
        self.backend = backend
        self._keyring = keyring
        self._last_seen = keyring.last_seen
        self._index = Index()
        self._record: Record | None = None
        self._refreshed = -_FRESH_SECONDS
        self._warned = ""

    def refresh(self) -> Index:
        """Return the index as it is now."""
        self._refreshed = time.monotonic()
        seen = self._last_seen.recall_record(STAGE, "index")
        record: Record | None = None
        try:
            record = self.backend.read_record("index", limit=RECORD.max_bytes, known=self._record)
            found = Index() if record is None else self._index if record is self._record else self._opened(record)
        except (BrokenError, IntegrityError) as error:
            return self._not_followed(str(error))
        if found.serial < seen.serial or (found.serial == seen.serial and found.id != seen.id):
            return self._not_followed("is gone" if record is None else "is older than the one that this user has seen")
        self._index, self._record = found, record
        if found.serial > seen.serial:
            self._last_seen.remember_record(STAGE, "index", SeenRecord(found.serial, found.id))
        return found

    def _opened(self, record: Record) -> Index:
        self._keyring.refresh()  # whoever once knew the key may have written it after a rotation
        key = self._keyring.key(RECORD.key_of(record.data))
        if key is None:
            raise BrokenError("is sealed under a key that the keyring does not have")
        return sealed_index.decode(RECORD.open(key, self._keyring.store_id, STAGE, record.data))

    def _not_followed(self, why: str) -> Index:
        self._index, self._record = Index(), None
        if why != self._warned:
            self._warned = why
            where = self.backend.location
            _LOG.warning("The record of what is indexed in %s %s, so nothing is. Open the store with index= again", where, why)
        return self._index

    # Writing

    def append(self, append: Callable[[Callable[[Entry], Fields | None]], None]) -> None:
        """Call ``append`` with a function that returns the fields to store for an entry.

        It is called again if the columns have changed. If they are missing even then, the versions are stored without fields.
        """
        if time.monotonic() - self._refreshed >= _FRESH_SECONDS:
            self.refresh()
        for is_again in (False, True):
            index = self.refresh() if is_again else self._index
            try:
                append(lambda entry: Fields(index.serial, index.values(entry)) if index.names else None)  # noqa: B023  # now
            except ColumnsChangedError:
                continue
            return
        append(lambda _: None)

    def choose(self, names: tuple[str, ...]) -> Index:
        """Let these fields and no others be indexed from now on, and return the index; the versions that are there stay out.

        Raises:
            StorageError: The backend refuses.
        """
        while True:
            before = self.backend.read_record("index", limit=_MOST_BYTES, known=self._record)  # whoever wrote it
            present = self.refresh()
            seen = self._last_seen.recall_record(STAGE, "index")
            if present.names == names and present.serial >= seen.serial and self._has_columns():
                return present
            if present.names not in {names, ()}:
                where = self.backend.location
                old, new = ", ".join(present.names), ", ".join(names) or "nothing"
                _LOG.warning("The index of %s changes: it was %s, and is %s", where, old, new)
            self.backend.set_columns(names)
            with contextlib.suppress(RecordChangedError):
                self._write(present.changed(names, above=seen.serial), before)

    def _has_columns(self) -> bool:
        equal = {name: "" for name in self._index.names if name != "created_at"}
        since = datetime.now(UTC) if "created_at" in self._index.names else None
        return not self._index.names or self._first(Conditions(self._index.serial, "", equal, since)) is not None

    def _write(self, index: Index, expected: Record | None) -> None:
        key_id, key = self._keyring.active
        sealed = RECORD.seal(key_id, key, self._keyring.store_id, STAGE, sealed_index.encode(index))
        self._record = self.backend.write_record("index", data=sealed, expected=expected)
        self._index = index
        self._last_seen.remember_record(STAGE, "index", SeenRecord(index.serial, index.id))

    def reseal(self) -> None:
        """Seal the record under the active key, unless it is."""
        while True:
            index = self.refresh()
            if self._record is None or RECORD.key_of(self._record.data) == self._keyring.active[0]:
                return
            try:
                self._write(index, self._record)
            except RecordChangedError:
                continue

    # Searching

    def candidates(
        self, stage_prefix: str, status: str | None, since: datetime | None, metadata: Mapping[str, object]
    ) -> Iterator[tuple[str, int]] | None:
        """Return the stage and number of each version that may meet the criteria; None: no column helps to find them."""
        index = self.refresh()
        equal = {sealed_index.column_of(key): sealed_index.text_of(value) for key, value in metadata.items()}
        equal = {name: text for name, text in equal.items() if name in index.names}
        if status is not None and "status" in index.names:
            equal["status"] = status
        if "created_at" not in index.names:
            since = None
        if not equal and since is None:
            return None
        return self._first(Conditions(index.serial, stage_prefix, equal, since))

    def _first(self, conditions: Conditions) -> Iterator[tuple[str, int]] | None:
        """Begin a search; None: an administrator has removed a column."""
        candidates = self.backend.search(conditions)
        try:
            first = list(islice(candidates, 1))
        except ColumnsChangedError:
            return None
        return chain(first, candidates)
