"""The shipped contract, run against every backend of this library."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.backends.object_store.backend import ObjectStoreBackend
from checkpoint_manager.backends.object_store.chunks import Manifest
from checkpoint_manager.backends.registry import open_backend
from checkpoint_manager.backends.sqlite import SqliteBackend
from checkpoint_manager.backends.stage_names import to_filename
from checkpoint_manager.testing import BackendContract, MaintenanceContract
from tests.s3 import Gcs, prefix_of, version_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.backends.base import Backend
    from checkpoint_manager.backends.maintenance import Maintenance
    from tests.s3 import Server


def folder_of(backend: Backend, stage: str) -> Path:
    return Path(backend.location) / "history" / to_filename(stage)


class LocalBackDoor(MaintenanceContract):
    """The contract as a backend in a directory is asked to keep it."""

    def read_behind(self, backend: Backend, stage: str, version: int) -> bytes | None:
        path = folder_of(backend, stage) / f"{version:012d}.checkpoint"
        return path.read_bytes() if path.exists() else None

    def write_behind(self, backend: Backend, stage: str, version: int, data: bytes) -> None:
        """As a version appears: under its name all at once. One beyond a gap comes with the head removed before."""
        folder = folder_of(backend, stage)
        name = f"{version:012d}.checkpoint"
        if version > 1 and not (folder / f"{version - 1:012d}.checkpoint").exists():
            (Path(backend.location) / f"{to_filename(stage)}.checkpoint").unlink(missing_ok=True)
        (folder / "written").write_bytes(data)
        (folder / "written").rename(folder / name)

    def leave_behind(self, backend: Backend, stage: str) -> None:
        (folder_of(backend, stage) / ".0123456789abcdef.tmp").touch(mode=0o600)


class TestLocal(LocalBackDoor):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "a" / "store")


class TestLocalRelaxed(LocalBackDoor):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "store", durability="relaxed")


class MemoryBackDoor(BackendContract):
    """The contract as a backend in memory is asked to keep it."""

    def read_behind(self, backend: Backend, stage: str, version: int) -> bytes | None:
        assert isinstance(backend, MemoryBackend)
        return backend._versions.get(stage, {}).get(version)

    def write_behind(self, backend: Backend, stage: str, version: int, data: bytes) -> None:
        assert isinstance(backend, MemoryBackend)
        backend._versions[stage][version] = data


class TestMemory(MemoryBackDoor):
    @pytest.fixture
    def backend(self) -> MemoryBackend:
        return MemoryBackend()


class SqliteBackDoor(MaintenanceContract):
    """The contract as a backend in an SQLite database is asked to keep it."""

    def execute(self, backend: Backend, statement: str, *parameters: object) -> list[tuple[bytes]]:
        path = backend.location.removeprefix("sqlite:///")
        if not os.path.exists(path):
            return []
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            return connection.execute(statement, parameters).fetchall()

    def read_behind(self, backend: Backend, stage: str, version: int) -> bytes | None:
        query = """SELECT coalesce(content, (SELECT group_concat(hex(content), '') FROM
            (SELECT content FROM chunk WHERE upload = version.upload ORDER BY part)))
            FROM version WHERE stage = ? AND number = ?"""
        rows = self.execute(backend, query, stage.encode(), version)
        content = rows[0][0] if rows else None
        return bytes.fromhex(content) if isinstance(content, str) else content

    def write_behind(self, backend: Backend, stage: str, version: int, data: bytes) -> None:
        statement = "INSERT OR REPLACE INTO version (stage, number, size, content) VALUES (?, ?, ?, ?)"
        self.execute(backend, statement, stage.encode(), version, len(data), data)

    def leave_behind(self, backend: Backend, stage: str) -> None:
        self.execute(backend, "INSERT INTO chunk VALUES (?, ?, 0, ?)", stage.encode(), os.urandom(16), b"half")


class TestSqlite(SqliteBackDoor):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> Iterator[SqliteBackend]:
        backend = SqliteBackend(tmp_path / "a" / "store.db")
        yield backend
        backend.close()


class PostgresBackDoor(MaintenanceContract):
    """The contract as a backend in PostgreSQL is asked to keep it, with rows that its administrator writes."""

    def execute(self, backend: Backend, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        url, _, schema = backend.location.partition("?schema=")
        with psycopg.connect(url, autocommit=True) as connection:
            if not connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchall()[0][0]:
                return []
            connection.execute(f"SET search_path TO {schema}")
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def read_behind(self, backend: Backend, stage: str, version: int) -> bytes | None:
        query = """SELECT coalesce(content,
                (SELECT string_agg(content, '' ORDER BY part) FROM chunk WHERE upload = version.upload))
            FROM version WHERE stage = %s AND number = %s"""
        rows = self.execute(backend, query, stage.encode(), version)
        return rows[0][0] if rows else None

    def write_behind(self, backend: Backend, stage: str, version: int, data: bytes) -> None:
        statement = """INSERT INTO version (stage, number, size, content) VALUES (%s, %s, %s, %s)
            ON CONFLICT (stage, number) DO UPDATE SET size = excluded.size, content = excluded.content, upload = NULL"""
        self.execute(backend, statement, stage.encode(), version, len(data), data)

    def leave_behind(self, backend: Backend, stage: str) -> None:
        statement = "INSERT INTO chunk (upload, part, stage, content) VALUES (gen_random_uuid(), 0, %s, %s)"
        self.execute(backend, statement, stage.encode(), b"half")

    def test_a_private_store_needs_no_warning(self, maintenance: Maintenance) -> None:
        """The server of the tests is one that has cause for warnings."""
        fsync, pages = maintenance.warnings()
        assert "fsync = off" in fsync
        assert "full_page_writes = off" in pages


class TestPostgres(PostgresBackDoor):
    @pytest.fixture
    def backend(self, postgres_url: str) -> Iterator[Backend]:
        backend = open_backend(postgres_url)
        yield backend
        backend.close()


class ObjectStoreBackDoor(MaintenanceContract):
    """The contract as a backend in a bucket is asked to keep it."""

    server: Server

    @pytest.fixture(autouse=True)
    def _take_server(self, s3: Server) -> None:
        self.server = s3

    def read_behind(self, backend: Backend, stage: str, version: int) -> bytes | None:
        found = self.server.get(version_key(backend.location, stage, version))
        manifest = None if found is None else Manifest.parsed(found)
        if manifest is None:
            return found
        folder = f"{prefix_of(backend.location)}/chunks/{to_filename(stage)}/{manifest.upload}"
        return b"".join(self.server.get(f"{folder}/{part:06d}") or b"" for part in range(manifest.count))

    def write_behind(self, backend: Backend, stage: str, version: int, data: bytes) -> None:
        self.server.put(version_key(backend.location, stage, version), data)

    def leave_behind(self, backend: Backend, stage: str) -> None:
        folder = f"{prefix_of(backend.location)}/chunks/{to_filename(stage)}/{'3c' * 16}"
        self.server.put(f"{folder}/000000", b"half")


class TestObjectStore(ObjectStoreBackDoor):
    @pytest.fixture
    def backend(self, s3: Server) -> ObjectStoreBackend:
        return ObjectStoreBackend(s3.url())


@pytest.fixture(scope="module")
def gcs() -> Iterator[Gcs]:
    server = Gcs()
    yield server
    server.stop()


class TestGoogleCloudStorage(ObjectStoreBackDoor):
    """On a server of the tests' own, as no emulator speaks what Google's client for objects speaks."""

    @pytest.fixture
    def s3(self, gcs: Gcs) -> Gcs:
        return gcs

    @pytest.fixture
    def backend(self, gcs: Gcs) -> ObjectStoreBackend:
        return ObjectStoreBackend(gcs.url())
