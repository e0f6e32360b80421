"""``show``"""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import numpy as np
import pytest

from checkpoint_manager import CheckpointManager, Codec
from tests.strategies import same

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


@pytest.mark.children_measured
def test_an_array_in_the_data_is_listed_and_printed_by_its_pointer(cli: Cli, store: Path, tmp_path: Path) -> None:
    """A large one lies beside the data, and a small one in it."""
    cm, arrays = CheckpointManager(store), {"/a~1~0b": np.arange(5000.0), "/small/0": np.arange(3), "/last": np.ones(3000)}
    data = {"a/~b": arrays["/a~1~0b"], "small": [arrays["/small/0"]], "text": "x", "last": arrays["/last"]}
    cm.save_checkpoint("arrays", data, attachments={"raw": b"1"})
    listed = json.loads(cli("show", "arrays", "--meta").out)["attachments"]
    assert [(each["name"], each["detail"]) for each in listed] == [
        ("/a~1~0b", "5000 float64"),
        ("/small/0", "3 int64"),
        ("/last", "3000 float64"),
        ("raw", ""),
    ]
    found = cm.get_json("arrays").attachments
    for name, array in arrays.items():
        assert same(found[name].load(), array)
        assert len(found[name].read()) == found[name].size
        found[name].save_to(tmp_path / "array.npy", overwrite=True)
        assert same(np.load(tmp_path / "array.npy"), array)
    command = [sys.executable, "-m", "checkpoint_manager", "show", "arrays", "--attachment", "/a~1~0b"]
    printed = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True).stdout
    assert same(np.load(io.BytesIO(printed)), arrays["/a~1~0b"])
    assert "arrays in the data (62.8 KiB), raw (1 B)" in " ".join(cli("log", "arrays").out.split())
    result = cli("show", "arrays", "--attachment", "/text")
    assert (result.code, "Choose one that it has: /a~1~0b, /small/0, /last, raw" in result.err) == (14, True)


def test_a_missing_attachment_leads_to_those_there_are(cli: Cli, store: Path) -> None:
    assert "Choose another version: this one has none\n" in cli("show", "train", "--attachment", "weights").err
    CheckpointManager(store).save_checkpoint("train", attachments={"log": b"epoch 4"})
    told = cli("show", "train", "--attachment", "weights").err
    assert "it has: log, and see what they are with: checkpoint-manager show train@4 --meta\n" in told


def test_a_time_is_told_as_it_was_given_in_local_time(cli: Cli, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        result = cli("show", "train", "--at", "2020-01-01T10:00")
    finally:
        monkeypatch.undo()
        time.tzset()
    assert (result.code, "had no version at 2020-01-01T10:00:00+09:00" in result.err) == (14, True)
