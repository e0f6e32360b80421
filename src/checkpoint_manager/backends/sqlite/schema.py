"""The tables and triggers of a database, and what marks it as this library's."""

from __future__ import annotations

import sqlite3
from typing import Any

APPLICATION_ID = 0x636B7074  # "ckpt"
SCHEMA_VERSION = 1
PAGE_BYTES = 16_384
"""Versions of several megabytes are written three times as fast as with pages of 4 KiB."""

SCHEMA = {
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


def make_schema(connection: sqlite3.Connection) -> None:
    """Make the tables, in one step of the interpreter, unless another process was faster."""
    statements = [sql.replace("CREATE TABLE", "CREATE TABLE IF NOT EXISTS") for sql in SCHEMA.values()]
    statements = [sql.replace("CREATE TRIGGER", "CREATE TRIGGER IF NOT EXISTS") for sql in statements]
    marks = [f"PRAGMA application_id = {APPLICATION_ID}", f"PRAGMA user_version = {SCHEMA_VERSION}"]
    try:
        connection.executescript(";".join(["BEGIN IMMEDIATE", *statements, *marks, "COMMIT"]))
    except sqlite3.Error:
        if connection.in_transaction:
            connection.rollback()
        raise


def schema_of(connection: sqlite3.Connection) -> dict[str, str]:
    """Return the statements that made the tables and triggers. Indices that SQLite makes by itself have none."""
    return dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall())


def pragma(connection: sqlite3.Connection, name: str) -> Any:  # noqa: ANN401  # a number or a word
    """Run a PRAGMA, and return what it says."""
    return connection.execute(f"PRAGMA {name}").fetchone()[0]
