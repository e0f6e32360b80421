"""``copy``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_each_goes_its_own_way(cli: Cli, store: Path, tmp_path: Path) -> None:
    cm = CheckpointManager(store)
    cm.tag("train", 1, "good")
    result = cli("copy", "there", "--json")
    assert (result.code, result.json["versions"]) == (0, 4)
    there = CheckpointManager(tmp_path / "there")
    assert there.load_checkpoint("train", "good") == {"epoch": 1}
    there.save_checkpoint("train", "there")
    for number in range(3):
        cm.save_checkpoint("train", number)
    assert there.load_checkpoint("train") == "there"
    assert cm.load_checkpoint("train") == 2
    assert there.verify().ok
    assert cm.verify().ok


def test_a_tag_that_was_moved_since_is_told(cli: Cli, store: Path) -> None:
    cli("tag", "train@1", "good")
    cli("copy", "there")
    cli("tag", "--force", "train@2", "good")
    assert "stage train: these tags name other versions there and were not moved: good" in cli("copy", "there").err


def test_nothing_is_mixed(cli: Cli, store: Path) -> None:
    assert "copied to there: 2 stages, 4 versions (4 new)" in cli("copy", "there").err
    assert "4 versions (0 new)" in cli("copy", "there").err
    assert "is this one" in cli("copy", "checkpoints").err
    CheckpointManager("forked").save_checkpoint("train", "another history")
    result = cli("copy", "forked")
    assert (result.code, "another history of stage train. Choose a place" in result.err) == (16, True)
    CheckpointManager("there").save_checkpoint("another", 1)
    result = cli("copy", "there")
    assert (result.code, "has other stages already, such as another" in result.err) == (16, True)


def test_a_damaged_store_is_not_copied(cli: Cli, store: Path) -> None:
    (store / "history" / "train" / "000000000001.checkpoint").write_bytes(b"damaged")
    assert cli("copy", "there").code == 13
    assert cli("list", "--store", "there").out == ""


def test_with_another_key(cli: Cli, there: tuple[str, ...], tmp_path: Path) -> None:
    assert cli("copy", "copied", *there).code == 0
    assert cli("list", "--store", "copied", "--key", there[3]).code == 0
