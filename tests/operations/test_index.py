"""The index in PostgreSQL: what stands in its columns, who decides that, and that nobody can make find return what is false."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checkpoint_manager import ArgumentError, CheckpointManager, LocationError, StorageError
from checkpoint_manager._format import index as sealed_index
from checkpoint_manager._store import index as index_module
from checkpoint_manager.backends.postgres import connections
from checkpoint_manager.backends.postgres import schema as tables
from checkpoint_manager.backends.postgres.backend import PostgresBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    Sql = Callable[..., list[tuple[Any, ...]]]

KEY = bytes(range(32))
INDEX = {"status": True, "created_at": True, "metadata": ["run", "owner"]}
EVERYTHING = "SELECT * FROM checkpoints ORDER BY stage, number"


@pytest.fixture
def sql(postgres_url: str) -> Iterator[Sql]:
    """Return what runs a statement as the administrator of the database."""
    server, _, schema = postgres_url.partition("?schema=")
    with psycopg.connect(server, autocommit=True, options=f"-csearch_path={schema}") as connection:

        def run(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def cm(postgres_url: str) -> Iterator[CheckpointManager]:
    with CheckpointManager(postgres_url, key=KEY, index=INDEX) as cm:
        yield cm


def numbers(found: Iterator[Any]) -> list[tuple[str, int]]:
    return [(version.stage, version.number) for version in found]


def test_the_view_shows_what_was_chosen_and_no_more(cm: CheckpointManager, sql: Sql) -> None:
    saved = cm.save_checkpoint("train/größe", 1, metadata={"run": "a7", "owner": 3, "secret": "s3cret"})
    cm.save_checkpoint("train/größe", 2, metadata={"run": None})
    cm.clear_checkpoint("train/größe")
    rows = sql(EVERYTHING)
    assert [row[:2] for row in rows] == [("train/größe", number) for number in (1, 2, 3)]
    assert all(row[2] > 0 and abs(row[3] - datetime.now(UTC)) < timedelta(minutes=1) for row in rows)
    assert rows[0][4:] == (saved.created_at, "3", "a7", "completed")
    assert [row[5:] for row in rows] == [("3", "a7", "completed"), (None, "null", "completed"), (None, None, "cleared")]
    assert sql("SELECT count(*) FROM version WHERE version::text LIKE '%%s3cret%%'") == [(0,)]


def test_without_an_index_the_view_shows_what_every_administrator_knows(postgres_url: str, sql: Sql) -> None:
    CheckpointManager(postgres_url, key=KEY).save_checkpoint("train", 1, metadata={"run": "a7"})
    ((stage, number, size, stored_at),) = sql(EVERYTHING)
    assert (stage, number) == ("train", 1)
    assert size == sql("SELECT octet_length(content) FROM version")[0][0]
    assert abs(stored_at - datetime.now(UTC)) < timedelta(minutes=1)


@pytest.mark.parametrize("stage", ["a\\b", "nul\0", "\u202e", "x" * 255], ids=ascii)
def test_any_name_of_a_stage_is_shown(postgres_url: str, sql: Sql, stage: str) -> None:
    CheckpointManager(postgres_url, key=KEY).save_checkpoint(stage, 1)
    assert sql(EVERYTHING)[0][0] == (stage if "\0" not in stage else "nul\\000")


def test_every_writer_fills_the_columns(postgres_url: str, cm: CheckpointManager, sql: Sql) -> None:
    with CheckpointManager(postgres_url, key=KEY) as other:
        other.save_checkpoint("train", 1, metadata={"run": "b"})
        cm.restore_checkpoint("train", 1)
        other.update_checkpoint("train", lambda data: data, metadata={"run": "c"})
        other.save_checkpoints({"train": 4}, metadata={"run": "d"})
    assert sql("SELECT status, metadata_run FROM checkpoints ORDER BY number") == [
        ("completed", run) for run in ("b", "b", "c", "d")
    ]


def test_what_is_chosen_later_is_filled_for_what_is_there(postgres_url: str, sql: Sql) -> None:
    with CheckpointManager(postgres_url, key=KEY) as before:
        for number in range(3):
            before.save_checkpoint("train", number, metadata={"run": f"r{number}"})
        with CheckpointManager(postgres_url, key=KEY, index={"metadata": ["run"]}) as cm:
            assert [row[4:] for row in sql(EVERYTHING)] == [("r0",), ("r1",), ("r2",)]
            before.save_checkpoint("train", 3, metadata={"run": "r3"})  # it has not read the record again
            assert numbers(cm.find(metadata={"run": "r3"})) == [("train", 4)]
        CheckpointManager(postgres_url, key=KEY, index={"metadata": ["run"]}).close()
        assert sql("SELECT count(*) FROM version WHERE indexed = 0 OR metadata_run IS NULL") == [(0,)]


def test_what_is_no_longer_chosen_is_gone_and_no_writer_puts_it_back(
    postgres_url: str, cm: CheckpointManager, sql: Sql, caplog: pytest.LogCaptureFixture
) -> None:
    cm.save_checkpoint("train", 1, metadata={"run": "a", "owner": "me"})
    with CheckpointManager(postgres_url, key=KEY, index={"metadata": ["run"]}) as narrower:
        assert "it was created_at, metadata_owner, metadata_run, status, and is metadata_run" in caplog.text
        cm.save_checkpoint("train", 2, metadata={"run": "a", "owner": "me"})
        assert [row[4:] for row in sql(EVERYTHING)] == [("a",), ("a",)]
        assert numbers(narrower.find(metadata={"run": "a", "owner": "me"})) == [("train", 2), ("train", 1)]
        assert numbers(cm.find(metadata={"owner": "me"})) == [("train", 2), ("train", 1)]  # by reading all
    CheckpointManager(postgres_url, key=KEY, index={}).close()
    assert [len(row) for row in sql(EVERYTHING)] == [4, 4]
    assert numbers(cm.find(metadata={"owner": "me"})) == [("train", 2), ("train", 1)]


@pytest.mark.parametrize("keys", [["run", "owner", "team"], ["run"], []])
def test_a_change_keeps_the_rights_to_the_view(cm: CheckpointManager, postgres_url: str, sql: Sql, keys: list[str]) -> None:
    cm.save_checkpoint("train", 1, metadata={"team": "a"})
    sql("GRANT SELECT ON checkpoints TO PUBLIC")
    CheckpointManager(postgres_url, key=KEY, index={"metadata": keys}).close()
    granted = """SELECT grantee FROM information_schema.role_table_grants
        WHERE table_name = 'checkpoints' AND table_schema = current_schema() AND grantee = 'PUBLIC'"""
    assert sql(granted) == [("PUBLIC",)]


def test_only_candidates_are_opened(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    for stage in ("a", "b", "c"):
        for number in range(5):
            cm.save_checkpoint(stage, number, metadata={"run": f"{stage}{number}"})
    opened: list[str] = []
    entry = cm._store.entry
    monkeypatch.setattr(cm._store, "entry", lambda stage, *rest: (opened.append(stage), entry(stage, *rest))[1])
    assert numbers(cm.find(metadata={"run": "b4"})) == [("b", 5)]
    assert set(opened) == {"b"}
    assert len(opened) == 1


def test_pages_follow_one_another(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("checkpoint_manager.backends.postgres.columns.PAGE", 2)
    for stage in ("a", "b"):
        for number in range(4):
            cm.save_checkpoint(stage, number, metadata={"run": "x"})
    assert numbers(cm.find(metadata={"run": "x"})) == [(stage, number) for stage in "ab" for number in (4, 3, 2, 1)]
    assert numbers(cm.find(metadata={"run": "x"}, limit=3)) == [("a", 4), ("a", 3), ("a", 2)]


@pytest.mark.parametrize("value", ["x" * 100_000, "a\0b", "\ud7ff", {"deep": ["x" * 5000]}, 2**63, 1e300, [], "null", None])
def test_any_value_can_be_indexed(cm: CheckpointManager, value: object) -> None:
    cm.save_checkpoint("train", 1, metadata={"run": value})
    cm.save_checkpoint("train", 2, metadata={"run": "other"})
    assert numbers(cm.find(metadata={"run": value})) == [("train", 1)]


@pytest.mark.parametrize(
    "index",
    [
        3,
        {"stage": True},
        {"status": "yes"},
        {"metadata": "run"},
        {"metadata": [3]},
        {"metadata": [""]},
        {"metadata": ["@note"]},
        {"metadata": ["a\0"]},
        {"metadata": ["\ud800"]},
        {"metadata": ["x" * 55]},
        {"metadata": [str(number) for number in range(101)]},
    ],
)
def test_what_can_not_be_indexed_is_refused(tmp_path: Path, index: Any) -> None:
    with pytest.raises(ArgumentError):
        CheckpointManager(tmp_path / "store", key=KEY, index=index)
    assert not (tmp_path / "store").exists()


def test_a_place_without_columns_refuses_an_index(tmp_path: Path) -> None:
    with pytest.raises(LocationError, match="can't keep an index"):
        CheckpointManager(tmp_path / "store", key=KEY, index=INDEX)


def test_names_of_columns_are_quoted(postgres_url: str, sql: Sql) -> None:
    key = """a"; DROP TABLE version; --'%s{}"""
    with CheckpointManager(postgres_url, key=KEY, index={"metadata": [key]}) as cm:
        cm.save_checkpoint("train", 1, metadata={key: "x"})
        assert numbers(cm.find(metadata={key: "x"})) == [("train", 1)]


def test_a_rotation_takes_the_choice_along(postgres_url: str, cm: CheckpointManager, sql: Sql) -> None:
    cm.save_checkpoint("train", 1, metadata={"run": "a"})
    cm.keys.rotate()
    with CheckpointManager(postgres_url, key=KEY) as other:
        other.save_checkpoint("train", 2, metadata={"run": "b"})
        assert numbers(other.find(metadata={"run": "b"})) == [("train", 2)]
    assert sql("SELECT metadata_run FROM checkpoints ORDER BY number") == [("a",), ("b",)]


ATTACKS = {
    "a status": "UPDATE version SET status = 'failed' WHERE number = 2",
    "a time": "UPDATE version SET created_at = '2099-01-01' WHERE number = 2",
    "a value of the metadata": "UPDATE version SET metadata_run = 'evil' WHERE number = 2",
    "all of a row": "UPDATE version SET metadata_run = 'evil', status = 'failed', created_at = '2099-01-01', indexed = 99",
    "a row as not filled": "UPDATE version SET indexed = 0",
    "a row in another stage": "UPDATE version SET stage = 'other', metadata_run = 'evil', status = 'failed' WHERE number = 1",
    "the contents exchanged": """UPDATE version v SET metadata_run = 'evil', content =
        (SELECT content FROM version w WHERE w.stage = v.stage AND w.number = 3 - v.number) WHERE number < 3""",
    "a planted row": """INSERT INTO version (stage, number, size, content, indexed, metadata_run, status)
        SELECT stage, 4, size, content, 1, 'evil', 'failed' FROM version WHERE number = 3""",
    "a planted stage": """INSERT INTO version (stage, number, size, content, indexed, metadata_run, status)
        SELECT 'planted', 1, size, content, 1, 'evil', 'failed' FROM version WHERE number = 1""",
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_whatever_stands_in_the_columns_find_returns_nothing_false(
    postgres_url: str, cm: CheckpointManager, sql: Sql, attack: str
) -> None:
    saved = {number: cm.save_checkpoint("train", number, metadata={"run": f"r{number}"}) for number in (1, 2, 3)}
    sql(ATTACKS[attack])
    with CheckpointManager(postgres_url, key=KEY) as fresh:
        for each in (cm, fresh):
            for criteria in ({"metadata": {"run": "evil"}}, {"status": "failed"}, {"since": "2098-01-01T00:00"}):
                assert list(each.find(**criteria)) == []  # type: ignore[arg-type]
            for number in (1, 2, 3):
                found = list(each.find(metadata={"run": f"r{number}"}))
                assert found in ([saved[number]], [])  # hidden, or as it was saved


def test_a_version_of_another_history_is_not_found(postgres_url: str, cm: CheckpointManager, sql: Sql) -> None:
    """The version is authentic: a copy of the store went on with it."""
    cm.save_checkpoint("train", 1, metadata={"run": "a"})
    sql("CREATE TABLE copied AS SELECT * FROM version")
    cm.save_checkpoint("train", "forked", metadata={"run": "forked"})
    sql("CREATE TABLE forked AS SELECT * FROM version WHERE number = 2")
    sql("DELETE FROM version WHERE number = 2")
    with CheckpointManager(postgres_url, key=KEY, on_rollback="warn") as real:
        real.accept_rollback()
        for number in (2, 3):
            real.save_checkpoint("train", number, metadata={"run": "a"})
        sql("UPDATE version SET content = (SELECT content FROM forked), metadata_run = 'forked' WHERE number = 2")
        assert numbers(real.find(metadata={"run": "forked"})) == []


DECISIONS = {
    "an older choice": "UPDATE record SET data = (SELECT data FROM kept) WHERE name = 'index'",
    "a forged choice": "UPDATE record SET data = data || 'x' WHERE name = 'index'",
    "no choice": "DELETE FROM record WHERE name = 'index'",
    "a long one": "UPDATE record SET data = decode(repeat('00', 70000), 'hex') WHERE name = 'index'",
}


@pytest.mark.parametrize("decision", DECISIONS)
def test_an_administrator_does_not_decide_what_stands_in_the_clear(
    postgres_url: str, cm: CheckpointManager, sql: Sql, decision: str, caplog: pytest.LogCaptureFixture
) -> None:
    sql("CREATE TABLE kept AS SELECT data FROM record WHERE name = 'index'")
    CheckpointManager(postgres_url, key=KEY, index={"metadata": ["run"]}).close()
    sql(DECISIONS[decision], *())
    sql("ALTER TABLE version ADD COLUMN metadata_owner text, ADD COLUMN status text, ADD COLUMN created_at timestamptz")
    caplog.clear()
    with CheckpointManager(postgres_url, key=KEY) as victim:
        victim.save_checkpoint("train", 1, metadata={"run": "a", "owner": "me"})
        assert sql("SELECT metadata_owner, status, created_at, metadata_run FROM version") == [(None, None, None, None)]
        assert caplog.text.count("Open the store with index= again") == 1
        assert numbers(victim.find(metadata={"owner": "me"})) == [("train", 1)]
    with CheckpointManager(postgres_url, key=KEY, index={"metadata": ["run"]}):
        assert sql("SELECT metadata_run FROM checkpoints") == [("a",)]
        assert len(sql(EVERYTHING)[0]) == 5


def test_who_once_knew_the_key_does_not_decide_what_a_running_process_stores_in_the_clear(
    postgres_url: str, cm: CheckpointManager, sql: Sql
) -> None:
    """The process learns of the rotation when it reads the choice, not only when it is asked for a stage next."""
    cm.save_checkpoint("train", 1, metadata={"run": "a", "secret": "me"})
    key_id, key = cm._store.keyring.active
    with CheckpointManager(postgres_url, key=KEY) as other:
        other.keys.rotate()
    forged = sealed_index.encode(sealed_index.Index(1000, "a" * 32, ("metadata_secret",)))
    record = sealed_index.RECORD.seal(key_id, key, cm._store.keyring.store_id, sealed_index.STAGE, forged)
    sql("ALTER TABLE version ADD COLUMN metadata_secret text")
    sql(f"UPDATE record SET stamp = gen_random_uuid(), data = decode('{record.hex()}', 'hex') WHERE name = 'index'")
    assert numbers(cm.find(metadata={"secret": "me"})) == [("train", 1)]
    cm.save_checkpoint("train", 2, metadata={"run": "b", "secret": "me"})
    assert sql("SELECT metadata_secret FROM version") == [(None,), (None,)]


def test_a_column_that_was_removed_is_made_again_when_it_is_asked_for(
    postgres_url: str, cm: CheckpointManager, sql: Sql
) -> None:
    cm.save_checkpoint("train", 1, metadata={"run": "a"})
    sql("ALTER TABLE version DROP COLUMN metadata_run CASCADE")
    cm.save_checkpoint("train", 2, metadata={"run": "a"})
    assert numbers(cm.find(metadata={"run": "a"})) == [("train", 2), ("train", 1)]
    CheckpointManager(postgres_url, key=KEY, index=INDEX).close()
    assert sql("SELECT metadata_run FROM checkpoints") == [("a",), ("a",)]


def test_what_depends_on_a_column_is_not_destroyed(postgres_url: str, cm: CheckpointManager, sql: Sql) -> None:
    sql("CREATE VIEW of_mine AS SELECT * FROM checkpoints")
    with pytest.raises(StorageError, match="Drop what depends on the view"):
        CheckpointManager(postgres_url, key=KEY, index={})
    cm.save_checkpoint("train", 1, metadata={"run": "a"})
    assert sql("SELECT metadata_run FROM of_mine") == [("a",)]


def test_a_writer_reads_the_choice_again_after_a_while(postgres_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    with CheckpointManager(postgres_url, key=KEY) as cm:
        cm.save_checkpoint("train", 1)
        CheckpointManager(postgres_url, key=KEY, index={"status": True}).close()
        monkeypatch.setattr(index_module, "_FRESH_SECONDS", 0)
        cm.save_checkpoint("train", 2)
    assert sql("SELECT status FROM checkpoints") == [("completed",), ("completed",)]


def test_of_two_who_choose_at_once_one_decides_and_both_know(
    postgres_url: str, sql: Sql, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    CheckpointManager(postgres_url, key=KEY).save_checkpoint("train", 1, metadata={"run": "a", "owner": "me"})
    set_columns, others = PostgresBackend.set_columns, []

    def set_and_be_overtaken(backend: PostgresBackend, names: Iterable[str]) -> None:
        set_columns(backend, names)
        if not others:
            others.append(None)
            others[0] = CheckpointManager(postgres_url, key=KEY, index={"metadata": ["owner"]})

    monkeypatch.setattr(PostgresBackend, "set_columns", set_and_be_overtaken)
    with CheckpointManager(postgres_url, key=KEY, index={"metadata": ["run"]}) as cm, others[0] as other:
        assert cm._store.index.refresh() == other._store.index.refresh()
        assert cm._store.index.refresh().names == ("metadata_run",)
        assert sql("SELECT metadata_run FROM checkpoints") == [("a",)]
    assert "so nothing is" not in caplog.text


def test_an_index_of_a_large_table_is_built_while_others_save(
    postgres_url: str, cm: CheckpointManager, sql: Sql, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction with an older view of the tables keeps the index from being built."""
    cm.save_checkpoint("train", 1, metadata={"run": "a"})
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.5)
    server = postgres_url.partition("?")[0]
    with ThreadPoolExecutor(1) as pool, psycopg.connect(server) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT 1 FROM pg_class LIMIT 1")
        made = pool.submit(CheckpointManager, postgres_url, key=KEY, index={"metadata": ["run", "team"]})
        while not sql("SELECT 1 FROM pg_stat_progress_create_index WHERE relid = 'version'::regclass"):
            assert not made.done()
        assert cm.save_checkpoint("train", 2, metadata={"run": "a"}).number == 2
        assert not made.done()
        time.sleep(0.6)  # longer than an answer may take
        reader.rollback()
        made.result().close()
    assert sql("SELECT count(*) FROM pg_index WHERE indrelid = 'version'::regclass AND NOT indisvalid") == [(0,)]
    assert sql("SELECT metadata_team IS NULL FROM checkpoints") == [(True,), (True,)]


def test_an_index_whose_builder_was_killed_is_built_again(postgres_url: str, cm: CheckpointManager, sql: Sql) -> None:
    sql("UPDATE pg_index SET indisvalid = false WHERE indrelid = 'version'::regclass AND NOT indisprimary")
    CheckpointManager(postgres_url, key=KEY, index={"metadata": ["run"]}).close()
    assert sql("SELECT count(*) FROM pg_index WHERE indrelid = 'version'::regclass AND NOT indisvalid") == [(0,)]


def test_a_database_that_can_not_hold_every_text_refuses_an_index(postgres_url: str, sql: Sql) -> None:
    server, _, schema = postgres_url.partition("?schema=")
    sql(f"CREATE DATABASE latin_{schema} ENCODING 'LATIN1' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'")
    try:
        url = f"{server.rpartition('/')[0]}/latin_{schema}"
        with pytest.raises(LocationError, match="has the encoding LATIN1, which can't hold every indexed field"):
            CheckpointManager(url, key=KEY, index=INDEX)
        with CheckpointManager(url, key=KEY) as cm:
            cm.save_checkpoint("日本", 1, metadata={"run": "日本"})
            assert numbers(cm.find(metadata={"run": "日本"})) == [("日本", 1)]
    finally:
        sql(f"DROP DATABASE latin_{schema} WITH (FORCE)")


# Older forms of the tables


def to_the_first_form(sql: Sql) -> None:
    sql("DROP VIEW checkpoints; ALTER TABLE version DROP COLUMN indexed; UPDATE format SET form = 1")


def test_an_older_form_is_read_and_brought_up_by_those_who_write(postgres_url: str, sql: Sql) -> None:
    CheckpointManager(postgres_url, key=KEY).save_checkpoint("train", 1, metadata={"run": "a"})
    to_the_first_form(sql)
    with CheckpointManager(postgres_url, key=KEY) as reader:
        assert reader.load_checkpoint("train") == 1
        assert numbers(reader.find(metadata={"run": "a"})) == [("train", 1)]
        assert sql("SELECT form FROM format") == [(1,)]
    managers = [CheckpointManager(postgres_url, key=KEY) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda cm: cm.save_checkpoint("train", 2), managers))
    assert sql("SELECT form FROM format") == [(tables.FORM,)]
    assert [row[:2] for row in sql(EVERYTHING)] == [("train", number) for number in range(1, 6)]


def test_indexes_that_several_choose_at_once_are_made_once(postgres_url: str, sql: Sql) -> None:
    CheckpointManager(postgres_url, key=KEY).save_checkpoint("train", 1, metadata={"run": "a"})
    to_the_first_form(sql)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: CheckpointManager(postgres_url, key=KEY, index={"metadata": ["run"]}), range(4)))
    for each in made:
        each.close()
    assert sql("SELECT metadata_run FROM checkpoints") == [("a",)]
    assert len(sql("SELECT 1 FROM pg_indexes WHERE schemaname = current_schema() AND tablename = 'version'")) == 3


def test_who_may_not_change_the_tables_writes_into_an_older_form_and_can_not_choose(postgres_url: str, sql: Sql) -> None:
    CheckpointManager(postgres_url, key=KEY).save_checkpoint("train", 1)
    to_the_first_form(sql)
    schema = postgres_url.partition("?schema=")[2]
    user = f"user_{schema}"
    sql(f"CREATE ROLE {user} LOGIN")
    try:
        sql(f"GRANT USAGE ON SCHEMA {schema} TO {user}")
        sql(f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {user}")
        with CheckpointManager(postgres_url.replace("//checkpoints@", f"//{user}@"), key=KEY) as cm:
            cm.save_checkpoint("train", 2, metadata={"run": "a"})
            assert cm.load_checkpoint("train") == 2
            assert numbers(cm.find(metadata={"run": "a"})) == [("train", 2)]
        with pytest.raises(StorageError, match="must be owner"):
            CheckpointManager(postgres_url.replace("//checkpoints@", f"//{user}@"), key=KEY, index=INDEX)
    finally:
        sql(f"DROP OWNED BY {user}; DROP ROLE {user}")
