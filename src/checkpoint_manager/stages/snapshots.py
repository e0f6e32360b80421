"""Snapshots of objects: a digest of what an object holds, to notice in the same process that it was changed.

An object that can be compared as an argument is digested as one; of an instance of a plain class, all that it holds. Any other
object is pickled, which fails for some, such as connections. An object that computes something and keeps it, as a cache does,
counts as changed.
"""

from __future__ import annotations

import hashlib
import pickle

from checkpoint_manager.errors import FingerprintError
from checkpoint_manager.stages.fingerprint import digest, of_object


def snapshot_of(value: object) -> str | None:
    """Return a digest of what an object holds, or None if that can't be told."""
    try:
        return digest(of_object(value), "", "")
    except FingerprintError:
        pass
    try:
        return hashlib.sha256(pickle.dumps(value)).hexdigest()
    except Exception:  # noqa: BLE001  # whatever the object's own methods raise
        return None
