"""``diff``: what changed between two versions."""

from __future__ import annotations

import sys

import click

from checkpoint_manager.cli.completing import stage_names
from checkpoint_manager.cli.exits import Exit
from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import colourful, say, version_fields, write_data, write_json, write_line
from checkpoint_manager.cli.selector import Selector


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.argument("old", required=False)
@click.argument("new", required=False)
@click.option("--redact", is_flag=True, help="Show where and what kind of value, and no value.")
@click.option("--patch", is_flag=True, help="Print a JSON patch (RFC 6902) that makes the new data of the old.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@store_options
def diff(access: Access, stage: str, old: str | None, new: str | None, *, redact: bool, patch: bool, exit_code: bool) -> int:
    """Show what changed in a STAGE: from the version before to the newest, from OLD to the newest, or from OLD to NEW.

    A version is a number, `latest` or `prev`.

    \b
    Examples:
      checkpoint-manager diff train
      checkpoint-manager diff train 3 7 --redact
    """
    if patch and redact:
        raise click.UsageError("a patch holds the values: give --patch or --redact, not both")
    cm = access.open()
    chosen = [None if each is None else Selector.of(stage, each).number(cm) for each in (old, new)]
    found = cm.diff(stage, *chosen)
    if access.as_json:
        versions = {"old": version_fields(found.old), "new": version_fields(found.new)}
        changes = {"patch": found.as_patch()} if patch else {"changes": found.as_dicts(redact=redact)}
        write_json("diff", {**versions, **changes})
    elif patch:
        write_data(found.as_patch())
    else:
        count = len(found.changes)
        say(f"version {found.old.version} → {found.new.version}: {count or 'no'} difference{'s' * (count != 1)}")
        if found:
            write_line(found.as_text(redact=redact, colour=colourful(sys.stdout)))
    return Exit.NO if exit_code and found else Exit.DONE
