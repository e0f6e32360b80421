"""``delete``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_for_good(cli: Cli, store: Path) -> None:
    result = cli("delete", "train", "2", "1", "2", "--yes", "--json")
    assert result.json["versions"] == [1, 2]
    assert [version.number for version in CheckpointManager(store).history("train")] == [3]


def test_a_dry_run_and_a_question_change_nothing(cli: Cli, program: Cli, store: Path) -> None:
    assert "of 3 versions of stage train: 1" in cli("delete", "train", "1", "--dry-run").err
    assert program("delete", "train", "1", stdin="y\n").code == 2
    assert len(CheckpointManager(store).history("train")) == 3


def test_a_whole_stage(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    cm.tag("train", 1, "good")
    cm.tag("train", 2, "best")
    dry = cli("delete", "train", "--all", "--dry-run")
    assert dry.code == 0
    assert dry.err == ("To be deleted for good: the whole stage train, with 3 versions (33 B), and its tags best, good\n")
    assert len(cm.history("train")) == 3
    done = cli("delete", "train", "--all", "--yes")
    assert done.code == 0
    assert done.err.splitlines()[-1] == "stage train deleted for good, with its 3 versions"
    assert cli("list").out == "clean\n"
    assert cli("has", "train").code == 1
    assert cli("status").code == 0
    assert cli("verify").code == 0
    for command in ("log", "show", "clear", "diff", "delete --all", "prune --keep-last 1", "tag"):
        assert cli(*command.split(), "train").code == 14, command
    assert cli("delete", "clean", "--all", "--yes", "--json").json["versions"] == [1]


def test_a_whole_stage_is_asked_for_once(program: Cli, store: Path) -> None:
    refused = program("delete", "train", "--all")
    assert refused.code == 2
    assert 'ask "Delete the stage?"' in refused.err
    assert len(CheckpointManager(store).history("train")) == 3


def test_it_must_be_said_what_is_deleted(cli: Cli, store: Path) -> None:
    assert cli("delete", "train", "--yes").code == 2
    assert cli("delete", "train", "1", "--all", "--yes").code == 2
    assert len(CheckpointManager(store).history("train")) == 3


def test_what_can_not_be_deleted_says_so_before_a_plan(cli: Cli, store: Path) -> None:
    CheckpointManager(store).tag("train", 1, "good")
    for versions, code, why in (
        ("train 9", 14, "there is no version 9"),
        ("nothing 1", 14, "there is no"),
        ("train 3", 16, "is the newest"),
        ("train 1 2", 16, "is tagged good"),
    ):
        for end in ("--yes", "--dry-run"):
            result = cli("delete", *versions.split(), end)
            assert result.code == code
            assert why in result.err
            assert "To be deleted" not in result.err
