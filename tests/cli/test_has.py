"""``has``: what a shell script needs to resume."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_the_exit_code_is_the_answer(cli: Cli, store: Path) -> None:
    assert [cli("has", stage).code for stage in ("train", "nothing")] == [0, 1]
    CheckpointManager(store).clear_checkpoint("train")
    result = cli("has", "train", "--json")
    assert (result.code, result.json["has"]) == (1, False)
    assert cli("has", "train").out == ""
