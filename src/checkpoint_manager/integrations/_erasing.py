"""Permanent deletion of the versions that hold what a framework deletes."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError

if TYPE_CHECKING:
    from collections.abc import Collection


def erase(manager: CheckpointManager, stage: str, numbers: Collection[int]) -> None:
    """Delete versions permanently, and their tags, as ``delete_stage`` does.

    Raises:
        CheckpointNotFoundError: Another process deleted one of them. None was deleted here.
    """
    for name, number in manager.tags(stage).items():
        if number in numbers:
            with contextlib.suppress(CheckpointNotFoundError):  # another process removes it
                manager.untag(stage, name)
    manager.delete_versions(stage, numbers)
