"""``verify``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, Finding
from checkpoint_manager.cli.commands.verify import next_step

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def damage(store: Path, version: int) -> None:
    path = store / "history" / "train" / f"{version:012d}.checkpoint"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_a_whole_store(cli: Cli, store: Path) -> None:
    assert (cli("verify").code, cli("verify").out) == (0, "4 whole\n")
    assert cli("verify", "train").out == "3 whole\n"


def test_a_version_of_a_newer_format_asks_for_an_update(cli: Cli, store: Path) -> None:
    path = store / "history" / "train" / "000000000002.checkpoint"
    path.write_bytes(path.read_bytes().replace(b"checkpoint-manager/1", b"checkpoint-manager/2", 1))
    result = cli("verify")
    assert (result.code, result.out.splitlines()[-1]) == (13, "1 newer, 3 whole")
    assert "Update checkpoint-manager" in result.err
    repaired = cli("repair", "--yes")
    assert repaired.code == 3
    assert "not repaired: train@2" in repaired.err
    assert path.exists()


def test_an_empty_store(cli: Cli, tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "checkpoints")
    assert cli("verify").out == "nothing saved yet\n"


def test_damage_is_named_and_makes_the_exit_code(cli: Cli, store: Path) -> None:
    damage(store, 2)
    result = cli("verify")
    assert result.code == 13
    assert result.out.splitlines()[1].split()[:3] == ["damaged", "train", "2"]
    assert result.out.splitlines()[-1] == "1 damaged, 3 whole"
    assert "repair" in result.err
    document = cli("verify", "--json").json
    assert not document["ok"]
    assert [f["state"] for f in document["findings"]] == ["whole", "whole", "damaged", "whole"]


def test_a_stage_that_is_not_there_is_not_whole(cli: Cli, store: Path) -> None:
    result = cli("verify", "trian")
    assert (result.code, result.out) == (14, "")
    assert "did you mean train?" in result.err


def test_what_is_missing_leads_further(cli: Cli, store: Path) -> None:
    (store / "history" / "train" / "000000000002.checkpoint").unlink()
    result = cli("verify")
    assert result.err.endswith("or go on without it: checkpoint-manager repair --accept-rollback\n")
    partly = cli("repair", "--yes")
    assert partly.code == 3
    assert "or go on without it: checkpoint-manager repair --accept-rollback\n" in partly.err
    accepted = cli("repair", "--accept-rollback", "--yes")
    assert accepted.code == 0
    assert "nothing to repair" not in accepted.err
    assert cli("verify").code == 0


@pytest.mark.parametrize(
    ("states", "step"),
    [
        (["damaged", "unfinished"], "Finish the rotation with: checkpoint-manager key rotate"),
        (["incomplete"], "Put the attachments back from a backup, run the stage again"),
        (["clock"], "Check the clock of this host"),
        (["clock", "damaged"], "See what can be done: checkpoint-manager repair --dry-run"),
    ],
)
def test_problems_lead_to_the_step_that_comes_first(states: list[Any], step: str) -> None:
    assert next_step([Finding("train", number, state) for number, state in enumerate(states, 1)]).startswith(step)
