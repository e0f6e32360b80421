"""Lineage: which stages were made of another one's results, and which of them are stale.

A version of a function or a loop notes the results of other stages that it was made of (``@inputs``, see
:mod:`checkpoint_manager._format.notes`). A stage is downstream of another one if a version of it was made of a result of the
other, or of a stage downstream of that.

A stage is stale if one of its results was made, directly or not, of a version that is out of date: since then, that stage was
cleared, or the same call of it gave other data. The results of other calls do not matter: a model that was trained on
``clean("train.csv")`` does not become stale by ``clean("test.csv")``. Nor does an old result count once the stage has a newer
one that was made of what changed: with new rows, ``train(rows)`` is another call, and nobody needs the old model.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from checkpoint_manager._format.notes import read_inputs, read_note
from checkpoint_manager._store import listing
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.notes import InputNote
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Version

_MOST_VERSIONS = 1000
"""How many versions of a stage are examined for results that are out of date."""
_ENDED = {"completed", "cleared"}
_NOT_READ: Mapping[str, Version] = {}


def downstream(store: Store, stage: str) -> list[str]:
    """Return the stages downstream of a stage that are not cleared, the nearest first.

    Raises:
        IntegrityError, RollbackError: The record of a stage's deletions is damaged, or a stage is older than what was seen.
    """
    sources = {each: _sources(store, each) for each in store.stages() if each != stage}
    found, waiting = list[str](), deque([stage])
    while waiting:
        source = waiting.popleft()
        following = [each for each, its in sources.items() if source in its.stages and each not in found]
        found += following
        waiting += following
    return [each for each in found if not sources[each].is_cleared]


class _Sources(NamedTuple):
    """The stages that a stage was made of, and whether it is cleared now."""

    stages: set[str]
    is_cleared: bool


def _sources(store: Store, stage: str) -> _Sources:
    """Return the stages that the versions of a stage were made of, since it was cleared, or before if it is cleared now."""
    found: set[str] = set()
    is_any = is_cleared = False
    with store.session(stage) as session:
        for _, entry, *_ in listing.walk(store, stage, session):
            if entry is None:
                continue
            if entry.status == "cleared" and is_any:
                break
            is_cleared |= entry.status == "cleared"
            is_any |= entry.status != "cleared"
            found |= {each.stage for each in read_inputs(entry.metadata)}
    return _Sources(found, is_cleared)


def stale(store: Store, stages: Iterable[str], newest: Mapping[str, Version] = _NOT_READ) -> dict[str, str]:
    """Return those of the stages that are stale, each with the reason.

    Stages that can't be read are passed over. Of each stage, only the newest thousand versions are examined.

    Args:
        store: The store.
        stages: The stages.
        newest: The newest versions of some of them, which need not be read again.
    """
    lineage = _Lineage(store)
    found = {stage: lineage.why_stale(stage) for stage in stages if _has_inputs(store, stage, newest.get(stage))}
    return {stage: why for stage, why in found.items() if why}


def _has_inputs(store: Store, stage: str, newest: Version | None) -> bool:
    """Return whether the newest completed version of a stage was made of results of others."""
    if newest is not None and newest.status in _ENDED:
        return bool(read_inputs(newest.metadata))
    try:
        with store.session(stage) as session:
            entries = (each.entry for each in listing.walk(store, stage, session) if each.entry is not None)
            ended = next((entry for entry in entries if entry.status in _ENDED), None)
    except CheckpointError:
        return False
    return ended is not None and bool(read_inputs(ended.metadata))


class _Result(NamedTuple):
    """The newest result of a call."""

    version: int
    entry: Entry


class _Change(NamedTuple):
    """A result of another stage that is out of date.

    Attributes:
        stage: The stage.
        call: The call.
        version: The lowest number of a version that is up to date.
        why: What happened, as a clause.
    """

    stage: str
    call: str
    version: int
    why: str


class _Stage(NamedTuple):
    """What is known of a stage.

    Attributes:
        results: The newest result of each call, newest first.
        cleared: The version that cleared the stage before these; 0 if there is none.
        entries: The completed versions, by number.
    """

    results: dict[str, _Result]
    cleared: int
    entries: dict[int, Entry]


class _Lineage:
    """The lineage of a store's stages, each of which is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._stages: dict[str, _Stage] = {}
        self._sources: dict[tuple[str, int], dict[tuple[str, str], int]] = {}

    def why_stale(self, stage: str) -> str:
        """Return why a stage is stale; empty if it is not."""
        results = self._known(stage).results.values()
        for result in results:
            newer = [each for each in results if each.version > result.version]
            for change in self._changes(result.entry, {stage}):
                if not any(self._is_made_of(stage, each, change) for each in newer):
                    return change.why
        return ""

    def _changes(self, entry: Entry, above: set[str]) -> Iterator[_Change]:
        """Yield what is out of date of what a version was made of."""
        for used in read_inputs(entry.metadata):
            name, known, now = printable(used.stage), self._known(used.stage), self._now(used)
            if now == used.version and known.cleared > used.version:
                why = f"{name} was cleared after version {used.version}"
                yield _Change(used.stage, used.call, known.cleared + 1, why)
            elif now != used.version and self._data_of(used.stage, now) not in {"", used.data}:
                yield _Change(
                    used.stage, used.call, now, f"made of version {used.version} of {name}, which is now version {now}"
                )
            elif now in known.entries and used.stage not in above:
                yield from self._changes(known.entries[now], above | {used.stage})

    def _is_made_of(self, stage: str, result: _Result, change: _Change) -> bool:
        return self._versions_in(stage, *result, {stage}).get((change.stage, change.call), 0) >= change.version

    def _versions_in(self, stage: str, version: int, entry: Entry, above: set[str]) -> dict[tuple[str, str], int]:
        """Return the versions that a version was made of, directly or not, by stage and call."""
        key = stage, version
        if key not in self._sources:
            found = {(used.stage, used.call): used.version for used in read_inputs(entry.metadata)}
            for (source, _), number in tuple(found.items()):
                inner = self._known(source).entries.get(number)
                if inner is not None and source not in above:
                    found = {**self._versions_in(source, number, inner, above | {source}), **found}
            self._sources[key] = found
        return self._sources[key]

    def _now(self, used: InputNote) -> int:
        """Return the newest version of the call whose result was used; the version itself if there is no newer one."""
        newest = self._known(used.stage).results.get(used.call) if used.call else None
        return used.version if newest is None else max(newest.version, used.version)

    def _known(self, stage: str) -> _Stage:
        if stage not in self._stages:
            try:
                self._stages[stage] = self._read(stage)
            except CheckpointError:  # whatever reads that stage itself reports it
                self._stages[stage] = _Stage({}, 0, {})
        return self._stages[stage]

    def _read(self, stage: str) -> _Stage:
        known, cleared = _Stage({}, 0, {}), 0
        with self._store.session(stage) as session:
            for version, entry, *_ in itertools.islice(listing.walk(self._store, stage, session), _MOST_VERSIONS):
                if entry is not None and entry.status == "cleared":
                    cleared = version
                    break
                if entry is not None and entry.status == "completed":
                    note = read_note(entry.metadata)
                    known.results.setdefault("" if note is None else note.call, _Result(version, entry))
                    known.entries[version] = entry
        return known._replace(cleared=cleared)

    def _data_of(self, stage: str, version: int) -> str:
        """Return the digest of a version's data; empty if it can't be read."""
        try:
            _, data = self._store.load(stage, version)
        except CheckpointError:
            return ""
        return hashlib.sha256(data).hexdigest()[:32]
