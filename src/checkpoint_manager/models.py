"""The values of the public interface: frozen, slotted, and free of I/O."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

Buffer: TypeAlias = bytes | bytearray | memoryview

Status: TypeAlias = Literal["completed", "progress", "failed", "cleared"]
"""The state that a version records for its stage. Only ``completed`` makes ``has_checkpoint`` true."""

Durability: TypeAlias = Literal["full", "relaxed"]
"""``full`` syncs each save to the medium; ``relaxed`` leaves that to the operating system."""

OnRollback: TypeAlias = Literal["raise", "warn"]
"""What to do when the store is older than what this user has seen of it."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who wrote a version, and where. It is stored encrypted with the version."""

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
        number: 1, 2, 3, … within the stage, never used twice.
        status: ``completed``, ``progress``, ``failed`` or ``cleared``. In a history also ``damaged`` (it does not open, or is
            forged) and ``missing`` (it is gone without a record of its deletion); of these two, all other fields are unknown.
        created_at: When it was written by the clock of the writing host, aware, in UTC; None if unknown.
        metadata: The ``metadata=`` of the save.
        origin: Who wrote it, and where, as the writing process reported; None if unknown.
        size: The length of the data as JSON, in bytes; None if unknown.
        restored_from: The number of the version that this one is a copy of, or None.
    """

    stage: str
    number: int
    status: Status | Literal["damaged", "missing"]
    created_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    size: int | None = None
    restored_from: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A version with its data."""

    version: Version
    data: Any


class Passphrase:
    """A passphrase that opens a store: ``CheckpointManager(key=Passphrase("…"))``. Nothing shows, copies or pickles its text.

    It is not a dataclass: :func:`dataclasses.asdict`, and encoders that know dataclasses, would give the text away.

    Attributes:
        text: The passphrase itself.
    """

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return "Passphrase(…)"

    def __reduce__(self) -> NoReturn:
        """Refuse to be copied or pickled.

        Raises:
            TypeError: Always. Where the store is opened, the passphrase has to be found again.
        """
        raise TypeError(
            "a Passphrase can't be copied or pickled: give the key in the environment or as a key file, or make the "
            "Passphrase where the store is opened"
        )


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file that opens a store: ``CheckpointManager(key=KeyFile("/path/to/key"))``."""

    path: str


Key: TypeAlias = Passphrase | KeyFile | os.PathLike[str] | bytes
"""A key for a store or a bundle: a passphrase, a key file (or its path, such as ``pathlib.Path``), or 32 bytes."""
