"""``log``"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager._operations import save

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_it_lists_the_versions_newest_first(cli: Cli, store: Path) -> None:
    CheckpointManager(store).restore_checkpoint("train", 1)
    result = cli("log", "train")
    rows = [line.split() for line in result.out.splitlines()[1:]]
    assert [row[0] for row in rows] == ["4", "3", "2", "1"]
    assert "restored from 1" in result.out.splitlines()[1]
    assert "run=a7" in result.out.splitlines()[2]


def test_json_holds_all_that_is_known(cli: Cli, store: Path) -> None:
    document = cli("log", "train", "--json").json
    assert (document["command"], document["stage"]) == ("log", "train")
    version = document["versions"][0]
    known = {"stage", "version", "status", "created_at", "metadata", "origin", "size", "restored_from", "tags"}
    assert set(version) == known
    assert version["origin"]["pid"] == os.getpid()


def test_a_failure_says_what_was_raised_and_no_more(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)

    @cm.stage
    def train(limit: int) -> int:
        raise (ValueError("no rows\x1b[2J\nin b.csv") if limit else KeyError)

    with pytest.raises(ValueError, match="no rows"):
        train(1)
    with pytest.raises(KeyError):
        train(0)
    lines = cli("log", "train").out.splitlines()
    assert lines[1].endswith("  KeyError")
    assert lines[2].endswith(r"  ValueError: no rows\x1b[2J")
    document = cli("log", "train", "--json")
    assert document.json["versions"][1]["failure"] == {"type": "ValueError", "message": "no rows\x1b[2J\nin b.csv"}
    assert document.json["versions"][1]["metadata"] == {}  # the digests of the arguments are nobody's business
    assert document.json["versions"][2]["metadata"] == {"run": "a7"}
    assert "Traceback" not in document.out
    assert "Traceback (most recent call last)" in cli("show", "train@4").out


def test_progress_says_how_far_it_is(cli: Cli, store: Path) -> None:
    with CheckpointManager(store).loop("embed", range(2000), initial=0, every_items=400) as progress:
        for item in progress:
            if item == 1200:
                break
    result = cli("log", "embed")
    assert result.out.splitlines()[1].split()[:2] == ["3", "progress"]
    assert result.out.splitlines()[1].endswith("1,200 of 2,000 items")
    told = cli("log", "embed", "--json").json["versions"][0]["progress"]
    assert (told["done"], told["total"]) == (1200, 2000)


def test_no_such_stage(cli: Cli, store: Path) -> None:
    result = cli("log", "trian")
    assert (result.code, result.out) == (14, "")
    assert "no checkpoint of stage trian" in result.err


def test_a_piped_table_is_never_cut(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("train", metadata={"note": "x" * 500})
    assert f"note={'x' * 500}" in cli("log", "train").out


@pytest.mark.parametrize(
    "metadata",
    [
        {"@failure": 5},
        {"@failure": "boom"},
        {"@failure": {"type": "T"}},
        {"@failure": {"type": "T", "message": ["x"]}},
        {"@progress": "x"},
        {"@progress": {"done": "a", "total": None, "complete": False, "before": []}},
        {"@stage": {"version": 1, "arguments": [1]}},
    ],
    ids=str,
)
def test_a_note_of_another_shape_is_passed_over(cli: Cli, store: Path, metadata: dict[str, Any]) -> None:
    """Any program with the key may have written it; so may a bundle."""
    cm = CheckpointManager(store)
    save.save(cm._store, "odd", save.Draft(b"1", metadata, "failed"), None)
    assert cli("log", "odd").code == 0
    assert cli("log", "odd", "--json").json["versions"][0]["metadata"] == {}


def test_a_damaged_and_a_missing_version_stand_in_the_list(cli: Cli, store: Path) -> None:
    history = store / "history" / "train"
    (history / "000000000001.checkpoint").unlink()
    with (history / "000000000002.checkpoint").open("r+b") as file:
        file.truncate(10)
    result = cli("log", "train")
    assert result.code == 13
    assert [line.split()[:2] for line in result.out.splitlines()[1:]] == [
        ["3", "completed"],
        ["2", "damaged"],
        ["1", "missing"],
    ]
    assert "2 of 3 versions are damaged or missing" in result.err
    told = cli("log", "train", "--json")
    assert told.code == 13
    versions = told.json["versions"]
    assert [(version["version"], version["status"]) for version in versions][1:] == [(2, "damaged"), (1, "missing")]
    assert versions[2]["created_at"] is None
