"""``status``"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from tests.cli.test_clear import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    with path.open("r+b") as file:
        file.write(data)


def test_it_lists_each_stage_with_its_newest_version(cli: Cli, store: Path) -> None:
    result = cli("status")
    assert result.code == 0
    lines = result.out.splitlines()
    assert lines[0].split() == ["STAGE", "STATUS", "VERSION", "SAVED", "SIZE"]
    assert [line.split()[:3] for line in lines[1:]] == [["clean", "completed", "1"], ["train", "completed", "3"]]
    assert result.err == ""


def test_a_cleared_and_a_damaged_stage_say_so(cli: Cli, store: Path) -> None:
    CheckpointManager(store).clear_checkpoint("clean")
    flip(store / "train.checkpoint")
    stages = cli("status", "--json").json["stages"]
    assert [(stage["stage"], stage["status"], stage["version"]) for stage in stages] == [
        ("clean", "cleared", 2),
        ("train", "damaged", 3),
    ]
    assert "damaged" in cli("status").out


def test_an_empty_store_says_so_beside_its_data(cli: Cli, tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "checkpoints")
    result = cli("status")
    assert (result.code, result.out) == (0, "")
    assert "no stages yet" in result.err


def test_looking_at_a_folder_named_history_makes_no_store(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "history" / "notes").mkdir(parents=True)
    result = cli("status")
    assert result.code == 10
    assert "there is no checkpoint store" in result.err
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["history"]


def test_a_stage_name_can_move_no_cursor(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("\x1b[2Jevil\nname")
    out = cli("status").out
    assert "\x1b" not in out
    assert r"\x1b[2Jevil\nname" in out


def test_a_stage_of_a_newer_format_and_one_that_vanished_do_not_hide_the_others(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    cm.save_checkpoint("new", 1)
    cm.save_checkpoint("gone", 1)
    (store / "history" / "new" / "000000000002.checkpoint").write_bytes(b'{"format":"checkpoint-manager/2"}\n')
    for place in ((store / "history" / "gone"), (store / "gone.checkpoint")):
        shutil.rmtree(place) if place.is_dir() else place.unlink()
    result = cli("status", "--json")
    assert result.code == 13
    states = {stage["stage"]: stage["status"] for stage in result.json["stages"]}
    assert states == {"clean": "completed", "train": "completed", "new": "damaged", "gone": "rolled-back"}
    told = cli("status")
    assert told.code == 13
    assert told.err.count("error: ") == 2


def test_a_newest_version_that_is_a_failure_or_half_a_loop_is_shown_as_such(cli: Cli, store: Path) -> None:
    with CheckpointManager(store).loop("clean", range(2000), initial=0, every_items=400) as progress:
        for item in progress:
            if item == 1200:
                break
    row = cli("status", "--json").json["stages"][0]
    assert (row["stage"], row["status"], row["note"]) == ("clean", "progress", "1,200 of 2,000 items")
    assert "1,200 of 2,000 items" in cli("status").out
    assert cli("has", "clean").code == 1


def test_what_runs_now_is_shown_with_its_progress(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    with cm.loop("train", range(2000), initial=0, bar=False) as outer, cm.loop("new", "ab", initial=0, key=1) as inner:
        next(iter(outer))
        next(iter(inner))
        rows = {row["stage"]: row for row in cli("status", "--json").json["stages"]}
        shown = cli("status").out
    assert [(rows[stage]["status"], rows[stage]["version"]) for stage in ("new", "train")] == [("new", None), ("completed", 3)]
    (run,) = rows["train"]["running"]
    assert (run["done"], run["total"], run["pid"], run["host"]) == (0, 2000, os.getpid(), os.uname().nodename)
    assert rows["clean"]["running"] == []
    assert [line.split()[:2] for line in shown.splitlines()[1:]] == [
        ["clean", "completed"],
        ["new", "running"],
        ["train", "running"],
    ]
    assert f"process {os.getpid()}" in shown
    assert "0 of 2,000 items, for " in shown


def test_a_stage_that_has_never_run_is_new(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    functions = [cm.stage(name)(lambda: 1) for name in ("load", "report")]
    functions[0]()
    assert "report  new" in cli("status").out
    assert {each["stage"]: each["status"] for each in cli("status", "--json").json["stages"]}["report"] == "new"


def test_many_runs_of_a_stage_are_counted_and_one_that_tells_nothing_is_named(cli: Cli, store: Path) -> None:
    backend = CheckpointManager(store)._store.backend
    with backend.lock("train", 0, purpose="run", name="1" * 32), backend.lock("train", 0, purpose="run", name="2" * 32):
        assert "its process tells nothing that this key opens, and 1 run more" in cli("status").out.replace("\n", " ")


class TestSeveralStores:
    @pytest.fixture(autouse=True)
    def others(self, store: Path) -> None:
        CheckpointManager(store.parent / "other").save_checkpoint("load", 1)
        CheckpointManager(f"sqlite:///{store.parent}/store.db").save_checkpoint("serve", 1)

    def test_are_shown_one_after_the_other(self, cli: Cli) -> None:
        result = cli("status", "--store", "checkpoints", "--store", "other")
        assert result.code == 0
        assert [line for line in result.out.splitlines() if " " not in line] == ["checkpoints", "", "other"]
        assert "load" in result.out
        stores = cli("status", "--store", "checkpoints", "--store", "other", "--json").json["stores"]
        assert [(each["store"], [row["stage"] for row in each["stages"]]) for each in stores] == [
            ("checkpoints", ["clean", "train"]),
            ("other", ["load"]),
        ]

    def test_are_found_below_a_folder(self, cli: Cli, tmp_path: Path) -> None:
        stores = cli("status", "--scan", str(tmp_path), "--json").json["stores"]
        assert [len(each["stages"]) for each in stores] == [2, 1, 1]
        stores = cli("status", "--scan", str(tmp_path), "--store", "other", "--store", "./other", "--json").json["stores"]
        assert [len(each["stages"]) for each in stores] == [1, 2, 1]  # each once

    def test_one_that_cant_be_read_hides_no_other(self, cli: Cli, store: Path) -> None:
        result = cli("status", "--store", "nowhere", "--store", "other")
        assert result.code == 3
        assert "no checkpoint store at" in result.err
        assert "load" in result.out
        told = cli("status", "--store", "nowhere", "--store", "other", "--json")
        assert [(each["exit_code"], bool(each["problem"])) for each in told.json["stores"]] == [(10, True), (0, False)]
        flip(store / "train.checkpoint")
        assert cli("status", "--store", "nowhere", "--store", "checkpoints").code == 13

    def test_a_folder_without_any_is_no_store(self, cli: Cli, tmp_path: Path) -> None:
        for name in ("empty", "there"):
            (tmp_path / name).mkdir()
        result = cli("status", "--scan", "empty")
        assert (result.code, result.out) == (10, "")
        assert "there is no store in empty, nor below" in result.err
        both = cli("status", "--scan", "empty", "--scan", "there")
        assert "there is no store in empty or there, nor below" in both.err
        assert cli("status", "--scan", "nowhere").code == 20

    def test_one_store_alone_is_told_as_before(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", "other")
        assert set(cli("status", "--json").json) >= {"store", "stages"}
        assert cli("status", "--json").json["store"] == "other"


class TestAStageThatIsMissing:
    """From a copy that was put back: each command notices it, and shows the others."""

    @pytest.fixture(autouse=True)
    def gone(self, store: Path) -> None:
        cm = CheckpointManager(store)
        cm.save_checkpoint("gone", 1)
        cm.tag("train", 1, "good")
        shutil.rmtree(store / "history" / "gone")
        (store / "gone.checkpoint").unlink()

    @pytest.mark.parametrize(
        ("command", "healthy"),
        [
            ("status", "train"),
            ("list", "train"),
            ("tag", "good"),
            ("verify", "whole"),
            ("prune --keep-last 1 --yes", "train@2"),
            ("restore --all --at 0s --yes", "train: 3 (completed) stays as it is"),
        ],
    )
    def test_of_all_stages(self, cli: Cli, command: str, healthy: str) -> None:
        result = cli(*command.split())
        assert result.code == 13
        assert healthy in result.out + result.err
        assert "gone" in result.out + result.err

    @pytest.mark.parametrize(
        "command",
        [
            "show gone",
            "has gone",
            "log gone",
            "tag gone",
            "tag gone good",
            "tag --all good",
            "diff gone",
            "save gone",
            "restore gone@1 --yes",
            "clear gone --yes",
            "clear --all --yes",
            "delete gone 1 --yes",
            "prune gone --keep-last 1 --yes",
            "export all.bundle --bundle-key file:bundle.key",
            "export gone all.bundle --bundle-key file:bundle.key",
            "run gone -- true",
        ],
    )
    def test_of_one_stage(self, cli: Cli, store: Path, command: str) -> None:
        if command == "save gone":
            (store.parent / "one.json").write_text("1")
            command = "save gone one.json"
        result = cli(*command.split())
        assert (result.code, result.out) == (13, "")
        assert "gone" in result.err
        assert "repair --accept-rollback" in result.err

    def test_programs_are_told_of_it_beside_the_others(self, cli: Cli) -> None:
        for command in ("list", "tag", "prune --keep-last 1 --dry-run"):
            result = cli(*command.split(), "--json")
            assert result.code == 13
            assert [problem["stage"] for problem in result.json["problems"]] == ["gone"]
        assert cli("list", "--json").json["stages"] == ["clean", "gone", "train"]


def test_a_stage_that_was_made_of_what_is_out_of_date_is_stale(cli: Cli, store: Path) -> None:
    pipeline(store)
    assert "stale" not in cli("status").out
    pipeline(store, 2)
    found = cli("status", "--json")
    why = "made of version 1 of rows, which is now version 2"
    assert {row["stage"]: (row["status"], row["stale"]) for row in found.json["stages"]} == {
        "clean": ("completed", None),
        "rows": ("completed", None),
        "total": ("completed", why),
        "train": ("completed", None),
    }
    shown = cli("status")
    line = next(line for line in shown.out.splitlines() if line.startswith("total"))
    assert line.split()[:3] == ["total", "stale", "1"]
    assert line.endswith(why)
    assert (found.code, shown.code) == (0, 0)
