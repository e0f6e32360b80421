"""Whether a file or folder is unchanged, by its status.

The kernel notes the time of change (``st_ctime_ns``) with each change of a file's content, names or mode, and of the names in a
folder, and no program can set that time. So an equal status means that nothing has changed, with one exception: changes within
one tick of the file system's clock have the same time. A status is *settled* if every later change is certain to have another
time. It is if the last change is longer ago than a tick, or if the file system has fine times: since Linux 6.13, a change that
follows a look at the status gets a time of its own there (``Documentation/filesystems/multigrain-ts.rst``). An ext4 with
inodes of 128 bytes keeps whole seconds only, so a time without a fraction is never taken for a fine one.

A network file system may answer from memory, and other hosts, which have other clocks, set the times in it. Nothing is ever
settled there, nor where the kind of the file system is not known, as on macOS, nor in another file system that is mounted in
a folder of this one.
"""

from __future__ import annotations

import math
import operator
import os
import re
import sys
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import mounts
from checkpoint_manager._filesystem.os_errors import passing_over_refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    Stamp = tuple[int, int, int, int, int]

_TICK_NANOSECONDS = 5_000_000_000
"""Longer than that of any file system: 10 ms at most in those of Linux, 2 s in FAT."""
_OF_SEVERAL_HOSTS = mounts.NETWORK | {"gfs2", "ocfs2"}
_HAVE_FINE_TIMES = {"ext4", "xfs", "btrfs"}
"""Not tmpfs: a link or a removal there gives the folder the time of the file, which nobody may have looked at."""
_FINE_SINCE = (6, 13)
"""The version of Linux."""
_SECOND = 1_000_000_000
"""In nanoseconds."""

stamp: Callable[[os.stat_result], Stamp] = operator.attrgetter("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
"""Returns, of the status of a file or folder, what changes when it does."""


class FileTimes:
    """The times of change in one file system.

    Args:
        directory: Any directory in it.
    """

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._device: int | None = None
        self._has_fine_times = False
        self._tick: float = math.inf

    def is_settled(self, status: os.stat_result, now: int) -> bool:
        """Return whether each change after a status was read is certain to show in a later one.

        Args:
            status: The status.
            now: The time before it was read, in nanoseconds since 1970.
        """
        if self._device is None:
            self._look_up()
        if status.st_dev != self._device:
            return False
        changed = status.st_ctime_ns
        return changed < now - self._tick or (self._has_fine_times and changed % _SECOND != 0)

    def _look_up(self) -> None:
        """Find out about the file system, on first use, because it stands in a list of all mounts."""
        with passing_over_refusals():  # then nothing is settled, and it is looked up again the next time
            kind = mounts.mount_of(self._directory).kind
            self._has_fine_times = kind in _HAVE_FINE_TIMES and _kernel() >= _FINE_SINCE
            if kind and kind not in _OF_SEVERAL_HOSTS and not kind.startswith("fuse"):
                self._tick = _TICK_NANOSECONDS
            self._device = os.stat(self._directory).st_dev


def _kernel() -> tuple[int, ...]:
    """Return the version of the kernel; () if it is not Linux."""
    version = re.match(r"(\d+)\.(\d+)", os.uname().release) if sys.platform == "linux" else None
    return () if version is None else (int(version[1]), int(version[2]))
