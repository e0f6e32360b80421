"""The power is cut after each step: promises 1, 2 and 4 hold in whatever a file system may leave.

Here with a few states for each step, other ones at each run; ``python -m tests.powercut.run --limit 400`` looks at many more.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from tests.powercut.disk import BLOCK_BYTES, Disk
from tests.powercut.recording import Link, Make, Mark, Open, Rename, Sync, Unlink, Write
from tests.powercut.run import KILLED, MUTANTS, SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable

    Cut = Callable[..., dict[str, Any]]

MOMENTS, KILLS = 50, 8
DATABASE = "sqlite:///"
SHOWING = (Link.__name__, Mark.__name__)
"""The steps that show a version, and tell of one: after these, a broken promise is seen."""


BOUNDED = [*SCENARIOS, "killed first save", "killed save"]  # a kill while another thread writes leaves a call in doubt


@pytest.mark.parametrize("scenario", BOUNDED)
def test_what_was_acknowledged_survives_a_power_cut(cut: Cut, scenario: str) -> None:
    seed, limit = random.randrange(10**6), 1 if scenario in KILLED else 3
    moments = MOMENTS // KILLS if scenario in KILLED else MOMENTS
    result = cut(scenario, limit=limit, seed=seed, moments=moments, kills=KILLS)
    assert result["problems"] == [], f"--limit {limit} --seed {seed}"
    assert result["states"] > 30


@pytest.mark.parametrize(("scenario", "limit"), [("sizes", 12), ("killed save", 3)])
def test_no_version_appears_above_one_that_may_be_lost(cut: Cut, scenario: str, limit: int) -> None:
    seed = random.randrange(10**6)
    result = cut(scenario, limit=limit, seed=seed, after=SHOWING)
    assert result["problems"] == [], f"--limit {limit} --seed {seed}"


@pytest.mark.parametrize("scenario", ["pipeline", "deletion", "attaching", "killed save"])
def test_what_a_database_acknowledged_survives_a_power_cut(cut: Cut, scenario: str) -> None:
    seed, few = random.randrange(10**6), 12
    moments = few // 3 if scenario in KILLED else few
    result = cut(scenario, limit=3, seed=seed, scheme=DATABASE, moments=moments, kills=3)
    assert result["problems"] == [], f"--sqlite --limit 3 --seed {seed}"
    assert result["states"] > 8


def test_a_database_that_is_not_synced_is_found_out(cut: Cut) -> None:
    problem = "version 1 of train is lost"
    found = cut("pipeline", limit=8, seed=0, scheme=DATABASE, mutant="no_sync_of_the_database", after=["Mark"], until=problem)
    assert any(problem in each for each in found["problems"]), found["problems"][-3:]


@pytest.mark.parametrize(
    ("mutant", "scenario", "problem"),
    [
        ("no_sync_of_files", "pipeline", "IntegrityError: version 1 of stage train"),
        ("no_sync_of_directories", "pipeline", "version 1 of train is lost"),
        ("name_before_sync", "pipeline", "state='damaged'"),
        ("own_name_before_sync", "pipeline", "state='damaged'"),
        ("pending_names_removed_at_once", "pipeline", " is lost"),
        ("no_adoption", "pipeline", " is lost"),
        ("torn_ones_adopted", "pipeline", "state='damaged'"),
        ("linked_above_a_pending_one", "killed save", "state='missing'"),
        ("large_above_a_pending_one", "sizes", "version 2 of stage train"),
        ("no_sync_of_parents", "pipeline", "version 1 of train is lost"),
        ("no_sync_of_segments", "attaching", "state='incomplete'"),
        ("version_before_its_attachments", "attaching", "state='incomplete'"),
        ("show_before_it_is_durable", "killed save", "version 2 of train is lost"),
    ],
)
def test_a_library_that_breaks_its_promise_is_found_out(cut: Cut, mutant: str, scenario: str, problem: str) -> None:
    assert mutant in MUTANTS
    found = cut(scenario, limit=8, seed=0, mutant=mutant, after=SHOWING, until=problem)["problems"]
    assert any(problem in each for each in found), found[-3:]


class TestDisk:
    """The model of a disk."""

    DICE = random.Random(0)

    def trees(self, disk: Disk) -> set[Any]:
        return set(disk.after_a_power_cut(1000, self.DICE))

    def disk(self, *steps: Any) -> Disk:
        disk = Disk("/d", ())
        for step in (Open(0, "/d"), *steps):
            disk.take(step)
        return disk

    def test_nothing_unsynced_is_certain(self) -> None:
        disk = self.disk(Make("/d/a", directory=False), Open(1, "/d/a"), Write(1, 0, b"new"))
        assert self.trees(disk) == {(), (("a", b""),), (("a", b"new"),), (("a", b"\0\0\0"),)}

    def test_what_is_synced_stays(self) -> None:
        disk = self.disk(Make("/d/a", directory=False), Open(1, "/d/a"), Write(1, 0, b"new"), Sync(1), Sync(0))
        assert self.trees(disk) == {(("a", b"new"),)}

    def test_a_synced_file_may_lose_its_name_and_a_synced_name_its_content(self) -> None:
        make = (Make("/d/a", directory=False), Open(1, "/d/a"), Write(1, 0, b"new"))
        assert self.trees(self.disk(*make, Sync(1))) == {(), (("a", b"new"),)}
        assert (("a", b""),) in self.trees(self.disk(*make, Sync(0)))

    def test_a_write_is_torn_at_its_blocks(self) -> None:
        data = b"1" * BLOCK_BYTES + b"2" * BLOCK_BYTES
        disk = self.disk(Make("/d/a", directory=False), Open(1, "/d/a"), Sync(0), Write(1, 0, data))
        contents = {tree[0][1] for tree in self.trees(disk)}
        blank = bytes(BLOCK_BYTES)
        assert contents == {b"", data, data[:BLOCK_BYTES], blank + data[BLOCK_BYTES:], blank + blank}

    def test_an_overwritten_block_is_the_old_or_the_new(self) -> None:
        make = (Make("/d/a", directory=False), Open(1, "/d/a"), Write(1, 0, b"old"), Sync(1), Sync(0))
        assert self.trees(self.disk(*make, Write(1, 0, b"new"))) == {(("a", b"old"),), (("a", b"new"),)}

    def test_of_a_rename_each_half_may_be_there(self) -> None:
        made = (Make("/d/a", directory=False), Open(1, "/d/a"), Write(1, 0, b"x"), Sync(1), Sync(0))
        found = {tuple(name for name, _ in tree) for tree in self.trees(self.disk(*made, Rename("/d/a", "/d/b")))}
        assert found == {(), ("a",), ("b",), ("a", "b")}

    def test_a_link_is_a_second_name_and_a_removal_may_not_have_happened(self) -> None:
        made = (Make("/d/a", directory=False), Open(1, "/d/a"), Sync(0), Link("/d/a", "/d/b"), Sync(0), Unlink("/d/a"))
        found = {tuple(name for name, _ in tree) for tree in self.trees(self.disk(*made))}
        assert found == {("b",), ("a", "b")}

    def test_without_its_own_name_a_directory_is_lost_with_all_in_it(self) -> None:
        made = (Make("/d/e", directory=True), Open(1, "/d/e"), Make("/d/e/a", directory=False), Sync(1))
        assert self.trees(self.disk(*made)) == {(), (("e", (("a", b""),)),)}

    def test_renaming_a_name_of_a_file_over_another_of_it_does_nothing(self) -> None:
        made = (Make("/d/a", directory=False), Link("/d/a", "/d/b"), Sync(0), Rename("/d/a", "/d/b"))
        assert self.trees(self.disk(*made)) == {(("a", b""), ("b", b""))}

    def test_many_unsynced_names_are_chosen_from(self) -> None:
        disk = self.disk(*(Make(f"/d/{number}", directory=False) for number in range(20)))
        trees = self.trees(disk)
        assert () in trees
        assert any(len(tree) == 20 for tree in trees)
        assert any(len(tree) == 19 for tree in trees)
