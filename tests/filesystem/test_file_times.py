"""Whether a status is settled: each later change of the file or folder is certain to show in it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager._filesystem import file_times, mounts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("kind", "kernel", "is_settled"),
    [
        ("ext4", (6, 13), True),
        ("ext4", (6, 12), False),
        ("ext4", (), False),
        ("vfat", (6, 13), False),
        ("tmpfs", (6, 13), False),
        ("nfs4", (6, 13), False),
        ("fuse.sshfs", (6, 13), False),
        ("", (6, 13), False),
    ],
)
def test_a_time_of_just_now_is_believed_only_where_times_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, kernel: tuple[int, ...], *, is_settled: bool
) -> None:
    monkeypatch.setattr(file_times, "_kernel", lambda: kernel)
    monkeypatch.setattr(mounts, "mount_of", lambda _: mounts.Mount(kind))
    (tmp_path / "file").touch()
    assert file_times.FileTimes(str(tmp_path)).is_settled((tmp_path / "file").stat(), time.time_ns()) is is_settled


@pytest.mark.parametrize(
    ("kind", "is_settled"), [("vfat", True), ("nfs4", False), ("gfs2", False), ("fuse.other", False), ("", False)]
)
def test_an_old_time_is_believed_of_a_disk_of_this_host(
    monkeypatch: pytest.MonkeyPatch, kind: str, *, is_settled: bool
) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda _: mounts.Mount(kind))
    old = os.stat(os.__file__)
    assert file_times.FileTimes(os.path.dirname(os.__file__)).is_settled(old, time.time_ns()) is is_settled


def test_a_time_of_whole_seconds_is_not_taken_for_a_fine_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_times, "_kernel", lambda: (6, 13))
    monkeypatch.setattr(mounts, "mount_of", lambda _: mounts.Mount("ext4"))
    now, second = time.time_ns(), 1_000_000_000
    changed = now // second * second  # as in an ext4 whose inodes have 128 bytes: mkfs.ext4 -I 128

    def is_settled(changed: int) -> bool:
        status = os.stat_result(tuple(tmp_path.stat()), {"st_ctime_ns": changed})
        return file_times.FileTimes(str(tmp_path)).is_settled(status, now)

    assert [is_settled(changed), is_settled(changed + 1), is_settled(changed - 10 * second)] == [False, True, True]


def test_what_is_mounted_in_a_folder_is_not_taken_for_the_file_system_around_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mounts, "mount_of", lambda _: mounts.Mount("ext4"))
    mounted = os.stat("/dev/null")
    assert not file_times.FileTimes(str(tmp_path)).is_settled(mounted, mounted.st_ctime_ns + 60_000_000_000)


def test_a_file_system_that_can_not_be_looked_up_settles_nothing(tmp_path: Path) -> None:
    found = file_times.FileTimes(str(tmp_path / "gone"))
    assert not found.is_settled(tmp_path.stat(), time.time_ns())
    (tmp_path / "gone").mkdir()
    assert found.is_settled(os.stat(os.__file__), time.time_ns()) is (tmp_path.stat().st_dev == os.stat(os.__file__).st_dev)
