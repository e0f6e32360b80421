"""The tables of a store in PostgreSQL, and how an older form of them becomes the present one.

A migration runs in one transaction, under a lock of the schema: of several processes that start at once, one migrates, and the
others find it done. Every name in our statements is qualified, and the search path is empty, so that nothing that others put
into the database stands in for a table, a function or an operator.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, LiteralString

from checkpoint_manager._text import printable
from checkpoint_manager.errors import LocationError

if TYPE_CHECKING:
    from typing import Any

    import psycopg

APPLICATION = "checkpoint_manager"
HIGHEST_NUMBER = 999_999_999_999
CHUNK_BYTES = 1024 * 1024
"""Content up to this length stands in its row; what is longer, in rows of its own of this length."""

_MIGRATIONS = (
    """
    CREATE TABLE {schema}.version (
        stage bytea NOT NULL,
        number bigint NOT NULL,
        size bigint NOT NULL,
        content bytea,
        upload uuid,
        stored_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        PRIMARY KEY (stage, number),
        CHECK ((content IS NULL) <> (upload IS NULL))
    );
    CREATE TABLE {schema}.segment (
        stage bytea NOT NULL,
        attachment text NOT NULL,
        number integer NOT NULL,
        size bigint NOT NULL,
        content bytea,
        upload uuid,
        PRIMARY KEY (stage, attachment, number),
        CHECK ((content IS NULL) <> (upload IS NULL))
    );
    CREATE TABLE {schema}.chunk (
        upload uuid NOT NULL,
        part integer NOT NULL,
        stage bytea NOT NULL,
        content bytea NOT NULL,
        PRIMARY KEY (upload, part)
    );
    CREATE TABLE {schema}.record (
        stage bytea NOT NULL,
        name text NOT NULL,
        stamp uuid NOT NULL,
        data bytea NOT NULL,
        PRIMARY KEY (stage, name)
    );
    CREATE TABLE {schema}.quarantine (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        stage bytea NOT NULL,
        number bigint,
        name text,
        content bytea,
        upload uuid,
        set_aside_at timestamptz NOT NULL DEFAULT clock_timestamp()
    );
    ALTER TABLE {schema}.version ALTER content SET STORAGE EXTERNAL;
    ALTER TABLE {schema}.segment ALTER content SET STORAGE EXTERNAL;
    ALTER TABLE {schema}.chunk ALTER content SET STORAGE EXTERNAL;
    ALTER TABLE {schema}.record ALTER data SET STORAGE EXTERNAL;
    """,  # external: what is encrypted can't be compressed
    """
    ALTER TABLE {schema}.version ADD COLUMN indexed integer NOT NULL DEFAULT 0;
    CREATE VIEW {schema}.checkpoints AS SELECT {fixed} FROM {schema}.version;
    """,
)
"""From each form to the next. The stage of a record of the whole store is empty."""

FORM = len(_MIGRATIONS)
FIXED_COLUMNS: LiteralString = """
    CASE WHEN getdatabaseencoding() = 'UTF8' AND position('\\x00'::bytea IN stage) = 0
        THEN convert_from(stage, 'UTF8') ELSE encode(stage, 'escape') END AS stage,
    number, size, stored_at"""
"""The columns that the view ``checkpoints``, which is for people and their tools, has always. ``size`` is that of what is
sealed; ``stored_at`` the time of the server."""


def quoted(name: str) -> LiteralString:
    """Return an identifier, quoted. It is the only text that our statements are not made of from the beginning."""
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def form_of(connection: psycopg.Connection[Any], schema: str) -> int:
    """Return the form of the tables; 0 if there are none.

    Raises:
        LocationError: They are another program's, or of a newer version of this library.
    """
    if "format" not in _relations(connection, schema):
        return 0
    query = f"SELECT application = $1, form FROM {quoted(schema)}.format LIMIT 2"  # there may be any number, of any length
    rows = connection.execute(query, (APPLICATION,)).fetchall()
    if len(rows) != 1 or not rows[0][0]:
        raise _foreign(schema)
    if rows[0][1] > FORM:
        message = f"the schema {printable(schema)} has a form that this version of the library does not know"
        raise LocationError(message, hint="Upgrade the library")
    return int(rows[0][1])


def migrate(connection: psycopg.Connection[Any], schema: str, lock_key: int) -> None:
    """Bring the tables to the present form, unless another process was faster.

    Raises:
        LocationError: The schema holds tables of another program.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock($1)", (lock_key,))
        form = form_of(connection, schema)
        if not form:
            _begin(connection, schema)
        for statements in _MIGRATIONS[form:]:
            for statement in statements.format(schema=quoted(schema), fixed=FIXED_COLUMNS).split(";\n"):
                if statement.strip():
                    connection.execute(statement)
        connection.execute(f"UPDATE {quoted(schema)}.format SET form = $1", (FORM,))


def _relations(connection: psycopg.Connection[Any], schema: str) -> set[str]:
    """Return the names of the relations in a schema, as of now: ``to_regclass`` may answer from before a wait for a lock."""
    query = "SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE nspname = $1"
    return {name for (name,) in connection.execute(query, (schema,)).fetchall()}


def _begin(connection: psycopg.Connection[Any], schema: str) -> None:
    if not connection.execute(
        "SELECT 1 FROM pg_namespace WHERE nspname = $1", (schema,)
    ).fetchall():  # to make one that is there would need a privilege even so
        connection.execute(f"CREATE SCHEMA {quoted(schema)}")
    if _relations(connection, schema) & {"version", "segment", "chunk", "record", "quarantine"}:
        raise _foreign(schema)
    connection.execute(f"CREATE TABLE {quoted(schema)}.format (application text NOT NULL, form integer NOT NULL)")
    connection.execute(f"INSERT INTO {quoted(schema)}.format VALUES ($1, 0)", (APPLICATION,))


def _foreign(schema: str) -> LocationError:
    message = f"the schema {printable(schema)} holds tables of another program"
    return LocationError(message, hint="Name a schema for the checkpoints alone, as in ?schema=checkpoints")
