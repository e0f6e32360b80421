"""Verify and repair: what is found is named, what is damaged is moved aside, and nothing is lost."""

from __future__ import annotations

import functools
import operator
import os
import shutil
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import numpy as np
import platformdirs
import pytest

from checkpoint_manager import (
    CheckpointError,
    CheckpointManager,
    CheckpointNotFoundError,
    IntegrityError,
    Retention,
    RollbackError,
    StorageError,
)
from checkpoint_manager._format import gaps as sealed_gaps
from checkpoint_manager._format import seal
from checkpoint_manager._operations import auto_prune as trimming
from checkpoint_manager._operations import save as writing
from checkpoint_manager._operations import verify
from checkpoint_manager._store.last_seen import LastSeen
from checkpoint_manager._store.store import Store
from checkpoint_manager.backends.base import RecordChangedError, Session, VersionAbsentError
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.memory import MemoryBackend
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager.backends.maintenance import Leftover

KEY = bytes(range(32))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cm(store: Path) -> CheckpointManager:
    cm = CheckpointManager(store, key=KEY)
    for number in range(1, 5):
        cm.save_checkpoint("train", number)
    return cm


def path_of(store: Path, version: int, stage: str = "train") -> Path:
    return store / "history" / stage / f"{version:012d}.checkpoint"


def damage(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def found(cm: CheckpointManager) -> list[tuple[str | None, int | None, str]]:
    return [(finding.stage, finding.version, finding.state) for finding in cm.verify().problems]


class TestVerify:
    def test_a_whole_store(self, cm: CheckpointManager) -> None:
        report = cm.verify()
        assert report.ok
        assert [(f.stage, f.version, f.state) for f in report.findings] == [
            ("train", number, "whole") for number in (1, 2, 3, 4)
        ]

    def test_progress_counts_every_version(self, cm: CheckpointManager) -> None:
        steps: list[tuple[int, int]] = []
        cm.verify(progress=lambda progress: steps.append((progress.done, progress.total)))
        assert steps == [(1, 4), (2, 4), (3, 4), (4, 4)]

    def test_holes_are_told_once_however_wide(self, cm: CheckpointManager, store: Path) -> None:
        path_of(store, 2).unlink()
        path_of(store, 3).unlink()
        path_of(store, 4).rename(path_of(store, 900_000_000_000))
        details = {f.version: f.detail for f in cm.verify().problems}
        assert "up to 899999999999" in details[2]
        assert len(details) <= 3

    def test_a_deletion_killed_in_the_middle_is_a_leftover(self, cm: CheckpointManager, store: Path) -> None:
        kept = path_of(store, 2).read_bytes()
        cm.delete_versions("train", [2])
        path_of(store, 2).write_bytes(kept)
        path_of(store, 2).chmod(0o600)
        assert found(cm) == [("train", 2, "leftover")]
        assert cm.verify().ok

    def test_a_file_that_the_system_refuses_is_left_alone(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise StorageError("can't read it", errno=5, filename="x")

        monkeypatch.setattr(cm._store, "examine", refuse)
        assert found(cm) == [("train", number, "unreadable") for number in (1, 2, 3, 4)]
        assert cm.repair() == []
        assert not cm.verify().ok

    @pytest.mark.parametrize("what", ["_store.keyring.refresh", "_store.last_seen.recall", "_store.backend.open_segment"])
    def test_whatever_the_system_refuses_is_told(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch, what: str
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise StorageError("Input/output error", errno=5)

        cm.save_checkpoint("train", attachments={"weights": b"w"})
        place, _, name = what.rpartition(".")
        monkeypatch.setattr(operator.attrgetter(place)(cm), name, refuse)
        problem = cm.verify().problems[0]
        assert problem.state == "unreadable"
        assert problem.stage == (None if what.startswith("_store.keyring") else "train")
        assert "Input/output error" in problem.detail

    def test_a_version_deleted_while_it_looks_is_no_damage(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def absent(*_: object) -> None:
            raise VersionAbsentError

        monkeypatch.setattr(cm._store, "examine", absent)
        assert cm.verify().ok

    def append(self, cm: CheckpointManager, number: int, **changes: object) -> None:
        """Append a version as a program would that does as it likes."""
        store = cm._store
        entry = store.entry("train", number - 1) if number > 1 else store.entry("train", 4)
        fields = {"id": f"{number:032x}", "previous": entry.id} | changes
        store.append("train", number, entry._replace(**fields), store.load("train", 4)[1])  # type: ignore[arg-type]

    def test_a_clock_that_was_set_back_is_a_finding_of_its_own(self, cm: CheckpointManager) -> None:
        earlier = cm._store.entry("train", 4).created_at - timedelta(days=1)
        self.append(cm, 5, created_at=earlier)
        self.append(cm, 6, created_at=earlier + timedelta(seconds=1))
        assert found(cm) == [("train", 5, "clock")]
        assert cm.verify().ok
        assert cm.repair(dry_run=True) == []

    @pytest.mark.parametrize("moment", [datetime(2100, 1, 1, tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
    def test_a_clock_that_was_ahead_is_a_finding_of_its_own(self, cm: CheckpointManager, moment: datetime) -> None:
        self.append(cm, 5, created_at=moment)
        self.append(cm, 6, created_at=datetime.now(UTC))
        assert found(cm) == [("train", 5, "clock"), ("train", 6, "clock")]
        assert cm.verify().ok
        assert cm.repair(dry_run=True) == []

    def test_a_version_may_name_an_earlier_one_if_those_between_could_not_be_read(self, cm: CheckpointManager) -> None:
        self.append(cm, 5, previous=cm._store.entry("train", 3).id)
        assert cm.verify().problems == ()

    def test_a_version_that_names_one_of_another_history_is_foreign(self, cm: CheckpointManager) -> None:
        self.append(cm, 5, previous="0" * 32)
        self.append(cm, 6)
        assert found(cm) == [("train", 5, "foreign")]

    def test_an_interrupted_rotation_is_not_ok(self, cm: CheckpointManager) -> None:
        def stop(_: object) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            cm.keys.rotate(progress=stop)
        assert found(cm) == [(None, None, "unfinished")]
        assert not cm.verify().ok
        cm.keys.rotate()
        assert cm.verify().problems == ()

    def test_a_header_of_a_newer_format_is_a_finding(self, cm: CheckpointManager, store: Path) -> None:
        path_of(store, 3).write_bytes(b'{"format":"checkpoint-manager/9","x":1}\n')
        (finding,) = cm.verify().problems
        assert (finding.version, finding.state) == (3, "newer")
        assert "checkpoint-manager/9" in finding.detail

    def test_many_files_of_many_stages_are_compared_within_a_limit(
        self, cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        tried = 0

        def belongs_to(*_: object) -> bool:
            nonlocal tried
            tried += 1
            return False

        monkeypatch.setattr(cm._store, "belongs_to", belongs_to)
        monkeypatch.setattr(verify, "_MAX_COMPARISONS", 50)
        for number in range(30):
            cm.save_checkpoint(f"stage {number}", 1)
        for number in range(1, 5):
            damage(path_of(store, number))
        assert found(cm) == [("train", number, "damaged") for number in range(1, 5)]
        assert tried == 50

    def test_one_stage_alone(self, cm: CheckpointManager, store: Path) -> None:
        cm.save_checkpoint("clean", 1)
        damage(path_of(store, 1, "clean"))
        assert cm.verify("train").ok
        assert not cm.verify("clean").ok
        assert cm.verify("nothing").findings == ()


class TestRepair:
    def test_nothing_to_do(self, cm: CheckpointManager) -> None:
        assert cm.repair() == []

    def test_a_damaged_version_is_moved_aside_and_known(self, cm: CheckpointManager, store: Path) -> None:
        damage(path_of(store, 2))
        evidence = path_of(store, 2).read_bytes()
        planned = cm.repair(dry_run=True)
        assert [(step.action, step.version) for step in planned] == [("set-aside", 2)]
        assert path_of(store, 2).exists()
        done = cm.repair()
        assert [(step.action, step.version) for step in done] == [("set-aside", 2)]
        aside = list((store / "damaged").iterdir())
        assert [path.read_bytes() for path in aside] == [evidence]
        assert str(aside[0]) in done[0].detail
        assert cm.verify().problems == ()
        with pytest.raises(CheckpointNotFoundError, match="set aside"):
            cm.load_checkpoint("train", 2)
        assert cm.repair() == []

    def test_a_damaged_newest_version_does_not_bring_back_the_one_before(self, cm: CheckpointManager, store: Path) -> None:
        damage(path_of(store, 4))
        planned = [(step.action, step.version) for step in cm.repair(dry_run=True)]
        assert [(step.action, step.version) for step in cm.repair()] == planned == [("append", 5), ("set-aside", 4)]
        assert cm.history("train")[0].status == "failed"
        assert not cm.has_checkpoint("train")
        assert cm.restore_checkpoint("train", 3).number == 6
        assert cm.has_checkpoint("train")
        assert cm.verify().ok

    @pytest.mark.parametrize("by", ["a repair that is killed", "another user"])
    def test_what_was_appended_over_damage_is_no_rollback(
        self, cm: CheckpointManager, store: Path, by: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The new version names the one below the damaged one, which this user has seen; and nobody told him of the new one."""
        path_of(store, 4).write_bytes(b"damaged")
        with monkeypatch.context() as context:
            if by == "another user":
                context.setenv("XDG_STATE_HOME", str(tmp_path / "another state"))
                CheckpointManager(store, key=KEY).save_checkpoint("train", 5)
            else:
                context.setattr(LastSeen, "write", Mock(side_effect=KeyboardInterrupt))
                with pytest.raises(KeyboardInterrupt):
                    CheckpointManager(store, key=KEY).repair()
        fresh = CheckpointManager(store, key=KEY)
        assert [(step.action, step.version) for step in fresh.repair()] == [("set-aside", 4)]
        assert [version.number for version in fresh.history("train")] == [5, 3, 2, 1]
        assert fresh.verify().ok

    @pytest.mark.parametrize("version", [1, 2])
    def test_the_version_after_one_set_aside_tells_its_id(self, cm: CheckpointManager, store: Path, version: int) -> None:
        version_id = cm._store.entry("train", version).id
        path_of(store, version).write_bytes(b"damaged")
        cm.repair()
        gap = cm._store.gaps("train")[0].find(version)
        assert gap is not None
        assert gap.id == version_id

    def test_a_missing_head_is_made_again(self, cm: CheckpointManager, store: Path) -> None:
        (store / "train.checkpoint").unlink()
        assert [(step.action, step.version) for step in cm.repair(dry_run=True)] == [("rebuild-head", 4)]
        assert not (store / "train.checkpoint").exists()
        assert [(step.action, step.version) for step in cm.repair()] == [("rebuild-head", 4)]
        assert os.path.samefile(store / "train.checkpoint", path_of(store, 4))

    def test_leftovers_are_swept(self, cm: CheckpointManager, store: Path) -> None:
        leftovers = [store / ".0123456789abcdef.tmp", store / "history" / "train" / ".fedcba9876543210.tmp"]
        for path in leftovers:
            path.write_bytes(b"half")
        assert len(cm.repair(dry_run=True)) == 2
        assert all(path.exists() for path in leftovers)
        assert {step.action for step in cm.repair()} == {"remove"}
        assert not any(path.exists() for path in leftovers)

    def test_leftovers_of_a_stage_without_versions_are_swept(self, cm: CheckpointManager, store: Path) -> None:
        """The very first save of the stage was killed."""
        leftover = store / "history" / "new" / ".0123456789abcdef.tmp"
        leftover.parent.mkdir(mode=0o700)
        leftover.write_bytes(b"")
        leftover.chmod(0o600)
        assert [(step.action, step.stage) for step in cm.repair()] == [("remove", "new")]
        assert not leftover.exists()
        assert cm.verify().problems == ()

    def test_the_folder_of_a_first_save_that_was_killed_is_swept(self, cm: CheckpointManager, store: Path) -> None:
        """The stage's name is too long for a folder's, and was not yet written into it."""
        cm.save_checkpoint(name := "long " * 50)
        folder = next(path.parent for path in store.glob("history/*/stage"))
        for path in folder.iterdir():
            path.rename(folder / f".{'0' * 15}{len(path.name) % 10}.tmp")
        (store / f"{folder.name}.checkpoint").unlink()
        assert ("remove", str(folder)) in [(step.action, step.detail.split()[0]) for step in cm.repair()]
        assert not folder.exists()
        cm.accept_rollback(name)
        assert cm.save_checkpoint(name).number == 3

    def test_a_folder_of_nobody_stays(self, cm: CheckpointManager, store: Path) -> None:
        cm.save_checkpoint("long " * 50)
        folder = next(path.parent for path in store.glob("history/*/stage"))
        (folder / "stage").unlink()
        cm.repair()
        assert (folder / "000000000001.checkpoint").exists()

    def test_a_damaged_record_of_deletions_is_moved_aside(self, cm: CheckpointManager, store: Path) -> None:
        cm.delete_versions("train", [1])
        damage(store / "history" / "train" / "gaps")
        assert [step.action for step in cm.repair(dry_run=True)] == ["set-aside"]
        steps = cm.repair()
        assert "gaps" in steps[0].detail
        assert found(cm) == [("train", 1, "missing")]
        assert cm.load_checkpoint("train") == 4

    def test_a_version_set_aside_and_put_back_is_set_aside_again(self, cm: CheckpointManager, store: Path) -> None:
        damage(path_of(store, 2))
        evidence = path_of(store, 2).read_bytes()
        cm.repair()
        path_of(store, 2).write_bytes(evidence)
        assert [(step.action, step.version) for step in cm.repair(dry_run=True)] == [("set-aside", 2)]
        assert [(step.action, step.version) for step in cm.repair()] == [("set-aside", 2)]
        assert len(list((store / "damaged").iterdir())) == 2

    def test_a_deleted_version_put_back_is_swept(self, cm: CheckpointManager, store: Path) -> None:
        kept = path_of(store, 2).read_bytes()
        cm.delete_versions("train", [2])
        path_of(store, 2).write_bytes(kept)
        assert [step.action for step in cm.repair(dry_run=True)] == ["remove"]
        assert path_of(store, 2).exists()
        cm.repair()
        assert not path_of(store, 2).exists()

    def plant_another_history(self, cm: CheckpointManager) -> None:
        """Append what opens, but does not continue the version before it: it is whole and foreign at once."""
        entry, data = cm._store.load("train", 4)
        cm._store.append("train", 5, entry._replace(id="5" * 32, previous="0" * 32), data)

    def test_a_newest_version_of_another_history_does_not_bring_back_the_one_before(
        self, cm: CheckpointManager, store: Path
    ) -> None:
        self.plant_another_history(cm)
        shutil.rmtree(platformdirs.user_state_path("checkpoint_manager"))
        newcomer = CheckpointManager(store, key=KEY)
        assert [(step.action, step.version) for step in newcomer.repair()] == [("append", 6), ("set-aside", 5)]
        assert not newcomer.has_checkpoint("train")
        assert newcomer.history("train")[0].status == "failed"
        assert newcomer.verify().problems == ()

    def test_a_stage_that_was_rolled_back_is_left_alone_and_the_others_are_repaired(
        self, cm: CheckpointManager, store: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        for stage in ("a", "z"):
            cm.save_checkpoint(stage, 1)
            cm.save_checkpoint(stage, 2)
            damage(path_of(store, 1, stage))
        self.plant_another_history(cm)
        assert [(step.stage, step.action) for step in cm.repair()] == [("a", "set-aside"), ("z", "set-aside")]
        assert "stage train" in caplog.text
        assert "was rolled back" in caplog.text
        assert path_of(store, 5).exists()

    def test_the_store_is_listed_once_however_many_stages_it_has(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls = 0
        leftovers = cm._store.backend.leftovers

        def counted() -> list[Leftover]:
            nonlocal calls
            calls += 1
            return leftovers()

        monkeypatch.setattr(cm._store.backend, "leftovers", counted)
        for number in range(20):
            cm.save_checkpoint(f"stage {number}", 1)
        assert cm.repair() == []
        assert calls == 1

    def test_every_version_damaged(self, cm: CheckpointManager, store: Path) -> None:
        for number in range(1, 5):
            damage(path_of(store, number))
        cm.repair()
        assert [version.number for version in cm.history("train")] == [5]
        assert cm.verify().ok

    def test_a_store_without_a_place_for_damaged_versions_stays_as_it_is(self) -> None:
        backend = MemoryBackend()
        cm = CheckpointManager(backend, key=KEY)
        for epoch in (1, 2, 3):
            cm.save_checkpoint("train", epoch)
        backend._versions["train"][2] = b"damaged"
        with pytest.raises(CheckpointError, match="version 2 of stage train can't be set aside in memory:"):
            cm.repair()
        assert backend.versions("train") == [1, 2, 3]
        assert cm.load_checkpoint("train") == 3


ACCEPT = """
import os, signal, sys
from checkpoint_manager import CheckpointManager
from checkpoint_manager.backends.local import LocalBackend

calls = 0

def counted(method):
    def wrapped(*arguments, **named):
        global calls
        calls += 1
        if calls == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)
        return method(*arguments, **named)
    return wrapped

for name in ("append", "_prepare", "write_record"):
    setattr(LocalBackend, name, counted(getattr(LocalBackend, name)))
os.rename = counted(os.rename)
CheckpointManager(sys.argv[1], key=bytes(range(32))).accept_rollback("train")
"""


class TestRollback:
    def roll_back(self, store: Path, *versions: int) -> None:
        for version in versions:
            take_away(path_of(store, version))

    def test_accepting_moves_on_above_what_was_seen(self, cm: CheckpointManager, store: Path) -> None:
        self.roll_back(store, 3, 4)
        fresh = CheckpointManager(store, key=KEY)
        with pytest.raises(RollbackError, match=r"accept_rollback\(\)") as caught:
            fresh.load_checkpoint("train")
        assert (caught.value.stage, caught.value.version) == ("train", 4)
        appended = fresh.accept_rollback()
        assert [(version.number, version.restored_from) for version in appended] == [(5, 2)]
        assert fresh.load_checkpoint("train") == 2
        assert fresh.verify().ok
        with pytest.raises(CheckpointNotFoundError, match="lost"):
            fresh.load_checkpoint("train", 3)
        assert fresh.save_checkpoint("train", 6).number == 6
        assert fresh.accept_rollback() == []

    def test_accepting_keeps_the_attachments_and_the_arrays_of_what_is_the_newest(
        self, cm: CheckpointManager, store: Path
    ) -> None:
        cm.save_checkpoint("train", np.arange(9999), attachments={"log": b"epoch 5"})
        cm.save_checkpoint("train", 6)
        self.roll_back(store, 6)
        fresh = CheckpointManager(store, key=KEY)
        fresh.accept_rollback()
        found = fresh.get_checkpoint("train")
        assert (found.version.number, found.version.restored_from) == (7, 5)
        assert (found.data.sum(), found.attachments["log"].read()) == (sum(range(9999)), b"epoch 5")
        assert fresh.verify().ok

    def test_a_newest_version_that_has_lost_an_attachment_is_followed_by_a_cleared_one(
        self, cm: CheckpointManager, store: Path
    ) -> None:
        cm.save_checkpoint("train", 5, attachments={"log": b"epoch 5"})
        cm.save_checkpoint("train", 6)
        self.roll_back(store, 6)
        shutil.rmtree(store / "history" / "train" / "attachments")
        fresh = CheckpointManager(store, key=KEY)
        assert [version.status for version in fresh.accept_rollback()] == ["cleared"]
        assert (fresh.has_checkpoint("train"), fresh.load_checkpoint("train", 5)) == (False, 5)

    def test_a_stage_that_is_gone_becomes_a_cleared_one(self, cm: CheckpointManager, store: Path) -> None:
        self.roll_back(store, 1, 2, 3, 4)
        fresh = CheckpointManager(store, key=KEY)
        assert [version.status for version in fresh.accept_rollback("train")] == ["cleared"]
        assert not fresh.has_checkpoint("train")
        assert fresh.save_checkpoint("train", 6).number == 6
        assert fresh.verify().ok

    def test_what_is_missing_between_damaged_versions_is_lost(self, cm: CheckpointManager, store: Path) -> None:
        """Neither of those around it tells its id."""
        for number in (5, 6):
            cm.save_checkpoint("train", number)
        path_of(store, 3).unlink()
        for number in (2, 4):
            damage(path_of(store, number))
            path_of(store, number).write_bytes(path_of(store, number).read_bytes()[:150])
        assert cm.accept_rollback("train") == []
        assert found(cm) == [("train", 2, "damaged"), ("train", 4, "damaged")]
        with pytest.raises(CheckpointNotFoundError, match="lost"):
            cm.load_checkpoint("train", 3)

    def test_what_is_missing_below_a_deleted_version_is_lost(self, cm: CheckpointManager, store: Path) -> None:
        cm.delete_versions("train", [3])
        path_of(store, 2).unlink()
        assert found(cm) == [("train", 2, "missing")]
        assert cm.accept_rollback("train") == []
        assert cm.verify().ok

    def test_what_was_deleted_between_those_that_are_gone_is_not_lost(self, cm: CheckpointManager, store: Path) -> None:
        cm.save_checkpoint("train", 5)
        cm.delete_versions("train", [4])
        self.roll_back(store, 3, 5)
        fresh = CheckpointManager(store, key=KEY)
        assert [(version.number, version.restored_from) for version in fresh.accept_rollback()] == [(6, 2)]
        for number, why in ((3, "lost"), (4, "deleted"), (5, "lost")):
            with pytest.raises(CheckpointNotFoundError, match=why):
                fresh.load_checkpoint("train", number)
        assert fresh.verify().ok

    def test_killed_between_its_two_steps_it_continues(self, cm: CheckpointManager, store: Path) -> None:
        self.roll_back(store, 4)
        fresh = CheckpointManager(store, key=KEY)
        seen = fresh._store.last_seen.recall("train")
        assert seen is not None
        entry = fresh._store.entry("train", 3)
        lost = sealed_gaps.Gap(4, 4, entry.id, seen.id, "lost")
        fresh._store.write_gaps("train", sealed_gaps.Gaps().add(lost), None)
        assert fresh.accept_rollback("train")[0].number == 5
        assert fresh.verify().ok

    @pytest.mark.parametrize(
        "upkeep",
        [
            lambda cm: cm.repair(),
            lambda cm: cm.delete_versions("train", [1]),
            lambda cm: cm.prune(Retention(keep_last=1)),
            lambda cm: cm.keys.rotate(),
        ],
        ids=["repair", "delete", "prune", "rotate"],
    )
    def test_killed_before_it_appends_no_upkeep_by_another_user_frees_a_number_that_is_lost(
        self, cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, upkeep: Callable[..., object]
    ) -> None:
        self.roll_back(store, 4)
        with monkeypatch.context() as killed:
            killed.setattr(LocalBackend, "append", Mock(side_effect=KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                CheckpointManager(store, key=KEY).accept_rollback("train")
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "another state"))
        other = CheckpointManager(store, key=KEY)
        upkeep(other)
        assert other.history("train")[0].number == 3
        assert other.save_checkpoint("train", "other").number == 5
        assert other.load_checkpoint("train") == "other"
        assert CheckpointManager(store, key=KEY).verify().ok

    @pytest.mark.parametrize("lost", [(4,), (3, 4), (1, 2, 3, 4)])
    def test_killed_anywhere_nothing_that_another_user_saves_is_swallowed_or_hidden(
        self, cm: CheckpointManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lost: tuple[int, ...]
    ) -> None:
        """By one who has never seen what is lost: no number is used that counts as lost, no old mark hides the new version."""
        store, program = tmp_path / "store", [sys.executable, "-c", ACCEPT]
        self.roll_back(store, *lost)
        head = store / "train.checkpoint"
        if len(lost) < 4:
            head.hardlink_to(path_of(store, 4 - len(lost)))  # as in an older copy
        mine = os.environ.get("XDG_STATE_HOME", "")
        for at in range(1, 20):
            copy, state = tmp_path / f"copy {at}", tmp_path / f"state {at}"
            shutil.copytree(store, copy)
            shutil.copytree(platformdirs.user_state_path("checkpoint_manager"), state / "checkpoint_manager")
            environment = os.environ | {"XDG_STATE_HOME": str(state)}
            done = subprocess.run([*program, str(copy), str(at)], env=environment, check=False)
            monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / f"another state {at}"))
            other = CheckpointManager(copy, key=KEY)
            present = other._store.backend.versions("train")
            assert other._store.history.look("train").number == max(present, default=0)
            gaps_are_written = bool(other._store.gaps("train")[0])
            saved = other.save_checkpoint("train", "other")
            assert saved.number > 4 or not gaps_are_written
            for user in (tmp_path / f"another state {at}", state):
                monkeypatch.setenv("XDG_STATE_HOME", str(user))
                accepted = CheckpointManager(copy, key=KEY)
                accepted.accept_rollback()
                assert accepted.load_checkpoint("train", saved.number) == "other"
                assert accepted.load_checkpoint("train") == "other"
                assert accepted.verify().problems == ()
            monkeypatch.setenv("XDG_STATE_HOME", mine)
            if done.returncode == 0:
                assert at > 3
                break
            assert done.returncode == -signal.SIGKILL
        else:
            pytest.fail("it never came to its end")

    def test_a_damaged_newest_version_is_no_rollback_to_accept(self, cm: CheckpointManager, store: Path) -> None:
        damage(path_of(store, 4))
        assert CheckpointManager(store, key=KEY).accept_rollback("train") == []
        assert CheckpointManager(store, key=KEY).accept_rollback("never saved") == []

    def test_warned_instead_of_refused(self, cm: CheckpointManager, store: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.roll_back(store, 4)
        lenient = CheckpointManager(store, key=KEY, on_rollback="warn")
        assert lenient.load_checkpoint("train") == 3
        assert "was rolled back" in caplog.text
        assert lenient.save_checkpoint("train", 5).number == 5

    @pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
    def test_a_deleted_version_put_back_without_its_attachments_is_only_warned_of(
        self, cm: CheckpointManager, store: Path, *, used: bool
    ) -> None:
        cm.save_checkpoint("train", 5, attachments={"log": b"epoch 5"})
        lenient = CheckpointManager(store, key=KEY, on_rollback="warn")
        if used:
            assert lenient.has_checkpoint("train")
        kept = path_of(store, 5).read_bytes()
        cm.save_checkpoint("train", 6)
        cm.delete_versions("train", [5])
        self.roll_back(store, 6)
        path_of(store, 5).write_bytes(kept)
        assert not lenient.has_checkpoint("train")
        assert [str(each.error).partition(" in ")[0] for each in lenient.status(verified=True)] == ["version 5 of stage train"]

    def test_another_version_of_the_same_number_warned_of(
        self, cm: CheckpointManager, store: Path, home: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        memory = next(path for path in home.rglob("*") if path.is_file() and b'"train"' in path.read_bytes())
        memory.write_bytes(memory.read_bytes()[:13] + b"0" * 32 + memory.read_bytes()[45:])
        with pytest.raises(RollbackError, match="do not lead back to version 4 as it was seen"):
            CheckpointManager(store, key=KEY).load_checkpoint("train")
        assert CheckpointManager(store, key=KEY, on_rollback="warn").load_checkpoint("train") == 4
        assert "do not lead back to version 4" in caplog.text
        assert [f.state for f in CheckpointManager(store, key=KEY).verify().problems] == ["rolled-back"]


class TestWitness:
    def test_without_a_writable_home_a_warning_says_so_once(
        self, store: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (home / "file").write_text("")
        monkeypatch.setenv("XDG_STATE_HOME", str(home / "file"))
        cm = CheckpointManager(store, key=KEY)
        cm.save_checkpoint("train", 1)
        cm.save_checkpoint("train", 2)
        assert cm.load_checkpoint("train") == 2
        assert cm.verify().ok
        assert cm.accept_rollback() == []
        assert caplog.text.count("can't be remembered") == 1

    def test_an_older_keyring_is_noticed_by_a_process_without_a_home(
        self, store: Path, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / "file").write_text("")
        monkeypatch.setenv("XDG_STATE_HOME", str(home / "file"))
        cm = CheckpointManager(store, key=KEY)
        before = (store / "keyring.json").read_bytes()
        cm.keys.add(bytes(32))
        (store / "keyring.json").write_bytes(before)
        with pytest.raises(RollbackError):
            cm.save_checkpoint("train", 1)

    @pytest.mark.parametrize("content", [b"", b"junk", b"0" * 9000])
    def test_a_damaged_memory_counts_as_none(self, cm: CheckpointManager, store: Path, home: Path, content: bytes) -> None:
        memories = [path for path in home.rglob("*") if path.is_file() and ".local/state" in str(path)]
        for memory in memories:
            memory.write_bytes(content)
        fresh = CheckpointManager(store, key=KEY)
        assert fresh.load_checkpoint("train") == 4
        fresh.save_checkpoint("train", 5)
        take_away(path_of(store, 5))
        with pytest.raises(RollbackError):
            CheckpointManager(store, key=KEY).load_checkpoint("train")

    def test_a_folder_in_place_of_a_memory_counts_as_none(self, cm: CheckpointManager, store: Path, home: Path) -> None:
        memories = [path for path in home.rglob("*") if path.is_file() and ".local/state" in str(path)]
        for memory in memories:
            memory.unlink()
            memory.mkdir()
        assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 4


class TestRecordOfDeletions:
    @pytest.fixture
    def full(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> CheckpointManager:
        """A store whose record of deletions holds one gap, and has room for no second one."""
        for number in range(5, 9):
            cm.save_checkpoint("train", number)
        cm.delete_versions("train", [2])
        cm.tag("train", 4, "good")
        limit = len(cm._store.backend.read_record("gaps", "train", limit=1000).data)  # type: ignore[union-attr]
        monkeypatch.setattr(sealed_gaps.RECORD, "max_bytes", limit + 5)
        return cm

    def test_one_that_could_not_be_read_again_is_not_written(self, full: CheckpointManager) -> None:
        before = full._store.backend.read_record("gaps", "train", limit=1000)
        for act in (lambda: full.delete_versions("train", [5]), lambda: full.prune(Retention(keep_last=1))):
            with pytest.raises(StorageError, match=r"stage train .* next to those that are gone") as caught:
                act()
            assert caught.value.stage == "train"
            assert full._store.backend.read_record("gaps", "train", limit=1000) == before
            assert [version.number for version in full.history("train")] == [8, 7, 6, 5, 4, 3, 1]
        assert full.verify().problems == ()

    def test_what_adjoins_the_versions_that_are_gone_can_be_deleted(self, full: CheckpointManager) -> None:
        full.delete_versions("train", [1, 3])
        assert full.verify().problems == ()
        full.keys.rotate()
        assert full.verify().problems == ()

    def test_a_save_goes_on_where_its_retention_can_not(
        self, full: CheckpointManager, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(trimming, "_ENOUGH", 1)
        cm = CheckpointManager(full._store.backend.location, key=KEY, retention=Retention(keep_last=1))
        assert cm.save_checkpoint("train", 9).number == 9
        assert cm.load_checkpoint("train") == 9
        assert "could not be pruned: the record of deleted versions" in caplog.text

    def test_an_import_that_would_bring_too_many_is_refused_before_it_adds_anything(
        self, cm: CheckpointManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for number in range(5, 9):
            cm.save_checkpoint("train", number)
        cm.delete_versions("train", [2, 4, 6])
        cm.export_bundle(tmp_path / "bundle", key=KEY)
        target = CheckpointManager(tmp_path / "target", key=KEY)
        monkeypatch.setattr(sealed_gaps.RECORD, "max_bytes", 300)
        for dry_run in (True, False):
            with pytest.raises(StorageError, match="next to those that are gone"):
                target.import_bundle(tmp_path / "bundle", key=KEY, dry_run=dry_run)
            assert target.stages() == []


class TestWriters:
    def test_a_lost_answer_is_recognised_by_the_versions_id(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A remote store may say "taken" because an earlier attempt of the same write went through."""
        from checkpoint_manager.backends.base import VersionTakenError

        real = cm._store.backend.append

        def answer_lost(*arguments: object, **named: object) -> None:
            real(*arguments, **named)  # type: ignore[arg-type]
            raise VersionTakenError

        monkeypatch.setattr(cm._store.backend, "append", answer_lost)
        assert cm.save_checkpoint("train", 5).number == 5
        assert len(cm.history("train")) == 5

    def test_a_look_at_the_keyring_that_fails_after_the_write_loses_no_version(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The version is found by its id, and not written again."""
        read_record, fails = cm._store.backend.read_record, iter([True])

        def fail(name: Any, *arguments: Any, **others: Any) -> object:
            if name == "keyring" and cm._store.backend.newest("train").number == 5 and next(fails, False):
                raise StorageError("Input/output error", errno=5)
            return read_record(name, *arguments, **others)

        monkeypatch.setattr(cm._store.backend, "read_record", fail)
        assert cm.save_checkpoint("train", 5).number == 5
        assert [version.number for version in cm.history("train")] == [5, 4, 3, 2, 1]

    def test_a_record_that_others_always_change_first_is_left_to_them(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def changed(*_: object, **__: object) -> None:
            raise RecordChangedError

        monkeypatch.setattr(cm._store.backend, "write_record", changed)
        with pytest.raises(StorageError, match=r"a record of stage train in .* was changed by other writers") as caught:
            cm.tag("train", 1, "good")
        assert caught.value.hint == "Try again when fewer write"
        assert cm.tags("train") == {}

    def test_an_overtaken_writer_takes_the_next_number(
        self, cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rival = CheckpointManager(store, key=KEY)
        backend = cm._store.backend
        overtakes = iter([True, True])

        def overtaken(append: Any, stage: str, *arguments: Any, **session: Any) -> Any:
            if next(overtakes, False):
                writing.append(rival._store, stage, rival._store.history.tip(stage), history_draft())
            return append(stage, *arguments, **session)

        monkeypatch.setattr(backend, "append", functools.partial(overtaken, backend.append))
        monkeypatch.setattr(backend, "append_next", functools.partial(overtaken, backend.append_next))
        assert cm.save_checkpoint("train", "mine").number == 7
        assert cm.load_checkpoint("train") == "mine"
        assert cm.verify().ok

    def test_a_writer_that_is_always_overtaken_gives_up(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        from checkpoint_manager.backends.base import VersionTakenError

        def taken(*_: object, **__: object) -> None:
            raise VersionTakenError

        monkeypatch.setattr(cm._store.backend, "append", taken)
        monkeypatch.setattr(cm._store.backend, "append_next", lambda *_: False)
        with pytest.raises(StorageError, match="supports locks"):
            cm.save_checkpoint("train", 5)

    def test_the_last_number(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("checkpoint_manager._operations.save.MAX_VERSION", 4)
        with pytest.raises(StorageError, match="no version numbers left"):
            cm.save_checkpoint("train", 5)

    def test_a_writer_goes_on_over_damage(self, cm: CheckpointManager, store: Path) -> None:
        """The stage is computed again; the time does not go back, and the damaged file stays."""
        damage(path_of(store, 4))
        whole = path_of(store, 4).read_bytes()
        path_of(store, 4).write_bytes(whole[:150])
        fresh = CheckpointManager(store, key=KEY)
        assert fresh.save_checkpoint("train", 5).number == 5
        for number in range(1, 6):
            path_of(store, number).write_bytes(b"")
        again = CheckpointManager(store, key=KEY)
        assert again.save_checkpoint("train", 6).number == 6
        assert again.history("train")[0].number == 6

    def test_clearing_over_damage(self, cm: CheckpointManager, store: Path) -> None:
        path_of(store, 4).write_bytes(b"")
        fresh = CheckpointManager(store, key=KEY)
        cleared = fresh.clear_checkpoint("train")
        assert cleared is not None
        assert cleared.number == 5

    def test_deleting_damaged_versions(self, cm: CheckpointManager, store: Path) -> None:
        path_of(store, 2).write_bytes(b"")
        cm.delete_versions("train", [2])
        assert cm.verify().ok
        path_of(store, 1).write_bytes(b"")
        path_of(store, 3).write_bytes(b"")
        cm.delete_versions("train", [3])
        cm.delete_versions("train", [1])
        assert cm.verify().ok
        cm.delete_versions("train", [])

    def test_a_newest_version_deleted_while_it_is_read(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        store = cm._store
        real, failed = store.open, []

        def opened(stage: str, version: int, session: Session) -> object:
            if not failed:
                failed.append(version)
                CheckpointManager(store.backend, key=KEY).save_checkpoint(stage, 5)
                raise VersionAbsentError
            return real(stage, version, session)

        monkeypatch.setattr(store, "open", opened)
        assert cm.load_checkpoint("train") == 5
        fresh = CheckpointManager(store.backend, key=KEY)
        assert fresh.load_checkpoint("train") == 5
        cm.save_checkpoint("train", 6)
        monkeypatch.setattr(fresh._store, "open", lambda *_: (_ for _ in ()).throw(VersionAbsentError))
        with pytest.raises(IntegrityError, match="missing"):
            fresh.load_checkpoint("train")


def history_draft() -> object:
    from checkpoint_manager._operations.save import Draft

    return Draft(b'"rival"', {})


def test_a_gap_record_under_an_unknown_key_is_refused(cm: CheckpointManager, store: Path) -> None:
    cm.delete_versions("train", [1])
    path = store / "history" / "train" / "gaps"
    data = path.read_bytes()
    at = data.index(b'"key":"') + 7
    path.write_bytes(data[:at] + b"0" * 16 + data[at + 16 :])
    with pytest.raises(IntegrityError, match="a key that the keyring does not have"):
        cm.history("train")


def test_large_metadata_is_read_in_two_steps(cm: CheckpointManager) -> None:
    cm.save_checkpoint("train", 5, metadata={"note": "x" * 300_000})
    assert len(cm.history("train")[0].metadata["note"]) == 300_000
    assert cm.load_checkpoint("train") == 5


def test_thousands_of_versions_cost_what_ten_do(tmp_path: Path) -> None:
    """The number of system calls of a save and a load does not grow with the history, once a process has listed it."""
    if not any(os.access(os.path.join(folder, "strace"), os.X_OK) for folder in os.environ["PATH"].split(":")):
        if os.environ.get("TESTS_REQUIRE_PROGRAMS"):
            pytest.fail("strace is not installed")
        pytest.skip("strace is not installed")
    store = tmp_path / "store"
    fill = CheckpointManager(store, key=KEY, durability="relaxed")
    program = (
        "import os; from checkpoint_manager import CheckpointManager as C\n"
        f"cm = C({str(store)!r}, key=bytes(range(32)))\n"
        "cm.save_checkpoint('train', 1); cm.load_checkpoint('train')\n"
        "os.access('MARK', 0); cm.save_checkpoint('train', 1); cm.load_checkpoint('train'); os.access('MARK', 0)\n"
    )

    def calls() -> int:
        log = tmp_path / "log"
        subprocess.run(["strace", "-f", "-o", str(log), sys.executable, "-c", program], check=True, capture_output=True)
        text = log.read_text().split('"MARK"')
        assert len(text) == 3
        return text[1].count("\n")

    for number in range(10):
        fill.save_checkpoint("train", number)
    few = calls()
    for number in range(2990):
        fill.save_checkpoint("train", number)
    assert abs(calls() - few) <= 5
    assert len(fill.history("train")) == 3_004


def test_the_gap_of_many_versions_is_one(tmp_path: Path) -> None:
    merged = sealed_gaps.Gaps()
    for number in (5, 3, 4, 9):
        merged = merged.add(sealed_gaps.Gap(number, number, f"{number - 1:032x}", f"{number:032x}"))
    assert [(gap.first, gap.last, gap.before, gap.id) for gap in merged] == [
        (3, 5, f"{2:032x}", f"{5:032x}"),
        (9, 9, f"{8:032x}", f"{9:032x}"),
    ]
    assert 4 in merged
    assert "4" not in merged


def test_a_short_plaintext_is_not_taken_for_a_long_one() -> None:
    """The length is checked against what the caller authenticated, whichever way it is wrong."""
    key = seal.generate_key()
    sealed = seal.seal(key, b"x" * 100, b"")
    message = bytearray(100)
    seal.unseal_into(key, [sealed], memoryview(message), b"")
    assert message == b"x" * 100
    assert b"".join(map(bytes, seal.unseal_slices(key, [sealed], 100, b""))) == message
    for length in (99, 101, 0, 100_000):
        with pytest.raises(seal.SealBrokenError):
            seal.unseal_into(key, [sealed], memoryview(bytearray(length)), b"")
        with pytest.raises(seal.SealBrokenError):
            list(seal.unseal_slices(key, [sealed], length, b""))


def test_a_version_after_damaged_ones_names_the_last_that_could_be_read(cm: CheckpointManager, store: Path) -> None:
    before = cm._store.entry("train", 2).id
    for number in (3, 4):
        path_of(store, number).write_bytes(b"")
    fresh = CheckpointManager(store, key=KEY)
    assert fresh.save_checkpoint("train", 5).number == 5
    assert fresh._store.entry("train", 5).previous == before


def test_a_version_that_is_written_while_it_is_looked_for_is_not_missing(
    cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = CheckpointManager(store, key=KEY)
    newest = cm.history("train")[0].number
    load = Store.load

    def after_a_save(self: Store, stage: str, version: int, session: Session | None = None) -> object:
        try:
            return load(self, stage, version, session)
        except VersionAbsentError:
            other.save_checkpoint("train")
            raise

    monkeypatch.setattr(Store, "load", after_a_save)
    with pytest.raises(CheckpointNotFoundError, match=f"no version {newest + 1}"):
        cm.load_checkpoint("train", newest + 1)
