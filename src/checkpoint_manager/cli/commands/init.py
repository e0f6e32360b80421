"""``init``: make a store."""

from __future__ import annotations

import click

from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import say, write_json
from checkpoint_manager.models import display


@click.command()
@store_options
def init(access: Access) -> None:
    """Make a store, with your own key file or with the key given. A store that exists is left as it is.

    \b
    Examples:
      checkpoint-manager init
      checkpoint-manager init --store checkpoints --key passphrase-file:secret.txt
    """
    cm = access.open(make=True)
    if access.as_json:
        write_json("init", {"store": str(access.store), "stages": cm.stages()})
    else:
        say(f"the store {display(str(access.store))} is ready")
