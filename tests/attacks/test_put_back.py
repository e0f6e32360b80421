"""What another process of the same user has replaced is put back exactly as it was, behind a process that knows it so.

Nothing in the place tells: its administrator sets the stamp of a row, equal objects have equal tags, and a directory that is
moved back has the times that it had.
"""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest

from checkpoint_manager import CheckpointManager, RollbackError
from tests.s3 import prefix_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.s3 import Server

KEY = bytes(range(32))


class Administrator(Protocol):
    place: str

    def keep(self) -> None: ...

    def put_back(self) -> None: ...


class OfADirectory:
    """The user goes on in a copy, until the directory itself comes back."""

    def __init__(self, top: Path) -> None:
        self.place = str(top / "store")
        self._top, self._kept = top, top.with_name("kept")

    def keep(self) -> None:
        self._top.rename(self._kept)
        shutil.copytree(self._kept, self._top)

    def put_back(self) -> None:
        self._top.rename(self._top.with_name("newer"))
        self._kept.rename(self._top)


class OfADatabase:
    _TABLES = ("record (stage, name, stamp, data)", "version (stage, number, size, content)")

    def __init__(self, place: str) -> None:
        self.place = place
        self._kept: dict[str, list[tuple[Any, ...]]] = {}

    def _run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        if self.place.startswith("sqlite"):
            with closing(sqlite3.connect(self.place.removeprefix("sqlite:///"), isolation_level=None)) as connection:
                return connection.execute(statement, parameters).fetchall()
        server, _, schema = self.place.partition("?schema=")
        with psycopg.connect(server, autocommit=True, options=f"-c search_path={schema}") as connection:
            cursor = connection.execute(statement.replace("?", "%s"), parameters)
            return cursor.fetchall() if cursor.description else []

    def keep(self) -> None:
        for table in self._TABLES:
            name, _, columns = table.partition(" ")
            self._kept[table] = self._run(f"SELECT {columns.strip('()')} FROM {name}")

    def put_back(self) -> None:
        for table, rows in self._kept.items():
            self._run(f"DELETE FROM {table.partition(' ')[0]}")
            for row in rows:
                self._run(f"INSERT INTO {table} VALUES (?, ?, ?, ?)", *row)


class OfABucket:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.place = server.url()
        self._kept: dict[str, bytes | None] = {}

    def _keys(self) -> list[str]:
        return self._server.keys(prefix_of(self.place))

    def keep(self) -> None:
        self._kept = {key: self._server.get(key) for key in self._keys()}

    def put_back(self) -> None:
        for key in self._keys():
            self._server.delete(key)
        for key, content in self._kept.items():
            self._server.put(key, content or b"")


@pytest.fixture(params=["directory", "sqlite", "postgresql", "bucket"])
def administrator(request: pytest.FixtureRequest, tmp_path: Path) -> Administrator:
    match request.param:
        case "directory":
            return OfADirectory(tmp_path / "top")
        case "bucket":
            return OfABucket(request.getfixturevalue("s3"))
        case "sqlite":
            return OfADatabase(f"sqlite:///{tmp_path}/store.db")
    return OfADatabase(request.getfixturevalue("postgres_url"))


@pytest.fixture
def running(administrator: Administrator) -> CheckpointManager:
    """A process that knows the stage, its deletions, and the keyring."""
    cm = CheckpointManager(administrator.place, key=KEY)
    for number in range(1, 5):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", [1])
    cm.save_checkpoint("train", 5)
    assert [cm.has_checkpoint("train"), cm.load_checkpoint("train"), cm.load_checkpoint("train", 2)] == [True, 5, 2]
    return cm


USES: dict[str, Callable[[CheckpointManager], object]] = {
    "save": lambda cm: cm.save_checkpoint("train", "for whoever knows the old key"),
    "save much": lambda cm: cm.save_checkpoint("train", "x" * 1_000_000),
    "update": lambda cm: cm.update_checkpoint("train", lambda _: "for whoever knows the old key"),
    "load": lambda cm: cm.load_checkpoint("train"),
    "load an earlier one": lambda cm: cm.load_checkpoint("train", 2),
    "has": lambda cm: cm.has_checkpoint("train"),
    "history": lambda cm: cm.history("train"),
    "tag": lambda cm: cm.tag("train", 2, "good"),
    "delete": lambda cm: cm.delete_versions("train", [2]),
}


@pytest.mark.parametrize("use", USES)
def test_a_rotation_undone_to_the_last_byte_is_noticed_by_a_running_process(
    administrator: Administrator, running: CheckpointManager, use: str
) -> None:
    administrator.keep()
    CheckpointManager(administrator.place, key=KEY).keys.rotate()
    administrator.put_back()
    for _ in range(2):
        with pytest.raises(RollbackError, match="keyring"):
            USES[use](running)


@pytest.mark.parametrize("use", ["save", "load an earlier one", "history", "tag", "delete"])
def test_a_deletion_undone_to_the_last_byte_is_noticed_by_a_running_process(
    administrator: Administrator, running: CheckpointManager, use: str
) -> None:
    administrator.keep()
    CheckpointManager(administrator.place, key=KEY).delete_versions("train", [2])
    administrator.put_back()
    for _ in range(2):
        with pytest.raises(RollbackError, match="record of deleted versions"):
            USES[use](running)


@pytest.mark.parametrize("change", ["rotation", "deletion"])
def test_who_only_wants_a_warning_of_it_gets_one(
    administrator: Administrator, change: str, caplog: pytest.LogCaptureFixture
) -> None:
    cm = CheckpointManager(administrator.place, key=KEY, on_rollback="warn")
    for number in range(1, 4):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", [1])
    cm.save_checkpoint("train", 4)
    administrator.keep()
    other = CheckpointManager(administrator.place, key=KEY)
    if change == "rotation":
        other.keys.rotate()
    else:
        other.delete_versions("train", [2])
    administrator.put_back()
    caplog.clear()
    for _ in range(2):
        assert [cm.load_checkpoint("train"), cm.load_checkpoint("train", 2)] == [4, 2]
    assert sum("already seen" in line for line in caplog.messages) == 1
