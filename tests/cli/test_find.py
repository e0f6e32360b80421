"""``find``"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_it_lists_versions_of_all_stages(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    cm.save_checkpoint("other", 1, metadata={"run": "a7", "epoch": 3, "text": "3"})
    result = cli("find", "--metadata", "run=a7")
    rows = [line.split()[:3] for line in result.out.splitlines()]
    assert rows[:3] == [["STAGE", "VERSION", "STATUS"], ["other", "1", "completed"], ["train", "3", "completed"]]
    assert result.code == 0
    for pair, found in {"epoch=3": True, 'epoch="3"': False, 'text="3"': True, "text=3": False, "run=b8": False}.items():
        assert bool(cli("find", "--metadata", pair).out) == found


@pytest.mark.parametrize(
    "text", ["NaN", "-Infinity", "1e999", "[NaN]", "9" * 20, "9" * 5000, "[" * 5000, "[" * 900 + "]" * 900]
)
def test_what_metadata_can_not_hold_as_json_is_text(cli: Cli, store: Path, text: str) -> None:
    cm = CheckpointManager(store)
    cm.save_checkpoint("null", 1, metadata={"run": None, "list": [None]})
    cm.save_checkpoint("text", 1, metadata={"run": text})
    found = cli("find", "--metadata", f"run={text}", "--json").json
    assert [version["stage"] for version in found["versions"]] == ["text"]


def test_json_is_one_document(cli: Cli, store: Path) -> None:
    document = cli("find", "--stage-prefix", "tr", "--limit", "2", "--json").json
    assert document["command"] == "find"
    assert [version["version"] for version in document["versions"]] == [3, 2]
    nothing = cli("find", "--status", "failed", "--since", "1d", "--json")
    assert (nothing.json["versions"], nothing.code) == ([], 0)


def test_that_there_is_none_is_told(cli: Cli, store: Path) -> None:
    result = cli("find", "--status", "failed")
    assert (result.out, result.code) == ("", 0)
    assert "no version meets these criteria" in result.err


def test_that_a_number_is_not_the_text_is_told(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("other", 1, metadata={"epoch": "3"})  # as save --metadata epoch=3 keeps it
    told = cli("find", "--metadata", "epoch=3")
    assert told.out == ""
    assert told.err.splitlines()[1] == "3 was taken for JSON; to look for the text, write --metadata 'epoch=\"3\"'"
    assert "other" in cli("find", "--metadata", 'epoch="3"').out


def test_damage_that_is_found_shows_in_the_exit_code(cli: Cli, store: Path) -> None:
    damaged = store / "history" / "train" / "000000000002.checkpoint"
    damaged.chmod(0o600)
    damaged.write_bytes(b"x")
    assert cli("find", "--status", "damaged").code == 13
    assert cli("find").code == 13
    told = cli("find", "--status", "completed")
    assert told.code == 0
    assert "1 version of stage train" in told.err
