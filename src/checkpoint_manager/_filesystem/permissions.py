"""Who else on this host could read, change or replace what is this user's own.

A file can be trusted if it belongs to this user or to root, and nobody else may write to it. Others who may write to a
directory can replace what is in it, unless the directory has the sticky bit, as ``/tmp`` has; what they put there is foreign.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat

_GROUP, _WORLD = stat.S_IWGRP, stat.S_IWOTH


def make_private_directories(path: str) -> None:
    """Make a directory and the parents that it lacks, each for this user alone, whatever the umask."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:  # another process was faster, or a file is there: what follows tells
            continue
        os.chmod(directory, 0o700)


def is_foreign(status: os.stat_result) -> bool:
    """Return whether something belongs to another user, and not to root."""
    return status.st_uid not in {os.geteuid(), 0}


def others_may_read(status: os.stat_result) -> bool:
    """Return whether other users may read a file."""
    return bool(status.st_mode & 0o077)


def others_may_write(status: os.stat_result) -> bool:
    """Return whether other users may write to a file, or replace what is in a directory."""
    mode = status.st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return False
    return bool(mode & _WORLD) or bool(mode & _GROUP and not _is_private(status.st_gid))


def exposed_parent(path: str) -> str:
    """Return the nearest directory above a path in which others may replace what is there; empty: none."""
    directory = os.path.realpath(path)
    while directory != (directory := os.path.dirname(directory)):
        with contextlib.suppress(OSError):  # what can't be looked at is no reason for a warning
            if others_may_write(os.stat(directory)):
                return directory
    return ""


def user_name(number: int) -> str:
    """Return the name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _is_private(group: int) -> bool:
    """Return whether a group is this user's own, as many systems make one for each user, named as the user is."""
    with contextlib.suppress(KeyError):
        entry, user = grp.getgrgid(group), pwd.getpwuid(os.geteuid())
        return user.pw_gid == group and entry.gr_name == user.pw_name and not set(entry.gr_mem) - {user.pw_name}
    return False
