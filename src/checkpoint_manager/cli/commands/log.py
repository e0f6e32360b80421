"""``log``: the versions of a stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager._format.notes import read_failure, read_progress
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.hints import HINTS
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import say, show_size, show_time, version_fields, write_json, write_table
from checkpoint_manager.cli.selector import stage_names, tags_by_version
from checkpoint_manager.errors import Hint
from checkpoint_manager.stages.display import items

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.models import Version


_WRONG = {"damaged", "missing"}


@click.command()
@click.argument("stage", shell_complete=stage_names)
@store_options
def log(access: Access, stage: str) -> int:
    """List the versions of a STAGE, newest first. Damaged and missing ones are marked; then it exits with 13.

    Who saved a version, BY, is what the saving process said of itself.

    \b
    Example:
      checkpoint-manager log train
    """
    cm = access.open()
    versions = cm.history(stage)
    if not versions:
        cm.get_version(stage)  # raises, and says what is wrong
    tags = tags_by_version(cm, stage)
    if access.as_json:
        fields = [{**_fields(version), "tags": tags.get(version.number, [])} for version in versions]
        write_json("log", {"stage": stage, "versions": fields})
    else:
        rows = [_row(version, tags.get(version.number, [])) for version in versions]
        write_table(("VERSION", "STATUS", "SAVED", "SIZE", "BY", "NOTE"), rows)
    wrong = [version for version in versions if version.status in _WRONG]
    if wrong and not access.as_json:
        say(f"error: {len(wrong)} of {len(versions)} versions are damaged or missing. {HINTS[Hint.VERIFY_AND_REPAIR]}")
    return Exit.INTEGRITY if wrong else Exit.DONE


def _row(version: Version, tags: list[str]) -> tuple[str, ...]:
    return (
        str(version.number),
        version.status,
        show_time(version.created_at),
        show_size(version.size),
        "-" if version.origin is None else f"{version.origin.user}@{version.origin.host}",
        ", ".join([*(f"tag {name}" for name in tags), *_notes(version)]),
    )


def _fields(version: Version) -> dict[str, Any]:
    """Return a version as a listing tells it: of what stages note beside it, only how far it got, or why it failed."""
    metadata = {name: value for name, value in version.metadata.items() if not name.startswith("@")}
    fields = {**version_fields(version), "metadata": metadata}
    if progress := read_progress(version.metadata):
        fields["progress"] = progress.as_metadata()
    if failure := read_failure(version.metadata):
        fields["failure"] = failure.as_metadata()
    return fields


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
