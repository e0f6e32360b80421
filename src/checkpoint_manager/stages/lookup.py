"""Find the version of a stage that is the result of the given arguments, or the progress of such a run.

The newest version is examined first, and nearly always matches. Otherwise the history is searched downwards, newest first. The
search ends at the first version that matches; at a cleared version, because nothing below it counts as done; and at a version
that is damaged, or missing without a record of its deletion, because it may have been a cleared one.

A stage that is called for each of 10,000 files would repeat that search for each. So an index maps the notes of the versions
read so far to their numbers, for the lifetime of the manager. Versions never change, so the metadata of each is read at most
once: a search through 10,000 takes about a second, and a call after it a millisecond. The index is only a hint: a version is
loaded and compared before it is reused.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import Entry
from checkpoint_manager._format.gaps import Gap, Gaps
from checkpoint_manager._format.notes import CodeNote, Note, ProgressNote, read_note, read_progress
from checkpoint_manager._operations.load import Loaded, load_version, newest_of_any_kind
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointNotFoundError, FormatError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Status

_LOG = logging.getLogger("checkpoint_manager")
_UNREADABLE = (IntegrityError, FormatError, VersionAbsentError)
_MOST_COUNTS = 8
_MOST_NAMES, _MOST_CHARACTERS = 8, 80
"""The length at which a stored note is cut in a reason."""


@dataclass(frozen=True, slots=True)
class Match:
    """The result of a search for a version.

    Attributes:
        loaded: The newest version that matches, or None.
        why: Why the newest version of all does not match; empty if one was found.
        other: The newest ``progress`` version and how far it is, if none matches.
        is_code_changed: There is a version of the same arguments, and the function's code was another one.
        has_unknown_code: What was found was saved before code was compared, and now it is.
    """

    loaded: Loaded | None
    why: str = ""
    other: Other | None = None
    is_code_changed: bool = False
    has_unknown_code: bool = False

    @property
    def is_complete(self) -> bool:
        """Whether a completed version was found."""
        return self.loaded is not None and self.loaded.entry.status == "completed"


@dataclass(frozen=True, slots=True)
class Other:
    """A ``progress`` version of another run."""

    version: int
    progress: ProgressNote
    entry: Entry


@dataclass
class _Index:
    """The index of a stage: the versions read so far, from ``bottom`` to ``top``.

    Attributes:
        top: The newest version that was read.
        bottom: The oldest one.
        whole: Nothing below ``bottom`` counts: it is the first version, or the walk has to end there.
        versions: The numbers, newest first, by the digest of their notes.
        progress: The newest ``progress`` version.
        codes: The newest version that tells the code of a function, and that code, by the function.
        counts: How many items loops had: a version by the number.
    """

    top: int
    bottom: int
    whole: bool = False
    versions: dict[str, list[int]] = field(default_factory=dict)
    progress: Other | None = None
    codes: dict[str, tuple[int, CodeNote]] = field(default_factory=dict)
    counts: dict[int, int] = field(default_factory=dict)

    def add(self, number: int, entry: Entry, *, newest: bool) -> Note | None:
        """Add a version above or below all others, and return its note."""
        note = read_note(entry.metadata)
        if note is not None:
            numbers = self.versions.setdefault(note.digest, [])
            numbers.insert(0 if newest else len(numbers), number)
            if note.code is not None and (newest or note.function not in self.codes):
                self.codes[note.function] = number, note.code
        progress = read_progress(entry.metadata)
        if progress is not None and progress.total is not None:
            self.counts[progress.total] = number
        if progress is not None and entry.status == "progress" and (newest or self.progress is None):
            self.progress = Other(number, progress, entry)
        return note


class Lookup:
    """A search in the stages of one store. It is used by many threads, and by signal handlers that call a stage."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._renew()

    def _renew(self) -> None:
        self._process = os.getpid()
        self._walking = threading.RLock()
        self._indexes: dict[str, _Index] = {}

    def find(self, stage: str, note: Note, kinds: Collection[Status]) -> Match:
        """Return the newest version of these kinds that has this note, unless a cleared one is newer.

        If the newest version of all is damaged, the search goes on below it only if its metadata opens: otherwise it may be a
        cleared one.

        Raises:
            RollbackError: The stage, or the record of its deletions, is older than what this user has seen.
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
                return Match(None, "first run")
            if is_match(newest.entry, note, kinds):
                return Match(newest, has_unknown_code=_has_unknown_code(newest.entry, note))
            number, entry, why = newest.version, newest.entry, mismatch(newest.entry, note)
        if entry is None or entry.status == "cleared":
            return Match(None, why)
        if self._process != os.getpid():  # a forked child: a thread that it does not have may hold the lock
            self._renew()
        with self._walking:
            index = self._index(stage, number)
            loaded, changed = self._first_match(stage, index, note, kinds)
            other = index.progress
        if loaded is not None:
            return Match(loaded, has_unknown_code=_has_unknown_code(loaded.entry, note))
        is_there = other is not None and self._gaps(stage).find(other.version) is None
        return Match(None, changed or why, other if is_there else None, is_code_changed=bool(changed))

    def counts_of_items(self, stage: str) -> list[int]:
        """Return how many items the loops of a stage had that were read last, the latest first; a few of them."""
        index = self._indexes.get(stage)
        counts = {} if index is None else dict(index.counts)
        newest = None if index is not None else self._newest_note(stage)
        if newest is not None and newest.total is not None:
            counts[newest.total] = 1
        return sorted(counts, key=lambda count: -counts[count])[:_MOST_COUNTS]

    def _newest_note(self, stage: str) -> ProgressNote | None:
        try:
            newest = newest_of_any_kind(self._store, stage)
        except IntegrityError:  # told by the search before
            return None
        return None if newest is None else read_progress(newest.entry.metadata)

    def _first_match(self, stage: str, index: _Index, note: Note, kinds: Collection[Status]) -> tuple[Loaded | None, str]:
        """Return the newest matching candidate, and the change of the code if that is the only mismatch of another one."""
        changed = ""
        for number in self._candidates(stage, index, note.digest):
            candidate = self._load(stage, number)
            if candidate is None or candidate.entry.status not in kinds:
                continue
            changed = changed or _code_change(candidate, note, index)
            if is_match(candidate.entry, note, kinds) and (not changed or _has_same_code(candidate.entry, note)):
                return candidate, ""
        return None, changed

    def _index(self, stage: str, newest: int) -> _Index:
        """Return the index of a stage, updated with its new versions."""
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
                index.add(number, read, newest=True)
        return index

    def _candidates(self, stage: str, index: _Index, digest: str) -> Iterator[int]:
        """Yield the versions that have a note, newest first; versions below the index are read and added to it."""
        yield from tuple(index.versions.get(digest, ()))
        gaps = self._gaps(stage)
        while not index.whole:
            number = index.bottom - 1
            read = self._read(stage, number, gaps) if number else None
            if read is None or (isinstance(read, Entry) and read.status == "cleared"):
                index.whole = True
                return
            index.bottom = read.first if isinstance(read, Gap) else number
            if isinstance(read, Entry):
                note = index.add(number, read, newest=False)
                if note is not None and note.digest == digest:
                    yield number

    def _gaps(self, stage: str) -> Gaps:
        try:
            return self._store.gaps(stage)[0]
        except IntegrityError as error:
            _LOG.error("%s", error)
            return Gaps()

    def _read(self, stage: str, number: int, gaps: Gaps) -> Entry | Gap | None:
        """Return a version's metadata, or the gap that it is in; None if it may have been a cleared version."""
        gap = gaps.find(number)
        if gap is None:
            try:
                return self._store.entry(stage, number)
            except VersionAbsentError:
                gap = self._gaps(stage).find(number)  # deleted since the gaps were read
                reason = f"version {number} of stage {printable(stage)} is missing"
            except (IntegrityError, FormatError) as error:
                reason = error.message
            if gap is None:
                _LOG.error("%s: it may have been a cleared version, so nothing older is reused", reason)
        return None if gap is None or gap.reason == "set aside" else gap

    def _load(self, stage: str, number: int) -> Loaded | None:
        try:
            return load_version(self._store, stage, number)
        except (*_UNREADABLE, CheckpointNotFoundError):  # deleted since, or before, or damaged
            return None


def is_match(entry: Entry, note: Note, kinds: Collection[Status]) -> bool:
    """Return whether a version is of these kinds and has this note."""
    if entry.status not in kinds or (entry.status == "progress" and read_progress(entry.metadata) is None):
        return False
    found = read_note(entry.metadata)
    return found is not None and found.digest == note.digest and found.has_code_of(note)


def _has_same_code(entry: Entry, note: Note) -> bool:
    """Return whether a version is certainly the result of the same code."""
    found = read_note(entry.metadata)
    code = None if found is None else found.whole_code
    return code is not None and note.whole_code is not None and code.is_same(note.whole_code)


def _has_unknown_code(entry: Entry, note: Note) -> bool:
    found = read_note(entry.metadata)
    return found is not None and found.whole_code is None and note.whole_code is not None


def _code_change(candidate: Loaded, note: Note, index: _Index) -> str:
    """Return how the code changed since a version with this note was saved, as a reason; empty if it did not.

    A version that does not tell its code was saved before all that do. So if the next one above it tells another code than the
    one of now, the code has changed since.
    """
    found, code = read_note(candidate.entry.metadata), note.whole_code
    if found is None or code is None:
        return ""
    if found.whole_code is not None:
        return "" if found.whole_code.is_same(code) else _changed_code(found.whole_code, code)
    function = note.function if note.within is None else note.within.function
    number, newest = index.codes.get(function, (0, code))
    return "code changed" if number > candidate.version and not newest.is_same(code) else ""


def _changed_code(old: CodeNote, new: CodeNote) -> str:
    names = old.changes(new)
    more = [f"{len(names) - _MOST_NAMES} more"] if len(names) > _MOST_NAMES else []
    return f"code changed: {', '.join([*map(_printable, names[:_MOST_NAMES]), *more])}" if names else "code changed"


def mismatch(entry: Entry, note: Note) -> str:
    """Return why a version does not match, as a clause that is safe to print: any program with the key may have written it."""
    if entry.status == "cleared":
        return "the stage is cleared"
    if entry.status == "failed":
        return "the last run failed"
    old = read_note(entry.metadata)
    if old is None:
        return "the newest version was not saved by this stage"
    if entry.status == "progress" and note.digest in {old.digest, old.within.digest if old.within else ""}:
        return "the last run was not finished"
    return _difference(old, note)


def _difference(old: Note, note: Note) -> str:
    if old.function != note.function:
        return f"the newest version is the result of {_printable(old.function) or 'a function that was not recorded'}"
    if (type(old.revision), old.revision) != (type(note.revision), note.revision):
        return f"revision changed: {_printable(str(old.revision))} to {_printable(str(note.revision))}"
    if old.digest == note.digest and old.whole_code is not None and note.whole_code is not None:
        return _changed_code(old.whole_code, note.whole_code)
    before, now = _arguments(old), _arguments(note)
    changed = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    more = [f"{len(changed) - _MOST_NAMES} more"] if len(changed) > _MOST_NAMES else []
    return f"arguments changed: {', '.join([*map(_printable, changed[:_MOST_NAMES]), *more])}"


def _arguments(note: Note) -> dict[str, object]:
    """Return the arguments of a note, and of the call around it, by the names that users know."""
    own = dict(note.arguments)
    if not note.function and "start" in own:
        own["initial"] = own.pop("start")  # a loop's; the note keeps the name that this argument had first
    if note.within is None:
        return dict(own)
    around = note.within
    return {"the function": around.function, "the function's revision": around.revision, **around.arguments, **own}


def _printable(text: str) -> str:
    return printable(text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + "…")
