"""A directory that other hosts write to: which mounts are refused, and that nothing remembered is relied on.

What two hosts do on a real NFS is shown by ``python -m tests.nfs.run``, which needs a virtual machine.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, StorageError
from checkpoint_manager._filesystem import mounts
from checkpoint_manager.backends.local.shared import is_shared

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def mounted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], str]:
    """Return what says of a folder with a space in its name that it is mounted in some way."""
    folder = tmp_path / "shared by all"
    folder.mkdir()
    told = tmp_path / "mountinfo"
    monkeypatch.setattr(mounts, "_MOUNTS", str(told))
    monkeypatch.setattr(os, "major", lambda _: 0)  # no disk of this host

    def mount(kind: str, options: str) -> str:
        place = str(folder).replace(" ", "\\040")
        told.write_text(
            f"22 1 0:5 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
            f"36 22 0:47 / {place} rw,relatime shared:2 - {kind} server:/export {options}\n"
        )
        return str(folder)

    return mount


@pytest.mark.parametrize(
    ("kind", "options", "why"),
    [
        ("nfs", "rw,vers=3,local_lock=none", "NFS 3,"),
        ("nfs4", "rw,vers=4.0,local_lock=none", r"NFS 4\.0,"),
        ("nfs", "rw,vers=3,nolock,local_lock=all", "NFS 3,"),
        ("nfs4", "rw,vers=4.2,local_lock=flock", "local_lock=flock"),
        ("nfs4", "rw,vers=4.1,nolock", "nolock"),
    ],
)
def test_a_mount_on_which_hosts_would_not_exclude_one_another_is_refused(
    mounted: Callable[[str, str], str], kind: str, options: str, why: str
) -> None:
    place = mounted(kind, options)
    with pytest.raises(StorageError, match=why) as caught:
        CheckpointManager(place, key=bytes(32))
    assert "vers=4.2" in str(caught.value.hint)
    assert os.listdir(place) == []


@pytest.mark.parametrize(
    ("kind", "options", "shared"),
    [
        ("nfs4", "rw,vers=4.2,local_lock=none", True),
        ("nfs4", "rw,vers=4.1,local_lock=none", True),
        ("cifs", "rw,vers=3.1.1", True),
        ("tmpfs", "rw", False),
    ],
)
def test_other_mounts_are_told_apart(mounted: Callable[[str, str], str], kind: str, options: str, shared: bool) -> None:
    assert is_shared(mounted(kind, options)) == shared


def test_a_disk_of_this_host_is_not_looked_up(mounted: Callable[[str, str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    place = mounted("nfs", "vers=3")
    monkeypatch.undo()
    assert not is_shared(place)


def test_a_shared_directory_is_looked_at_each_time(mounted: Callable[[str, str], str]) -> None:
    one, other = (CheckpointManager(mounted("nfs4", "vers=4.2"), key=bytes(32)) for _ in range(2))
    for number in range(1, 4):
        assert one.save_checkpoint("train", number).number == 2 * number - 1
        assert other.load_checkpoint("train") == number
        one.keys.rotate()
        assert other.save_checkpoint("train", -number).number == 2 * number
        assert one.load_checkpoint("train") == -number
    assert one.stage("clean")(lambda: 7)() == 7
    assert other.has_checkpoint("clean")
