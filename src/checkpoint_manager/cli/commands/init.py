"""``init``: make a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import counted
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import say, write_json

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access


@click.command()
@store_options
def init(access: Access) -> None:
    """Make a store, with your own key file or with the key given. A store that exists is left as it is.

    \b
    Examples:
      checkpoint-manager init
      checkpoint-manager init --store checkpoints --key passphrase-file:secret.txt
    """
    was_there = access.is_there()
    cm = access.open(make=True)
    if access.as_json:
        write_json("init", {"store": access.location, "stages": cm.stages(), "made": not was_there})
    elif was_there:
        say(f"the store {access.shown} was there already, with {counted(len(cm.stages()), 'stage')}, and is left as it is")
    else:
        say(f"made the store {access.shown}")
