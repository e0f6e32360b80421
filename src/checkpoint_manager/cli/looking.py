"""Commands that only look: ``status``, ``log``, ``show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import say, show_size, show_time, version_fields, write_data, write_json, write_table
from checkpoint_manager.cli.selector import Selector, at_option, tags_by_version
from checkpoint_manager.errors import CheckpointNotFoundError, IntegrityError
from checkpoint_manager.stages.finding import FAILURE, PROGRESS
from checkpoint_manager.stages.showing import items

if TYPE_CHECKING:
    from datetime import datetime

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
        version = _newest(cm, stage)
    except IntegrityError as error:
        return {"stage": stage, "status": "damaged", "version": error.version, "created_at": None, "size": None}
    return {
        "stage": stage,
        "status": version.status,
        "version": version.version,
        "created_at": version.created_at,
        "size": version.size,
    }


def _newest(cm: CheckpointManager, stage: str) -> Version:
    try:
        return cm.get_checkpoint(stage).version
    except CheckpointNotFoundError as error:  # cleared, which is a version too
        if error.version is None:
            raise
        return cm.get_checkpoint(stage, error.version).version


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
    tags = tags_by_version(cm, stage)
    if access.as_json:
        fields = [{**_fields(version), "tags": tags.get(version.version, [])} for version in versions]
        write_json("log", {"stage": stage, "versions": fields})
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
                ", ".join([*(f"tag {name}" for name in tags.get(version.version, [])), *_notes(version)]),
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
@click.argument("selector", metavar="STAGE[@VERSION]")
@at_option
@click.option("--meta", is_flag=True, help="Show what is known about the version instead of its data.")
@store_options
def show(access: Access, selector: str, at: datetime | None, *, meta: bool) -> None:
    r"""Print the data of a STAGE as JSON: its newest version, or the one named by number, `latest`, `prev` or a tag.

    \b
    Examples:
      checkpoint-manager show train
      checkpoint-manager show train@3 --meta
      checkpoint-manager show train --at 2026-11-20T14:00
    """
    cm = access.open()
    chosen = Selector.find(cm, selector, at)
    checkpoint = cm.get_checkpoint(chosen.stage, chosen.version)
    fields = version_fields(checkpoint.version)
    if access.as_json:
        write_json("show", {"version": fields} if meta else {"version": fields, "data": checkpoint.data})
    elif meta:
        write_data(fields)
    else:
        write_data(checkpoint.data)
