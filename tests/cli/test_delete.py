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


def test_what_can_not_be_deleted_says_so(cli: Cli, store: Path) -> None:
    assert cli("delete", "train", "9", "--yes").code == 14
    assert cli("delete", "nothing", "1", "--yes").code == 14
    newest = cli("delete", "train", "3", "--yes")
    assert newest.code != 0
    assert "is the newest" in newest.err
