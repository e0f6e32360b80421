"""SQLite in three ways: through LangGraph's saver, with AES-GCM by hand, and as SQLCipher."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from benchmarks.contenders.base import KEY, Contender

if TYPE_CHECKING:
    from pathlib import Path

LANGGRAPH = "LangGraph SQLite, encrypted"
SQLITE = "SQLite WAL + AES-GCM"
SQLCIPHER = "SQLCipher"

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")


def _setting(connection: Any) -> str:
    journal = connection.execute("PRAGMA journal_mode").fetchone()[0]
    synchronous = connection.execute("PRAGMA synchronous").fetchone()[0]
    return f"journal_mode={journal} synchronous={_SYNCHRONOUS[synchronous]}"


class LangGraph(Contender):
    """As its documentation says: ``EncryptedSerializer.from_pycryptodome_aes`` (AES-EAX), one ``put`` for each checkpoint."""

    name = LANGGRAPH
    lacks = frozenset({"position"})

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
        from langgraph.checkpoint.sqlite import SqliteSaver

        super().__init__(folder, durable=durable)
        self._connection = sqlite3.connect(folder / "checkpoints.sqlite", check_same_thread=False)
        self._saver = SqliteSaver(self._connection, serde=EncryptedSerializer.from_pycryptodome_aes(key=KEY))
        self._saver.setup()  # it sets WAL; SQLite's default is synchronous=FULL
        if not durable:
            self._connection.execute("PRAGMA synchronous=OFF")
        self._newest: dict[str, str] = {}

    @property
    def setting(self) -> str:
        return _setting(self._connection)

    def save(self, stage: str, value: Any) -> str:
        from langgraph.checkpoint.base import empty_checkpoint

        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"data": value}
        config = _config(stage, self._newest.get(stage))
        self._saver.put(config, checkpoint, {"source": "loop", "step": 1, "parents": {}}, {})
        self._newest[stage] = version = str(checkpoint["id"])
        return version

    def load(self, stage: str, version: str | None = None) -> Any:
        found = self._saver.get_tuple(_config(stage, version))
        return found and found.checkpoint["channel_values"]["data"]

    def history(self, stage: str) -> int:
        return sum(1 for _ in self._saver.list(_config(stage, None)))

    def close(self) -> None:
        self._connection.close()


def _config(stage: str, version: str | None) -> Any:
    place = {"thread_id": stage, "checkpoint_ns": ""}
    return {"configurable": place if version is None else {**place, "checkpoint_id": version}}


class Sqlite(Contender):
    """What a careful author writes in an afternoon: one row for each version, sealed under its place."""

    name = SQLITE
    lacks = frozenset()
    _TABLE = "CREATE TABLE IF NOT EXISTS versions (stage TEXT, version INTEGER, data BLOB, PRIMARY KEY (stage, version))"

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, durable=durable)
        self.connection = self.connect(folder / "checkpoints.sqlite")
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'OFF'}")
        self.connection.execute(self._TABLE)

    def connect(self, path: Path) -> Any:
        self._cipher = AESGCM(KEY)
        return sqlite3.connect(path, isolation_level=None, timeout=60)

    @property
    def setting(self) -> str:
        return _setting(self.connection)

    def save(self, stage: str, value: Any) -> int:
        encoded = orjson.dumps(value)
        self.connection.execute("BEGIN IMMEDIATE")
        newest = self.connection.execute("SELECT max(version) FROM versions WHERE stage = ?", (stage,)).fetchone()[0]
        version = (newest or 0) + 1
        sealed = self.seal(encoded, stage, version)
        self.connection.execute("INSERT INTO versions VALUES (?, ?, ?)", (stage, version, sealed))
        self.connection.execute("COMMIT")
        return version

    def seal(self, data: bytes, stage: str, version: int) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, data, f"{version} {stage}".encode())

    def unseal(self, data: bytes, stage: str, version: int) -> bytes:
        return self._cipher.decrypt(data[:12], data[12:], f"{version} {stage}".encode())

    def load(self, stage: str, version: int | None = None) -> Any:
        where = "stage = ? AND version = ?" if version else "stage = ? ORDER BY version DESC LIMIT 1"
        query = f"SELECT version, data FROM versions WHERE {where}"
        row = self.connection.execute(query, (stage, version) if version else (stage,)).fetchone()
        return row and orjson.loads(self.unseal(row[1], stage, row[0]))

    def history(self, stage: str) -> int:
        rows = self.connection.execute("SELECT version FROM versions WHERE stage = ? ORDER BY version DESC", (stage,))
        return len(rows.fetchall())

    def close(self) -> None:
        self.connection.close()


class SqlCipher(Sqlite):
    """The same table in a database whose pages are encrypted (AES-256-CBC, HMAC-SHA512), with a raw key."""

    name = SQLCIPHER
    lacks = frozenset({"position"})

    def connect(self, path: Path) -> Any:
        from sqlcipher3 import dbapi2

        connection = dbapi2.connect(str(path), isolation_level=None, timeout=60)
        connection.execute(f"PRAGMA key = \"x'{KEY.hex()}'\"")
        return connection

    def rekey(self) -> None:
        """Encrypt every page under a key anew."""
        self.connection.execute(f"PRAGMA rekey = \"x'{os.urandom(32).hex()}'\"")

    def seal(self, data: bytes, stage: str, version: int) -> bytes:  # noqa: ARG002  # the pages are
        return data

    def unseal(self, data: bytes, stage: str, version: int) -> bytes:  # noqa: ARG002
        return data
