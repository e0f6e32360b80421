"""What a restore would change: shown before the question, and not longer than a screen."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from checkpoint_manager.cli.colour import colourful
from checkpoint_manager.cli.hints import command
from checkpoint_manager.cli.output import say, say_coloured
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.errors import IntegrityError

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager, Diff, Version

_MAX_LINES = 20


def difference(cm: CheckpointManager, to: Version) -> Diff | None:
    """Return what changes from the newest version to this one; None if the newest is damaged and can't be compared."""
    with progress_of("comparing"):
        try:
            return cm.diff(to.stage, cm.get_version(to.stage).number, to.number)
        except IntegrityError:
            return None


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
    shown = type(diff)(diff.old, diff.new, diff.changes[:_MAX_LINES])
    lines = shown.as_text(redact=redact, colour=colourful(sys.stderr)).split("\n")
    for line in lines[:_MAX_LINES]:
        say_coloured(f"  {line}")
    if len(lines) > _MAX_LINES:
        say(f"  … and more; see all of it with: {command(f'diff STAGE {diff.old.number} {diff.new.number}', diff.new.stage)}")
    elif more := len(diff.changes) - len(shown.changes):
        say(f"  … and {more} more")
