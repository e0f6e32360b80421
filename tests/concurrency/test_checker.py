"""The checker itself: it accepts what is right, and refuses each way of breaking a promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.concurrency.checker import check
from tests.concurrency.program import Kind, Op
from tests.concurrency.record import NEVER, Event, Record, Stored, as_schedule

PID = 100
PIDS = {PID + writer: {writer} for writer in range(4)}


def event(by: int, kind: Kind, times: tuple[float, float], argument: int = 0, **result: Any) -> Event:
    """Return a call by the only thread of a writer, at the time at which it began: that makes it unique."""
    return Event((by, 0, int(times[0])), Op(kind, "train", argument), *times, result or None)


def stored(version: int, owner: Event | None = None, **fields: Any) -> Stored:
    by = owner.by if owner is not None else None
    whole = Stored(version, "completed", PID + (by[0] if by else 0), f"digest {by}", by, None, None, float(version))
    return replace(whole, **fields)


def cleared(version: int, writer: int = 0) -> Stored:
    return Stored(version, "cleared", PID + writer, "null", created_at=float(version))


def problems(events: list[Event], versions: list[Stored]) -> list[str]:
    record = Record(events, PIDS, {"train": versions})
    assert as_schedule(record)
    return check(record)


FIRST = event(0, "save", (10, 20), version=1)
SECOND = event(1, "save", (30, 40), version=2)
V1, V2 = stored(1, FIRST), stored(2, SECOND)
SAVED, HELD = [FIRST, SECOND], [V1, V2]
KILLED = replace(event(2, "save", (50, NEVER)), result=None)


@pytest.mark.parametrize(
    ("more", "versions"),
    [
        ([], HELD),
        ([KILLED], HELD),
        ([KILLED], [V1, V2, stored(3, KILLED)]),
        ([event(2, "get", (50, 60), version=2, digest=V2.digest)], HELD),
        ([event(2, "get", (25, 35), version=2, digest=V2.digest)], HELD),
        ([event(2, "get", (35, 45), version=1, digest=V1.digest)], HELD),
        ([event(2, "get", (0, 15), error="CheckpointNotFoundError", version=None)], HELD),
        ([event(2, "has", (50, 60), has=True)], HELD),
        ([event(2, "has", (0, 15), has=False)], HELD),
        ([event(2, "history", (25, 60), versions=[2, 1])], HELD),
        ([event(2, "load", (50, 60), 1, digest=V1.digest)], HELD),
        ([event(2, "load", (35, 36), 2, error="CheckpointNotFoundError")], HELD),
        ([event(2, "expect", (35, 45), 1, error="VersionConflictError", version=2)], HELD),
        ([event(2, "expect", (50, 60), 2, version=3)], [*HELD, stored(3, event(2, "expect", (50, 60), 2))]),
        ([event(2, "update", (50, 60), version=3)], [*HELD, stored(3, event(2, "update", (50, 60)), saw=SECOND.by)]),
        (
            [event(2, "restore", (50, 60), 1, version=3)],
            [*HELD, stored(3, FIRST, restored_from=1, pid=PID + 2)],
        ),
        ([event(2, "restore", (50, NEVER), 1)], [*HELD, stored(3, FIRST, restored_from=1, pid=PID + 2)]),
        ([event(2, "clear", (50, 60), version=3)], [*HELD, cleared(3, 2)]),
        ([event(2, "clear all", (50, 60), done=1)], [*HELD, cleared(3, 2)]),
        (
            [event(2, "clear", (50, 60), version=3), event(3, "clear", (55, 70), nothing=1, version=None)],
            [*HELD, cleared(3, 2)],
        ),
        ([event(2, "delete", (50, 60), 1, done=1)], [V2]),
        ([event(2, "delete", (50, NEVER), 1)], HELD),
        ([event(2, "delete", (50, 60), 1, done=1), event(3, "load", (55, 58), 1, digest=V1.digest)], [V2]),
        ([event(2, "rotate", (0, 100), done=1)], HELD),
    ],
)
def test_a_right_record_is_accepted(more: list[Event], versions: list[Stored]) -> None:
    assert problems(SAVED + more, versions) == []


def test_a_killed_clear_may_have_happened() -> None:
    assert problems([*SAVED, event(2, "clear", (50, NEVER))], [*HELD, cleared(3, 2)]) == []


@pytest.mark.parametrize(
    ("reason", "more", "versions"),
    [
        ("an acknowledged version is gone", [], [V1]),
        ("a version in the middle is gone", [], [V2]),
        ("an acknowledged version is another's", [], [V1, stored(2, FIRST)]),
        ("two were given one number", [event(2, "save", (50, 60), version=2)], HELD),
        ("a number was left out", [event(2, "save", (50, 60), version=4)], [*HELD, stored(4, event(2, "save", (50, 60)))]),
        ("something nobody wrote is there", [], [*HELD, stored(3, event(3, "save", (1, 2)))]),
        ("a killed save is there twice", [KILLED], [*HELD, stored(3, KILLED), stored(4, KILLED)]),
        (
            "a refused save is there",
            [event(2, "expect", (50, 60), 1, error="VersionConflictError", version=2)],
            [*HELD, stored(3, event(2, "expect", (50, 60)))],
        ),
        ("a clear that nobody called is there", [], [*HELD, cleared(3)]),
        ("a restore that nobody called is there", [KILLED], [*HELD, stored(3, FIRST, restored_from=1, pid=PID + 2)]),
        (
            "one call cleared twice",
            [event(2, "clear all", (50, 60), done=1)],
            [*HELD, cleared(3, 2), cleared(4, 2)],
        ),
        (
            "the order is not that of real time",
            [event(2, "save", (1, 5), version=3)],
            [*HELD, stored(3, event(2, "save", (1, 5)))],
        ),
        (
            "a killed save came before what had returned",
            [replace(KILLED, invoked=90), event(3, "save", (60, 70), version=4)],
            [*HELD, stored(3, replace(KILLED, invoked=90)), stored(4, event(3, "save", (60, 70)))],
        ),
        ("time goes back", [], [V1, replace(V2, created_at=0.5)]),
        ("the history is out of order", [], [V2, V1]),
        ("a read missed what was acknowledged", [event(2, "get", (50, 60), version=1, digest=V1.digest)], HELD),
        ("a read saw the future", [event(2, "get", (21, 25), version=2, digest=V2.digest)], HELD),
        ("a read saw nothing", [event(2, "get", (50, 60), error="CheckpointNotFoundError", version=None)], HELD),
        (
            "a read went back",
            [event(2, "get", (31, 33), version=2, digest=V2.digest), event(3, "get", (34, 36), version=1, digest=V1.digest)],
            HELD,
        ),
        (
            "a history went back",
            [event(2, "get", (31, 33), version=2, digest=V2.digest), event(3, "history", (34, 36), versions=[1])],
            HELD,
        ),
        ("a read gave other data", [event(2, "get", (50, 60), version=2, digest=V1.digest)], HELD),
        (
            "a read gave data of a cleared stage",
            [event(2, "clear", (50, 60), version=3), event(3, "get", (70, 80), version=3, digest="x")],
            [*HELD, cleared(3, 2)],
        ),
        ("it said that a stage is not done", [event(2, "has", (50, 60), has=False)], HELD),
        ("it said that a stage is done", [event(2, "has", (0, 5), has=True)], HELD),
        ("a history left one out", [event(2, "history", (50, 60), versions=[2])], HELD),
        ("a history was out of order", [event(2, "history", (50, 60), versions=[1, 2])], HELD),
        (
            "a history showed a deleted one",
            [event(2, "delete", (50, 60), 1, done=1), event(3, "history", (70, 80), versions=[2, 1])],
            [V2],
        ),
        ("a load gave other data", [event(2, "load", (50, 60), 1, digest=V2.digest)], HELD),
        ("a load gave what was yet to come", [event(2, "load", (0, 5), 1, digest=V1.digest)], HELD),
        ("a load did not find what was there", [event(2, "load", (50, 60), 1, error="CheckpointNotFoundError")], HELD),
        (
            "a load gave a deleted one",
            [event(2, "delete", (50, 60), 1, done=1), event(3, "load", (70, 80), 1, digest=V1.digest)],
            [V2],
        ),
        ("a deleted one is there", [event(2, "delete", (50, 60), 1, done=1)], HELD),
        ("the newest was deleted", [event(2, "delete", (50, 60), 2, done=1)], [V1]),
        (
            "an expected version was not the newest",
            [event(2, "expect", (50, 60), 1, version=3)],
            [*HELD, stored(3, event(2, "expect", (50, 60), 1))],
        ),
        ("a conflict that was none", [event(2, "expect", (50, 60), 2, error="VersionConflictError", version=2)], HELD),
        ("a conflict with the past", [event(2, "expect", (50, 60), 2, error="VersionConflictError", version=1)], HELD),
        (
            "an update lost another's",
            [event(2, "update", (50, 60), version=3)],
            [*HELD, stored(3, event(2, "update", (50, 60)), saw=FIRST.by)],
        ),
        (
            "a restore differs",
            [event(2, "restore", (50, 60), 1, version=3)],
            [*HELD, stored(3, SECOND, restored_from=1, pid=PID + 2)],
        ),
        (
            "a restore is of another version",
            [event(2, "restore", (50, 60), 1, version=3)],
            [*HELD, stored(3, FIRST, restored_from=2, pid=PID + 2)],
        ),
        ("a clear is none", [event(2, "clear", (50, 60), version=3)], [*HELD, stored(3, FIRST, pid=PID + 2)]),
        ("nothing to clear, where there was", [event(2, "clear", (50, 60), nothing=1, version=None)], HELD),
        ("an unexpected error", [event(2, "save", (50, 60), error="IntegrityError", version=None)], HELD),
    ],
)
def test_a_wrong_record_is_refused(reason: str, more: list[Event], versions: list[Stored]) -> None:
    assert problems(SAVED + more, versions) != [], reason


def test_what_verify_says_is_a_problem() -> None:
    assert check(Record([], problems=["verify: damaged"])) == ["verify: damaged"]
