"""The note of a long folder: a later process goes on from it, unless anything has changed."""

from __future__ import annotations

import gc
import os
import shutil
import time
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager._filesystem import file_times
from checkpoint_manager._store import history
from checkpoint_manager.backends.local import LocalBackend, folder_note, head
from tests import forking
from tests.backends.local.test_pending import leave

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(32)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A store in which a process has left a note of a stage of three versions."""
    if not file_times.FileTimes(str(tmp_path)).is_settled(tmp_path.stat(), time.time_ns()):
        pytest.skip("a change of just now might not show here")
    saved(tmp_path / "store", 2)
    saved(tmp_path / "store", 1)  # it lists what the first one has left
    return tmp_path / "store"


@pytest.fixture(autouse=True)
def _any_folder_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_note, "LONG_BYTES", 0)
    monkeypatch.setattr(history, "LONG", 0)


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages whose folders were listed."""
    noted: list[str] = []
    listed = head.listed

    def note(root: str, stage: str, folder: int) -> Any:
        noted.append(stage)
        return listed(root, stage, folder)

    monkeypatch.setattr(head, "listed", note)
    return noted


def saved(store: Path, times: int = 3, **options: Any) -> CheckpointManager:
    """Save as a new process does, and return its manager."""
    cm = CheckpointManager(store, key=KEY, **options)
    for _ in range(times):
        cm.save_checkpoint("train", {"loss": 1})
    return cm


def folder(store: Path) -> Path:
    return store / "history" / "train"


def notes() -> list[Path]:
    return list(Path(os.environ["HOME"]).rglob("*.folder"))


def newest(store: Path) -> int:
    """Return the newest version, as a new process finds it."""
    return CheckpointManager(store, key=KEY).get_checkpoint("train").version.number


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_later_processes_list_nothing(store: Path, listings: list[str], durability: Any) -> None:
    for number in (4, 5, 6):
        assert saved(store, 1, durability=durability).has_checkpoint("train")
        cm = CheckpointManager(store, key=KEY)
        assert cm.has_checkpoint("train")
        assert cm.get_checkpoint("train").version.number == number
    assert listings == []


def test_a_reader_leaves_a_note_of_what_it_has_listed(store: Path, listings: list[str]) -> None:
    (folder(store) / "planted").touch()
    assert (newest(store), newest(store)) == (3, 3)
    assert listings == ["train"]
    saved(store, 1)
    assert listings == ["train"]


@pytest.mark.parametrize("how", ["closed", "forgotten"])
def test_a_process_leaves_a_note_at_its_end(store: Path, listings: list[str], how: str) -> None:
    """It leaves another one at its first save only: one for each save would take too long."""
    running = saved(store, 3)
    if how == "closed":
        running.close()
    else:
        del running
        gc.collect()
    assert newest(store) == 6
    assert listings == []


def test_a_child_leaves_no_note_of_what_its_parent_knew(store: Path) -> None:
    running = saved(store, 3)
    (note,) = notes()
    before = note.read_bytes()
    forking.end(forking.start(running.close))
    assert note.read_bytes() == before
    running.close()
    assert note.read_bytes() != before


def test_each_process_removes_the_pending_name_of_the_one_before(store: Path) -> None:
    for _ in range(3):
        saved(store, 1)
    assert [path.name[:12] for path in folder(store).glob("*.pending")] == ["000000000006"]


def _plant(store: Path) -> None:
    (folder(store) / "planted").touch()


def _set_the_time_back(store: Path) -> None:
    before = folder(store).stat()
    _plant(store)
    (folder(store) / "planted").unlink()
    os.utime(folder(store), ns=(before.st_atime_ns, before.st_mtime_ns))


def _exchange(store: Path) -> None:
    folder(store).rename(store / "aside")
    shutil.copytree(store / "aside", folder(store))


def _take_the_head(store: Path) -> None:
    (store / "train.checkpoint").unlink()


def _exchange_the_head(store: Path) -> None:
    (store / "train.checkpoint").unlink()
    (store / "train.checkpoint").hardlink_to(folder(store) / "000000000001.checkpoint")


@pytest.mark.parametrize("change", [_plant, _set_the_time_back, _exchange, _take_the_head, _exchange_the_head])
def test_a_change_since_has_the_folder_listed(store: Path, listings: list[str], change: Callable[[Path], object]) -> None:
    change(store)
    assert newest(store) == 3
    assert set(listings) == {"train"}


def test_a_start_of_the_system_has_the_folder_listed(
    store: Path, listings: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folder_note, "_STARTED", str(tmp_path / "boot_id"))
    for started in ("another", None):
        if started is None:
            (tmp_path / "boot_id").unlink()
        else:
            (tmp_path / "boot_id").write_text(started)
        folder_note._started.cache_clear()
        assert newest(store) == 3
    folder_note._started.cache_clear()
    assert listings == ["train", "train"]


@pytest.mark.parametrize("change", [lambda note: note[:40], lambda note: note.replace(b"[3,", b"[2,"), lambda _: b""])
def test_a_damaged_note_is_not_believed(store: Path, listings: list[str], change: Callable[[bytes], bytes]) -> None:
    (note,) = notes()
    note.write_bytes(change(note.read_bytes()))
    assert newest(store) == 3
    assert listings == ["train"]


@pytest.mark.parametrize(
    "state",
    [b"[]", b"null", orjson.dumps([folder_note._started(), [3, 3, None, 0, 0, None], []])],
    ids=["list", "null", "no state"],
)
def test_a_note_of_another_form_is_not_believed(store: Path, listings: list[str], state: bytes) -> None:
    (note,) = notes()
    note.write_bytes(b"%08x %b\n" % (zlib.crc32(state), state))
    assert newest(store) == 3
    assert listings == ["train"]


def test_what_a_killed_writer_left_is_found(store: Path) -> None:
    saved(store, 1)
    (folder(store) / "000000000004.checkpoint").unlink()  # its pending name stays
    (store / "train.checkpoint").unlink()
    (folder(store) / ".0123456789abcdef.tmp").touch()
    assert newest(store) == 4
    saved(store, 1)
    assert not list(folder(store).glob(".*"))


def test_no_note_is_made_of_what_someone_else_has_changed_before_a_save(store: Path, listings: list[str]) -> None:
    def change(_: object) -> int:
        _plant(store)
        return 1

    CheckpointManager(store, key=KEY).update_checkpoint("train", change)
    assert listings == []
    assert newest(store) == 4
    assert listings == ["train"]


def test_a_process_that_lists_again_after_a_change_leaves_a_note(store: Path, listings: list[str]) -> None:
    running = saved(store, 1)
    _plant(store)
    running.save_checkpoint("train", 1)
    running.close()
    assert listings == ["train"]
    assert newest(store) == 5
    assert listings == ["train"]


@pytest.mark.parametrize("why", ["a change of the same moment might not show", "other hosts write to it"])
def test_no_note_is_made_where_changes_might_not_show(
    tmp_path: Path, listings: list[str], monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "other hosts write to it":
        monkeypatch.setattr("checkpoint_manager.backends.local.backend.is_shared", lambda _: True)
    else:
        monkeypatch.setattr(file_times, "_kernel", lambda: (6, 12))
    for number in (3, 6):
        saved(tmp_path)
        assert newest(tmp_path) == number
    assert notes() == []
    assert len(listings) >= 3  # but for the process that made the folder


def test_a_folder_of_few_names_is_listed(store: Path, listings: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_note, "LONG_BYTES", 1_000_000)
    (note,) = notes()
    before = note.read_bytes()
    assert saved(store, 1).has_checkpoint("train")
    assert (listings, note.read_bytes()) == (["train"], before)


def test_a_directory_of_a_pending_name_stops_no_later_save(store: Path, listings: list[str]) -> None:
    (folder(store) / f"000000000001.{'0' * 64}.pending").mkdir()
    assert newest(store) == 3
    assert saved(store, 2).has_checkpoint("train")
    assert listings == ["train"]


@pytest.mark.parametrize("what", ["a torn version", "a temporary file"])
def test_no_note_is_made_while_a_writer_may_have_left_something(store: Path, what: str) -> None:
    if what == "a torn version":
        leave(folder(store), 4, b"torn", b"whole")
    else:
        (folder(store) / ".0123456789abcdef.tmp").touch()
    backend = LocalBackend(store)
    with backend.session("train") as session:
        backend.newest("train", session=session)
        assert backend.folder_note("train", session) is None
