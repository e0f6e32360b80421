"""``init``, ``save``, ``clear``, ``delete``, ``has``, ``list``: what a shell script needs to resume."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


class TestInit:
    def test_it_makes_a_store_and_leaves_one_that_is_there(self, cli: Cli, tmp_path: Path) -> None:
        assert cli("init").code == 0
        assert (tmp_path / "checkpoints" / "keyring.json").exists()
        before = (tmp_path / "checkpoints" / "keyring.json").read_bytes()
        result = cli("init", "--json")
        assert result.json["stages"] == []
        assert (tmp_path / "checkpoints" / "keyring.json").read_bytes() == before

    def test_with_a_passphrase(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "secret").write_text("correct horse battery staple\n")
        (tmp_path / "secret").chmod(0o600)
        assert cli("init", "--store", "other", "--passphrase-file", "secret").code == 0
        assert [
            slot["kind"]
            for slot in cli("key", "list", "--store", "other", "--passphrase-file", "secret", "--json").json["slots"]
        ] == ["passphrase"]


class TestHasAndList:
    def test_the_exit_code_is_the_answer(self, cli: Cli, store: Path) -> None:
        assert [cli("has", stage).code for stage in ("train", "nothing")] == [0, 1]
        CheckpointManager(store).clear_checkpoint("train")
        result = cli("has", "train", "--json")
        assert (result.code, result.json["has"]) == (1, False)
        assert cli("has", "train").out == ""

    def test_names_one_on_each_line(self, cli: Cli, store: Path) -> None:
        CheckpointManager(store).save_checkpoint("with\nline")
        assert cli("list").out.splitlines() == ["clean", "train", r"'with\nline'"]
        assert cli("list", "--json").json["stages"] == ["clean", "train", "with\nline"]


class TestSave:
    def test_from_a_file(self, cli: Cli, store: Path, tmp_path: Path) -> None:
        (tmp_path / "data.json").write_text('{"epoch": 4, "loss": null}')
        assert cli("save", "train", "data.json").out == "4\n"
        assert CheckpointManager(store).load_checkpoint("train") == {"epoch": 4, "loss": None}

    def test_from_stdin(self, program: Cli, store: Path) -> None:
        result = program("save", "new", "--json", stdin="[1, 1.0, true]")
        assert json.loads(result.out)["version"]["version"] == 1
        assert CheckpointManager(store).load_checkpoint("new") == [1, 1.0, True]
        assert program("show", "new").out.split() == ["[", "1,", "1.0,", "true", "]"]

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("{", "line 1 column 2"),
            ("", "line 1 column 1"),
            ("[NaN]", "NaN is no JSON value"),
            ('{"a": 1, "a": 2}', "same key twice"),
            ("[" * 100_000, "does not hold JSON"),
            ("\xff\xfe", "does not hold JSON"),
        ],
        ids=["open", "empty", "NaN", "duplicate", "deep", "text"],
    )
    def test_what_is_no_json_saves_nothing(self, cli: Cli, store: Path, tmp_path: Path, text: str, why: str) -> None:
        (tmp_path / "data.json").write_text(text, encoding="latin-1")
        result = cli("save", "train", "data.json")
        assert result.code == 2
        assert why in result.err
        assert len(CheckpointManager(store).history("train")) == 3

    def test_an_integer_that_would_change_is_refused(self, cli: Cli, store: Path, tmp_path: Path) -> None:
        (tmp_path / "data.json").write_text('{"a": [18446744073709551616]}')
        result = cli("save", "train", "data.json")
        assert result.code != 0
        assert "$.a[0]" in result.err

    def test_an_expected_version_that_is_not_the_newest_is_a_conflict(self, cli: Cli, store: Path, tmp_path: Path) -> None:
        (tmp_path / "data.json").write_text("1")
        assert cli("save", "train", "data.json", "--expect", "2").code != 0
        assert cli("save", "train", "data.json", "--expect", "3").out == "4\n"
        assert cli("save", "new", "data.json", "--expect", "0").out == "1\n"


class TestClear:
    def test_one_stage(self, cli: Cli, store: Path) -> None:
        assert cli("clear", "train", "--yes").out == "train@4\n"
        assert not CheckpointManager(store).has_checkpoint("train")
        assert cli("clear", "train", "--yes").out == ""

    def test_all(self, cli: Cli, store: Path) -> None:
        assert [version["stage"] for version in cli("clear", "--all", "--yes", "--json").json["versions"]] == ["clean", "train"]

    def test_a_dry_run_and_a_question_change_nothing(self, cli: Cli, program: Cli, store: Path) -> None:
        assert cli("clear", "--all", "--dry-run").code == 0
        assert program("clear", "train", stdin="y\n").code == 2
        assert CheckpointManager(store).has_checkpoint("train")

    def test_what_is_not_there_says_so(self, cli: Cli, store: Path) -> None:
        assert cli("clear", "nothing", "--yes").code == 14
        assert cli("clear", "--yes").code == 2
        assert cli("clear", "train", "--all", "--yes").code == 2


class TestDelete:
    def test_for_good(self, cli: Cli, store: Path) -> None:
        result = cli("delete", "train", "2", "1", "2", "--yes", "--json")
        assert result.json["versions"] == [1, 2]
        assert [version.number for version in CheckpointManager(store).history("train")] == [3]

    def test_a_dry_run_and_a_question_change_nothing(self, cli: Cli, program: Cli, store: Path) -> None:
        assert "of 3 versions of stage train: 1" in cli("delete", "train", "1", "--dry-run").err
        assert program("delete", "train", "1", stdin="y\n").code == 2
        assert len(CheckpointManager(store).history("train")) == 3

    def test_what_can_not_be_deleted_says_so(self, cli: Cli, store: Path) -> None:
        assert cli("delete", "train", "9", "--yes").code == 14
        assert cli("delete", "nothing", "1", "--yes").code == 14
        newest = cli("delete", "train", "3", "--yes")
        assert newest.code != 0
        assert "is the newest" in newest.err
