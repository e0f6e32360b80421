"""Content of a version or a segment, which is in its row, or in chunks if it is too long for that."""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import TransactionStatus

from checkpoint_manager.backends.postgres import schema as tables
from checkpoint_manager.backends.postgres.connections import is_passing
from checkpoint_manager.backends.postgres.errors import translated

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import LiteralString, Self

    from checkpoint_manager.backends.postgres.connections import Connection
    from checkpoint_manager.backends.postgres.statements import Statements
    from checkpoint_manager.models import Buffer

_CHUNKS_AT_ONCE = 4
"""How many chunks travel together: up to 4 MiB wait in memory."""


class ChunkReader:
    """A version in chunks, opened for reading in a transaction, which keeps it as it is."""

    def __init__(self, statements: Statements, connection: Connection, stage: str, size: int, upload: uuid.UUID) -> None:
        self.size = size
        self._statements = statements
        self._connection = connection
        self._stage = stage
        self._upload = upload
        self._part = 0
        self._rest: list[memoryview] = []

    def read(self, length: int) -> bytes:
        """Return the next ``length`` bytes; fewer only at the end."""
        pieces = []
        while length > 0 and (self._rest or self._next()):
            piece = self._rest[0][:length]
            self._rest[0] = self._rest[0][length:]
            if not self._rest[0]:
                self._rest.pop(0)
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)

    def _next(self) -> bool:
        query = f"""SELECT CASE WHEN octet_length(content) <= $4 THEN content ELSE '' END FROM {self._statements.quoted}.chunk
            WHERE upload = $1 AND part >= $2 AND part < $3 ORDER BY part"""
        parameters = (self._upload, self._part, self._part + _CHUNKS_AT_ONCE, tables.CHUNK_BYTES)
        try:
            rows = self._connection.execute(query, parameters, binary=True).fetchall()
        except psycopg.Error as error:
            if not is_passing(error):
                raise translated(error, "read a version of", self._statements.location, self._stage) from error
            rows = self._statements.rows("read a version of", query, parameters, self._stage)  # they never change
        self._part += _CHUNKS_AT_ONCE
        self._rest = [memoryview(row[0]) for row in rows if row[0]]
        return bool(self._rest)


class Content:
    """Content on its way to the database: in the row of what it belongs to, or in chunks, in a transaction.

    Attributes:
        parameters: The size, the content and the upload. Either the content or the upload is None.
    """

    def __init__(
        self,
        schema: LiteralString,
        connection: Connection,
        stage: str,
        pieces: Iterable[Buffer],
        *,
        is_within: bool = False,  # in a transaction of the caller's
    ) -> None:
        self._schema = schema
        self._connection = connection
        self._stage = stage.encode()
        self._pieces = pieces
        self._parts = 0
        self._is_within = is_within
        self.upload: uuid.UUID | None = None
        self.parameters: tuple[int, bytes | None, uuid.UUID | None] = (0, b"", None)

    def __enter__(self) -> Self:
        """Send the chunks, if it is too long for a row."""
        content, size = bytearray(), 0
        try:
            for piece in self._pieces:
                content += piece
                size += len(piece)
                if len(content) > (tables.CHUNK_BYTES if self.upload is None else tables.CHUNK_BYTES * _CHUNKS_AT_ONCE):
                    whole = len(content) // tables.CHUNK_BYTES * tables.CHUNK_BYTES
                    self._send(content[:whole])
                    del content[:whole]
            if self.upload is not None:
                self._send(content)
        except BaseException:
            self._end()
            raise
        self.parameters = (size, None if self.upload else bytes(content), self.upload)
        return self

    def _send(self, content: bytearray) -> None:
        insert = f"INSERT INTO {self._schema}.chunk (upload, part, stage, content) VALUES ($1, $2::integer, $3, $4)"
        with self._connection.pipeline():
            if self.upload is None:
                self.upload = uuid.uuid4()
                if not self._is_within:
                    self._connection.execute("BEGIN")
            for start in range(0, len(content), tables.CHUNK_BYTES):
                chunk = content[start : start + tables.CHUNK_BYTES]
                self._connection.execute(insert, (self.upload, self._parts, self._stage, chunk))
                self._parts += 1

    def commit(self, changed: int) -> bool:
        """Keep what was written if the statement changed a row; return whether it did."""
        if changed and self.upload is not None:
            self._connection.execute("COMMIT")
        return changed > 0

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if not self._is_within:
            roll_back(self._connection)


def roll_back(connection: Connection) -> None:
    """End a transaction that has not ended, unless its connection is lost, and the transaction with it."""
    if connection.info.transaction_status in {TransactionStatus.INTRANS, TransactionStatus.INERROR}:
        with contextlib.suppress(psycopg.Error):
            connection.execute("ROLLBACK")
