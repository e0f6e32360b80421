"""How a save, a load and a has go: down through each layer once, with few calls of Python. Structure, not time."""

from __future__ import annotations

import functools
import logging
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

DATA = {"rows": ["x" * 10] * 70}
MOST = {
    "save_checkpoint": (40, 15, 7),
    "load_checkpoint": (18, 9, 7),
    "has_checkpoint": (10, 6, 6),
    "save_checkpoint after a change": (95, 18, 12),
    "load_checkpoint after a change": (81, 19, 12),
    "has_checkpoint after a change": (78, 18, 11),
}
"""How many calls, modules and levels it takes at most to save, load or ask about a small checkpoint."""


@pytest.fixture
def cm(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> CheckpointManager:
    caplog.set_level(logging.WARNING, logger="checkpoint_manager")  # a log line that is written takes one more module
    cm = CheckpointManager(tmp_path / "store", key=bytes(32))
    for _ in range(3):
        cm.save_checkpoint("train", DATA)
        cm.load_checkpoint("train")
        cm.has_checkpoint("train")
    return cm


def calls_of(act: Callable[[], object]) -> tuple[list[tuple[str, str]], int]:
    """Return the module and the name of each function of the library that is called, and how deep they are nested."""
    calls: list[tuple[str, str]] = []
    depth = deepest = 0

    def note(frame: FrameType, event: str, _: object) -> None:
        nonlocal depth, deepest
        file = frame.f_code.co_filename  # a constructor of named tuples is no function of ours, though it is compiled there
        is_ours = "/checkpoint_manager/" in file and "_named_tuple" not in file and frame.f_code.co_name != "__del__"
        if is_ours and event in {"call", "return"}:
            depth += 1 if event == "call" else -1
            deepest = max(deepest, depth)
            if event == "call":
                calls.append((frame.f_code.co_filename, frame.f_code.co_qualname))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(before)
    return calls, deepest


@pytest.mark.parametrize("what", MOST)
def test_it_takes_few_calls_through_few_modules(cm: CheckpointManager, tmp_path: Path, what: str) -> None:
    method, after, _ = what.partition(" after a change")
    if after:
        CheckpointManager(tmp_path / "store", key=bytes(32)).save_checkpoint("train", DATA)
    arguments = ("train", DATA) if method == "save_checkpoint" else ("train",)
    calls, deepest = calls_of(lambda: getattr(cm, method)(*arguments))
    most_calls, most_modules, most_depth = MOST[what]
    assert len(calls) <= most_calls, "\n".join(name for _, name in calls)
    assert len({module for module, _ in calls}) <= most_modules
    assert deepest <= most_depth
    for look in ("History.look", "LocalBackend.newest"):
        assert [name for _, name in calls].count(look) == bool(after and method != "save_checkpoint")


def test_the_first_look_of_a_process_takes_few_calls(cm: CheckpointManager, tmp_path: Path) -> None:
    cm.save_checkpoint("another", DATA)
    for method in ("has_checkpoint", "load_checkpoint"):
        first = getattr(CheckpointManager(tmp_path / "store", key=bytes(32)), method)
        first("another")
        calls, deepest = calls_of(functools.partial(first, "train"))
        names = [name for _, name in calls]
        assert len(names) <= 40, "\n".join(names)
        assert deepest <= 8
        assert "LocalSession.__enter__" not in names


def test_a_save_after_a_save_goes_the_same_way(cm: CheckpointManager) -> None:
    cm.save_checkpoint("train", DATA)
    calls, _ = calls_of(lambda: cm.save_checkpoint("train", DATA))
    assert len(calls) <= MOST["save_checkpoint"][0]
    assert len({module for module, _ in calls}) <= MOST["save_checkpoint"][1]


def test_its_calls_do_not_grow_with_the_history(cm: CheckpointManager) -> None:
    few, _ = calls_of(lambda: cm.save_checkpoint("train", DATA))
    for _ in range(100):
        cm.save_checkpoint("train", DATA)
    many, _ = calls_of(lambda: cm.save_checkpoint("train", DATA))
    assert len(many) <= len(few) + 3


def test_a_status_opens_and_reads_each_stage_once(cm: CheckpointManager) -> None:
    for number in range(3):
        cm.save_checkpoint(f"stage {number}", DATA)
    calls, _ = calls_of(lambda: cm.status(verified=True))
    assert [name for _, name in calls].count("LocalSession.__enter__") == 4
    assert [name for _, name in calls].count("SealedStore.open") == 4


def test_a_repair_reads_a_whole_store_once(cm: CheckpointManager) -> None:
    calls, _ = calls_of(lambda: cm.repair(dry_run=True))
    names = [name for _, name in calls]
    assert names.count("SealedStore.examine") == len(cm.history("train"))
    assert names.count("LocalBackend.attachments") == 1
