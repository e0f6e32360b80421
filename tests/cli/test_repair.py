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


def test_a_dry_run_names_what_it_can_not_repair(cli: Cli, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "older")
    CheckpointManager(store).save_checkpoint("train", {"epoch": 4})
    shutil.rmtree(store)
    (tmp_path / "older").rename(store)
    dry = cli("repair", "--dry-run")
    assert dry.code == 0
    assert "nothing to repair" not in dry.err
    assert "not repaired: train@4 its newest version is 3, and version 4 was already seen" in dry.err
    assert dry.err.endswith("run: checkpoint-manager repair --accept-rollback; otherwise restore the store from a backup\n")
    planned = cli("repair", "--accept-rollback", "--dry-run")
    assert "to be accepted: train@4 its newest version is 3, and version 4 was already seen" in planned.err
    assert cli("repair", "--accept-rollback", "--yes").code == 0
    assert cli("repair", "--dry-run").err == "nothing to repair in checkpoints\n"


def test_a_planted_folder_that_is_repaired_is_not_a_stage(cli: Cli, store: Path) -> None:
    (store / "history" / "planted").mkdir(mode=0o700)
    (store / "history" / "planted" / "000000000001.checkpoint").write_bytes(b"planted")
    (store / "history" / "planted" / "000000000001.checkpoint").chmod(0o600)
    listed = cli("list")
    assert listed.out == "clean\ntrain\n"
    assert listed.err.count("Not counted as a stage: planted") == 1
    assert cli("repair", "--yes").code == 0
    assert cli("list").out == "clean\ntrain\n"
    assert cli("verify").code == 0
    assert CheckpointManager(store).save_checkpoint("planted", 1).number == 3
