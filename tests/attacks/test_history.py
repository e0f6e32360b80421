"""Attacks on what makes a version the newest: heads, forks, undone deletions and clearings, vanished and planted stages."""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, IntegrityError, Retention, RollbackError
from checkpoint_manager._filesystem import file_times
from checkpoint_manager._format import gaps as sealed_gaps
from checkpoint_manager._format.gaps import Gap, Gaps
from checkpoint_manager._store import history
from checkpoint_manager.backends.local import LocalBackend, backend, folder_note
from checkpoint_manager.backends.stage_names import to_filename
from checkpoint_manager.errors import Hint
from tests.taking_away import leave_the_head, take_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager.backends.base import Session

    Opened = Callable[..., CheckpointManager]
    VersionFile = Callable[[str, int], Path]


KEY = bytes(range(32))


def put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)


# A hint in the place of the truth


def test_a_head_below_a_deleted_version_does_not_hide_the_newer_ones(
    opened: Opened, store: Path, version_file: VersionFile
) -> None:
    cm = opened()
    for number in range(5, 9):
        cm.save_checkpoint("train", {"number": number})
    cm.delete_versions("train", [4, 5])
    put(store / "train.checkpoint", version_file("train", 3).read_bytes())
    fresh = opened(forgetful=True)
    assert fresh.load_checkpoint("train") == {"number": 8}
    assert fresh.save_checkpoint("train", "precious").number == 9
    fresh.prune(Retention(keep_last=100))
    assert opened(forgetful=True).load_checkpoint("train") == "precious"


def test_a_note_of_a_folder_hides_no_newer_version(
    opened: Opened, store: Path, version_file: VersionFile, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process goes on from what another one of this user has noted of a folder. The head and the times are put back."""
    monkeypatch.setattr(folder_note, "LONG_BYTES", 0)
    monkeypatch.setattr(history, "LONG", 0)
    become("owner")
    for number in (5, 6):
        opened().save_checkpoint("train", number)
    folder = version_file("train", 6).parent
    before = folder.stat()
    become("other")
    for number in (7, 8):
        opened().save_checkpoint("train", number)
    version_file("train", 7).unlink()
    (store / "train.checkpoint").unlink()
    (store / "train.checkpoint").hardlink_to(version_file("train", 6))
    os.utime(folder, ns=(before.st_atime_ns, before.st_mtime_ns))
    become("owner")
    for attempt in (opened().load_checkpoint, opened().has_checkpoint, opened().history):
        with pytest.raises(RollbackError, match="do not lead back to version 6"):
            attempt("train")
    with pytest.raises(RollbackError, match="do not lead back to version 6"):
        opened().save_checkpoint("train", 7)


def test_a_newest_version_taken_away_above_a_deletion_is_refused_to_a_reader_without_a_memory(
    opened: Opened, version_file: VersionFile
) -> None:
    """No deletion ever includes the newest version, so one stood above the last that was deleted."""
    opened().delete_versions("train", [2, 3])
    take_away(version_file("train", 4))
    fresh = opened(forgetful=True)
    attempts: list[Callable[[], object]] = [
        lambda: fresh.load_checkpoint("train"),
        lambda: fresh.has_checkpoint("train"),
        lambda: fresh.save_checkpoint("train", 5),
        lambda: fresh.history("train"),
    ]
    for attempt in attempts:
        with pytest.raises(RollbackError, match="was deleted below a newer one"):
            attempt()
    assert "rolled-back" in {finding.state for finding in fresh.verify("train").problems}


def test_a_head_put_back_below_a_deleted_version_hides_nothing_from_a_running_process(
    opened: Opened, store: Path, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    become("reader")
    running = opened()
    assert running.load_checkpoint("train")["number"] == 4
    become("writer")
    writer = opened()
    for number in range(5, 9):
        writer.save_checkpoint("train", {"number": number})
    writer.delete_versions("train", [5, 6])
    (store / "train.checkpoint").unlink()
    os.link(version_file("train", 4), store / "train.checkpoint")
    become("reader")
    assert running.load_checkpoint("train") == {"number": 8}
    assert running.save_checkpoint("train", "precious").number == 9


def test_a_head_and_a_record_of_deletions_put_back_hide_nothing_from_a_running_process(
    opened: Opened, store: Path, tmp_path: Path, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    become("reader")
    running = opened()
    assert running.load_checkpoint("train")["number"] == 4
    record = store / "history" / "train" / "gaps"
    os.link(record, tmp_path / "gaps")
    become("writer")
    writer = opened()
    for number in range(5, 9):
        writer.save_checkpoint("train", {"number": number})
    writer.delete_versions("train", [5, 6])
    (store / "train.checkpoint").unlink()
    os.link(version_file("train", 4), store / "train.checkpoint")
    (tmp_path / "gaps").replace(record)
    become("reader")
    with pytest.raises(RollbackError, match="do not lead back to version 4"):
        running.load_checkpoint("train")


def test_a_newest_version_taken_away_above_a_deletion_is_refused_to_a_running_process(
    opened: Opened, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    become("reader")
    running = opened()
    assert running.load_checkpoint("train")["number"] == 4
    become("writer")
    writer = opened()
    for number in (5, 6):
        writer.save_checkpoint("train", {"number": number})
    writer.delete_versions("train", [5])
    take_away(version_file("train", 6))
    become("reader")
    with pytest.raises(RollbackError, match="was deleted below a newer one"):
        running.load_checkpoint("train")


def test_a_deleted_version_in_the_place_of_the_newest_is_refused(opened: Opened, version_file: VersionFile) -> None:
    kept = version_file("train", 3).read_bytes()
    opened().delete_versions("train", [3])
    put(version_file("train", 3), kept)
    take_away(version_file("train", 4))
    with pytest.raises(RollbackError):
        opened(forgetful=True).load_checkpoint("train")


def test_what_was_taken_away_can_be_accepted_and_no_number_is_used_twice(opened: Opened, version_file: VersionFile) -> None:
    opened().delete_versions("train", [3])
    take_away(version_file("train", 4))
    fresh = opened(forgetful=True)
    assert [version.number for version in fresh.accept_rollback("train")] == [4]
    assert fresh.load_checkpoint("train") == {"stage": "train", "number": 2}
    assert fresh.verify("train").ok


def test_after_a_warning_no_number_of_a_recorded_deletion_is_used(
    opened: Opened, store: Path, version_file: VersionFile
) -> None:
    opened().delete_versions("train", [3])
    take_away(version_file("train", 4))
    opened(forgetful=True)
    warned = CheckpointManager(store, key=bytes(range(32)), on_rollback="warn")
    assert warned.save_checkpoint("train", 5).number == 4
    assert warned._store.gaps("train")[0].find(3) is not None


def test_lost_versions_at_the_top_are_what_a_killed_acceptance_leaves(opened: Opened) -> None:
    cm = opened()
    gaps, record = cm._store.gaps("train")
    newest = cm._store.entry("train", 4)
    cm._store.write_gaps("train", gaps.add(Gap(5, 7, newest.id, "ab" * 16, "lost")), record)
    fresh = opened(forgetful=True)
    assert fresh.load_checkpoint("train")["number"] == 4
    assert fresh.save_checkpoint("train", 8).number == 8
    assert fresh._store.entry("train", 8).previous == "ab" * 16
    assert fresh.verify("train").ok


# Another history


FORKS = ["intact", "its first removed", "its first damaged", "the seen one put back", "the seen one and its next put back"]


@pytest.mark.parametrize("how", FORKS)
def test_a_history_that_does_not_lead_back_to_the_version_seen_is_refused(
    store: Path, tmp_path: Path, version_file: VersionFile, become: Callable[[str], None], how: str
) -> None:
    key = bytes(range(32))
    become("owner")
    shutil.copytree(store, tmp_path / "old")
    CheckpointManager(store, key=key).save_checkpoint("train", "fifth")
    fifth = version_file("train", 5).read_bytes()
    become("colleague")
    CheckpointManager(store, key=key).save_checkpoint("train", "sixth")
    sixth = version_file("train", 6).read_bytes()
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "old", store)
    become("job")
    job = CheckpointManager(store, key=key)
    for number in (5, 6, 7):
        job.save_checkpoint("train", {"fork": number})
    if how == "its first removed":
        take_away(version_file("train", 5))
    elif how == "its first damaged":
        put(version_file("train", 5), b"damaged")
    elif how != "intact":
        put(version_file("train", 5), fifth)
    if how == "the seen one and its next put back":
        put(version_file("train", 6), sixth)
    become("owner")
    cm = CheckpointManager(store, key=key)
    attempts: list[Callable[[], object]] = [
        lambda: cm.load_checkpoint("train"),
        lambda: cm.save_checkpoint("train", 8),
        lambda: cm.history("train"),
        lambda: cm.has_checkpoint("train"),
    ]
    for attempt in attempts:
        with pytest.raises(RollbackError, match="do not lead back to version 5"):
            attempt()
    cm.accept_rollback("train")
    assert cm.load_checkpoint("train") == {"fork": 7}


def test_a_fork_hidden_behind_planted_damage_is_refused(
    store: Path, tmp_path: Path, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    """The fork's writer found garbage at the next number, and names the last version that it could read: not the seen one."""
    key = bytes(range(32))
    become("owner")
    shutil.copytree(store, tmp_path / "old")
    CheckpointManager(store, key=key).save_checkpoint("train", "fifth")
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "old", store)
    put(version_file("train", 5), b"planted")
    become("job")
    job = CheckpointManager(store, key=key)
    assert job.save_checkpoint("train", "fork").number == 6
    assert job._store.entry("train", 6).previous == job._store.entry("train", 4).id
    become("owner")
    with pytest.raises(RollbackError):
        CheckpointManager(store, key=key).load_checkpoint("train")


def test_a_seen_version_that_was_damaged_and_saved_over_is_told_with_what_mends_it(
    opened: Opened, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    become("owner")
    opened().save_checkpoint("train", 5)
    put(version_file("train", 5), b"damaged")
    become("job")
    assert opened().save_checkpoint("train", 6).number == 6
    become("owner")
    with pytest.raises(RollbackError, match="version 5 as it was seen, which is damaged") as caught:
        opened().load_checkpoint("train")
    assert caught.value.hint is Hint.REPAIR_OR_RESTORE
    opened().repair()
    assert opened().load_checkpoint("train") == 6
    assert opened().verify("train").ok


def test_a_long_way_back_is_followed_over_deletions_and_damage_once(
    store: Path, version_file: VersionFile, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = bytes(range(32))
    become("owner")
    CheckpointManager(store, key=key).load_checkpoint("train")  # sees version 4
    become("colleague")
    cm = CheckpointManager(store, key=key)
    for number in range(5, 10):
        cm.save_checkpoint("train", number)
    put(version_file("train", 10), b"damaged")
    CheckpointManager(store, key=key).save_checkpoint("train", 11)
    CheckpointManager(store, key=key).delete_versions("train", [4, 6, 7])
    become("owner")
    cm = CheckpointManager(store, key=key)
    assert cm.load_checkpoint("train") == 11
    monkeypatch.setattr(cm._store, "entry", None)  # no version's metadata is read by itself any more
    assert cm.load_checkpoint("train") == 11


def test_a_save_after_planted_garbage_names_the_last_version_that_could_be_read(
    opened: Opened, version_file: VersionFile
) -> None:
    for number in (5, 6):
        put(version_file("train", number), b"junk")
    cm = opened()
    saved = cm.save_checkpoint("train", "honest")
    assert saved.number == 7
    assert cm._store.entry("train", 7).previous == cm._store.entry("train", 4).id


@pytest.mark.skipif(sys.platform != "linux", reason="one flush for all needs Linux")
def test_planted_versions_cost_a_save_no_flush_each(
    opened: Opened, version_file: VersionFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them would be flushed while the stage is locked, and a flush takes milliseconds."""
    for number in range(10, 400):
        put(version_file("train", number), b"junk")
    cm = opened()
    flushed: list[None] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(fsync(descriptor)))
    assert cm.save_checkpoint("train", "honest").number == 400
    assert 0 < len(flushed) < 20


# A deletion or a clearing undone


def test_a_deletion_undone_by_removing_its_record_is_refused(opened: Opened, store: Path, version_file: VersionFile) -> None:
    kept = version_file("train", 2).read_bytes()
    before = (store / "history" / "train" / "gaps").read_bytes()
    running = opened()
    running.delete_versions("train", [2])
    for data in (None, before):
        put(version_file("train", 2), kept)
        record = store / "history" / "train" / "gaps"
        record.unlink(missing_ok=True)
        if data is not None:
            record.write_bytes(data)
        for cm in (running, opened()):
            with pytest.raises(RollbackError, match=r"record of deleted versions .* was rolled back"):
                cm.load_checkpoint("train", 2)
            with pytest.raises(RollbackError):
                cm.history("train")
            with pytest.raises(RollbackError):
                cm.delete_versions("train", [3])
        assert "rolled-back" in {finding.state for finding in opened().verify("train").problems}
    opened().accept_rollback("train")
    assert opened().load_checkpoint("train", 2) == {"stage": "train", "number": 2}
    assert opened().verify("train").ok


def test_a_deleted_result_put_back_is_not_reused(opened: Opened, store: Path) -> None:
    ran: list[int] = []

    def work(cm: CheckpointManager) -> Callable[[int], int]:
        @cm.stage("square")
        def square(number: int) -> int:
            ran.append(number)
            return number * number

        return square

    square = work(opened())
    for number in (1, 2, 3):
        square(number)
    shutil.copytree(store, store.parent / "old")
    opened().delete_versions("square", [1])
    folder = store / "history" / "square"
    shutil.copy(store.parent / "old" / "history" / "square" / "000000000001.checkpoint", folder)
    (folder / "gaps").unlink()
    with pytest.raises(CheckpointError):
        work(opened())(1)
    assert ran == [1, 2, 3]


def test_an_older_record_of_deletions_of_format_1_is_read_and_replaced(opened: Opened, store: Path) -> None:
    cm = opened()
    key_id, key = cm._store.keyring.active
    old = sealed_gaps.RecordFormat(sealed_gaps.FORMAT_1, of="deleted versions", max_bytes=1000)
    gaps = cm._store.gaps("train")[0]
    file = old.seal(key_id, key, cm._store.keyring.store_id, "train", sealed_gaps.encode_list(gaps))
    path = store / "history" / "train" / "gaps"
    put(path, file)
    with pytest.raises(RollbackError):  # it has no number, and this user has seen one
        opened().history("train")
    fresh = opened(forgetful=True)
    assert [version.number for version in fresh.history("train")] == [4, 3, 2]
    fresh.delete_versions("train", [2])
    assert path.read_bytes().startswith(b'{"format":"checkpoint-manager-gaps/2"')
    assert fresh._store.gaps("train")[0].serial == 1


def test_a_record_of_deletions_needs_its_serial_and_its_id() -> None:
    gaps = Gaps().add(Gap(1, 2, None, "ab" * 16))
    assert sealed_gaps.decode(sealed_gaps.encode(gaps)) == gaps
    assert sealed_gaps.decode(sealed_gaps.encode(gaps)).serial == 1
    for content in (b'[0,"' + b"a" * 32 + b'",[]]', b'[1,"",[]]', b"[1]", b"{}", b'["1","' + b"a" * 32 + b'",[]]', b"1"):
        with pytest.raises(sealed_gaps.BrokenError):
            sealed_gaps.decode(content)


def test_a_clearing_taken_away_is_refused(opened: Opened, version_file: VersionFile) -> None:
    opened().clear_checkpoint("train")
    version_file("train", 5).unlink()
    assert not opened().has_checkpoint("train")  # it is read by its pending name, and is there again
    take_away(version_file("train", 5))
    with pytest.raises(RollbackError):
        opened().has_checkpoint("train")


# Stages that vanish, and stages that nobody saved


def test_a_vanished_stage_stops_whatever_goes_over_all_stages(opened: Opened, store: Path, tmp_path: Path) -> None:
    moment = datetime.now(UTC)
    opened().save_checkpoint("clean", "later")
    shutil.rmtree(store / "history" / "train")
    (store / "train.checkpoint").unlink()
    cm = opened()
    before = cm.history("clean")
    attempts: list[Callable[[], object]] = [
        lambda: cm.restore_pipeline(at=moment),
        cm.clear_checkpoints,
        lambda: cm.prune(Retention(keep_last=1)),
        lambda: cm.prune(Retention(keep_last=1), dry_run=True),
        lambda: cm.export_bundle(tmp_path / "bundle", key=bytes(32)),
    ]
    for attempt in attempts:
        with pytest.raises(RollbackError, match="is gone"):
            attempt()
    assert cm.history("clean") == before
    assert cm.stages() == ["clean", "train"]


def test_planted_stages_are_not_stages(opened: Opened, store: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("approved-by-cfo", "%2d-yes"):
        (store / "history" / name).mkdir()
        (store / "history" / name / "000000000041.checkpoint").write_bytes(b"x")
    cm = opened()
    assert cm.stages() == ["clean", "train"]
    assert "Not counted as a stage: approved-by-cfo" in caplog.text
    caplog.clear()
    assert cm.stages(prefix="tr") == ["train"]
    assert "Not counted" not in caplog.text  # what is not asked for is not looked into
    assert {version.stage for version in cm.clear_checkpoints()} == {"clean", "train"}
    assert [version.status for version in cm.history("approved-by-cfo")] == ["damaged"]
    assert not cm.verify().ok


def test_a_file_of_another_stage_makes_no_stage(opened: Opened, store: Path, version_file: VersionFile) -> None:
    (store / "history" / "copy").mkdir()
    shutil.copy(version_file("train", 4), store / "history" / "copy")
    assert opened().stages() == ["clean", "train"]
    with pytest.raises(IntegrityError):
        opened().load_checkpoint("copy")


def test_a_stage_whose_newest_version_is_damaged_stays_a_stage_for_all(opened: Opened, version_file: VersionFile) -> None:
    put(version_file("train", 4), b"damaged")
    assert opened(forgetful=True).stages() == ["clean", "train"]


# Damaged and missing versions, and files of a newer format


def test_damaged_and_missing_versions_stand_in_the_history(opened: Opened, version_file: VersionFile) -> None:
    cm = opened()
    for number in range(5, 8):
        cm.save_checkpoint("train", number)
    put(version_file("train", 6), b"damaged")
    take_away(version_file("train", 3))
    take_away(version_file("train", 4))
    listed: list[Any] = opened().history("train")
    assert [(version.number, version.status) for version in listed] == [
        (7, "completed"),
        (6, "damaged"),
        (5, "completed"),
        (4, "missing"),
        (3, "missing"),
        (2, "completed"),
    ]
    for version in listed:
        known = version.status == "completed"
        assert (version.created_at is not None, version.origin is not None, version.size is not None) == (known,) * 3
    with pytest.raises(IntegrityError, match="version 6"):
        opened().load_checkpoint("train", "prev")
    assert opened().restore_checkpoint("train", 5).restored_from == 5


def test_planted_numbers_far_above_cost_nothing(opened: Opened, version_file: VersionFile) -> None:
    put(version_file("train", 999_999_999_999), b"planted")
    assert [(version.number, version.status) for version in opened().history("train")] == [
        (999_999_999_999, "damaged"),
        *((number, "completed") for number in (4, 3, 2)),
    ]


def test_a_planted_header_of_a_newer_format_is_a_damaged_version(
    opened: Opened, version_file: VersionFile, caplog: pytest.LogCaptureFixture
) -> None:
    put(version_file("train", 5), b'{"format":"checkpoint-manager/2","x":1}\n')
    cm = opened()
    assert not cm.has_checkpoint("train")
    assert "checkpoint-manager/2" in caplog.text
    assert [version.status for version in cm.history("train")][:2] == ["damaged", "completed"]
    assert cm.verify("clean").ok
    assert cm.save_checkpoint("train", 6).number == 6


@pytest.mark.parametrize("name", ["000000000003.checkpoint", "gaps", "tags"])
def test_a_file_of_a_newer_format_is_told_as_such_and_moved_by_no_repair(
    store: Path, opened: Opened, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer version of the library may have written it: then it is whole, and a repair would lose what it says."""
    path = store / "history" / "train" / name
    opened().tag("train", 3, "good")
    content = re.sub(rb'("format":"[a-z-]+/)[0-9]', rb"\g<1>9", path.read_bytes(), count=1)
    put(path, content)
    cm = opened()
    report = cm.verify()
    told = [finding.detail for finding in report.problems if finding.state == "newer"]
    assert not report.ok
    assert len(told) == 1
    assert "/9, and this version of the library reads" in told[0]
    assert "or a newer one" in told[0]
    assert [step.action for step in (*cm.repair(dry_run=True), *cm.repair())] == []
    assert path.read_bytes() == content
    with pytest.raises(IntegrityError, match="or a newer one") as caught:
        cm.keys.rotate()
    assert ("Not repaired" in caplog.text) == (name == "gaps")
    assert caught.value.stage == "train"


def test_a_repair_says_what_it_would_do_about_a_damaged_record_of_deletions_of_a_stage_with_attachments(
    store: Path, opened: Opened
) -> None:
    opened().save_checkpoint("train", 5, attachments={"file": b"x" * 100})
    path = store / "history" / "train" / "gaps"
    put(path, path.read_bytes()[:-1])
    cm = opened()
    assert [step.action for step in cm.repair(dry_run=True)] == ["set-aside"]
    assert [step.action for step in cm.repair()] == ["set-aside"]
    assert cm.save_checkpoint("train", 6).number == 6


def test_metadata_of_the_library_can_not_be_given_by_a_caller(opened: Opened) -> None:
    cm = opened()
    for metadata in ({"@stage": {}}, {"@progress": "90 %"}, {"a": 1, "@": None}):
        with pytest.raises(ValueError, match="keys that begin with @") as caught:
            cm.save_checkpoint("train", 5, metadata=metadata)
        assert getattr(caught.value, "path", "") == f"$[key {len(metadata)}]"
        with pytest.raises(ValueError, match="keys that begin with @"):
            cm.update_checkpoint("train", lambda data: data, metadata=metadata)
    assert cm.save_checkpoint("train", 5, metadata={"e@mail": "a@b"}).number == 5
    assert os.path.isdir(cm._store.backend.location)


# Versions of another history of the same store


@pytest.fixture
def fork(opened: Opened, store: Path, tmp_path: Path, become: Callable[[str], None]) -> Path:
    """A copy of the store as it was at version 3, which went on by itself under the same key: another 4, 5, …"""
    cm = opened()
    shutil.copytree(store, tmp_path / "fork")
    take_away(tmp_path / "fork" / "history" / "train" / "000000000004.checkpoint")
    (tmp_path / "fork" / "train.checkpoint").unlink()
    become("of the copy")
    copy = CheckpointManager(tmp_path / "fork", key=KEY)
    for number in range(4, 9):
        copy.save_checkpoint("train", {"forked": number})
    become("of the store")
    for number in range(5, 9):
        cm.save_checkpoint("train", {"number": number})
    opened().load_checkpoint("train")
    return tmp_path / "fork" / "history" / "train"


READS: dict[str, Callable[[CheckpointManager], object]] = {
    "load": lambda cm: cm.load_checkpoint("train", 4),
    "diff": lambda cm: cm.diff("train", 4, 8),
    "restore": lambda cm: cm.restore_checkpoint("train", 4),
}


@pytest.mark.parametrize("forked", [[4], [4, 5], [4, 5, 6]])
@pytest.mark.parametrize("read", READS)
def test_an_older_version_of_another_history_is_refused(
    opened: Opened, version_file: VersionFile, fork: Path, read: str, forked: list[int]
) -> None:
    """It is genuine, and of this store, stage and number; the versions above it do not lead back to it."""
    for number in forked:
        put(version_file("train", number), (fork / f"{number:012d}.checkpoint").read_bytes())
    for cm in (opened(), opened(forgetful=True)):
        assert cm.load_checkpoint("train") == {"number": 8}
        with pytest.raises(IntegrityError, match=f"version {max(forked)} .* is of another history"):
            READS[read](cm)
        history = {each.number: each.status for each in cm.history("train")}
        assert {number for number, status in history.items() if status == "damaged"} == {2, 3, *forked}, "as it is loaded"
        assert history[8] == "completed"


def test_a_version_exchanged_after_it_was_read_is_refused(opened: Opened, version_file: VersionFile, fork: Path) -> None:
    cm = opened()
    assert cm.load_checkpoint("train", 4) == {"stage": "train", "number": 4}
    cm.save_checkpoint("train", 9)
    assert cm.load_checkpoint("train", 5) == {"number": 5}
    put(version_file("train", 4), (fork / "000000000004.checkpoint").read_bytes())
    with pytest.raises(IntegrityError, match=r"version 4 .* is of another history"):
        cm.load_checkpoint("train", 4)


def test_the_last_completed_version_below_a_failure_is_not_taken_from_another_history(
    opened: Opened, version_file: VersionFile, fork: Path
) -> None:
    cm = opened()

    @cm.stage("train")
    def train() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train()
    assert cm.load_checkpoint("train") == {"number": 8}
    put(version_file("train", 8), (fork / "000000000008.checkpoint").read_bytes())
    for reader in (cm, opened(), opened(forgetful=True)):
        with pytest.raises(IntegrityError, match=r"version 8 .* is of another history"):
            reader.load_checkpoint("train")


def test_versions_below_damage_a_deletion_or_what_was_put_back_stay_readable(opened: Opened, version_file: VersionFile) -> None:
    """What was unreadable when the next version was saved is not named by it."""
    cm = opened()
    whole = version_file("train", 4).read_bytes()
    put(version_file("train", 4), b"")
    for number in range(5, 10):
        opened(forgetful=True).save_checkpoint("train", number)
    put(version_file("train", 4), whole)
    cm.delete_versions("train", [6])
    put(version_file("train", 8), b"")
    for reader in (cm, opened(), opened(forgetful=True)):
        assert reader.load_checkpoint("train", 7) == 7
        assert reader.load_checkpoint("train", 5) == 5
        assert reader.load_checkpoint("train", 3) == {"stage": "train", "number": 3}
        assert reader.load_checkpoint("train", 4) == {"stage": "train", "number": 4}


def test_a_repair_sets_the_version_of_another_history_aside_and_not_the_genuine_one(
    opened: Opened, version_file: VersionFile, fork: Path
) -> None:
    put(version_file("train", 4), (fork / "000000000004.checkpoint").read_bytes())
    cm = opened()
    assert [each.version for each in cm.verify("train").problems if each.state == "foreign"] == [4]
    assert [step.version for step in cm.repair() if step.action == "set-aside"] == [4]
    for reader in (cm, opened(), opened(forgetful=True)):
        assert reader.verify("train").ok
        assert reader.load_checkpoint("train", 5) == {"number": 5}
        assert reader.load_checkpoint("train", 3) == {"stage": "train", "number": 3}
        with pytest.raises(CheckpointError, match="was set aside"):
            reader.load_checkpoint("train", 4)
    assert cm.save_checkpoint("train", 9).number == 9
    assert opened().load_checkpoint("train") == 9


# Saves that a power cut may take


@pytest.fixture
def relaxed(store: Path) -> CheckpointManager:
    return CheckpointManager(store, key=KEY, lock_timeout=0.2, durability="relaxed")


def test_a_relaxed_save_that_is_lost_below_another_one_is_missing_and_no_rollback(
    opened: Opened, relaxed: CheckpointManager, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    """A power cut takes what was not durable in any order. Whoever saw what was durable goes on."""
    become("owner")
    opened().load_checkpoint("train")
    become("other")
    opened().load_checkpoint("train")
    become("owner")
    for number in (5, 6, 7):
        relaxed.save_checkpoint("train", {"number": number})
    for lost in (5, 6):
        version_file("train", lost).unlink()
    fresh = opened()
    assert fresh.load_checkpoint("train") == {"number": 7}
    assert [(each.number, each.status) for each in fresh.history("train")][:3] == [
        (7, "completed"),
        (6, "missing"),
        (5, "missing"),
    ]
    assert "missing" in {each.state for each in fresh.verify("train").problems}
    assert fresh.save_checkpoint("train", 8).number == 8
    become("other")
    assert opened().load_checkpoint("train") == 8


def test_a_stage_is_remembered_from_its_first_relaxed_save(tmp_path: Path) -> None:
    """The first version of a stage is durable in a relaxed store, too."""
    store = tmp_path / "store"
    CheckpointManager(store, key=KEY, durability="relaxed").save_checkpoint("train", 1)
    shutil.rmtree(store / "history" / "train")
    (store / "train.checkpoint").unlink()
    with pytest.raises(RollbackError):
        CheckpointManager(store, key=KEY).has_checkpoint("train")


def test_relaxed_saves_of_another_history_are_refused(
    opened: Opened, relaxed: CheckpointManager, store: Path, tmp_path: Path, version_file: VersionFile
) -> None:
    """They lead back to what was durable when the two histories parted, and not to what was seen since."""
    shutil.copytree(store, tmp_path / "copy")
    copy = CheckpointManager(tmp_path / "copy", key=KEY, lock_timeout=0.2, durability="relaxed")
    for number in (5, 6):
        copy.save_checkpoint("train", {"number": -number})
    relaxed.save_checkpoint("train", {"number": 5})
    assert opened().load_checkpoint("train") == {"number": 5}
    for number in (5, 6):
        put(version_file("train", number), (tmp_path / "copy/history/train" / version_file("train", number).name).read_bytes())
    take_away(version_file("train", 5))
    with pytest.raises(RollbackError, match="do not lead back to version 5"):
        opened().load_checkpoint("train")


def test_the_versions_between_durable_ones_are_not_read_to_find_that_they_lead_back(
    opened: Opened, relaxed: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each relaxed version names a durable one, so the first look of a process does not follow thousands of them."""
    for number in range(5, 251):
        relaxed.save_checkpoint("train", number)
    read: list[int] = []
    open_version = LocalBackend.open

    def noted(self: LocalBackend, stage: str, version: int, *, session: Session | None = None) -> Any:
        read.append(version)
        return open_version(self, stage, version, session=session)

    monkeypatch.setattr(LocalBackend, "open", noted)
    assert opened().load_checkpoint("train") == 250
    assert read == [250, 200, 100]


def test_a_version_of_another_history_is_refused_where_relaxed_saves_name_a_durable_one(
    opened: Opened, relaxed: CheckpointManager, store: Path, tmp_path: Path, version_file: VersionFile
) -> None:
    shutil.copytree(store, tmp_path / "copy")
    copy = CheckpointManager(tmp_path / "copy", key=KEY, durability="relaxed")
    for number in range(5, 101):
        relaxed.save_checkpoint("train", number)
        copy.save_checkpoint("train", -number)
    relaxed.save_checkpoint("train", 101)
    put(version_file("train", 100), (tmp_path / "copy/history/train" / version_file("train", 100).name).read_bytes())
    with pytest.raises(RollbackError, match="do not lead back to version 4"):
        opened().load_checkpoint("train")


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize(("saved", "removed"), [((5, 6), 5), ((5, 6, 7), 6)])
def test_a_head_put_back_below_a_version_taken_away_hides_nothing_from_a_running_process(
    opened: Opened,
    store: Path,
    version_file: VersionFile,
    become: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    saved: tuple[int, ...],
    removed: int,
    long: bool,
) -> None:
    """The head is set back to the version that the process knows, or to one that follows it."""
    monkeypatch.setattr(backend, "_BLOCK_BYTES", 0 if long else 1_000_000)
    become("owner")
    attempts: list[Callable[[CheckpointManager], object]] = [
        lambda cm: cm.load_checkpoint("train"),
        lambda cm: cm.has_checkpoint("train"),
        lambda cm: cm.history("train"),
        lambda cm: cm.save_checkpoint("train", 9),
    ]
    running = [opened() for _ in attempts]
    for each in running:
        assert each.load_checkpoint("train") == {"stage": "train", "number": 4}
    become("other")
    for number in saved:
        opened().save_checkpoint("train", number)
    take_away(version_file("train", removed))
    (store / "train.checkpoint").unlink()
    (store / "train.checkpoint").hardlink_to(version_file("train", removed - 1))
    become("owner")
    for each, attempt in zip(running, attempts, strict=True):
        with pytest.raises(RollbackError, match="do not lead back to version 4"):
            attempt(each)


def test_a_head_put_back_in_the_same_tick_of_the_clock_hides_nothing_from_a_running_process(
    opened: Opened, store: Path, version_file: VersionFile, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Linux before 6.13, the folder may have the same time of change before and after it."""
    monkeypatch.setattr(file_times, "_kernel", lambda: (6, 12))
    tick = time.time_ns()

    def coarse(look: Callable[..., os.stat_result], *place: Any, **options: Any) -> os.stat_result:
        status = look(*place, **options)
        return os.stat_result(tuple(status), {"st_ctime_ns": min(status.st_ctime_ns, tick), "st_mtime_ns": status.st_mtime_ns})

    monkeypatch.setattr(os, "lstat", functools.partial(coarse, os.lstat))
    monkeypatch.setattr(os, "fstat", functools.partial(coarse, os.fstat))
    become("owner")
    reader, writer = opened(), opened()
    assert reader.load_checkpoint("train") == {"stage": "train", "number": 4}
    writer.save_checkpoint("train", 5)
    become("other")
    for number in (6, 7):
        opened().save_checkpoint("train", number)
    take_away(version_file("train", 6))
    (store / "train.checkpoint").unlink()
    (store / "train.checkpoint").hardlink_to(version_file("train", 5))
    become("owner")
    for attempt in (reader.load_checkpoint, writer.load_checkpoint, writer.save_checkpoint):
        with pytest.raises(RollbackError, match="do not lead back to version 5"):
            attempt("train")


def test_a_durable_version_that_was_deleted_and_came_back_does_not_interrupt_the_history(
    opened: Opened, relaxed: CheckpointManager, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    """A power cut may undo a part of a deletion: the record of it leads on, and not the version."""
    become("owner")
    opened().load_checkpoint("train")
    become("other")
    for number in range(5, 202):
        relaxed.save_checkpoint("train", number)
    durable = version_file("train", 200).read_bytes()
    relaxed.delete_versions("train", range(50, 201))
    put(version_file("train", 200), durable)
    become("owner")
    assert opened().load_checkpoint("train") == 201


def test_a_relaxed_save_names_what_was_seen_while_the_one_before_it_was_made(
    opened: Opened, relaxed: CheckpointManager, version_file: VersionFile
) -> None:
    """A reader makes durable what it reads, and remembers it, in the middle of another process's save."""
    relaxed.save_checkpoint("train", 5)
    relaxed.update_checkpoint("train", lambda _: opened().load_checkpoint("train"))
    relaxed.save_checkpoint("train", 7)
    version_file("train", 6).unlink()
    assert opened().load_checkpoint("train") == 7


def test_going_on_in_another_history_after_a_warning_does_not_make_it_the_one_that_was_seen(
    opened: Opened, store: Path, tmp_path: Path
) -> None:
    shutil.copytree(store, tmp_path / "older")
    opened().save_checkpoint("train", 5)
    shutil.rmtree(store)
    (tmp_path / "older").rename(store)
    warned = CheckpointManager(store, key=KEY, durability="relaxed", on_rollback="warn")
    for _ in range(3):
        warned.save_checkpoint("train", "of another history")
    with pytest.raises(RollbackError, match="do not lead back to version 5"):
        opened().load_checkpoint("train")


# What another process of this user has noted meanwhile


def test_a_save_builds_on_the_version_in_its_place_and_on_none_that_was_saved_in_a_copy(
    opened: Opened, store: Path, tmp_path: Path, become: Callable[[str], None]
) -> None:
    """What a user has seen is noted for the store, wherever it lies: a copy of it has the same number, and another version."""
    become("first")
    running = opened()
    running.save_checkpoint("train", 5)
    shutil.copytree(store, tmp_path / "copy")
    opened(directory=tmp_path / "copy").save_checkpoint("train", "6 of the copy")
    become("second")
    opened().save_checkpoint("train", 6)
    become("first")
    with pytest.raises(RollbackError, match="do not lead back to version 6"):
        running.save_checkpoint("train", 7)
    become("second")
    assert opened().load_checkpoint("train") == 6


def test_a_save_above_a_version_that_was_noted_and_is_damaged_names_the_last_readable_one(
    opened: Opened, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    """Another user, who has seen that one, could load nothing any more if it named the damaged one."""
    become("first")
    running = opened()
    running.save_checkpoint("train", 5)
    become("second")
    opened().load_checkpoint("train")
    become("first")
    opened().save_checkpoint("train", 6)
    put(version_file("train", 6), b"damaged")
    running.save_checkpoint("train", 7)
    become("second")
    assert opened().load_checkpoint("train") == 7


# A version whose only copy is the head


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_newest_version_whose_names_are_removed_comes_back_from_the_head(
    opened: Opened, version_file: VersionFile, forgetful: bool
) -> None:
    leave_the_head(version_file("train", 4))
    leave_the_head(version_file("train", 3))
    (finding,) = [each for each in opened(forgetful=forgetful).verify("train").problems if each.version == 4]
    assert "one copy is left" in finding.detail
    cm = opened(forgetful=forgetful)
    assert cm.load_checkpoint("train")["number"] == 4
    assert [(each.number, each.status) for each in cm.history("train")] == [(4, "completed"), (3, "missing"), (2, "completed")]
    assert cm.save_checkpoint("train", 5).number == 5


def test_a_repair_puts_a_stage_back_of_which_only_the_head_is_left(opened: Opened, store: Path, tmp_path: Path) -> None:
    shutil.rmtree(store / "history" / "train")
    shutil.copytree(store, tmp_path / "copy")
    assert opened(forgetful=True, directory=tmp_path / "copy").load_checkpoint("train")["number"] == 4
    cm = opened(forgetful=True)
    assert "train" in {each.stage for each in cm.verify().problems}
    assert [(each.action, each.version) for each in cm.repair(dry_run=True)] == [("put-back", 4)]
    assert [(each.action, each.version) for each in cm.repair()] == [("put-back", 4)]
    assert opened(forgetful=True).load_checkpoint("train")["number"] == 4


def test_a_head_that_was_written_as_something_else_is_put_back_nowhere(
    opened: Opened, store: Path, version_file: VersionFile, tmp_path: Path
) -> None:
    """It claims a version to come: of another stage, of another key, edited, or cut short."""
    opened().save_checkpoint("clean", 5)
    other = CheckpointManager(tmp_path / "other", key=KEY)
    for number in range(1, 10):
        other.save_checkpoint("train", number)
    claims = version_file("clean", 5).read_bytes()
    for content in (
        claims,
        (tmp_path / "other" / "train.checkpoint").read_bytes(),
        version_file("train", 4).read_bytes().replace(b'"version":4', b'"version":5'),
        claims[:200],
        b"",
    ):
        put(store / "train.checkpoint", content)
        for cm in (opened(), opened(forgetful=True)):
            assert cm.load_checkpoint("train")["number"] == 4
            assert [each.number for each in cm.history("train")] == [4, 3, 2]


def test_a_head_that_is_the_only_copy_of_a_version_of_another_history_is_a_rollback(
    opened: Opened, store: Path, fork: Path, become: Callable[[str], None]
) -> None:
    become("of the copy")
    CheckpointManager(fork.parents[1], key=KEY).save_checkpoint("train", "of the copy")
    become("of the store")
    put(store / "train.checkpoint", (fork.parents[1] / "train.checkpoint").read_bytes())
    with pytest.raises(RollbackError, match="do not lead back to version 8"):
        opened().load_checkpoint("train")


def test_a_version_whose_only_copy_is_the_head_is_lost_by_no_rotation_and_no_acceptance(
    opened: Opened, version_file: VersionFile
) -> None:
    running = opened()
    running.load_checkpoint("train")
    for operate in (
        lambda cm: cm.keys.rotate(),
        lambda cm: cm.accept_rollback(),
        lambda cm: cm.load_checkpoint("train"),
        lambda cm: cm.repair(),
    ):
        leave_the_head(version_file("train", 4))
        operate(running)
        assert opened().load_checkpoint("train")["number"] == 4
        assert opened().verify().ok


@pytest.mark.parametrize("stage", ["train", "a long name " * 15])
def test_a_stage_of_which_only_the_head_is_left_is_a_stage_for_a_reader_without_a_memory(
    opened: Opened, store: Path, stage: str
) -> None:
    """Its folder stands empty; without it, nobody could tell the stage of a long name."""
    opened().save_checkpoint(stage, "newest")
    for path in (store / "history" / to_filename(stage)).glob("0*"):
        path.unlink()
    for operate in (
        lambda cm: cm.stages(),
        lambda cm: [each.stage for each in cm.verify().problems],
        lambda cm: [each.stage for each in cm.repair(dry_run=True)],
    ):
        assert stage in operate(opened(forgetful=True))
    cm = opened(forgetful=True)
    with contextlib.suppress(IntegrityError):  # the versions below are missing
        cm.keys.rotate()
    cm.accept_rollback()
    cm.keys.rotate()
    assert opened(forgetful=True).load_checkpoint(stage) == "newest"


@pytest.mark.parametrize("taken", ["name", "folder"])
def test_no_rotation_drops_the_key_of_a_stage_whose_name_is_lost(opened: Opened, store: Path, taken: str) -> None:
    """The name of such a stage stands in its folder alone; a user who knows the stage needs it nowhere."""
    stage = "a long name " * 15
    opened().save_checkpoint(stage, "newest")
    folder = store / "history" / to_filename(stage)
    shutil.copytree(folder, store.with_name("backup"))
    shutil.rmtree(folder) if taken == "folder" else (folder / "stage").unlink()
    shutil.copytree(store, store.with_name("copy"))
    CheckpointManager(store.with_name("copy"), key=KEY).keys.rotate()
    with pytest.raises(IntegrityError, match="a stage whose name is lost"):
        opened(forgetful=True).keys.rotate()
    shutil.rmtree(folder, ignore_errors=True)
    store.with_name("backup").rename(folder)
    opened().keys.rotate()
    assert opened(forgetful=True).load_checkpoint(stage) == "newest"


def test_a_planted_head_or_an_empty_folder_is_no_stage_and_stops_no_rotation(
    opened: Opened, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (store / "planted.checkpoint").write_bytes((store / "train.checkpoint").read_bytes())
    (store / "junk.checkpoint").write_bytes(b"junk")
    (store / "%%.checkpoint").write_bytes(b"junk")
    (store / "folder.checkpoint").mkdir()
    killed_first_save = store / "history" / to_filename("a long name " * 15)
    killed_first_save.mkdir(0o700)
    (killed_first_save / ".0123456789abcdef.tmp").write_bytes(b"a part")
    cm = opened(forgetful=True)
    assert {"planted", "junk", "folder"}.isdisjoint(cm.stages())
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
    assert {each.action for each in cm.repair()} <= {"remove"}
    cm.accept_rollback()
    cm.prune(Retention(keep_last=9))
    cm.export_bundle(store.with_name("bundle"), key=KEY)
    cm.keys.rotate()
    assert opened(forgetful=True).load_checkpoint("train")["number"] == 4


def test_no_store_begins_where_only_heads_are_left(opened: Opened, store: Path) -> None:
    """A save would take the place of the only copy."""
    shutil.rmtree(store / "history")
    (store / "keyring.json").rename(store.with_name("keyring"))
    with pytest.raises(IntegrityError, match="there are checkpoints"):
        opened(forgetful=True)
    store.with_name("other").mkdir()
    (store.with_name("other") / "model.checkpoint").write_bytes(b"of another program")
    opened(forgetful=True, directory=store.with_name("other")).save_checkpoint("train", 1)
    store.with_name("keyring").rename(store / "keyring.json")
    assert opened(forgetful=True).load_checkpoint("train")["number"] == 4


def test_what_a_power_cut_took_is_recorded_as_lost_and_everything_goes_on(
    opened: Opened, relaxed: CheckpointManager, version_file: VersionFile, become: Callable[[str], None]
) -> None:
    """Also for a user who saw the last durable version alone, which was deleted since."""
    become("other")
    opened().load_checkpoint("train")
    become("owner")
    relaxed.save_checkpoint("train", 5)
    relaxed.save_checkpoint("train", 6, attachments={"w": b"weights"})
    relaxed.save_checkpoint("train", 7, attachments={"w": relaxed.get_checkpoint("train").attachments["w"]})
    for lost in (5, 6):
        version_file("train", lost).unlink()
    cm = opened()
    assert cm.get_checkpoint("train").attachments["w"].read() == b"weights"
    with pytest.raises(IntegrityError, match=r"version 5 .* is missing"):
        cm.keys.rotate()
    assert opened().accept_rollback() == []
    opened().keys.rotate()
    opened().save_checkpoint("train", 8)
    opened().delete_versions("train", [3, 4, 7])
    assert opened().verify().ok
    become("other")
    assert opened().load_checkpoint("train") == 8
    assert opened().restore_checkpoint("train", 2).number == 9
