"""What follows from a stage, and what is stale: made of results that are out of date."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager._format.notes import read_inputs
from checkpoint_manager._operations import lineage, save
from checkpoint_manager._operations.save import Draft

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(32)


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


class Pipeline:
    """Rows are extracted, cleaned and totalled; what is extracted changes with the revision."""

    def __init__(self, cm: CheckpointManager, revision: int = 1) -> None:
        self.extract = cm.stage("extract", revision=revision)(lambda name="a": [len(name), revision, 1000])
        self.clean = cm.stage("clean")(lambda rows: rows[:2])
        self.total = cm.stage("total")(lambda rows: sum(rows) + 0.5)

    def run(self, name: str = "a") -> float:
        return self.total(self.clean(self.extract(name)))


def pipelines(cm: CheckpointManager) -> Callable[[int], Pipeline]:
    """Return a function that makes the pipeline of a revision."""
    location = cm._store.backend.location
    return lambda revision: Pipeline(CheckpointManager(location, key=KEY), revision)


def test_what_follows_from_a_stage(cm: CheckpointManager) -> None:
    Pipeline(cm).run()
    cm.save_checkpoint("other", 1)
    assert cm.downstream("extract") == ["clean", "total"]
    assert cm.downstream("clean") == ["total"]
    assert cm.downstream("total") == cm.downstream("other") == cm.downstream("unknown") == []


def test_clearing_with_what_follows(cm: CheckpointManager) -> None:
    pipeline = Pipeline(cm)
    pipeline.run()
    cm.save_checkpoint("other", 1)
    cleared = cm.clear_checkpoint("extract", downstream=True)
    assert cleared is not None
    assert (cleared.stage, cleared.number) == ("extract", 2)
    assert [cm.has_checkpoint(stage) for stage in ("extract", "clean", "total", "other")] == [False, False, False, True]
    pipeline.run()
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran"] * 6
    assert cm.clear_checkpoint("clean", downstream=True) is not None
    assert cm.has_checkpoint("extract")


def test_a_clearing_that_was_interrupted_can_be_repeated(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    Pipeline(cm).run()
    cm.clear_checkpoint("total")
    assert cm.downstream("extract") == ["clean"]
    cm.clear_checkpoint("clean")
    Pipeline(cm).total([1])
    assert cm.downstream("extract") == []  # the total was made of something else since
    Pipeline(cm).run()
    cm.clear_checkpoint("clean")  # the one between: the total still follows from the first
    assert cm.downstream("extract") == ["total"]


def test_a_new_result_makes_what_follows_stale(cm: CheckpointManager) -> None:
    of = pipelines(cm)
    of(1).run()
    assert cm.stale_stages() == {}
    of(2).extract("a")
    why = "made of version 1 of extract, which is now version 2"
    assert cm.stale_stages() == {"clean": why, "total": why}
    assert cm.stale_stages(["clean"]) == {"clean": why}
    of(2).clean(of(2).extract("a"))
    assert cm.stale_stages() == {"total": why}
    of(2).run()
    assert cm.stale_stages() == {}
    cm.restore_checkpoint("extract", 1)
    assert cm.stale_stages() == dict.fromkeys(("clean", "total"), "made of version 2 of extract, which is now version 3")


def test_results_of_other_calls_do_not(cm: CheckpointManager) -> None:
    pipeline = Pipeline(cm)
    pipeline.run("train")
    pipeline.clean(pipeline.extract("test"))
    assert cm.stale_stages() == {}


def test_of_many_calls_one_that_was_not_repeated_is_seen(cm: CheckpointManager) -> None:
    of = pipelines(cm)
    for name in ("a", "bb", "ccc"):
        of(1).run(name)
    of(2).extract("bb")
    why = "made of version 2 of extract, which is now version 4"
    assert cm.stale_stages() == {"clean": why, "total": why}
    of(2).run("a")
    assert cm.stale_stages() == {"clean": why, "total": why}
    of(2).run("bb")
    of(2).extract("ccc")
    assert set(cm.stale_stages()) == {"clean", "total"}
    of(2).run("ccc")
    assert cm.stale_stages() == {}


def test_the_same_data_again_does_not(cm: CheckpointManager) -> None:
    pipeline = Pipeline(cm)
    pipeline.run()
    cm.clear_checkpoint("extract")
    why = "extract was cleared after version 1"
    assert cm.stale_stages() == {"clean": why, "total": why}
    pipeline.run()
    assert cm.get_version("extract").number == 3
    assert cm.stale_stages() == {}


def test_the_report_tells_what_is_stale(cm: CheckpointManager) -> None:
    pipeline = Pipeline(cm)
    rows = pipeline.extract("a")
    Pipeline(CheckpointManager(cm._store.backend.location, key=KEY), 2).extract("a")
    pipeline.clean(rows)
    report = cm.run_report()
    assert report.stale == {"clean": "made of version 1 of extract, which is now version 2"}
    assert str(report).splitlines()[-2] == "clean is stale: made of version 1 of extract, which is now version 2"


def test_a_damaged_stage_is_passed_over(cm: CheckpointManager, tmp_path: Path) -> None:
    of = pipelines(cm)
    of(1).run()
    of(2).extract("a")
    (tmp_path / "store" / "history" / "extract" / "000000000002.checkpoint").write_bytes(b"damaged")
    assert cm.stale_stages() == {}
    os.remove(tmp_path / "store" / "history" / "clean" / "000000000001.checkpoint")
    (tmp_path / "store" / "clean.checkpoint").unlink()
    assert CheckpointManager(tmp_path / "store", key=KEY).stale_stages() == {}


def test_a_circle_that_another_program_noted_ends(cm: CheckpointManager) -> None:
    def note(stage: str) -> dict[str, Any]:
        return {"argument": "x", "stage": stage, "version": 1}

    for stage, source in (("a", "b"), ("b", "c"), ("c", "a"), ("d", "d")):
        save.save(cm._store, stage, Draft(b"1", {"@inputs": [note(source)]}))
    assert cm.stale_stages() == {}
    assert cm.downstream("a") == ["c", "b"]
    cm.clear_checkpoint("a")
    assert set(cm.stale_stages()) == {"b", "c"}


def test_no_more_than_a_thousand_versions_are_examined(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lineage, "_MOST_VERSIONS", 2)
    of = pipelines(cm)
    for name in ("a", "bb", "ccc"):
        of(1).run(name)
    of(2).extract("a")
    assert cm.stale_stages() == {}
    of(2).extract("ccc")
    assert set(cm.stale_stages()) == {"clean", "total"}
    assert read_inputs(cm.get_version("clean").metadata)[0].version == 3
