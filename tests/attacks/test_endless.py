"""Attacks by what does not end: locks that are held in turn, and more planted files than memory is for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, Retention
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
