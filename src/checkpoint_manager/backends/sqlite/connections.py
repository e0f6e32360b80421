"""The connections to a database: one for each thread, handed on when it ends, and never used after a fork.

A program that starts a thread for each task would otherwise spend half its time opening them. SQLite forbids to use one after a
fork, and to close one in the child could break the parent's. A connection is opened again if another file has taken the
database's place. A new one checks that the schema is exactly that of :mod:`.schema`, because a foreign trigger or view would
run inside our statements.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import sys
import threading
from collections import deque

from checkpoint_manager._filesystem import files, permissions
from checkpoint_manager._filesystem.os_errors import as_our_errors, is_refusal
from checkpoint_manager._text import printable
from checkpoint_manager.backends.local import folders, layout
from checkpoint_manager.backends.sqlite import forks
from checkpoint_manager.backends.sqlite.errors import patiently
from checkpoint_manager.backends.sqlite.schema import (
    APPLICATION_ID,
    PAGE_BYTES,
    SCHEMA,
    SCHEMA_VERSION,
    make_schema,
    pragma,
    schema_of,
)
from checkpoint_manager.errors import IntegrityError, LocationError, StorageError

_CHECKPOINT_PAGES = 256
_MOST_BYTES = 80 * 1024 * 1024
"""More than any row of ours holds. What was planted may be longer, and SQLite would read it as a whole."""
_JOURNAL_MAGIC = bytes.fromhex("d9d505f920a163d7")
"""How a rollback journal ends that names a super-journal, see https://www.sqlite.org/fileformat2.html#the_rollback_journal."""
_MOST_IDLE = 8
"""How many connections of threads that have ended are kept for others."""

_inherited: list[forks.Connection] = []
"""Connections of this process's parent, kept so that nothing closes them."""


class Opened:
    """A connection of one thread, and the database file that it was opened on."""

    def __init__(self, connection: forks.Connection, status: os.stat_result) -> None:
        self.connection = connection
        self._file = status.st_dev, status.st_ino
        self._process = os.getpid()

    def is_usable(self, path: str) -> bool:
        """Return whether this process opened it, and the same file still stands at the path."""
        try:
            status = os.stat(path)
        except OSError as error:  # to open it again tells why
            if not is_refusal(error):  # of the caller's signal handler
                raise
            return False
        is_open = self._process == os.getpid() and not self.connection.is_closed
        return is_open and self._file == (status.st_dev, status.st_ino)

    def close(self, *, waits: bool = True) -> None:
        """Close the connection, unless it is the parent's, or in use and not to be waited for."""
        if self._process != os.getpid():
            _inherited.append(self.connection)
        elif self.connection.guard.acquire(blocking=waits):
            try:
                self.connection.close()
            finally:
                self.connection.guard.release()

    def __del__(self) -> None:
        """Close a connection that no thread needs. A daemon thread that the end of the process stopped keeps it for ever."""
        self.close(waits=not sys.is_finalizing())


class _Idle:
    """The connections of threads that have ended, for new ones."""

    def __init__(self) -> None:
        self.connections: deque[Opened] = deque(maxlen=_MOST_IDLE)
        self.is_closed = False


class _Slot:
    """What holds the connection of one thread, and hands it over when the thread has ended."""

    def __init__(self, idle: _Idle) -> None:
        self.opened: Opened | None = None
        self._idle = idle

    def __del__(self) -> None:
        """Hand the connection over."""
        if self.opened is not None and not self._idle.is_closed:
            self._idle.connections.append(self.opened)


class Connections:
    """The connections of one backend.

    Args:
        path: The database's file.
        patience: How long a busy database is waited for, in seconds; may be changed.
    """

    def __init__(self, path: str, patience: float) -> None:
        self.patience = patience
        self._path = path
        self._mine = threading.local()
        self._idle = _Idle()

    def of_this_thread(self, *, make: bool) -> forks.Connection | None:
        """Return this thread's connection, or None if there is no database, or an empty file, and none is to be made."""
        slot: _Slot | None = getattr(self._mine, "slot", None)
        if slot is None:
            self._mine.slot = slot = _Slot(self._idle)
        if slot.opened is None or not slot.opened.is_usable(self._path):
            if not make and not _holds_something(self._path):
                return None
            slot.opened = self._handed_over() or self.open()
        return slot.opened.connection

    def _handed_over(self) -> Opened | None:
        """Return a connection of a thread that has ended, if there is one."""
        with contextlib.suppress(IndexError):  # there is none left
            while not (opened := self._idle.connections.pop()).is_usable(self._path):
                pass
            return opened
        return None

    def open(self, *, only_reads: bool = False) -> Opened:
        """Open another connection; the database is made if it is not there.

        Args:
            only_reads: It stands beside this thread's own, which has synced the log.

        Raises:
            LocationError: The database is another program's, or of a newer format.
            IntegrityError: Its schema was changed, or it is damaged.
            StorageError: It can't be opened, or write-ahead logging is not granted.
        """
        with as_our_errors("open the database", self._path):
            _make_private_file(self._path)
            self._refuse_foreign_files()
            self._refuse_super_journal()
            status = os.stat(self._path)

        def connect() -> Opened:
            connection = forks.connect(self._path)
            opened = Opened(connection, status)
            with connection.guard:
                self._set_up(connection)
            if not only_reads:
                self._sync_log()
            return opened

        return patiently(connect, self.patience, self._path, "open the database")

    def _refuse_foreign_files(self) -> None:
        for path in (self._path, f"{self._path}-wal", f"{self._path}-shm", f"{self._path}-journal"):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                if not stat.S_ISREG(status.st_mode):
                    message = f"{files.what_stands_at(path)} stands in place of the file {printable(path)}"
                    raise IntegrityError(message, hint="Move away what stands there")
                if status.st_nlink > 1 and not (path == self._path and self._may_have_names(status)):
                    message = f"the file {printable(path)} has another name, through which what is written to it would be found"
                    hint = "Replace it with a copy of itself, which has no other name, while no program uses the database"
                    raise IntegrityError(message, hint=hint)  # to move it away may lose what is only in the log
                if status.st_uid != os.geteuid():
                    me, other = permissions.user_name(os.geteuid()), permissions.user_name(status.st_uid)
                    message = (
                        f"the file {printable(path)} belongs to {other}, and what {me} saved there, {other} could not read"
                    )
                    hint = f"Run this as {other}, or give the database and the files beside it to {me}"
                    raise StorageError(message, hint=hint, errno=errno.EPERM, filename=path)

    def _may_have_names(self, database: os.stat_result) -> bool:
        """Return whether the database may have another name: it is shared with a snapshot, or is only being made."""
        if database.st_size > 1:  # SQLite takes a file of one byte for an empty one
            return True
        with files.open_directory(os.path.dirname(self._path)) as folder, files.entries(folder) as entries:
            names = {each.name for each in entries if each.inode() == database.st_ino}
        return any(map(layout.is_temporary, names)) or os.lstat(self._path).st_nlink == 1  # it is made by now

    def _refuse_super_journal(self) -> None:
        """Refuse a journal that names a super-journal, which none of ours does: SQLite would delete the file of that name."""
        path = f"{self._path}-journal"
        with contextlib.suppress(FileNotFoundError), files.OpenFile(path) as journal:
            os.lseek(journal.descriptor, max(journal.size - len(_JOURNAL_MAGIC), 0), os.SEEK_SET)
            if journal.read(len(_JOURNAL_MAGIC)) == _JOURNAL_MAGIC and journal.size > len(_JOURNAL_MAGIC):
                message = f"the journal {printable(path)} was not written by checkpoint_manager: it names another file"
                raise IntegrityError(message, hint="Move it away, then verify the store")

    def _set_up(self, connection: forks.Connection) -> None:
        connection.text_factory = lambda text: text.decode(errors="replace")  # a damaged schema is compared, not decoded
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA secure_delete = FAST")  # to overwrite ciphertext with zeros would need room on a full disk
        found = schema_of(connection)
        if not found:
            connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
        elif pragma(connection, "application_id") != APPLICATION_ID:
            message = f"the database {printable(self._path)} belongs to another program"
            raise LocationError(message, hint="Name a new file for the checkpoints")
        if pragma(connection, "journal_mode = WAL") != "wal":
            message = f"write-ahead logging is not possible for {printable(self._path)}, as on a network file system"
            raise StorageError(message, hint="Put the database on a local disk")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        if not found:
            make_schema(connection)
            found = schema_of(connection)
        if pragma(connection, "user_version") != SCHEMA_VERSION:
            message = f"the database {printable(self._path)} has a format that this version of the library does not know"
            raise LocationError(message, hint="Upgrade the library")
        if found != SCHEMA:
            message = f"the schema of the database {printable(self._path)} was changed"
            raise IntegrityError(message, hint="Restore the database from a backup")

    def _sync_log(self) -> None:
        """Make durable what this connection may have recovered: a writer that was killed had written it, and not synced it."""
        with as_our_errors("open the database", self._path), contextlib.suppress(FileNotFoundError):
            descriptor = os.open(f"{self._path}-wal", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                files.sync(descriptor)
            finally:
                files.close(descriptor)
            files.sync_directory(os.path.dirname(self._path))

    def close(self) -> None:
        """Close the connections of this thread and of those that have ended. Others are closed when their threads end."""
        self._idle.is_closed = True
        self._idle.connections.clear()
        slot: _Slot | None = self._mine.__dict__.pop("slot", None)
        if slot is not None and slot.opened is not None:
            slot.opened.close()


def _holds_something(path: str) -> bool:
    """Return whether there is a file that is not empty, or something else for :meth:`Connections.open` to refuse."""
    try:
        status = os.lstat(path)
    except OSError as error:
        if not is_refusal(error):
            raise
        return False
    return status.st_size > 0 or not stat.S_ISREG(status.st_mode)


def _make_private_file(path: str) -> None:
    """Make an empty file if there is none, for SQLite would leave its mode to the umask, and make its name durable.

    The file is closed before it gets its name: when a process closes a file, it loses the locks that its connections hold on
    that file, and another thread may open one as soon as the name is there.
    """
    if os.path.lexists(path):
        return
    folder, name = os.path.split(path)
    folders.make_store_directory(folder)
    with files.open_directory(folder) as directory, files.temporary(directory) as temporary:
        files.write_new(temporary, directory, (), durable=False)
        with contextlib.suppress(FileExistsError):
            files.publish(temporary, name, directory)
            files.sync(directory)
