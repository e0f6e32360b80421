"""The first look of a process at a stage is short where it finds what was seen last, and thorough where it finds more."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, IntegrityError, RollbackError
from checkpoint_manager._filesystem import files
from checkpoint_manager._store import last_seen
from checkpoint_manager._store.history import History
from checkpoint_manager.backends.local import LocalBackend, head, layout
from tests.taking_away import leave_the_head, take_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(range(32))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def cm(store: Path) -> CheckpointManager:
    """A manager that has saved three versions of a stage."""
    cm = CheckpointManager(store, key=KEY)
    for epoch in (1, 2, 3):
        cm.save_checkpoint("train", epoch)
    return cm


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages at which the history had to look."""
    seen: list[str] = []
    look = History.look

    def noted(history: History, stage: str, *arguments: object, **options: object) -> object:
        seen.append(stage)
        return look(history, stage, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(History, "look", noted)
    return seen


def version_path(store: Path, number: int) -> Path:
    return store / "history" / "train" / layout.version_name(number)


@pytest.mark.parametrize("method", ["has_checkpoint", "load_checkpoint"])
def test_it_is_short_at_an_ordinary_stage(cm: CheckpointManager, store: Path, looks: list[str], method: str) -> None:
    cm.tag("train", 2, "good")
    looks.clear()
    first = CheckpointManager(store, key=KEY)
    assert getattr(first, method)("train") == (True if method == "has_checkpoint" else 3)
    assert first.load_checkpoint("train") == 3
    assert first.has_checkpoint("train")
    assert looks == []
    assert first.save_checkpoint("train", 4).number == 4
    assert [version.number for version in first.history("train")] == [4, 3, 2, 1]
    assert first.verify().problems == ()


def test_it_is_short_at_each_of_many_stages(cm: CheckpointManager, store: Path, looks: list[str]) -> None:
    for number in range(40):
        cm.save_checkpoint(f"stage {number}", number)
    looks.clear()
    first = CheckpointManager(store, key=KEY)
    for _ in range(2):
        assert [first.load_checkpoint(f"stage {number}") for number in range(40)] == [*range(40)]
    assert looks == []


@pytest.mark.parametrize("verified", [False, True])
def test_the_status_of_many_stages_takes_it_for_each(
    cm: CheckpointManager, store: Path, looks: list[str], *, verified: bool
) -> None:
    cm.save_checkpoint("test", 1)
    looks.clear()
    found = CheckpointManager(store, key=KEY).status(verified=verified)
    assert [(each.stage, each.newest and each.newest.number) for each in found] == [("test", 1), ("train", 3)]
    assert looks == []


def a_deletion(cm: CheckpointManager, _: Path) -> None:
    cm.delete_versions("train", [1])


def a_missing_head(_: CheckpointManager, store: Path) -> None:
    (store / "train.checkpoint").unlink()


def a_head_that_is_a_copy(_: CheckpointManager, store: Path) -> None:
    content = (store / "train.checkpoint").read_bytes()
    (store / "train.checkpoint").unlink()
    (store / "train.checkpoint").write_bytes(content)


def nothing_seen(cm: CheckpointManager, _: Path) -> None:
    cm._store.last_seen.forget("train")


def a_large_version(cm: CheckpointManager, _: Path) -> None:
    cm.save_checkpoint("train", 3, metadata={"note": "x" * 100_000})


def a_pending_version(_: CheckpointManager, store: Path) -> None:
    (store / "history" / "train" / f"000000000004.{'0' * 64}.pending").write_bytes(b"torn")


@pytest.mark.parametrize(
    "change", [a_deletion, a_missing_head, a_head_that_is_a_copy, nothing_seen, a_large_version, a_pending_version]
)
def test_it_is_thorough_where_there_is_more_to_tell(
    cm: CheckpointManager, store: Path, looks: list[str], change: Callable[[CheckpointManager, Path], None]
) -> None:
    change(cm, store)
    looks.clear()
    first = CheckpointManager(store, key=KEY)
    assert first.has_checkpoint("train")
    assert set(looks) == {"train"}
    assert first.load_checkpoint("train") == 3
    assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 3


def test_a_version_that_was_saved_by_another_user_is_found(
    cm: CheckpointManager, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as context:
        context.setenv("XDG_STATE_HOME", str(tmp_path / "another's"))
        CheckpointManager(store, key=KEY).save_checkpoint("train", 4)
    first = CheckpointManager(store, key=KEY)
    assert first.load_checkpoint("train") == 4


def test_the_only_copy_is_put_back(cm: CheckpointManager, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as context:
        context.setenv("XDG_STATE_HOME", str(tmp_path / "another's"))
        CheckpointManager(store, key=KEY).save_checkpoint("train", 4)
    leave_the_head(version_path(store, 4))
    assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 4


def test_a_failure_is_not_passed_over(cm: CheckpointManager, store: Path) -> None:
    cm.clear_checkpoint("train")
    first = CheckpointManager(store, key=KEY)
    assert not first.has_checkpoint("train")
    with pytest.raises(CheckpointNotFoundError, match="cleared"):
        CheckpointManager(store, key=KEY).load_checkpoint("train")


def test_a_damaged_version_is_refused(cm: CheckpointManager, store: Path) -> None:
    content = bytearray(version_path(store, 3).read_bytes())
    content[-1] ^= 1
    version_path(store, 3).write_bytes(content)
    assert not CheckpointManager(store, key=KEY).has_checkpoint("train")
    with pytest.raises(IntegrityError):
        CheckpointManager(store, key=KEY).load_checkpoint("train")


def test_a_version_of_another_history_is_refused(
    cm: CheckpointManager, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(store, copy)
    cm.save_checkpoint("train", 4)
    with monkeypatch.context() as context:
        context.setenv("XDG_STATE_HOME", str(tmp_path / "another's"))
        CheckpointManager(copy, key=KEY).save_checkpoint("train", "forked")
    shutil.rmtree(store)
    copy.rename(store)
    with pytest.raises(RollbackError):
        CheckpointManager(store, key=KEY).has_checkpoint("train")


def test_a_record_of_deletions_that_was_taken_away_is_missed(cm: CheckpointManager, store: Path) -> None:
    cm.delete_versions("train", [1])
    take_away(store / "history" / "train" / layout.GAPS)
    with pytest.raises(RollbackError):
        CheckpointManager(store, key=KEY).has_checkpoint("train")


def test_what_was_seen_is_read_where_it_can_not_be_written(
    cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str, flags: int, *arguments: int, **options: Any) -> int:
        if flags & os.O_RDWR and "/state" in str(path):
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, *arguments, **options)

    opened = os.open
    monkeypatch.setattr(os, "open", refused)
    assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 3


@pytest.mark.parametrize("method", ["has_checkpoint", "load_checkpoint"])
def test_it_leaves_the_times_of_access(cm: CheckpointManager, store: Path, looks: list[str], method: str) -> None:
    places = [version_path(store, 3), version_path(store, 3).parent]
    for place in places:
        os.utime(place, (0, place.stat().st_mtime))
    assert getattr(CheckpointManager(store, key=KEY), method)("train")
    assert looks == []
    if files.NO_ATIME:
        assert [place.stat().st_atime for place in places] == [0, 0]


def test_where_the_times_of_access_can_not_be_left_it_is_thorough(
    cm: CheckpointManager, store: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: str, flags: int, *arguments: int, **options: Any) -> int:
        if flags & files.NO_ATIME:
            raise PermissionError(1, "Operation not permitted", path)
        return opened(path, flags, *arguments, **options)

    opened = os.open
    monkeypatch.setattr(os, "open", refused)
    assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 3
    assert looks == (["train"] if files.NO_ATIME else [])


def test_what_another_user_wrote_as_seen_is_not_believed(
    cm: CheckpointManager, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = CheckpointManager(store, key=KEY)._store.last_seen
    monkeypatch.setattr(last_seen, "is_foreign", lambda _: True)
    assert seen.recall_at_first("train") is None
    assert seen.recall("train") is None


@pytest.mark.parametrize(
    ("names", "is_newest"),
    [
        (["000000000002.checkpoint", "000000000001.checkpoint", "stage", "tags", "attachments"], True),
        (["000000000002.checkpoint", f"000000000002.{'a' * 64}.pending", f"000000000001.{'a' * 64}.pending"], True),
        (["000000000002.checkpoint", f"000000000002.{'f' * 64}.pending", ".reserve.tmp"], True),
        ([f"000000000002.{'f' * 64}.pending", "000000000001.checkpoint"], False),
        (["000000000002.checkpoint", f"000000000003.{'a' * 64}.pending"], False),
        (["000000000002.checkpoint", "000000000003.checkpoint"], False),
        (["000000000001.checkpoint"], False),
        (["000000000002.checkpoint", "gaps"], False),
        ([], False),
    ],
)
def test_the_names_in_a_folder_tell(names: list[str], is_newest: bool) -> None:
    assert head.is_newest(2, names) is is_newest


def test_a_directory_of_several_hosts_is_looked_at_in_sessions(store: Path, cm: CheckpointManager) -> None:
    backend = LocalBackend(store)
    backend._is_shared = True
    assert backend.read_newest("train", 3, cm._store.refresh_keys().record) is None
