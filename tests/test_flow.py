"""How a save, a load and a has go: down through each layer once, with few calls of Python. Structure, not time."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

DATA = {"rows": ["x" * 10] * 70}
MOST_CALLS, MOST_DEPTH = 60, 8


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    cm = CheckpointManager(tmp_path / "store", key=bytes(32))
    for _ in range(3):
        cm.save_checkpoint("train", DATA)
        cm.load_checkpoint("train")
        cm.has_checkpoint("train")
    return cm


def calls_of(act: Callable[[], object]) -> tuple[list[str], int]:
    """Return the functions of the library that are called, and how deep they are nested."""
    calls: list[str] = []
    depth = deepest = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal depth, deepest
        if "/checkpoint_manager/" in frame.f_code.co_filename and event in {"call", "return"}:
            depth += 1 if event == "call" else -1
            deepest = max(deepest, depth)
            if event == "call":
                calls.append(frame.f_code.co_qualname)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls, deepest


@pytest.mark.parametrize("what", ["save_checkpoint", "load_checkpoint", "has_checkpoint"])
def test_it_takes_few_calls(cm: CheckpointManager, what: str) -> None:
    arguments = ("train", DATA) if what == "save_checkpoint" else ("train",)
    calls, deepest = calls_of(lambda: getattr(cm, what)(*arguments))
    assert len(calls) <= MOST_CALLS, "\n".join(calls)
    assert deepest <= MOST_DEPTH
    for once in ("LastSeen.recall", "LocalBackend.newest", "LocalBackend.session"):
        assert calls.count(once) == 1


def test_its_calls_do_not_grow_with_the_history(cm: CheckpointManager) -> None:
    few, _ = calls_of(lambda: cm.save_checkpoint("train", DATA))
    for _ in range(100):
        cm.save_checkpoint("train", DATA)
    many, _ = calls_of(lambda: cm.save_checkpoint("train", DATA))
    assert len(many) <= len(few) + 3
