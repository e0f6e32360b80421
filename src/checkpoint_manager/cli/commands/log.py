"""``log``: the versions of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import show_size, show_time, version_fields, write_json, write_table
from checkpoint_manager.cli.selector import stage_names, tags_by_version
from checkpoint_manager.stages.display import items
from checkpoint_manager.stages.notes import read_failure, read_progress

if TYPE_CHECKING:
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
    notes = {"failure": read_failure(version.metadata), "progress": read_progress(version.metadata)}
    told = {name: note.as_metadata() for name, note in notes.items() if note is not None}
    return {**version_fields(version), "metadata": metadata, **told}


def _notes(version: Version) -> list[str]:
    notes = [f"{name}={value}" for name, value in version.metadata.items() if not name.startswith("@")]  # those are ours
    if failure := read_failure(version.metadata):
        first_line = failure.message.partition("\n")[0]
        notes.insert(0, f"{failure.type}: {first_line}" if first_line else failure.type)
    if progress := read_progress(version.metadata):
        notes.insert(0, items(progress.done, progress.total))
    if version.restored_from is not None:
        notes.insert(0, f"restored from {version.restored_from}")
    return notes
