"""Delete a whole stage: what remains, and who accepts it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, StorageError
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.retention import Retention
from tests.conftest import KEY_OF_BOTH as KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from checkpoint_manager.backends.base import NewVersion


def _three_versions(cm: CheckpointManager) -> None:
    for epoch in (1, 2, 3):
        cm.save_checkpoint("train", {"epoch": epoch})
    cm.tag("train", 2, "good")
    cm.save_checkpoint("clean", "kept")


def test_the_stage_is_gone_with_its_newest_version_and_its_tags(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    _three_versions(cm)
    assert cm.delete_stage("train") == [1, 2, 3]
    assert cm.stages() == ["clean"]
    assert cm.history("train") == []
    assert cm.tags("train") == {}
    assert not cm.has_checkpoint("train")
    assert cm.verify().ok
    assert [path.name for path in (place / "history" / "train").glob("*.checkpoint")] == ["000000000004.checkpoint"]
    for gone in (
        lambda: cm.load_checkpoint("train"),
        lambda: cm.load_checkpoint("train", "latest"),
        lambda: cm.get_version("train"),
        lambda: cm.restore_checkpoint("train", "prev"),
        lambda: cm.prune(Retention(keep_last=1), "train"),
        lambda: cm.export_bundle(place.parent / "bundle", ["train"], key=KEY),
        lambda: cm.delete_stage("train"),
    ):
        with pytest.raises(CheckpointNotFoundError, match=r"stage train .* was deleted"):
            gone()
    with pytest.raises(CheckpointNotFoundError, match=r"version 2 of stage train .* was deleted"):
        cm.load_checkpoint("train", 2)


def test_a_stage_that_never_was_can_not_be_deleted(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint of stage train"):
        cm.delete_stage("train")


def test_no_number_is_used_again(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    _three_versions(cm)
    cm.delete_stage("train")
    assert CheckpointManager(place, key=KEY).save_checkpoint("train", "again").number == 5
    assert cm.load_checkpoint("train") == "again"
    assert "train" in cm.stages()
    assert [(version.number, version.status) for version in cm.history("train")] == [(5, "completed"), (4, "cleared")]
    assert cm.delete_stage("train") == [4, 5]
    assert cm.save_checkpoint("train", "once more").number == 7
    assert cm.verify().ok


@pytest.mark.parametrize("seen", [1, 2, 3])
def test_another_user_accepts_it_whatever_version_he_saw(seen: int, as_user: Callable[[str], CheckpointManager]) -> None:
    owner, other = as_user("owner"), as_user("other")
    for number in (1, 2, 3):
        owner.save_checkpoint("train", number)
        if number == seen:
            assert other.load_checkpoint("train") == number
    owner.delete_stage("train")
    again = as_user("other")  # as after a restart
    for cm in (other, again):
        assert cm.stages() == []
        assert not cm.has_checkpoint("train")
    assert again.verify().ok
    assert again.save_checkpoint("train", "other's").number == 5
    assert owner.load_checkpoint("train") == "other's"


def test_a_user_who_saw_a_version_that_was_damaged_later_accepts_it(
    place: Path, as_user: Callable[[str], CheckpointManager]
) -> None:
    owner, other = as_user("owner"), as_user("other")
    _three_versions(owner)
    assert other.load_checkpoint("train") == {"epoch": 3}
    (place / "history" / "train" / "000000000003.checkpoint").write_bytes(b"damaged")
    assert owner.delete_stage("train") == [1, 2, 3]
    assert not as_user("other").has_checkpoint("train")
    assert other.save_checkpoint("train", 1).number == 5


def test_a_killed_deletion_leaves_a_cleared_stage_and_is_finished_by_the_next(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cm = CheckpointManager(place, key=KEY)
    _three_versions(cm)
    with monkeypatch.context() as patch:
        patch.setattr("checkpoint_manager._operations.tag.untag_up_to_locked", _stop)
        with pytest.raises(KeyboardInterrupt):
            cm.delete_stage("train")
    again = CheckpointManager(place, key=KEY)
    assert [version.number for version in again.history("train")] == [4, 3, 2, 1]
    assert again.load_checkpoint("train", "good") == {"epoch": 2}
    assert again.delete_versions("train", [3]) == [3]
    assert again.stages() == ["clean", "train"]
    assert again.delete_stage("train") == [1, 2]
    assert again.stages() == ["clean"]


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


class Full(MemoryBackend):
    """A place that has room for another version only while it holds fewer than ``most``."""

    most = 100

    def append_together(self, versions: Sequence[NewVersion]) -> None:
        if sum(map(len, self._versions.values())) >= self.most:
            raise StorageError("there is no space left", errno=errno.ENOSPC)
        super().append_together(versions)


def test_on_a_full_disk_the_older_versions_make_room(home: Path) -> None:
    backend = Full()
    cm = CheckpointManager(backend, key=KEY)
    _three_versions(cm)
    backend.most = 4
    assert cm.delete_stage("train") == [1, 2, 3]
    assert cm.stages() == ["clean"]
    assert cm.verify().ok


def test_on_a_full_disk_the_newest_version_stays(home: Path) -> None:
    backend = Full()
    cm = CheckpointManager(backend, key=KEY)
    cm.save_checkpoint("train", 1)
    backend.most = 1
    with pytest.raises(StorageError, match="there is no space left"):
        cm.delete_stage("train")
    assert cm.load_checkpoint("train") == 1


def test_missing_and_damaged_versions_are_deleted_with_it(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    _three_versions(cm)
    history = place / "history" / "train"
    (history / "000000000001.checkpoint").unlink()
    (history / "000000000002.checkpoint").write_bytes(b"damaged")
    assert cm.delete_stage("train") == [2, 3]
    assert cm.stages() == ["clean"]
    assert cm.verify().ok


def test_its_attachments_go_with_it_even_after_a_repair(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    cm.save_checkpoint("train", 1, attachments={"log": b"one"})
    cm.save_checkpoint("train", 2, attachments={"log": b"two"})
    cm.save_checkpoint("train", 3)
    (place / "history" / "train" / "000000000001.checkpoint").write_bytes(b"damaged")
    cm.repair()
    assert len(list((place / "history" / "train" / "attachments").iterdir())) == 2
    assert cm.delete_stage("train") == [2, 3]
    assert [path for path in (place / "history" / "train").rglob("*") if "attachments" in path.parts and path.is_file()] == []
    assert cm.stages() == []
    assert cm.verify().ok


def test_a_damaged_record_of_tags_stops_it(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    _three_versions(cm)
    (place / "history" / "train" / "tags").write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="record of tags"):
        cm.delete_stage("train")
    assert cm.load_checkpoint("train") == {"epoch": 3}
    assert len(cm.history("train")) == 3


def test_a_rotation_goes_over_what_remains(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    _three_versions(cm)
    cm.delete_stage("train")
    cm.keys.rotate()
    again = CheckpointManager(place, key=KEY)
    assert again.stages() == ["clean"]
    assert again.save_checkpoint("train", 1).number == 5
    assert again.verify().ok


def test_an_import_does_not_bring_it_back(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    _three_versions(cm)
    cm.export_bundle(place.parent / "bundle", key=KEY)
    cm.delete_stage("train")
    assert cm.import_bundle(place.parent / "bundle", key=KEY).added == 0
    assert cm.stages() == ["clean"]
    cm.import_bundle(place.parent / "bundle", key=KEY, rename={"train": "old"})
    assert cm.load_checkpoint("old") == {"epoch": 3}


def test_a_restore_of_the_pipeline_leaves_it_alone(place: Path) -> None:
    cm = CheckpointManager(place, key=KEY)
    _three_versions(cm)
    cm.delete_stage("train")
    assert [step.stage for step in cm.plan_restore(at="0s")] == ["clean"]
    assert cm.restore_pipeline(at="0s") == []
    assert cm.clear_checkpoints() != []
    assert cm.stages() == ["clean"]


def test_in_memory(home: Path) -> None:
    cm = CheckpointManager("memory:")
    cm.save_checkpoint("train", 1)
    assert cm.delete_stage("train") == [1]
    assert cm.stages() == []
    assert cm.save_checkpoint("train", 2).number == 3
