"""Find the stores in a folder and below it: directories and SQLite databases. Nothing is opened as a store."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from urllib.parse import quote

from checkpoint_manager._lazy_log import get_logger
from checkpoint_manager._text import printable
from checkpoint_manager.errors import StorageError

_LOG = get_logger()
_KEYRING = "keyring.json"
_DEEPEST, _MOST_FOLDERS = 8, 100_000
_SQLITE_LOCKS = "-locks"
"""What the name of the folder ends with that stands beside an SQLite database of ours."""


def find_stores(folder: str | os.PathLike[str]) -> list[str]:
    """Return the locations of the stores in a folder and below it, sorted: directories, and SQLite databases as URLs.

    Links are not followed, and neither hidden folders nor what is in a store is looked through. It ends eight folders deep, or
    after 100,000 folders, with a WARNING.

    Raises:
        StorageError: The folder can't be read.
    """
    found: list[str] = []
    waiting = deque([(os.path.abspath(os.path.expanduser(os.fspath(folder))), 0)])
    looked_through = 0
    while waiting:
        path, depth = waiting.popleft()
        looked_through += 1
        try:
            with os.scandir(path) as entries:
                inside = list(entries)
        except OSError as error:
            if depth == 0:
                message = f"the folder {printable(path)} can't be read: {error.strerror}"
                hint = "Name a folder that this user may read"
                raise StorageError(message, hint=hint, errno=error.errno, filename=path) from None
            _LOG.warning("Not looked through for stores: %s: %s", printable(path), error.strerror)
            continue
        if any(entry.name == _KEYRING and entry.is_file(follow_symlinks=False) for entry in inside):
            found.append(path)
            continue
        names = {entry.name for entry in inside}
        databases = [each for each in inside if f"{each.name}{_SQLITE_LOCKS}" in names and _is_database(each)]
        found += [f"sqlite:///{quote(os.fsencode(each.path))}" for each in databases]
        folders = [entry.path for entry in inside if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
        if folders and (depth == _DEEPEST or looked_through + len(waiting) + len(folders) > _MOST_FOLDERS):
            _LOG.warning(
                "Not looked through for stores, as it lies too deep, or there are too many folders: %s", printable(path)
            )
            continue
        waiting.extend((each, depth + 1) for each in folders)
    return sorted(found)


def _is_database(entry: os.DirEntry[str]) -> bool:
    """Return whether a file beside locks of ours may be an SQLite database, as far as its status tells.

    It is not opened: when a process closes a file, it loses the locks that its connections hold on that file, and with them
    what it saves next (https://www.sqlite.org/howtocorrupt.html, section 2.2).
    """
    with contextlib.suppress(OSError):
        return entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_size > 0
    return False
