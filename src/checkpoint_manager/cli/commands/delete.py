"""``delete``: delete versions, or a whole stage, for good."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.options import confirm, dry_run_option, sealed_reason_option, store_options, yes_option
from checkpoint_manager.cli.output import say, show_size, write_json
from checkpoint_manager.cli.selector import stage_names
from checkpoint_manager.errors import CheckpointError, Hint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.models import Version


_VERSION = click.IntRange(1)
_VERSION.name = "version number"  # for click's message about anything else


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.argument("versions", type=_VERSION, nargs=-1, metavar="[VERSION...]")
@click.option("--all", "every", is_flag=True, help="Delete the stage whole: its newest version and its tags, too.")
@sealed_reason_option
@yes_option
@dry_run_option
@store_options
def delete(
    access: Access, stage: str, versions: tuple[int, ...], reason: str | None, *, every: bool, yes: bool, dry_run: bool
) -> None:
    """Delete VERSIONs of a STAGE for good, except the newest one; or with --all, the whole stage.

    Their numbers are never used again, and a record remains that they were deleted.

    \b
    Examples:
      checkpoint-manager delete train 1 2 3 --reason "wrong input"
      checkpoint-manager delete train --all
    """
    if every == bool(versions):
        raise UsageError("it is not clear which versions are meant", hint="Name their numbers, or give --all")
    if every and reason is not None:
        raise UsageError("--reason is given with --all, and the reasons are deleted with the stage", hint="Leave out --reason")
    cm = access.open()
    history = cm.history(stage)
    if not history:
        cm.get_version(stage)  # raises, and says what is wrong
    tags = cm.tags(stage)
    wanted = sorted({version.number for version in history} if every else set(versions))
    if not every:
        for version in wanted:
            cm.get_version(stage, version)  # raises if it is not there, and says since when
        _check(stage, wanted, history, tags)
    say(f"To be deleted for good{_plan(stage, wanted, history, tags, every=every)}")
    if not dry_run:
        confirm("Delete the stage?" if every else "Delete them?", yes=yes)
        wanted = cm.delete_stage(stage) if every else cm.delete_versions(stage, wanted, reason=reason)
    if access.as_json:
        write_json("delete", {"dry_run": dry_run, "stage": stage, "versions": wanted, "whole": every})
    elif not dry_run and every:
        say(f"stage {printable(stage)} deleted for good, with its {counted(len(wanted), 'version')}")
    elif not dry_run:
        say(f"{counted(len(wanted), 'version')} of stage {printable(stage)} deleted for good")


def _check(stage: str, wanted: Sequence[int], history: Sequence[Version], tags: Mapping[str, int]) -> None:
    """Refuse before a plan is shown what the library would refuse after it."""
    for version in wanted:
        which = f"version {version} of stage {printable(stage)}"
        if version == history[0].number:
            message = f"{which} is the newest and can't be deleted by itself; nothing was deleted"
            hint = "Save or clear the stage first, or delete the whole stage with --all"
            raise CheckpointError(message, hint=hint, stage=stage, version=version)
        names = [name for name, number in tags.items() if number == version]
        if names:
            message = f"{which} is tagged {' and '.join(names)}, which protects it; nothing was deleted"
            raise CheckpointError(message, hint=Hint.REMOVE_TAG, stage=stage, version=version)


def _plan(stage: str, wanted: Sequence[int], history: Sequence[Version], tags: Mapping[str, int], *, every: bool) -> str:
    if not every:
        return f", of {counted(len(history), 'version')} of stage {printable(stage)}: {', '.join(map(str, wanted))}"
    size = show_size(sum(version.total_size or 0 for version in history))
    tagged = f", and its {'tag' if len(tags) == 1 else 'tags'} {', '.join(tags)}" if tags else ""
    return f": the whole stage {printable(stage)}, with {counted(len(wanted), 'version')} ({size}){tagged}"
