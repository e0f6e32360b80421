"""``restore``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, StorageError
from tests.cli.terminal import Terminal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]


def damage(store: Path, version: int) -> None:
    path = store / "history" / "train" / f"{version:012d}.checkpoint"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def test_yes(cli: Cli, store: Path) -> None:
    result = cli("restore", "train@1", "--yes")
    assert (result.code, result.out) == (0, "train@4\n")
    assert "Nothing is removed" in result.err
    cm = CheckpointManager(store)
    assert cm.load_checkpoint("train") == {"epoch": 1}
    assert cm.history("train")[0].restored_from == 1


def test_prev_undoes_it(cli: Cli, store: Path) -> None:
    cli("restore", "train@1", "--yes")
    assert cli("restore", "train@prev", "--yes", "--json").json["version"]["restored_from"] == 3


def test_dry_run_changes_nothing(cli: Cli, store: Path) -> None:
    assert cli("restore", "train@1", "--dry-run").out == ""
    assert cli("restore", "train@1", "--dry-run", "--json").json["from"] == 1
    assert len(CheckpointManager(store).history("train")) == 3


def test_what_would_change_is_shown_and_shortened(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("train", {"epoch": 4, "secret": "hunter2", **{f"k{n}": n for n in range(55)}})
    result = cli("restore", "train@1", "--dry-run")
    assert (result.code, result.out) == (0, "")
    lines = result.err.splitlines()
    assert lines[2] == "What that changes, compared with the newest version, 4:"
    assert lines[3] == "  ~ $.epoch: 4 → 1"
    assert len(lines) == 3 + 20 + 1
    assert lines[-1] == "  … and 37 more"
    document = cli("restore", "train@1", "--dry-run", "--json").json
    assert len(document["changes"]) == 57
    assert document["changes"][0] == {"kind": "changed", "path": ["epoch"], "old": 4, "new": 1}


def test_the_values_can_be_hidden(cli: Cli, store: Path) -> None:
    CheckpointManager(store).save_checkpoint("train", {"epoch": "hunter2"})
    shown = cli("restore", "train@1", "--dry-run", "--redact")
    assert "~ $.epoch: a text of 7 characters → an integer" in shown.err
    assert "hunter2" not in cli("restore", "train@1", "--dry-run", "--redact", "--json").out + shown.err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda cm: cm.clear_checkpoint("train"), "the newest version, 4 (cleared)"),
        (lambda cm: cm.restore_checkpoint("train", 1), "the same as that of the newest version, 4."),
        (lambda _: None, "compared with the newest version, 3:"),
    ],
)
def test_what_the_newest_version_is(cli: Cli, store: Path, change: Callable[[CheckpointManager], object], said: str) -> None:
    change(CheckpointManager(store))
    assert said in cli("restore", "train@1", "--dry-run").err


def test_a_damaged_newest_version_is_no_obstacle(cli: Cli, store: Path) -> None:
    damage(store, 3)
    assert "can't be shown" in cli("restore", "train@1", "--dry-run").err
    assert cli("restore", "train@1", "--dry-run", "--json").json["changes"] is None
    assert cli("restore", "train@1", "--yes").code == 0
    assert CheckpointManager(store).load_checkpoint("train") == {"epoch": 1}


def test_without_a_terminal_it_never_asks(program: Cli, store: Path) -> None:
    result = program("restore", "train@1", stdin="y\n")
    assert result.code == 2
    assert "--yes" in result.err
    assert len(CheckpointManager(store).history("train")) == 3


def test_a_version_must_be_named(cli: Cli, store: Path) -> None:
    result = cli("restore", "train", "--yes")
    assert result.code == 2
    assert "train@NUMBER" in result.err


def test_a_damaged_version_is_refused_before_the_question(cli: Cli, store: Path) -> None:
    damage(store, 1)
    assert cli("restore", "train@1", "--yes").code == 13
    assert len(CheckpointManager(store).history("train")) == 3


class TestAll:
    @pytest.fixture(autouse=True)
    def release(self, cli: Cli, store: Path) -> None:
        """Tag a release, and go on after it."""
        assert cli("tag", "--all", "release-7").out == "clean@1 release-7\ntrain@3 release-7\n"
        cm = CheckpointManager(store)
        cm.save_checkpoint("train", {"epoch": 4})
        cm.save_checkpoint("late", 1)

    def test_the_plan_has_a_line_for_each_stage(self, cli: Cli, store: Path) -> None:
        result = cli("restore", "--all", "--tag", "release-7", "--dry-run")
        assert (result.code, result.out) == (0, "")
        lines = result.err.splitlines()
        assert lines[:2] == ["clean: 1 (completed) stays as it is", "late: 1 (completed) → cleared"]
        assert lines[2].startswith("train: 4 (completed) → a copy of 3 (completed, ")
        steps = cli("restore", "--all", "--tag", "release-7", "--dry-run", "--json").json["steps"]
        assert [(step["stage"], step["action"], step["newest"], step["from"]) for step in steps] == [
            ("clean", "keep", 1, 1),
            ("late", "clear", 1, None),
            ("train", "restore", 4, 3),
        ]
        assert CheckpointManager(store).load_checkpoint("train") == {"epoch": 4}

    def test_it_is_done_and_done_only_once(self, cli: Cli, store: Path) -> None:
        result = cli("restore", "--all", "--tag", "release-7", "--yes")
        assert (result.code, result.out) == (0, "late@2 cleared\ntrain@5\n")
        cm = CheckpointManager(store)
        assert cm.load_checkpoint("train") == {"epoch": 3}
        assert not cm.has_checkpoint("late")
        again = cli("restore", "--all", "--tag", "release-7", "--yes", "--json")
        assert again.json["versions"] == []
        assert "nothing to restore" in again.err

    def test_by_moment(self, cli: Cli, store: Path) -> None:
        moment = CheckpointManager(store).get_version("train", 2).created_at
        assert moment is not None
        result = cli("restore", "--all", "--at", moment.isoformat(), "--yes", "--json")
        assert [version["stage"] for version in result.json["versions"]] == ["clean", "late", "train"]
        assert CheckpointManager(store).load_checkpoint("train") == {"epoch": 2}

    def test_one_question_is_asked(self, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        for answer, code, epoch in (("n", 15, 4), ("y", 0, 3)):
            with Terminal("restore", "--all", "--tag", "release-7") as terminal:
                terminal.answer("Change 2 stages? [y/N]", answer)
                assert terminal.end() == code
                assert terminal.shown.count("[y/N]") == 1
            assert CheckpointManager(store).load_checkpoint("train") == {"epoch": epoch}

    def test_one_stage_in_trouble_holds_all_of_them_and_is_named(self, cli: Cli, store: Path) -> None:
        damage(store, 3)
        for more in ("--yes", "--dry-run"):
            result = cli("restore", "--all", "--tag", "release-7", more)
            assert (result.code, result.out) == (13, "")
            assert "late: 1 (completed) → cleared" in result.err
            assert "train: can't be restored: version 3 of stage train" in result.err
            assert "Nothing was changed" in result.err
        problems = [
            step["problem"] for step in cli("restore", "--all", "--tag", "release-7", "--dry-run", "--json").json["steps"]
        ]
        assert problems[:2] == [None, None]
        assert "version 3 of stage train" in problems[2]

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["--all"], 2),
            (["--all", "train", "--at", "1d"], 2),
            (["--all", "--at", "1d", "--tag", "release-7"], 2),
            (["train", "--tag", "release-7"], 2),
            ([], 2),
            (["--all", "--tag", "a b"], 2),
            (["--all", "--tag", "release-9"], 14),
        ],
        ids=str,
    )
    def test_what_can_not_be(self, cli: Cli, store: Path, arguments: list[str], code: int) -> None:
        result = cli("restore", *arguments, "--yes")
        assert (result.code, result.out) == (code, "")
        assert CheckpointManager(store).load_checkpoint("train") == {"epoch": 4}


class TestSeveralStores:
    """With one plan: all stages of all stores, or none."""

    @pytest.fixture(autouse=True)
    def others(self, cli: Cli, store: Path) -> None:
        for place in (store.parent / "other", f"sqlite:///{store.parent}/serving.db"):
            cm = CheckpointManager(place)
            cm.save_checkpoint("load", 1)
            cm.save_checkpoint("serve", 1)
            cm.tag_pipeline("good")
            cm.save_checkpoint("load", 2)
            cm.save_checkpoint("serve", 2)
        CheckpointManager(store).tag_pipeline("good")
        CheckpointManager(store).save_checkpoint("train", 4)

    def test_go_back_together(self, cli: Cli, tmp_path: Path) -> None:
        result = cli("restore", "--all", "--tag", "good", "--store", "checkpoints", "--store", "other", "--yes")
        assert (result.code, result.out) == (
            0,
            f"{tmp_path}/checkpoints: train@5\n{tmp_path}/other: load@3\n{tmp_path}/other: serve@3\n",
        )
        assert f"{tmp_path}/other:\n  load: 2 (completed) → a copy of 1 (completed, " in result.err
        assert "They are restored one after another; if this is killed in between, run it again. Nothing" in result.err
        assert [CheckpointManager(tmp_path / "other").load_checkpoint(stage) for stage in ("load", "serve")] == [1, 1]
        again = cli("restore", "--all", "--tag", "good", "--store", "checkpoints", "--store", "other", "--yes", "--json")
        assert [len(each["versions"]) for each in again.json["stores"]] == [0, 0]
        assert "nothing to restore" in again.err

    def test_the_plan_names_each_store_and_what_is_one_step(self, cli: Cli, tmp_path: Path) -> None:
        stores = cli("restore", "--all", "--tag", "good", "--scan", str(tmp_path), "--dry-run", "--json").json["stores"]
        assert [(each["store"].rpartition("/")[2], each["one_step"], each["problem"]) for each in stores] == [
            ("checkpoints", True, None),
            ("other", False, None),
            ("serving.db", True, None),
        ]
        assert [[step["action"] for step in each["steps"]] for each in stores] == [["keep", "restore"], *[["restore"] * 2] * 2]
        assert CheckpointManager(tmp_path / "other").load_checkpoint("load") == 2
        alone = cli("restore", "--all", "--tag", "good", "--store", f"sqlite:///{tmp_path}/serving.db", "--yes")
        assert "It is one step: all of them are restored, or none." in alone.err

    def test_what_runs_is_told(self, cli: Cli, store: Path) -> None:
        cm = CheckpointManager(store)
        with cm.loop("embed", range(3), initial=0, bar=False) as loop:
            next(iter(loop))
            for more in ([], ["--store", "other"]):
                told = cli("restore", "--all", "--tag", "good", "--store", "checkpoints", *more, "--dry-run")
                assert "embed runs now: what it computes is saved above what is restored" in told.err

    def test_one_in_trouble_holds_all_of_them_and_hints_name_it(self, cli: Cli, store: Path, tmp_path: Path) -> None:
        damage(store, 3)
        for more in ("--yes", "--dry-run"):
            result = cli("restore", "--all", "--tag", "good", "--store", "other", "--store", "checkpoints", more)
            assert (result.code, result.out) == (13, "")
            assert "  train: can't be restored: version 3 of stage train" in result.err
            assert result.err.splitlines()[-2] == "Nothing was changed: all stages are restored, or none."
            assert f"verify --store {tmp_path}/checkpoints" in result.err.splitlines()[-1]
        assert CheckpointManager(tmp_path / "other").load_checkpoint("load") == 2
        missing = cli("restore", "--all", "--tag", "good", "--store", "other", "--store", "nowhere", "--yes")
        assert (missing.code, "no checkpoint store at" in missing.err) == (10, True)
        both = ("--store", "other", "--store", "checkpoints")
        untagged = cli("restore", "--all", "--tag", "better", *both, "--dry-run", "--json")
        assert (untagged.code, len(untagged.out.splitlines())) == (14, 1)
        assert f"tag --store {tmp_path}/other" in untagged.error["hint"]

    def test_a_single_stage_is_restored_in_one(self, cli: Cli) -> None:
        result = cli("restore", "train@1", "--store", "checkpoints", "--store", "other", "--yes")
        assert (result.code, "a single stage is restored in one store" in result.err) == (2, True)

    def test_what_is_left_half_done_has_a_code_of_its_own(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        restore = CheckpointManager.restore_checkpoint

        def once(cm: CheckpointManager, stage: str, *args: Any, **kwargs: Any) -> Any:
            if stage != "train":
                raise StorageError("the disk is full")
            return restore(cm, stage, *args, **kwargs) if args == (3,) else once(cm, "", *args, **kwargs)

        monkeypatch.setattr(CheckpointManager, "restore_checkpoint", once)
        result = cli("restore", "--all", "--tag", "good", "--store", "checkpoints", "--store", "other", "--yes", "--json")
        assert (result.code, result.error["kind"]) == (3, "PartlyRestoredError")
        assert "could not be taken back for train in" in result.error["message"]


def test_it_says_what_it_did(cli: Cli, store: Path) -> None:
    assert cli("restore", "train@1", "--yes").err.splitlines()[-1] == "stage train restored: version 4 is a copy of 1"
    CheckpointManager(store).tag_pipeline("now")
    CheckpointManager(store).save_checkpoint("train", 5)
    all_back = cli("restore", "--all", "--tag", "now", "--yes")
    assert all_back.err.splitlines()[-1] == "1 stage changed; each has a new version, and none was removed"
