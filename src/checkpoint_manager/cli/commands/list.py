"""``list``: the names of the stages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import write_json, write_line

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access


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
        write_line(printable(stage))
