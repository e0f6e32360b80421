"""The records of a thread: the versions of a stage, with an index of them in each.

A framework's thread, or workflow, has many checkpoints, and each is found by its id. A *record* is what a version holds as its
data: a checkpoint, or what was written to one later. Its entry is a group of checkpoints (such as a namespace), the
checkpoint's id, and the kind of the record, ``checkpoint`` or ``writes``; the rest is what the framework keeps::

    {"entry": ["", "1f0…", "checkpoint"], …}
    {"entry": ["", "1f0…", "writes"], …}

Each record also says where those before it are. It holds the whole index, as JSON text, or the number of the version that holds
it and the entries of the versions since::

    "index": {group: {checkpoint id: [version of the checkpoint, versions of its writes, …]}}
    "index_at": 112, "tail": [[113, "", "1f0…", "writes"], …]

The whole index is written again when the tail has 16 entries, and at least the square root of as many as the index has. A
reader needs the newest version, the one with the index, and those of the checkpoint that it looks for. A writer names the
version that it builds on; if another process was faster, it reads what that one wrote and tries again. A restored copy of an
older version has the index of that version.

If the version that holds the index was deleted, the index is rebuilt from the metadata of the versions, which holds the same
entries. Versions between a restored copy and its source do not count then, nor those before a cleared version.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager import (
    CheckpointManager,
    CheckpointNotFoundError,
    FormatError,
    IntegrityError,
    Version,
    VersionConflictError,
)
from checkpoint_manager.integrations._erasing import erase

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

Key = tuple[str, str]
"""A group and the id of a checkpoint."""

_INDEX_ONLY = ("", "", "index")
_SHORTEST_TAIL = 16
_MOST_INDEXES = 256
"""How many are kept in memory: those of the threads used last."""
_LOCKS = 64
_MOST_ATTEMPTS = 1000
"""How often a change is tried while other writers are faster."""


class Index:
    """Where the records of a thread are, as of a version.

    Args:
        number: The version; 0 if the thread is empty.
        at: The version that holds the whole index; 0 if none does.
        places: By group and checkpoint id: the version of the checkpoint (0: not put yet), and those of its writes.
    """

    def __init__(self, number: int, at: int = 0, places: Mapping[str, Mapping[str, Sequence[int]]] | None = None) -> None:
        self.number = number
        self.at = at
        self.tail: list[Any] = []
        self.places = {group: {id_: [*versions] for id_, versions in ids.items()} for group, ids in (places or {}).items()}
        self._size = sum(len(versions) for ids in self.places.values() for versions in ids.values())

    def newest_first(self, group: str) -> list[str]:
        """Return the ids of the checkpoints of a group, which sort by time."""
        ids = list(self.places.get(group, {}).items())  # at one moment: another thread may add to it
        return sorted((id_ for id_, (version, *_) in ids if version), reverse=True)

    def of(self, group: str, id_: str) -> list[int]:
        """Return the version of a checkpoint (0: there is none), and those of its writes."""
        return self.places.get(group, {}).get(id_, [0])

    def add(self, version: int, group: str, id_: str, kind: str) -> None:
        """Note where a record is."""
        if kind == "index":
            return
        versions = self.places.setdefault(group, {}).setdefault(id_, [0])
        if kind == "writes":
            versions.append(version)
        else:
            versions[0] = version
        self._size += 1

    def appended(self, version: int, entry: Sequence[str], *, whole: bool) -> None:
        """Add a record that was appended, with the whole index or with its tail."""
        self.add(version, *entry)
        self.number = version
        if whole:
            self.at, self.tail = version, []
        else:
            self.tail.append([version, *entry])

    def for_record(self) -> dict[str, Any]:
        """Return the fields of the next record that hold this index, or say where it is."""
        if not self.at or len(self.tail) >= max(_SHORTEST_TAIL, math.isqrt(self._size)):
            return {"index": orjson.dumps(self.places).decode()}
        return {"index_at": self.at, "tail": self.tail}

    def without(self, gone: set[Key]) -> Index:
        """Return this index without some checkpoints."""
        left = {group: {id_: at for id_, at in ids.items() if (group, id_) not in gone} for group, ids in self.places.items()}
        return Index(self.number, places={group: ids for group, ids in left.items() if ids})


class Records:
    """The records in a store, for all threads and processes that use it at once.

    Args:
        manager: The store.
        names: The fields of a version's metadata for a group and an id, as ``history`` shows them.
    """

    def __init__(self, manager: CheckpointManager, names: tuple[str, str]) -> None:
        self._manager = manager
        self._names = names
        self.forget()
        _ALL.add(self)

    def forget(self) -> None:
        """Drop the indexes in memory, and replace the locks by free ones."""
        self._indexes: dict[str, Index] = {}
        self._locks = [threading.Lock() for _ in range(_LOCKS)]

    def append(
        self,
        stage: str,
        entry: Sequence[str],
        body: Mapping[str, Any],
        shown: Mapping[str, Any] | None = None,
        gone: set[Key] | None = None,
    ) -> Index:
        """Append a record durably, and return the index as of its version.

        Args:
            stage: The stage of the thread.
            entry: What the record is: group, checkpoint id, kind.
            body: The other fields of the record.
            shown: Further metadata of the version.
            gone: Checkpoints to leave out of the index.

        Raises:
            VersionConflictError: Other writers were faster each time.
        """
        metadata = {**(shown or {}), **dict(zip(self._names, entry, strict=False)), "record": entry[2]}
        with self._locks[hash(stage) % _LOCKS]:
            index = self._indexes.get(stage) or self.look(stage)[0]
            for attempt in range(_MOST_ATTEMPTS):
                index = index.without(gone) if gone else index
                place = index.for_record()
                record = {"entry": list(entry), **body, **place}
                try:
                    version = self._manager.save_checkpoint(stage, record, metadata=metadata, expected_version=index.number)
                except VersionConflictError:
                    if attempt + 1 == _MOST_ATTEMPTS:
                        raise
                    index = self.look(stage)[0]
                else:
                    index.appended(version.number, entry, whole="index" in place)
                    self._remember(stage, index)
                    break
            return index

    def load(self, stage: str, version: int, known: Mapping[int, Any] | None = None) -> Any:  # noqa: ANN401  # a record
        """Return a record; None if it was deleted."""
        if known and version in known:
            return known[version]
        try:
            return self._manager.load_checkpoint(stage, version)
        except CheckpointNotFoundError:
            return None

    def look(self, stage: str) -> tuple[Index, dict[int, Any]]:
        """Return the index as of the newest version of a stage, and the newest record by its version."""
        try:
            newest = self._manager.get_checkpoint(stage)
        except CheckpointNotFoundError:
            return Index(self._number(stage)), {}
        if not isinstance(newest.data, dict) or "entry" not in newest.data:
            raise FormatError(f"stage {stage!a} holds something other than a thread", hint="Choose another id", stage=stage)
        number = newest.version.number
        index = self._indexes.get(stage)
        if index is None or index.number != number:
            index = self._index(stage, number, newest.data)
            self._remember(stage, index)
        return index, {number: newest.data}

    def drop(self, stage: str, is_gone: Callable[[Key], bool]) -> None:
        """Delete all versions of some checkpoints with their tags, permanently.

        This also deletes versions that hold an index alone, and finishes a call that was killed.
        """
        for attempt in range(_MOST_ATTEMPTS):
            versions = list(self.versions(stage))
            indexes = {version.number for version in versions if version.metadata["record"] == "index"}
            gone = {version.number: self.key(version) for version in versions if version.number not in indexes}
            gone = {number: key for number, key in gone.items() if is_gone(key)}
            if not gone:
                return
            self.append(stage, _INDEX_ONLY, {}, gone=set(gone.values()))
            try:
                erase(self._manager, stage, gone.keys() | (indexes - set(self._manager.tags(stage).values())))
            except CheckpointNotFoundError:  # another process deletes some of them
                if attempt + 1 == _MOST_ATTEMPTS:
                    raise
            else:
                return

    def key(self, version: Version) -> Key:
        """Return which checkpoint a record belongs to."""
        group, id_ = self._names
        return version.metadata[group], version.metadata[id_]

    def versions(self, stage: str) -> Iterator[Version]:
        """Yield the records of a stage as versions, newest first, without those that are damaged."""
        return (version for version in self._manager.iter_history(stage) if version.status == "completed")

    def _index(self, stage: str, number: int, record: Mapping[str, Any]) -> Index:
        at = number if "index" in record else record["index_at"]
        holder = record if at == number else self.load(stage, at)
        if holder is None:
            return self._rebuilt(stage, number)
        index = Index(number, at, orjson.loads(holder["index"]))
        index.tail = [] if at == number else [*record["tail"], [number, *record["entry"]]]
        for entry in [[at, *holder["entry"]], *index.tail]:
            index.add(*entry)
        return index

    def _rebuilt(self, stage: str, number: int) -> Index:
        index, upto = Index(number), number
        found: list[Version] = []
        for version in self._manager.iter_history(stage):
            if version.number > upto:
                continue
            if version.status in {"damaged", "unreadable", "missing"}:
                message = f"version {version.number} of stage {stage!a} is {version.status}, and may hold a checkpoint"
                hint = "Restore it from a backup, or record its loss with repair() or accept_rollback()"
                raise IntegrityError(message, hint=hint, stage=stage, version=version.number)
            if version.status == "cleared":
                break
            found.append(version)
            if version.restored_from is not None:  # it has the index of that one
                upto = version.restored_from - 1
        for version in reversed(found):
            index.add(version.number, *self.key(version), version.metadata["record"])
        return index

    def _number(self, stage: str) -> int:
        """Return the number of the newest version of an empty thread: 0, unless it is cleared."""
        try:
            return self._manager.get_version(stage).number
        except CheckpointNotFoundError:
            return 0

    def _remember(self, stage: str, index: Index) -> None:
        self._indexes.pop(stage, None)
        self._indexes[stage] = index
        if len(self._indexes) > _MOST_INDEXES:
            with contextlib.suppress(KeyError, RuntimeError):  # another thread did the same just now
                del self._indexes[next(iter(self._indexes))]


_ALL: weakref.WeakSet[Records] = weakref.WeakSet()


def _forget_all() -> None:
    for records in list(_ALL):
        records.forget()


os.register_at_fork(after_in_child=_forget_all)  # locks may be held by threads of the parent, which are not there
