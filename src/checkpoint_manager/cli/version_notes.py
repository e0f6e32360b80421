"""What a version says beside its data: how far a loop got, why a stage failed, and what the caller noted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkpoint_manager._format.note_keys import DELETED
from checkpoint_manager._format.notes import read_failure, read_progress
from checkpoint_manager.stages.display import items

if TYPE_CHECKING:
    from checkpoint_manager.models import Version


def stage_notes(version: Version) -> list[str]:
    """Return what a stage noted, for people."""
    notes = ["the stage was deleted"] if DELETED in version.metadata else []
    if progress := read_progress(version.metadata):
        notes.append(items(progress.done, progress.total))
    if failure := read_failure(version.metadata):
        first_line = failure.message.partition("\n")[0]
        notes.append(f"{failure.type}: {first_line}" if first_line else failure.type)
        if failure.attempts > 1:
            notes.append(f"attempt {failure.attempt} of {failure.attempts}")
    return notes


def note_fields(version: Version) -> dict[str, Any]:
    """Return what a stage noted, for programs: only how far it got, or why it failed."""
    fields = {}
    if progress := read_progress(version.metadata):
        fields["progress"] = progress.as_metadata()
    if failure := read_failure(version.metadata):
        fields["failure"] = failure.as_metadata()
    return fields
