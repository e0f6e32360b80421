"""``restore``: make an earlier version the newest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.options import confirm, dry_run_option, store_options, yes_option
from checkpoint_manager.cli.output import say, show_size, show_time, version_fields, write_json, write_line
from checkpoint_manager.cli.preview import difference, say_difference
from checkpoint_manager.cli.selector import Selector, at_option, stage_names

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.models import Version


@click.command()
@click.argument("selector", shell_complete=stage_names, metavar="STAGE@VERSION")
@at_option
@click.option("--redact", is_flag=True, help="Show the paths and the kinds of values that would change, not the values.")
@yes_option
@dry_run_option
@store_options
def restore(access: Access, selector: str, at: datetime | None, *, redact: bool, yes: bool, dry_run: bool) -> None:
    """Make an earlier version of a STAGE the newest, by appending a copy of it. Nothing is removed.

    It shows what that changes before it asks; with --json, --dry-run prints the changes.

    A version is a number, `latest`, `prev` or a tag.

    \b
    Examples:
      checkpoint-manager restore train@3
      checkpoint-manager restore train@prev --yes
      checkpoint-manager restore train --at 1d
    """
    cm = access.open()
    chosen = Selector.find(cm, selector, at)
    if chosen.version is None:
        raise UsageError(
            f"it is not clear which version of {printable(selector)} is meant",
            hint=f"Write {printable(selector)}@NUMBER, {printable(selector)}@prev or --at TIME; see: checkpoint-manager log",
        )
    checkpoint = cm.get_checkpoint(chosen.stage, chosen.version)  # read and verified before the question
    number = checkpoint.version.number
    say(f"Stage {printable(chosen.stage)} in {access.shown}: a copy of {_described(checkpoint.version)}")
    say("will be appended as the newest version. Nothing is removed, and another restore undoes it.")
    diff = difference(cm, checkpoint.version) if dry_run or not yes else None
    if dry_run and access.as_json:
        changes = None if diff is None else diff.as_dicts(redact=redact)
        write_json("restore", {"dry_run": True, "stage": chosen.stage, "from": number, "changes": changes})
        return
    if dry_run or not yes:
        say_difference(diff, redact=redact)
    if dry_run:
        return
    confirm("Restore it?", yes=yes)
    restored = cm.restore_checkpoint(chosen.stage, number)
    if access.as_json:
        write_json("restore", {"dry_run": False, "version": version_fields(restored)})
    else:
        write_line(f"{printable(chosen.stage)}@{restored.number}")


def _described(version: Version) -> str:
    return f"version {version.number} ({version.status}, {show_time(version.created_at)}, {show_size(version.size)})"
