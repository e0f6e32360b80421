"""Columns that hold chosen fields of versions in the clear, each with an index, and the view ``checkpoints`` that shows them.

The columns are ``status``, ``created_at`` and ``metadata_KEY`` for a key of the metadata, all of the table ``version``, which
has another one, ``indexed``: the choice of columns under which its row was filled, 0 if it never was. What a writer that does
not know the present choice has stored is thus found by its number.

The view has the stage's name, the number, the size and the server's time, and then these columns. A column that is added keeps
the view as it is, with all rights to it; when one is removed, the view is made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, LiteralString

from checkpoint_manager.backends.postgres.schema import FIXED_COLUMNS, quoted
from checkpoint_manager.backends.stage_names import MAX_STAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    import psycopg

    from checkpoint_manager.backends.base import Conditions, Fields

PAGE = 1000
"""How many candidates are asked for at once."""
_TIMES = {"created_at"}
_OURS = "attname IN ('status', 'created_at') OR starts_with(attname, 'metadata_')"


def set_columns(connection: psycopg.Connection[Any], schema: str, lock_key: int, names: Iterable[str]) -> None:
    """Make the columns, and the view, as they are to be; of several processes at once, one after the other."""
    wanted, table = set(names), f"{quoted(schema)}.version"
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock($1)", (lock_key,))
        there = _columns(connection, schema)
        gone = [name for name in there if name not in wanted]
        if gone:
            connection.execute(f"DROP VIEW {quoted(schema)}.checkpoints")
        for name in gone:
            connection.execute(f"ALTER TABLE {table} DROP COLUMN {quoted(name)}")
        for name in sorted(wanted.difference(there)):
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {_type_of(name)}")
            connection.execute(f"CREATE INDEX ON {table} ({quoted(name)})")
        connection.execute(f"DROP INDEX IF EXISTS {quoted(schema)}.version_indexed")
        if wanted:
            connection.execute(f"CREATE INDEX version_indexed ON {table} (indexed)")
        shown = "".join(f", {quoted(name)}" for name in _columns(connection, schema))
        select = f"SELECT {FIXED_COLUMNS}{shown} FROM {table}"
        connection.execute(f"CREATE OR REPLACE VIEW {quoted(schema)}.checkpoints AS {select}")


def _columns(connection: psycopg.Connection[Any], schema: str) -> list[str]:
    """Return the columns that hold fields, in the order in which they were added."""
    query = f"""SELECT attname FROM pg_attribute
        JOIN pg_class c ON c.oid = attrelid JOIN pg_namespace n ON n.oid = relnamespace
        WHERE nspname = $1 AND relname = 'version' AND NOT attisdropped AND ({_OURS}) ORDER BY attnum"""
    return [name for (name,) in connection.execute(query, (schema,)).fetchall()]


def _type_of(name: str) -> LiteralString:
    return "timestamptz" if name in _TIMES else "text"


class Filling:
    """The part of a statement that stores a version which fills its columns.

    Args:
        fields: What they are filled with; None: nothing.
        first: The number of the first parameter that is free.

    Attributes:
        names: The names of the columns, each after a comma.
        values: Their parameters, likewise.
        pairs: Both, as UPDATE takes them.
        parameters: The values.
    """

    def __init__(self, fields: Fields | None, first: int) -> None:
        values = {} if fields is None else {"indexed": fields.serial, **fields.values}
        types: dict[str, LiteralString] = {name: "integer" if name == "indexed" else _type_of(name) for name in values}
        numbered = {name: f"${first + index}::{types[name]}" for index, name in enumerate(values)}
        self.names: LiteralString = "".join(f", {quoted(name)}" for name in values)
        self.values: LiteralString = "".join(f", {each}" for each in numbered.values())
        self.pairs: LiteralString = ", ".join(f"{quoted(name)} = {each}" for name, each in numbered.items())
        self.parameters: tuple[object, ...] = tuple(values.values())


def query_of(table: LiteralString, conditions: Conditions | None, serial: int) -> tuple[LiteralString, list[object]]:
    """Return the query for a page of candidates, and its parameters, of which the first two say where the page begins.

    Args:
        table: The table of versions.
        conditions: What they are to meet; None: only what was stored under an earlier choice of columns is asked for.
        serial: The present choice of columns.
    """
    parameters: list[object] = [b"", 0, serial, MAX_STAGE_BYTES]

    def parameter(value: object) -> LiteralString:
        parameters.append(value)
        return f"${len(parameters)}"

    place: LiteralString = """(stage > $1 OR (stage = $1 AND number < $2::bigint))
        AND octet_length(stage) <= $4 AND number BETWEEN 1 AND 999999999999"""
    if conditions is not None and conditions.stage_prefix:
        prefix = conditions.stage_prefix.encode()
        place += f" AND stage >= {parameter(prefix)} AND stage < {parameter(prefix + bytes([255]))}"
    query = f"SELECT stage, number FROM {table} WHERE indexed < $3::integer AND {place}"
    if conditions is not None:
        meets: LiteralString = "".join(
            f" AND {quoted(name)} = {parameter(value)}::text" for name, value in conditions.equal.items()
        )
        if conditions.since is not None:
            meets += f" AND created_at >= {parameter(conditions.since)}::timestamptz"
        query += f" UNION ALL SELECT stage, number FROM {table} WHERE indexed >= $3::integer AND {place}{meets}"
    return f"{query} ORDER BY 1, 2 DESC LIMIT {PAGE}", parameters
