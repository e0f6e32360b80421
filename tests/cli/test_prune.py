"""``prune``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from tests.cli.test_restore import damage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_the_plan_is_what_is_done(cli: Cli, store: Path) -> None:
    cli("tag", "train@1", "good")
    planned = cli("prune", "--keep-last", "1", "--dry-run")
    assert (planned.code, planned.out) == (0, "")
    assert "keep train@1" in planned.err
    assert ": tag good\n" in planned.err
    assert "drop train@2" in planned.err
    assert ": no rule keeps it\n" in planned.err
    assert "3 kept, 1 to be deleted" in planned.err
    document = cli("prune", "--keep-last", "1", "--dry-run", "--json").json
    assert [(each["stage"], each["version"], each["keep"]) for each in document["versions"]] == [
        ("clean", 1, True),
        ("train", 3, True),
        ("train", 2, False),
        ("train", 1, True),
    ]
    assert document["dry_run"]
    assert len(CheckpointManager(store).history("train")) == 3
    done = cli("prune", "--keep-last", "1", "--yes")
    assert (done.code, done.out) == (0, "train@2\n")
    assert [version.number for version in CheckpointManager(store).history("train")] == [3, 1]
    assert cli("verify").code == 0


def test_what_has_a_tag_can_be_dropped(cli: Cli, store: Path) -> None:
    cli("tag", "train@1", "good")
    document = cli("prune", "train", "--keep-daily", "1", "--drop-tagged", "--yes", "--json").json
    assert [each["keep"] for each in document["versions"]] == [True, False, False]
    assert document["bytes_dropped"] == 2 * len('{"epoch":1}')
    assert CheckpointManager(store).tags("train") == {}


def test_nothing_to_do_asks_nothing(cli: Cli, store: Path) -> None:
    result = cli("prune", "--keep-within", "1d")
    assert (result.code, result.out) == (0, "")
    assert "4 kept, 0 to be deleted" in result.err


def test_it_asks_first(program: Cli, store: Path) -> None:
    result = program("prune", "--keep-last", "1", stdin="y\n")
    assert result.code == 2
    assert "--yes" in result.err
    assert len(CheckpointManager(store).history("train")) == 3


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "no rule keeps anything"),
        (["--keep-last", "0"], 2, "no rule keeps anything"),
        (["--keep-last", "-1"], 2, "--keep-last"),
        (["--keep-within", "7"], 2, "not a duration"),
        (["nothing", "--keep-last", "1"], 14, "no checkpoint of stage nothing"),
    ],
)
def test_what_can_not_be(cli: Cli, store: Path, arguments: list[str], code: int, message: str) -> None:
    result = cli("prune", *arguments, "--yes")
    assert (result.code, result.out) == (code, "")
    assert message in result.err


def test_a_long_plan_is_short_and_what_was_done_is_said(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store, durability="relaxed")
    for epoch in range(4, 30):
        cm.save_checkpoint("train", epoch)
    cm.tag("train", 20, "good")
    result = cli("prune", "train", "--keep-last", "2", "--yes")
    assert [line.partition(" (")[0] for line in result.err.splitlines()[:5]] == [
        "keep train@29",
        "keep train@28",
        "drop train@27 to train@21",
        "keep train@20",
        "drop train@19 to train@1",
    ]
    assert ": newest, newest completed, --keep-last" in result.err.splitlines()[0]
    assert result.err.splitlines()[2].endswith(": no rule keeps them")
    assert result.err.splitlines()[-1].startswith("26 versions deleted for good (")
    assert len(result.out.splitlines()) == 26


def test_a_plan_is_as_long_as_was_asked_for(cli: Cli, store: Path) -> None:
    CheckpointManager(store).tag("train", 1, "good")
    shown = cli("prune", "--keep-last", "1", "--dry-run", "--limit", "1").err.splitlines()
    assert shown[0].startswith("keep clean@1")
    assert shown[1] == "… and 3 more lines"
    assert shown[2].startswith("3 kept, 1 to be deleted for good (")


@pytest.mark.parametrize("stage", [[], ["train"]])
def test_damage_is_told_by_the_exit_code_too(cli: Cli, store: Path, stage: list[str]) -> None:
    damage(store, 3)
    told = cli("prune", *stage, "--keep-last", "1", "--dry-run")
    assert (told.code, "error: version 3 of stage train" in told.err) == (13, True)
    result = cli("prune", *stage, "--keep-last", "1", "--yes", "--json")
    assert result.code == 13
    assert [problem["stage"] for problem in result.json["problems"]] == ["train"]
    assert [version["version"] for version in result.json["versions"] if not version["keep"]] == [1]
