"""Killed at a system call, or refused one: what was acknowledged stays, and the next process goes on with no help.

Here, at a sample of the calls, other ones at each run; ``python -m tests.faults.sweep`` does it at each call there is.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.host import ERRNOS, Task, changes
from tests.faults.operations import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Attempt = Callable[[Task], dict[str, Any]]

ERRNO_OF = dict(zip((name for name, each in OPERATIONS.items() if not each.goes_on), itertools.cycle(ERRNOS), strict=False))
"""Each operation meets one errno here, and the later save all of them."""
SAMPLE = 6


@pytest.mark.parametrize("operation", OPERATIONS)
def test_killed_at_any_call_it_leaves_all_or_nothing(attempt: Attempt, operation: str) -> None:
    tally = attempt(Task(operation, "kill", sample=2 * SAMPLE))
    assert tally["problems"] == []
    assert tally["tried"] >= (1 if operation == "open" else 5)
    assert tally["missed"] == 0


@pytest.mark.parametrize(
    ("operation", "errno"), [*ERRNO_OF.items(), *(("later save", errno) for errno in ERRNOS if errno != ERRNO_OF["later save"])]
)
def test_refused_any_call_it_says_so_or_succeeds(attempt: Attempt, operation: str, errno: str) -> None:
    tally = attempt(Task(operation, errno, sample=SAMPLE))
    assert tally["problems"] == []
    assert tally["refused"] > 0 or operation == "open" or errno == "EINTR"


@pytest.mark.parametrize(
    ("operation", "on"),
    [
        *itertools.product(["later save", "restore"], ["close", "read", "openat", "newfstatat"]),
        *(("import", "newfstatat"), ("import", "close"), ("repair", "lseek")),
    ],
)
def test_refused_a_call_that_changes_nothing_it_says_so_or_succeeds(attempt: Attempt, operation: str, on: str) -> None:
    tally = attempt(Task(operation, "EIO", on=on, sample=SAMPLE))
    assert tally["problems"] == []
    assert tally["tried"] > 0


def test_a_stage_whose_mark_could_not_be_synced_for_lack_of_room_is_deleted_by_another_one(attempt: Attempt) -> None:
    tally = attempt(Task("delete a stage", "ENOSPC", on="fsync"))
    assert tally["problems"] == []
    assert tally["acknowledged"] >= 3  # of the file of the mark, of its name, and of its record


@pytest.mark.parametrize(
    ("operation", "fault"),
    [*((operation, "kill") for operation in ("later save", "rotate the key", "import")), ("delete", "ENOSPC"), ("tag", "EIO")],
)
def test_in_a_database_too_it_is_all_or_nothing(attempt: Attempt, operation: str, fault: str) -> None:
    tally = attempt(Task(operation, fault, sample=4, scheme="sqlite:///"))
    assert tally["problems"] == []
    assert tally["tried"] >= 4
    assert tally["missed"] == 0


@pytest.mark.parametrize(
    ("operation", "fault", "on", "problem"),
    [
        ("overwrite", "kill", None, "damaged"),
        ("not heed a failed sync", "EIO", "fsync", "a failed sync was acknowledged"),
        ("sync again", "EIO", "fsync", "it was synced again"),
    ],
)
def test_it_is_seen_where_a_promise_is_broken(
    attempt: Attempt, operation: str, fault: str, on: str | None, problem: str
) -> None:
    assert any(problem in each for each in attempt(Task(operation, fault, on=on))["problems"])


@pytest.mark.parametrize(
    ("old", "new", "differs"),
    [
        ("8", "9", False),  # the descriptor
        ("0123456789abcdef", "fedcba9876543210", False),
        (r"secret\"\n", "random", False),
        ("EIO (Input/output error)", "ENOSPC (No space left on device)", False),
        ("565", "566", True),
        ('"head"', '"other"', True),
        ("fsync(8)", "fsync(5)", True),
        ("0600", "0644", True),
        ("mkdirat", "newcall", True),
        ("unlinkat", "newfstatat", True),
        ("fchmod(8, 0400) = 0", "fchmod(8, 0400) = -1 EIO (Input/output error) (INJECTED)", True),
    ],
)
def test_only_what_changes_files_in_another_way_is_looked_at_again(tmp_path: Path, old: str, new: str, differs: bool) -> None:
    made = r"""
openat(AT_FDCWD, "store", O_RDONLY|O_CLOEXEC) = 5
openat(5, ".0123456789abcdef.tmp", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0600) = 8
write(8, "secret\"\n"..., 565) = 565
fchmod(8, 0400) = 0
fsync(8) = 0
linkat(5, ".0123456789abcdef.tmp", 5, "head", 0) = 0
mkdirat(5, "new", 0700) = -1 EIO (Input/output error) (INJECTED)
unlinkat(5, ".0123456789abcdef.tmp", 0) = 0
fsync(5) = 0
"""
    (tmp_path / "old").write_text(made)
    (tmp_path / "new").write_text(made.replace(old, new))
    assert old in made
    assert (changes(tmp_path / "old") != changes(tmp_path / "new")) is differs
