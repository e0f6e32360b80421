"""The whole interface against the model, whatever is called in whatever order, reopened, tampered with, and killed."""

from __future__ import annotations

import copy
import logging
import os
import secrets
import shutil
import sqlite3
import sys
import tempfile
import traceback
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from checkpoint_manager import (
    CheckpointError,
    CheckpointManager,
    CheckpointNotFoundError,
    FormatError,
    IntegrityError,
    Retention,
    RollbackError,
    StorageError,
    TagError,
    VersionConflictError,
)
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.backends.stage_names import to_filename
from checkpoint_manager.testing.strategies import json_values
from tests.concurrency.hosting import Host
from tests.concurrency.program import Op, Program, Signal, Writer
from tests.concurrency.writer import KEY, content
from tests.model.pipeline import Entry, Pipeline
from tests.s3 import version_key
from tests.strategies import same
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.s3 import Server

OTHER_KEYS = [bytes([number]) * 32 for number in range(1, 4)]
STAGES = st.sampled_from(["parse", "train", "Parse", "évaluation", "long " * 50])
VERSIONS = st.integers(1, 9)
NAMED = st.integers(0, 9) | st.sampled_from(["latest", "prev", "good", "best"])
TAGS = st.sampled_from(["good", "best"])
VALUES = json_values(max_leaves=6)
ARRAYS = st.builds(np.full, st.sampled_from([3, 600]), st.integers(0, 9))  # in the data, and beside it
KEYS = st.text(max_size=5).filter(lambda key: not key.startswith("@"))  # those are reserved


class Machine(RuleBasedStateMachine):
    """Does the same to a store and to the model, and compares."""

    cm: CheckpointManager
    failures: ClassVar[list[str]] = []
    """What each run that failed met: Hypothesis does not tell it of one that does not fail again."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Pipeline()
        self.moments: list[tuple[datetime, dict[str, int]]] = []
        self.keys: list[bytes] = [KEY]

    @initialize()
    def open(self) -> None:
        self.reopen()

    # Writing

    @rule(stage=STAGES, data=VALUES | st.lists(ARRAYS, max_size=2), metadata=st.dictionaries(KEYS, VALUES, max_size=2))
    def save(self, stage: str, data: Any, metadata: dict[str, Any]) -> None:
        version = self.cm.save_checkpoint(stage, data, metadata=metadata)
        assert version.number == self.model.append(stage, Entry(data, "completed", metadata))

    @rule(stage=STAGES, expected=st.integers(0, 9))
    def save_if_it_is_the_newest(self, stage: str, expected: int) -> None:
        if expected == self.model.newest(stage) or (expected == 0 and self.model.is_deleted(stage)):
            version = self.cm.save_checkpoint(stage, expected, expected_version=expected)
            assert version.number == self.model.newest(stage) + 1
            self.model.append(stage, Entry(expected))
        else:
            with pytest.raises(VersionConflictError) as caught:
                self.cm.save_checkpoint(stage, expected, expected_version=expected)
            assert caught.value.actual == self.model.newest(stage)

    @rule(stage=STAGES, value=VALUES)
    def update(self, stage: str, value: Any) -> None:
        seen: list[Any] = []

        def function(present: Any) -> list[Any]:
            seen.append(present)
            return [present, value]

        entry = self.model.entry(stage, self.model.newest(stage))
        expected = None if entry is None or entry.status == "cleared" else entry.data
        version = self.cm.update_checkpoint(stage, function).number
        assert same(seen, [expected])
        assert version == self.model.append(stage, Entry([expected, value]))

    @rule(stage=STAGES)
    def be_interrupted_in_an_update(self, stage: str) -> None:
        def function(_: Any) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            self.cm.update_checkpoint(stage, function)

    @rule(stage=STAGES, version=NAMED)
    def restore(self, stage: str, version: int | str) -> None:
        number = self.model.named(stage, version)
        if number is None:
            with pytest.raises(CheckpointNotFoundError):
                self.cm.restore_checkpoint(stage, version)
        else:
            assert self.cm.restore_checkpoint(stage, version).number == self.model.restore(stage, number)

    @rule(stage=STAGES)
    def clear(self, stage: str) -> None:
        cleared = self.cm.clear_checkpoint(stage)
        assert (cleared and cleared.number) == self.model.clear(stage)

    @rule()
    def clear_all(self) -> None:
        self.cm.clear_checkpoints()
        for stage in list(self.model.stages):
            self.model.clear(stage)

    @rule(stage=STAGES, versions=st.sets(VERSIONS, min_size=1, max_size=3))
    def delete(self, stage: str, versions: set[int]) -> None:
        if not versions <= set(self.model.present(stage)):
            with pytest.raises(CheckpointError):
                self.cm.delete_versions(stage, versions)
        elif self.model.newest(stage) in versions or versions & set(self.model.tags.get(stage, {}).values()):
            with pytest.raises(CheckpointError, match=r"is the newest|is tagged"):
                self.cm.delete_versions(stage, versions)
        else:
            self.cm.delete_versions(stage, versions)
            self.model.delete(stage, versions)

    @rule(stage=STAGES)
    def delete_whole(self, stage: str) -> None:
        present = self.model.present(stage)
        entry = self.model.entry(stage, self.model.newest(stage))
        if not present:
            with pytest.raises(CheckpointNotFoundError):
                self.cm.delete_stage(stage)
        else:
            assert entry is not None
            assert self.cm.delete_stage(stage) == (present[:-1] if "@deleted" in entry.metadata else present)
            self.model.delete_stage(stage)

    # Keeping

    @rule(stage=STAGES, version=NAMED, name=TAGS, force=st.booleans())
    def tag(self, stage: str, version: int | str, name: str, force: bool) -> None:
        number, present = self.model.named(stage, version), self.model.tags.get(stage, {}).get(name)
        if number is None:
            with pytest.raises(CheckpointNotFoundError):
                self.cm.tag(stage, version, name, force=force)
        elif present not in {None, number} and not force:
            with pytest.raises(TagError):
                self.cm.tag(stage, version, name)
        else:
            assert self.cm.tag(stage, version, name, force=force).number == number
            self.model.tags.setdefault(stage, {})[name] = number

    @rule(stage=STAGES, name=TAGS)
    def untag(self, stage: str, name: str) -> None:
        if name in self.model.tags.get(stage, {}):
            self.cm.untag(stage, name)
            del self.model.tags[stage][name]
        else:
            with pytest.raises(CheckpointNotFoundError):
                self.cm.untag(stage, name)

    @rule(last=st.integers(1, 3), keep_tagged=st.booleans())
    def prune(self, last: int, keep_tagged: bool) -> None:
        policy = Retention(keep_last=last, keep_tagged=keep_tagged)
        planned = self.cm.prune(policy, dry_run=True)
        assert planned == self.cm.prune(policy)
        assert [(each.stage, each.number) for each in planned.dropped] == self.model.prune(last, keep_tagged=keep_tagged)

    @rule()
    def remember_the_moment(self) -> None:
        self.moments.append((datetime.now(UTC), {stage: self.model.newest(stage) for stage in self.model.stages}))

    @precondition(lambda self: self.moments)
    @rule(data=st.data())
    def restore_the_pipeline(self, data: st.DataObject) -> None:
        moment, then = data.draw(st.sampled_from(self.moments))
        assert len(self.cm.restore_pipeline(at=moment)) == self.model.restore_all(then)

    @precondition(lambda self: self.moments)
    @rule(stage=STAGES, data=st.data())
    def restore_as_it_was(self, stage: str, data: st.DataObject) -> None:
        moment, then = data.draw(st.sampled_from(self.moments))
        version = max((one for one in self.model.present(stage) if one <= then.get(stage, 0)), default=0)
        if version == 0:
            with pytest.raises(CheckpointNotFoundError):
                self.cm.restore_checkpoint(stage, at=moment)
        else:
            assert self.cm.restore_checkpoint(stage, at=moment).number == self.model.restore(stage, version)

    # Keys and upkeep

    @rule()
    def rotate(self) -> None:
        self.cm.keys.rotate(also=self.keys)

    @precondition(lambda self: len(self.keys) == 1)
    @rule(key=st.sampled_from(OTHER_KEYS))
    def add_a_slot_and_open_with_it(self, key: bytes) -> None:
        self.cm.keys.add(key)
        self.keys.append(key)
        self.reopen(key)

    @precondition(lambda self: len(self.keys) == 2)
    @rule()
    def remove_the_second_slot(self) -> None:
        self.reopen()
        self.cm.keys.remove(next(slot.slot for slot in self.cm.keys.list() if not slot.current))
        self.keys.pop()

    @rule()
    def repair(self) -> None:
        assert self.cm.repair(dry_run=True) == self.cm.repair() == []

    @rule()
    def reopen(self, key: bytes = KEY) -> None:
        self.cm = CheckpointManager(self.backend(), key=key)

    # Reading

    @rule(stage=STAGES)
    def load(self, stage: str) -> None:
        if self.model.is_cleared(stage):
            with pytest.raises(CheckpointNotFoundError):
                self.cm.load_checkpoint(stage)
        else:
            entry = self.model.entry(stage, self.model.newest(stage))
            assert entry is not None
            assert same(self.cm.load_checkpoint(stage), entry.data)

    @rule(stage=STAGES, version=NAMED)
    def load_a_version(self, stage: str, version: int | str) -> None:
        number = self.model.named(stage, version)
        if number is None:
            with pytest.raises(CheckpointNotFoundError):
                self.cm.load_checkpoint(stage, version)
        else:
            entry = self.model.entry(stage, number)
            assert entry is not None
            assert self.cm.resolve(f"{stage}@{version}").number == number
            found = self.cm.get_checkpoint(stage, version)
            assert same(found.data, entry.data)
            assert (found.version.status, found.version.restored_from) == (entry.status, entry.restored_from)
            assert same(dict(found.version.metadata), entry.metadata)

    @invariant()
    def it_holds_what_the_model_holds(self) -> None:
        assert self.cm.stages() == self.model.visible()
        for stage in ("parse", *self.model.stages):
            assert self.cm.has_checkpoint(stage) == self.model.is_completed(stage)
            history = self.cm.history(stage)
            assert [version.number for version in reversed(history)] == self.model.present(stage)
            assert self.cm.tags(stage) == dict(sorted(self.model.tags.get(stage, {}).items()))
            times = [version.created_at for version in reversed(history)]
            assert times == sorted(times)

    def teardown(self) -> None:
        if isinstance(sys.exc_info()[1], Exception):
            self.failures.append(traceback.format_exc())
        assert self.cm.verify().problems == ()

    # Tampering: done, looked at, and undone

    @precondition(lambda self: self.model.visible())
    @rule(data=st.data(), how=st.sampled_from(["flip", "cut", "extend", "exchange", "remove"]), place=st.integers(0, 10_000))
    def tamper(self, data: st.DataObject, how: str, place: int) -> None:
        stage = data.draw(st.sampled_from(self.model.visible()))
        version = data.draw(st.sampled_from(self.model.present(stage)))
        whole = self.read_bytes(stage, version)
        if how == "remove":
            self.write_bytes(stage, version, None)
        else:
            others = [self.read_bytes(name, one) for name in self.model.stages for one in self.model.present(name)]
            self.write_bytes(stage, version, _tampered(whole, how, place, [other for other in others if other != whole]))
        assert not self.cm.verify().ok
        with pytest.raises((IntegrityError, FormatError, RollbackError)):
            self.cm.load_checkpoint(stage, version)
        if version == self.model.newest(stage):
            try:
                assert not self.cm.has_checkpoint(stage)
            except RollbackError:
                assert how == "remove"
        self.write_bytes(stage, version, whole)
        self.cm.repair()  # the head was a second name of the file that was there

    def backend(self) -> Any:
        raise NotImplementedError

    def read_bytes(self, stage: str, version: int) -> bytes:
        raise NotImplementedError

    def write_bytes(self, stage: str, version: int, data: bytes | None) -> None:
        raise NotImplementedError


def _tampered(whole: bytes, how: str, place: int, others: list[bytes]) -> bytes:
    at = place % len(whole)
    if how == "cut":
        return whole[:at]
    if how == "exchange" and others:
        return others[place % len(others)]
    if how == "extend":
        return whole + whole[: at + 1]
    return whole[:at] + bytes([whole[at] ^ (1 << place % 8)]) + whole[at + 1 :]


class InMemory(Machine):
    """On the reference backend."""

    def backend(self) -> MemoryBackend:
        if not hasattr(self, "_backend"):
            self._backend = MemoryBackend()
        return self._backend

    def read_bytes(self, stage: str, version: int) -> bytes:
        return self._backend._versions[stage][version]

    def write_bytes(self, stage: str, version: int, data: bytes | None) -> None:
        if data is None:
            del self._backend._versions[stage][version]
        else:
            self._backend._versions[stage][version] = data


class OnDisk(Machine):
    """Where a process can be killed."""

    host: Host

    def __init__(self) -> None:
        super().__init__()
        self._place = Path(tempfile.mkdtemp())

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self._place)

    @rule(stage=STAGES, length=st.sampled_from([0, 100, 300_000]), delay=st.floats(0, 0.003))
    def be_killed_while_saving(self, stage: str, length: int, delay: float) -> None:
        program = Program((Writer("fork", ((Op("save", stage, length),),)),), (Signal(0, "kill", 1, delay),))
        before = copy.deepcopy(self.model.newest(stage))
        if self.model.is_deleted(stage):
            return  # its history is empty, and says nothing of the newest number
        told = self.host.run(program, self.backend(), Path(os.environ["HOME"]))["events"]
        newest = max((version.number for version in self.cm.history(stage)), default=0)
        assert newest in {before, before + 1}
        if any(event.get("result") for event in told):
            assert newest == before + 1
        if newest > before:
            self.model.append(stage, Entry(content([0, 0, 0], length)))
            self.load(stage)
        self.cm.repair()  # of what was left, and so that the next tampering is all there is to find


class InADirectory(OnDisk):
    """In a directory."""

    def backend(self) -> Path:
        return self._place / "store"

    def read_bytes(self, stage: str, version: int) -> bytes:
        return self._path(stage, version).read_bytes()

    def write_bytes(self, stage: str, version: int, data: bytes | None) -> None:
        path = self._path(stage, version)
        if data is None:
            head = path.parents[2] / f"{path.parent.name}.checkpoint"
            if head.exists() and head.read_bytes() == path.read_bytes():  # a copy, if the version was tampered with before
                head.unlink()
            take_away(path)
        else:
            path.unlink(missing_ok=True)
            path.write_bytes(data)
            path.chmod(0o600)

    def _path(self, stage: str, version: int) -> Path:
        return self.backend() / "history" / to_filename(stage) / f"{version:012d}.checkpoint"


class InADatabase(OnDisk):
    """In an SQLite database."""

    def backend(self) -> str:
        return f"sqlite:///{self._place / 'store.db'}"

    def read_bytes(self, stage: str, version: int) -> bytes:
        query = "SELECT content FROM version WHERE stage = ? AND number = ?"
        content: bytes = self._execute(query, stage.encode(), version)[0][0]
        return content

    def write_bytes(self, stage: str, version: int, data: bytes | None) -> None:
        self._execute("DELETE FROM version WHERE stage = ? AND number = ?", stage.encode(), version)
        if data is not None:
            insert = "INSERT INTO version (stage, number, size, content) VALUES (?, ?, ?, ?)"
            self._execute(insert, stage.encode(), version, len(data), data)

    def _execute(self, statement: str, *parameters: object) -> list[tuple[bytes]]:
        with closing(sqlite3.connect(self._place / "store.db", isolation_level=None)) as connection:
            return connection.execute(statement, parameters).fetchall()


class InPostgres(OnDisk):
    """In PostgreSQL, whose administrator changes rows."""

    port: int

    def __init__(self) -> None:
        self._schema = f"s{secrets.token_hex(8)}"
        super().__init__()

    def backend(self) -> str:
        return f"postgresql://checkpoints@127.0.0.1:{self.port}/postgres?schema={self._schema}"

    def read_bytes(self, stage: str, version: int) -> bytes:
        query = f"SELECT content FROM {self._schema}.version WHERE stage = %s AND number = %s"
        content: bytes = self._execute(query, stage.encode(), version)[0][0]
        return content

    def write_bytes(self, stage: str, version: int, data: bytes | None) -> None:
        self._execute(f"DELETE FROM {self._schema}.version WHERE stage = %s AND number = %s", stage.encode(), version)
        if data is not None:
            insert = f"INSERT INTO {self._schema}.version (stage, number, size, content) VALUES (%s, %s, %s, %s)"
            self._execute(insert, stage.encode(), version, len(data), data)

    def _execute(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.backend().partition("?")[0], autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []


class InABucket(Machine):
    """In a bucket, whose administrator changes objects."""

    server: Server

    def __init__(self) -> None:
        self._url = self.server.url()
        super().__init__()

    def backend(self) -> str:
        return self._url

    def read_bytes(self, stage: str, version: int) -> bytes:
        return self.server.get(version_key(self._url, stage, version)) or b""

    def write_bytes(self, stage: str, version: int, data: bytes | None) -> None:
        if data is None:
            self.server.delete(version_key(self._url, stage, version))
        else:
            self.server.put(version_key(self._url, stage, version), data)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


MACHINE_SETTINGS = settings(
    max_examples=settings().max_examples // 2,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.fixture(autouse=True)
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """Keep the log of a hundred damaged versions out of the report of the one that matters."""
    caplog.set_level(logging.CRITICAL, logger="checkpoint_manager")


def run(machine: type[Machine], within: settings) -> None:
    """Run a machine, and tell what it met if it does not meet it again."""
    machine.failures.clear()
    try:
        run_state_machine_as_test(machine, settings=within)
    except Flaky as error:
        error.add_note("\n".join(["Met once:", *machine.failures]))
        raise


def test_a_failure_that_does_not_come_again_is_told() -> None:
    class Once(InMemory):
        @invariant()
        def fails_once(self) -> None:
            if self.model.stages and not self.failures:
                raise StorageError("no answer in time")

    with pytest.raises(Flaky) as caught:
        run(Once, settings(MACHINE_SETTINGS, max_examples=5))
    assert "no answer in time" in "".join(caught.value.__notes__)


def test_the_model_in_memory() -> None:
    run(InMemory, MACHINE_SETTINGS)


def test_the_model_in_a_directory(host: Host) -> None:
    InADirectory.host = host
    run(InADirectory, MACHINE_SETTINGS)


def test_the_model_in_a_database(host: Host) -> None:
    InADatabase.host = host
    run(InADatabase, MACHINE_SETTINGS)


def test_the_model_in_postgres(host: Host, postgres_port: int) -> None:
    InPostgres.host, InPostgres.port = host, postgres_port
    run(InPostgres, settings(MACHINE_SETTINGS, max_examples=settings().max_examples // 10))


def test_the_model_in_a_bucket(s3: Server) -> None:
    InABucket.server = s3
    few = settings(MACHINE_SETTINGS, max_examples=settings().max_examples // 20, stateful_step_count=15)
    run(InABucket, few)
