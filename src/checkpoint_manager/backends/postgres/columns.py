"""Columns that hold chosen fields of versions in the clear, each with an index, and the view ``checkpoints`` that shows them.

The table ``version`` has the columns ``status``, ``created_at``, and ``metadata_KEY`` for a key of the metadata. Its column
``indexed`` holds the serial number of the choice of columns under which a row was filled, 0 if it never was. So the rows of a
writer that did not know the present choice can be found.

The view has the stage's name, the number, the size and the server's time, and then these columns. When a column is removed,
the view is made again. Rights to the view are kept; rights to single columns of it are not.

The columns and the view are changed in a short transaction, and the indexes are built after it, while others read and write.
Until an index is there, a search reads the whole table.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, LiteralString

from checkpoint_manager.backends.postgres.schema import FIXED_COLUMNS, HIGHEST_NUMBER, quoted
from checkpoint_manager.backends.stage_names import MAX_STAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager.backends.base import Fields
    from checkpoint_manager.backends.postgres.connections import Connection
    from checkpoint_manager.backends.searchable import Conditions

PAGE = 1000
"""How many candidates are asked for at once."""
_LOCK_SECONDS = 5
"""How long the change of the columns waits for those who read the table for long. Everyone else waits behind it meanwhile."""
_BUILD_SECONDS = 7 * 24 * 3600.0
"""How long the index of a large table may take to build."""
_PAUSE = 0.1
_TIMES = {"created_at"}
_OURS = "attname IN ('status', 'created_at') OR starts_with(attname, 'metadata_')"


def set_columns(connection: Connection, schema: str, names: Iterable[str], *, migration_key: int, build_key: int) -> None:
    """Make the columns, their indexes and the view as they are to be. Processes that do this at once take turns.

    Args:
        connection: A connection.
        schema: The schema.
        names: The columns that are to be there.
        migration_key: The key of the lock under which the tables are changed.
        build_key: The key of the lock for all of it.
    """
    wanted = set(names)
    while connection.execute("SELECT pg_try_advisory_lock($1)", (build_key,)).fetchall() != [(True,)]:
        time.sleep(_PAUSE)  # a statement that waits would be waited for by those that build
    try:
        with connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
            connection.execute("SELECT pg_advisory_xact_lock($1)", (migration_key,))
            _change_table(connection, schema, wanted)
        connection.waits = _BUILD_SECONDS
        for name in sorted({"indexed", *wanted} if wanted else ()):
            _build_index(connection, schema, name)
    finally:
        connection.waits = 0.0
        if not connection.closed:
            connection.execute("SELECT pg_advisory_unlock($1)", (build_key,))


def _change_table(connection: Connection, schema: str, wanted: set[str]) -> None:
    table, view = f"{quoted(schema)}.version", f"{quoted(schema)}.checkpoints"
    there = _columns(connection, schema)
    gone = [name for name in there if name not in wanted]
    rights = _rights(connection, schema) if gone else []
    if gone:
        connection.execute(f"DROP VIEW {view}")
    for name in gone:
        connection.execute(f"ALTER TABLE {table} DROP COLUMN {quoted(name)}")
    for name in sorted(wanted.difference(there)):
        connection.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {_type_of(name)}")
    shown = "".join(f", {quoted(name)}" for name in _columns(connection, schema))
    connection.execute(f"CREATE OR REPLACE VIEW {view} AS SELECT {FIXED_COLUMNS}{shown} FROM {table}")
    for right in rights:
        connection.execute(right)


def _rights(connection: Connection, schema: str) -> list[LiteralString]:
    """Return statements that grant others the rights to the view that they have now."""
    query = """SELECT format('GRANT %s ON %I.checkpoints TO %s%s', privilege_type, nspname,
            CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(grantee)) END,
            CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
        FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace, aclexplode(relacl)
        WHERE nspname = $1 AND relname = 'checkpoints' AND grantee <> relowner"""
    return [statement for (statement,) in connection.execute(query, (schema,)).fetchall()]


def _build_index(connection: Connection, schema: str, column: str) -> None:
    """Build an index, while others read and write the table, unless it is there."""
    name = quoted(f"version_by_{hashlib.sha256(column.encode()).hexdigest()[:32]}")  # a longer name would be cut
    table = f"{quoted(schema)}.version"
    build = f"CREATE INDEX CONCURRENTLY IF NOT EXISTS {name} ON {table} ({quoted(column)})"
    connection.execute(build)
    invalid = "SELECT 1 FROM pg_index WHERE indexrelid = $1::regclass AND NOT indisvalid"
    if connection.execute(invalid, (f"{quoted(schema)}.{name}",)).fetchall():  # its builder was killed
        connection.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {quoted(schema)}.{name}")
        connection.execute(build)


def _columns(connection: Connection, schema: str) -> list[str]:
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
    """Return the query for a page of candidates, and its parameters. The first two say where the page begins.

    Args:
        table: The table of versions.
        conditions: What they are to meet; None: only what was stored under an earlier choice of columns is asked for.
        serial: The present choice of columns.
    """
    parameters: list[object] = [b"", 0, serial, MAX_STAGE_BYTES]

    def parameter(value: object) -> LiteralString:
        parameters.append(value)
        return f"${len(parameters)}"

    place: LiteralString = f"""(stage > $1 OR (stage = $1 AND number < $2::bigint))
        AND octet_length(stage) <= $4 AND number BETWEEN 1 AND {HIGHEST_NUMBER}"""
    if conditions is not None and conditions.stage_prefix:
        prefix = conditions.stage_prefix.encode(errors="surrogatepass")  # what no name of a stage begins with
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
