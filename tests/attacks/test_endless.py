"""Attacks by what does not end: locks that are held in turn, and more planted files than memory is for."""

from __future__ import annotations

import logging
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, Retention
from checkpoint_manager._format.gaps import Gap, Gaps
from checkpoint_manager._lazy_log import MOST_LOGGED
from checkpoint_manager._operations import repair as repairing
from checkpoint_manager._operations.verify import MOST_FINDINGS
from checkpoint_manager.backends.local import LocalBackend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager.backends.base import Purpose
    from checkpoint_manager.backends.local.lock import FileLock

KEY = bytes(range(32))
STAGES = [f"stage {number}" for number in range(5)]
SLOW = 0.05


class HeldInTurn(LocalBackend):
    """A directory in which someone holds each lock for a while when it is asked for."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.allowed: list[float] = []

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> FileLock:
        self.allowed.append(timeout)
        time.sleep(SLOW)
        return super().lock(stage, timeout, purpose=purpose, name=name)

    def wait_for_writers(self, timeout: float) -> None:
        self.allowed.append(timeout)
        time.sleep(SLOW)
        super().wait_for_writers(timeout)


def _bundle(cm: CheckpointManager, place: Path) -> Path:
    bundle = place / "bundle"
    cm.export_bundle(bundle, key=KEY)
    return bundle


@pytest.fixture
def filled(tmp_path: Path) -> CheckpointManager:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for stage in STAGES:
        for number in range(3):
            cm.save_checkpoint(stage, number)
        cm.tag(stage, 2, "good")
    return cm


OPERATIONS: dict[str, Callable[[CheckpointManager, Path], object]] = {
    "clear": lambda cm, _: cm.clear_checkpoints(),
    "prune": lambda cm, _: cm.prune(Retention(keep_last=1)),
    "restore": lambda cm, _: cm.restore_pipeline(tag="good"),
    "tag": lambda cm, _: cm.tag_pipeline("release"),
    "repair": lambda cm, _: cm.repair(),
    "accept a rollback": lambda cm, _: cm.accept_rollback(),
    "rotate": lambda cm, _: cm.keys.rotate(),
    "import": lambda cm, place: cm.import_bundle(_bundle(cm, place), key=KEY, rename={name: f"{name}b" for name in STAGES}),
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_locks_held_in_turn_are_waited_for_no_longer_than_one_timeout(
    tmp_path: Path, filled: CheckpointManager, operation: str
) -> None:
    """Each lock may be waited for as long as the operation has not waited for the others yet."""
    del filled
    backend = HeldInTurn(tmp_path / "store")
    OPERATIONS[operation](CheckpointManager(backend, key=KEY, lock_timeout=60), tmp_path)
    assert len(backend.allowed) >= len(STAGES)
    longest = [60 - SLOW * number for number in range(len(backend.allowed))]
    assert all(allowed <= most for allowed, most in zip(backend.allowed, longest, strict=True))


def test_work_between_two_locks_is_not_waiting(tmp_path: Path, filled: CheckpointManager, monkeypatch: Any) -> None:
    del filled
    backend = LocalBackend(tmp_path / "store")
    monkeypatch.setattr(backend, "flush", lambda *_, **__: time.sleep(SLOW))
    cm = CheckpointManager(backend, key=KEY, lock_timeout=SLOW * 2)
    assert len(cm.prune(Retention(keep_last=1, keep_tagged=False)).dropped) == 2 * len(STAGES)


# What is planted by the thousand


def plant_versions(store: Path, count: int, first: int = 1000) -> None:
    folder = store / "history" / "train"
    for number in range(first, first + count):
        (folder / f"{number:012d}.checkpoint").write_bytes(b"planted")


LISTINGS: dict[str, Callable[[CheckpointManager], object]] = {
    "history": lambda cm: sum(1 for _ in cm.iter_history("train")),
    "at": lambda cm: cm.get_version("train", at="0s"),
    "prune": lambda cm: cm.prune(Retention(keep_last=1), dry_run=True),
    "plan": lambda cm: cm.plan_restore(at="0s"),
    "verify": lambda cm: cm.verify(),
}


@pytest.mark.parametrize("listing", LISTINGS)
def test_planted_versions_cost_a_listing_no_memory_to_speak_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, listing: str
) -> None:
    caplog.set_level(logging.CRITICAL)  # a record of the log is kept here, and nowhere else
    CheckpointManager(tmp_path, key=KEY).save_checkpoint("train", 1)
    peaks = []
    for first in (1000, 2000):
        plant_versions(tmp_path, 1000, first)
        cm = CheckpointManager(tmp_path, key=KEY)
        tracemalloc.start()
        LISTINGS[listing](cm)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 1000 * 300  # the name and the number of each, and their places in lists


def test_many_planted_versions_are_counted_and_hide_no_other_finding(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path, key=KEY)
    for number in range(3):
        cm.save_checkpoint("train", number)
        cm.save_checkpoint("zeal", number)
    (tmp_path / "history" / "zeal" / "000000000002.checkpoint").write_bytes(b"")
    plant_versions(tmp_path, MOST_FINDINGS + 500)
    report = cm.verify()
    damaged = [finding for finding in report.problems if finding.state == "damaged"]
    assert len([finding for finding in damaged if finding.stage == "train" and finding.version]) == MOST_FINDINGS
    assert [finding.detail for finding in damaged if finding.version is None] == ["is found 500 times more, and not listed"]
    assert [finding.version for finding in damaged if finding.stage == "zeal"] == [2]
    assert len([finding for finding in report.findings if finding.state == "whole"]) == 5
    assert not report.ok
    assert len([step for step in cm.repair() if (step.action, step.stage) == ("set-aside", "train")]) == MOST_FINDINGS + 500
    assert cm.verify("train").ok


def test_many_planted_stages_are_counted_and_hide_no_stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cm = CheckpointManager(tmp_path, key=KEY)
    for number in range(3):
        cm.save_checkpoint("zeal", number)
    (tmp_path / "history" / "zeal" / "000000000003.checkpoint").write_bytes(b"")
    for number in range(MOST_FINDINGS + 500):
        folder = tmp_path / "history" / f"planted-{number}"
        folder.mkdir(0o700)
        (folder / "000000000001.checkpoint").touch(0o600)
    report = cm.verify()
    damaged = [finding for finding in report.problems if finding.state == "damaged"]
    assert len(damaged) == MOST_FINDINGS + 2
    assert [finding.version for finding in damaged if finding.stage == "zeal"] == [3]
    assert damaged[-1].detail == "is found 500 times more, and not listed"
    caplog.clear()
    assert cm.stages() == ["zeal"]
    assert len(caplog.records) == MOST_LOGGED + 1


def test_of_many_planted_stages_a_repair_marks_some_and_moves_the_folders_of_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it keeps of each, on the disk and in memory, is bounded, and no stage in which something opens is among them."""
    monkeypatch.setattr(repairing, "_MOST_MARKED", 5)
    cm = CheckpointManager(tmp_path, key=KEY)
    cm.save_checkpoint("a genuine one", 1)
    cm.save_checkpoint("zeal", 1)
    for number in range(22):
        folder = tmp_path / "history" / f"p{number:02}"
        folder.mkdir(0o700)
        (folder / "000000000001.checkpoint").touch(0o600)
    (tmp_path / "p21.checkpoint").touch(0o600)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path.with_name("forgotten")))
    cm = CheckpointManager(tmp_path, key=KEY)
    planned = cm.repair(dry_run=True)
    steps = cm.repair()
    assert [(each.action, each.stage) for each in planned] == [(each.action, each.stage) for each in steps]
    assert len([each for each in steps if each.action == "append"]) == 5
    (rest,) = [each for each in steps if each.stage is None]
    assert "17 more folders in which nothing opens" in rest.detail
    assert len([*(tmp_path / "damaged").iterdir()]) == 5 + 17 + 1  # versions, folders, and a head
    assert cm.repair() == []
    assert cm.verify().ok
    assert sorted(cm.stages()) == ["a genuine one", "zeal"]


def test_many_planted_temporary_files_are_counted_and_all_removed(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path, key=KEY)
    cm.save_checkpoint("train", 1)
    for folder in (tmp_path, tmp_path / "history" / "train"):
        for number in range(MOST_FINDINGS + 10):
            (folder / f".{number:016x}.tmp").touch(0o600)
    assert "and 10 more, which are not listed" in [finding.detail for finding in cm.verify("train").problems]
    cm.repair()
    assert cm.verify().problems == ()
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_history_with_thousands_of_deletions_is_listed_in_linear_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the record of deletions, only what lies in the range at hand is looked at."""
    cm = CheckpointManager(tmp_path, key=KEY, durability="relaxed")
    for number in range(200):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", range(1, 200, 2))
    looked_at = 0
    get = Gaps.__getitem__

    def counted(gaps: Gaps, index: int) -> Gap:
        nonlocal looked_at
        looked_at += 1
        return get(gaps, index)

    monkeypatch.setattr(Gaps, "__getitem__", counted)
    assert len(cm.history("train")) == 100
    assert looked_at < 1000
