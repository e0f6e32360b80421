"""``list``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointManager
from tests.cli.situations import damage, version
from tests.cli.test_clear import pipeline

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_names_one_on_each_line(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("with\nline")
    assert cli("list").out.splitlines() == ["clean", "train", r"'with\nline'"]
    assert cli("list", "--json").json["stages"] == ["clean", "train", "with\nline"]


def test_only_stale_ones(cli: Cli, store: Path) -> None:
    assert cli("list", "--stale").out == ""
    pipeline(store)
    pipeline(store, 2)
    assert cli("list", "--stale").out == "total\n"
    assert cli("list", "--stale", "--json").json["stages"] == ["total"]
    damage(version(store.parent, "train", 3))
    assert (cli("list", "--stale").code, cli("list", "--stale").out) == (13, "total\n")
