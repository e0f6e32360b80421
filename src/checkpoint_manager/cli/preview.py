"""What a restore would change: shown before it is asked for, and not longer than a screen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from checkpoint_manager.cli.output import colourful, say
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.errors import CheckpointNotFoundError, IntegrityError

if TYPE_CHECKING:
    from checkpoint_manager._operations.diff import Diff
    from checkpoint_manager.manager import CheckpointManager
    from checkpoint_manager.models import Checkpoint

_MOST_LINES = 20


def newest_of(cm: CheckpointManager, stage: str) -> Checkpoint:
    """Return a stage's newest version, read and verified as a whole; a cleared one, too.

    Raises:
        CheckpointNotFoundError: It has none.
        IntegrityError: It is damaged.
    """
    try:
        return cm.get_checkpoint(stage)
    except CheckpointNotFoundError as error:
        if error.version is None:
            raise
        return cm.get_checkpoint(stage, error.version)


def difference(cm: CheckpointManager, to: Checkpoint) -> Diff | None:
    """Return what changes from the newest version to this one; None if the newest is damaged and can't be compared."""
    from checkpoint_manager._operations.diff import Diff, changes  # noqa: PLC0415  # --help does not wait for it

    with progress_of("comparing"):
        try:
            newest = newest_of(cm, to.version.stage)
        except IntegrityError:
            return None
        return Diff(newest.version, to.version, changes(newest.data, to.data))


def say_difference(diff: Diff | None, *, redact: bool) -> None:
    """Tell what would change, in colour at a terminal."""
    if diff is None:
        say("The newest version is damaged: what would change can't be shown.")
        return
    newest = f"the newest version, {diff.old.number}{'' if diff.old.status == 'completed' else f' ({diff.old.status})'}"
    if not diff:
        say(f"Its data is the same as that of {newest}.")
        return
    say(f"What that changes, compared with {newest}:")
    shown = type(diff)(diff.old, diff.new, diff.changes[:_MOST_LINES])
    for line in shown.as_text(redact=redact, colour=colourful(sys.stderr)).splitlines():
        say(f"  {line}")
    if more := len(diff.changes) - len(shown.changes):
        say(f"  … and {more} more")
