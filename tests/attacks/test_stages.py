"""What someone may do to a stage: notes of foreign types, text that moves the cursor, a deletion undone."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, RollbackError
from checkpoint_manager._format.notes import Note, read_failure, read_note, read_progress
from checkpoint_manager._operations.save import Draft, save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager.models import Status

EVIL = "\x1b]0;pwned\x07\nWARNING forged line \u202e"

FOREIGN: list[Any] = [
    *(None, 5, 1.5, True, "x", [], [1], {}, {"version": 1}, {"arguments": {}}, {"version": 1, "arguments": []}),
    *({"version": [1], "arguments": {}}, {"version": 1.5, "arguments": {}}, {"version": None, "arguments": {}}),
    *({"version": 1, "arguments": {"a": 5}}, {"version": 1, "arguments": {}, "function": 5}),
    *({"version": 1, "arguments": {}, "within": 5}, {"version": 1, "arguments": {}, "within": {"version": 1}}),
    *({"version": 1, "arguments": {}, "more": 1}, {"version": 2**63, "arguments": {}}),
    {"version": 1, "arguments": {}, "within": {"version": 1, "arguments": {}, "within": {"version": 1, "arguments": {}}}},
    *({"done": "5"}, {"done": -1, "total": None, "complete": False, "before": []}),
    *({"done": 1, "total": "x", "complete": False, "before": []}, {"done": 1, "total": 2, "complete": 0, "before": []}),
    *({"done": 1, "total": 2, "complete": True, "before": {}}, {"done": True, "total": 2, "complete": True, "before": []}),
    *({"done": 1, "total": 2, "complete": True, "before": ["1"]}, {"done": 1, "total": 2, "complete": True, "before": [True]}),
    *({"type": 5, "message": "x"}, {"type": "x"}, {"message": "x"}, {"type": "x", "message": ["x"]}),
]


def plant(cm: CheckpointManager, stage: str, metadata: dict[str, Any], status: Status = "completed") -> None:
    """Save what another program with the key may save."""
    save(cm._store, stage, Draft(b"1", metadata, status))


def total(items: list[int]) -> int:
    return sum(items)


@pytest.mark.parametrize("note", FOREIGN, ids=str)
def test_notes_of_foreign_types_are_none(note: Any) -> None:
    metadata = {"@stage": note, "@progress": note, "@failure": note}
    assert read_note(metadata) is None
    assert read_progress(metadata) is None
    assert read_failure(metadata) is None


@pytest.mark.parametrize("note", FOREIGN, ids=str)
@pytest.mark.parametrize("status", ["completed", "progress", "failed", "cleared"])
def test_notes_of_foreign_types_crash_nothing(
    store: Path, opened: Callable[..., CheckpointManager], note: Any, status: Any
) -> None:
    cm = opened()
    plant(cm, "total", {"@stage": note, "@progress": note, "@failure": note}, status)
    assert cm.stage(total)([1, 2]) == 3
    with cm.loop("total", [1, 2], initial=0) as progress:
        for item in progress:
            progress.state += item
    assert progress.result == 3
    assert str(cm.run_report())


@pytest.mark.parametrize("command", [["log", "total"], ["log", "total", "--json"], ["run", "total", "--", "true"]])
def test_notes_of_foreign_types_are_shown_by_no_raw_error(tmp_path: Path, command: list[str]) -> None:
    cm = CheckpointManager(tmp_path / "own")
    for note in FOREIGN:
        plant(cm, "total", {"@stage": note, "@progress": note, "@failure": note}, "failed")
    words = [sys.executable, "-m", "checkpoint_manager", command[0], "--store", str(tmp_path / "own"), *command[1:]]
    done = subprocess.run(words, env=dict(os.environ), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr


def test_stored_text_moves_no_cursor_and_forges_no_line(
    opened: Callable[..., CheckpointManager], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="checkpoint_manager")
    for number, note in enumerate(
        [Note(EVIL), Note(1, {EVIL: "1" * 32}), Note(1, {}, EVIL), Note(1, dict.fromkeys(map(str, range(999)), ""))]
    ):
        cm = opened()
        plant(cm, f"total{number}", {"@stage": note.as_metadata()})
        with cm.loop(f"total{number}", [1], initial=0, revision=2) as progress:
            progress.finish()
        assert progress.result == 0
        said = [outcome.why for outcome in cm.run_report().outcomes] + caplog.messages
        assert all(text.isprintable() and len(text) < 700 for text in said), said


def test_a_deletion_that_was_undone_gives_a_stage_no_deleted_result(
    store: Path, opened: Callable[..., CheckpointManager], version_file: Callable[[str, int], Path], tmp_path: Path
) -> None:
    cm = opened()
    for number in (1, 2, 3):
        cm.stage(total)([number])
    shutil.copy(version_file("total", 1), tmp_path / "copy")
    cm.delete_versions("total", [1])
    shutil.copy(tmp_path / "copy", version_file("total", 1))
    (store / "history" / "total" / "gaps").unlink()
    again = opened()
    with pytest.raises(RollbackError):
        again.stage(total)([1])
    assert again.run_report().outcomes == ()
