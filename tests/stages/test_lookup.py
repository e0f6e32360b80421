"""The version of these arguments is found among all others, and no version is read more than once for that."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, ResultNotSavedError
from checkpoint_manager.backends.memory import MemoryBackend
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checkpoint_manager.backends.base import Reader, Session

KEY = bytes(32)


def flip_last_byte(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))


class CountingBackend(MemoryBackend):
    """Counts how often a version is opened."""

    opened = 0

    @contextmanager
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:
        self.opened += 1
        with super().open(stage, version, session=session) as reader:
            yield reader


def square(cm: CheckpointManager) -> Any:
    return cm.stage("square")(_square)


def _square(number: int) -> int:
    return number * number


def what(cm: CheckpointManager) -> list[str]:
    return [outcome.what for outcome in cm.run_report().outcomes]


def test_a_stage_of_many_arguments_reads_each_version_once() -> None:
    backend, many = CountingBackend(), 150
    first = square(CheckpointManager(backend, key=KEY))
    for number in range(many):
        first(number)
    cm = CheckpointManager(backend, key=KEY)
    again, before = square(cm), backend.opened
    for number in range(many):
        assert again(number) == number * number
    assert what(cm) == ["reused"] * many
    assert backend.opened - before <= 4 * many + 10  # one look at the newest and one load for each, and two walks for all
    before = backend.opened
    assert again(many) == many * many  # a new one: there is nothing left to read below
    assert backend.opened - before <= 10


def test_what_others_save_and_clear_meanwhile_is_seen(tmp_path: Path) -> None:
    cm, other = (CheckpointManager(tmp_path / "store", key=KEY) for _ in range(2))
    mine, theirs = square(cm), square(other)
    for number in range(3):
        mine(number)
    mine(0)
    for number in range(3, 90):  # more than are looked for one by one
        theirs(number)
    assert (mine(3), mine(50), mine(0)) == (9, 2500, 0)
    other.clear_checkpoint("square")
    theirs(5)
    assert (mine(5), mine(3)) == (25, 9)
    assert what(cm) == ["ran", "ran", "ran", "reused", "reused", "reused", "reused", "reused", "ran"]


def test_what_is_below_a_cleared_version_is_not_found(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    square(cm)(1)
    cm.clear_checkpoint("square")
    square(cm)(2)
    again = CheckpointManager(tmp_path / "store", key=KEY)
    square(again)(1)
    assert what(again) == ["ran"]


def test_of_equal_ones_the_newest_that_is_left_is_found(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    square(cm)(1)
    square(cm)(2)
    cm.restore_checkpoint("square", 1)
    square(cm)(3)
    square(cm)(1)
    cm.delete_versions("square", [3])
    square(cm)(1)
    assert [outcome.version for outcome in cm.run_report().outcomes] == [1, 2, 4, 3, 1]


def test_a_damaged_newest_version_hides_no_older_one_unless_it_may_be_a_cleared_one(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in (1, 2):
        square(cm)(number)
    path = tmp_path / "store" / "history" / "square" / "000000000002.checkpoint"
    whole = path.read_bytes()
    flip_last_byte(path)  # its data: what it is can be told
    assert square(cm)(1) == 1
    assert what(cm)[-1] == "reused"
    path.write_bytes(whole[:150] + bytes(100) + whole[250:])  # its metadata
    assert square(cm)(1) == 1
    assert what(cm)[-1] == "ran"
    assert cm.run_report().outcomes[-1].why == "the newest version is damaged"


def test_a_number_is_not_taken_for_another_kind_of_number(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    results = iter(range(10))
    versions: list[Any] = [1, "1", True, 1]
    assert [cm.stage("count", revision=version)(lambda: next(results))() for version in versions] == [0, 1, 2, 0]


def test_it_finds_after_a_fork_and_in_threads(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(5):
        square(cm)(number)
    threads = [threading.Thread(target=square(cm), args=(number % 4,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert what(cm) == ["ran"] * 5 + ["reused"] * 8
    with cm._runner._lookup._walking:  # as if another thread was searching during the fork
        child = forking.start(lambda: not (square(cm)(1) == 1 and what(cm)[-1] == "reused"))
    assert forking.end(child) == 0


def test_what_is_deleted_between_two_looks_is_no_fault(tmp_path: Path) -> None:
    """The record of deletions is read once for a walk; others delete meanwhile, as long loops do with their progress."""

    class Deleting(MemoryBackend):
        others: CheckpointManager | None = None

        @contextmanager
        def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:
            if version == 5 and self.others is not None:
                others, self.others = self.others, None
                others.delete_versions("square", [3, 4])
            with super().open(stage, version, session=session) as reader:
                yield reader

    backend = Deleting()
    cm = CheckpointManager(backend, key=KEY)
    for number in range(6):
        square(cm)(number)
    again = CheckpointManager(backend, key=KEY)
    backend.others = cm
    assert square(again)(0) == 0
    assert what(again) == ["reused"]
    assert backend.others is None


@pytest.mark.parametrize("removed", [True, False])
def test_what_can_not_be_told_from_a_cleared_version_ends_the_search(tmp_path: Path, *, removed: bool) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(4):
        square(cm)(number)
    path = tmp_path / "store" / "history" / "square" / "000000000002.checkpoint"
    if removed:
        path.unlink()
    else:
        path.write_bytes(b"damaged")
    again = CheckpointManager(tmp_path / "store", key=KEY)
    assert (square(again)(2), square(again)(0)) == (4, 0)
    assert what(again) == ["reused", "ran"]


def test_a_damaged_record_of_deletions_makes_it_run_again_and_keeps_the_result(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(4):
        square(cm)(number)
    cm.delete_versions("square", [2])
    flip_last_byte(tmp_path / "store" / "history" / "square" / "gaps")
    again = CheckpointManager(tmp_path / "store", key=KEY)
    assert square(again)(3) == 9
    with pytest.raises(ResultNotSavedError) as caught:
        square(again)(0)
    assert caught.value.result == 0
    assert what(again) == ["reused", "unsaved"]
