"""What callers hand in, checked before anything is locked, read or written."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format import payload
from checkpoint_manager._format.checkpoint_file import MAX_CALLER_METADATA_BYTES
from checkpoint_manager._operations.save import Draft
from checkpoint_manager.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkpoint_manager.models import Status


def draft(stage: str, data: object, metadata: Mapping[str, object] | None, *, status: Status = "completed") -> Draft:
    """Return what a caller wants to save.

    Raises:
        PayloadError: The data or the metadata would not come back equal.
    """
    encoded = payload.encode(data, stage=stage)
    return Draft(encoded, {} if metadata is None else _metadata(stage, metadata), status)


def _metadata(stage: str, metadata: Mapping[str, object]) -> dict[str, Any]:
    encoded = payload.encode(dict(metadata), stage=stage, what="metadata")
    if len(encoded) > MAX_CALLER_METADATA_BYTES:
        message = (
            f"the metadata is {len(encoded)} bytes of JSON, and {MAX_CALLER_METADATA_BYTES} is the most: keep it to "
            "what history() "
            "is to show, and put the rest into the data"
        )
        raise PayloadError(message, stage=stage)
    decoded: dict[str, Any] = payload.decode(encoded)  # a copy: what the caller changes later is not in the version
    return decoded


def number(version: object) -> int:
    """Return a version's number."""
    if not isinstance(version, int) or isinstance(version, bool):
        raise TypeError(f"a version is a number such as 3, not {type(version).__name__}")
    return version


def chosen(version: object) -> int | str:
    """Return a version as a caller names it: its number, or text."""
    return version if isinstance(version, str) else number(version)


def moment(at: datetime | str) -> datetime:
    """Return a moment in UTC; see :func:`checkpoint_manager.times.moment`."""
    from checkpoint_manager import times as moments  # noqa: PLC0415  # for those who name a moment

    return moments.moment(at, datetime.now(UTC))
