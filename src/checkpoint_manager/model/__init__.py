"""The values that callers see. Frozen, slotted, without behaviour that does I/O.

Versions and checkpoints, with what everyone needs to speak of them, are here. What fewer programs need stands by topic in the
modules beside this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Buffer: TypeAlias = bytes | bytearray | memoryview

Status: TypeAlias = Literal["completed", "progress", "failed", "cleared"]
"""What a version says of its stage. Only ``completed`` makes ``has_checkpoint`` true."""

Durability: TypeAlias = Literal["full", "relaxed"]
"""``full`` syncs each save to the medium; ``relaxed`` leaves that to the operating system."""

OnRollback: TypeAlias = Literal["raise", "warn"]
"""What to do when the directory is older than what this user has already seen."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version was written: kept with it, encrypted, to find out later who wrote it."""

    user: str
    host: str
    pid: int
    python: str
    library: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one stage, without its data.

    Attributes:
        stage: The stage's name.
        version: Its number: 1, 2, 3, … within the stage, never used twice.
        status: ``completed``, ``progress``, ``failed`` or ``cleared``.
        created_at: When it was written, aware, in UTC. Never earlier than the version before it, whatever the clock did.
        metadata: What the caller gave as ``metadata=``.
        origin: Who wrote it, and where.
        size: Length of the data as JSON, in bytes.
        restored_from: The number of the version that this one is a copy of, or None.
    """

    stage: str
    version: int
    status: Status
    created_at: datetime
    metadata: Mapping[str, Any]
    origin: Origin
    size: int
    restored_from: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A version with its data."""

    version: Version
    data: Any


def display(name: str) -> str:
    """Return a name as a message or log line can show it: on one line, without anything that moves the cursor."""
    return name if name.isprintable() else ascii(name)
