"""Which version is meant, by number, word, tag or moment; and where a stage's name ends."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import (
    CheckpointManager,
    CheckpointNotFoundError,
    IntegrityError,
    StageNameError,
    TagError,
)
from checkpoint_manager._operations import tag
from checkpoint_manager._operations.save import draft, save
from checkpoint_manager.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from checkpoint_manager.models import Status

KEY = bytes(range(32))


@pytest.fixture
def cm() -> CheckpointManager:
    cm = CheckpointManager(MemoryBackend(), key=KEY)
    for number in range(1, 5):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", [3])
    cm.tag("train", 1, "good")
    return cm


@pytest.mark.parametrize(("version", "number"), [(2, 2), ("2", 2), ("002", 2), ("latest", 4), ("prev", 2), ("good", 1)])
def test_a_version_is_named_in_many_ways(cm: CheckpointManager, version: Any, number: int) -> None:
    assert cm.load_checkpoint("train", version) == number
    assert cm.get_checkpoint("train", version).version.number == number
    assert cm.resolve(f"train@{version}").number == number
    assert cm.restore_checkpoint("train", version).restored_from == number


@pytest.mark.parametrize("version", ["", "-1", "1d", "Latest", "a b", "9" * 13, "@", "good@1"])
def test_what_can_be_none_is_refused(cm: CheckpointManager, version: str) -> None:
    with pytest.raises(TagError, match="can't be a version"):
        cm.load_checkpoint("train", version)


@pytest.mark.parametrize("version", ["0", "3", "5", "bad"])
def test_what_is_not_there(cm: CheckpointManager, version: str) -> None:
    with pytest.raises(CheckpointNotFoundError):
        cm.load_checkpoint("train", version)
    with pytest.raises(CheckpointNotFoundError):
        cm.resolve(f"train@{version}")


@pytest.mark.parametrize("version", ["latest", "prev", "good", "1", None])
def test_what_is_not_there_of_no_stage(cm: CheckpointManager, version: str | None) -> None:
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint of stage nothing"):
        cm.resolve("nothing" if version is None else f"nothing@{version}")
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint of stage nothing"):
        cm.load_checkpoint("nothing", version)


def test_there_may_be_none_before_the_newest(cm: CheckpointManager) -> None:
    cm.save_checkpoint("clean", 1)
    with pytest.raises(CheckpointNotFoundError, match="no completed version before its newest"):
        cm.load_checkpoint("clean", "prev")


def test_resolving_says_what_a_cleared_stage_is(cm: CheckpointManager) -> None:
    cm.clear_checkpoint("train")
    assert cm.resolve("train").status == "cleared"
    for version in ("latest", None):
        with pytest.raises(CheckpointNotFoundError, match="is cleared"):
            cm.load_checkpoint("train", version)
    assert cm.restore_checkpoint("train", "prev").restored_from == 4, "which undoes it"


class TestCompleted:
    """``latest`` and ``prev`` mean completed versions; ``failed``, numbers and tags reach the others."""

    def saved(self, *statuses: Status) -> CheckpointManager:
        cm = CheckpointManager(MemoryBackend(), key=KEY)
        for number, status in enumerate(statuses, 1):
            save(cm._store, "train", draft("train", number, None, status=status))
        return cm

    @pytest.mark.parametrize(
        ("statuses", "latest", "prev", "failed"),
        [
            (["completed", "completed", "failed", "failed"], 2, 1, 4),
            (["completed", "failed", "completed", "progress"], 3, 1, 2),
            (["completed", "cleared", "completed"], 3, 1, None),
            (["completed", "completed", "failed", "cleared"], None, 2, 3),
            (["completed", "progress"], 1, None, None),
            (["failed"], None, None, 1),
        ],
    )
    def test_what_is_meant(self, statuses: list[Status], latest: int | None, prev: int | None, failed: int | None) -> None:
        cm = self.saved(*statuses)
        for name, number in (("latest", latest), ("prev", prev), ("failed", failed)):
            if number is None:
                with pytest.raises(CheckpointNotFoundError):
                    cm.resolve(f"train@{name}")
            else:
                assert cm.resolve(f"train@{name}").number == number
                assert cm.load_checkpoint("train", name) == number
                assert cm.get_version("train", name).status == statuses[number - 1]
        assert cm.get_version("train").number == len(statuses)

    def test_a_damaged_version_is_not_passed_over(self) -> None:
        backend = MemoryBackend()
        cm = CheckpointManager(backend, key=KEY)
        for number in (1, 2, 3):
            cm.save_checkpoint("train", number)
        backend._versions["train"][3] = backend._versions["train"][1]
        with pytest.raises(IntegrityError, match="version 3"):
            cm.load_checkpoint("train", "latest")
        assert cm.load_checkpoint("train", "prev") == 2
        backend._versions["train"][2] = backend._versions["train"][1]
        with pytest.raises(IntegrityError, match="version 2"):
            cm.load_checkpoint("train", "prev")

    def test_failed_is_a_tag_only_where_it_was_one_already(self, monkeypatch: pytest.MonkeyPatch) -> None:
        cm = self.saved("completed", "failed")
        for name in ("failed", "Failed"):
            with pytest.raises(TagError, match="can't be a tag"):
                cm.tag("train", 1, name)
        with monkeypatch.context() as earlier:
            earlier.setattr(tag, "FAILED", "")
            cm.tag("train", 1, "failed")
        assert cm.load_checkpoint("train", "failed") == 1
        cm.untag("train", "failed")
        assert cm.load_checkpoint("train", "failed") == 2


def test_resolving_verifies_what_it_reads() -> None:
    backend = MemoryBackend()
    cm = CheckpointManager(backend, key=KEY)
    cm.save_checkpoint("train", 1)
    cm.save_checkpoint("train", 2)
    backend._versions["train"][1] = backend._versions["train"][2]
    with pytest.raises(IntegrityError, match="version 1 of stage train"):
        cm.resolve("train@prev")


class TestMoments:
    def test_what_was_the_newest_then(self, cm: CheckpointManager) -> None:
        first, second = cm.resolve("train@1").created_at, cm.resolve("train@2").created_at
        assert cm.load_checkpoint("train", at=first) == 1
        assert cm.load_checkpoint("train", at=second.isoformat()) == 2
        assert cm.resolve("train", at="0s").number == 4
        assert cm.restore_checkpoint("train", at=second).restored_from == 2
        assert cm.restore_pipeline(at="0s") == []

    def test_before_there_was_anything(self, cm: CheckpointManager) -> None:
        with pytest.raises(CheckpointNotFoundError, match="had no version at"):
            cm.load_checkpoint("train", at="1w")
        with pytest.raises(CheckpointNotFoundError, match="no checkpoint of stage nothing"):
            cm.load_checkpoint("nothing", at="1w")

    def test_a_pipeline_whose_versions_of_then_are_deleted(
        self, cm: CheckpointManager, caplog: pytest.LogCaptureFixture
    ) -> None:
        then = cm.resolve("train@1").created_at
        cm.untag("train", "good")
        cm.delete_versions("train", [1, 2])
        assert [version.status for version in cm.restore_pipeline(at=then)] == ["cleared"]
        assert "Stage train is cleared, because it had no version then, or that was deleted since" in caplog.text

    def test_a_moment_or_a_version(self, cm: CheckpointManager) -> None:
        now = datetime.now(UTC)
        for call in (
            lambda: cm.load_checkpoint("train", 1, at=now),
            lambda: cm.resolve("train@1", at=now),
            lambda: cm.restore_checkpoint("train", "good", at=now),
        ):
            with pytest.raises(TypeError, match="not both"):
                call()

    def test_what_is_no_moment_is_refused(self, cm: CheckpointManager) -> None:
        with pytest.raises(ValueError, match="is not a time"):
            cm.load_checkpoint("train", at="then")


class TestNamesWithAnAt:
    def test_what_can_be_no_version_belongs_to_the_name(self, cm: CheckpointManager) -> None:
        for name in ("a@b c", "@", "@1", "a@", "a@9999999999999", "a@1d"):
            cm.save_checkpoint(name, name)
            assert cm.resolve(name).stage == name
            assert cm.resolve(f"{name}@latest").stage == name
            assert cm.resolve(f"{name}@1").stage == name

    def test_a_number_is_a_version(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train@2", "of that name")
        assert cm.resolve("train@2") == cm.history("train")[1]
        assert cm.resolve("train@2@1").stage == "train@2"
        assert cm.load_checkpoint("train@2") == "of that name"

    def test_what_could_be_a_tag_is_a_stage_if_there_is_one(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("user@host", 1)
        assert cm.resolve("user@host").stage == "user@host"
        with pytest.raises(CheckpointNotFoundError):
            cm.resolve("user@other")
        cm.save_checkpoint("user", 1)
        assert cm.resolve("user@host").stage == "user@host"

    def test_what_could_be_both_is_refused(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train@good", 1)
        with pytest.raises(TagError, match="train@good@latest for the stage") as caught:
            cm.resolve("train@good")
        assert caught.value.stage == "train@good"
        assert cm.resolve("train@good@latest").stage == "train@good"
        assert cm.load_checkpoint("train", "good") == 1

    @pytest.mark.parametrize("text", ["", "x" * 256, "\ud800"])
    def test_what_is_no_name(self, cm: CheckpointManager, text: str) -> None:
        with pytest.raises(StageNameError):
            cm.resolve(text)

    def test_the_longest_name_with_a_tag(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("x" * 255, 1)
        cm.tag("x" * 255, 1, "good")
        assert cm.resolve("x" * 255 + "@good").number == 1
