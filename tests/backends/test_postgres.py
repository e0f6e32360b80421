"""The PostgreSQL backend beyond the contract: what only a server can meet."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import psycopg
import pytest

from checkpoint_manager import (
    CheckpointError,
    CheckpointManager,
    IntegrityError,
    LocationError,
    LockTimeoutError,
    StorageError,
)
from checkpoint_manager.backends.base import UnknownOutcomeError, VersionTakenError
from checkpoint_manager.backends.postgres import connections, place
from checkpoint_manager.backends.postgres import schema as tables
from checkpoint_manager.backends.postgres import session as session_module
from checkpoint_manager.backends.postgres.errors import translated
from checkpoint_manager.backends.postgres.place import parse
from checkpoint_manager.backends.registry import open_backend
from tests import forking
from tests.postgres import as_unprivileged, free_port, require_program
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from checkpoint_manager.backends.base import Backend

KEY = bytes(32)
LARGE = bytes(range(256)) * 4096 * 3  # three chunks
SECRET = "Pa55/w@rd"


@pytest.fixture(autouse=True)
def no_settings_of_libpq(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("PG")]:
        monkeypatch.delenv(name)


def opened(url: str, **options: Any) -> CheckpointManager:
    return CheckpointManager(url, key=KEY, **options)


def behind(url: str, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements as the administrator does, in the schema of a store, and return the rows of the last."""
    server, _, schema = url.partition("?schema=")
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"SET search_path TO {schema}")
        for statement in statements:
            cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


# The URL


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("postgresql://db/prod", "postgresql://me@db:5432/prod?schema=checkpoints"),
        ("postgres://you@db:5433/prod?schema=a%20b", "postgresql://you@db:5433/prod?schema=a+b"),
        ("postgresql://you:s3cret@db/prod?sslmode=require", "postgresql://you@db:5432/prod?sslmode=require&schema=checkpoints"),
        ("postgresql://db/prod?password=s3cret&schema=x", "postgresql://me@db:5432/prod?schema=x"),
        ("postgresql://a:1,b:2/prod", "postgresql://me@a:1,b:2/prod?schema=checkpoints"),
        ("postgresql://[::1]/prod", "postgresql://me@[::1]:5432/prod?schema=checkpoints"),
        ("postgresql:///", "postgresql://me@/me?port=5432&schema=checkpoints"),
        ("postgresql://%2Frun%2Fpg/x", "postgresql://me@%2Frun%2Fpg:5432/x?schema=checkpoints"),
        ("postgresql:///?service=s", "postgresql:///?service=s&schema=checkpoints"),
    ],
)
def test_the_location_names_the_place_and_opens_it_again(url: str, location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGUSER", "me")
    assert parse(url).location == location
    assert parse(location).location == location
    assert parse(location).schema == parse(url).schema
    assert "s3cret" not in repr(parse(url))


def test_the_environment_is_part_of_the_location(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGHOST", "elsewhere")
    assert "@elsewhere:5432/" in parse("postgresql:///prod").location


@pytest.mark.parametrize("query", ["schema=", "schema=pg_x", f"schema={'x' * 64}", "schema=%00", "nonsense=1", "port=x%"])
def test_a_url_that_is_not_valid_is_refused_without_its_password(query: str) -> None:
    with pytest.raises(LocationError) as caught:
        opened(f"postgresql://me:{SECRET}@db/prod?{query}")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_parameter_that_libpq_does_not_know_is_named_unless_it_may_be_of_a_password() -> None:
    with pytest.raises(LocationError, match="has the parameter shema, which"):
        parse("postgresql://me@db/prod?sslmode=require&shema=x")
    with pytest.raises(LocationError, match=r"is not one that .* %25 for a percent sign"):
        parse("postgresql://me@db/prod?shema=a@b")


def test_several_hosts_mean_the_one_that_takes_changes() -> None:
    assert parse("postgresql://a,b/x").parameters["target_session_attrs"] == "read-write"
    assert "target_session_attrs" not in parse("postgresql://a/x").parameters


# Passwords


@pytest.fixture
def with_password(new_postgres_url: Callable[[], str]) -> str:
    """Return the URL of a store of a user who has a password, without it."""
    url = new_postgres_url()
    with psycopg.connect(url.partition("?")[0], autocommit=True) as connection, connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(1)")  # the role is shared by all workers
        if not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'with_password'").fetchall():
            connection.execute(f"CREATE ROLE with_password LOGIN SUPERUSER PASSWORD '{SECRET}'")
    return url.replace("//checkpoints@", "//with_password@")


def frames(error: BaseException) -> Iterator[object]:
    """Yield the local variables of the library's frames, of an error and of what led to it."""
    while True:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if "checkpoint_manager" in frame.f_code.co_filename or "psycopg" in frame.f_code.co_filename:
                yield from frame.f_locals.values()
        following = error.__cause__ or error.__context__
        if following is None:
            return
        error = following


def test_a_password_is_taken_from_libpqs_places(with_password: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageError, match="no password supplied"):
        opened(with_password)
    (home / ".pgpass").write_text(f"*:*:*:with_password:{SECRET}\n")
    (home / ".pgpass").chmod(0o600)
    monkeypatch.setenv("PGPASSFILE", str(home / ".pgpass"))
    with opened(with_password) as cm:
        cm.save_checkpoint("train", 1)


@pytest.mark.parametrize("name", ["password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"])
def test_a_secret_of_any_version_of_libpq_is_not_in_the_location(name: str) -> None:
    assert SECRET not in unquote(place._location({"host": "h", name: SECRET}, "s"))


def test_a_password_in_the_url_is_shown_nowhere(
    with_password: str, home: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level("DEBUG")
    url = with_password.replace("//with_password@", "//with_password:Pa55%2Fw%40rd@")
    secrets = (SECRET, "Pa55%2Fw%40rd", "Pa55")
    with opened(url) as cm:
        cm.save_checkpoint("train", 1)
        assert cm.has_checkpoint("train")
        shown = [repr(cm), repr(vars(cm)), repr(cm._store.backend.location), *map(repr, vars(cm._store.backend).values())]
        with pytest.raises(TypeError):
            pickle.dumps(cm)
    with pytest.raises(StorageError) as caught:
        opened(url.replace("%40rd", "%40rong"))
    shown += ["".join(traceback.format_exception(caught.value)), caplog.text, *capfd.readouterr()]
    shown += [str(path) + path.read_bytes().decode("latin-1") for path in home.rglob("*") if path.is_file()]
    assert not [text for text in shown for secret in secrets if secret in text]


@pytest.mark.parametrize(
    ("change", "hint"),
    [
        (lambda url: url.replace("127.0.0.1", "no-such-host.invalid"), "the name of the host"),
        (lambda url: f"{url}&connect_timeout=x", "this value in the URL"),
        (lambda url: f"{url}&sslmode=of", "this value in the URL"),
        (lambda url: f"{url}&service=nightly", "pg_service.conf"),
        (lambda url: re.sub(r":\d+/", ":1/", url), "can be reached"),
        (lambda url: url.replace("checkpoints@", "nobody_at_all@"), "Create it, or name another one"),
        (lambda url: url.replace("/postgres?", "/password_less?"), "Create it, or name another one"),
        (
            lambda url: url.replace("?schema", "?sslmode=verify-full&schema"),
            "the server's certificate|offers TLS",
        ),  # another test turns it off
    ],
)
def test_what_keeps_a_client_from_connecting_is_told_with_what_mends_it(
    postgres_url: str, change: Callable[[str], str], hint: str
) -> None:
    with pytest.raises(StorageError) as caught:
        open_backend(change(postgres_url))
    assert re.search(hint, caught.value.hint)


# Round trips


@pytest.fixture
def proxied(postgres_url: str, postgres_port: int) -> Iterator[tuple[Proxy, str]]:
    """Return a proxy, and the URL of a store behind it."""
    with Proxy(postgres_port) as proxy:
        url = postgres_url.replace(f":{postgres_port}/", f":{proxy.port}/")
        yield proxy, url.replace("?schema=", "?sslmode=disable&schema=")


def test_how_many_round_trips_each_operation_takes(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    with opened(url) as cm:
        for number in range(12):  # until the client has prepared its statements
            cm.save_checkpoint("train", number)
            cm.load_checkpoint("train")
        taken = {}
        for name, act in {
            "save": lambda: cm.save_checkpoint("train", "new"),
            "load": lambda: cm.load_checkpoint("train"),
            "has": lambda: cm.has_checkpoint("train"),
        }.items():
            proxy.round_trips = 0
            act()
            taken[name] = proxy.round_trips
    assert taken == {"save": 3, "load": 1, "has": 1}


def test_a_long_history_takes_a_few_round_trips(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    with opened(url) as cm:
        for number in range(100):
            cm.save_checkpoint("train", "x" * 20_000 if number == 50 else number)  # one that is too long to be read ahead
        cm.delete_versions("train", [40, 41, 42])
        proxy.round_trips = 0
        assert [version.number for version in cm.history("train")] == [
            number for number in range(100, 0, -1) if number not in {40, 41, 42}
        ]
        assert proxy.round_trips < 20


def test_a_history_of_long_versions_takes_a_round_trip_for_each(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    with opened(url) as cm:
        for _ in range(30):
            cm.save_checkpoint("train", "x" * 20_000)
        proxy.round_trips = 0
        assert len(list(cm.history("train"))) == 30
        assert proxy.round_trips < 40


def test_find_with_an_index_takes_a_few_round_trips(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    with opened(url, index={"metadata": ["run"]}) as cm:
        for number in range(60):
            cm.save_checkpoint("train", number, metadata={"run": number % 2})
        proxy.round_trips = 0
        assert len(list(cm.find(metadata={"run": 1}))) == 30
        assert proxy.round_trips < 25


def test_a_history_that_is_looked_at_slowly_is_that_of_now(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "_FRESH_SECONDS", 0.0)
    with opened(postgres_url) as cm:
        for number in range(1, 11):
            cm.save_checkpoint("train", number)
        versions = cm.iter_history("train")
        assert [next(versions).number for _ in range(4)] == [10, 9, 8, 7]
        behind(postgres_url, "UPDATE version SET content = 'x' WHERE number = 5")
        assert [version.status for version in versions][:2] == ["completed", "damaged"]


def test_a_history_during_which_the_key_is_rotated_is_whole(postgres_url: str) -> None:
    with opened(postgres_url) as cm, opened(postgres_url) as another:
        for number in range(1, 13):
            cm.save_checkpoint("train", number)
        versions = cm.iter_history("train")
        seen = [next(versions) for _ in range(7)]  # and the rest is read ahead
        another.keys.rotate()
        assert cm.load_checkpoint("train") == 12  # which follows the rotation
        assert [version.status for version in [*seen, *versions]] == ["completed"] * 12


def test_versions_in_chunks_come_back_whole(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        for size in (0, 1, 700_000, 1_500_000, 9_000_000):
            cm.save_checkpoint("train", "x" * size)
            assert cm.load_checkpoint("train") == "x" * size
        assert cm.verify().ok


def test_a_size_below_zero_is_damage(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        cm.save_checkpoint("train", LARGE)
        behind(postgres_url, "UPDATE version SET size = -1")
        with pytest.raises(IntegrityError):
            cm.load_checkpoint("train")
        assert [each.state for each in cm.verify().problems] == ["damaged"]


def test_a_stage_name_that_is_too_long_is_not_read(backend: Backend, postgres_url: str) -> None:
    backend.append("train", 1, lambda: [b"x"])
    version = "INSERT INTO version (stage, number, size, content) VALUES (convert_to(repeat('x', 200000), 'UTF8'), 1, 0, '')"
    chunk = "INSERT INTO chunk VALUES (gen_random_uuid(), 0, convert_to(repeat('x', 10000000), 'UTF8'), '')"
    behind(postgres_url, version, chunk)
    assert backend.stages() == ["train"]
    tracemalloc.start()
    assert backend.stages() == ["train"]
    assert [each.stage for each in backend.leftovers()] == [None]  # type: ignore[attr-defined]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


# Lost connections


@pytest.fixture
def backend(postgres_url: str) -> Iterator[Backend]:
    backend = open_backend(postgres_url)
    yield backend
    backend.close()


def end_sessions(url: str) -> None:
    """End every session of a store, as a restart of the server does."""
    key = connections_of(url)
    behind(url, f"SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE {key} AND pid <> pg_backend_pid()")


def connections_of(url: str) -> str:
    """Return the condition for the locks that mark a store's sessions."""
    member = open_backend(url)._statements.connections._member_key % 2**64  # type: ignore[attr-defined]
    return f"locktype = 'advisory' AND classid = {member >> 32} AND objid = {member & 0xFFFFFFFF}"


def test_a_session_that_the_server_has_ended_is_replaced(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        for number in range(1, 4):
            assert cm.save_checkpoint("train", number).number == number
            end_sessions(postgres_url)
        assert cm.load_checkpoint("train") == 3
        end_sessions(postgres_url)
        assert cm.has_checkpoint("train")
        assert cm.verify().ok


@pytest.mark.parametrize("statement", [b"INSERT INTO", b"pg_advisory_lock(", b"pg_advisory_unlock", b"LEFT JOIN LATERAL"])
def test_an_answer_that_is_lost_does_not_lose_or_double_a_save(proxied: tuple[Proxy, str], statement: bytes) -> None:
    proxy, url = proxied
    with opened(url) as cm:
        cm.save_checkpoint("train", 0)
        lost: list[bytes] = []

        def loses(sent: bytes) -> bool:
            if statement in sent and len(lost) < 2:
                lost.append(sent)
                return True
            return False

        proxy.loses = loses
        assert cm.save_checkpoint("train", "mine").number == 2
        assert cm.load_checkpoint("train") == "mine"
        assert lost
        assert [each.number for each in cm.history("train")] == [2, 1]


def test_an_answer_to_a_record_that_is_lost_is_found_by_its_stamp(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    backend = open_backend(url)
    first = backend.write_record("keyring", data=b"first", expected=None)
    lost: list[bytes] = []
    proxy.loses = lambda sent: b"UPDATE" in sent and len(lost) < 1 and not lost.append(sent)
    second = backend.write_record("keyring", data=b"second", expected=first)
    assert lost
    assert backend.read_record("keyring", limit=99) == second
    backend.close()


@pytest.mark.parametrize("size", [10, len(LARGE)])
def test_an_append_says_when_it_does_not_know(proxied: tuple[Proxy, str], size: int) -> None:
    proxy, url = proxied
    backend = open_backend(url)
    backend.append("train", 1, lambda: [LARGE[:size]])
    proxy.loses = lambda sent: b"COMMIT" in sent
    with pytest.raises(UnknownOutcomeError):
        backend.append("train", 2, lambda: [LARGE[:size]])
    proxy.loses = lambda _: False
    assert backend.versions("train") == [1, 2]
    with pytest.raises(VersionTakenError):
        backend.append("train", 2, lambda: [LARGE[:size]])
    assert backend.leftovers() == []  # type: ignore[attr-defined]
    backend.close()


@pytest.mark.usefixtures("impatient")
def test_a_commit_that_is_not_answered_is_not_said_to_have_written_nothing(postgres_url: str) -> None:
    """It waits on, as for a standby that is away, and its session keeps the lock of the stage."""
    with opened(postgres_url, lock_timeout=0.5) as cm:
        assert cm.save_checkpoint("train", 1).number == 1
        behind(
            postgres_url,
            """CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM set_config('lock_timeout', '0', true); PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$""",
            """CREATE CONSTRAINT TRIGGER wait AFTER INSERT ON version DEFERRABLE INITIALLY DEFERRED
                FOR EACH ROW EXECUTE FUNCTION wait()""",
        )
        with psycopg.connect(postgres_url.partition("?")[0], autocommit=True) as standby:
            standby.execute("SELECT pg_advisory_lock(42)")
            with pytest.raises(StorageError, match="it is not known whether version 2 of stage train") as caught:
                cm.save_checkpoint("train", 2)
            assert isinstance(caught.value.__cause__, LockTimeoutError)
        behind(postgres_url, "DROP TRIGGER wait ON version")  # which waits until it is done
        assert cm.load_checkpoint("train") == 2
        assert cm.save_checkpoint("train", 3).number == 3


def test_what_was_set_aside_is_told_even_if_the_answer_was_lost(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    with closing(open_backend(url)) as backend:
        backend.append("train", 1, lambda: [b"x"])
        lost: list[bytes] = []
        proxy.loses = lambda sent: b"DELETE FROM" in sent and not lost and not lost.append(sent)
        assert list(backend.quarantine("train", [1, 2])) == [1]  # type: ignore[attr-defined]
        assert lost
        assert backend.versions("train") == []


def test_a_connection_that_is_lost_while_a_version_is_read_is_replaced(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    backend = open_backend(url)
    backend.append("train", 1, lambda: [LARGE, LARGE])
    with backend.open("train", 1) as file:
        start = file.read(100)
        proxy.cut()
        assert start + file.read(file.size) == LARGE + LARGE
    proxy.loses = lambda sent: b"BEGIN" in sent
    with backend.open("train", 1) as file:
        proxy.loses = lambda _: False
        assert file.read(file.size) == LARGE + LARGE
    backend.close()


def test_a_server_that_is_away_is_waited_for(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    with opened(url) as cm:
        cm.save_checkpoint("train", 1)
        with proxy.away(0.3):
            assert cm.load_checkpoint("train") == 1
        with proxy.away(0.3):
            assert cm.save_checkpoint("train", 2).number == 2


def test_a_server_that_stays_away_is_an_error_in_time(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    with opened(url, lock_timeout=0.2) as cm:
        cm.save_checkpoint("train", 1)
        with proxy.away(60):
            for act in (lambda: cm.load_checkpoint("train"), lambda: cm.save_checkpoint("train", 2)):
                with pytest.raises(StorageError, match=r"can't (look at|lock) stage train: postgresql://checkpoints@127"):
                    act()
        assert cm.load_checkpoint("train") == 1


def test_a_server_that_does_not_answer_is_given_up(proxied: tuple[Proxy, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection stands, and nothing comes."""
    proxy, url = proxied
    with opened(url, lock_timeout=0.1) as cm:
        cm.save_checkpoint("train", 1)
        monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.1)
        proxy.is_silent = True
        with pytest.raises(StorageError):
            cm.load_checkpoint("train")
        proxy.is_silent = False
        proxy.cut()


def test_a_server_that_is_not_there_is_told_at_once() -> None:
    with pytest.raises(StorageError, match="can't open the database"):
        opened("postgresql://me@127.0.0.1:1/x")


# Locks


@contextmanager
def held_elsewhere(url: str, stage: str, purpose: str = "write") -> Iterator[None]:
    other = open_backend(url)
    with closing(other), other.lock(stage, 0.1, purpose=purpose):  # type: ignore[arg-type]
        yield


def test_a_timeout_names_the_session_that_holds_the_lock(postgres_url: str) -> None:
    with opened(f"{postgres_url}&application_name=nightly", lock_timeout=0.05) as cm:
        cm.save_checkpoint("train", 1)
        with (
            held_elsewhere(f"{postgres_url}&application_name=backfill", "train"),
            pytest.raises(LockTimeoutError, match=r"train.* is locked by session \d+ of the database \(.*backfill.*127"),
        ):
            cm.save_checkpoint("train", 2)


def test_what_was_saved_during_the_wait_for_the_lock_is_seen(postgres_url: str) -> None:
    """One statement that takes the lock and reads would see the stage as it was before."""
    with opened(postgres_url) as cm, opened(postgres_url) as other:
        cm.save_checkpoint("train", [0])
        for turn in range(1, 4):
            waiting = threading.Event()

            def update(data: list[int], waiting: threading.Event = waiting) -> list[int]:
                waiting.set()
                deadline = time.monotonic() + 10
                query = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
                while not behind(postgres_url, query) and time.monotonic() < deadline:
                    time.sleep(0.002)
                return [*data, len(data)]

            with ThreadPoolExecutor(1) as pool:
                done = pool.submit(other.update_checkpoint, "train", update)
                waiting.wait(10)
                cm.update_checkpoint("train", lambda data: [*data, len(data)])
                done.result()
            assert cm.load_checkpoint("train") == list(range(2 * turn + 1))


def test_a_lock_that_was_lost_is_taken_again_before_anything_is_written(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        cm.save_checkpoint("train", 1)

        def lose(data: int) -> int:
            end_sessions(postgres_url)
            cm.load_checkpoint("train")  # notices
            with pytest.raises(LockTimeoutError), held_elsewhere(postgres_url, "train"):
                pass
            return data + 1

        assert cm.update_checkpoint("train", lose).number == 2
        assert cm.load_checkpoint("train") == 2


def test_a_lost_lock_is_not_forgotten_when_the_first_attempt_to_connect_is_refused(proxied: tuple[Proxy, str]) -> None:
    proxy, url = proxied
    with opened(url) as cm:
        cm.save_checkpoint("train", 1)

        def lose(data: int) -> int:
            with proxy.away(0.05):
                cm.load_checkpoint("train")
            with pytest.raises(LockTimeoutError), held_elsewhere(url, "train"):
                pass
            return data + 1

        assert cm.update_checkpoint("train", lose).number == 2
        with held_elsewhere(url, "train"):
            pass


@pytest.mark.parametrize("statement", [b"pg_advisory_lock(", b"k.stamp"])
def test_a_lock_whose_answer_was_lost_is_released_at_the_end(proxied: tuple[Proxy, str], statement: bytes) -> None:
    proxy, url = proxied
    with opened(url) as cm:
        cm.save_checkpoint("train", 1)
        lost: list[bytes] = []
        proxy.loses = lambda sent: statement in sent and not lost and not lost.append(sent)
        cm.update_checkpoint("train", lambda data: data + 1)
        assert lost
        with held_elsewhere(url, "train"):
            pass


@pytest.mark.parametrize("timeout", [0, 1])
def test_a_lock_whose_look_failed_is_released_at_the_end(backend: Backend, postgres_url: str, timeout: float) -> None:
    """The lock and the look travel together: the session may have the lock, and an error."""
    backend.append("train", 1, lambda: [b"x"])
    behind(postgres_url, "ALTER TABLE record RENAME TO elsewhere")
    with backend.lock("train", timeout):
        behind(postgres_url, "ALTER TABLE elsewhere RENAME TO record")
    with held_elsewhere(postgres_url, "train"):
        pass


def test_a_lock_that_was_lost_to_another_writer_overwrites_nothing(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        cm.save_checkpoint("train", ["first"])

        def lose(data: list[str]) -> list[str]:
            if data == ["first"]:
                end_sessions(postgres_url)
                with ThreadPoolExecutor(1) as pool:
                    pool.submit(lambda: opened(postgres_url).save_checkpoint("train", ["first", "theirs"])).result()
            return [*data, "mine"]

        assert cm.update_checkpoint("train", lose).number == 3
        assert cm.load_checkpoint("train") == ["first", "theirs", "mine"]


def test_a_lock_that_another_writer_has_by_now_ends_every_statement(backend: Backend, postgres_url: str) -> None:
    with backend.lock("train", 0.02):
        end_sessions(postgres_url)
        with held_elsewhere(postgres_url, "train"):
            for _ in range(2):
                with pytest.raises(LockTimeoutError, match="was lost with its connection"):
                    backend.stages()
    assert backend.stages() == []


def test_the_lost_lock_of_a_run_is_told(backend: Backend, postgres_url: str, caplog: pytest.LogCaptureFixture) -> None:
    with backend.lock("train", 1, purpose="run"):
        end_sessions(postgres_url)
        with held_elsewhere(postgres_url, "train", "run"):
            assert backend.stages() == []
            assert "lost with its connection, and another process has it" in caplog.text
    with backend.lock("train", 1, purpose="run"):
        end_sessions(postgres_url)
    with backend.lock("train", 1, purpose="run"):
        pass


def test_waiting_for_writers_does_not_take_the_lock_of_its_own_thread_away(backend: Backend, postgres_url: str) -> None:
    """The server lets a session take a lock twice, and would have it released twice."""
    backend.append("train", 1, lambda: [b"x"])
    with backend.lock("train", 1):
        with pytest.raises(LockTimeoutError, match=r"^a stage in "):
            backend.wait_for_writers(0.05)
        with pytest.raises(LockTimeoutError), held_elsewhere(postgres_url, "train"):
            pass
    with held_elsewhere(postgres_url, "train"):
        pass


def test_a_wait_may_be_as_long_as_anyone_likes(backend: Backend) -> None:
    for seconds in (1e12, float("inf")):
        with backend.lock("train", seconds):
            pass


@pytest.mark.parametrize("setting", ["statement_timeout", "lock_timeout"])
def test_a_limit_of_the_server_ends_a_wait_as_a_timeout(postgres_url: str, setting: str) -> None:
    url = f"{postgres_url}&options=-c%20{setting}%3D150"
    opened(postgres_url).save_checkpoint("train", 1)
    with opened(url, lock_timeout=0.3) as cm, held_elsewhere(postgres_url, "train"):
        began = time.monotonic()
        with pytest.raises(LockTimeoutError) as caught:
            cm.save_checkpoint("train", 2)
        assert ("statement_timeout" in str(caught.value)) == (setting == "statement_timeout")
        assert time.monotonic() - began < 20


def test_an_interruption_ends_a_wait_and_leaves_no_lock(backend: Backend, postgres_url: str) -> None:
    backend.append("train", 1, lambda: [b"x"])

    def interrupt() -> None:
        deadline = time.monotonic() + 10
        while not behind(postgres_url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
            if time.monotonic() > deadline:
                return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    with held_elsewhere(postgres_url, "train"):
        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt), backend.lock("train", 60):
            pass
    with held_elsewhere(postgres_url, "train"):
        pass


def test_an_interruption_as_a_connection_is_given_back_leaves_no_lock_and_no_connection(
    backend: Backend, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its traceback may be kept for long."""
    backend.append("train", 1, lambda: [b"x"])
    end = connections.Use.__exit__

    def interrupted(*_: object) -> None:
        monkeypatch.setattr(connections.Use, "__exit__", end)
        raise KeyboardInterrupt

    kept: list[object] = []
    for _ in range(2):
        monkeypatch.setattr(connections.Use, "__exit__", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught, backend.lock("train", 5):
            pass
        kept.append(caught)
        with held_elsewhere(postgres_url, "train"):
            pass
        monkeypatch.setattr(connections.Use, "__exit__", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            backend.versions("train")
        kept.append(caught)
        with backend.lock("train", 5):
            pass
    assert sessions(postgres_url) == 1


def test_an_interruption_of_a_release_leaves_no_lock(
    backend: Backend, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend.append("train", 1, lambda: [b"x"])
    execute = connections.Connection.execute

    def interrupted(connection: connections.Connection, query: Any, *args: Any, **options: Any) -> Any:
        if "pg_advisory_unlock" in query:
            monkeypatch.setattr(connections.Connection, "execute", execute)
            raise KeyboardInterrupt
        return execute(connection, query, *args, **options)

    with backend.lock("other", 5):
        monkeypatch.setattr(connections.Connection, "execute", interrupted)
        with pytest.raises(KeyboardInterrupt), backend.lock("train", 5):
            pass
        with held_elsewhere(postgres_url, "train"):
            pass
        assert backend.versions("other") == []
        with pytest.raises(LockTimeoutError), held_elsewhere(postgres_url, "other"):  # it was taken again
            pass


def test_a_signal_handler_may_save_while_its_thread_waits(postgres_url: str) -> None:
    saved: list[int] = []
    with opened(postgres_url, lock_timeout=0.5) as cm:
        cm.save_checkpoint("train", 0)

        def handler(_: int, __: object) -> None:
            saved.append(cm.save_checkpoint("other", len(saved)).number)

        before = signal.signal(signal.SIGUSR1, handler)
        try:
            timer = threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGUSR1))
            timer.start()
            with held_elsewhere(postgres_url, "train"), pytest.raises(LockTimeoutError):
                cm.save_checkpoint("train", 1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert saved == [1]
        assert cm.save_checkpoint("train", 1).number == 2


def test_a_signal_handler_may_read_while_its_thread_takes_a_connection(backend: Backend) -> None:
    backend.stages()
    (link,) = backend._statements.connections._mine.links  # type: ignore[attr-defined]
    before = signal.signal(signal.SIGUSR1, lambda _, __: backend.stages())
    try:
        with link._taking:
            signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)


# Connections


def sessions(url: str) -> int:
    gc.collect()
    (row,) = behind(url, f"SELECT count(*) FROM pg_locks WHERE {connections_of(url)}")
    return int(row[0])


def test_the_connection_of_a_thread_ends_with_it(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        for number in range(1, 6):
            thread = threading.Thread(target=cm.save_checkpoint, args=("train", number))
            thread.start()
            thread.join()
        assert sessions(postgres_url) == 1


def test_a_child_process_leaves_the_connections_of_its_parent_alone(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        cm.save_checkpoint("train", 1)

        def child() -> None:
            cm.save_checkpoint("train", 2)
            cm.close()
            gc.collect()

        assert forking.end(forking.start(child)) == 0
        assert cm.load_checkpoint("train") == 2
        assert cm.save_checkpoint("train", 3).number == 3
        with cm._store.backend.lock("train", 1):
            assert forking.end(forking.start(lambda: None)) == 0
            with pytest.raises(LockTimeoutError), held_for(0.05, postgres_url):
                pass


def test_a_child_process_does_not_inherit_the_locks_of_its_parents_threads(backend: Backend) -> None:
    def child() -> None:
        with backend.lock("train", 10):
            pass

    with backend.lock("train", 1):
        started = forking.start(child)
    assert forking.end(started) == 0


@contextmanager
def held_for(timeout: float, url: str) -> Iterator[None]:
    with open_backend(url).lock("train", timeout):
        yield


# The schema


def test_the_first_writers_may_all_make_the_tables(postgres_url: str) -> None:
    start = threading.Barrier(6)

    def save(_: int) -> None:
        backend = open_backend(postgres_url)
        start.wait()
        backend.write_segment("train", os.urandom(16).hex(), 0, [b"x"])
        backend.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(save, range(6)))
    assert behind(postgres_url, "SELECT form FROM format") == [(tables.FORM,)]


def test_nothing_is_made_by_reading(postgres_url: str) -> None:
    backend = open_backend(postgres_url)
    assert backend.stages() == backend.versions("train") == backend.attachments("train") == []
    assert backend.read_record("keyring", limit=9) is None
    backend.close()
    schema = postgres_url.partition("?schema=")[2]
    assert behind(postgres_url, f"SELECT 1 FROM pg_namespace WHERE nspname = '{schema}'") == []


@pytest.mark.parametrize("statement", ["UPDATE format SET application = 'mine'", "DELETE FROM format"])
def test_a_schema_of_another_program_is_refused(postgres_url: str, statement: str) -> None:
    opened(postgres_url).close()
    behind(postgres_url, statement)
    with pytest.raises(LocationError, match="another program"):
        opened(postgres_url)


def test_a_schema_with_tables_of_the_same_names_is_left_as_it_is(postgres_url: str) -> None:
    schema = postgres_url.partition("?schema=")[2]
    behind(postgres_url, f"CREATE SCHEMA {schema}", f"CREATE TABLE {schema}.record (mine text)")
    with pytest.raises(LocationError, match="another program"):
        opened(postgres_url)
    assert behind(postgres_url, "SELECT * FROM record") == []


def test_a_newer_form_is_refused(postgres_url: str) -> None:
    opened(postgres_url).close()
    behind(postgres_url, "UPDATE format SET form = 99")
    with pytest.raises(LocationError, match="Upgrade"):
        opened(postgres_url)


def test_a_schema_that_was_dropped_is_not_made_again_by_a_save(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        cm.save_checkpoint("train", 1)
        behind(postgres_url, f"DROP SCHEMA {postgres_url.partition('?schema=')[2]} CASCADE")
        with pytest.raises(CheckpointError, match="gone"):
            cm.save_checkpoint("train", 2)


def test_a_table_that_is_missing_is_an_error(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        cm.save_checkpoint("train", 1)
        behind(postgres_url, "DROP TABLE record")
        for act in (lambda: cm.load_checkpoint("train"), lambda: cm.save_checkpoint("train", 2)):
            with pytest.raises(StorageError, match=r"record.* does not exist"):
                act()


def test_a_name_that_needs_quotes_is_a_schema(postgres_port: int) -> None:
    url = f"postgresql://checkpoints@127.0.0.1:{postgres_port}/postgres?schema=a%22%3B%20DROP%20%25s%20%7B%7D%20{os.urandom(4).hex()}"
    with opened(url) as cm:
        cm.save_checkpoint("train", "x" * 2_000_000)
        assert cm.load_checkpoint("train") == "x" * 2_000_000


def test_a_user_needs_only_the_privileges_of_the_readme(postgres_url: str) -> None:
    schema = postgres_url.partition("?schema=")[2]
    opened(postgres_url).close()
    text = (Path(__file__).parents[2] / "README.md").read_text()
    grants = re.findall(r"^GRANT .*?;", text, re.MULTILINE)
    assert len(grants) >= 4
    user = f"user_{schema}"
    behind(
        postgres_url,
        f"CREATE ROLE {user} LOGIN",
        *(
            grant.replace("SCHEMA checkpoints", f"SCHEMA {schema}")
            .replace("checkpoints.", f"{schema}.")
            .replace("pipeline", user)
            for grant in grants
        ),
    )
    with opened(postgres_url.replace("//checkpoints@", f"//{user}@")) as cm:
        for number in range(4):
            cm.save_checkpoint("train", number, attachments={"a": b"x" * 2_000_000})
        cm.delete_versions("train", [1])
        cm.tag("train", 2, "good")
        cm.keys.rotate()
        behind(postgres_url, "UPDATE version SET content = 'x' WHERE number = 3")
        assert len(cm.repair()) > 0
        assert cm.verify().ok
        cm.clear_checkpoints()
    with pytest.raises(StorageError, match="owner run init") as caught:
        opened(postgres_url.replace("//checkpoints@", f"//{user}@").replace(f"?schema={schema}", "?schema=another"))
    assert caught.value.errno == 13


# TLS and poolers


@pytest.fixture
def with_tls(postgres_url: str, postgres_certificate: str) -> Iterator[str]:
    """Let the server offer TLS, and return the URL of a store."""
    behind(postgres_url, "ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()")
    deadline = time.monotonic() + 10
    while behind(postgres_url, "SHOW ssl") != [("on",)] and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"{postgres_url}&sslmode=verify-full&sslrootcert={postgres_certificate}"
    behind(postgres_url, "ALTER SYSTEM SET ssl = off", "SELECT pg_reload_conf()")


def test_tls_is_libpqs(with_tls: str, postgres_url: str) -> None:
    with opened(with_tls) as cm:
        cm.save_checkpoint("train", 1)
        with cm._store.backend._statements.connections.use() as link:  # type: ignore[attr-defined]
            assert link.connection.pgconn.ssl_in_use
    with pytest.raises(StorageError, match="certificate"):
        opened(f"{postgres_url}&sslmode=verify-full&sslrootcert=/dev/null")


POOLER = """
[databases]
postgres = host=127.0.0.1 port={port} user=checkpoints dbname=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {own}
auth_type = any
pool_mode = {mode}
unix_socket_dir =
ignore_startup_parameters = extra_float_digits
logfile = {folder}/log
"""


@pytest.fixture
def pooler(postgres_port: int, tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """Return what starts pgbouncer in a mode, and returns its port."""
    program = require_program("pgbouncer", "/usr/sbin")
    started: list[subprocess.Popen[bytes]] = []
    folder = Path(tempfile.mkdtemp())

    def start(mode: str) -> int:
        own = free_port()
        (folder / "ini").write_text(POOLER.format(port=postgres_port, own=own, mode=mode, folder=folder))
        started.append(subprocess.Popen([*as_unprivileged(folder), program, "-q", folder / "ini"], cwd="/"))
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", own)):
                return own
            time.sleep(0.01)
        raise AssertionError((folder / "log").read_text())

    yield start
    for each in started:
        each.kill()
        each.wait()
    shutil.rmtree(folder)


def test_a_pooler_that_hands_sessions_to_others_is_refused(
    pooler: Callable[[str], int], postgres_url: str, postgres_port: int
) -> None:
    for mode in ("transaction", "statement"):
        with pytest.raises(LocationError, match=r"pooler.*pool_mode"):
            opened(postgres_url.replace(f":{postgres_port}/", f":{pooler(mode)}/"))
    with opened(postgres_url.replace(f":{postgres_port}/", f":{pooler('session')}/")) as cm:
        cm.save_checkpoint("train", 1)
        assert cm.load_checkpoint("train") == 1


# What its administrator may do besides


@pytest.mark.parametrize("result", ["NULL", "NEW"])
def test_a_trigger_that_drops_or_changes_what_is_saved_is_an_error(postgres_url: str, result: str) -> None:
    schema = postgres_url.partition("?schema=")[2]
    with opened(postgres_url, lock_timeout=5) as cm:
        cm.save_checkpoint("train", 1)
        behind(
            postgres_url,
            f"""CREATE FUNCTION {schema}.spy() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN NEW.content = '\\x00'; RETURN {result}; END $$""",
            f"CREATE TRIGGER spy BEFORE INSERT ON {schema}.version FOR EACH ROW EXECUTE FUNCTION {schema}.spy()",
        )
        with pytest.raises(CheckpointError):
            (cm.save_checkpoint("train", 2), cm.load_checkpoint("train"))
        assert cm.load_checkpoint("train", 1) == 1


def test_what_others_put_into_the_search_path_does_not_run(postgres_url: str) -> None:
    schema = postgres_url.partition("?schema=")[2]
    behind(
        postgres_url,
        f"CREATE SCHEMA {schema}",
        f"CREATE FUNCTION {schema}.octet_length(bytea) RETURNS int LANGUAGE sql AS 'SELECT 1/0'",
        f"CREATE FUNCTION {schema}.set_config(text, text, boolean) RETURNS text LANGUAGE sql AS 'SELECT (1/0)::text'",
    )
    with opened(f"{postgres_url}&options=-c%20search_path%3D{schema},pg_catalog") as cm:
        cm.save_checkpoint("train", "x" * 2_000_000)
        assert cm.load_checkpoint("train") == "x" * 2_000_000


# The whole of it


def test_a_store_is_copied_there_and_back(postgres_url: str, tmp_path: Path) -> None:
    with CheckpointManager(tmp_path / "one", key=KEY) as one:
        for number in range(3):
            one.save_checkpoint("train", "x" * (number * 800_000), attachments={"a": b"y" * 1_200_000})
        one.tag("train", 2, "good")
        one.delete_versions("train", [1])
        one.copy_to(postgres_url, key=KEY)
    with opened(postgres_url) as there:
        there.save_checkpoint("train", "more")
        there.copy_to(tmp_path / "back", key=KEY)
    with CheckpointManager(tmp_path / "back", key=KEY) as back:
        assert [each.number for each in back.history("train")] == [4, 3, 2]
        assert back.get_version("train", "good").number == 2
        assert len(back.load_checkpoint("train", 3)) == 1_600_000
        assert back.get_checkpoint("train", 2).attachments["a"].read() == b"y" * 1_200_000
        assert back.verify().ok


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (psycopg.errors.LockNotAvailable("canceling statement due to lock timeout"), LockTimeoutError),
        (psycopg.errors.DataCorrupted("invalid page in block 7"), IntegrityError),
        (psycopg.errors.DiskFull("could not extend file"), StorageError),
    ],
)
def test_what_the_server_says_is_an_error_of_this_library(error: psycopg.Error, kind: type[CheckpointError]) -> None:
    found = translated(error, "read a version of", "postgresql://host/db", "train")
    assert type(found) is kind
    assert found.stage == "train"
    assert found.message.startswith("can't read a version of stage train: postgresql://host/db: ")
