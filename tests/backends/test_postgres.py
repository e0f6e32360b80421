"""The PostgreSQL backend beyond the contract: what only a server can meet."""

from __future__ import annotations

import os
import pickle
import traceback
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checkpoint_manager import CheckpointManager, LocationError, StorageError
from checkpoint_manager.backends.postgres.place import parse
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


# Round trips


@pytest.fixture
def proxied(postgres_url: str, postgres_port: int) -> Iterator[tuple[Proxy, str]]:
    """Return a proxy, and the URL of a store behind it."""
    with Proxy(postgres_port) as proxy:
        yield proxy, postgres_url.replace(f":{postgres_port}/", f":{proxy.port}/")


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


def test_versions_in_chunks_come_back_whole(postgres_url: str) -> None:
    with opened(postgres_url) as cm:
        for size in (0, 1, 700_000, 1_500_000, 9_000_000):
            cm.save_checkpoint("train", "x" * size)
            assert cm.load_checkpoint("train") == "x" * size
        assert cm.verify().ok
