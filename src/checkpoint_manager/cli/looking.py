"""Commands that only look: ``status``, ``log``, ``show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import say, show_size, show_time, version_fields, write_data, write_json, write_table
from checkpoint_manager.cli.pointer import steps_of, value_at
from checkpoint_manager.cli.preview import newest_of
from checkpoint_manager.cli.selector import Selector
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.model import display

if TYPE_CHECKING:
    from checkpoint_manager.manager import CheckpointManager
    from checkpoint_manager.model import Version


@click.command()
@store_options
def status(access: Access) -> None:
    r"""Show each stage with its newest version, and whether it is whole.

    \b
    Example:
      checkpoint-manager status --store checkpoints
    """
    cm = access.open()
    rows = [_state(cm, stage) for stage in cm.stages()]
    if access.as_json:
        write_json("status", {"store": str(access.store), "stages": rows})
        return
    if not rows:
        say("no stages yet: nothing was saved in this store")
        return
    write_table(
        ("STAGE", "STATUS", "VERSION", "SAVED", "SIZE"),
        [
            (
                row["stage"],
                row["status"],
                str(row["version"] or ""),
                show_time(row["created_at"]) if row["created_at"] else "",
                show_size(row["size"]) if row["size"] is not None else "",
            )
            for row in rows
        ],
    )


def _state(cm: CheckpointManager, stage: str) -> dict[str, Any]:
    """Return a stage's newest version as ``has_checkpoint`` would judge it: read and verified as a whole."""
    try:
        version = newest_of(cm, stage).version
    except IntegrityError as error:
        return {"stage": stage, "status": "damaged", "version": error.version, "created_at": None, "size": None}
    return {
        "stage": stage,
        "status": version.status,
        "version": version.version,
        "created_at": version.created_at,
        "size": version.size,
    }


@click.command()
@click.argument("stage")
@store_options
def log(access: Access, stage: str) -> None:
    r"""List the versions of a STAGE, newest first.

    \b
    Example:
      checkpoint-manager log train
    """
    cm = access.open()
    versions = cm.history(stage)
    if not versions and stage not in cm.stages():
        cm.load_checkpoint(stage)  # says what is wrong
    if access.as_json:
        write_json("log", {"stage": stage, "versions": [version_fields(version) for version in versions]})
        return
    write_table(
        ("VERSION", "STATUS", "SAVED", "SIZE", "BY", "NOTE"),
        [
            (
                str(version.version),
                version.status,
                show_time(version.created_at),
                show_size(version.size),
                f"{version.origin.user}@{version.origin.host}",
                _note(version),
            )
            for version in versions
        ],
    )


def _note(version: Version) -> str:
    notes = [f"{name}={value}" for name, value in version.metadata.items() if not name.startswith("@")]  # those are ours
    if version.restored_from is not None:
        notes.insert(0, f"restored from {version.restored_from}")
    return ", ".join(notes)


@click.command()
@click.argument("selector", metavar="STAGE[@VERSION]")
@click.option("--meta", is_flag=True, help="Show what is known about the version instead of its data.")
@click.option("--path", "pointer", metavar="POINTER", help="Only what is there in it: a JSON pointer, such as /rows/0/name.")
@store_options
def show(access: Access, selector: str, *, meta: bool, pointer: str | None) -> None:
    r"""Print the data of a STAGE as JSON: its newest version, or the one named by number, `latest` or `prev`.

    \b
    Examples:
      checkpoint-manager show train
      checkpoint-manager show train@3 --meta
      checkpoint-manager show train --path /epoch
    """
    steps_of(pointer or "")  # what is wrong with it is told before a passphrase is asked for
    cm = access.open()
    chosen = Selector.parse(selector)
    checkpoint = cm.get_checkpoint(chosen.stage, chosen.number(cm))
    fields = version_fields(checkpoint.version)
    what = fields if meta else checkpoint.data
    if pointer is not None:
        of = f"{'what is known of ' if meta else ''}{display(checkpoint.version.stage)}@{checkpoint.version.version}"
        what = value_at(what, pointer, of)
    if not access.as_json:
        write_data(what)
    elif pointer is not None:
        write_json("show", {"version": fields, "path": pointer, "value": what})
    else:
        write_json("show", {"version": fields} if meta else {"version": fields, "data": what})
