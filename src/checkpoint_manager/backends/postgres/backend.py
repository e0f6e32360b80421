"""The PostgreSQL backend: a schema of a database, for writers on any number of hosts.

**Every change is one transaction**, and durable when the server says so. What is longer than 1 MiB is written in rows of that
length before the row of its version, in the same transaction. Nothing that a killed writer leaves can be seen.

The statement that inserts a version also checks that no other has the same or a higher number, under a lock that lasts as long
as it does: it alone decides who owns a version. The lock of the stage only keeps writers from colliding.

**Round trips.** A writer that takes the lock looks at the keyring, the newest version and the record of deletions at once. What
it reads next is answered from that look, each thing once. A save is three round trips: lock and look, insert and look at the
keyring again, unlock. A load is one.

**Lost answers.** What may be done twice is done again, until the backend's patience ends. An insertion is not: its writer looks
whether the version has his id.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
import uuid
from itertools import count, islice
from typing import TYPE_CHECKING, Any

import psycopg

from checkpoint_manager.backends.base import (
    Backend,
    Capabilities,
    Fields,
    HeldRun,
    Newest,
    NewVersion,
    OutOfOrderError,
    Purpose,
    Record,
    RecordChangedError,
    RecordName,
    Session,
    StageRecord,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.backends.maintenance import Leftover, Maintenance
from checkpoint_manager.backends.memory import BytesReader
from checkpoint_manager.backends.postgres import columns, look, notices
from checkpoint_manager.backends.postgres import schema as tables
from checkpoint_manager.backends.postgres.connections import is_passing
from checkpoint_manager.backends.postgres.content import ChunkReader, Content, roll_back
from checkpoint_manager.backends.postgres.errors import translated
from checkpoint_manager.backends.postgres.lock import AdvisoryLock
from checkpoint_manager.backends.postgres.lock_keys import Kind, key_of
from checkpoint_manager.backends.postgres.look import LOOK_BYTES
from checkpoint_manager.backends.postgres.place import parse
from checkpoint_manager.backends.postgres.session import AHEAD_BYTES, Ahead, PostgresSession
from checkpoint_manager.backends.postgres.statements import Statements
from checkpoint_manager.backends.process_locks import ProcessLocks
from checkpoint_manager.backends.searchable import ColumnsChangedError, Conditions, Searchable
from checkpoint_manager.backends.stage_names import MAX_STAGE_BYTES, decoded
from checkpoint_manager.errors import (
    CheckpointError,
    IntegrityError,
    LocationError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from typing import LiteralString

    from checkpoint_manager.backends.base import MakePieces, Reader
    from checkpoint_manager.backends.postgres.connections import Connection, Link
    from checkpoint_manager.models import Buffer

_DELETED_AT_ONCE = 100
_ATTACHMENT = re.compile(r"[0-9a-f]{32}")


class PostgresBackend(Searchable, Maintenance):
    """Versions and records in one schema of a PostgreSQL database.

    Args:
        url: ``postgresql://user@host:port/database?schema=checkpoints``; see
            :mod:`checkpoint_manager.backends.postgres.place`. The first write makes the schema and its tables.
        patience: As the attribute, which may be changed.

    Raises:
        LocationError: The URL is not valid, the schema is another program's or of a newer version, or a pooler stands in
            between that does not keep sessions apart.
        StorageError: The server can't be reached, or refuses.
    """

    capabilities = Capabilities(lock_excludes=True, lists_over_gaps=True, durability=False, appends_together=True)

    def __init__(self, url: str, patience: float = Backend.patience) -> None:
        self._statements = Statements(parse(url), patience)
        self.location = self._statements.location
        self._schema = self._statements.schema
        self._quoted = self._statements.quoted
        self._process = os.getpid()
        self._process_locks = ProcessLocks()
        self._statements.run("open the database", lambda _: None)

    @property
    def patience(self) -> float:
        """For how many seconds a call is tried again while the server does not answer."""
        return self._statements.connections.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._statements.connections.patience = seconds

    # Locks

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> AdvisoryLock:
        if os.getpid() != self._process:  # a child: what its parent's threads held would never be released here
            self._process, self._process_locks = os.getpid(), ProcessLocks()
        kind = Kind.STORE if stage is None else Kind.WRITE if purpose == "write" else Kind.RUN
        key = key_of(kind, self._schema, *(() if stage is None else (stage, name)))
        return AdvisoryLock(
            self._statements, key, self._process_locks.lock(stage, timeout, purpose, name), stage, timeout, name
        )

    def held_runs(self) -> list[HeldRun]:
        return notices.held_runs(self._statements)

    def session(self, stage: str | None, lock: object = None) -> PostgresSession:
        return PostgresSession(stage, lock)

    def _take_answer(self, session: Session | None, stage: str | None, what: str) -> Any:  # noqa: ANN401  # as various as what is asked
        """Return an answer of a session's look, once; ``...`` if there is none and it must be read.

        A question that the look can't answer drops the rest of its answers.
        """
        if not isinstance(session, PostgresSession) or (what != "keyring" and stage != session.stage):
            return ...
        if session.looked is None:
            session.looked = {}

            def ask(link: Link) -> list[tuple[Any, ...]]:
                found = self._statements.connections.finds_tables(link)
                return look.send(self._statements, link.connection, session.stage, content=True).fetchall() if found else []

            rows = self._statements.run("look at", ask, session.stage)
            session.looked = look.answers(rows) if rows else {}
        answer = session.looked.pop(what, ...)
        if answer is ... and what != "keyring":
            session.looked = {}
        if what == "nothing":
            session.ahead = Ahead()
        return answer

    def wait_for_writers(self, timeout: float) -> None:
        """Wait for the lock of each writer, so that one who begins again at once does not count twice."""
        query = """SELECT DISTINCT (classid::bigint << 32) | objid::bigint FROM pg_locks
            WHERE locktype = 'advisory' AND objsubid = 1 AND granted AND mode = 'ExclusiveLock' AND objid::bigint & 3 = $1
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
            AND pid IN (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND granted
                AND classid::bigint = $2 AND objid::bigint = $3)"""
        member = key_of(Kind.STORE, self._schema, "member") % 2**64
        deadline = time.monotonic() + timeout
        parameters = (int(Kind.WRITE), member >> 32, member & 0xFFFFFFFF)
        keys = self._statements.run("look for writers", lambda link: link.connection.execute(query, parameters).fetchall())
        for (key,) in keys:
            with AdvisoryLock(self._statements, key, contextlib.nullcontext(), None, deadline - time.monotonic()):
                pass

    def lock_descriptors(self) -> tuple[int, ...]:
        return tuple(link.connection.fileno() for link in self._statements.connections.holding())

    # Versions

    def stages(self) -> list[str]:
        query = f"""WITH RECURSIVE name(stage) AS (
            (SELECT stage FROM {self._quoted}.version WHERE octet_length(stage) <= $1 ORDER BY stage LIMIT 1)
            UNION ALL SELECT (SELECT v.stage FROM {self._quoted}.version v
                WHERE v.stage > name.stage AND octet_length(v.stage) <= $1 ORDER BY v.stage LIMIT 1)
            FROM name WHERE name.stage IS NOT NULL
        ) SELECT stage FROM name WHERE stage IS NOT NULL"""  # one step of the index for each stage, not for each version
        names = (decoded(row[0]) for row in self._statements.rows("list the stages", query, (MAX_STAGE_BYTES,)))
        return [name for name in names if name is not None]

    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:
        self._take_answer(session, stage, "nothing")
        query = f"SELECT number FROM {self._quoted}.version WHERE stage = $1 AND number BETWEEN 1 AND $2 ORDER BY number"
        rows = self._statements.rows("list the versions of", query, (stage.encode(), tables.HIGHEST_NUMBER), stage)
        return [row[0] for row in rows]

    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:  # noqa: ARG002  # always is
        answer = self._take_answer(session, stage, "newest")
        if answer is ...:
            query = f"SELECT max(number) FROM {self._quoted}.version WHERE stage = $1 AND number BETWEEN 1 AND $2"
            rows = self._statements.rows("find the newest version of", query, (stage.encode(), tables.HIGHEST_NUMBER), stage)
            answer = (rows[0][0] or 0) if rows else 0
        return Newest(answer, durable=True)

    def append(
        self,
        stage: str,
        version: int,
        make_pieces: MakePieces,
        *,
        session: Session | None = None,
        fields: Fields | None = None,
    ) -> None:
        insert, filled = self._insert(fields)
        keyring = f"""SELECT stamp, CASE WHEN octet_length(data) <= $1 THEN data END
            FROM {self._quoted}.record WHERE stage = '' AND name = 'keyring'"""
        key = key_of(Kind.APPEND, self._schema, stage)
        looked: list[tuple[Any, ...]] = []

        def work(link: Link) -> bool:
            self._statements.make_tables(link)
            connection = link.connection
            with _naming_columns(), Content(self._quoted, connection, stage, make_pieces()) as content:
                with connection.pipeline():
                    if content.upload is None:
                        connection.execute("BEGIN")
                    connection.execute("SELECT pg_advisory_xact_lock($1)", (key,))
                    done = connection.execute(insert, (stage.encode(), version, *content.parameters, *filled))
                    if content.upload is None:
                        connection.execute("COMMIT")
                        again = connection.execute(keyring, (LOOK_BYTES,), binary=True)
                if content.upload is None:
                    looked[:] = again.fetchall()
                return content.commit(done.rowcount)

        done = self._statements.run("write", work, stage, once=True)
        if isinstance(session, PostgresSession):
            session.looked = look.record_answer("keyring", *looked[0]) if looked else {}
        if not done:
            raise VersionTakenError if version in self.versions(stage) else OutOfOrderError

    def _insert(self, fields: Fields | None) -> tuple[LiteralString, tuple[object, ...]]:
        """Return the statement that inserts a version, and those of its parameters that fill columns."""
        filling = columns.Filling(fields, first=6)
        insert = f"""INSERT INTO {self._quoted}.version (stage, number, size, content, upload{filling.names})
            SELECT $1, $2::bigint, $3::bigint, $4, $5{filling.values}
            WHERE NOT EXISTS
                (SELECT 1 FROM {self._quoted}.version WHERE stage = $1 AND number BETWEEN $2 AND {tables.HIGHEST_NUMBER})"""
        return insert, filling.parameters

    def append_together(self, versions: Sequence[NewVersion]) -> None:
        """Insert all of them in one transaction, in the order of their keys, so that no two writers wait for each other."""
        ordered = sorted(versions, key=lambda each: key_of(Kind.APPEND, self._schema, each.stage))

        def work(link: Link) -> bool:
            self._statements.make_tables(link)
            connection = link.connection
            try:
                with _naming_columns(), connection.pipeline():
                    connection.execute("BEGIN")
                    done = [self._insert_one(connection, each) for each in ordered]
                if all(each.rowcount for each in done):
                    connection.execute("COMMIT")
                    return True
                return False
            finally:
                roll_back(connection)

        if not self._statements.run("write", work, once=True):
            raise VersionTakenError if any(each.number in self.versions(each.stage) for each in versions) else OutOfOrderError

    def _insert_one(self, connection: Connection, version: NewVersion) -> psycopg.Cursor[Any]:
        """Send a version in the transaction that has begun."""
        connection.execute("SELECT pg_advisory_xact_lock($1)", (key_of(Kind.APPEND, self._schema, version.stage),))
        with Content(self._quoted, connection, version.stage, version.make_pieces(), is_within=True) as content:
            insert, filled = self._insert(version.fields)
            return connection.execute(insert, (version.stage.encode(), version.number, *content.parameters, *filled))

    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        self._take_answer(session, stage, "nothing")
        update = f"""WITH before AS (SELECT upload FROM {self._quoted}.version WHERE stage = $1 AND number = $2::bigint),
            gone AS (DELETE FROM {self._quoted}.chunk USING before WHERE chunk.upload = before.upload)
            UPDATE {self._quoted}.version SET size = $3::bigint, content = $4, upload = $5 WHERE stage = $1 AND number = $2"""
        if not self._write(update, stage, (version,), make_pieces):
            raise VersionAbsentError

    def _write(self, statement: LiteralString, stage: str, place: tuple[object, ...], make_pieces: MakePieces) -> bool:
        """Store pieces with a statement that may be run twice; return whether it changed a row."""

        def work(link: Link) -> bool:
            self._statements.make_tables(link)
            with Content(self._quoted, link.connection, stage, make_pieces()) as content:
                done = link.connection.execute(statement, (stage.encode(), *place, *content.parameters))
                return content.commit(done.rowcount)

        return self._statements.run("write", work, stage)

    def flush(self, stage: str, *, session: Session | None = None) -> None:
        """Do nothing: each change is durable when it returns."""

    @contextlib.contextmanager
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:
        answer = self._take_answer(session, stage, "content")
        content = answer[2] if answer is not ... and answer[0] == version else None
        if isinstance(session, PostgresSession) and session.stage == stage:
            content = self._read_ahead(session.ahead, stage, version) if content is None else content
            session.ahead.seen(version)
        if content is not None:
            yield BytesReader(content)
            return
        query = f"""SELECT size, upload, CASE WHEN octet_length(content) <= $3 THEN content END
            FROM {self._quoted}.version WHERE stage = $1 AND number = $2::bigint"""
        with self._reader(query, (stage.encode(), version, tables.CHUNK_BYTES), stage) as reader:
            yield reader

    def _read_ahead(self, ahead: Ahead, stage: str, version: int) -> bytes | None:
        """Return the content of a version, if it is short and one of several that are asked for one after the other."""
        content = ahead.take(version)
        if content is None and (number := ahead.step(version)):
            query = f"""SELECT number, content FROM {self._quoted}.version
                WHERE stage = $1 AND number BETWEEN $2::bigint - $3::bigint AND $2::bigint AND octet_length(content) <= $4"""
            rows = self._statements.rows("read versions of", query, (stage.encode(), version, number, AHEAD_BYTES), stage)
            content = ahead.keep(rows, version)
        return content

    @contextlib.contextmanager
    def _reader(self, query: LiteralString, parameters: tuple[object, ...], stage: str) -> Iterator[Reader]:
        """Read a row of size, upload and content."""
        rows = self._statements.rows("read a version of", query, parameters, stage)
        if rows and rows[0][1] is None:
            yield BytesReader(rows[0][2] or b"")  # what is larger is not of this backend: too short, then
            return
        if not rows:
            raise VersionAbsentError
        try:
            with self._statements.connections.use() as link:
                rows = self._begin_reading(link, query, parameters) or rows
                if not rows[0]:
                    raise VersionAbsentError
                try:
                    yield ChunkReader(self._statements, link.connection, stage, rows[0][0], rows[0][1])
                finally:
                    roll_back(link.connection)
        except psycopg.Error as error:
            raise translated(error, "read a version of", self.location, stage) from error

    def _begin_reading(self, link: Link, query: LiteralString, parameters: tuple[object, ...]) -> list[Any]:
        """Begin a transaction, which sees what was deleted or replaced meanwhile, and return the row, or an empty one.

        If the connection is lost, nothing is returned, and the chunks are read without a transaction.
        """
        try:
            link.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            return link.connection.execute(query, parameters, binary=True).fetchall() or [()]
        except psycopg.Error as error:
            if is_passing(error):
                return []
            raise

    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:
        self._take_answer(session, stage, "nothing")
        statement = f"""WITH gone AS
                (DELETE FROM {self._quoted}.version WHERE stage = $1 AND number = ANY($2::bigint[]) RETURNING upload)
            DELETE FROM {self._quoted}.chunk USING gone WHERE chunk.upload = gone.upload"""
        for some in _batches(versions):
            self._statements.change("delete versions of", statement, (stage.encode(), some), stage)

    # Columns of chosen fields

    def set_columns(self, names: Iterable[str]) -> None:
        wanted = list(names)
        migration, build = (key_of(Kind.STORE, self._schema, purpose) for purpose in ("migration", "indexes"))

        def work(link: Link) -> None:
            encoding = link.connection.execute("SELECT getdatabaseencoding()").fetchall()[0][0]
            if wanted and encoding != "UTF8":
                message = f"the database of {self.location} has the encoding {encoding}, which can't hold every indexed field"
                raise LocationError(message, hint="Make a database with ENCODING 'UTF8', or leave out index=")
            self._statements.connections.migrate(link, migration, must=True)
            columns.set_columns(link.connection, self._schema, wanted, migration_key=migration, build_key=build)

        self._statements.run("make the columns of the index in", work)

    def fill(self, stage: str, fields: Mapping[int, Fields]) -> None:
        def work(link: Link) -> None:
            with _naming_columns(), link.connection.pipeline():
                for number, each in fields.items():
                    filling = columns.Filling(each, first=3)
                    update = f"UPDATE {self._quoted}.version SET {filling.pairs} WHERE stage = $1 AND number = $2::bigint"
                    link.connection.execute(update, (stage.encode(), number, *filling.parameters))

        self._statements.run("fill the columns of", work, stage)

    def search(self, conditions: Conditions) -> Iterator[tuple[str, int]]:
        return self._candidates(conditions, conditions.serial)

    def unfilled(self, serial: int) -> Iterator[tuple[str, int]]:
        return self._candidates(None, serial)

    def _candidates(self, conditions: Conditions | None, serial: int) -> Iterator[tuple[str, int]]:
        query, parameters = columns.query_of(f"{self._quoted}.version", conditions, serial)
        while True:
            with _naming_columns():
                page = self._statements.rows("search", query, tuple(parameters))
            for stored, number in page:
                if (stage := decoded(stored)) is not None:
                    yield stage, number
            if len(page) < columns.PAGE:
                return
            parameters[:2] = page[-1]

    # Attachments

    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        """Write a segment; it is kept in memory until then, as an answer may be lost."""
        content = b"".join([bytes(piece) for piece in pieces])
        statement = f"""WITH before AS
                (SELECT upload FROM {self._quoted}.segment WHERE stage = $1 AND attachment = $2 AND number = $3::integer),
            gone AS (DELETE FROM {self._quoted}.chunk USING before WHERE chunk.upload = before.upload)
            INSERT INTO {self._quoted}.segment (stage, attachment, number, size, content, upload)
            VALUES ($1, $2, $3, $4::bigint, $5, $6)
            ON CONFLICT (stage, attachment, number)
            DO UPDATE SET size = excluded.size, content = excluded.content, upload = excluded.upload"""
        self._write(statement, stage, (attachment, index), lambda: (content,))

    @contextlib.contextmanager
    def open_segment(self, stage: str, attachment: str, index: int) -> Iterator[Reader]:
        query = f"""SELECT size, upload, CASE WHEN octet_length(content) <= $4 THEN content END
            FROM {self._quoted}.segment WHERE stage = $1 AND attachment = $2 AND number = $3::integer"""
        with self._reader(query, (stage.encode(), attachment, index, tables.CHUNK_BYTES), stage) as reader:
            yield reader

    def segment_sizes(self, stage: str, attachment: str) -> list[int]:
        query = f"""SELECT number, size FROM {self._quoted}.segment
            WHERE stage = $1 AND attachment = $2 AND number >= 0 ORDER BY number"""
        rows = self._statements.rows("look at an attachment of", query, (stage.encode(), attachment), stage)
        return [size for (number, size), expected in zip(rows, count()) if number == expected]

    def attachments(self, stage: str) -> list[str]:
        query = f"SELECT DISTINCT attachment FROM {self._quoted}.segment WHERE stage = $1 AND octet_length(attachment) = 32"
        rows = self._statements.rows("list the attachments of", query, (stage.encode(),), stage)
        return [name for (name,) in rows if _ATTACHMENT.fullmatch(name)]

    def delete_attachments(self, stage: str, attachments: Iterable[str]) -> None:
        statement = f"""WITH gone AS (DELETE FROM {self._quoted}.segment WHERE stage = $1 AND attachment = $2 RETURNING upload)
            DELETE FROM {self._quoted}.chunk USING gone WHERE chunk.upload = gone.upload"""
        for attachment in attachments:
            self._statements.change("delete attachments of", statement, (stage.encode(), attachment), stage)

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
        answer = self._take_answer(session, stage, name)
        if answer is ...:
            query = f"""SELECT stamp, octet_length(data),
                    CASE WHEN stamp IS DISTINCT FROM $3 AND octet_length(data) <= $4 THEN data END
                FROM {self._quoted}.record WHERE stage = $1 AND name = $2"""
            stamp = known.stamp if known is not None and isinstance(known.stamp, uuid.UUID) else None
            rows = self._statements.rows(f"read the {name} of", query, ((stage or "").encode(), name, stamp, limit), stage)
            answer = rows[0] if rows else None
        if answer is None:
            return None
        stamp, length, data = answer
        if length > limit:
            message = f"{name} in {self.location} is {length} bytes long, and the limit is {limit}"
            raise IntegrityError(message, hint="Restore it from a backup", stage=stage)
        return known if known is not None and stamp == known.stamp else Record(data, stamp)

    def write_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        data: bytes,
        expected: Record | None,
        session: Session | None = None,
    ) -> Record:
        self._take_answer(session, stage, "nothing")
        parameters: tuple[object, ...] = ((stage or "").encode(), name, stamp := uuid.uuid4(), data)
        if expected is None:
            statement: LiteralString = f"""INSERT INTO {self._quoted}.record (stage, name, stamp, data) VALUES ($1, $2, $3, $4)
                ON CONFLICT (stage, name) DO UPDATE SET stamp = excluded.stamp WHERE record.stamp = excluded.stamp"""
        else:
            statement = f"""UPDATE {self._quoted}.record SET stamp = $3, data = $4
                WHERE stage = $1 AND name = $2 AND (data = $5 OR stamp = $3)"""
            parameters = (*parameters, expected.data)
        done = self._statements.change(f"write the {name} of", statement, parameters, stage)  # again, it finds its own stamp
        if not done:
            raise RecordChangedError
        return Record(data, stamp)

    # The whole store

    def close(self) -> None:
        self._statements.connections.close()

    # Maintenance

    def leftovers(self) -> list[Leftover]:
        """Return chunks that belong to nothing, because an administrator deleted the row of their version or segment."""
        query = f"SELECT DISTINCT CASE WHEN octet_length(stage) <= $1 THEN stage END, upload {self._unused} ORDER BY 1, 2"
        return [
            Leftover("leftover", f"{self.location}: chunks {upload}", "belongs to no version or attachment", decoded(stage))
            for stage, upload in self._statements.rows("look through the database", query, (MAX_STAGE_BYTES,))
        ]

    def remove(self, leftover: Leftover) -> bool:
        upload = uuid.UUID(leftover.path.rpartition(" ")[2])
        self._statements.change("remove chunks of", f"DELETE {self._unused} AND chunk.upload = $1", (upload,), leftover.stage)
        return True

    @property
    def _unused(self) -> LiteralString:
        return f"""FROM {self._quoted}.chunk
            WHERE NOT EXISTS (SELECT 1 FROM {self._quoted}.version v WHERE v.upload = chunk.upload)
            AND NOT EXISTS (SELECT 1 FROM {self._quoted}.segment s WHERE s.upload = chunk.upload)
            AND NOT EXISTS (SELECT 1 FROM {self._quoted}.quarantine q WHERE q.upload = chunk.upload)"""

    def warnings(self) -> list[str]:
        query = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name"
        rows = self._statements.run("open the database", lambda link: link.connection.execute(query).fetchall())
        return [
            f"The server of {self.location} runs with {name} = off: a power cut may damage the database" for (name,) in rows
        ]

    def quarantine(self, stage: str, what: Iterable[int | StageRecord]) -> dict[int | StageRecord, str]:
        wanted = list(what)
        numbers = [each for each in wanted if isinstance(each, int)]
        names = [each for each in wanted if not isinstance(each, int)]
        parameters = (stage.encode(), numbers, names)
        query = f"""SELECT number, NULL FROM {self._quoted}.version WHERE stage = $1 AND number = ANY($2::bigint[])
            UNION ALL SELECT NULL, name FROM {self._quoted}.record WHERE stage = $1 AND name = ANY($3::text[])"""
        # asked before, as a lost answer can't be asked for again
        rows = self._statements.rows("set aside versions of", query, parameters, stage)
        statement = f"""WITH
            v AS (DELETE FROM {self._quoted}.version WHERE stage = $1 AND number = ANY($2::bigint[])
                RETURNING number, content, upload),
            r AS (DELETE FROM {self._quoted}.record WHERE stage = $1 AND name = ANY($3::text[]) RETURNING name, data)
            INSERT INTO {self._quoted}.quarantine (stage, number, name, content, upload)
            SELECT $1, number, NULL, content, upload FROM v UNION ALL SELECT $1, NULL, name, data, NULL FROM r"""
        if rows:
            self._statements.change("set aside versions of", statement, parameters, stage)
        there = {name if number is None else number for number, name in rows}
        where = f"the table quarantine of {self.location}"
        return {each: f"{where}: {f'version {each}' if isinstance(each, int) else each}" for each in wanted if each in there}


@contextlib.contextmanager
def _naming_columns() -> Iterator[None]:
    """Raise a ColumnsChangedError where a statement names a column that does not exist."""
    try:
        yield
    except psycopg.errors.UndefinedColumn:
        raise ColumnsChangedError from None
    except CheckpointError as error:
        if isinstance(error.__cause__, psycopg.errors.UndefinedColumn):
            raise ColumnsChangedError from None
        raise


def _batches(numbers: Iterable[int]) -> Iterator[list[int]]:
    rest = iter(numbers)
    while some := list(islice(rest, _DELETED_AT_ONCE)):
        yield some
