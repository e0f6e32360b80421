"""Finding the version of a stage that is the result of *these* arguments, or how far it got, among all the others.

The newest version is looked at first, and nearly always fits. If it does not, the history is walked down, newest first, until
one fits or the walk has to end: at a cleared version, as what is below is not done any more, and at one whose metadata does
not open, or that is missing without a record of its deletion, as it may have been a cleared one.

A stage that is called for each of 10,000 files would walk for ever like that. So what was once read is remembered, for as long
as the manager lives, as the numbers of the versions of each note. Versions never change, so each one's metadata is read at
most once for all calls together: measured, a walk of 10,000 takes about a second, and a call after it a millisecond. What is
remembered is only a hint: a version is loaded and compared before it is handed out.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager._format.checkpoint_file import Entry
from checkpoint_manager._format.gaps import Gap, Gaps
from checkpoint_manager._operations.load import Loaded, load_version, newest_of_any_kind
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointNotFoundError, FormatError, IntegrityError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Status

_LOG = logging.getLogger("checkpoint_manager")
NOTE = "@stage"
"""The key of a version's metadata under which it is kept what it is the result of: ``version``, ``arguments`` (digests by
name), and ``within``, the note of the call of a stage that a loop runs in."""
PROGRESS = "@progress"
"""The key under which it is kept how far a ``progress`` version is; see :mod:`checkpoint_manager.stages.progress`."""
FAILURE = "@failure"
"""The key under which a ``failed`` version keeps the exception's type and message; the data has the traceback as well."""
_UNREADABLE = (IntegrityError, FormatError, VersionAbsentError)


@dataclass(frozen=True, slots=True)
class Match:
    """What a search gave.

    Attributes:
        loaded: The newest version that fits, or None.
        why: Why the newest version of all did not fit. Empty if it did, or another one does.
        passed: The newest ``progress`` version that does not fit, if none fits.
    """

    loaded: Loaded | None
    why: str = ""
    passed: tuple[int, Entry] | None = None


@dataclass
class _Index:
    """What is remembered of a stage: the versions from ``bottom`` to ``top``.

    Attributes:
        top: The newest version that was looked at.
        bottom: The oldest one.
        whole: There is nothing to look for below: it is the first one, or the walk has to end there.
        versions: The numbers, newest first, by the digest of their notes.
        progress: The newest ``progress`` version.
    """

    top: int
    bottom: int
    whole: bool = False
    versions: dict[bytes, list[int]] = field(default_factory=dict)
    progress: tuple[int, Entry] | None = None


class Lookup:
    """Searches the stages of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._renew()

    def _renew(self) -> None:
        self._process = os.getpid()
        self._walking = threading.Lock()
        self._indexes: dict[str, _Index] = {}

    def find(self, stage: str, note: Mapping[str, Any], kinds: Collection[Status]) -> Match:
        """Return the newest version of these kinds that has this note, unless a cleared one is newer.

        A newest version that is damaged ends the search as well if its metadata does not open: it might be a cleared one.
        """
        try:
            newest = newest_of_any_kind(self._store, stage)
        except IntegrityError as error:
            _LOG.error("%s", error)  # the damaged file stays as evidence
            number, why = error.version or 0, "the newest version is damaged"
            read = self._read(stage, number, Gaps()) if number else None
            entry = read if isinstance(read, Entry) else None
        else:
            if newest is None:
                return Match(None, "no version yet")
            if is_match(newest.entry, note, kinds):
                return Match(newest)
            number, entry, why = newest.version, newest.entry, mismatch(newest.entry, note)
        if entry is None or entry.status == "cleared":
            return Match(None, why)
        if self._process != os.getpid():  # a child after a fork: the lock may be held by a thread that it does not have
            self._renew()
        with self._walking:
            index = self._index(stage, number)
            candidates = (self._load(stage, older) for older in self._candidates(stage, index, _name(note)))
            loaded = next((each for each in candidates if each is not None and is_match(each.entry, note, kinds)), None)
            there = index.progress is not None and self._gaps(stage).find(index.progress[0]) is None
        return Match(loaded) if loaded else Match(None, why, index.progress if there else None)

    def _index(self, stage: str, newest: int) -> _Index:
        """Return what is remembered of a stage, after a look at what is new."""
        index = self._indexes.setdefault(stage, _Index(newest, newest + 1))
        gaps = self._gaps(stage)
        while index.top < newest:
            number = index.top + 1
            read = self._read(stage, number, gaps)
            if read is None or (isinstance(read, Entry) and read.status == "cleared"):
                index = self._indexes[stage] = _Index(number, number, whole=True)
                continue
            index.top = read.last if isinstance(read, Gap) else number
            if isinstance(read, Entry):
                index.versions.setdefault(_name(read.metadata.get(NOTE)), []).insert(0, number)
                if PROGRESS in read.metadata:
                    index.progress = number, read
        return index

    def _candidates(self, stage: str, index: _Index, name: bytes) -> Iterator[int]:
        """Yield the versions that have a note, newest first; what is not remembered is read now, and remembered."""
        yield from tuple(index.versions.get(name, ()))
        gaps = self._gaps(stage)
        while not index.whole:
            number = index.bottom - 1
            read = self._read(stage, number, gaps) if number else None
            if read is None or (isinstance(read, Entry) and read.status == "cleared"):
                index.whole = True
                return
            index.bottom = read.first if isinstance(read, Gap) else number
            if isinstance(read, Entry):
                if PROGRESS in read.metadata and index.progress is None:
                    index.progress = number, read
                note = _name(read.metadata.get(NOTE))
                index.versions.setdefault(note, []).append(number)
                if note == name:
                    yield number

    def _gaps(self, stage: str) -> Gaps:
        try:
            return self._store.gaps(stage)[0]
        except IntegrityError as error:
            _LOG.error("%s", error)
            return Gaps()

    def _read(self, stage: str, number: int, gaps: Gaps) -> Entry | Gap | None:
        """Return a version's metadata, or the gap that it is in; None: what it was can't be told."""
        gap = gaps.find(number)
        if gap is None:
            try:
                return self._store.entry(stage, number)
            except VersionAbsentError:
                gap = self._gaps(stage).find(number)  # deleted since the gaps were read
                reason = f"version {number} of stage {display(stage)} is missing"
            except (IntegrityError, FormatError) as error:
                reason = str(error)
            if gap is None:
                _LOG.error("%s: it may have been a cleared one, so nothing older is reused", reason)
        return None if gap is None or gap.reason == "set aside" else gap

    def _load(self, stage: str, number: int) -> Loaded | None:
        try:
            return load_version(self._store, stage, number)
        except (*_UNREADABLE, CheckpointNotFoundError):  # deleted since, or before, or damaged
            return None


def is_match(entry: Entry, note: Mapping[str, Any], kinds: Collection[Status]) -> bool:
    """Whether a version is of these kinds and has this note."""
    return entry.status in kinds and _name(entry.metadata.get(NOTE)) == _name(note)  # typed: version 1 is not True


def mismatch(entry: Entry, note: Mapping[str, Any]) -> str:
    """Return why a version does not fit, in a clause."""
    if entry.status == "cleared":
        return "the stage is cleared"
    if entry.status == "failed":
        return "the last run failed"
    old = entry.metadata.get(NOTE)
    if not isinstance(old, dict):
        return "the newest version was not saved by this stage"
    if entry.status == "progress" and note in (old, old.get("within")):
        return "the last run was not finished"
    if old.get("version") != note["version"]:
        return f"revision changed: {old.get('version')} to {note['version']}"
    before, now = _arguments(old), _arguments(note)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return f"arguments changed: {', '.join(changed)}"


def _arguments(note: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a note, and of the stage that it is within."""
    around = note.get("within") or {}
    changed = {"the stage's revision": around.get("version")} if around else {}
    return {**changed, **around.get("arguments", {}), **note.get("arguments", {})}


def _name(note: object) -> bytes:
    return hashlib.sha256(orjson.dumps(note, option=orjson.OPT_SORT_KEYS)).digest()[:16]
