"""``diff``: what changed between two versions."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli.colour import colourful
from checkpoint_manager.cli.exit_codes import Exit, UsageError
from checkpoint_manager.cli.hints import command
from checkpoint_manager.cli.options import Number, store_options
from checkpoint_manager.cli.output import say, version_fields, write_data, write_json, write_text
from checkpoint_manager.cli.selector import at_option, stage_names

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager.cli.access import Access


_PAGE = 200


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.argument("old", required=False)
@click.argument("new", required=False)
@at_option
@click.option("--redact", is_flag=True, help="Show the paths and the kinds of values, not the values.")
@click.option("--patch", is_flag=True, help="Print a JSON patch (RFC 6902) from the old data to the new.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if there are differences.")
@click.option("--limit", type=Number(1), metavar="N", help="Show the first N differences only.")
@store_options
def diff(  # noqa: PLR0913  # each is an option of its own
    access: Access,
    stage: str,
    old: str | None,
    new: str | None,
    at: datetime | None,
    *,
    redact: bool,
    patch: bool,
    exit_code: bool,
    limit: int | None,
) -> int:
    """Show what changed in a STAGE: from the version before to the newest, from OLD to the newest, or from OLD to NEW.

    A version is a number, `latest`, `prev`, `failed` or a tag. With --at, OLD is the version that was the newest then.

    \b
    Examples:
      checkpoint-manager diff train
      checkpoint-manager diff train 3 7 --redact
    """
    if patch and redact:
        raise UsageError("a patch holds the values, and --redact hides them", hint="Give one of --patch and --redact")
    if any(each is not None and "@" in each for each in (old, new)):
        hint = f"Name the stage once, as in: {command('diff STAGE 3 7', stage.partition('@')[0])}"
        raise UsageError("OLD and NEW are versions, without the stage", hint=hint)
    if at is not None and old is not None:
        raise UsageError("OLD and --at are given", hint="Give one of them")
    found = access.open().diff(stage, old, new, at=at)
    if access.as_json:
        versions = {"old": version_fields(found.old), "new": version_fields(found.new)}
        changes = {"patch": found.as_patch()} if patch else {"changes": found.as_dicts(redact=redact)[:limit]}
        write_json("diff", {**versions, **changes})
    elif patch:
        write_data(found.as_patch())
    else:
        count = len(found.changes)
        say(f"version {found.old.number} → {found.new.number}: {count or 'no'} difference{'s' * (count != 1)}")
        shown = replace(found, changes=found.changes[:limit])
        for start in range(0, len(shown.changes), _PAGE):
            page = replace(found, changes=shown.changes[start : start + _PAGE])
            write_text(f"{page.as_text(redact=redact, colour=colourful(sys.stdout))}\n")
        if len(shown.changes) < count:
            say(f"… and {count - len(shown.changes)} more")
    return Exit.NO if exit_code and found else Exit.DONE
