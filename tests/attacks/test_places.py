"""The same attacks through the back door of every place: what its administrator does to versions and records there."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest

from checkpoint_manager import CheckpointManager, IntegrityError, RollbackError
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.backends.stage_names import to_filename
from tests.s3 import prefix_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager.backends.base import Backend
    from tests.s3 import Server

KEY = bytes(range(32))


class BackDoor(Protocol):
    """What an administrator can do with a version; None: it is not there."""

    place: str | Backend

    def read(self, stage: str, number: int) -> bytes | None: ...

    def write(self, stage: str, number: int, data: bytes | None) -> None: ...

    def claim_a_huge_size(self, stage: str, number: int) -> None: ...


class InMemory:
    def __init__(self) -> None:
        self.place = MemoryBackend()

    def read(self, stage: str, number: int) -> bytes | None:
        return self.place._versions[stage].get(number)

    def write(self, stage: str, number: int, data: bytes | None) -> None:
        versions = self.place._versions.setdefault(stage, {})
        versions.pop(number, None)
        if data is not None:
            versions[number] = data

    def claim_a_huge_size(self, stage: str, number: int) -> None:
        """Claim it in the header: there is no other place for it."""
        data = self.read(stage, number) or b""
        line, _, rest = data.partition(b"\n")
        self.write(stage, number, line.rpartition(b":")[0] + b":1048576}\n" + rest)


class InADatabase:
    def __init__(self, place: str) -> None:
        self.place = place

    def _run(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        if self.place.startswith("sqlite"):
            with closing(sqlite3.connect(self.place.removeprefix("sqlite:///"), isolation_level=None)) as connection:
                return connection.execute(statement, parameters).fetchall()
        server, _, schema = self.place.partition("?schema=")
        with psycopg.connect(server, autocommit=True, options=f"-c search_path={schema}") as connection:
            cursor = connection.execute(statement.replace("?", "%s"), parameters)
            return cursor.fetchall() if cursor.description else []

    def read(self, stage: str, number: int) -> bytes | None:
        rows = self._run("SELECT content FROM version WHERE stage = ? AND number = ?", stage.encode(), number)
        return rows[0][0] if rows else None

    def write(self, stage: str, number: int, data: bytes | None) -> None:
        self._run("DELETE FROM version WHERE stage = ? AND number = ?", stage.encode(), number)
        if data is not None:
            insert = "INSERT INTO version (stage, number, size, content) VALUES (?, ?, ?, ?)"
            self._run(insert, stage.encode(), number, len(data), data)

    def claim_a_huge_size(self, stage: str, number: int) -> None:
        upload = "x'00112233445566778899aabbccddeeff'" if self.place.startswith("sqlite") else "gen_random_uuid()"
        claim = (
            f"UPDATE version SET size = 4611686018427387904, content = NULL, upload = {upload} WHERE stage = ? AND number = ?"
        )
        self._run(claim, stage.encode(), number)


class InABucket:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.place = server.url()

    def _key(self, stage: str, number: int) -> str:
        return f"{prefix_of(self.place)}/history/{to_filename(stage)}/{number:012d}"

    def read(self, stage: str, number: int) -> bytes | None:
        return self._server.get(self._key(stage, number))

    def write(self, stage: str, number: int, data: bytes | None) -> None:
        if data is None:
            self._server.delete(self._key(stage, number))
        else:
            self._server.put(self._key(stage, number), data)

    def claim_a_huge_size(self, stage: str, number: int) -> None:
        self.write(stage, number, b"chunks 1 %b %012d %08d\n" % (b"ab" * 16, 10**12 - 1, 10**8 - 1))


@pytest.fixture(params=["memory", "sqlite", "postgresql", "bucket"])
def door(request: pytest.FixtureRequest, tmp_path: Path) -> BackDoor:
    if request.param == "memory":
        return InMemory()
    if request.param == "bucket":
        return InABucket(request.getfixturevalue("s3"))
    is_sqlite = request.param == "sqlite"
    return InADatabase(f"sqlite:///{tmp_path}/store.db" if is_sqlite else request.getfixturevalue("postgres_url"))


def put(door: BackDoor, number: int, other: tuple[str, int]) -> None:
    door.write("train", number, door.read(*other))


def swap(door: BackDoor, one: int, other: int) -> None:
    first, second = door.read("train", one), door.read("train", other)
    door.write("train", one, second)
    door.write("train", other, first)


def change(door: BackDoor, number: int) -> None:
    data = bytearray(door.read("train", number) or b"")
    data[-1] ^= 1
    door.write("train", number, bytes(data))


def remove(door: BackDoor, *numbers: int) -> None:
    for number in numbers:
        door.write("train", number, None)


ATTACKS: dict[str, tuple[Callable[[BackDoor], None], type[Exception]]] = {
    "an older version in its place": (lambda door: put(door, 4, ("train", 3)), IntegrityError),
    "a version of another stage": (lambda door: put(door, 4, ("other", 1)), IntegrityError),
    "two versions exchanged": (lambda door: swap(door, 4, 3), IntegrityError),
    "one bit": (lambda door: change(door, 4), IntegrityError),
    "an older version as the newest": (lambda door: put(door, 5, ("train", 3)), IntegrityError),
    "planted junk": (lambda door: door.write("train", 5, b"junk"), IntegrityError),
    "planted nothing": (lambda door: door.write("train", 5, b""), IntegrityError),
    "planted at the last number": (lambda door: door.write("train", 999_999_999_999, b"junk"), IntegrityError),
    "a huge size": (lambda door: door.claim_a_huge_size("train", 4), IntegrityError),
    "cut short": (lambda door: door.write("train", 4, (door.read("train", 4) or b"")[:-1]), IntegrityError),
    "something appended": (lambda door: door.write("train", 4, (door.read("train", 4) or b"") + b"x"), IntegrityError),
    "the newest removed": (lambda door: remove(door, 4), RollbackError),
    "the two newest removed": (lambda door: remove(door, 3, 4), RollbackError),
    "the stage removed": (lambda door: remove(door, 1, 2, 3, 4), RollbackError),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_through_the_back_door_of_a_place_is_refused(door: BackDoor, attack: str) -> None:
    running = CheckpointManager(door.place, key=KEY)
    for number in range(1, 5):
        running.save_checkpoint("train", number)
    running.save_checkpoint("other", "other")
    act, expected = ATTACKS[attack]
    act(door)
    for cm in (running, CheckpointManager(door.place, key=KEY)):  # a new process of the same user
        with pytest.raises(expected):
            cm.load_checkpoint("train")
        if expected is RollbackError:
            with pytest.raises(RollbackError):
                cm.save_checkpoint("train", "on top of an older state")
        else:
            assert cm.has_checkpoint("train") is False
        assert cm.load_checkpoint("other") == "other"
    assert not running.verify().ok
