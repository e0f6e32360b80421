"""Which other users of this host could read, change or replace a file.

A file is trusted if this user or root owns it and other users can't write to it. A user who can write to a directory can
replace the files in it, unless the directory has the sticky bit, as ``/tmp`` has.
"""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat

_GROUP, _WORLD = stat.S_IWGRP, stat.S_IWOTH


def make_private_directories(path: str) -> None:
    """Make a directory and its missing parents, all with mode 0700 whatever the umask."""
    missing = []
    while not os.path.isdir(path):
        missing.append(path)
        path = os.path.dirname(path)
    for directory in reversed(missing):
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:  # another process was faster; if a file is in the way, the next step fails
            continue
        os.chmod(directory, 0o700)


def is_foreign(status: os.stat_result) -> bool:
    """Return whether a user other than this one and root owns the file."""
    return status.st_uid not in {os.geteuid(), 0}


def others_may_read(status: os.stat_result) -> bool:
    """Return whether other users may read a file."""
    return bool(status.st_mode & 0o077)


def others_may_write(status: os.stat_result) -> bool:
    """Return whether other users may write to a file, or replace the files in a directory."""
    mode = status.st_mode
    if stat.S_ISDIR(mode) and mode & stat.S_ISVTX:
        return False
    return bool(mode & _WORLD) or bool(mode & _GROUP and not _is_private(status.st_gid))


def exposed_parent(path: str) -> str:
    """Return the nearest directory above a path that is another user's, or that others may write to; empty if there is none."""
    directory = os.path.realpath(path)
    while directory != (directory := os.path.dirname(directory)):
        with contextlib.suppress(OSError):  # a directory that can't be examined is not worth a warning
            status = os.stat(directory)
            if is_foreign(status) or others_may_write(status):
                return directory
    return ""


def user_name(number: int) -> str:
    """Return the name of a user; for one without a name, the number."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _is_private(group: int) -> bool:
    """Return whether a group is this user's private group, which many systems create under the user's name."""
    with contextlib.suppress(KeyError):
        entry, user = grp.getgrgid(group), pwd.getpwuid(os.geteuid())
        return user.pw_gid == group and entry.gr_name == user.pw_name and not set(entry.gr_mem) - {user.pw_name}
    return False
