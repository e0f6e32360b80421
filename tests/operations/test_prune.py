"""Pruning by hand: the plan is what is done, and what matters stays."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, IntegrityError, LockTimeoutError, Retention
from checkpoint_manager._operations.save import draft, save
from checkpoint_manager.backends.memory import MemoryBackend
from tests import forking

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoint_manager.models import Status

KEY = bytes(range(32))
ONE = Retention(keep_last=1)


@pytest.fixture(params=["memory", "local"])
def cm(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointManager:
    cm = CheckpointManager(MemoryBackend() if request.param == "memory" else tmp_path / "store", key=KEY)
    for number in range(1, 7):
        cm.save_checkpoint("train", number)
    cm.save_checkpoint("clean", 1)
    cm.save_checkpoint("clean", 2)
    return cm


def save_as(cm: CheckpointManager, status: Status, stage: str = "train") -> int:
    return save(cm._store, stage, draft(stage, None, None, status=status)).number


def present(cm: CheckpointManager, stage: str = "train") -> list[int]:
    return [version.number for version in cm.history(stage)]


def test_a_dry_run_is_what_is_done_then(cm: CheckpointManager) -> None:
    cm.tag("train", 2, "good")
    planned = cm.prune(Retention(keep_last=2), dry_run=True)
    assert present(cm) == [6, 5, 4, 3, 2, 1]
    done = cm.prune(Retention(keep_last=2))
    assert planned == done
    assert [(decision.version.stage, decision.version.number, decision.rules) for decision in done.decisions] == [
        ("clean", 2, ("newest", "newest completed", "keep_last")),
        ("clean", 1, ("keep_last",)),
        ("train", 6, ("newest", "newest completed", "keep_last")),
        ("train", 5, ("keep_last",)),
        ("train", 4, ("no rule keeps it (keep_last=2)",)),
        ("train", 3, ("no rule keeps it (keep_last=2)",)),
        ("train", 2, ("tag good",)),
        ("train", 1, ("no rule keeps it (keep_last=2)",)),
    ]
    assert present(cm) == [6, 5, 2]
    assert cm.verify().problems == ()
    assert cm.prune(Retention(keep_last=2)).dropped == ()


def test_one_stage(cm: CheckpointManager) -> None:
    assert {version.stage for version in cm.prune(ONE, stage_name="clean").dropped} == {"clean"}
    assert len(present(cm)) == 6
    with pytest.raises(CheckpointNotFoundError, match="no checkpoint of stage nothing"):
        cm.prune(ONE, stage_name="nothing")


def test_a_tag_can_go_with_its_version(cm: CheckpointManager) -> None:
    cm.tag("train", 2, "good")
    cm.tag("train", 6, "best")
    cm.prune(Retention(keep_last=1, keep_tagged=False))
    assert present(cm) == [6]
    assert cm.tags("train") == {"best": 6}
    assert cm.verify().problems == ()


def test_failures_push_nothing_out(cm: CheckpointManager) -> None:
    for status in ("failed", "progress", "failed", "progress"):
        save_as(cm, status)
    cm.prune(Retention(keep_last=2))
    assert present(cm) == [10, 8, 6, 5]  # and what an unfinished loop goes on from


def test_what_was_cleared_stays_cleared(cm: CheckpointManager) -> None:
    """A resumed stage looks for older results down to where it was cleared."""
    cm.tag("train", 2, "good")
    cm.clear_checkpoint("train")
    cm.save_checkpoint("train", 8)
    cm.prune(ONE)
    assert present(cm) == [8, 7, 2]
    assert cm.history("train")[1].status == "cleared"


def test_what_does_not_open_is_left_alone(cm: CheckpointManager) -> None:
    _replace(cm, 3, b"damaged")
    plan = cm.prune(ONE)
    assert 3 not in {decision.version.number for decision in plan.decisions if decision.version.stage == "train"}
    assert [(version.number, version.status) for version in cm.history("train")] == [(6, "completed"), (3, "damaged")]
    assert [(finding.version, finding.state) for finding in cm.verify().problems] == [(3, "damaged")]


def test_older_ones_go_only_because_the_newest_completed_one_is_whole(
    cm: CheckpointManager, caplog: pytest.LogCaptureFixture
) -> None:
    """Its metadata opens, so it looks completed; its data does not."""
    whole = b"".join(map(bytes, cm._store.sealed("train", 6, cm._store.entry("train", 6), b"6")))
    _replace(cm, 6, whole[:-1] + bytes([whole[-1] ^ 1]))
    save_as(cm, "failed")
    cm.prune(ONE)
    assert "data that does not open" in caplog.text
    assert cm.load_checkpoint("train", 5) == 5
    assert present(cm) == [7, 6, 5]


def _replace(cm: CheckpointManager, version: int, data: bytes) -> None:
    backend = cm._store.backend
    if isinstance(backend, MemoryBackend):
        backend._versions["train"][version] = data
    else:
        backend.replace("train", version, lambda: [data])


def test_what_a_killed_pruning_left_is_removed_by_the_next_one(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(1, 7):
        cm.save_checkpoint("train", number)

    def prune() -> None:
        cm._store.backend.delete = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)  # type: ignore[method-assign]
        cm.prune(ONE)

    assert forking.end(forking.start(prune)) == -signal.SIGKILL
    assert present(cm) == [6]
    assert len(cm._store.backend.versions("train")) == 6
    assert cm.prune(ONE, dry_run=True).dropped == ()
    assert cm.prune(ONE).dropped == ()
    assert cm._store.backend.versions("train") == [6]
    assert cm.verify().problems == ()


def test_a_damaged_record_of_deletions_stops_it(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(1, 4):
        cm.save_checkpoint("train", number)
    (tmp_path / "store" / "history" / "train" / "gaps").write_bytes(b"damaged")
    with pytest.raises(IntegrityError, match="record of deleted versions"):
        cm.prune(ONE)
    assert cm._store.backend.versions("train") == [1, 2, 3]


def test_it_waits_for_a_writer(cm: CheckpointManager) -> None:
    backend: Any = cm._store.backend
    other = CheckpointManager(backend if isinstance(backend, MemoryBackend) else backend.location, key=KEY, lock_timeout=0.1)
    with cm._store.lock("train"), ThreadPoolExecutor(1) as pool, pytest.raises(LockTimeoutError):
        pool.submit(other.prune, ONE).result()
    assert len(present(cm)) == 6


def test_a_policy_is_asked_for(cm: CheckpointManager) -> None:
    with pytest.raises(TypeError, match="must be a Retention"):
        cm.prune(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a Retention"):
        CheckpointManager(MemoryBackend(), key=KEY, retention=5)  # type: ignore[arg-type]
