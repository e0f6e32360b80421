"""Stages that a program has defined and that have never run: told by its runs and by the versions that it saved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager._format.notes import MOST_STAGES, never_run, read_run
from tests.stages.test_running import KEY, during

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 27, tzinfo=UTC)


def told(*lists: str) -> list[tuple[datetime, tuple[str, ...]]]:
    """Return lists of one-letter stages, each told a day after the one before."""
    return [(NOW + timedelta(days=day), tuple(names)) for day, names in enumerate(lists)]


@pytest.mark.parametrize(
    ("lists", "there", "found"),
    [
        ((), "", ""),
        (("abc",), "a", "bc"),
        (("abc",), "abc", ""),
        (("abc", "abd"), "ab", "d"),  # c was renamed
        (("abd", "abc"), "ab", "c"),
        (("abc", "xyz"), "ax", "yzbc"),  # two programs
        (("abc", "cd", "de"), "d", "eabc"),  # what only an older list has in common tells nothing of the newest
        (("abc", ""), "a", "bc"),
        (("bca",), "b", "ca"),
    ],
)
def test_of_lists_that_have_a_stage_in_common_the_newest_counts(lists: tuple[str, ...], there: str, found: str) -> None:
    assert "".join(never_run(told(*lists), there)) == found
    assert "".join(never_run(told(*lists)[::-1], there)) == found


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


def pipeline(cm: CheckpointManager, *names: str, fails: str = "") -> None:
    """Define stages, and run them until one fails."""

    def function(name: str) -> object:
        def run() -> str:
            if name == fails:
                raise ValueError(name)
            return name

        run.__qualname__ = name
        return cm.stage(name)(run)

    for stage in [function(name) for name in names]:
        stage()  # type: ignore[operator]


def states(cm: CheckpointManager) -> dict[str, str]:
    return {each.stage: each.state for each in cm.status()}


def test_a_pipeline_that_failed_leaves_stages_that_have_never_run(cm: CheckpointManager, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clean"):
        pipeline(cm, "load", "clean", "train", "report", fails="clean")
    seen = CheckpointManager(tmp_path / "store", key=KEY)  # as another process sees it
    assert states(seen) == {"load": "completed", "clean": "failed", "train": "new", "report": "new"}
    assert [each.stage for each in seen.status("cl")] == ["clean"]
    pipeline(CheckpointManager(tmp_path / "store", key=KEY), "load", "clean", "train", "report")
    assert set(states(seen).values()) == {"completed"}


def test_a_program_that_has_changed_defines_others(cm: CheckpointManager, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="clean"):
        pipeline(cm, "load", "clean", "train", fails="clean")
    pipeline(CheckpointManager(tmp_path / "store", key=KEY), "load", "clean", "fit")
    assert states(cm) == {"load": "completed", "clean": "completed", "fit": "completed"}


def test_a_run_tells_it_before_anything_is_saved(cm: CheckpointManager) -> None:
    def act() -> None:
        assert states(cm) == {"slow": "running"}
        (run,) = cm.running()
        assert run.stages == ("slow",)

    during(cm, act)


def test_a_loop_tells_it_as_well(cm: CheckpointManager) -> None:
    @cm.stage
    def report() -> None: ...

    with cm.loop("embed", range(3), initial=0, bar=False) as loop:
        for _ in zip(range(2), loop, strict=False):
            assert states(cm) == {"embed": "running", "report": "new"}
    assert states(cm) == {"embed": "progress", "report": "new"}


def test_a_stage_that_was_deleted_has_run(cm: CheckpointManager) -> None:
    pipeline(cm, "load", "clean")
    cm.delete_stage("clean")
    assert states(cm) == {"load": "completed"}


def test_a_program_that_makes_stages_as_it_goes_on_does_not_tell_them(cm: CheckpointManager) -> None:
    pipeline(cm, *(f"part {number}" for number in range(MOST_STAGES)))
    assert read_run(cm.get_version("part 1").metadata).stages  # type: ignore[union-attr]
    pipeline(cm, "one more")
    assert "stages" not in cm.get_version("one more").metadata["@run"]


@pytest.mark.parametrize("stages", [None, "ab", ["a", 1], [""], ["a"] * (MOST_STAGES + 1), ["a" * 1001], {"a": 1}])
def test_a_list_that_is_none_counts_as_none(stages: object) -> None:
    note = read_run({"@run": {"id": "a7", "seconds": 1, "why": "", "stages": stages}})
    assert note is not None
    assert note.stages == ()
