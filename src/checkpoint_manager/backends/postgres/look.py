"""The look at a stage: one query for all that a writer or reader needs to know first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from checkpoint_manager.backends.postgres import schema as tables

if TYPE_CHECKING:
    import uuid

    import psycopg

    from checkpoint_manager.backends.postgres.connections import Connection
    from checkpoint_manager.backends.postgres.statements import Statements

LOOK_BYTES = 64 * 1024
"""How long content and records may be that come with the look at a stage."""


def send(statements: Statements, connection: Connection, stage: str | None, *, content: bool = False) -> psycopg.Cursor[Any]:
    """Send the query for all that a writer or reader of a stage needs to know first."""
    query = f"""SELECT k.stamp, CASE WHEN octet_length(k.data) <= $2 THEN k.data END,
            g.stamp, CASE WHEN octet_length(g.data) <= $2 THEN g.data END,
            v.number, v.size, CASE WHEN $3 AND octet_length(v.content) <= $2 THEN v.content END
        FROM (VALUES (1)) AS one
        LEFT JOIN {statements.quoted}.record k ON k.stage = '' AND k.name = 'keyring'
        LEFT JOIN {statements.quoted}.record g ON g.stage = $1 AND g.name = 'gaps'
        LEFT JOIN LATERAL (SELECT number, size, content FROM {statements.quoted}.version
            WHERE stage = $1 AND number BETWEEN 1 AND $4 ORDER BY number DESC LIMIT 1) v ON true"""
    parameters = ((stage or "").encode(), LOOK_BYTES, content, tables.HIGHEST_NUMBER)
    return connection.execute(query, parameters, binary=True)


def answers(rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    """Return the answers of a look, by question."""
    keyring_stamp, keyring, gaps_stamp, gaps, number, size, content = rows[0]
    return {
        "newest": number or 0,
        "content": (number, size, content),
        **record_answer("keyring", keyring_stamp, keyring),
        **record_answer("gaps", gaps_stamp, gaps),
    }


def record_answer(name: str, stamp: uuid.UUID | None, data: bytes | None) -> dict[str, Any]:
    """Return the answer about a record; empty if the record is too long for a look."""
    if stamp is None:
        return {name: None}
    return {} if data is None else {name: (stamp, len(data), data)}
