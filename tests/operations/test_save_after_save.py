"""A save that follows a save of the same manager goes on from it, unless anything has changed since."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, IntegrityError, RollbackError, StorageError, WrongKeyError
from checkpoint_manager._format.keyring import begin_rotation
from checkpoint_manager.backends.local import LocalBackend, pending
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

KEY = bytes(range(32))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cm(store: Path) -> CheckpointManager:
    cm = CheckpointManager(store, key=KEY)
    for epoch in (1, 2, 3):
        cm.save_checkpoint("train", epoch)
    return cm


@pytest.fixture
def looks(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that takes the stages of the saves that look at what is there before they append."""
    looks: list[str] = []
    append = cm._store.backend.append

    def noted(stage: str, *arguments: Any, **session: Any) -> None:
        looks.append(stage)
        append(stage, *arguments, **session)

    monkeypatch.setattr(cm._store.backend, "append", noted)
    return looks


def test_it_goes_on(cm: CheckpointManager, looks: list[str]) -> None:
    for epoch in range(4, 10):
        assert cm.save_checkpoint("train", epoch).number == epoch
    assert looks == []
    assert [version.number for version in cm.history("train")] == [*range(9, 0, -1)]
    assert cm.verify().problems == ()


def test_what_is_read_in_between_changes_nothing(cm: CheckpointManager, store: Path, looks: list[str]) -> None:
    other = CheckpointManager(store, key=KEY)
    assert cm.load_checkpoint("train") == 3
    assert other.load_checkpoint("train") == 3
    assert cm.has_checkpoint("train")
    assert cm.save_checkpoint("train", 4).number == 4
    assert other.load_checkpoint("train") == 4
    assert looks == []


def a_tag(cm: CheckpointManager, _: Path) -> None:
    cm.tag("train", 2, "good")


def a_deletion(cm: CheckpointManager, _: Path) -> None:
    cm.delete_versions("train", [1])


def a_rotation(cm: CheckpointManager, _: Path) -> None:
    cm.keys.rotate()


def a_copy_in_the_place_of_the_folder(_: CheckpointManager, store: Path) -> None:
    folder = store / "history" / "train"
    folder.rename(store / "aside")
    shutil.copytree(store / "aside", folder)
    shutil.rmtree(store / "aside")


def a_planted_file(_: CheckpointManager, store: Path) -> None:
    (store / "history" / "train" / "000000000007.checkpoint").write_bytes(b"nothing that opens")


@pytest.mark.parametrize(
    ("change", "number"),
    [
        (a_tag, 4),
        (a_deletion, 4),
        (a_rotation, 4),
        (a_copy_in_the_place_of_the_folder, 4),
        (a_planted_file, 8),
    ],
)
def test_after_a_change_it_looks_first(
    cm: CheckpointManager, store: Path, looks: list[str], change: Callable[[CheckpointManager, Path], None], number: int
) -> None:
    other = CheckpointManager(store, key=KEY)
    change(other, store)
    assert cm.save_checkpoint("train", "mine").number == number
    assert looks == ["train"]
    for user in (cm, other, CheckpointManager(store, key=KEY)):
        assert user.load_checkpoint("train") == "mine"
    looks.clear()
    assert cm.save_checkpoint("train", "next").number == number + 1
    assert looks == []
    assert cm._store.key_of("train", number + 1) == CheckpointManager(store, key=KEY)._store.keyring.active[0]


def test_a_version_that_was_taken_away_is_missed(cm: CheckpointManager, store: Path) -> None:
    take_away(store / "history" / "train" / "000000000003.checkpoint")
    with pytest.raises(RollbackError):
        cm.save_checkpoint("train", 4)


def test_a_folder_that_was_aside_while_a_copy_was_read_in_its_place_is_the_one_that_is_written_to(
    cm: CheckpointManager, store: Path
) -> None:
    """A move of the folder above it changes nothing in its own status."""
    history, aside, copy = store / "history", store / "aside", store / "copy"
    shutil.copytree(history, copy)
    history.rename(aside)
    copy.rename(history)
    assert cm.load_checkpoint("train") == 3
    history.rename(copy)
    aside.rename(history)
    assert cm.save_checkpoint("train", 4).number == 4
    assert (history / "train" / "000000000004.checkpoint").exists()
    assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 4


def test_a_record_of_deletions_that_is_overwritten_in_its_place_is_noticed(cm: CheckpointManager, store: Path) -> None:
    """The folder shows nothing of it."""
    cm.delete_versions("train", [1])
    record = store / "history" / "train" / "gaps"
    before = record.read_bytes()
    cm.delete_versions("train", [2])
    cm.save_checkpoint("train", 4)
    cm.save_checkpoint("train", 5)
    record.write_bytes(before)
    with pytest.raises(RollbackError):
        cm.save_checkpoint("train", 6)


def test_a_damaged_record_of_deletions_stops_a_save_also_after_a_load_that_it_does_not_stop(
    cm: CheckpointManager, store: Path
) -> None:
    cm.delete_versions("train", [1])
    cm.save_checkpoint("train", 4)
    record = store / "history" / "train" / "gaps"
    record.write_bytes(b"nothing that opens")
    assert cm.load_checkpoint("train") == 4
    with pytest.raises(IntegrityError, match="the record of deleted versions"):
        cm.save_checkpoint("train", 5)


def test_whoever_has_lost_the_key_meanwhile_writes_nothing(cm: CheckpointManager, store: Path) -> None:
    slots = [slot.slot for slot in cm.keys.list()]
    cm.keys.add(bytes(range(32, 64)))
    cm.save_checkpoint("train", 4)
    other = CheckpointManager(store, key=bytes(range(32, 64)))
    for slot in slots:
        other.keys.remove(slot)
    with pytest.raises(WrongKeyError):
        cm.save_checkpoint("train", 5)
    assert other.history("train")[0].number == 4


def test_what_this_user_has_seen_in_a_copy_counts(cm: CheckpointManager, store: Path, looks: list[str]) -> None:
    copy = store.with_name("copy")
    shutil.copytree(store, copy)
    CheckpointManager(copy, key=KEY).save_checkpoint("train", "in the copy")
    with pytest.raises(RollbackError):
        cm.save_checkpoint("train", 4)
    assert looks == []


@pytest.mark.parametrize("step", ["append_next", "read_record"])
def test_a_key_that_is_given_up_meanwhile_seals_nothing_that_is_acknowledged(
    cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """A rotation begins before the append, or after it, and does not wait for the writer, as if the lock did not hold it up."""
    other = CheckpointManager(store, key=KEY)
    backend, is_first = cm._store.backend, iter([True])
    method = getattr(backend, step)
    keyring = cm._store.keyring.current

    def rotated(*arguments: Any, **named: Any) -> Any:
        if (step == "append_next" or arguments[0] == "keyring") and next(is_first, False):
            other._store.keyring.change(lambda unlocked: begin_rotation(unlocked, also=[], drop=[]), 1)
        return method(*arguments, **named)

    monkeypatch.setattr(backend, step, rotated)
    assert cm.save_checkpoint("train", 4).number == 4
    fresh = CheckpointManager(store, key=KEY)
    assert fresh.load_checkpoint("train") == 4
    assert fresh._store.key_of("train", 4) == fresh._store.keyring.active[0] != keyring.active[0]
    fresh.keys.rotate()
    assert fresh.verify().problems == ()


@contextmanager
def after_the_append(cm: CheckpointManager, store: Path, what: Callable[[], None]) -> Iterator[None]:
    """Do something when a save has written its version, and another file was put in the place of its lock."""
    append_next = cm._store.backend.append_next

    def followed(*arguments: Any) -> bool:
        is_appended = append_next(*arguments)
        patch.undo()
        (store / ".locks" / "train.lock").unlink()
        with ThreadPoolExecutor() as others:
            others.submit(what).result()
        return is_appended

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cm._store.backend, "append_next", followed)
        yield


def test_what_others_have_saved_meanwhile_behind_an_exchanged_lock_stays_seen(cm: CheckpointManager, store: Path) -> None:
    other = CheckpointManager(store, key=KEY)

    def save() -> None:
        assert other.save_checkpoint("train", 5).number == 5

    with after_the_append(cm, store, save):
        assert cm.save_checkpoint("train", 4).number == 4
    take_away(store / "history" / "train" / "000000000005.checkpoint")
    with pytest.raises(RollbackError):
        CheckpointManager(store, key=KEY).load_checkpoint("train")


def test_what_others_delete_meanwhile_behind_an_exchanged_lock_is_saved_again(cm: CheckpointManager, store: Path) -> None:
    """They rotate the key as well, so that the version is looked for, to be sealed again."""
    other = CheckpointManager(store, key=KEY)

    def delete() -> None:
        assert other.save_checkpoint("train", 5).number == 5
        other.delete_versions("train", [4])
        other._store.keyring.change(lambda unlocked: begin_rotation(unlocked, also=[], drop=[]), 1)

    with after_the_append(cm, store, delete):
        assert cm.save_checkpoint("train", "mine").number == 6
    fresh = CheckpointManager(store, key=KEY)
    assert [version.number for version in fresh.history("train")] == [6, 5, 3, 2, 1]
    assert fresh.load_checkpoint("train") == "mine"


def test_a_rotation_behind_an_exchanged_lock_that_finds_a_version_before_its_writer_has_linked_it(
    cm: CheckpointManager, store: Path
) -> None:
    """It links the version itself, and replaces it: the writer finds its own number taken, by its own version."""
    other = CheckpointManager(store, key=KEY)
    link, steps = os.link, iter([False, True])

    def rotated(*arguments: Any, **named: Any) -> None:
        if next(steps, False):
            (store / ".locks" / "train.lock").unlink()
            with ThreadPoolExecutor() as others:
                others.submit(other.keys.rotate).result()
        link(*arguments, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.link", rotated)
        assert cm.save_checkpoint("train", 4).number == 4
    fresh = CheckpointManager(store, key=KEY)
    assert [version.number for version in fresh.history("train")] == [4, 3, 2, 1]
    assert fresh.load_checkpoint("train") == 4


@pytest.mark.parametrize("length", [256 * 1024 - 600, 256 * 1024 - 2, 256 * 1024])
def test_data_that_is_small_and_makes_a_large_file(cm: CheckpointManager, store: Path, length: int) -> None:
    assert cm.save_checkpoint("train", "x" * length).number == 4
    assert CheckpointManager(store, key=KEY).load_checkpoint("train") == "x" * length
    assert cm.save_checkpoint("train", 5).number == 5
    assert cm._store.backend.leftovers() == []  # type: ignore[attr-defined]


def test_a_disk_that_refuses_the_head_is_told_of_and_the_version_stands(
    cm: CheckpointManager, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (store / "train.checkpoint").unlink()
    (store / "train.checkpoint").mkdir()
    assert cm.save_checkpoint("train", 4).number == 4
    assert "the head can't be set" in caplog.text
    assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 4
    assert cm.save_checkpoint("train", 5).number == 5


def test_what_the_system_refuses_is_told_and_nothing_is_left(
    cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = sorted(path.name for path in (store / "history" / "train").iterdir())
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageError, match="can't write version 4 of stage train") as caught:
            cm.save_checkpoint("train", 4)
    assert caught.value.hint.startswith("Free some space")
    assert sorted(path.name for path in (store / "history" / "train").iterdir()) == before
    assert cm.save_checkpoint("train", 4).number == 4


def test_a_torn_file_of_a_killed_writer_is_in_no_ones_way(cm: CheckpointManager, store: Path) -> None:
    """It stands where this save begins: as if another writer had come so far, and was killed."""
    folder = store / "history" / "train"
    status = folder.stat()
    backend = cm._store.backend
    assert isinstance(backend, LocalBackend)
    torn = folder / pending.next_head(4)
    torn.write_bytes(b"torn")
    session = backend._sessions["train"]
    assert session.appended is not None
    assert session.appended[0][-1] == status.st_ctime_ns
    session.appended = (folder_stamp(folder), session.appended[1])  # a clock that has not moved since
    assert cm.save_checkpoint("train", 4).number == 4
    assert not torn.exists()
    assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 4


def folder_stamp(folder: Path) -> Any:
    from checkpoint_manager._filesystem.file_times import stamp

    return stamp(folder.stat())
