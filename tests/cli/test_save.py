"""``save``"""

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


def test_from_a_file(cli: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"epoch": 4, "loss": null}')
    assert cli("save", "train", "data.json").out == "4\n"
    assert CheckpointManager(store).load_checkpoint("train") == {"epoch": 4, "loss": None}


def test_from_stdin(program: Cli, store: Path) -> None:
    result = program("save", "new", "--json", stdin="[1, 1.0, true]")
    assert json.loads(result.out)["version"]["version"] == 1
    assert CheckpointManager(store).load_checkpoint("new") == [1, 1.0, True]
    assert program("show", "new").out.split() == ["[", "1,", "1.0,", "true", "]"]


def test_a_version_of_a_stage_is_not_taken_for_a_new_stage(cli: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("4")
    refused = cli("save", "train@1", "data.json")
    assert (refused.code, refused.out) == (2, "")
    assert "train@1 names version 1 of stage train, and save makes a new one. Name the stage alone" in refused.err
    assert CheckpointManager(store).stages() == ["clean", "train"]
    assert cli("save", "train@1", "data.json", "--expect", "0").out == "1\n"
    assert cli("save", "train@1", "data.json").out == "2\n"
    assert cli("save", "maria@example.org", "data.json").out == "1\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "line 1 column 2"),
        ("", "it is empty"),
        ("[NaN]", "NaN is not a JSON value"),
        ("[1e999]", "1e999 is beyond the range"),
        ("[-1.5" + "0" * 9999 + "e+400]", "-1.50000"),
        ("[1" + "0" * 5000 + "]", "value has 5001 digits)"),
        ('{"a": 1, "a": 2}', "same key twice"),
        ("[" * 100_000, "nested too deep"),
        ("\xff\xfe", "does not hold JSON"),
    ],
    ids=["open", "empty", "NaN", "overflow", "long", "digits", "duplicate", "deep", "text"],
)
def test_what_is_no_json_saves_nothing(cli: Cli, store: Path, tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "data.json").write_text(text, encoding="latin-1")
    result = cli("save", "train", "data.json")
    assert result.code == 2
    assert why in result.err
    assert len(result.err) < 500
    assert len(CheckpointManager(store).history("train")) == 3


def test_an_integer_of_any_size_comes_back(cli: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"a": [18446744073709551616]}')
    assert cli("save", "train", "data.json").code == 0
    assert CheckpointManager(store).load_checkpoint("train") == {"a": [2**64]}
    assert json.loads(cli("show", "train").out) == {"a": [{"!int": "0x10000000000000000"}]}


def test_json_that_looks_like_a_form_is_saved_as_it_is(cli: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"!tuple": [1]}')
    assert cli("save", "train", "data.json").code == 0
    assert CheckpointManager(store).load_checkpoint("train") == {"!tuple": [1]}


def test_an_expected_version_that_is_not_the_newest_is_a_conflict(cli: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text("1")
    assert cli("save", "train", "data.json", "--expect", "2").code != 0
    assert cli("save", "train", "data.json", "--expect", "3").out == "4\n"
    assert cli("save", "new", "data.json", "--expect", "0").out == "1\n"


def test_metadata(cli: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text("1")
    result = cli("save", "train", "one.json", "--metadata", "run=b8", "--metadata", "note=a=b", "--json")
    assert result.json["version"]["metadata"] == {"run": "b8", "note": "a=b"}
    assert cli("log", "train", "--grep-metadata", "run=b8").out.splitlines()[1].startswith("4 ")
    for wrong in (["run"], ["=x"], ["a=1", "--metadata", "a=2"], ["@stage=1"]):
        result = cli("save", "train", "one.json", "--metadata", *wrong)
        assert (result.code, result.out) == (2, "")


def test_attached_files_are_listed_and_printed(cli: Cli, program: Cli, store: Path, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(2048))
    (tmp_path / "data.json").write_text("4")
    assert cli("save", "train", "data.json", "--attach", "weights=weights.bin", "--attach", "copy=weights.bin").out == "4\n"
    assert "weights (2.0 KiB), copy (2.0 KiB)" in " ".join(cli("log", "train", "--limit", "1").out.split())
    document = cli("show", "train", "--meta", "--json").json
    assert [(each["name"], each["kind"], each["size"]) for each in document["version"]["attachments"]] == [
        ("weights", "file", 2048),
        ("copy", "file", 2048),
    ]
    assert program("show", "train", "--attachment", "weights").out == "\0" * 2048


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("save", "train", "data.json", "--attach", "a=data.json", "--attach", "a=data.json"), 2, "twice"),
        (("save", "train", "data.json", "--attach", "a=gone"), 20, "gone"),
        (("save", "train", "data.json", "--attach", "gone"), 2, "gone is not of the form NAME=PATH"),
        (("save", "train", "data.json", "--attach", "a=."), 2, "directory"),
        (("show", "train", "--attachment", "weights"), 14, "this one has none"),
        (("show", "train", "--attachment", "weights", "--json"), 2, "combined"),
    ],
)
def test_what_can_not_be_attached_or_printed(
    cli: Cli, store: Path, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "data.json").write_text("4")
    result = cli(*arguments)
    assert (result.code, result.out) == (code, "")
    assert told in result.err
    assert CheckpointManager(store).history("train")[0].number == 3


def test_no_input_is_said_to_be_empty(program: Cli, store: Path) -> None:
    result = program("save", "train", stdin="")
    assert result.code == 2
    assert "<stdin> does not hold JSON (it is empty)" in result.err
