"""``clear``: mark stages as not done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.hints import command
from checkpoint_manager.cli.options import (
    confirm,
    dry_run_option,
    metadata_reason_option,
    reason_metadata,
    store_options,
    yes_option,
)
from checkpoint_manager.cli.output import say, version_fields, write_json, write_line
from checkpoint_manager.cli.selector import stage_names
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from checkpoint_manager import CheckpointManager
    from checkpoint_manager.cli.access import Access


@click.command()
@click.argument("stage", shell_complete=stage_names, required=False)
@click.option("--all", "every", is_flag=True, help="Clear every stage.")
@click.option("--downstream", is_flag=True, help="Clear the stages that were made of its results, too.")
@metadata_reason_option
@yes_option
@dry_run_option
@store_options
def clear(
    access: Access, stage: str | None, reason: str | None, *, every: bool, downstream: bool, yes: bool, dry_run: bool
) -> None:
    """Mark a STAGE as not done, so that it is computed again. Nothing is removed, and a restore undoes it.

    \b
    Examples:
      checkpoint-manager clear train
      checkpoint-manager clear clean --downstream
      checkpoint-manager clear --all --yes
    """
    if every == (stage is not None):
        raise UsageError("it is not clear which stages are meant", hint="Name one stage, or give --all")
    if every and downstream:
        raise UsageError("--downstream is given together with --all", hint="Give one of them")
    cm = access.open()
    there = cm.stages()
    if stage is not None and stage not in there:
        cm.get_version(stage)  # raises, and says what is wrong
    chosen = there if stage is None else [stage, *(cm.downstream(stage) if downstream else ())]
    done = [stage for stage in chosen if _is_cleared(cm, stage)]
    chosen = [stage for stage in chosen if stage not in done]
    order = reversed(chosen) if downstream else chosen  # if this is killed, what is left can be found again
    if done:
        say(f"Cleared already in {access.shown}: {', '.join(map(printable, done))}")
    if chosen or not done:
        say(f"To be cleared in {access.shown}: {', '.join(map(printable, chosen)) or 'nothing'}")
    if not dry_run and chosen:
        confirm(f"Clear {counted(len(chosen), 'stage')}?", yes=yes)
    appended = (cm.clear_checkpoint(stage, metadata=reason_metadata(reason)) for stage in (() if dry_run else order))
    cleared = [version for version in appended if version is not None]
    if access.as_json:
        write_json("clear", {"dry_run": dry_run, "versions": [version_fields(version) for version in cleared]})
        return
    for version in cleared:
        write_line(f"{printable(version.stage)}@{version.number}")
    if cleared:
        stage = cleared[0].stage if len(cleared) == 1 else None
        each = "" if stage else ", for each of them"
        say(f"{counted(len(cleared), 'stage')} cleared; to go back{each}: {command('restore STAGE@prev', stage)}")


def _is_cleared(cm: CheckpointManager, stage: str) -> bool:
    try:
        return cm.get_version(stage).status == "cleared"
    except CheckpointError:  # a stage whose newest version is damaged can be cleared
        return False
