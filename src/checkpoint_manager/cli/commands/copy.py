"""``copy``: make a store of its own elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import counted, printable
from checkpoint_manager.backends.registry import redacted
from checkpoint_manager.cli.bundle import bundle_fields, bundle_summary
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import say, write_json
from checkpoint_manager.cli.progress import progress_of

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access


@click.command()
@click.argument("location")
@store_options
def copy(access: Access, location: str) -> None:
    """Copy the store to another LOCATION, a directory or a URL, with all versions and tags.

    The copy is a store of its own, under the same key, and is read back at the end. If it is interrupted, run it again: it goes
    on where it was. Run later, it adds what is new, removes nothing there and moves no tag.

    A directory that was copied with cp is still the same store: once one of the two has newer versions, the other one counts as
    an older copy that was put in its place.

    \b
    Examples:
      checkpoint-manager copy experiment
      checkpoint-manager copy sqlite:///checkpoints.db
    """
    key = access.key_given()  # read once, for both
    cm = access.open(key=key)
    with progress_of("copying") as step:
        copied = cm.copy_to(location, key=key, progress=step)
    if access.as_json:
        write_json(
            "copy", {"to": redacted(location), **bundle_fields(copied, "stage", "versions", "newest", "tags", "tags_kept")}
        )
    else:
        for stage in copied.stages:
            if stage.tags_kept:
                names = ", ".join(stage.tags_kept)
                say(f"stage {printable(stage.stage)}: these tags name other versions there and were not moved: {names}")
        told = bundle_summary(copied, f"{counted(copied.versions, 'version')} ({copied.added} new)")
        say(f"copied to {printable(redacted(location))}: {told}")
