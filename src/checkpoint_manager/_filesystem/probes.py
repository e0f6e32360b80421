"""Probe what the file system of a directory can do, with temporary files that are removed afterwards.

A probe that is killed leaves only temporary files behind, which a repair removes. Files of the store are never opened.
"""

from __future__ import annotations

import contextlib
import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import lock_descriptor, unlock_descriptor

from checkpoint_manager._filesystem import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_OTHER_PROCESS = """
import os, sys
from filelock import lock_descriptor
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_NOFOLLOW)
for _ in sys.stdin:
    print(lock_descriptor(descriptor, blocking=False), flush=True)
"""
"""A program that tries the lock once for each line it reads."""


@dataclass(frozen=True, slots=True)
class Room:
    """The free space of a file system, as available to this user.

    Attributes:
        bytes: Free bytes.
        files: Free inodes, or None where the file system does not count them.
    """

    bytes: int
    files: int | None


def room(path: str) -> Room:
    """Return the free space of the file system that a path is on."""
    status = os.statvfs(path)
    return Room(status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)


def hard_links(directory: str) -> bool:
    """Return whether a file in this directory can have a second name.

    Raises:
        OSError: The directory can't be written to.
    """
    with _temporary(directory) as (descriptor, name), files.temporary(descriptor) as second:
        try:
            files.add_name(name, second, descriptor)
        except OSError:
            return False
        return os.lstat(second, dir_fd=descriptor).st_nlink == 2  # else it is a copy


def private_modes(directory: str) -> bool:
    """Return whether a file in this directory can be closed to other users."""
    with _temporary(directory) as (descriptor, name):
        return stat.S_IMODE(os.lstat(name, dir_fd=descriptor).st_mode) == files.FILE_MODE


def syncs(directory: str) -> str:
    """Sync a file and its directory; return what the system says against it, or "" if both succeed."""
    try:
        with _temporary(directory, durable=True) as (descriptor, _):
            files.sync(descriptor)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def locks(directory: str) -> str:
    """Try a lock from two processes; return what is wrong with it, or "" if it works."""
    with _temporary(directory) as (descriptor, name):
        ours = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
        try:
            if not lock_descriptor(ours, blocking=False):
                return "a new file can't be locked"
            answers = _ask_another_process(os.path.join(directory, name), lambda: unlock_descriptor(ours))
        except OSError as error:
            return error.strerror or str(error)
        finally:
            os.close(ours)
    wrong = {
        ("True", "True"): "two processes can hold one lock at the same time",
        ("True", "False"): "two processes can hold one lock at the same time",
        ("False", "False"): "a lock stays taken after it was released",
        ("False", "True"): "",
    }
    return wrong.get(answers, "another process could not try the lock")


def _ask_another_process(path: str, release: Callable[[], object]) -> tuple[str, str]:
    """Let a child try the lock while this process holds it, and again after its release; return both answers."""
    command = [sys.executable, "-P", "-c", _OTHER_PROCESS, path]  # -P: import nothing from the current directory
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603  # ours
        assert child.stdin is not None  # noqa: S101  # for the type checker
        assert child.stdout is not None  # noqa: S101  # likewise
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write("\n")
            child.stdin.flush()
            first = child.stdout.readline().strip()
            release()
            child.stdin.write("\n")
            child.stdin.flush()
            return first, child.stdout.readline().strip()
    return "", ""


@contextlib.contextmanager
def _temporary(directory: str, *, durable: bool = False) -> Iterator[tuple[int, str]]:
    """Provide a temporary file for one ``with`` block: the directory's descriptor and the file's name."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with files.temporary(descriptor) as name:
            files.write_new(name, descriptor, [b"a probe of checkpoint_manager"], durable=durable)
            yield descriptor, name
    finally:
        os.close(descriptor)
