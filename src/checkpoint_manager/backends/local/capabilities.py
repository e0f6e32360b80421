"""Trying out what a directory's file system can do, with files of our own that are removed again.

A probe that is killed leaves nothing but temporary files, which a repair sweeps. No file of the store is opened.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import lock_descriptor, unlock_descriptor

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import passing_over_refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MOUNTS = "/proc/self/mountinfo"
_OCTAL = re.compile(r"\\([0-7]{3})")
"""How a space, a tab, a line feed and a backslash stand in there: see proc_pid_mountinfo(5)."""
_OTHER_PROCESS = """
import os, sys
from filelock import lock_descriptor
descriptor = os.open(sys.argv[1], os.O_RDWR | os.O_NOFOLLOW)
for _ in sys.stdin:
    print(lock_descriptor(descriptor, blocking=False), flush=True)
"""
"""Tries the lock once for each line it is given."""


@dataclass(frozen=True, slots=True)
class Room:
    """What is left of a file system, for this user.

    Attributes:
        bytes: Free bytes.
        files: How many more files it takes; None: it does not count them.
    """

    bytes: int
    files: int | None


def room(path: str) -> Room:
    """Return how much room there is."""
    status = os.statvfs(path)
    return Room(status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None)


def file_system(path: str) -> str:
    """Return the type of the file system that a path is on, such as ``ext4``; empty if the system does not tell."""
    real = os.path.realpath(path)
    best, kind = "", ""
    with passing_over_refusals(), open(_MOUNTS, encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            before, _, after = line.partition(" - ")
            place = _OCTAL.sub(lambda match: chr(int(match[1], 8)), before.split(" ")[4])
            above = real == place or real.startswith(place.rstrip("/") + "/")
            if above and len(place) >= len(best):  # what is mounted later hides what was there before
                best, kind = place, after.split(" ")[0]
    return kind


def hard_links(directory: str) -> bool:
    """Return whether a file can have a second name here.

    Raises:
        OSError: Nothing can be written here.
    """
    with _temporary(directory) as (descriptor, name):
        try:
            second = files.second_name(name, descriptor)
        except OSError:
            return False
        try:
            return os.stat(second, dir_fd=descriptor, follow_symlinks=False).st_nlink == 2  # else it is a copy
        finally:
            files.remove(second, descriptor)


def private_modes(directory: str) -> bool:
    """Return whether a file can be closed to others here."""
    with _temporary(directory) as (descriptor, name):
        return stat.S_IMODE(os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode) == files.FILE_MODE


def syncs(directory: str) -> str:
    """Return what is wrong with making files and their names durable here; empty: nothing."""
    try:
        with _temporary(directory, durable=True) as (descriptor, _):
            files.sync(descriptor)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def locks(directory: str) -> str:
    """Return what is wrong with locks between two processes here; empty: nothing."""
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
        ("False", "False"): "a lock that was let go stays taken",
        ("False", "True"): "",
    }
    return wrong.get(answers, "another process could not try the lock")


def _ask_another_process(path: str, let_go: Callable[[], object]) -> tuple[str, str]:
    """Let a child try the lock while this process holds it, and once more when it has let go."""
    command = [sys.executable, "-P", "-c", _OTHER_PROCESS, path]  # -P: no module of the folder that one happens to be in
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603  # ours
        assert child.stdin is not None  # noqa: S101  # for the type checker
        assert child.stdout is not None  # noqa: S101  # likewise
        with contextlib.suppress(BrokenPipeError):
            child.stdin.write("\n")
            child.stdin.flush()
            first = child.stdout.readline().strip()
            let_go()
            child.stdin.write("\n")
            child.stdin.flush()
            return first, child.stdout.readline().strip()
    return "", ""


@contextlib.contextmanager
def _temporary(directory: str, *, durable: bool = False) -> Iterator[tuple[int, str]]:
    """Make a temporary file, and remove it again."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        name = files.write_temporary(descriptor, [b"checkpoint_manager was here"], durable=durable)
        try:
            yield descriptor, name
        finally:
            files.remove(name, descriptor)
    finally:
        os.close(descriptor)
