"""Descriptors that are kept open: nobody loses one, and nobody else gets it."""

from __future__ import annotations

import copy
import os
import pickle
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager._filesystem.descriptors import MOST, Descriptor, Kept
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def open_below(folder: Path) -> list[str]:
    """Return what this process has open below a folder."""
    found = []
    for number in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{number}"))
        except FileNotFoundError:  # of the listing itself
            continue
    return [path for path in found if path.startswith(str(folder))]


def test_managers_keep_few_folders_open_and_none_after_their_end(tmp_path: Path) -> None:
    managers = [CheckpointManager(tmp_path / name, key=bytes(32), durability="relaxed") for name in ("one", "other")]
    for number in range(MOST):
        for cm in managers:
            cm.save_checkpoint(f"stage {number}", number)
    assert 0 < len(open_below(tmp_path)) <= MOST
    assert all(cm.load_checkpoint(f"stage {number}") == number for number in range(MOST) for cm in managers)
    for cm in managers:
        cm.close()
    assert open_below(tmp_path) == []


def test_few_versions_that_are_loaded_again_and_again_stay_open_and_none_that_is_deleted(tmp_path: Path) -> None:
    with CheckpointManager(tmp_path / "store", key=bytes(32)) as cm:
        for number in range(40):
            cm.save_checkpoint(f"stage {number}", number)
        for _ in range(4):
            assert [cm.load_checkpoint(f"stage {number}") for number in range(40)] == [*range(40)]
        assert sum(path.endswith(".checkpoint") for path in open_below(tmp_path)) <= 16
        cm.save_checkpoint("stage 39", 40)
        cm.delete_versions("stage 39", [1])
        assert not any("(deleted)" in path for path in open_below(tmp_path))
    assert open_below(tmp_path) == []


def test_a_child_has_none_of_its_parents_folders_open(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=bytes(32), durability="relaxed")
    cm.save_checkpoint("train", 1)
    assert open_below(tmp_path / "store")
    assert forking.end(forking.start(lambda: bool(open_below(tmp_path / "store")))) == 0


def test_a_folder_that_is_exchanged_is_opened_again(tmp_path: Path) -> None:
    store = tmp_path / "store"
    cm, other = (CheckpointManager(store, key=bytes(32)) for _ in range(2))
    cm.save_checkpoint("train", 1)
    (store / "history" / "train").rename(tmp_path / "aside")
    (store / "history" / "train").mkdir(mode=0o700)
    for each in (tmp_path / "aside").iterdir():
        (store / "history" / "train" / each.name).hardlink_to(each)
    assert other.save_checkpoint("train", 2).number == 2
    assert cm.load_checkpoint("train") == 2


def test_what_was_seen_is_remembered_again_after_its_file_was_removed(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=bytes(32))
    cm.save_checkpoint("train", 1)
    seen = cm._store.last_seen
    for name in os.listdir(seen._directory):
        os.unlink(f"{seen._directory}/{name}")
    cm.save_checkpoint("train", 2)
    seen = CheckpointManager(tmp_path / "store", key=bytes(32))._store.last_seen
    newest = seen.recall("train")
    assert newest is not None
    assert newest.version == 2


class Contended(Kept[Descriptor]):
    """Those of a manager of which another thread takes one whenever the least recently used one is looked for."""

    def __iter__(self) -> Iterator[str]:
        names = super().__iter__()
        self.pop("last", None)
        return names


def test_another_thread_may_take_one_while_the_least_recently_used_one_is_closed() -> None:
    kept = Contended()
    for name in ("first", "last"):
        kept[name] = Descriptor(os.open(os.devnull, os.O_RDONLY))
    kept.close_one()
    kept.close()
    assert not kept


def test_what_owns_a_descriptor_is_not_copied(tmp_path: Path) -> None:
    """A copy would close the descriptor a second time, when it may be another file's."""
    cm = CheckpointManager(tmp_path / "store", key=bytes(32))
    cm.save_checkpoint("train", 1)
    with cm._store.session("train") as session:
        for each in (session, *cm._store.last_seen._kept.values()):
            for copied in (copy.copy, copy.deepcopy, pickle.dumps):
                with pytest.raises(TypeError):
                    copied(each)


def test_an_error_of_the_system_is_not_printed_when_one_is_dropped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = os.open(tmp_path, os.O_RDONLY)
    dropped = Descriptor(number)
    os.close(number)  # so that closing it again fails
    del dropped
    assert capsys.readouterr() == ("", "")
