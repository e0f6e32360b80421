"""Stores that earlier versions of the library wrote, opened by this one: for ever."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, KeyFile, Passphrase

HERE = Path(__file__).parent


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy with the modes that a version control system does not keep."""
    shutil.copytree(HERE / "1", tmp_path / "1")
    for path in (tmp_path / "1", *(tmp_path / "1").rglob("*")):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return tmp_path / "1"


@pytest.mark.parametrize("by", ["key file", "passphrase"])
def test_a_store_of_version_1_opens(folder: Path, by: str) -> None:
    key = KeyFile(str(folder / "test.key")) if by == "key file" else Passphrase("a passphrase for tests")
    cm = CheckpointManager(folder / "store", key=key)
    assert cm.stages() == ["Clean/Up", "after rotation", "data_ingestion", "x" * 254 + "é"]
    assert [(v.number, v.restored_from, dict(v.metadata)) for v in cm.history("data_ingestion")] == [
        (5, 2, {"run": "r2"}),
        (4, None, {"run": "r4"}),
        (2, None, {"run": "r2"}),
    ]
    assert cm.load_checkpoint("data_ingestion") == {"rows": 200, "text": "é€"}
    assert cm.load_checkpoint("data_ingestion", 4) == {"rows": 400, "text": "é€"}
    with pytest.raises(CheckpointNotFoundError, match="was deleted"):
        cm.load_checkpoint("data_ingestion", 3)
    assert not cm.has_checkpoint("Clean/Up")
    assert cm.load_checkpoint("Clean/Up", 1) == [1, 2.5, None, True]
    assert cm.load_checkpoint("x" * 254 + "é") == "long"
    assert cm.load_checkpoint("after rotation") == 2**64 - 1
    assert [slot.label for slot in cm.keys.list()] == ["", "second"]
    assert cm.verify().problems == ()


def test_a_store_of_version_1_is_written_on(folder: Path) -> None:
    cm = CheckpointManager(folder / "store", key=KeyFile(str(folder / "test.key")))
    assert cm.save_checkpoint("data_ingestion", {"rows": 1}).number == 6
    assert cm.restore_checkpoint("Clean/Up", 1).number == 3
    cm.keys.rotate(also=[Passphrase("a passphrase for tests")])
    assert cm.verify().problems == ()
    assert cm.load_checkpoint("data_ingestion", 2) == {"rows": 200, "text": "é€"}


def test_bundles_of_version_1_are_imported(folder: Path, tmp_path: Path) -> None:
    """They were exported from the store beside them, before tags were part of a bundle."""
    key = KeyFile(str(folder / "test.key"))
    there, here = CheckpointManager(folder / "store", key=key), CheckpointManager(tmp_path / "new", key=bytes(32))
    imported = here.import_bundle(folder / "key-file.bundle", key=key)
    assert [(stage.added, stage.tags, stage.tags_kept) for stage in imported.stages] == [(n, (), ()) for n in (2, 1, 3, 1)]
    here.tag("data_ingestion", 4, "good")
    assert here.import_bundle(folder / "passphrase.bundle", key=Passphrase("a passphrase for tests")).added == 0
    assert here.stages() == there.stages()
    for stage in there.stages():
        assert here.history(stage) == there.history(stage)
        for version in there.history(stage):
            assert here.get_checkpoint(stage, version.number) == there.get_checkpoint(stage, version.number)
    with pytest.raises(CheckpointNotFoundError, match="was deleted"):
        here.load_checkpoint("data_ingestion", 3)
    assert here.tags("data_ingestion") == {"good": 4}
    assert here.verify().problems == ()
