"""What a user has seen of a store is never forgotten for something older."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import StorageError
from checkpoint_manager._format.keyring import SeenKeyring
from checkpoint_manager._store.last_seen import KEYRING, LastSeen, SeenLocations, SeenRecord, SeenVersion, seen_keyring
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager._store.last_seen import SeenRecordName

NOBODY = 65534


@pytest.fixture
def last_seen(tmp_path: Path) -> LastSeen:
    return LastSeen("0" * 32, tmp_path)


def test_a_version_is_not_forgotten_for_an_older_one(last_seen: LastSeen) -> None:
    newer, older = SeenVersion(7, "a" * 32), SeenVersion(6, "b" * 32)
    last_seen.remember("train", newer)
    last_seen.remember("train", older)
    assert last_seen.recall("train") == newer


@pytest.mark.parametrize("name", ["tags", "gaps"])
def test_a_record_is_not_forgotten_for_an_older_one(last_seen: LastSeen, name: SeenRecordName) -> None:
    newer, older = SeenRecord(3, "a" * 32), SeenRecord(2, "b" * 32)
    last_seen.remember_record("train", name, newer)
    last_seen.remember_record("train", name, older)
    assert last_seen.recall_record("train", name) == newer


def test_a_keyring_is_not_forgotten_for_an_older_one_unless_that_is_meant(last_seen: LastSeen) -> None:
    newer, older = (SeenKeyring(serial, f"{serial:064x}", "0" * 16, "a" * 64) for serial in (10**15, 2))
    last_seen.remember_keyring(newer)
    last_seen.remember_keyring(older)
    assert seen_keyring(last_seen.line(KEYRING).line) == newer
    last_seen.remember_keyring(older, even_if_older=True)
    assert seen_keyring(last_seen.line(KEYRING).line) == older


def test_each_location_has_the_store_that_was_seen_there_last(tmp_path: Path) -> None:
    locations = SeenLocations(tmp_path)
    odd = os.fsdecode(b"/data/\xff\n")
    locations.remember("/data/a", "0" * 32)
    locations.remember(odd, "1" * 32)
    locations.remember("/data/a", "2" * 32)
    assert [locations.recall(place) for place in ("/data/a", odd, "/data/b")] == ["2" * 32, "1" * 32, None]


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o777])
def test_nobody_else_may_change_what_was_seen(tmp_path: Path, umask: int) -> None:
    """Whoever may rename a folder on the way could put other memories in its place."""
    before = os.umask(umask)
    try:
        last_seen = LastSeen("0" * 32, tmp_path / "home" / "state" / "checkpoint_manager")
        last_seen.remember("train", SeenVersion(1, "a" * 32))
    finally:
        os.umask(before)
    for path in (tmp_path / "home").rglob("*"):
        assert not path.stat().st_mode & 0o077
    assert last_seen.recall("train") == SeenVersion(1, "a" * 32)


def test_folders_that_an_earlier_version_left_to_the_umask_are_closed(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint_manager" / ("0" * 32)
    folder.mkdir(parents=True)
    for path in (folder, folder.parent):
        path.chmod(0o775)
    LastSeen("0" * 32, tmp_path / "checkpoint_manager")
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)] == [0o700, 0o700]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_folder_of_another_user_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "checkpoint_manager" / ("0" * 32)
    LastSeen("0" * 32, tmp_path / "checkpoint_manager").remember("train", SeenVersion(1, "a" * 32))
    os.chown(folder, 12345, 12345)
    last_seen = LastSeen("0" * 32, tmp_path / "checkpoint_manager")
    assert "belongs to another user" in caplog.text
    assert last_seen.recall("train") is None
    last_seen.remember("train", SeenVersion(2, "a" * 32))
    assert last_seen.recall("train") is None


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_what_is_not_a_file_says_nothing(tmp_path: Path, make: Callable[[str], None]) -> None:
    last_seen = LastSeen("0" * 32, tmp_path / "state")
    last_seen.remember("train", SeenVersion(1, "a" * 32))
    (line,) = (tmp_path / "state" / ("0" * 32)).iterdir()
    line.unlink()
    make(str(line))
    assert last_seen.recall("train") is None
    last_seen.remember("train", SeenVersion(2, "a" * 32))
    assert last_seen.recall("train") is None


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_file_of_another_user_names_no_stage(last_seen: LastSeen, tmp_path: Path) -> None:
    last_seen.remember("train", SeenVersion(1, "a" * 32))
    assert last_seen.stages() == ["train"]
    for path in tmp_path.rglob("*"):
        if path.is_file():
            os.chown(path, 12345, 12345)
    assert last_seen.stages() == []


def test_a_parent_that_others_may_write_to_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o777)
    LastSeen("0" * 32, tmp_path / "state" / "checkpoint_manager")
    assert f"they may write to {tmp_path / 'state'}" in caplog.text
    caplog.clear()
    (tmp_path / "state").chmod(0o1777)
    LastSeen("0" * 32, tmp_path / "state" / "checkpoint_manager")
    assert not caplog.text


@pytest.mark.parametrize("name", [b"[1]", b"{", b'""', b"\0\0\0", b'"another"', b"\xff"])
def test_a_line_with_a_damaged_name_counts_as_none(tmp_path: Path, name: bytes) -> None:
    last_seen = LastSeen("0" * 32, tmp_path)
    for stage in ("train", "clean"):
        last_seen.remember(stage, SeenVersion(1, "a" * 32))
    damaged = tmp_path / ("0" * 32) / hashlib.sha256(b"train").hexdigest()[:40]
    damaged.write_bytes(b"000000000001 " + b"a" * 32 + b" " + name + b"\n")
    assert last_seen.stages() == ["clean"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_what_may_only_be_read_is_read() -> None:
    """As in a home that is mounted read-only. Root may write everywhere, so another user reads."""
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o777)

        def read() -> list[object]:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            state = Path(place) / "state"
            LastSeen("0" * 32, state).remember("train", SeenVersion(7, "a" * 32))
            for line in (state / ("0" * 32)).iterdir():
                line.chmod(0o400)
            return list(LastSeen("0" * 32, state).recall("train") or ())

        assert forking.answer(read) == [7, "a" * 32]


def test_without_a_home_a_warning_says_so_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", nobody)
    last_seen = LastSeen("0" * 32)
    last_seen.remember("train", SeenVersion(1, "a" * 32))
    assert last_seen.recall("train") is None
    assert last_seen.stages() == []
    assert caplog.text.count("this user has no home directory") == 1


def nobody(uid: int) -> object:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


def test_what_the_system_refuses_to_read_is_not_taken_for_nothing_seen(
    last_seen: LastSeen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(last_seen, "_open", fail)
    with pytest.raises(StorageError, match=r"can't read what was seen of this store: .*: Input/output error") as caught:
        last_seen.recall("train")
    assert caught.value.errno == errno.EIO


def test_without_its_folder_no_other_place_was_seen(tmp_path: Path) -> None:
    locations = SeenLocations(tmp_path / "state")
    locations.remember("/data/a", "0" * 32)
    assert locations.others("0" * 32, "/data/b") == ["/data/a"]
    shutil.rmtree(tmp_path / "state")
    assert locations.others("0" * 32, "/data/b") == []


def test_a_state_directory_that_is_removed_under_a_running_process_is_made_again(
    last_seen: LastSeen, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    last_seen.remember("train", SeenVersion(1, "a" * 32))
    shutil.rmtree(tmp_path / ("0" * 32))
    for number in (2, 3):
        last_seen.remember("train", SeenVersion(number, "b" * 32))
    assert LastSeen("0" * 32, tmp_path).recall("train") == SeenVersion(3, "b" * 32)
    assert stat.S_IMODE((tmp_path / ("0" * 32)).stat().st_mode) == 0o700
    assert caplog.text.count("was removed while it was in use") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_one_that_another_user_makes_instead_is_not_believed(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    state = tmp_path / "checkpoint_manager"
    last_seen = LastSeen("0" * 32, state)
    shutil.rmtree(state)
    state.mkdir()
    os.chown(state, 12345, 12345)
    last_seen.remember("train", SeenVersion(1, "a" * 32))
    assert "belongs to another user" in caplog.text
    assert last_seen.recall("train") is None
