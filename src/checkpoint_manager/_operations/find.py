"""Find: the versions of all stages that meet criteria.

The sealed entry of each version is opened and compared, whatever a backend may claim about it. A version that can't be read
might meet the criteria: such versions are counted, and the count is logged.

Where the store has an index that helps, only the candidates that it names are opened, as a load opens them: each must be in the
history of its stage. Whoever can change the index can hide a version from ``find``, but not make it return a wrong one.
"""

from __future__ import annotations

import itertools
import json
import logging
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

import orjson

from checkpoint_manager._arguments import wrong
from checkpoint_manager._store import listing
from checkpoint_manager._text import counted, printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import IntegrityError, StorageError
from checkpoint_manager.models import Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from checkpoint_manager._store.store import Store

_LOG = logging.getLogger("checkpoint_manager")
_UNREADABLE = {"damaged", "unreadable", "missing"}


class Criteria(NamedTuple):
    """What a version must have to be found.

    Attributes:
        stage_prefix: What the stage's name begins with.
        status: The status; None: any.
        since: The time since which it was saved; None: any.
        metadata: Keys of its metadata, each with the value as JSON.
    """

    stage_prefix: str
    status: str | None
    since: datetime | None
    metadata: Mapping[str, bytes]

    def match(self, version: Version) -> bool:
        """Return whether a version meets all criteria."""
        return (
            version.stage.startswith(self.stage_prefix)
            and self.status in {None, version.status}
            and (self.since is None or (version.created_at is not None and version.created_at >= self.since))
            and all(key in version.metadata and _json(version.metadata[key]) == value for key, value in self.metadata.items())
        )

    @property
    def need_entry(self) -> bool:
        """Whether only the entry of a version, which may be unreadable, says if it meets the criteria."""
        return self.status not in _UNREADABLE and bool(self.status or self.since or self.metadata)


def criteria(stage_prefix: str, status: str | None, since: datetime | None, metadata: Mapping[str, object] | None) -> Criteria:
    """Return the criteria of these arguments.

    Raises:
        ArgumentError: The metadata is not a mapping of text to JSON values, or holds NaN or an infinite number.
    """
    given = {} if metadata is None else metadata  # what is empty and no mapping is a mistake, too
    try:
        values = {key: _json(value) for key, value in given.items()}
        json.dumps(dict(given), allow_nan=False)  # orjson writes null instead
    except (AttributeError, TypeError, ValueError):
        raise wrong("metadata", metadata, "a dict of JSON values, or None") from None
    return Criteria(stage_prefix, status, since, values)


def find(store: Store, criteria: Criteria) -> Iterator[Version]:
    """Yield the versions that meet the criteria, by the name of the stage, and newest first within it.

    Raises:
        IntegrityError: A record of deleted versions is damaged or forged.
        RollbackError: A stage is older than what this user has seen.
    """
    candidates = None
    if store.index is not None and criteria.status not in _UNREADABLE:
        metadata = {key: orjson.loads(value) for key, value in criteria.metadata.items()}
        candidates = store.index.candidates(criteria.stage_prefix, criteria.status, criteria.since, metadata)
    if candidates is None:
        found = ((stage, listing.versions(store, stage)) for stage in store.stages(criteria.stage_prefix))
    else:
        by_stage = itertools.groupby(candidates, key=itemgetter(0))
        found = ((stage, _opened(store, stage, (number for _, number in numbers))) for stage, numbers in by_stage)
    for stage, versions in found:
        unreadable = 0
        for version in versions:
            if criteria.match(version):
                yield version
            unreadable += version.status in _UNREADABLE and criteria.need_entry
        if unreadable:
            where = f"stage {printable(stage)} in {store.backend.location}"
            _LOG.error("%s of %s can't be read, and might meet the criteria", counted(unreadable, "version"), where)


def _opened(store: Store, stage: str, numbers: Iterator[int]) -> Iterator[Version]:
    """Yield these versions of a stage as a load finds them. What was deleted is left out.

    What does not open is damaged, or unreadable.
    """
    with store.session(stage) as session:
        if store.history.is_deleted(stage, session):
            return
        look = store.history.look(stage, session)
        gaps = store.gaps(stage, session)[0]  # what is deleted from now on is not there
        for number in numbers:
            if number > look.number or number in gaps:
                continue
            try:
                entry = store.entry(stage, number, session)
                if number == look.number:
                    store.history.confirm(stage, look, entry, session)
                else:
                    store.chains.check(stage, number, entry, look, session)
            except VersionAbsentError:  # deleted meanwhile
                continue
            except (IntegrityError, StorageError) as error:
                fault = listing.of_one_version(error)
                yield Version(stage, number, "unreadable" if isinstance(fault, StorageError) else "damaged")
            else:
                yield entry.as_version(stage, number)


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
