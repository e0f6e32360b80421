"""``list``: the names of the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.each_stage import tell_troubles, trouble_fields, with_each
from checkpoint_manager.cli.exit_codes import Exit, exit_of
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import write_json, write_line

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access


@click.command("list")
@click.option("--stale", is_flag=True, help="List only those that were made of results which are out of date.")
@store_options
def list_stages(access: Access, *, stale: bool) -> int:
    """List the names of the stages, one on each line, without reading their data. Exits with 13 if one of them is in trouble.

    \b
    Example:
      checkpoint-manager list
    """
    cm = access.open()
    there = cm.stages()
    _, troubles = with_each(there, cm.get_version)
    stages = [*cm.stale_stages()] if stale else there
    if access.as_json:
        write_json("list", {"stages": stages, "problems": trouble_fields(troubles)})
        return next(map(exit_of, troubles.values()), Exit.DONE)
    for stage in stages:
        write_line(printable(stage))
    return tell_troubles(troubles)
