"""Where a rollback is told, the place that holds what was seen is named, if this is a copy of it, and no other place."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, RollbackError

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the older copies "a" and "c" of the store "b", each of which this user has seen."""
    CheckpointManager(tmp_path / "b", key=KEY).save_checkpoint("train", 1)
    for copy in ("a", "c"):
        shutil.copytree(tmp_path / "b", tmp_path / copy)
        CheckpointManager(tmp_path / copy, key=KEY).load_checkpoint("train")
    return tmp_path


def told(place: Path) -> str:
    with pytest.raises(RollbackError) as caught:
        CheckpointManager(place, key=KEY).load_checkpoint("train")
    return caught.value.message.partition("this user has seen the same store at ")[2].partition(",")[0]


def test_of_several_copies_the_newest_is_named(folder: Path) -> None:
    CheckpointManager(folder / "b", key=KEY).save_checkpoint("train", 2)
    assert [told(folder / copy) for copy in ("a", "c")] == [str(folder / "b")] * 2


def test_a_place_that_leads_here_by_now_is_not_named(folder: Path) -> None:
    CheckpointManager(folder / "b", key=KEY).save_checkpoint("train", 2)
    for other in ("a", "b"):
        shutil.rmtree(folder / other)
        (folder / other).symlink_to("c")
    assert not told(folder / "c")


@pytest.mark.parametrize("is_there", [True, False], ids=["another store", "nothing"])
def test_a_place_where_this_store_is_not_any_more_is_not_named(folder: Path, is_there: bool) -> None:
    CheckpointManager(folder / "b", key=KEY).save_checkpoint("train", 2)
    shutil.rmtree(folder / "b")
    if is_there:
        other = CheckpointManager(folder / "other", key=KEY)
        for data in range(3):
            other.save_checkpoint("train", data)
        (folder / "other").rename(folder / "b")
    assert not told(folder / "c")


def test_one_that_is_damaged_or_closed_is_not_named(folder: Path) -> None:
    CheckpointManager(folder / "b", key=KEY).save_checkpoint("train", 2)
    keyring = folder / "b" / "keyring.json"
    keyring.unlink()
    keyring.mkdir()
    assert not told(folder / "c")
