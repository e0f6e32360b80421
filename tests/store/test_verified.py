"""What was verified or saved before is not looked at again while nothing has changed, and each change is noticed."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, IntegrityError, RollbackError
from checkpoint_manager._filesystem import file_times
from checkpoint_manager._operations import load
from checkpoint_manager.backends.local import LocalBackend, head, version_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(32)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cm(store: Path) -> CheckpointManager:
    """A manager that has verified two versions of a stage, of which the second is the newest."""
    cm = CheckpointManager(store, key=KEY)
    cm.save_checkpoint("train", {"loss": 2}, metadata={"tags": ["a"]})
    cm.save_checkpoint("train", {"loss": 1}, metadata={"tags": ["a"]})
    assert cm.has_checkpoint("train")
    assert cm.load_checkpoint("train") == {"loss": 1}
    return cm


def newest(store: Path, number: int = 2) -> Path:
    return store / "history" / "train" / f"{number:012d}.checkpoint"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that were looked at as a whole."""
    seen: list[str] = []
    whole = load.newest_of_any_kind

    def look(store: Any, stage: str, session: Any = None) -> Any:
        seen.append(stage)
        return whole(store, stage, session)

    first = load.first_look

    def first_look(store: Any, stage: str) -> Any:
        found = first(store, stage)
        if found is not None:
            seen.append(stage)
        return found

    monkeypatch.setattr(load, "newest_of_any_kind", look)
    monkeypatch.setattr(load, "first_look", first_look)
    return seen


def has_fine_times(path: Path) -> bool:
    return file_times.FileTimes(str(path)).is_settled(path.stat(), time.time_ns())


def test_a_stage_that_has_not_changed_is_not_looked_at_again(cm: CheckpointManager, store: Path, looks: list[str]) -> None:
    if not has_fine_times(store):
        pytest.skip("a kernel before Linux 6.13, or another file system: see the test with a coarse clock")
    assert cm.has_checkpoint("train")
    assert cm.load_checkpoint("train") == {"loss": 1}
    assert looks == []
    cm.save_checkpoint("train", {"loss": 0})
    assert cm.load_checkpoint("train") == {"loss": 0}
    assert looks == ["train"]


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file in its place, and put back the times that can be put back."""
    before = path.stat()
    with path.open("r+b") as file:
        content = file.read()
        file.seek(0)
        file.write(change(content))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def damage_data(store: Path) -> None:
    rewrite(newest(store), lambda content: content[:-1] + bytes([content[-1] ^ 1]))


def damage_metadata(store: Path) -> None:
    rewrite(newest(store), lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:])


def exchange_file(store: Path) -> None:
    content = newest(store).read_bytes()
    newest(store).with_suffix(".other").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    newest(store).with_suffix(".other").rename(newest(store))


def exchange_folder(store: Path) -> None:
    folder = newest(store).parent
    shutil.copytree(folder, store / "copy")
    folder.rename(store / "original")
    (store / "copy").rename(folder)
    damage_data(store)


def link_folder(store: Path) -> None:
    folder = newest(store).parent
    folder.rename(store / "elsewhere")
    folder.symlink_to(store / "elsewhere")


def append_a_byte(store: Path) -> None:
    rewrite(newest(store), lambda content: content + b"\0")


def cut_a_byte_off(store: Path) -> None:
    os.truncate(newest(store), newest(store).stat().st_size - 1)


TAMPER = [damage_data, damage_metadata, append_a_byte, cut_a_byte_off, exchange_file, exchange_folder, link_folder]


@pytest.mark.parametrize("change", TAMPER)
def test_a_newest_version_that_is_tampered_with_is_noticed(
    cm: CheckpointManager, store: Path, change: Callable[[Path], None]
) -> None:
    change(store)
    assert not cm.has_checkpoint("train")
    with pytest.raises(IntegrityError):
        cm.load_checkpoint("train")


@pytest.mark.parametrize("change", TAMPER)
@pytest.mark.parametrize("method", ["has_checkpoint", "load_checkpoint"])
def test_tampering_is_noticed_by_a_load_after_the_first_look(
    cm: CheckpointManager, store: Path, method: str, change: Callable[[Path], None]
) -> None:
    other = CheckpointManager(store, key=KEY)
    assert getattr(other, method)("train")
    change(store)
    with pytest.raises(IntegrityError):
        other.load_checkpoint("train")


@pytest.mark.parametrize("method", ["has_checkpoint", "load_checkpoint"])
def test_another_version_that_was_written_over_the_newest_is_noticed(
    cm: CheckpointManager, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    shutil.copytree(store, tmp_path / "copy")
    cm.save_checkpoint("train", {"loss": 3})
    with monkeypatch.context() as context:
        context.setenv("XDG_STATE_HOME", str(tmp_path / "another's"))
        CheckpointManager(tmp_path / "copy", key=KEY).save_checkpoint("train", {"loss": 4})
    reader = CheckpointManager(store, key=KEY)
    assert getattr(reader, method)("train")
    forked = newest(tmp_path / "copy", 3).read_bytes()
    rewrite(newest(store, 3), lambda _: forked)
    with pytest.raises(RollbackError):
        reader.load_checkpoint("train")


def take_newest_away(store: Path) -> None:
    (store / "train.checkpoint").unlink()
    for name in newest(store).parent.glob("000000000002.*"):  # and the pending one
        name.unlink()


def take_all_away(store: Path) -> None:
    (store / "train.checkpoint").unlink()
    shutil.rmtree(newest(store).parent)


@pytest.mark.parametrize("take_away", [take_newest_away, take_all_away])
def test_a_newest_version_that_is_taken_away_is_noticed(
    cm: CheckpointManager, store: Path, take_away: Callable[[Path], None]
) -> None:
    cm.save_checkpoint("other", 1)
    take_away(store)
    for ask in (cm.save_checkpoint, cm.has_checkpoint, cm.load_checkpoint):
        with pytest.raises(RollbackError):
            ask("train")


def test_a_load_after_a_question_is_not_a_whole_look(cm: CheckpointManager, store: Path, looks: list[str]) -> None:
    if not has_fine_times(store):
        pytest.skip("a kernel before Linux 6.13, or another file system")
    other = CheckpointManager(store, key=KEY)
    assert other.has_checkpoint("train")
    looks.clear()
    for _ in range(2):
        assert other.load_checkpoint("train") == {"loss": 1}
        assert other.get_checkpoint("train").version.metadata == {"tags": ["a"]}
    assert looks == []


def test_what_another_process_does_is_noticed(cm: CheckpointManager, store: Path) -> None:
    other = CheckpointManager(store, key=KEY)
    other.save_checkpoint("train", {"loss": 0})
    assert cm.load_checkpoint("train") == {"loss": 0}
    other.clear_checkpoint("train")
    assert not cm.has_checkpoint("train")
    with pytest.raises(CheckpointNotFoundError):
        cm.load_checkpoint("train")
    other.restore_checkpoint("train", 3)
    assert cm.has_checkpoint("train")


def test_a_newer_version_seen_in_a_copy_of_the_store_is_noticed(cm: CheckpointManager, store: Path, tmp_path: Path) -> None:
    cm.save_checkpoint("train", {"loss": 0})  # the next save would go on from this one
    assert cm.has_checkpoint("train")
    shutil.copytree(store, tmp_path / "copy")
    CheckpointManager(tmp_path / "copy", key=KEY).save_checkpoint("train", {"loss": -1})
    for ask in (cm.save_checkpoint, cm.has_checkpoint, cm.load_checkpoint):
        with pytest.raises(RollbackError):
            ask("train")
    assert not newest(store, 4).exists()


def test_a_save_goes_on_after_what_another_process_did(cm: CheckpointManager, store: Path) -> None:
    other = CheckpointManager(store, key=KEY)
    assert [each.save_checkpoint("train").number for each in (cm, other, cm, other, other, cm, cm)] == [3, 4, 5, 6, 7, 8, 9]
    other.delete_versions("train", [4, 8])
    assert cm.save_checkpoint("train").number == 10
    assert other.delete_stage("train") == [1, 2, 3, 5, 6, 7, 9, 10]
    assert cm.save_checkpoint("train", "again").number == 12
    assert other.load_checkpoint("train") == "again"
    assert other.verify().ok


def test_a_rollback_is_warned_of_each_time(store: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    CheckpointManager(store, key=KEY).save_checkpoint("train", {"loss": 2})
    shutil.copytree(store, tmp_path / "backup")
    CheckpointManager(store, key=KEY).save_checkpoint("train", {"loss": 1})
    shutil.rmtree(store)
    (tmp_path / "backup").rename(store)
    cm = CheckpointManager(store, key=KEY, on_rollback="warn")
    for _ in range(3):
        caplog.clear()
        assert cm.load_checkpoint("train") == {"loss": 2}
        assert "was rolled back" in caplog.text


def test_a_damaged_record_of_deletions_is_told_each_time(
    cm: CheckpointManager, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cm.delete_versions("train", [1])
    (newest(store).parent / "gaps").write_bytes(b"damaged")
    for _ in range(3):
        caplog.clear()
        assert cm.has_checkpoint("train")
        assert "the record of deleted versions" in caplog.text


def test_a_keyring_that_was_taken_away_is_noticed(cm: CheckpointManager, store: Path) -> None:
    (store / "keyring.json").unlink()
    for ask in (cm.has_checkpoint, cm.load_checkpoint):
        with pytest.raises(IntegrityError, match="keyring"):
            ask("train")


def test_what_a_caller_does_to_the_metadata_stays_with_the_caller(cm: CheckpointManager) -> None:
    for _ in range(3):
        metadata = cm.get_checkpoint("train").version.metadata
        assert metadata == {"tags": ["a"]}
        metadata["tags"].append("b")


def test_a_version_that_is_loaded_again_and_again_is_opened_once(
    cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cm.load_checkpoint("train")
    if has_fine_times(store):
        with monkeypatch.context() as patch:
            patch.delattr(os, "open")
            assert cm.load_checkpoint("train") == {"loss": 1}
    cm.keys.rotate()
    assert [cm.load_checkpoint("train") for _ in range(3)] == [{"loss": 1}] * 3
    cm.save_checkpoint("train", {"loss": 0})
    assert [cm.load_checkpoint("train") for _ in range(3)] == [{"loss": 0}] * 3
    newest(store, 3).write_bytes(newest(store, 2).read_bytes())
    with pytest.raises(IntegrityError):
        cm.load_checkpoint("train")


def test_a_large_version_is_read_again(store: Path) -> None:
    cm = CheckpointManager(store, key=KEY)
    text = "x" * 300_000
    cm.save_checkpoint("train", text)
    assert [cm.load_checkpoint("train") == text for _ in range(3)] == [True, True, True]


def test_many_stages_are_not_all_kept(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkpoint_manager._store.verified._MOST_KEPT", 2)
    monkeypatch.setattr("checkpoint_manager._store.verified._MOST_OPENED", 1)
    for number in range(4):
        cm.save_checkpoint(f"stage {number}", number)
        assert [cm.load_checkpoint(f"stage {number}") for _ in range(2)] == [number, number]
    assert [cm.load_checkpoint(f"stage {number}") for number in range(4)] == [0, 1, 2, 3]
    assert len(cm._store.verified._kept) <= 2
    assert len(cm._store.verified.sealed) <= 1


def test_with_a_coarse_clock_only_what_has_rested_is_believed(
    cm: CheckpointManager, store: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_times, "_kernel", lambda: (6, 12))
    monkeypatch.setattr(file_times, "_TICK_NANOSECONDS", 200_000_000)
    other = CheckpointManager(store, key=KEY)
    cm.save_checkpoint("train", {"loss": 0})
    other.has_checkpoint("train")
    other.has_checkpoint("train")
    assert looks == ["train", "train"]
    time.sleep(0.25)
    other.has_checkpoint("train")
    other.has_checkpoint("train")
    assert looks == ["train", "train", "train"]


# What another process has saved meanwhile is looked for where this user has seen it


def test_a_process_that_is_far_behind_looks_first_where_this_user_has_been(
    cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkpoint_manager.backends.local.backend._BLOCK_BYTES", 0)  # its folder counts as a long one
    other = CheckpointManager(store, key=KEY)
    other.save_checkpoint("train", 3)
    assert cm.load_checkpoint("train") == 3  # the first change of someone else has the folder listed
    for number in range(4, 73):
        other.save_checkpoint("train", number)
    monkeypatch.setattr(head, "listed", lambda *_: pytest.fail("the folder was listed"))
    assert cm.load_checkpoint("train") == 72
    other.save_checkpoint("train", 73)
    assert cm.save_checkpoint("train", 74).number == 74


@pytest.mark.parametrize("expected", [2, 3, 4, 5, 9])
def test_what_is_expected_decides_nothing(cm: CheckpointManager, store: Path, expected: int) -> None:
    other = CheckpointManager(store, key=KEY)
    for number in (3, 4):
        other.save_checkpoint("train", number)
    backend = LocalBackend(store)
    with backend.session("train") as session:
        assert backend.newest("train", session=session).number == 4
    os.link(newest(store, 4), newest(store, 5))
    with backend.session("train") as session:
        session.expect(expected)
        assert backend.newest("train", session=session).number == 5


@pytest.mark.parametrize("use", [CheckpointManager.has_checkpoint, CheckpointManager.load_checkpoint], ids=["has", "load"])
def test_what_a_signal_handler_raises_while_it_is_found_unchanged_passes_as_it_is(
    cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch, use: Callable[[CheckpointManager, str], object]
) -> None:
    def interrupted(*_: Any) -> None:
        raise TimeoutError("the caller's")

    monkeypatch.setattr(version_file, "stamp", interrupted)
    with pytest.raises(TimeoutError, match="the caller's"):
        use(cm, "train")
    monkeypatch.undo()
    assert use(cm, "train") in (True, {"loss": 1})
