"""What PostgreSQL's errors mean, as errors of this library."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, Hint, IntegrityError, LockTimeoutError, StorageError

if TYPE_CHECKING:
    import psycopg

LOCK_NOT_AVAILABLE = "55P03"
_DAMAGE = ("XX001", "XX002")
_REFUSALS = {
    "42501": (errno.EACCES, "Grant this user what the README lists for a pipeline's user"),
    "2BP01": (errno.EBUSY, "Drop what depends on the view checkpoints, then try again"),
    "53100": (errno.ENOSPC, "Free space on the server of the database"),
    "57014": (errno.ETIMEDOUT, "Give this user a longer statement_timeout"),
    "25006": (errno.EROFS, "Connect to the server that takes changes: a standby does not"),
}
_UNREACHABLE = "Check that the server runs at this address and can be reached, then try again"
_UNCONNECTED = {
    " value": "Correct this value in the URL",
    "definition of service": "Name a service of pg_service.conf",
    "resolve host": "Check the name of the host in the URL",
    "certificate": "Check the server's certificate, and that of the authority that signed it (sslrootcert)",
    "does not exist": "Create it, or name another one",
    "SSL": "Check that the server is PostgreSQL's and offers TLS, or leave sslmode out of the URL",
    "password": "Check the user and the password: in ~/.pgpass, PGPASSWORD or a service file",
    "authentication": "Check the user, and what the server's pg_hba.conf allows",
}
"""What to do when the client can't connect, by a word of its message."""


def translated(error: psycopg.Error, action: str, where: str, stage: str | None = None) -> CheckpointError:
    """Return an error of PostgreSQL as one of this library.

    Args:
        error: The error.
        action: What was being done.
        where: The store.
        stage: The stage.
    """
    why = printable(_first_line(error))
    what = f"{action}:" if stage is None else f"{action} stage {printable(stage)}:"
    if stage is None and action.endswith((" of", " in", " to", " at")):
        what = action
    what = f"can't {what} {where}: {why}"
    if error.sqlstate == LOCK_NOT_AVAILABLE:
        return LockTimeoutError(what, hint=Hint.WAIT_FOR_LOCK, stage=stage)
    if error.sqlstate in _DAMAGE:
        return IntegrityError(what, hint="Restore the database from a backup", stage=stage)
    number, hint = _REFUSALS.get(error.sqlstate or "", (errno.EIO, "Find out what the server's log says, then try again"))
    if error.sqlstate == "42501" and "for database" in why:
        hint = "Have the database's owner run init, or grant this user CREATE on the database"
    if error.sqlstate is None:  # the client's: there was no connection, or it was lost
        hint = next((each for word, each in _UNCONNECTED.items() if word in why), _UNREACHABLE)
    return StorageError(what, hint=hint, errno=number, stage=stage)


def _first_line(error: psycopg.Error) -> str:
    return next(iter(str(error).splitlines()), "") or type(error).__name__
