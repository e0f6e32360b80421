"""What SQLite's errors mean, and how long a statement waits for those of others."""

from __future__ import annotations

import errno
import sqlite3
import time
from typing import TYPE_CHECKING, NoReturn, TypeVar

from checkpoint_manager._filesystem.os_errors import HINTS_BY_ERRNO
from checkpoint_manager._text import printable
from checkpoint_manager.backends import base
from checkpoint_manager.errors import IntegrityError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_RESTORE = "Restore the database from a backup"
_NO_DATABASE = "Check the path in the URL; if the checkpoints were in this file, restore it from a backup"
_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG}
_REFUSALS = {
    sqlite3.SQLITE_BUSY: (errno.EBUSY, "End the program that keeps the database locked, then try again"),
    sqlite3.SQLITE_FULL: (errno.ENOSPC, HINTS_BY_ERRNO[errno.ENOSPC]),
    sqlite3.SQLITE_READONLY: (errno.EROFS, HINTS_BY_ERRNO[errno.EACCES]),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, HINTS_BY_ERRNO[errno.EACCES]),
    sqlite3.SQLITE_IOERR: (errno.EIO, HINTS_BY_ERRNO[errno.EIO]),
}


def patiently(run: Callable[[], T], seconds: float, path: str, action: str, stage: str | None = None) -> T:
    """Return what a function returns; call it again while the database at the path is busy, for so many seconds.

    Other connections keep it busy for about as long as a flush takes, one after the other.

    Raises:
        IntegrityError: The database is damaged.
        StorageError: SQLite refuses, or other connections kept the database for too long.
    """
    deadline = None
    while True:
        try:
            return run()
        except UnicodeDecodeError:  # of SQLite's message, which quotes what is damaged
            raise IntegrityError(f"the database {printable(path)} is damaged", hint=_RESTORE) from None
        except sqlite3.Error as error:
            now = time.monotonic()
            deadline = deadline or now + max(seconds, base.LEAST_ANSWER_SECONDS)
            if not _is_busy(error) or now >= deadline:
                translate(error, path, action, stage)


def translate(error: sqlite3.Error, path: str, action: str, stage: str | None = None) -> NoReturn:
    """Raise an error of SQLite as one of this library."""
    code = _code_of(error)
    done = action.removesuffix(" of") if stage is None else f"{action} stage {printable(stage)}"
    what = f"can't {done}: {printable(path)}: {error}"
    if code == sqlite3.SQLITE_NOTADB:
        raise IntegrityError(what, hint=_NO_DATABASE, stage=stage) from error
    if code in _DAMAGE:
        raise IntegrityError(what, hint=_RESTORE, stage=stage) from error
    number, hint = _REFUSALS.get(code, _REFUSALS[sqlite3.SQLITE_IOERR])
    raise StorageError(what, hint=hint, errno=number, filename=path, stage=stage) from error


def _code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 for an error of the Python module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    """Return whether another try may succeed. A fork of another thread closes the connection, and the next try opens one."""
    return _code_of(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED} or "closed database" in str(error)
