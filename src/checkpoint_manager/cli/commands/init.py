"""``init``: make a store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import say, write_json

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access

_METADATA = "metadata."


@click.command()
@click.option(
    "--index",
    "fields",
    multiple=True,
    metavar="FIELD",
    help="Keep a field of each version in the clear, in an indexed column of a PostgreSQL database, for 'find' and for SQL: "
    "status, created_at or metadata.KEY. May be repeated: these and no others are kept from then on. none: no field.",
)
@store_options
def init(access: Access, fields: tuple[str, ...]) -> None:
    """Make a store, with your own key file or with the key given. A store that exists is left as it is.

    \b
    Examples:
      checkpoint-manager init
      checkpoint-manager init --store checkpoints --key passphrase-file:secret.txt
    """
    index = _index(fields)
    was_there = access.is_there()
    cm = access.open(make=True, index=index)
    if access.as_json:
        write_json("init", {"store": access.location, "stages": cm.stages(), "made": not was_there})
    elif was_there and index is not None:
        say(f"the store {access.shown} was there already, and keeps an index of {', '.join(map(printable, fields))}")
    elif was_there:
        say(f"the store {access.shown} was there already, with {counted(len(cm.stages()), 'stage')}, and is left as it is")
    else:
        say(f"made the store {access.shown}")


def _index(fields: tuple[str, ...]) -> dict[str, bool | list[str]] | None:
    """Return the fields as the manager takes them; None: none are named, so what is indexed stays as it is."""
    if not fields or fields == ("none",):
        return {} if fields else None
    keys = [field.removeprefix(_METADATA) for field in fields if field.startswith(_METADATA)]
    for field in fields:
        if field not in {"status", "created_at"} and not field.startswith(_METADATA):
            raise UsageError(f"{printable(field)} can't be indexed", hint="Name status, created_at or metadata.KEY")
    return {"status": "status" in fields, "created_at": "created_at" in fields, "metadata": keys}
