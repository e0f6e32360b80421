"""``repair``"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def damage(store: Path, version: int) -> None:
    path = store / "history" / "train" / f"{version:012d}.checkpoint"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_nothing_to_do(cli: Cli, store: Path) -> None:
    result = cli("repair")
    assert (result.code, result.out) == (0, "")
    assert "nothing to repair" in result.err


def test_the_plan_is_what_is_done(cli: Cli, store: Path) -> None:
    damage(store, 2)
    before = sorted(store.rglob("*.checkpoint"))
    plan = cli("repair", "--dry-run", "--json").json
    assert [step["action"] for step in plan["steps"]] == ["set-aside"]
    assert sorted(store.rglob("*.checkpoint")) == before
    assert cli("repair", "--dry-run").out == ""
    result = cli("repair", "--yes")
    assert result.code == 0
    assert result.out.startswith("set-aside train@2: ")
    assert cli("verify").code == 0
    assert len(list((store / "damaged").iterdir())) == 1


def test_it_asks_first(program: Cli, store: Path) -> None:
    damage(store, 2)
    result = program("repair")
    assert (result.code, result.out) == (2, "")
    assert "set-aside train@2" in result.err


def test_what_can_not_be_repaired_is_named(cli: Cli, store: Path) -> None:
    (store / "history" / "train" / "000000000002.checkpoint").unlink()
    result = cli("repair", "--yes")
    assert result.code == 3
    assert "not repaired: train@2 is gone without a record of its deletion" in result.err


@pytest.mark.parametrize("as_json", [False, True])
def test_a_rollback_can_be_accepted(cli: Cli, store: Path, as_json: bool) -> None:
    shutil.copytree(store, store.with_name("older"))
    CheckpointManager(store).save_checkpoint("train", {"epoch": 4})
    shutil.rmtree(store)
    shutil.move(store.with_name("older"), store)
    assert cli("show", "train").code == 13
    assert cli("verify").code == 13
    result = cli("repair", "--accept-rollback", "--yes", *(["--json"] if as_json else []))
    assert result.code == 0, result.err
    assert "is accepted as it is now" in result.err
    if as_json:
        assert [version["version"] for version in result.json["accepted"]] == [5]
    assert cli("show", "train").out == '{\n  "epoch": 3\n}\n'
    assert cli("verify").code == 0
