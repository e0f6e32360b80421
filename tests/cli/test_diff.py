"""``diff``: stdout is the differences, and exactly that."""

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


def test_the_newest_and_the_one_before_it(cli: Cli, store: Path) -> None:
    result = cli("diff", "train")
    assert (result.code, result.out) == (0, "~ $.epoch: 2 → 3\n")
    assert "version 2 → 3: 1 difference\n" in result.err


@pytest.mark.parametrize("versions", [("1", "3"), ("1", "latest"), ("1",)])
def test_any_two(cli: Cli, store: Path, versions: tuple[str, ...]) -> None:
    assert cli("diff", "train", *versions).out == "~ $.epoch: 1 → 3\n"


def test_redacted_it_shows_no_value(cli: Cli, store: Path) -> None:
    assert cli("diff", "train", "--redact").out == "~ $.epoch: an integer → an integer\n"


def test_for_programs(cli: Cli, store: Path) -> None:
    document = cli("diff", "train", "1", "prev", "--json").json
    assert document["changes"] == [{"kind": "changed", "path": ["epoch"], "old": 1, "new": 2}]
    assert (document["old"]["version"], document["new"]["version"]) == (1, 2)
    patch = [{"op": "replace", "path": "/epoch", "value": 3}]
    assert json.loads(cli("diff", "train", "--patch").out) == patch
    assert cli("diff", "train", "--patch", "--json").json["patch"] == patch


def test_the_exit_code_tells_on_request(cli: Cli, store: Path) -> None:
    assert cli("diff", "train", "--exit-code").code == 1
    same = cli("diff", "train", "2", "2", "--exit-code")
    assert (same.code, same.out) == (0, "")
    assert "no differences" in same.err


def test_what_can_not_be_compared_says_so(cli: Cli, store: Path) -> None:
    assert cli("diff", "clean").code == 14
    assert cli("diff", "train", "9").code == 14
    assert cli("diff", "train", "x").code == 14
    assert cli("diff", "train", "1d").code == 2
    assert cli("diff", "train", "1", "--at", "1d").code == 2
    assert cli("diff", "train", "--at", "1d").code == 14
    assert cli("diff", "train", "--patch", "--redact").code == 2


def test_the_first_differences_only(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    for value in (1, 2):
        cm.save_checkpoint("many", dict.fromkeys("abcd", value))
    result = cli("diff", "many", "--limit", "1")
    assert result.out == "~ $.a: 1 → 2\n"
    assert result.err.endswith("… and 3 more\n")
