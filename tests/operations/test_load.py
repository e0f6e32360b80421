"""What ``load_checkpoint`` and ``update_checkpoint`` take for a stage's data."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, IntegrityError
from checkpoint_manager._operations.save import draft, save

if TYPE_CHECKING:
    from checkpoint_manager.models import Status

KEY = bytes(range(32))


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", {"rows": 1200})
    return cm


def save_as(cm: CheckpointManager, status: Status, data: object = None) -> int:
    return save(cm._store, "train", draft("train", data, None, status=status)).number


def path_of(cm: CheckpointManager, version: int) -> str:
    return f"{cm._store.backend.location}/history/train/{version:012d}.checkpoint"


@pytest.mark.parametrize("damage", ["gone", "damaged"])
def test_whether_a_stage_is_done_is_not_answered_where_the_keyring_is_damaged(cm: CheckpointManager, damage: str) -> None:
    """A "no" would let hours be computed again, whose result could not be saved."""
    keyring = Path(cm._store.backend.location) / "keyring.json"
    keyring.unlink()
    if damage == "damaged":
        keyring.write_text("{}")
    with pytest.raises(IntegrityError, match="keyring"):
        cm.has_checkpoint("train")


def test_a_failure_or_half_a_loop_is_not_handed_out_as_data(cm: CheckpointManager) -> None:
    for status in ("failed", "progress", "progress"):
        save_as(cm, status, "not the data")  # type: ignore[arg-type]
        assert cm.load_checkpoint("train") == {"rows": 1200}
        assert cm.get_checkpoint("train").version.number == 1
        assert not cm.has_checkpoint("train")
    assert cm.load_checkpoint("train", "latest") == {"rows": 1200}
    assert cm.load_checkpoint("train", "failed") == "not the data"
    assert cm.load_checkpoint("train", 2) == "not the data"


def test_a_stage_without_a_completed_version_has_no_data(cm: CheckpointManager, tmp_path: Path) -> None:
    other = CheckpointManager(tmp_path / "other", key=KEY)
    save(other._store, "train", draft("train", "half", None, status="progress"))
    with pytest.raises(CheckpointNotFoundError, match="has no completed version: its newest one is progress"):
        other.load_checkpoint("train")
    seen: list[object] = []
    other.update_checkpoint("train", lambda data: seen.append(data) or 1)
    assert seen == [None]


def test_a_clearing_below_a_failure_is_not_skipped(cm: CheckpointManager) -> None:
    cm.clear_checkpoint("train")
    save_as(cm, "failed")
    with pytest.raises(CheckpointNotFoundError, match=r"is cleared \(version 2\)"):
        cm.load_checkpoint("train")
    seen: list[object] = []
    cm.update_checkpoint("train", lambda data: seen.append(data) or 1)
    assert seen == [None]


def test_an_update_sees_completed_data_alone(cm: CheckpointManager) -> None:
    save_as(cm, "failed", {"message": "no network"})
    save_as(cm, "progress", ["half"])
    cm.update_checkpoint("train", lambda data: {"rows": data["rows"] + 1})
    assert cm.load_checkpoint("train") == {"rows": 1201}


def test_damage_below_a_failure_may_hide_newer_data_and_stops_both(cm: CheckpointManager) -> None:
    cm.save_checkpoint("train", "newer")
    save_as(cm, "failed")
    with open(path_of(cm, 2), "wb") as file:
        file.write(b"damaged")
    calls: list[object] = []
    with pytest.raises(IntegrityError, match="version 2"):
        cm.load_checkpoint("train")
    with pytest.raises(IntegrityError, match="version 2"):
        cm.update_checkpoint("train", calls.append)
    assert calls == []
    cm.repair()
    with pytest.raises(IntegrityError, match="was damaged and set aside"):
        cm.load_checkpoint("train")
    assert cm.load_checkpoint("train", 1) == {"rows": 1200}


def test_deleted_versions_below_a_failure_are_skipped(cm: CheckpointManager) -> None:
    cm.save_checkpoint("train", "wrong")
    save_as(cm, "failed")
    cm.delete_versions("train", [2])
    assert cm.load_checkpoint("train") == {"rows": 1200}
