"""``list``: the names of the stages."""

from __future__ import annotations

import click

from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import write_json, write_line
from checkpoint_manager.models import display


@click.command("list")
@store_options
def list_stages(access: Access) -> None:
    """List the names of the stages, one on each line, without reading what they hold.

    \b
    Example:
      checkpoint-manager list
    """
    stages = access.open().stages()
    if access.as_json:
        write_json("list", {"stages": stages})
        return
    for stage in stages:
        write_line(display(stage))
