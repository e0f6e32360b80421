"""What a directory needs besides: what lies in it, who may get at it, and room to delete on a full disk."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, Retention, StorageError
from checkpoint_manager._filesystem import files
from checkpoint_manager.backends.base import RecordChangedError
from checkpoint_manager.backends.local import LocalBackend, folders
from checkpoint_manager.backends.local.backend import _put_record
from checkpoint_manager.backends.local.lock import FileLock
from checkpoint_manager.backends.maintenance import Leftover
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = bytes(32)
NOBODY = 65534

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user, or mounts")


def test_a_link_put_in_the_place_of_the_history_is_not_followed_by_a_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is put there in the middle of the listing, when the folder was looked at already."""
    backend = LocalBackend(tmp_path / "store")
    backend.append("train", 1, lambda: [b"x"])
    outside = tmp_path / "outside" / "train"
    outside.mkdir(parents=True)
    precious = outside / ".0123456789abcdef.tmp"
    precious.write_bytes(b"of another program")
    history = tmp_path / "store" / "history"
    real = files.directory_descriptor

    def exchange(path: str, parent: int | None = None) -> int:
        descriptor = real(path, parent)
        if path == "train":
            history.rename(tmp_path / "store" / "h")
            history.symlink_to(outside.parent)
        return descriptor

    monkeypatch.setattr(files, "directory_descriptor", exchange)
    assert not [each for each in backend.leftovers() if precious.name in each.path]
    monkeypatch.undo()
    with pytest.raises(CheckpointError):
        backend.remove(Leftover("leftover", str(history / "train" / precious.name), "", "train"))
    assert precious.read_bytes() == b"of another program"


def test_names_that_are_not_utf_8_are_reported_and_do_no_harm(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", 1)
    store = os.fsencode(tmp_path / "store")
    for place in (b"", b"/history", b"/history/train"):
        with open(store + place + b"/\xff\xfe.checkpoint", "wb"):
            pass
    assert cm.stages() == ["train"]
    assert cm.load_checkpoint("train") == 1
    assert len(cm.verify().problems) == 3
    assert cm.repair() == []


def test_many_planted_names_cost_a_listing_each(tmp_path: Path) -> None:
    """The answers are those of a store without them."""
    backend = LocalBackend(tmp_path / "store")
    backend.append("train", 1, lambda: [b"x"])
    for number in range(3000):
        (tmp_path / "store" / "history" / f"Planted {number}").touch()
        (tmp_path / "store" / "history" / "train" / f"{number}.checkpoint").touch()
    assert backend.stages() == ["train"]
    assert backend.versions("train") == [1]
    assert len(backend.leftovers()) == 2 * (1000 + 1)
    assert [each.detail for each in backend.leftovers()].count("and 2000 more, which are not listed") == 2


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory in which another user can make a store; those of pytest are closed to him."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    os.chown(directory, NOBODY, NOBODY)
    yield directory
    shutil.rmtree(directory)


def as_nobody(act: object) -> int:
    def run() -> int:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        return int(act())  # type: ignore[operator]

    return forking.end(forking.start(run))


@needs_root
def test_the_store_of_another_user_is_refused_when_it_is_opened(nobodys: Path) -> None:
    """One save by root would lock the owner out."""

    def save() -> int:
        backend = LocalBackend(nobodys / "store")
        if backend.read_record("keyring", limit=9) is None:
            backend.write_record("keyring", data=b"x", expected=None)
        backend.append("train", backend.newest("train").number + 1, lambda: [b"x"])
        return backend.newest("train").number

    assert as_nobody(save) == 1
    with pytest.raises(
        StorageError, match=r"belongs to .*, and what root saved there, .* could not read\. Run this as"
    ) as caught:
        LocalBackend(nobodys / "store")
    assert caught.value.errno == errno.EPERM
    assert as_nobody(save) == 2


@needs_root
def test_a_file_system_that_gives_all_files_to_one_user_is_no_other_user(
    nobodys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (nobodys / "store").mkdir()
    (nobodys / "store" / "keyring.json").write_bytes(b"x")
    os.chown(nobodys / "store" / "keyring.json", NOBODY, NOBODY)
    for owner in (NOBODY, None):
        monkeypatch.setattr(folders, "owner_of_new_files", lambda _, owner=owner: owner)
        LocalBackend(nobodys / "store")


@needs_root
def test_who_else_may_get_at_the_store_is_told(nobodys: Path) -> None:
    store = nobodys / "store"
    backend = LocalBackend(store)
    assert [text for text in backend.warnings() if "move" in text] == backend.warnings() != []
    os.chown(nobodys, 0, 0)
    assert backend.warnings() == []
    store.chmod(0o777)
    assert [text for text in backend.warnings() if "chmod go-w" in text] == backend.warnings() != []
    store.chmod(0o700)
    nobodys.chmod(0o777)
    assert [text for text in backend.warnings() if "move" in text] == backend.warnings() != []
    nobodys.chmod(0o755)
    os.chown(store, NOBODY, NOBODY)
    assert any("who may delete and replace" in text for text in backend.warnings())


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system, with a store in it that has used up all room but what another program has taken then."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,nr_inodes=120", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def fill(disk: Path, what: str) -> None:
    """Take what another program can take: all bytes, or all files."""
    with contextlib.suppress(OSError):
        for number in range(10_000):
            (disk / f"junk {number}").write_bytes(b"j" * 100_000 if what == "bytes" else b"")
    with contextlib.suppress(OSError), (disk / "junk 0").open("ab", buffering=0) as junk:
        while what == "bytes":
            junk.write(b"j")
    with pytest.raises(OSError, match="No space left on device"):
        (disk / "one more").write_bytes(b"j")


@pytest.mark.parametrize("short_of", ["bytes", "files"])
def test_on_a_disk_that_is_full_to_the_last_byte_versions_can_be_deleted(full_disk: Path, short_of: str) -> None:
    with CheckpointManager(full_disk / "store", key=KEY, durability="relaxed") as cm:
        for number in range(8):
            cm.save_checkpoint("train", {"n": number, "pad": "x" * 2000})
        fill(full_disk, short_of)
        with pytest.raises(StorageError):
            cm.save_checkpoint("train", "x" * 100_000)
        cm.delete_versions("train", [1])
        assert [version.number for version in cm.history("train")][-1] == 2
        cm.prune(Retention(keep_last=2))
        assert [version.number for version in cm.history("train")] == [8, 7]
        assert cm.verify().ok
        assert (full_disk / "store" / ".reserve").exists()
        assert cm.save_checkpoint("train", 9).number == 9


def test_room_is_kept_again_after_it_was_used(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(3):
        cm.save_checkpoint("train", number)
    reserve = tmp_path / "store" / ".reserve"
    assert reserve.stat().st_size == 64 * 1024
    assert folders.free_reserve(str(tmp_path / "store"))
    assert not folders.free_reserve(str(tmp_path / "store"))
    cm.delete_versions("train", [1])
    assert reserve.stat().st_size == 64 * 1024
    assert cm.verify().problems == ()


def test_a_record_that_was_refused_after_it_got_its_name_is_not_taken_for_another_writers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(3):
        cm.save_checkpoint("train", number)
    sync, reserve = files.sync, tmp_path / "store" / ".reserve"

    def beyond_the_quota(descriptor: int) -> None:
        if reserve.exists() and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        sync(descriptor)

    monkeypatch.setattr(files, "sync", beyond_the_quota)
    with pytest.raises(StorageError, match="Disk quota exceeded") as caught:
        cm.delete_versions("train", [1])
    assert caught.value.errno == errno.EDQUOT
    assert not reserve.exists()


def test_a_folder_that_was_only_looked_at_may_be_closed_with_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", 1)
    close = os.close

    def refused(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        close(descriptor)
        if is_directory:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "close", refused)
        assert not cm.has_checkpoint("new")
        assert cm.save_checkpoint("new", 1).number == 1
        assert cm.verify().ok


def test_a_lock_whose_close_is_refused_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(FileLock):
        def close(self) -> None:
            was_open = not self.closed
            super().close()
            if was_open:
                raise OSError(errno.EIO, "Input/output error")

    cm = CheckpointManager(tmp_path / "store", key=KEY, lock_timeout=0)
    monkeypatch.setattr("checkpoint_manager.backends.local.lock.FileLock", Refused)
    assert [cm.save_checkpoint("train", number).number for number in (1, 2)] == [1, 2]
    cm.keys.rotate()
    cm.repair()


def test_of_two_that_write_the_first_record_one_is_told(tmp_path: Path) -> None:
    for name in ("temporary", "keyring.json"):
        (tmp_path / name).write_text(name)
    with files.open_directory(str(tmp_path)) as directory, pytest.raises(RecordChangedError):
        _put_record("temporary", "keyring.json", directory, first=True)
    assert (tmp_path / "keyring.json").read_text() == "keyring.json"


def test_a_reader_makes_durable_what_it_shows(tmp_path: Path) -> None:
    """A relaxed writer may lose it to a power cut: then the reader would have seen what never was."""
    CheckpointManager(tmp_path / "store", key=KEY, durability="relaxed").save_checkpoint("train", 1)
    CheckpointManager(tmp_path / "store", key=KEY, durability="relaxed").save_checkpoint("train", 2)
    reader = CheckpointManager(tmp_path / "store", key=KEY)
    assert not reader._store.backend.newest("train").durable
    assert reader.load_checkpoint("train") == 2
    assert reader._store.backend.newest("train").durable
