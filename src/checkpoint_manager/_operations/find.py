"""Find: the versions of all stages that have certain fields.

Each version's sealed record is opened and compared, whatever a backend may have claimed of it. A version that does not open has
no fields: it is counted and told, because it could be one that was looked for.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import orjson

from checkpoint_manager._arguments import wrong
from checkpoint_manager._text import counted, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")
_UNREADABLE = {"damaged", "missing"}


class Wanted(NamedTuple):
    """What is looked for: a version that has all of it.

    Attributes:
        stage_prefix: How the stage's name begins.
        status: The status, or None for any.
        since: The time from which on it was saved, or None for any.
        metadata: Keys and values of its metadata, as JSON.
    """

    stage_prefix: str
    status: str | None
    since: datetime | None
    metadata: Mapping[str, bytes]

    def is_met_by(self, version: Version) -> bool:
        """Return whether a version has all of it."""
        return (
            version.stage.startswith(self.stage_prefix)
            and self.status in {None, version.status}
            and (self.since is None or (version.created_at is not None and version.created_at >= self.since))
            and all(key in version.metadata and _json(version.metadata[key]) == value for key, value in self.metadata.items())
        )

    @property
    def names_fields(self) -> bool:
        """Whether a version that does not open is left out without being known not to meet it."""
        return self.status not in _UNREADABLE and bool(self.status or self.since or self.metadata)


def wanted(stage_prefix: str, status: str | None, since: datetime | None, metadata: Mapping[str, object] | None) -> Wanted:
    """Return what is looked for, checked.

    Raises:
        ArgumentError: The metadata is not a mapping of text to JSON values.
    """
    try:
        values = {key: _json(value) for key, value in (metadata or {}).items()}
    except (AttributeError, TypeError, ValueError):
        raise wrong("metadata", metadata, "a dict of JSON values, or None") from None
    return Wanted(stage_prefix, status, since, values)


def find(store: Store, wanted: Wanted) -> Iterator[Version]:
    """Yield the versions that are as wanted: by the name of the stage, and newest first within it.

    Raises:
        IntegrityError: A record of deleted versions is damaged or forged.
        RollbackError: A stage is older than what this user has seen.
    """
    for stage in store.stages():
        if not stage.startswith(wanted.stage_prefix):
            continue
        unreadable = 0
        for version in store.history.versions(stage):
            if wanted.is_met_by(version):
                yield version
            unreadable += version.status in _UNREADABLE and wanted.names_fields
        if unreadable:
            where = f"stage {printable(stage)} in {store.backend.location}"
            _LOG.error("%s of %s may be looked for, but can't be read", counted(unreadable, "version"), where)


def _json(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
