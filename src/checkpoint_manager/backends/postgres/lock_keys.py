"""The keys of advisory locks.

A key is made of SHA-256 of the store's schema, the stage, and the run's name: 64 bits, of which the lowest two say what the
lock is held for. Two locks with the same key would only wait for each other without need.
"""

from __future__ import annotations

import hashlib
from enum import IntEnum


class Kind(IntEnum):
    """What a key is for: its lowest two bits."""

    STORE = 0
    WRITE = 1
    RUN = 2
    APPEND = 3


def key_of(kind: Kind, schema: str, *names: str) -> int:
    """Return the key of a lock, as a signed integer of 64 bits."""
    text = b"".join(len(name.encode()).to_bytes(4, "big") + name.encode() for name in (schema, *names))
    digest = hashlib.sha256(b"checkpoint_manager" + text).digest()
    return int.from_bytes(digest[:8], "big", signed=True) & ~3 | kind
