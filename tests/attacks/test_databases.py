"""The administrator of the database is the attacker: he changes any row, and has no key."""

from __future__ import annotations

import contextlib
import sqlite3
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, IntegrityError, LocationError, RollbackError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Administrator = Callable[..., list[tuple[Any, ...]]]

KEY = bytes(32)
LARGE = "x" * 2_500_000


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'store.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
def administrator(url: str) -> Administrator:
    """Return what runs statements behind the library's back, with ``?`` for parameters."""

    def execute(statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        if url.startswith("sqlite"):
            with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as connection:
                return connection.execute(statement, parameters).fetchall()
        server, _, schema = url.partition("?schema=")
        with psycopg.connect(server, autocommit=True, options=f"-c search_path={schema}") as connection:
            cursor = connection.execute(statement.replace("%", "%%").replace("?", "%s"), parameters)
            return cursor.fetchall() if cursor.description else []

    return execute


def opened(url: str) -> CheckpointManager:
    return CheckpointManager(url, key=KEY)


@pytest.fixture
def cm(url: str) -> CheckpointManager:
    """Return a store of two stages with three versions each."""
    cm = opened(url)
    for stage in ("train", "parse"):
        for number in range(1, 4):
            cm.save_checkpoint(stage, [stage, number], metadata={"note": "the marker of metadata"})
    return cm


COPY = "UPDATE version SET (size, content) = (SELECT size, content FROM version WHERE stage = ? AND number = ?) WHERE stage = ?"


@pytest.mark.parametrize(("stage", "number"), [(b"train", 1), (b"train", 2), (b"parse", 3)])
def test_a_row_in_the_place_of_another_is_refused(
    cm: CheckpointManager, administrator: Administrator, stage: bytes, number: int
) -> None:
    administrator(f"{COPY} AND number = 3", stage, number, b"train")
    assert not cm.has_checkpoint("train")
    with pytest.raises(IntegrityError):
        cm.load_checkpoint("train")
    assert [each.status for each in cm.history("train")] == ["damaged", "completed", "completed"]
    assert cm.load_checkpoint("parse") == ["parse", 3]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE version SET number = 4 WHERE stage = ? AND number = 3",
        "UPDATE version SET size = 0 WHERE stage = ? AND number = 3",
        "UPDATE version SET size = 9000000000000000000 WHERE stage = ? AND number = 3",
        "UPDATE version SET size = -1 WHERE stage = ? AND number = 3",
        "UPDATE version SET content = substr(content, 1, 200) WHERE stage = ? AND number = 3",
        "UPDATE version SET content = substr(content, 1, 0) WHERE stage = ? AND number = 3",
    ],
)
def test_a_changed_row_is_refused(cm: CheckpointManager, administrator: Administrator, change: str) -> None:
    administrator(change, b"train")
    with contextlib.suppress(IntegrityError, RollbackError):
        assert cm.load_checkpoint("train") == ["train", 3]  # where the size only told the client what it reads anyway


@pytest.mark.parametrize(
    "statement", ["DELETE FROM version WHERE stage = ? AND number = 3", "DELETE FROM version WHERE stage = ?"]
)
def test_rows_that_were_deleted_are_a_rollback(cm: CheckpointManager, administrator: Administrator, statement: str) -> None:
    administrator(statement, b"train")
    for act in (cm.load_checkpoint, cm.has_checkpoint, cm.history, lambda stage: cm.save_checkpoint(stage, 0)):
        with pytest.raises(RollbackError):
            act("train")


def test_rows_that_were_put_back_are_a_rollback(cm: CheckpointManager, administrator: Administrator, url: str) -> None:
    before = administrator("SELECT * FROM record ORDER BY stage, name")
    cm.delete_versions("train", [1])
    cm.keys.rotate()
    administrator("DELETE FROM record")
    for row in before:
        administrator("INSERT INTO record VALUES (?, ?, ?, ?)", *row)
    with pytest.raises(RollbackError):
        opened(url)


def test_a_record_of_deletions_that_is_gone_is_a_rollback(cm: CheckpointManager, administrator: Administrator) -> None:
    cm.delete_versions("train", [1])
    administrator("DELETE FROM record WHERE name = 'gaps'")
    with pytest.raises(RollbackError):
        cm.history("train")


def test_a_deleted_version_put_back_as_a_row_is_not_served(cm: CheckpointManager, administrator: Administrator) -> None:
    columns = "stage, number, size, content"
    before = administrator(f"SELECT {columns} FROM version WHERE stage = ? AND number = 1", b"train")[0]
    cm.delete_versions("train", [1])
    administrator(f"INSERT INTO version ({columns}) VALUES (?, ?, ?, ?)", *before)
    with pytest.raises(CheckpointNotFoundError):
        cm.load_checkpoint("train", 1)
    assert [each.number for each in cm.history("train")] == [3, 2]


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM chunk WHERE part = 1",
        "DELETE FROM chunk",
        "UPDATE chunk SET content = substr(content, 2) WHERE part = 1",
        "UPDATE chunk SET content = (SELECT content FROM chunk WHERE part = 0) WHERE part = 1",
    ],
)
def test_chunks_that_are_missing_moved_or_cut_are_refused(url: str, administrator: Administrator, change: str) -> None:
    cm = opened(url)
    cm.save_checkpoint("train", LARGE)
    assert cm.load_checkpoint("train") == LARGE
    administrator(change)
    with pytest.raises(IntegrityError):
        cm.load_checkpoint("train")
    assert [each.state for each in cm.verify().problems] == ["damaged"]


def test_a_planted_stage_does_not_count_and_stops_nothing(cm: CheckpointManager, administrator: Administrator) -> None:
    planted: list[tuple[bytes, int]] = [
        (b"planted", 1),
        (b"\xff\x00", 1),
        (b"", 1),
        (b"x" * 9999, 1),
        (b"train", -1),
        (b"train", 0),
    ]
    planted += [(b"train", 10**15), (b"train", 2**63 - 1)]
    for stage, number in planted:
        administrator("INSERT INTO version (stage, number, size, content) VALUES (?, ?, ?, ?)", stage, number, 1, b"x")
    assert cm.stages() == ["parse", "train"]
    assert cm.load_checkpoint("train") == ["train", 3]
    assert cm.save_checkpoint("train", 4).number == 4


def test_an_attachment_that_was_exchanged_is_refused(url: str, administrator: Administrator) -> None:
    cm = opened(url)
    for number in (1, 2):
        cm.save_checkpoint("train", number, attachments={"weights": b"%d" % number * 1000})
    (first,), (second,) = administrator("SELECT attachment FROM segment ORDER BY attachment")
    content = administrator("SELECT content FROM segment WHERE attachment = ?", first)[0][0]
    administrator("UPDATE segment SET content = ? WHERE attachment = ?", content, second)
    refused = 0
    for number in (1, 2):
        try:
            assert cm.get_checkpoint("train", number).attachments["weights"].read() == b"%d" % number * 1000
        except IntegrityError:
            refused += 1
    assert refused == 1


def test_no_row_holds_what_was_saved(cm: CheckpointManager, administrator: Administrator) -> None:
    cm.save_checkpoint("train", "the marker of data", attachments={"the marker of a name": b"the marker of an attachment"})
    cm.tag("train", 1, "the-marker-of-a-tag")
    for table in ("version", "chunk", "segment", "record", "quarantine"):
        assert not [row for row in administrator(f"SELECT * FROM {table}") if b"marker" in repr(row).encode()]


def planted_at_length(url: str) -> dict[str, str]:
    """Return statements that plant what is longer than anything of ours: 20 MB, or as much as an index of the server holds."""
    blob = "zeroblob(20000000)"
    if url.startswith("sqlite"):
        return {
            "stamps": f"UPDATE record SET stamp = {blob}",
            "chunks": f"INSERT INTO chunk VALUES (CAST('train' AS BLOB), {blob}, 0, x'00')",
            "an attachment": f"INSERT INTO segment VALUES (CAST('train' AS BLOB), {blob}, 0, 1, x'00', NULL)",
        }
    return {
        "an attachment": "INSERT INTO segment VALUES ('train', E'\\x1b[2J' || repeat('x', 200000), 0, 1, 'x', NULL)",
        "a notice": "INSERT INTO record VALUES ('train', 'run ' || repeat('x', 200000), gen_random_uuid(), 'x')",
    }


def test_what_is_longer_than_anything_of_ours_stops_nothing_and_is_shown_nowhere(
    cm: CheckpointManager, administrator: Administrator, url: str
) -> None:
    cm.delete_versions("train", [1])
    cm.tag("train", 2, "good")
    for statement in planted_at_length(url).values():
        administrator(statement)
    tracemalloc.start()
    try:
        for each in (cm, opened(url)):
            number = each.save_checkpoint("train", "more", attachments={"a": b"x"}).number
            assert [each.load_checkpoint("train"), each.load_checkpoint("train", "good")] == ["more", ["train", 2]]
            assert [version.number for version in each.history("train")] == [*range(number, 1, -1)]
            assert each.running() == []
            report = each.verify()
            assert report.ok
            assert all(finding.detail.isprintable() and len(finding.detail) < 500 for finding in report.problems)
            each.repair()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("url", ["sqlite"], indirect=True)
def test_a_row_that_is_too_long_is_damage_and_is_not_read(cm: CheckpointManager, administrator: Administrator) -> None:
    administrator("UPDATE version SET content = NULL, upload = zeroblob(90000000) WHERE stage = ? AND number = 3", b"train")
    administrator("UPDATE version SET content = zeroblob(2000000) WHERE stage = ? AND number = 2", b"parse")
    with pytest.raises(IntegrityError, match="too big"):
        cm.load_checkpoint("train")
    assert not cm.has_checkpoint("train")
    with pytest.raises(IntegrityError):
        cm.load_checkpoint("parse", 2)
    administrator("DELETE FROM version WHERE stage = ? AND number = 3", b"train")
    cm.repair()
    assert administrator("SELECT number, content FROM quarantine") == [(2, None)], "it can't be a version of ours"


@pytest.mark.parametrize("url", ["postgres"], indirect=True)
def test_rows_that_say_whose_the_tables_are_can_be_any_number_of_any_length(
    cm: CheckpointManager, administrator: Administrator, url: str
) -> None:
    cm.close()
    administrator("INSERT INTO format SELECT repeat('x', 1000000), 1 FROM generate_series(1, 50)")
    tracemalloc.start()
    try:
        with pytest.raises(LocationError, match="tables of another program"):
            opened(url).load_checkpoint("train")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()
