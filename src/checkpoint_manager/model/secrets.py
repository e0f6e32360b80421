"""What a caller opens a store with. A passphrase is never shown by ``repr``."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase to open a store with: ``CheckpointManager(key=Passphrase("…"))``. Never shown by ``repr``."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file to open a store with: ``CheckpointManager(key=KeyFile("/path/to/key"))``."""

    path: str
