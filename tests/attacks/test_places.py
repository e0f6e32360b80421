"""The same attacks through the back door of every place: what its administrator does to versions and records there."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

import psycopg
import pytest

from checkpoint_manager import CheckpointManager, IntegrityError, RollbackError
from checkpoint_manager.backends.base import Record
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.backends.stage_names import to_filename
from tests.s3 import prefix_of, version_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager.backends.base import Backend
    from tests.s3 import Server

KEY = bytes(range(32))


class BackDoor(Protocol):
    """What an administrator can do with a version, and with a stage's record of deletions; None: it is not there."""

    place: str | Backend

    def read(self, stage: str, number: int) -> bytes | None: ...

    def write(self, stage: str, number: int, data: bytes | None) -> None: ...

    def claim_a_huge_size(self, stage: str, number: int) -> None: ...

    def read_gaps(self, stage: str) -> bytes | None: ...

    def write_gaps(self, stage: str, data: bytes | None) -> None: ...


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

    def read_gaps(self, stage: str) -> bytes | None:
        return self.place._records["gaps", stage].data

    def write_gaps(self, stage: str, data: bytes | None) -> None:
        self.place._records.pop(("gaps", stage))
        if data is not None:
            self.place._records["gaps", stage] = Record(data, secrets.token_bytes(16))


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

    def read_gaps(self, stage: str) -> bytes | None:
        return bytes(self._run("SELECT data FROM record WHERE stage = ? AND name = 'gaps'", stage.encode())[0][0])

    def write_gaps(self, stage: str, data: bytes | None) -> None:
        if data is None:
            self._run("DELETE FROM record WHERE stage = ? AND name = 'gaps'", stage.encode())
        else:
            stamp = "randomblob(16)" if self.place.startswith("sqlite") else "gen_random_uuid()"
            update = f"UPDATE record SET data = ?, stamp = {stamp} WHERE stage = ? AND name = 'gaps'"
            self._run(update, data, stage.encode())

    def exchange_two_chunks(self) -> None:
        self._run("UPDATE chunk SET part = 100 + part WHERE part < 2")
        self._run("UPDATE chunk SET part = 101 - part WHERE part >= 100")


class InABucket:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.place = server.url()

    def read(self, stage: str, number: int) -> bytes | None:
        return self._server.get(version_key(self.place, stage, number))

    def write(self, stage: str, number: int, data: bytes | None) -> None:
        if data is None:
            self._server.delete(version_key(self.place, stage, number))
        else:
            self._server.put(version_key(self.place, stage, number), data)

    def claim_a_huge_size(self, stage: str, number: int) -> None:
        self.write(stage, number, b"chunks 1 %b %012d %08d\n" % (b"ab" * 16, 10**12 - 1, 10**8 - 1))

    def _gaps(self, stage: str) -> str:
        return f"{prefix_of(self.place)}/records/{to_filename(stage)}/gaps"

    def read_gaps(self, stage: str) -> bytes | None:
        return self._server.get(self._gaps(stage))

    def write_gaps(self, stage: str, data: bytes | None) -> None:
        if data is None:
            self._server.delete(self._gaps(stage))
        else:
            self._server.put(self._gaps(stage), data)


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


def of_another_store() -> bytes | None:
    door = InMemory()
    for number in range(1, 5):
        CheckpointManager(door.place, key=KEY).save_checkpoint("train", number)
    return door.read("train", 4)


def remove(door: BackDoor, *numbers: int) -> None:
    for number in numbers:
        door.write("train", number, None)


ATTACKS: dict[str, tuple[Callable[[BackDoor], None], type[Exception]]] = {
    "an older version in its place": (lambda door: put(door, 4, ("train", 3)), IntegrityError),
    "a version of another store": (lambda door: door.write("train", 4, of_another_store()), IntegrityError),
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


@pytest.mark.parametrize("attack", ["gone", "older", "changed"])
def test_a_record_of_deletions_that_was_exchanged_is_refused(door: BackDoor, attack: str) -> None:
    running = CheckpointManager(door.place, key=KEY)
    for number in range(1, 5):
        running.save_checkpoint("train", number)
    running.delete_versions("train", [1])
    older = door.read_gaps("train") or b""
    running.delete_versions("train", [2])
    door.write_gaps("train", {"gone": None, "older": older, "changed": older[:-1] + bytes([older[-1] ^ 1])}[attack])
    for cm in (running, CheckpointManager(door.place, key=KEY)):
        acts = [cm.history, lambda stage, cm=cm: cm.save_checkpoint(stage, 5)]
        for act in acts if attack == "changed" else [cm.load_checkpoint, *acts]:  # who can damage it could also remove it
            with pytest.raises(IntegrityError if attack == "changed" else RollbackError):
                act("train")


@pytest.mark.parametrize("door", ["sqlite", "postgresql"], indirect=True)
def test_two_chunks_of_a_version_that_were_exchanged_are_damage(door: InADatabase) -> None:
    cm = CheckpointManager(door.place, key=KEY)
    cm.save_checkpoint("train", "x" * 2_500_000)
    door.exchange_two_chunks()
    with pytest.raises(IntegrityError):
        cm.load_checkpoint("train")
    assert not cm.verify().ok
