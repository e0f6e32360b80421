"""The SQLite backend: one database file, in write-ahead logging mode, on one host.

**Every change is a single SQL statement.** SQLite runs each as a transaction of its own, inside one step of the interpreter,
and ``synchronous=FULL`` makes it durable before it returns. So no signal handler, fork or interruption ever meets an open
transaction. The statement that inserts a version also checks that none with the same or a higher number exists: it alone
decides who owns a version, as ``link`` does in a directory.

A version of more than 1 MiB, or such a segment of an attachment, is stored in chunks, under a random upload id, each in a
transaction of its own. The row of the version comes last, and only if all of its chunks are there. Chunks that no row refers to
are leftovers of a killed writer, and the next writer of the stage removes them under its lock. Triggers remove the chunks of
deleted and replaced versions in the same transaction.

**Locks** are lock files in a folder beside the database, because a lock that is a transaction would block the writers of all
stages.

SQLite shares memory between its processes, so all of them have to run on one host: a file system that does not grant
write-ahead logging is refused. See https://www.sqlite.org/wal.html.

**Connections.** Each thread has its own, which passes to another thread when it ends: a program that starts a thread for each
task would otherwise spend half its time opening them. None is used after a fork: SQLite forbids it, and to close one in the
child could break the parent's. A connection is opened again if another file has taken the database's place. A new one checks
that the schema is exactly the one below, because a foreign trigger or view would run inside our statements.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import sqlite3
import stat
import threading
import time
from collections import deque
from itertools import chain
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar
from urllib.parse import quote

from checkpoint_manager._filesystem import files, permissions
from checkpoint_manager._filesystem.os_errors import HINTS_BY_ERRNO, as_our_errors
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import (
    Backend,
    Capabilities,
    Leftover,
    Maintenance,
    Newest,
    NewVersion,
    OutOfOrderError,
    Purpose,
    Record,
    RecordChangedError,
    RecordName,
    Session,
    StageRecord,
    UnknownOutcomeError,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.backends.local import layout, maintenance
from checkpoint_manager.backends.local.lock import FileLock, HostLocks, is_held
from checkpoint_manager.backends.local.session import LockSession
from checkpoint_manager.backends.memory import BytesReader
from checkpoint_manager.backends.stage_names import MAX_STAGE_BYTES, decoded
from checkpoint_manager.errors import IntegrityError, LocationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from checkpoint_manager.backends.base import MakePieces, Reader
    from checkpoint_manager.models import Buffer

T = TypeVar("T")

_OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""
_APPLICATION_ID = 0x636B7074  # "ckpt"
_SCHEMA_VERSION = 1
_PAGE_BYTES = 16_384
"""Versions of several megabytes are written three times as fast as with pages of 4 KiB."""
_CHUNK_BYTES = 1024 * 1024
_CHECKPOINT_PAGES = 256
_RESERVE_BYTES = 1024 * 1024
"""What is freed on a full disk for the pages of the log that a deletion changes."""
_HIGHEST_NUMBER = 999_999_999_999
_BUSY_SECONDS = 60
"""How long a statement waits for those of other connections, each of which takes about as long as a flush."""
_MOST_IDLE = 8
"""How many connections of threads that have ended are kept for others."""
_COMPANIONS = ("", "-wal", "-shm", "-journal")

_SCHEMA = {
    "version": """CREATE TABLE version (
        stage BLOB NOT NULL, number INTEGER NOT NULL, size INTEGER NOT NULL, content BLOB, upload BLOB,
        PRIMARY KEY (stage, number), CHECK ((content IS NULL) <> (upload IS NULL))
    ) STRICT""",
    "chunk": """CREATE TABLE chunk (
        stage BLOB NOT NULL, upload BLOB NOT NULL, part INTEGER NOT NULL, content BLOB NOT NULL,
        PRIMARY KEY (stage, upload, part)
    ) STRICT""",
    "segment": """CREATE TABLE segment (
        stage BLOB NOT NULL, attachment BLOB NOT NULL, number INTEGER NOT NULL,
        size INTEGER NOT NULL, content BLOB, upload BLOB,
        PRIMARY KEY (stage, attachment, number), CHECK ((content IS NULL) <> (upload IS NULL))
    ) STRICT""",
    "record": """CREATE TABLE record (
        stage BLOB NOT NULL, name TEXT NOT NULL, stamp BLOB NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (stage, name)
    ) STRICT""",
    "quarantine": """CREATE TABLE quarantine (
        id INTEGER PRIMARY KEY, stage BLOB NOT NULL, number INTEGER, name TEXT, content BLOB, upload BLOB
    ) STRICT""",
    "version_deleted": """CREATE TRIGGER version_deleted AFTER DELETE ON version
        WHEN OLD.upload IS NOT NULL AND NOT EXISTS (SELECT 1 FROM quarantine WHERE upload = OLD.upload)
        BEGIN DELETE FROM chunk WHERE stage = OLD.stage AND upload = OLD.upload; END""",
    "version_replaced": """CREATE TRIGGER version_replaced AFTER UPDATE ON version
        WHEN OLD.upload IS NOT NULL AND OLD.upload IS NOT NEW.upload
        BEGIN DELETE FROM chunk WHERE stage = OLD.stage AND upload = OLD.upload; END""",
    "segment_deleted": """CREATE TRIGGER segment_deleted AFTER DELETE ON segment
        WHEN OLD.upload IS NOT NULL
        BEGIN DELETE FROM chunk WHERE stage = OLD.stage AND upload = OLD.upload; END""",
    "quarantined": """CREATE TRIGGER quarantined AFTER INSERT ON quarantine
        BEGIN
            DELETE FROM version WHERE stage = NEW.stage AND number = NEW.number;
            DELETE FROM record WHERE stage = NEW.stage AND name = NEW.name;
        END""",
}
"""Versions are inline or in chunks. The stage of a record of the whole store is empty."""

_UNUSED_CHUNKS = """
    FROM chunk WHERE NOT EXISTS (SELECT 1 FROM version WHERE version.stage = chunk.stage AND version.upload = chunk.upload)
    AND NOT EXISTS (SELECT 1 FROM segment WHERE segment.stage = chunk.stage AND segment.upload = chunk.upload)
    AND NOT EXISTS (SELECT 1 FROM quarantine WHERE quarantine.upload = chunk.upload)"""

_NAMED = """
    SELECT number FROM version WHERE stage = ?1 AND number IN (SELECT value FROM json_each(?2))
    UNION ALL SELECT name FROM record WHERE stage = ?1 AND name IN (SELECT value FROM json_each(?2))"""
_SET_ASIDE = """INSERT INTO quarantine (stage, number, name, content, upload)
    SELECT stage, number, NULL, content, upload FROM version
        WHERE stage = ?1 AND number IN (SELECT value FROM json_each(?2))
    UNION ALL SELECT stage, NULL, name, data, NULL FROM record
        WHERE stage = ?1 AND name IN (SELECT value FROM json_each(?2))"""

_DAMAGE = {sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_MISMATCH}
_REFUSALS = {
    sqlite3.SQLITE_BUSY: (errno.EBUSY, "End the program that keeps the database locked, then try again"),
    sqlite3.SQLITE_FULL: (errno.ENOSPC, HINTS_BY_ERRNO[errno.ENOSPC]),
    sqlite3.SQLITE_READONLY: (errno.EROFS, HINTS_BY_ERRNO[errno.EACCES]),
    sqlite3.SQLITE_CANTOPEN: (errno.EACCES, HINTS_BY_ERRNO[errno.EACCES]),
    sqlite3.SQLITE_IOERR: (errno.EIO, HINTS_BY_ERRNO[errno.EIO]),
}

_inherited: list[sqlite3.Connection] = []
"""Connections of this process's parent, kept so that nothing closes them."""


class _Opened:
    """A connection of one thread, and the database file that it was opened on."""

    def __init__(self, connection: sqlite3.Connection, status: os.stat_result) -> None:
        self.connection = connection
        self._file = status.st_dev, status.st_ino
        self._process = os.getpid()

    def is_usable(self, path: str) -> bool:
        """Return whether this process opened it, and the same file still stands at the path."""
        try:
            status = os.stat(path)
        except OSError:  # to open it again tells why
            return False
        return self._process == os.getpid() and self._file == (status.st_dev, status.st_ino)

    def close(self) -> None:
        """Close the connection, unless it is the parent's."""
        if self._process == os.getpid():
            self.connection.close()
        else:
            _inherited.append(self.connection)

    def __del__(self) -> None:
        """Close a connection that no thread needs."""
        self.close()


class _Idle:
    """The connections of threads that have ended, for new ones."""

    def __init__(self) -> None:
        self.connections: deque[_Opened] = deque(maxlen=_MOST_IDLE)
        self.is_closed = False


class _Slot:
    """What holds the connection of one thread, and hands it over when the thread has ended."""

    def __init__(self, idle: _Idle) -> None:
        self.opened: _Opened | None = None
        self._idle = idle

    def __del__(self) -> None:
        """Hand the connection over."""
        if self.opened is not None and not self._idle.is_closed:
            self._idle.connections.append(self.opened)


class _Chunks:
    """A version in chunks, opened for reading."""

    def __init__(self, backend: SqliteBackend, connection: sqlite3.Connection, stage: str, size: int, upload: bytes) -> None:
        self.size = size
        self._backend = backend
        self._connection = connection
        self._stage = stage
        self._upload = upload
        self._part = 0
        self._rest = memoryview(b"")

    def read(self, length: int) -> bytes:
        """Return the next ``length`` bytes; fewer only at the end."""
        pieces = []
        while length > 0 and (self._rest or self._next()):
            pieces.append(self._rest[:length])
            self._rest = self._rest[length:]
            length -= len(pieces[-1])
        return b"".join(pieces)

    def _next(self) -> bool:
        query = """SELECT CASE WHEN length(content) <= ? THEN content END FROM chunk
            WHERE stage = ? AND upload = ? AND part = ?"""
        parameters = (_CHUNK_BYTES, self._stage.encode(), self._upload, self._part)
        try:
            rows = self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            self._backend.translate(error, "read a version of", self._stage)
        self._part += 1
        self._rest = memoryview((rows[0][0] if rows else None) or b"")
        return bool(self._rest)


class SqliteBackend(HostLocks, Backend, Maintenance):
    """Versions and records in one SQLite database.

    Args:
        path: The database's file; made if it is not there, with its parent directories.

    Raises:
        LocationError: The database is another program's, or of a newer format.
        IntegrityError: Its schema was changed, or it is damaged.
        StorageError: It can't be opened, or write-ahead logging is not granted.
    """

    capabilities = Capabilities(lock_excludes=True, lists_over_gaps=True, durability=False, appends_together=True)

    def __init__(self, path: str | os.PathLike[str]) -> None:
        if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
            message = f"this Python has SQLite {sqlite3.sqlite_version}, and the oldest supported version is 3.37"
            raise StorageError(message, hint="Use a newer Python, or name a directory instead of a database")
        try:
            with as_our_errors("open the database", os.fspath(path)):
                self._path = os.path.realpath(os.fspath(path))
                named = os.path.abspath(os.fspath(path))
        except ValueError as error:
            message = f"{printable(os.fspath(path))} can't be the path of a database: {error}"
            raise LocationError(message, hint="Choose another path") from None
        self.location = _url_of(self._path)
        self.asked_for = "" if named == self._path else _url_of(named)
        self._locks = f"{self._path}-locks"
        self._tidied: set[str] = set()  # without chunks of a killed writer
        self._mine = threading.local()
        self._idle = _Idle()
        self._connection(make=False)

    # Connections and statements

    def _connection(self, *, make: bool) -> sqlite3.Connection | None:
        """Return this thread's connection, or None if there is no database and none is to be made."""
        slot: _Slot | None = getattr(self._mine, "slot", None)
        if slot is None:
            self._mine.slot = slot = _Slot(self._idle)
        if slot.opened is None or not slot.opened.is_usable(self._path):
            if not make and not os.path.lexists(self._path):
                return None
            slot.opened = self._handed_over() or self._open()
        return slot.opened.connection

    def _handed_over(self) -> _Opened | None:
        """Return a connection of a thread that has ended, if there is one."""
        with contextlib.suppress(IndexError):  # there is none left
            while not (opened := self._idle.connections.pop()).is_usable(self._path):
                pass
            return opened
        return None

    def _open(self, *, only_reads: bool = False) -> _Opened:
        """Open a connection; one that ``only_reads`` stands beside this thread's own, which has synced the log."""
        with as_our_errors("open the database", self._path):
            _make_private_file(self._path)
            self._refuse_foreign_files()
            status = os.stat(self._path)
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                connection = sqlite3.connect(self._path, timeout=1, isolation_level=None, check_same_thread=False)
                opened = _Opened(connection, status)
                self._set_up(connection)
                if not only_reads:
                    self._sync_log()
            except UnicodeDecodeError:  # of SQLite's message, which quotes what is damaged
                raise self._damaged() from None
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    self.translate(error, "open the database")
            else:
                return opened

    def _refuse_foreign_files(self) -> None:
        for path in (self._path, f"{self._path}-wal", f"{self._path}-shm", f"{self._path}-journal"):
            with contextlib.suppress(FileNotFoundError):
                status = os.lstat(path)
                if not stat.S_ISREG(status.st_mode):
                    message = f"{files.what_stands_at(path)} stands in place of the file {printable(path)}"
                    raise IntegrityError(message, hint="Move away what stands there")
                if status.st_uid != os.geteuid():
                    me, other = permissions.user_name(os.geteuid()), permissions.user_name(status.st_uid)
                    message = (
                        f"the file {printable(path)} belongs to {other}, and what {me} saved there, {other} could not read"
                    )
                    hint = f"Run this as {other}, or give the database and the files beside it to {me}"
                    raise StorageError(message, hint=hint, errno=errno.EPERM, filename=path)

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.text_factory = lambda text: text.decode(errors="replace")  # a damaged schema is compared, not decoded
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA secure_delete = FAST")  # to overwrite ciphertext with zeros would need room on a full disk
        found = _schema_of(connection)
        if not found:
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
        elif _pragma(connection, "application_id") != _APPLICATION_ID:
            message = f"the database {printable(self._path)} belongs to another program"
            raise LocationError(message, hint="Name a new file for the checkpoints")
        if _pragma(connection, "journal_mode = WAL") != "wal":
            message = f"write-ahead logging is not possible for {printable(self._path)}, as on a network file system"
            raise StorageError(message, hint="Put the database on a local disk")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        if not found:
            _make_schema(connection)
            found = _schema_of(connection)
        if _pragma(connection, "user_version") != _SCHEMA_VERSION:
            message = f"the database {printable(self._path)} has a format that this version of the library does not know"
            raise LocationError(message, hint="Upgrade the library")
        if found != _SCHEMA:
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

    def _rows(
        self, action: str, query: str, parameters: tuple[object, ...] = (), stage: str | None = None
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a query, none if there is no database. One step of the interpreter reads them all."""

        def run() -> list[tuple[Any, ...]]:
            connection = self._connection(make=False)
            return [] if connection is None else list(chain.from_iterable(map(connection.execute, (query,), (parameters,))))

        return self._patiently(run, action, stage)

    def _change(self, action: str, statement: str, parameters: tuple[object, ...] = (), stage: str | None = None) -> int:
        """Run a statement as a transaction of its own, and return how many rows it changed."""

        def run() -> int:
            connection = self._connection(make=True)
            assert connection is not None  # noqa: S101  # for the type checker
            return connection.execute(statement, parameters).rowcount

        return self._patiently(run, action, stage)

    def _change_on_a_full_disk(self, action: str, statement: str, parameters: tuple[object, ...], stage: str | None) -> int:
        """Run a statement like :meth:`_change`; if the disk is full, free the reserved space for it."""
        try:
            return self._change(action, statement, parameters, stage)
        except StorageError as error:
            if error.errno != errno.ENOSPC or stage is None or not maintenance.free_reserve(self._locks):
                raise
        return self._change(action, statement, parameters, stage)

    def _patiently(self, run: Callable[[], T], action: str, stage: str | None) -> T:
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                return run()
            except UnicodeDecodeError:
                raise self._damaged() from None
            except sqlite3.Error as error:
                if not _is_busy(error) or time.monotonic() > deadline:
                    self.translate(error, action, stage)

    def _damaged(self) -> IntegrityError:
        return IntegrityError(f"the database {printable(self._path)} is damaged", hint="Restore the database from a backup")

    def translate(self, error: sqlite3.Error, action: str, stage: str | None = None) -> NoReturn:
        """Raise an error of SQLite as one of this library."""
        code = _code_of(error)
        done = action.removesuffix(" of") if stage is None else f"{action} stage {printable(stage)}"
        what = f"can't {done}: {printable(self._path)}: {error}"
        if code in _DAMAGE:
            raise IntegrityError(what, hint="Restore the database from a backup", stage=stage) from error
        number, hint = _REFUSALS.get(code, _REFUSALS[sqlite3.SQLITE_IOERR])
        raise StorageError(what, hint=hint, errno=number, filename=self._path, stage=stage) from error

    # Locks

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> FileLock:
        if not os.path.isdir(directory := os.path.dirname(self._path)):
            with as_our_errors("open the database", self._path):
                maintenance.make_store_directory(directory)
        return super().lock(stage, timeout, purpose=purpose, name=name)

    def session(self, stage: str | None, lock: object = None) -> LockSession:  # noqa: ARG002  # nothing to share but the lock
        return LockSession(lock)

    # Versions

    def stages(self) -> list[str]:
        query = """WITH RECURSIVE name(stage) AS (
            SELECT min(stage) FROM version WHERE length(stage) <= ?1
            UNION ALL SELECT (SELECT min(stage) FROM version WHERE stage > name.stage AND length(stage) <= ?1)
            FROM name WHERE name.stage IS NOT NULL
        ) SELECT stage FROM name WHERE stage IS NOT NULL"""  # one step of the index for each stage, not for each version
        names = (decoded(row[0]) for row in self._rows("list the stages", query, (MAX_STAGE_BYTES,)))
        return [name for name in names if name is not None]

    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:  # noqa: ARG002  # as above
        query = "SELECT number FROM version WHERE stage = ? AND number BETWEEN 1 AND ? ORDER BY number"
        return [row[0] for row in self._rows("list the versions of", query, (stage.encode(), _HIGHEST_NUMBER), stage)]

    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:  # noqa: ARG002  # as above
        query = "SELECT max(number) FROM version WHERE stage = ? AND number BETWEEN 1 AND ?"
        rows = self._rows("find the newest version of", query, (stage.encode(), _HIGHEST_NUMBER), stage)
        return Newest((rows[0][0] or 0) if rows else 0, durable=True)

    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:  # noqa: ARG002
        self._tidy(stage)
        insert = """INSERT INTO version (stage, number, size, content, upload) SELECT ?1, ?2, ?3, ?4, ?5
            WHERE NOT EXISTS (SELECT 1 FROM version WHERE stage = ?1 AND number BETWEEN ?2 AND 999999999999)
            AND (SELECT count(*) FROM chunk WHERE stage = ?1 AND upload = ?5) = ?6"""
        try:
            if self._write(insert, stage, (version,), make_pieces()):
                return
        except StorageError as error:
            if error.errno == errno.EIO:  # of a flush that failed, the change may be found when the database is recovered
                raise UnknownOutcomeError from error
            raise
        newest = self.newest(stage).number
        if newest < version:
            raise UnknownOutcomeError  # its chunks were removed by a writer that holds the lock: it is not there
        raise VersionTakenError if version in self.versions(stage) else OutOfOrderError

    def _tidy(self, stage: str) -> None:
        """Remove chunks that a killed writer left, once for each stage, if this thread holds its lock."""
        if stage not in self._tidied and is_held(f"{self._locks}{os.sep}{layout.lock_name(stage)}"):
            self._change("remove what was left in", f"DELETE {_UNUSED_CHUNKS} AND chunk.stage = ?", (stage.encode(),), stage)
            self._tidied.add(stage)
            maintenance.keep_reserve(self._locks, _RESERVE_BYTES)

    def append_together(self, versions: Sequence[NewVersion]) -> None:
        """Insert all rows by one statement. The contents of up to 1 MiB are in memory until then."""
        rows: list[tuple[object, ...]] = []
        uploads: list[tuple[str, bytes]] = []
        try:
            for each in versions:
                self._tidy(each.stage)
                size, content, upload, parts = self._put(each.stage, each.make_pieces(), uploads)
                rows.append((each.stage.encode(), each.number, size, content, upload, parts))
            values = ", ".join(["(?, ?, ?, ?, ?, ?)"] * len(rows))
            insert = f"""INSERT INTO version (stage, number, size, content, upload)
                WITH new(stage, number, size, content, upload, parts) AS (VALUES {values})
                SELECT stage, number, size, content, upload FROM new
                WHERE NOT EXISTS (SELECT 1 FROM new n JOIN version v
                    ON v.stage = n.stage AND v.number BETWEEN n.number AND 999999999999)
                AND NOT EXISTS (SELECT 1 FROM new n
                    WHERE (SELECT count(*) FROM chunk c WHERE c.stage = n.stage AND c.upload = n.upload) <> n.parts)"""  # noqa: S608  # values: question marks
            done = self._change("write", insert, tuple(chain.from_iterable(rows))) > 0
        except BaseException as error:
            if not isinstance(error, StorageError) or error.errno != errno.EIO:
                self._remove_uploads(uploads)
                raise
            with contextlib.suppress(StorageError):  # only those that no version has got
                self._remove_uploads(uploads)
            raise UnknownOutcomeError from error
        if done:
            return
        self._remove_uploads(uploads)
        taken = [each for each in versions if self.newest(each.stage).number >= each.number]
        if not taken:
            raise UnknownOutcomeError  # chunks were removed by a writer that holds a lock: nothing is there
        raise VersionTakenError if any(each.number in self.versions(each.stage) for each in taken) else OutOfOrderError

    def _remove_uploads(self, uploads: list[tuple[str, bytes]]) -> None:
        for stage, upload in uploads:
            self._remove_chunks(stage, upload)

    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:  # noqa: ARG002
        update = """UPDATE version SET size = ?3, content = ?4, upload = ?5 WHERE stage = ?1 AND number = ?2
            AND (SELECT count(*) FROM chunk WHERE stage = ?1 AND upload = ?5) = ?6"""
        if not self._write(update, stage, (version,), make_pieces()):
            raise VersionAbsentError

    def _write(self, statement: str, stage: str, place: tuple[object, ...], pieces: Iterable[Buffer]) -> bool:
        """Store pieces and run the statement that makes a version or segment of them; return whether it did."""
        uploads: list[tuple[str, bytes]] = []
        try:
            parameters = (stage.encode(), *place, *self._put(stage, pieces, uploads))
            done = self._change("write", statement, parameters, stage) > 0
        except BaseException:  # an interruption, too
            self._remove_uploads(uploads)
            raise
        if not done:
            self._remove_uploads(uploads)
        return done

    def _put(
        self, stage: str, pieces: Iterable[Buffer], uploads: list[tuple[str, bytes]]
    ) -> tuple[int, bytearray | None, bytes | None, int]:
        """Store pieces in chunks if they are too long for a row; return the size, the content or the upload, and its parts.

        An upload is added to ``uploads`` before its first chunk is stored.
        """
        upload: bytes | None = None
        size = parts = 0
        content = bytearray()
        for piece in pieces:
            content += piece
            size += len(piece)
            while len(content) > _CHUNK_BYTES:
                if upload is None:
                    upload = secrets.token_bytes(16)
                    uploads.append((stage, upload))
                parts = self._put_chunk(stage, upload, parts, content[:_CHUNK_BYTES])
                del content[:_CHUNK_BYTES]
        if upload is not None:
            parts = self._put_chunk(stage, upload, parts, content)
        return size, content if upload is None else None, upload, parts

    def _put_chunk(self, stage: str, upload: bytes, part: int, content: bytearray) -> int:
        insert = "INSERT INTO chunk (stage, upload, part, content) VALUES (?, ?, ?, ?)"
        self._change("write", insert, (stage.encode(), upload, part, content), stage)
        return part + 1

    def _remove_chunks(self, stage: str, upload: bytes | None) -> bool:
        statement = f"DELETE {_UNUSED_CHUNKS} AND chunk.stage = ? AND chunk.upload = ?"
        return upload is not None and self._change("remove chunks of", statement, (stage.encode(), upload), stage) > 0

    def flush(self, stage: str, *, session: Session | None = None) -> None:
        """Do nothing: each statement is durable when it returns."""

    @contextlib.contextmanager
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:  # noqa: ARG002
        query = """SELECT size, upload, CASE WHEN length(content) <= ? THEN content END FROM version
            WHERE stage = ? AND number = ?"""
        with self._reader(query, (_CHUNK_BYTES, stage.encode(), version), stage) as reader:
            yield reader

    @contextlib.contextmanager
    def _reader(self, query: str, parameters: tuple[object, ...], stage: str) -> Iterator[Reader]:
        """Read a row of size, upload and content."""
        rows = self._rows("read a version of", query, parameters, stage)
        if not rows:
            raise VersionAbsentError
        if rows[0][1] is None:
            yield BytesReader(rows[0][2] or b"")  # what is larger is not of this backend: too short, then
            return
        opened = self._open(only_reads=True)  # a transaction of its own: chunks may be deleted meanwhile
        try:
            connection = opened.connection
            connection.execute("BEGIN")
            rows = connection.execute(query, parameters).fetchall()
            if not rows:
                raise VersionAbsentError
            size, upload, _ = rows[0]
            yield _Chunks(self, connection, stage, size, upload or b"")
        except sqlite3.Error as error:
            self.translate(error, "read a version of", stage)
        finally:
            opened.close()

    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:  # noqa: ARG002
        statement = "DELETE FROM version WHERE stage = ? AND number IN (SELECT value FROM json_each(?))"
        self._change_on_a_full_disk("delete versions of", statement, (stage.encode(), str(list(versions))), stage)
        maintenance.keep_reserve(self._locks, _RESERVE_BYTES)  # it may have been used for the record of these deletions

    # Attachments

    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        insert = """INSERT INTO segment (stage, attachment, number, size, content, upload) SELECT ?1, ?2, ?3, ?4, ?5, ?6
            WHERE (SELECT count(*) FROM chunk WHERE stage = ?1 AND upload = ?6) = ?7"""
        if not self._write(insert, stage, (bytes.fromhex(attachment), index), pieces):
            message = f"an attachment of stage {printable(stage)} in {self.location} was removed while it was written"
            raise StorageError(message, hint="Save again", stage=stage)

    @contextlib.contextmanager
    def open_segment(self, stage: str, attachment: str, index: int) -> Iterator[Reader]:
        query = """SELECT size, upload, CASE WHEN length(content) <= ? THEN content END FROM segment
            WHERE stage = ? AND attachment = ? AND number = ?"""
        with self._reader(query, (_CHUNK_BYTES, stage.encode(), bytes.fromhex(attachment), index), stage) as reader:
            yield reader

    def segment_sizes(self, stage: str, attachment: str) -> list[int]:
        query = """SELECT number, CASE WHEN upload IS NULL THEN length(content) ELSE
            (SELECT sum(length(content)) FROM chunk WHERE chunk.stage = segment.stage AND chunk.upload = segment.upload) END
            FROM segment WHERE stage = ? AND attachment = ? ORDER BY number"""
        rows = self._rows("read an attachment of", query, (stage.encode(), bytes.fromhex(attachment)), stage)
        return [size or 0 for index, (number, size) in enumerate(rows) if number == index]

    def attachments(self, stage: str) -> list[str]:
        query = "SELECT DISTINCT attachment FROM segment WHERE stage = ?"
        return [row[0].hex() for row in self._rows("list the attachments of", query, (stage.encode(),), stage)]

    def delete_attachments(self, stage: str, attachments: Iterable[str]) -> None:
        statement = "DELETE FROM segment WHERE stage = ? AND hex(attachment) IN (SELECT upper(value) FROM json_each(?))"
        self._change("delete attachments of", statement, (stage.encode(), json.dumps(list(attachments))), stage)

    # Records

    def read_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        limit: int,
        known: Record | None = None,
        session: Session | None = None,  # noqa: ARG002
    ) -> Record | None:
        query = """SELECT stamp, length(data), CASE WHEN stamp IS NOT ?3 AND length(data) <= ?4 THEN data END FROM record
            WHERE stage = ?1 AND name = ?2"""
        parameters = ((stage or "").encode(), name, None if known is None else known.stamp, limit)
        rows = self._rows(f"read the {name} of", query, parameters, stage)
        if not rows:
            return None
        stamp, length, data = rows[0]
        if length > limit:
            message = f"{name} in {self.location} is {length} bytes long, and the limit is {limit}"
            raise IntegrityError(message, hint="Restore it from a backup", stage=stage)
        return known if data is None else Record(data, stamp)

    def write_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        data: bytes,
        expected: Record | None,
        session: Session | None = None,  # noqa: ARG002
    ) -> Record:
        key, stamp = ((stage or "").encode(), name), secrets.token_bytes(16)
        if expected is None:
            statement = "INSERT INTO record (stage, name, stamp, data) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
            done = self._change_on_a_full_disk(f"write the {name} of", statement, (*key, stamp, data), stage)
        else:
            statement = "UPDATE record SET stamp = ?3, data = ?4 WHERE stage = ?1 AND name = ?2 AND data = ?5"
            done = self._change_on_a_full_disk(f"write the {name} of", statement, (*key, stamp, data, expected.data), stage)
        if not done:
            raise RecordChangedError
        return Record(data, stamp)

    # The whole store

    def close(self) -> None:
        """Close the connections of this thread and of those that have ended. Others are closed when their threads end."""
        self._idle.is_closed = True
        self._idle.connections.clear()
        slot: _Slot | None = self._mine.__dict__.pop("slot", None)
        if slot is not None and slot.opened is not None:
            slot.opened.close()

    # Maintenance

    def leftovers(self) -> list[Leftover]:
        query = f"SELECT DISTINCT CASE WHEN length(stage) <= ? THEN stage END, hex(upload) {_UNUSED_CHUNKS} ORDER BY 1, 2"
        rows = self._rows("look through the database", query, (MAX_STAGE_BYTES,))
        found = [
            Leftover("leftover", f"{self._path}: chunks {upload}", "was left by an interrupted write", decoded(stage))
            for stage, upload in rows
        ]
        for path in (self._path, f"{self._path}-wal", f"{self._path}-shm"):
            with contextlib.suppress(FileNotFoundError):
                found += maintenance.exposed(path, os.lstat(path), None)
        return found

    def remove(self, leftover: Leftover) -> bool:
        upload = bytes.fromhex(leftover.path.rpartition(" ")[2])
        self._remove_chunks(leftover.stage or "", upload)
        return True

    def warnings(self) -> list[str]:
        directory = os.path.dirname(self._path)
        return maintenance.warnings_about(directory) if os.path.isdir(directory) else []

    def quarantine(self, stage: str, what: Iterable[int | StageRecord]) -> dict[int | StageRecord, str]:
        wanted = list(what)
        parameters = (stage.encode(), json.dumps(wanted))
        there = {each for (each,) in self._rows("set aside versions of", _NAMED, parameters, stage)}
        self._change("set aside versions of", _SET_ASIDE, parameters, stage)
        where = f"the table quarantine of {self._path}"
        return {each: f"{where}: {f'version {each}' if isinstance(each, int) else each}" for each in wanted if each in there}


def _url_of(path: str) -> str:
    return f"sqlite:///{quote(os.fsencode(path))}"


def _make_private_file(path: str) -> None:
    """Make an empty file if there is none, for SQLite would leave its mode to the umask, and make its name durable."""
    if os.path.lexists(path):
        return
    maintenance.make_store_directory(os.path.dirname(path))
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, files.FILE_MODE)
    except FileExistsError:
        return
    try:
        os.fchmod(descriptor, files.FILE_MODE)
    finally:
        files.close(descriptor)
    files.sync_directory(os.path.dirname(path))


def _make_schema(connection: sqlite3.Connection) -> None:
    """Make the tables, in one step of the interpreter, unless another process was faster."""
    statements = [sql.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS") for sql in _SCHEMA.values()]
    statements = [sql.replace("CREATE TRIGGER", "CREATE TRIGGER IF NOT EXISTS") for sql in statements]
    marks = [f"PRAGMA application_id = {_APPLICATION_ID}", f"PRAGMA user_version = {_SCHEMA_VERSION}"]
    try:
        connection.executescript(";".join(["BEGIN IMMEDIATE", *statements, *marks, "COMMIT"]))
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise


def _schema_of(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the statements that made the tables and triggers. Indices that SQLite makes by itself have none."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall())


def _pragma(connection: sqlite3.Connection, name: str) -> Any:  # noqa: ANN401  # a number or a word
    return connection.execute(f"PRAGMA {name}").fetchone()[0]


def _code_of(error: sqlite3.Error) -> int:
    """Return SQLite's primary result code; 0 for an error of the Python module."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _is_busy(error: sqlite3.Error) -> bool:
    return _code_of(error) in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
