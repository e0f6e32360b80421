"""``clear``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def test_one_stage(cli: Cli, store: Path) -> None:
    assert cli("clear", "train", "--yes").out == "train@4\n"
    assert not CheckpointManager(store).has_checkpoint("train")
    again = cli("clear", "train", "--yes")
    assert (again.code, again.out, again.err) == (0, "", "Cleared already in checkpoints: train\n")
    rest = cli("clear", "--all", "--yes")
    assert rest.out == "clean@2\n"
    assert rest.err.splitlines() == [
        "Cleared already in checkpoints: train",
        "To be cleared in checkpoints: clean",
        "1 stage cleared; to go back: checkpoint-manager restore clean@prev",
    ]
    assert cli("restore", "clean@prev", "--yes").code == 0


def test_all(cli: Cli, store: Path) -> None:
    assert (
        "2 stages cleared; to go back, for each of them: checkpoint-manager restore STAGE@prev"
        in cli("clear", "--all", "--yes").err
    )
    assert all(cli("restore", f"{stage}@prev", "--yes").code == 0 for stage in ("clean", "train"))
    assert [version["stage"] for version in cli("clear", "--all", "--yes", "--json").json["versions"]] == ["clean", "train"]


def test_a_dry_run_and_a_question_change_nothing(cli: Cli, program: Cli, store: Path) -> None:
    assert cli("clear", "--all", "--dry-run").code == 0
    assert program("clear", "train", stdin="y\n").code == 2
    assert CheckpointManager(store).has_checkpoint("train")


def test_what_is_not_there_says_so(cli: Cli, store: Path) -> None:
    assert cli("clear", "nothing", "--yes").code == 14
    assert cli("clear", "--yes").code == 2
    assert cli("clear", "train", "--all", "--yes").code == 2


def pipeline(store: Path, revision: int = 1) -> None:
    """Run two stages, the second of which is made of the first one's result."""
    cm = CheckpointManager(store)
    rows = cm.stage("rows", revision=revision)(lambda: [revision, 1000])()
    if revision == 1:
        cm.stage("total")(lambda rows: sum(rows) + 0.5)(rows)


def test_what_follows_from_a_stage(cli: Cli, store: Path) -> None:
    pipeline(store)
    planned = cli("clear", "rows", "--downstream", "--dry-run")
    assert (planned.code, planned.out) == (0, "")
    assert "To be cleared in" in planned.err
    assert ": rows, total" in planned.err
    assert CheckpointManager(store).has_checkpoint("total")
    assert cli("clear", "rows", "--downstream", "--yes").out == "total@2\nrows@2\n"
    cm = CheckpointManager(store)
    assert [cm.has_checkpoint(stage) for stage in ("rows", "total", "train")] == [False, False, True]
    assert cli("clear", "--all", "--downstream", "--yes").code == 2
