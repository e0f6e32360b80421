"""Taking a whole pipeline back: to a moment, or to a tag."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, IntegrityError, TagError
from checkpoint_manager._operations.save import draft, save

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

KEY = bytes(range(32))


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    """Three stages of a release, one of them cleared, and what came after it."""
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for stage in ("clean", "train", "cleared"):
        cm.save_checkpoint(stage, 7)
    cm.clear_checkpoint("cleared")
    cm.tag_pipeline("release-7")
    for stage in ("train", "cleared", "late"):
        cm.save_checkpoint(stage, 8)
    return cm


def damage(cm: CheckpointManager, stage: str, version: int) -> None:
    backend: Any = cm._store.backend
    with open(f"{backend.location}/history/{stage}/{version:012d}.checkpoint", "r+b") as file:
        file.write(b"x")


def then(cm: CheckpointManager) -> datetime:
    moment = cm.get_version("cleared", 2).created_at
    assert moment is not None
    return moment


@pytest.mark.parametrize("by", ["tag", "at"])
def test_every_stage_goes_back_as_planned(cm: CheckpointManager, by: str) -> None:
    goal: dict[str, Any] = {"tag": "release-7"} if by == "tag" else {"at": then(cm)}
    plan = cm.plan_restore(**goal)
    shown = [(s.stage, s.action, s.newest and s.newest.number, s.target and s.target.number, s.error) for s in plan]
    assert shown == [
        ("clean", "keep", 1, 1, None),
        ("cleared", "restore", 3, 2, None),
        ("late", "clear", 1, None, None),
        ("train", "restore", 2, 1, None),
    ]
    assert cm.get_version("train").number == 2, "a plan changes nothing"
    assert [(version.stage, version.status) for version in cm.restore_pipeline(**goal)] == [
        ("cleared", "cleared"),
        ("late", "cleared"),
        ("train", "completed"),
    ]
    assert cm.load_checkpoint("train") == cm.load_checkpoint("clean") == 7
    assert not cm.has_checkpoint("cleared")
    assert {step.action for step in cm.plan_restore(**goal)} == {"keep"}
    assert cm.restore_pipeline(**goal) == []


def test_a_stage_in_trouble_does_not_hide_the_others_and_holds_all_of_them(cm: CheckpointManager) -> None:
    damage(cm, "train", 1)
    steps = {step.stage: step for step in cm.plan_restore(tag="release-7")}
    assert [step.action for step in steps.values()] == ["keep", "restore", "clear", "refuse"]
    assert isinstance(steps["train"].error, IntegrityError)
    with pytest.raises(IntegrityError, match="version 1 of stage train"):
        cm.restore_pipeline(tag="release-7")
    assert cm.load_checkpoint("late") == 8


def test_a_damaged_newest_version_is_no_obstacle(cm: CheckpointManager) -> None:
    damage(cm, "train", 2)
    step = next(step for step in cm.plan_restore(tag="release-7") if step.stage == "train")
    assert (step.action, step.newest) == ("restore", None)
    cm.restore_pipeline(tag="release-7")
    assert cm.load_checkpoint("train") == 7


def test_a_tag_that_no_stage_has_clears_nothing(cm: CheckpointManager) -> None:
    for act in (cm.plan_restore, cm.restore_pipeline):
        with pytest.raises(CheckpointNotFoundError, match=r"no stage .* has the tag release-9"):
            act(tag="release-9")
    assert cm.has_checkpoint("train")


@pytest.mark.parametrize("goal", [{}, {"at": "1d", "tag": "release-7"}])
def test_one_goal_is_given(cm: CheckpointManager, goal: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="either at= or tag="):
        cm.restore_pipeline(**goal)


class TestTagging:
    def test_the_state_of_each_stage_is_tagged(self, cm: CheckpointManager) -> None:
        save(cm._store, "train", draft("train", "half", None, status="failed"))
        save(cm._store, "never", draft("never", "half", None, status="progress"))
        tagged = cm.tag_pipeline("now")
        assert [(version.stage, version.number) for version in tagged] == [
            ("clean", 1),
            ("cleared", 3),
            ("late", 1),
            ("train", 2),
        ]
        assert cm.tag_pipeline("now") == tagged, "once more, as after a kill"

    def test_a_tag_is_moved_in_all_stages_or_in_none(self, cm: CheckpointManager) -> None:
        with pytest.raises(TagError, match="release-7 of stage cleared"):
            cm.tag_pipeline("release-7")
        assert "release-7" not in cm.tags("late")
        cm.tag_pipeline("release-7", force=True)
        assert cm.tags("train") == {"release-7": 2}
        assert cm.tags("late") == {"release-7": 1}

    def test_a_damaged_state_is_not_tagged(self, cm: CheckpointManager) -> None:
        damage(cm, "train", 2)
        with pytest.raises(IntegrityError):
            cm.tag_pipeline("now")
        assert "now" not in cm.tags("clean")
