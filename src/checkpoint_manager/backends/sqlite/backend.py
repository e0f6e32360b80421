"""The SQLite backend: one database file, in write-ahead logging mode, on one host.

**Every change is a single SQL statement.** SQLite runs each as a transaction of its own, inside one step of the interpreter,
and ``synchronous=FULL`` makes it durable before it returns. So no signal handler, fork or interruption ever meets an open
transaction. The statement that inserts a version also checks that none with the same or a higher number exists: it alone
decides who owns a version, as ``link`` does in a directory.

A version of more than 1 MiB, or such a segment of an attachment, is stored in chunks, under a random upload id, each in a
transaction of its own. The row of the version comes last, and only if all of its chunks are there. Chunks that no row refers to
are leftovers of a killed writer, and the next writer of the stage removes them under its lock. Triggers remove the chunks of
deleted and replaced versions in the same transaction.

A session looks once: the first statement reads the stamps of the keyring and of the record of deletions and the number of the
newest version together, and for a reader the content of that version, too. The statement that inserts a version returns the
keyring's stamp as of that moment. So a save is two statements, and a load one.

**Locks** are lock files in a folder beside the database, because a lock that is a transaction would block the writers of all
stages.

SQLite shares memory between its processes, so all of them have to run on one host: a file system that does not grant
write-ahead logging is refused. See https://www.sqlite.org/wal.html.

Connections are opened in :mod:`.connections`; the tables are in :mod:`.schema`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import sqlite3
from itertools import chain
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import (
    Backend,
    Capabilities,
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
from checkpoint_manager.backends.local import folders
from checkpoint_manager.backends.local.host_locks import HostLocks
from checkpoint_manager.backends.maintenance import Leftover, Maintenance
from checkpoint_manager.backends.memory import BytesReader
from checkpoint_manager.backends.sqlite.connections import Connections
from checkpoint_manager.backends.sqlite.errors import patiently, translate
from checkpoint_manager.backends.sqlite.session import KEYRING, STAMP, SqliteSession
from checkpoint_manager.backends.stage_names import MAX_STAGE_BYTES, decoded
from checkpoint_manager.errors import IntegrityError, LocationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from checkpoint_manager.backends.base import MakePieces, Reader
    from checkpoint_manager.backends.local.lock import FileLock
    from checkpoint_manager.backends.sqlite import forks
    from checkpoint_manager.models import Buffer

_OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""
_CHUNK_BYTES = 1024 * 1024
_RESERVE_BYTES = 1024 * 1024
"""What is freed on a full disk for the pages of the log that a deletion changes."""
_HIGHEST_NUMBER = 999_999_999_999
_MOST_ASIDE = 64 * 1024 * 1024
"""The length up to which a damaged record is kept as evidence. A longer one is not ours."""

_UNUSED_CHUNKS = """
    FROM chunk WHERE length(chunk.upload) <= 16
    AND NOT EXISTS (SELECT 1 FROM version WHERE version.stage = chunk.stage AND version.upload = chunk.upload)
    AND NOT EXISTS (SELECT 1 FROM segment WHERE segment.stage = chunk.stage AND segment.upload = chunk.upload)
    AND NOT EXISTS (SELECT 1 FROM quarantine WHERE quarantine.upload = chunk.upload)"""

_NAMED = """
    SELECT number FROM version WHERE stage = ?1 AND number IN (SELECT value FROM json_each(?2))
    UNION ALL SELECT name FROM record WHERE stage = ?1 AND name IN (SELECT value FROM json_each(?2))"""
_SET_ASIDE = f"""INSERT INTO quarantine (stage, number, name, content, upload)
    SELECT stage, number, NULL, CASE WHEN length(content) <= {_CHUNK_BYTES} THEN content END, upload FROM version
        WHERE stage = ?1 AND number IN (SELECT value FROM json_each(?2))
    UNION ALL SELECT stage, NULL, name, CASE WHEN length(data) <= {_MOST_ASIDE} THEN data END, NULL FROM record
        WHERE stage = ?1 AND name IN (SELECT value FROM json_each(?2))"""  # noqa: S608  # numbers


class _Chunks:
    """A version in chunks, opened for reading."""

    def __init__(self, path: str, connection: forks.Connection, stage: str, size: int, upload: bytes) -> None:
        self.size = size
        self._path = path
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
            with self._connection.guard:
                rows = self._connection.execute(query, parameters).fetchall()
        except sqlite3.Error as error:
            translate(error, self._path, "read a version of", self._stage)
        self._part += 1
        self._rest = memoryview((rows[0][0] if rows else None) or b"")
        return bool(self._rest)


class SqliteBackend(HostLocks, Backend, Maintenance):
    """Versions and records in one SQLite database.

    Args:
        path: The database's file; made if it is not there, with its parent directories.
        patience: For how many seconds a database that others keep busy is waited for, at least ``LEAST_ANSWER_SECONDS``.

    Raises:
        LocationError: The database is another program's, or of a newer format.
        IntegrityError: Its schema was changed, or it is damaged.
        StorageError: It can't be opened, or write-ahead logging is not granted.
    """

    capabilities = Capabilities(lock_excludes=True, lists_over_gaps=True, durability=False, appends_together=True)

    def __init__(self, path: str | os.PathLike[str], patience: float = Backend.patience) -> None:
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
        self._connections = Connections(self._path, patience)
        self._connections.of_this_thread(make=False)

    @property
    def patience(self) -> float:
        """For how many seconds a database that others keep busy is waited for."""
        return self._connections.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._connections.patience = seconds

    # Statements

    def _rows(
        self, action: str, query: str, parameters: tuple[object, ...] = (), stage: str | None = None, *, make: bool = False
    ) -> list[tuple[Any, ...]]:
        """Return the rows of a statement. One step of the interpreter runs it to its end.

        If there is no database, it is made, if ``make`` says so; otherwise there are no rows.
        """

        def run() -> list[tuple[Any, ...]]:
            connection = self._connections.of_this_thread(make=make)
            if connection is None:
                return []
            with connection.guard:
                return list(chain.from_iterable(map(connection.execute, (query,), (parameters,))))

        return patiently(run, self.patience, self._path, action, stage)

    def _change(self, action: str, statement: str, parameters: tuple[object, ...] = (), stage: str | None = None) -> int:
        """Run a statement as a transaction of its own, and return how many rows it changed."""

        def run() -> int:
            connection = self._connections.of_this_thread(make=True)
            assert connection is not None  # noqa: S101  # for the type checker
            with connection.guard:
                return connection.execute(statement, parameters).rowcount

        return patiently(run, self.patience, self._path, action, stage)

    def _change_on_a_full_disk(self, action: str, statement: str, parameters: tuple[object, ...], stage: str | None) -> int:
        """Run a statement like :meth:`_change`; if the disk is full, free the reserved space for it."""
        try:
            return self._change(action, statement, parameters, stage)
        except StorageError as error:
            if error.errno != errno.ENOSPC or stage is None or not folders.free_reserve(self._locks):
                raise
        return self._change(action, statement, parameters, stage)

    # Locks

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> FileLock:
        if not os.path.isdir(directory := os.path.dirname(self._path)):
            with as_our_errors("open the database", self._path):
                folders.make_store_directory(directory)
        return super().lock(stage, timeout, purpose=purpose, name=name)

    def session(self, stage: str | None, lock: object = None) -> SqliteSession:
        return SqliteSession(stage, lock)

    def _answer(self, session: Session | None, stage: str | None, what: str) -> Any:  # noqa: ANN401  # as various as what is asked
        """Return an answer of a session's look, once; ``...`` if there is none and it must be read.

        A question that the look can't answer drops the rest of its answers.
        """
        if not isinstance(session, SqliteSession) or stage not in {None, session.stage}:
            return ...
        if session.answers is None:
            session.answers = {}
            assert session.stage is not None  # noqa: S101  # for the type checker
            for row in self._rows("look at", session.look, (session.stage.encode(),), session.stage):
                session.looked(*row)
        answer = session.answers.pop(what, ...)
        if answer is ... and what != "keyring":
            _forget(session)
        return answer

    # Versions

    def stages(self) -> list[str]:
        query = """WITH RECURSIVE name(stage) AS (
            SELECT min(stage) FROM version WHERE length(stage) <= ?1
            UNION ALL SELECT (SELECT min(stage) FROM version WHERE stage > name.stage AND length(stage) <= ?1)
            FROM name WHERE name.stage IS NOT NULL
        ) SELECT stage FROM name WHERE stage IS NOT NULL"""  # one step of the index for each stage, not for each version
        names = (decoded(row[0]) for row in self._rows("list the stages", query, (MAX_STAGE_BYTES,)))
        return [name for name in names if name is not None]

    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:
        _forget(session)
        query = "SELECT number FROM version WHERE stage = ? AND number BETWEEN 1 AND ? ORDER BY number"
        return [row[0] for row in self._rows("list the versions of", query, (stage.encode(), _HIGHEST_NUMBER), stage)]

    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:  # noqa: ARG002  # it always is
        answer = self._answer(session, stage, "newest")
        if answer is not ...:
            return Newest(answer, durable=True)
        query = "SELECT max(number) FROM version WHERE stage = ? AND number BETWEEN 1 AND ?"
        rows = self._rows("find the newest version of", query, (stage.encode(), _HIGHEST_NUMBER), stage)
        return Newest((rows[0][0] or 0) if rows else 0, durable=True)

    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        _forget(session)
        self._tidy(stage)
        insert = f"""INSERT INTO version (stage, number, size, content, upload) SELECT ?1, ?2, ?3, ?4, ?5
            WHERE NOT EXISTS (SELECT 1 FROM version WHERE stage = ?1 AND number BETWEEN ?2 AND 999999999999)
            AND (SELECT count(*) FROM chunk WHERE stage = ?1 AND upload = ?5) = ?6 RETURNING {KEYRING}"""  # noqa: S608  # a constant
        try:
            if rows := self._write(insert, stage, (version,), make_pieces()):
                if isinstance(session, SqliteSession):
                    session.answers = {"keyring": rows[0][0]}
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
        if stage not in self._tidied and self._holds(stage):
            self._change("remove what was left in", f"DELETE {_UNUSED_CHUNKS} AND chunk.stage = ?", (stage.encode(),), stage)
            self._tidied.add(stage)
            folders.keep_reserve(self._locks, _RESERVE_BYTES)

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

    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        _forget(session)
        update = """UPDATE version SET size = ?3, content = ?4, upload = ?5 WHERE stage = ?1 AND number = ?2
            AND (SELECT count(*) FROM chunk WHERE stage = ?1 AND upload = ?5) = ?6 RETURNING number"""
        if not self._write(update, stage, (version,), make_pieces()):
            raise VersionAbsentError

    def _write(self, statement: str, stage: str, place: tuple[object, ...], pieces: Iterable[Buffer]) -> list[tuple[Any, ...]]:
        """Store pieces and run the statement that makes a version or segment of them; return its rows, none if it did not."""
        uploads: list[tuple[str, bytes]] = []
        try:
            parameters = (stage.encode(), *place, *self._put(stage, pieces, uploads))
            rows = self._rows("write", statement, parameters, stage, make=True)
        except BaseException:  # an interruption, too
            self._remove_uploads(uploads)
            raise
        if not rows:
            self._remove_uploads(uploads)
        return rows

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
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:
        answer = self._answer(session, stage, "content")
        if answer is not ... and answer[0] == version and answer[1] is not None:
            yield BytesReader(answer[1])
            return
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
        opened = self._connections.open(only_reads=True)  # a transaction of its own: chunks may be deleted meanwhile
        try:
            connection = opened.connection
            with connection.guard:
                connection.execute("BEGIN")
                rows = connection.execute(query, parameters).fetchall()
            if not rows:
                raise VersionAbsentError
            size, upload, _ = rows[0]
            yield _Chunks(self._path, connection, stage, size, upload or b"")
        except sqlite3.Error as error:
            translate(error, self._path, "read a version of", stage)
        finally:
            opened.close()

    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:
        _forget(session)
        statement = "DELETE FROM version WHERE stage = ? AND number IN (SELECT value FROM json_each(?))"
        self._change_on_a_full_disk("delete versions of", statement, (stage.encode(), str(list(versions))), stage)
        folders.keep_reserve(self._locks, _RESERVE_BYTES)  # it may have been used for the record of these deletions

    # Attachments

    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        insert = """INSERT INTO segment (stage, attachment, number, size, content, upload) SELECT ?1, ?2, ?3, ?4, ?5, ?6
            WHERE (SELECT count(*) FROM chunk WHERE stage = ?1 AND upload = ?6) = ?7 RETURNING number"""
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
        query = "SELECT DISTINCT attachment FROM segment WHERE stage = ? AND length(attachment) = 16"
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
        session: Session | None = None,
    ) -> Record | None:
        answer = self._answer(session, stage, name)
        if answer is None:
            return None
        if answer is not ... and known is not None and known.stamp == answer:
            return known
        query = f"""SELECT {STAMP}, length(data), CASE WHEN {STAMP} IS NOT ?3 AND length(data) <= ?4 THEN data END FROM record
            WHERE stage = ?1 AND name = ?2"""  # noqa: S608  # a constant
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
        session: Session | None = None,
    ) -> Record:
        _forget(session)
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
        self._connections.close()

    # Maintenance

    def leftovers(self) -> list[Leftover]:
        query = f"SELECT DISTINCT CASE WHEN length(stage) <= ? THEN stage END, hex(upload) {_UNUSED_CHUNKS} ORDER BY 1, 2"
        rows = self._rows("look through the database", query, (MAX_STAGE_BYTES,))
        found = [
            Leftover("leftover", f"{self._path}: chunks {upload}", "was left by an interrupted write", decoded(stage))
            for stage, upload in rows
        ]
        for path in (self._path, f"{self._path}-wal", f"{self._path}-shm", self._locks):
            with contextlib.suppress(FileNotFoundError):
                found += folders.exposed(path, os.lstat(path), None)
        return found

    def remove(self, leftover: Leftover) -> bool:
        upload = bytes.fromhex(leftover.path.rpartition(" ")[2])
        self._remove_chunks(leftover.stage or "", upload)
        return True

    def warnings(self) -> list[str]:
        directory = os.path.dirname(self._path)
        with as_our_errors("open the database", self._path):
            return folders.warnings_about(directory) if os.path.isdir(directory) else []

    def quarantine(self, stage: str, what: Iterable[int | StageRecord]) -> dict[int | StageRecord, str]:
        wanted = list(what)
        parameters = (stage.encode(), json.dumps(wanted))
        there = {each for (each,) in self._rows("set aside versions of", _NAMED, parameters, stage)}
        self._change("set aside versions of", _SET_ASIDE, parameters, stage)
        where = f"the table quarantine of {self._path}"
        return {each: f"{where}: {f'version {each}' if isinstance(each, int) else each}" for each in wanted if each in there}


def _forget(session: Session | None) -> None:
    """Drop the answers of a session's look: something is changed, or was asked that the look can't answer."""
    if isinstance(session, SqliteSession):
        session.answers = {}


def _url_of(path: str) -> str:
    return f"sqlite:///{quote(os.fsencode(path))}"
