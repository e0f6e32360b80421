"""The store of an adapter whose versions need each other: a manager that was given, or one that the adapter opens.

The retention of a manager counts versions, of which each may hold what later ones refer to. So such a manager is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager import ArgumentError, AsyncCheckpointManager, CheckpointManager
from checkpoint_manager._arguments import wrong

if TYPE_CHECKING:
    import os


def opened(store: CheckpointManager | str | os.PathLike[str]) -> tuple[CheckpointManager, bool]:
    """Return the manager, and whether it was opened here and is to be closed.

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
