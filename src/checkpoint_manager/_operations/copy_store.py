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
from checkpoint_manager._operations.verify import verify
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, Hint, IntegrityError, VersionConflictError

if TYPE_CHECKING:
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.reports import BundleSummary, OnProgress

_ELSEWHERE = "Choose a place where no store is yet"
_UNSOUND = {"damaged", "missing", "incomplete", "unreadable", "newer", "foreign", "rolled-back"}


def copy_store(store: Store, other: Store, progress: OnProgress | None) -> BundleSummary:
    """Copy all histories and tags into another store, and read all of them back.

    The other store is empty, or holds only an earlier copy of this one, whole or interrupted: then what is missing is copied.
    What was deleted here since stays there, and no tag is moved or removed.

    Raises:
        CheckpointError: It holds other stages, or is this very store. Nothing was copied.
        VersionConflictError: It holds another history of a stage, or newer versions of one. Nothing was copied.
        IntegrityError, RollbackError: A stage is damaged, or older than this user has seen, and nothing was copied; or what was
            copied can't be read back.
    """
    strange = sorted({*other.stages()}.difference(store.stages()))
    if strange or other.keyring.store_id == store.keyring.store_id:
        what = f"has other stages already, such as {printable(strange[0])}" if strange else "is this one"
        message = f"the store {printable(other.backend.location)} {what}, and nothing was copied"
        raise CheckpointError(message, hint=_ELSEWHERE)
    _refuse_newer(store, other)
    key = Secret("key-file", Hidden(secrets.token_bytes(KEY_BYTES)))
    with tempfile.TemporaryFile() as file:
        export_bundle(store, file, key, None, overwrite=False, progress=None)
        file.seek(0)
        try:
            copied = import_bundle(other, file, key, {}, dry_run=False, progress=progress)
        except VersionConflictError as error:
            message = (
                f"the store {printable(other.backend.location)} has another history of stage {printable(error.stage or '')}"
            )
            raise VersionConflictError(message, hint=_ELSEWHERE, stage=error.stage) from None
    unsound = [finding for finding in verify(other, None, progress).problems if finding.state in _UNSOUND]
    if unsound:
        where = f"the copy in {printable(other.backend.location)}"
        what = "" if unsound[0].stage is None else f"stage {printable(unsound[0].stage)}: "
        message = f"{where} is not whole: {what}{unsound[0].detail}"
        raise IntegrityError(message, hint=Hint.VERIFY_AND_REPAIR, stage=unsound[0].stage, version=unsound[0].version)
    return copied


def _refuse_newer(store: Store, other: Store) -> None:
    for stage in other.stages():
        here, there = store.history.tip(stage).version, other.history.tip(stage).version
        if there > here:
            name = printable(other.backend.location)
            message = f"the store {name} has newer versions of stage {printable(stage)}, and nothing was copied"
            raise VersionConflictError(message, hint=_ELSEWHERE, stage=stage, expected=here, actual=there)
