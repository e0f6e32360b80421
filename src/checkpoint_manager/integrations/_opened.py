"""The store of an adapter: a manager that was given, or one that the adapter opens and closes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager import ArgumentError, AsyncCheckpointManager, CheckpointManager
from checkpoint_manager._arguments import wrong

if TYPE_CHECKING:
    import os

    from checkpoint_manager import Retention
    from checkpoint_manager.backends.base import Backend


def opened(store: CheckpointManager | str | os.PathLike[str]) -> tuple[CheckpointManager, bool]:
    """Return the manager of an adapter whose versions need each other, and whether it was opened here and is to be closed.

    Such an adapter can't use a retention: that counts versions, and would delete some that later ones refer to.

    Raises:
        ArgumentError: The manager has a retention, or is an asynchronous one.
        CheckpointError: As :class:`CheckpointManager` does.
    """
    if isinstance(store, AsyncCheckpointManager):
        raise wrong("store", store, "a location or a CheckpointManager")
    if not isinstance(store, CheckpointManager):
        return CheckpointManager(store), True
    if store.retention is not None:
        message = "the manager has a retention, which would delete versions that later ones need"
        raise ArgumentError(message, hint="Give a manager without a retention", argument="store")
    return store, False


def opened_async(
    store: AsyncCheckpointManager | str | os.PathLike[str] | Backend, retention: Retention
) -> tuple[AsyncCheckpointManager, bool]:
    """Return the manager of an adapter, and whether it was made here, with this retention, and is to be closed.

    Raises:
        ArgumentError: The manager is not an asynchronous one.
    """
    if isinstance(store, CheckpointManager):
        raise wrong("store", store, "a location, a Backend or an AsyncCheckpointManager")
    if isinstance(store, AsyncCheckpointManager):
        return store, False
    return AsyncCheckpointManager(store, retention=retention), True
