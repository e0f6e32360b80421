"""A deleted stage that is put back, in part or whole, and one that is made to look deleted."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, RollbackError
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def _three_versions(cm: CheckpointManager) -> None:
    for epoch in (1, 2, 3):
        cm.save_checkpoint("train", {"epoch": epoch})


@pytest.mark.parametrize("who", ["owner", "other", "stranger"])
def test_the_versions_of_a_deleted_stage_put_back_are_not_served(
    who: str, place: Path, as_user: Callable[[str], CheckpointManager]
) -> None:
    owner = as_user("owner")
    _three_versions(owner)
    other = as_user("other")
    assert other.load_checkpoint("train") == {"epoch": 3}
    shutil.copytree(place / "history" / "train", place.parent / "kept")
    owner.delete_stage("train")
    assert not other.has_checkpoint("train")
    for number in (1, 2, 3):
        shutil.copy(place.parent / "kept" / f"00000000000{number}.checkpoint", place / "history" / "train")
    marker = place / "history" / "train" / "000000000004.checkpoint"
    cm = as_user(who)
    assert not cm.has_checkpoint("train"), "the marker decides while it is there"
    take_away(marker)
    cm = as_user(who) if who != "stranger" else as_user("another stranger")
    with pytest.raises(RollbackError):
        cm.load_checkpoint("train")
    assert "train" in cm.stages(), "a stage in trouble is listed"


def test_the_folder_of_a_deleted_stage_put_back_is_refused(place: Path, as_user: Callable[[str], CheckpointManager]) -> None:
    owner = as_user("owner")
    _three_versions(owner)
    shutil.copytree(place / "history" / "train", place.parent / "kept")
    owner.delete_stage("train")
    shutil.rmtree(place / "history" / "train")
    shutil.copytree(place.parent / "kept", place / "history" / "train")
    with pytest.raises(RollbackError):
        as_user("owner").load_checkpoint("train")
    assert not owner.verify().ok


def test_an_old_delete_marker_does_not_hide_newer_versions(place: Path, as_user: Callable[[str], CheckpointManager]) -> None:
    """Promise 6: a user who saw version 5 hears of it when the marker is made the newest version again."""
    owner = as_user("owner")
    _three_versions(owner)
    owner.delete_stage("train")
    owner.save_checkpoint("train", "newer")
    take_away(place / "history" / "train" / "000000000005.checkpoint")
    again = as_user("owner")
    assert "train" in again.stages()
    with pytest.raises(RollbackError):
        again.has_checkpoint("train")
