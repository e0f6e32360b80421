"""Copying a whole store into another one: by a bundle that is never written in the clear and has a key of its own."""

from __future__ import annotations

import secrets
import tempfile
from typing import TYPE_CHECKING

from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.key_slot import Secret
from checkpoint_manager._format.seal import KEY_BYTES
from checkpoint_manager._operations.export_bundle import export_bundle
from checkpoint_manager._operations.import_bundle import import_bundle
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.reports import BundleSummary, OnProgress


def copy_store(store: Store, other: Store, progress: OnProgress | None) -> BundleSummary:
    """Copy all histories and tags into another store, which must be empty.

    Raises:
        CheckpointError: It is not empty. Nothing was copied.
        IntegrityError, RollbackError: A stage is damaged, or older than this user has seen. Nothing was copied.
    """
    if other.stages():
        message = f"the store {printable(other.backend.location)} has stages already, and nothing was copied"
        raise CheckpointError(message, hint="Choose a place where no store is yet")
    key = Secret("key-file", Hidden(secrets.token_bytes(KEY_BYTES)))
    with tempfile.TemporaryFile() as file:
        export_bundle(store, file, key, None, overwrite=False, progress=None)
        file.seek(0)
        return import_bundle(other, file, key, {}, dry_run=False, progress=progress)
