"""``show``"""

from __future__ import annotations

import json
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, Codec

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


@pytest.mark.parametrize(("selector", "epoch"), [("train", 3), ("train@latest", 3), ("train@prev", 2), ("train@1", 1)])
def test_it_prints_the_data_of_the_version_named(cli: Cli, store: Path, selector: str, epoch: int) -> None:
    assert json.loads(cli("show", selector).out) == {"epoch": epoch}


def test_meta(cli: Cli, store: Path) -> None:
    assert json.loads(cli("show", "train@2", "--meta").out)["metadata"] == {"run": "a7"}
    document = cli("show", "train@2", "--meta", "--json").json
    assert "data" not in document
    assert document["version"]["version"] == 2


def test_json(cli: Cli, store: Path) -> None:
    document = cli("show", "train@2", "--json").json
    assert (document["data"], document["version"]["version"]) == ({"epoch": 2}, 2)


def test_values_that_json_does_not_have_are_shown_in_their_forms(cli: Cli, store: Path) -> None:
    """Whatever codecs they need; and a dict that looks like a form is told from one."""
    codec = Codec(Fraction, "fraction", str, Fraction)
    cm = CheckpointManager(store, codecs=[codec])
    cm.save_checkpoint("odd", {"share": Fraction(1, 3), "pair": (1, float("nan")), 7: {"!tuple": [1]}})
    cm.save_checkpoint("plain", {"a": {"!tuple": [1]}})
    share, pair = {"!codec": ["fraction", "1/3"]}, {"!tuple": [1, {"!float": "nan"}]}
    form = [["share", share], ["pair", pair], [7, {"!dict": [["!tuple", [1]]]}]]
    assert json.loads(cli("show", "odd").out) == {"!dict": form}
    assert cli("show", "odd", "--json").json["data"] == {"!dict": form}
    assert json.loads(cli("show", "odd", "--path", "/!dict/0/1").out) == share
    assert json.loads(cli("show", "plain").out) == {"a": {"!dict": [["!tuple", [1]]]}}
    assert cli("restore", "odd@1", "--yes").code == 0
    assert cli("verify").code == 0
    assert cm.load_checkpoint("odd")["share"] == Fraction(1, 3)


@pytest.mark.parametrize("selector", ["train@9", "train@0", "nothing", "clean@prev"])
def test_what_is_not_there(cli: Cli, store: Path, selector: str) -> None:
    result = cli("show", selector)
    assert (result.code, result.out) == (14, "")
    assert result.err.startswith("error: ")


def test_a_stage_whose_name_ends_like_a_version(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("odd@3", "here")
    assert json.loads(cli("show", "odd@3@latest").out) == "here"


def test_a_damaged_one_is_refused_without_output(cli: Cli, store: Path) -> None:
    flip(store / "train.checkpoint")
    result = cli("show", "train")
    assert (result.code, result.out) == (13, "")
    assert json.loads(cli("show", "train@2").out) == {"epoch": 2}


def test_a_part_of_it(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("rows", {"rows": [{"name": "a"}]})
    assert cli("show", "rows", "--path", "/rows/0/name").out == '"a"\n'
    assert cli("show", "train@2", "--meta", "--path", "/metadata/run").out == '"a7"\n'
    document = cli("show", "rows", "--path", "/rows/0", "--json").json
    assert (document["path"], document["value"], document["version"]["version"]) == ("/rows/0", {"name": "a"}, 1)


@pytest.mark.parametrize(("pointer", "code"), [("/rows/7", 14), ("rows", 2)])
def test_a_part_that_is_not_there(cli: Cli, store: Path, pointer: str, code: int) -> None:
    result = cli("show", "train", "--path", pointer)
    assert (result.code, result.out) == (code, "")
    assert pointer in result.err
