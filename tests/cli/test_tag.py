"""``tag``"""

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


def test_set_list_and_take_away(cli: Cli, store: Path) -> None:
    assert cli("tag", "train@prev", "good").out == "train@2 good\n"
    assert cli("tag", "train", "best").out == "train@3 best\n"
    assert cli("tag", "clean", "good", "--json").json["version"]["version"] == 1
    assert [line.split() for line in cli("tag").out.splitlines()[1:]] == [
        ["clean", "good", "1"],
        ["train", "best", "3"],
        ["train", "good", "2"],
    ]
    assert cli("tag", "train", "--json").json["tags"] == [
        {"stage": "train", "tag": "best", "version": 3},
        {"stage": "train", "tag": "good", "version": 2},
    ]
    assert cli("tag", "--delete", "train", "good").out == ""
    assert cli("tag", "--delete", "train", "best", "--json").json["deleted"] == "best"
    result = cli("tag", "train")
    assert (result.code, result.out) == (0, "")
    assert "no tags yet" in result.err


def test_a_name_moves_only_by_force(cli: Cli, store: Path) -> None:
    cli("tag", "train@1", "good")
    result = cli("tag", "train@2", "good")
    assert result.code == 16
    assert "--force" in result.err
    assert cli("tag", "train@2", "good", "--force").out == "train@2 good\n"


def test_by_moment(cli: Cli, store: Path) -> None:
    moment = CheckpointManager(store).history("train")[1].created_at.isoformat()
    assert cli("tag", "train", "good", "--at", moment).out == "train@2 good\n"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--delete", "train"], 2),
        (["--delete", "--force", "train", "good"], 2),
        (["--delete", "train", "good"], 14),
        (["--force", "train"], 2),
        (["--all"], 2),
        (["--all", "train", "good"], 2),
        (["--all", "--delete", "good"], 2),
        (["--all", "failed"], 2),
        (["--at", "1d", "train"], 2),
        (["--at", "soon", "train", "good"], 2),
        (["train@1", "good", "--at", "0s"], 2),
        (["train", "7"], 2),
        (["train", "latest"], 2),
        (["train@9", "good"], 14),
        (["train@bad", "good"], 14),
        (["nothing"], 14),
        (["nothing", "good"], 14),
    ],
    ids=str,
)
def test_what_can_not_be(cli: Cli, store: Path, arguments: list[str], code: int) -> None:
    result = cli("tag", *arguments)
    assert (result.code, result.out) == (code, ""), result.err
    assert CheckpointManager(store).tags("train") == {}


def test_a_tag_names_a_version_everywhere(cli: Cli, store: Path) -> None:
    cli("tag", "train@1", "good")
    assert json.loads(cli("show", "train@good").out) == {"epoch": 1}
    assert "version 1 → 3" in cli("diff", "train", "good").err
    assert cli("restore", "train@good", "--yes").out == "train@4\n"
    assert "tag good" in cli("log", "train").out
    assert cli("log", "train", "--json").json["versions"][-1]["tags"] == ["good"]


def test_and_so_does_a_moment(cli: Cli, store: Path) -> None:
    moment = CheckpointManager(store).history("train")[2].created_at.isoformat()
    assert json.loads(cli("show", "train", "--at", moment).out) == {"epoch": 1}
    assert "version 1 → 3" in cli("diff", "train", "--at", moment).err
    assert cli("restore", "train", "--at", moment, "--yes").out == "train@4\n"
    assert cli("show", "train", "--at", "1w").code == 14
    assert cli("show", "train@1", "--at", "1w").code == 2
    result = cli("show", "train", "--at", "then")
    assert result.code == 2
    assert "is not a time" in result.err


def test_what_has_a_tag_is_not_deleted(cli: Cli, store: Path) -> None:
    cli("tag", "train@1", "good")
    result = cli("delete", "train", "1", "--yes")
    assert result.code == 16
    assert "tag --delete" in result.err
    assert len(CheckpointManager(store).history("train")) == 3


def test_a_log_is_shown_also_if_the_tags_are_damaged(cli: Cli, store: Path) -> None:
    cli("tag", "train@1", "good")
    (store / "history" / "train" / "tags").write_bytes(b"damaged")
    result = cli("log", "train")
    assert result.code == 0
    assert len(result.out.splitlines()) == 4
    assert "warning: the record of tags" in result.err
    assert cli("show", "train@good").code == 13


def test_a_pipeline_of_which_nothing_is_done_has_nothing_to_tag(cli: Cli, tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "checkpoints")
    result = cli("tag", "--all", "good")
    assert (result.code, result.out) == (0, "")
    assert "nothing to tag" in result.err
    assert cli("tag", "--all", "good", "--json").json["versions"] == []


def test_a_stage_that_gets_no_tag_is_named(cli: Cli, store: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        CheckpointManager(store).stage("broken")(lambda: 1 / 0)()
    assert "not tagged, because they have no completed version: broken\n" in cli("tag", "--all", "good").err
