"""``status``, ``log``, ``show``: stdout is the data, and exactly that."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

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


class TestStatus:
    def test_it_lists_each_stage_with_its_newest_version(self, cli: Cli, store: Path) -> None:
        result = cli("status")
        assert result.code == 0
        lines = result.out.splitlines()
        assert lines[0].split() == ["STAGE", "STATUS", "VERSION", "SAVED", "SIZE"]
        assert [line.split()[:3] for line in lines[1:]] == [["clean", "completed", "1"], ["train", "completed", "3"]]
        assert result.err == ""

    def test_a_cleared_and_a_damaged_stage_say_so(self, cli: Cli, store: Path) -> None:
        CheckpointManager(store).clear_checkpoint("clean")
        flip(store / "train.checkpoint")
        stages = cli("status", "--json").json["stages"]
        assert [(stage["stage"], stage["status"], stage["version"]) for stage in stages] == [
            ("clean", "cleared", 2),
            ("train", "damaged", 3),
        ]
        assert "damaged" in cli("status").out

    def test_an_empty_store_says_so_beside_its_data(self, cli: Cli, tmp_path: Path) -> None:
        CheckpointManager(tmp_path / "checkpoints")
        result = cli("status")
        assert (result.code, result.out) == (0, "")
        assert "no stages yet" in result.err

    def test_a_stage_name_can_move_no_cursor(self, cli: Cli, store: Path) -> None:
        CheckpointManager(store).save_checkpoint("\x1b[2Jevil\nname")
        out = cli("status").out
        assert "\x1b" not in out
        assert r"\x1b[2Jevil\nname" in out


class TestLog:
    def test_it_lists_the_versions_newest_first(self, cli: Cli, store: Path) -> None:
        CheckpointManager(store).restore_checkpoint("train", 1)
        result = cli("log", "train")
        rows = [line.split() for line in result.out.splitlines()[1:]]
        assert [row[0] for row in rows] == ["4", "3", "2", "1"]
        assert "restored from 1" in result.out.splitlines()[1]
        assert "run=a7" in result.out.splitlines()[2]

    def test_json_holds_all_that_is_known(self, cli: Cli, store: Path) -> None:
        document = cli("log", "train", "--json").json
        assert (document["command"], document["stage"]) == ("log", "train")
        version = document["versions"][0]
        known = {"stage", "version", "status", "created_at", "metadata", "origin", "size", "restored_from", "tags"}
        assert set(version) == known
        assert version["origin"]["pid"] == os.getpid()

    def test_a_failure_says_what_was_raised_and_no_more(self, cli: Cli, store: Path) -> None:
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
        assert lines[2].endswith(r"  'ValueError: no rows\x1b[2J'")
        document = cli("log", "train", "--json")
        assert document.json["versions"][1]["failure"] == {"type": "ValueError", "message": "no rows\x1b[2J\nin b.csv"}
        assert document.json["versions"][1]["metadata"] == {}  # the digests of the arguments are nobody's business
        assert document.json["versions"][2]["metadata"] == {"run": "a7"}
        assert "Traceback" not in document.out
        assert "Traceback (most recent call last)" in cli("show", "train@4").out

    def test_progress_says_how_far_it_is(self, cli: Cli, store: Path) -> None:
        with CheckpointManager(store).partial("embed", range(2000), start=0, every_items=400) as progress:
            for item in progress:
                if item == 1200:
                    break
        result = cli("log", "embed")
        assert result.out.splitlines()[1].split()[:2] == ["3", "progress"]
        assert result.out.splitlines()[1].endswith("1,200 of 2,000 items")
        told = cli("log", "embed", "--json").json["versions"][0]["progress"]
        assert (told["done"], told["total"]) == (1200, 2000)

    def test_no_such_stage(self, cli: Cli, store: Path) -> None:
        result = cli("log", "trian")
        assert (result.code, result.out) == (14, "")
        assert "no checkpoint of stage trian" in result.err

    def test_a_piped_table_is_never_cut(self, cli: Cli, store: Path) -> None:
        CheckpointManager(store).save_checkpoint("train", metadata={"note": "x" * 500})
        assert f"note={'x' * 500}" in cli("log", "train").out


class TestShow:
    @pytest.mark.parametrize(("selector", "epoch"), [("train", 3), ("train@latest", 3), ("train@prev", 2), ("train@1", 1)])
    def test_it_prints_the_data_of_the_version_named(self, cli: Cli, store: Path, selector: str, epoch: int) -> None:
        assert json.loads(cli("show", selector).out) == {"epoch": epoch}

    def test_meta(self, cli: Cli, store: Path) -> None:
        assert json.loads(cli("show", "train@2", "--meta").out)["metadata"] == {"run": "a7"}
        document = cli("show", "train@2", "--meta", "--json").json
        assert "data" not in document
        assert document["version"]["version"] == 2

    def test_json(self, cli: Cli, store: Path) -> None:
        document = cli("show", "train@2", "--json").json
        assert (document["data"], document["version"]["version"]) == ({"epoch": 2}, 2)

    @pytest.mark.parametrize("selector", ["train@9", "train@0", "nothing", "clean@prev"])
    def test_what_is_not_there(self, cli: Cli, store: Path, selector: str) -> None:
        result = cli("show", selector)
        assert (result.code, result.out) == (14, "")
        assert result.err.startswith("error: ")

    def test_a_stage_whose_name_ends_like_a_version(self, cli: Cli, store: Path) -> None:
        CheckpointManager(store).save_checkpoint("odd@3", "here")
        assert json.loads(cli("show", "odd@3@latest").out) == "here"

    def test_a_damaged_one_is_refused_without_output(self, cli: Cli, store: Path) -> None:
        flip(store / "train.checkpoint")
        result = cli("show", "train")
        assert (result.code, result.out) == (13, "")
        assert json.loads(cli("show", "train@2").out) == {"epoch": 2}

    def test_a_part_of_it(self, cli: Cli, store: Path) -> None:
        CheckpointManager(store).save_checkpoint("rows", {"rows": [{"name": "a"}]})
        assert cli("show", "rows", "--path", "/rows/0/name").out == '"a"\n'
        assert cli("show", "train@2", "--meta", "--path", "/metadata/run").out == '"a7"\n'
        document = cli("show", "rows", "--path", "/rows/0", "--json").json
        assert (document["path"], document["value"], document["version"]["version"]) == ("/rows/0", {"name": "a"}, 1)

    @pytest.mark.parametrize(("pointer", "code"), [("/rows/7", 14), ("rows", 2)])
    def test_a_part_that_is_not_there(self, cli: Cli, store: Path, pointer: str, code: int) -> None:
        result = cli("show", "train", "--path", pointer)
        assert (result.code, result.out) == (code, "")
        assert pointer in result.err
