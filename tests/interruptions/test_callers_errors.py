"""What is not the system's error passes through as it is: of the caller's signal handler, or out of memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

KEY = bytes(range(32))
STEP = 7
"""Each seventh call is enough, for what they do differs from one to the next, and each kind of error begins at another one."""


def interrupted_at(call: int, error: BaseException, act: Callable[[], object]) -> bool:
    """Do something, and raise an error at its n-th call of a compiled function; return False if it has fewer."""
    left, reached = call, False

    def raise_it(frame: FrameType, event: str, _: object) -> None:
        nonlocal left, reached
        if event == "c_call" and "checkpoint_manager" in frame.f_code.co_filename and frame.f_code.co_name != "__del__":
            left -= 1
            if left == 0:
                sys.setprofile(None)
                reached = True
                raise error

    before = sys.getprofile()
    sys.setprofile(raise_it)
    try:
        act()
    finally:
        sys.setprofile(before)
    return reached


@pytest.mark.parametrize("kind", [TimeoutError, MemoryError])
def test_what_the_callers_own_code_raises_in_a_save_a_load_or_a_look_passes_as_it_is(
    kind: type[Exception], tmp_path: Path
) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY, durability="relaxed", lock_timeout=5)
    for act in (
        lambda: cm.save_checkpoint("train", {"epoch": 1}),
        lambda: cm.load_checkpoint("train"),
        lambda: cm.has_checkpoint("train"),
        lambda: cm.history("train"),
    ):
        cm.save_checkpoint("train", 0)
        wrong, call, reached = [], 1 if kind is MemoryError else 4, True
        while reached:
            call += STEP
            mine = kind("time is up")
            try:
                reached = interrupted_at(call, mine, act)
            except BaseException as raised:
                if raised is not mine:
                    wrong.append((call, repr(raised)))
            else:
                if reached:
                    wrong.append((call, "nothing"))
        assert wrong == []
        assert call > STEP
    assert cm.verify().ok
    assert cm.save_checkpoint("train", 1).number == cm.history("train")[0].number
