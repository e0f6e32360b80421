"""``delete``: delete versions for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.options import confirm, dry_run_option, store_options, yes_option
from checkpoint_manager.cli.output import say, show_count, write_json
from checkpoint_manager.cli.selector import no_such_stage, stage_names
from checkpoint_manager.errors import CheckpointError, CheckpointNotFoundError, Hint

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access


_VERSION = click.IntRange(1)
_VERSION.name = "version number"  # for click's message about anything else


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.argument("versions", type=_VERSION, nargs=-1, required=True, metavar="VERSION...")
@yes_option
@dry_run_option
@store_options
def delete(access: Access, stage: str, versions: tuple[int, ...], *, yes: bool, dry_run: bool) -> None:
    """Delete VERSIONs of a STAGE for good, except the newest one. Their numbers are never used again.

    \b
    Example:
      checkpoint-manager delete train 1 2 3
    """
    cm = access.open()
    wanted = sorted(set(versions))
    there = {version.number for version in cm.history(stage)}
    if not there:
        raise no_such_stage(access, stage, cm.stages())
    for version in wanted:
        if version not in there:
            message = f"stage {printable(stage)} has no version {version}"
            raise CheckpointNotFoundError(message, hint=Hint.SEE_HISTORY, stage=stage, version=version)
    for name, version in cm.tags(stage).items():
        if version in wanted:
            message = (
                f"version {version} of stage {printable(stage)} has the tag {name}, which protects it: nothing was deleted"
            )
            raise CheckpointError(message, hint=Hint.REMOVE_TAG, stage=stage, version=version)
    of = f"of {show_count(len(there), 'version')} of stage {printable(stage)}"
    say(f"To be deleted for good, {of}: {', '.join(map(str, wanted))}")
    if not dry_run:
        confirm("Delete them?", yes=yes)
        cm.delete_versions(stage, wanted)
    if access.as_json:
        write_json("delete", {"dry_run": dry_run, "stage": stage, "versions": wanted})
    elif not dry_run:
        say(f"{show_count(len(wanted), 'version')} of stage {printable(stage)} deleted for good")
