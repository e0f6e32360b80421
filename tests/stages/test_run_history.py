"""One report over all processes of a run of a pipeline."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import ArgumentError, CheckpointManager, CheckpointNotFoundError
from checkpoint_manager._format.notes import read_run
from checkpoint_manager.stages import latest_run
from checkpoint_manager.stages.run_id import VARIABLE, current_run

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(32)

PIPELINE = """
import multiprocessing, subprocess, sys
from checkpoint_manager import CheckpointManager

cm = CheckpointManager("store", key=bytes(32))

@cm.stage
def extract(name):
    return [name]

@cm.stage(retries=1, backoff=0)
def clean(rows):
    raise ConnectionError("no answer")

def work(name):
    extract(name)

if __name__ == "__main__":
    extract("here")
    extract("here")
    for method in ("spawn", "fork"):
        child = multiprocessing.get_context(method).Process(target=work, args=(method,))
        child.start()
        child.join()
    subprocess.run([sys.executable, "program.py"], check=True)
    print(cm.run_id)
    clean([1])
"""

PROGRAM = """
from checkpoint_manager import CheckpointManager

cm = CheckpointManager("store", key=bytes(32))
with cm.loop("embed", range(9), initial=0, every_items=1) as loop:
    for count, item in enumerate(loop):
        loop.state += item
        if count == 3:
            break
"""


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


def test_all_processes_of_a_run_are_in_one_report(cm: CheckpointManager, tmp_path: Path) -> None:
    (tmp_path / "pipeline.py").write_text(PIPELINE)
    (tmp_path / "program.py").write_text(PROGRAM)
    ended = subprocess.run([sys.executable, "pipeline.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    run = ended.stdout.strip()
    assert "ConnectionError: no answer" in ended.stderr
    report = cm.run_report(run)
    assert [(outcome.stage, outcome.what, outcome.version) for outcome in report.outcomes] == [
        ("extract", "ran", 1),
        ("extract", "ran", 2),
        ("extract", "ran", 3),
        ("embed", "stopped", 3),
        ("clean", "retried", 1),
        ("clean", "failed", 2),
    ]
    assert len({outcome.process for outcome in report.outcomes}) == 4
    assert report.outcomes[-1].why == "attempt 2 of 2"
    assert str(report).splitlines()[-1] == "3 ran, 1 failed, 1 retried, 1 stopped"
    assert latest_run(cm._store) == run
    assert cm.run_report().outcomes == ()


def test_a_second_run_is_told_from_the_first(cm: CheckpointManager, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    for name in ("one", "two"):
        environment = {**os.environ, VARIABLE: name}
        subprocess.run([sys.executable, "program.py"], cwd=tmp_path, check=True, env=environment)
    assert [(outcome.what, outcome.why) for outcome in cm.run_report("one").outcomes] == [("stopped", "first run")]
    assert [(outcome.what, outcome.why) for outcome in cm.run_report("two").outcomes] == [
        ("stopped", "continued after 3 of 9 items")
    ]
    cm.restore_checkpoint("embed", cm.get_version("embed").number)
    assert len(cm.run_report("two").outcomes) == 1  # the copy was not saved by that run
    with pytest.raises(CheckpointNotFoundError, match="by the run three"):
        cm.run_report("three")


def test_a_loop_in_a_function_is_part_of_it(cm: CheckpointManager) -> None:
    @cm.stage
    def embed() -> int:
        with cm.loop("embed", range(3), initial=0, every_items=1) as loop:
            for item in loop:
                loop.state += item
                if item == 2 and not cm.run_report().outcomes:
                    raise KeyError
        return loop.result

    with pytest.raises(KeyError):
        embed()
    assert [outcome.what for outcome in cm.run_report(cm.run_id).outcomes] == ["failed"]
    assert embed() == 3
    assert [outcome.what for outcome in cm.run_report(cm.run_id).outcomes] == ["failed", "ran"]


def test_the_id_of_a_run_is_made_once_and_may_be_given(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cm.run_id == os.environ[VARIABLE] == cm.run_id
    monkeypatch.setenv(VARIABLE, "nightly\udcff" + "x" * 200)
    assert current_run() == ("nightly\\udcff" + "x" * 200)[:100]
    cm.stage("rows")(lambda: 1)()
    assert cm.run_report(cm.run_id).outcomes[0].stage == "rows"


def test_a_store_without_stages_has_no_run(cm: CheckpointManager) -> None:
    cm.save_checkpoint("train", 1)
    assert latest_run(cm._store) == ""
    with pytest.raises(ArgumentError):
        cm.run_report(5)  # type: ignore[arg-type]


def test_a_damaged_stage_is_passed_over(cm: CheckpointManager, tmp_path: Path) -> None:
    for stage in ("a", "b"):
        cm.stage(stage)(lambda: 1)()
    (tmp_path / "store" / "history" / "a" / "000000000001.checkpoint").write_bytes(b"damaged")
    assert [outcome.stage for outcome in cm.run_report(cm.run_id).outcomes] == ["b"]


@pytest.mark.parametrize("noted", [5, {}, {"id": 1, "seconds": 1, "why": ""}, {"id": "", "seconds": True, "why": ""}])
def test_what_another_program_noted_is_not_believed(noted: object) -> None:
    assert read_run({"@run": noted}) is None
