"""The seed interface, used as its users would write it: no key set up, nothing imported but the class."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)


def test_a_pipeline_saves_and_skips() -> None:
    cm = CheckpointManager()
    assert not cm.has_checkpoint("data_ingestion")
    cm.save_checkpoint("data_ingestion")
    assert cm.has_checkpoint("data_ingestion")
    assert CheckpointManager().has_checkpoint("data_ingestion")


def test_the_default_directory_is_checkpoints(tmp_path: Path) -> None:
    CheckpointManager().save_checkpoint("data_ingestion")
    assert (tmp_path / "work" / "checkpoints" / "data_ingestion.checkpoint").is_file()


def test_clearing_starts_over() -> None:
    cm = CheckpointManager()
    cm.save_checkpoint("data_ingestion")
    cm.save_checkpoint("training")
    cm.clear_checkpoints()
    assert not cm.has_checkpoint("data_ingestion")
    assert not cm.has_checkpoint("training")
    cm.save_checkpoint("training")
    assert cm.has_checkpoint("training")


def test_each_pipeline_has_a_directory_of_its_own(tmp_path: Path) -> None:
    first = CheckpointManager("pipeline_a")
    second = CheckpointManager(checkpoint_dir=str(tmp_path / "deep" / "pipeline_b"))
    first.save_checkpoint("data_ingestion")
    assert first.has_checkpoint("data_ingestion")
    assert not second.has_checkpoint("data_ingestion")


def test_a_save_can_stand_in_try_and_except() -> None:
    cm = CheckpointManager()
    try:
        cm.save_checkpoint("data_ingestion", {"rows": object()})
    except CheckpointError as error:
        message = str(error)
    assert "$.rows" in message
    assert not cm.has_checkpoint("data_ingestion")
    with pytest.raises(ValueError, match="empty"):
        cm.save_checkpoint("")


def test_each_operation_logs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "checkpoint_manager")
    cm = CheckpointManager()
    caplog.clear()
    cm.save_checkpoint("data_ingestion")
    cm.clear_checkpoints()
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]
    assert caplog.messages[0].startswith("Checkpoint saved: data_ingestion")
    assert caplog.messages[1] == "All checkpoints cleared."


def test_a_new_key_is_announced_with_its_place(caplog: pytest.LogCaptureFixture, home: Path) -> None:
    CheckpointManager()
    warning = next(record for record in caplog.records if record.levelname == "WARNING")
    assert str(home) in warning.getMessage()
    assert "keep a copy" in warning.getMessage()
    caplog.clear()
    CheckpointManager("another")
    assert caplog.records == []


def test_the_files_that_result_are_encrypted(tmp_path: Path) -> None:
    cm = CheckpointManager()
    cm.save_checkpoint("data_ingestion", {"patient": "Rosalind-Marker"}, metadata={"run": "Marker-7"})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 3
    for path in files:
        assert b"Marker" not in path.read_bytes()
