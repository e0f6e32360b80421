"""The fast paths decide what the general ways decide, whatever was done before, and by whom.

Two worlds get the same operations. In one of them, no save goes on from the one before it, no first look at a stage is short,
and nothing that was verified before is taken for verified. Every answer, error and warning is the same in both, and so is what
is on the disk afterwards, and what the users have seen. What is made durable is not compared: ``tests/powercut`` does that.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings

from tests.fast_paths.program import Op, Program
from tests.fast_paths.world import ELSEWHERE, World
from tests.strategies import fast_path_programs

if TYPE_CHECKING:
    from collections.abc import Iterator

SETTINGS = settings(
    max_examples=settings().max_examples // 2,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)


@contextmanager
def worlds(program: Program) -> Iterator[tuple[World, World]]:
    """Make two worlds; the general ways decide everything in the second one."""
    place = Path(tempfile.mkdtemp())
    try:
        for name in ("fast", "general"):
            (place / name).mkdir()
        yield World(place / "fast", program, is_general=False), World(place / "general", program, is_general=True)
    finally:
        shutil.rmtree(place)


def compare(program: Program) -> None:
    with worlds(program) as (fast, general):
        for number, op in enumerate(program.ops):
            for what, one, other in zip(("answer", "log", "disk", "seen"), fast.do(op), general.do(op), strict=True):
                assert one == other, f"{what} after step {number}: {op}"
        assert fast.judged() == general.judged()


@SETTINGS
@given(fast_path_programs())
def test_the_fast_paths_decide_what_the_general_ways_decide(program: Program) -> None:
    compare(program)


SAVE, LOAD, HAS, REOPEN, KEEP = Op("save"), Op("load"), Op("has"), Op("reopen"), Op("keep")
ANOTHERS_SAVE = Op("save", who=2)
HEEDED = {
    # By a save that goes on from the one before it
    "the folder": [SAVE, SAVE, Op("take the newest away"), SAVE],
    "another's version": [SAVE, SAVE, ANOTHERS_SAVE, SAVE],
    "the keyring": [SAVE, SAVE, Op("damage the keyring"), SAVE],
    "a rotation": [SAVE, SAVE, Op("rotate", who=2), SAVE],
    "a rotation meanwhile": [SAVE, SAVE, Op("save, and others meanwhile"), SAVE],
    "what was seen in a copy": [SAVE, SAVE, Op("make a copy of the store"), Op("save", who=ELSEWHERE), SAVE],
    "the record of deletions": [
        *([SAVE] * 4),
        *(Op("delete", number=1), KEEP, Op("delete", number=2)),
        *(SAVE, SAVE, Op("put the deletions back", number=1), SAVE),
    ],
    "that the record of deletions is damaged": [
        *(SAVE, SAVE, Op("delete", number=1), SAVE),
        *(Op("damage the deletions", number=1), LOAD, SAVE),
    ],
    "the version that is expected": [SAVE, SAVE, Op("expect", number=1)],
    "data of several pieces": [SAVE, Op("save much", number=1)],
    "the line": [SAVE, SAVE, Op("remove the line"), SAVE],
    "another line in its place": [
        *(SAVE, SAVE, Op("make a copy of the store"), Op("remove the line")),
        *(Op("save", who=ELSEWHERE), SAVE),
    ],
    "a refusal": [SAVE, SAVE, Op("save, and be refused"), SAVE, Op("save, and be refused", number=3), SAVE],
    "retention": [Op("save", who=1)] * 4,
    # By a first look at a stage
    "the id that was seen": [SAVE, SAVE, KEEP, SAVE, Op("put all back"), ANOTHERS_SAVE, REOPEN, LOAD],
    "a version of which the head is left": [SAVE, ANOTHERS_SAVE, Op("leave its head"), REOPEN, LOAD],
    "a version above": [SAVE, ANOTHERS_SAVE, Op("put an older head back"), REOPEN, LOAD],
    "a pending version": [SAVE, Op("plant a pending version", number=1), REOPEN, LOAD],
    "deletions": [SAVE, SAVE, ANOTHERS_SAVE, Op("delete", number=1), Op("damage the deletions"), Op("has", who=2)],
    "deletions that were seen": [SAVE, SAVE, SAVE, Op("delete", number=1), Op("remove the deletions"), REOPEN, LOAD],
    "that a stage is cleared": [SAVE, Op("clear"), REOPEN, LOAD, REOPEN, HAS, HAS, Op("status")],
    "the keyring at first": [SAVE, REOPEN, Op("remove the keyring"), LOAD],
    # By a look at what was verified before
    "the folder of what was verified": [SAVE, HAS, HAS, Op("plant a version"), HAS],
    "the folder of what is read again": [SAVE, LOAD, LOAD, Op("plant a version"), LOAD],
    "the file of what was verified": [SAVE, HAS, HAS, Op("damage a version", number=1), HAS],
    "the keyring of what was verified": [SAVE, HAS, HAS, Op("remove the keyring"), HAS],
    "the line of what was verified": [
        *(SAVE, Op("make a copy of the store"), HAS, HAS),
        *(Op("save", who=ELSEWHERE), HAS),
    ],
}
"""What a fast path has to heed, each by the shortest program in which that matters."""


@pytest.mark.parametrize("what", HEEDED)
def test_a_fast_path_heeds(what: str) -> None:
    compare(Program(tuple(HEEDED[what]), second="pruning"))


def test_both_ways_are_taken() -> None:
    """Else nothing would be compared."""
    ops = SAVE, SAVE, SAVE, REOPEN, LOAD, LOAD, Op("status"), HAS
    with worlds(Program(ops)) as (fast, general):
        for op in ops:
            assert fast.do(op) == general.do(op)
    assert {name for name, count in fast.taken.items() if count} == {"session_after", "first_look", "recall"}
    assert not general.taken.total()
