"""Commands that look at one stage: ``log``, ``show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager.cli.completing import stage_names
from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import show_size, show_time, version_fields, write_data, write_json, write_table
from checkpoint_manager.cli.pointer import steps_of, value_at
from checkpoint_manager.cli.selector import Selector, at_option, tags_by_version
from checkpoint_manager.models import display
from checkpoint_manager.stages.display import items
from checkpoint_manager.stages.lookup import FAILURE, PROGRESS

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager.models import Version


@click.command()
@click.argument("stage", shell_complete=stage_names)
@store_options
def log(access: Access, stage: str) -> None:
    """List the versions of a STAGE, newest first.

    \b
    Example:
      checkpoint-manager log train
    """
    cm = access.open()
    versions = cm.history(stage)
    if not versions and stage not in cm.stages():
        cm.load_checkpoint(stage)  # says what is wrong
    tags = tags_by_version(cm, stage)
    if access.as_json:
        fields = [{**_fields(version), "tags": tags.get(version.number, [])} for version in versions]
        write_json("log", {"stage": stage, "versions": fields})
        return
    write_table(
        ("VERSION", "STATUS", "SAVED", "SIZE", "BY", "NOTE"),
        [
            (
                str(version.number),
                version.status,
                show_time(version.created_at),
                show_size(version.size),
                f"{version.origin.user}@{version.origin.host}",
                ", ".join([*(f"tag {name}" for name in tags.get(version.number, [])), *_notes(version)]),
            )
            for version in versions
        ],
    )


def _fields(version: Version) -> dict[str, Any]:
    """Return a version as a listing tells it: of what stages note beside it, only how far it got, or why it failed."""
    metadata = {name: value for name, value in version.metadata.items() if not name.startswith("@")}
    told = {name.removeprefix("@"): version.metadata[name] for name in (FAILURE, PROGRESS) if name in version.metadata}
    return {**version_fields(version), "metadata": metadata, **told}


def _notes(version: Version) -> list[str]:
    notes = [f"{name}={value}" for name, value in version.metadata.items() if not name.startswith("@")]  # those are ours
    if failure := version.metadata.get(FAILURE):
        first_line = failure["message"].partition("\n")[0]
        notes.insert(0, f"{failure['type']}: {first_line}" if first_line else failure["type"])
    if progress := version.metadata.get(PROGRESS):
        notes.insert(0, items(progress["done"], progress["total"]))
    if version.restored_from is not None:
        notes.insert(0, f"restored from {version.restored_from}")
    return notes


@click.command()
@click.argument("selector", shell_complete=stage_names, metavar="STAGE[@VERSION]")
@at_option
@click.option("--meta", is_flag=True, help="Show what is known about the version instead of its data.")
@click.option("--path", "pointer", metavar="POINTER", help="Only what is there in it: a JSON pointer, such as /rows/0/name.")
@store_options
def show(access: Access, selector: str, at: datetime | None, *, meta: bool, pointer: str | None) -> None:
    """Print the data of a STAGE as JSON: its newest version, or the one named by number, `latest`, `prev` or a tag.

    \b
    Examples:
      checkpoint-manager show train
      checkpoint-manager show train@3 --meta
      checkpoint-manager show train --at 2026-11-20T14:00
      checkpoint-manager show train --path /epoch
    """
    steps_of(pointer or "")  # what is wrong with it is told before a passphrase is asked for
    cm = access.open()
    chosen = Selector.find(cm, selector, at)
    checkpoint = cm.get_checkpoint(chosen.stage, chosen.version)
    fields = version_fields(checkpoint.version)
    what = fields if meta else checkpoint.data
    if pointer is not None:
        of = f"{'what is known of ' if meta else ''}{display(checkpoint.version.stage)}@{checkpoint.version.number}"
        what = value_at(what, pointer, of)
    if not access.as_json:
        write_data(what)
    elif pointer is not None:
        write_json("show", {"version": fields, "path": pointer, "value": what})
    else:
        write_json("show", {"version": fields} if meta else {"version": fields, "data": what})
