"""Attacks on a thread by someone who may write to the store: ours notices them, and LangGraph's encrypted saver not all."""

from __future__ import annotations

import os
import pickle
import shutil
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, FormatError, IntegrityError, RollbackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("langgraph.checkpoint.sqlite")
pytest.importorskip("agmi")

from agmi.attacks.at_rest import AT_REST_ATTACKS_WITH_SNAPSHOT, Attack
from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer
from langgraph.checkpoint.sqlite import SqliteSaver

from checkpoint_manager.integrations.langgraph import CheckpointSaver
from tests.integrations.edited import Files

KEY = bytes(range(32))
MARKERS = [f"marker-{name}" for name in ("value", "channel", "namespace", "task", "run", "user", "node", "write")]


def config(thread: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}


def put(saver: Any, thread: str, value: object) -> None:
    saver.put(config(thread), {**empty_checkpoint(), "channel_values": {"v": value}}, {"source": "loop"}, {"v": 1})


def open_saver(place: Path) -> CheckpointSaver:
    return CheckpointSaver(CheckpointManager(place, key=KEY))


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[SqliteSaver]:
    connection = sqlite3.connect(tmp_path / "theirs.db")
    yield SqliteSaver(connection, serde=EncryptedSerializer.from_pycryptodome_aes(key=KEY))
    connection.close()


def test_a_checkpoint_of_another_thread_is_refused(tmp_path: Path, theirs: SqliteSaver) -> None:
    for saver in (open_saver(tmp_path / "store"), theirs):
        put(saver, "alice", "hers")
        put(saver, "mallory", "his")
    theirs.conn.execute("UPDATE checkpoints SET checkpoint = (SELECT checkpoint FROM checkpoints WHERE thread_id = 'mallory')")
    assert theirs.get_tuple(config("alice")).checkpoint["channel_values"] == {"v": "his"}
    for folder, name in (("history/langgraph%2f{}", "000000000001"), (".", "langgraph%2f{}")):
        source, target = (tmp_path / "store" / folder.format(who) for who in ("mallory", "alice"))
        os.replace(source / f"{name.format('mallory')}.checkpoint", target / f"{name.format('alice')}.checkpoint")
    with pytest.raises(IntegrityError):
        open_saver(tmp_path / "store").get_tuple(config("alice"))


def test_plaintext_is_refused_and_nothing_of_it_is_deserialised(tmp_path: Path, theirs: SqliteSaver) -> None:
    for saver in (open_saver(tmp_path / "store"), theirs):
        put(saver, "1", "genuine")
    kind, forged = JsonPlusSerializer().dumps_typed({**empty_checkpoint(), "channel_values": {"v": "forged"}})
    theirs.conn.execute("UPDATE checkpoints SET type = ?, checkpoint = ?", (kind, forged))
    assert theirs.get_tuple(config("1")).checkpoint["channel_values"] == {"v": "forged"}
    for path in (tmp_path / "store").rglob("*.checkpoint"):
        path.chmod(0o600)
        header, _, _ = path.read_bytes().partition(b"\n")
        path.write_bytes(header + b"\n" + forged)
    saver = open_saver(tmp_path / "store")
    seen: list[object] = []
    saver.serde = Recording(seen)
    for read in (lambda: saver.get_tuple(config("1")), lambda: list(saver.list(config("1"))), lambda: put(saver, "1", 2)):
        with pytest.raises(IntegrityError):
            read()
    assert seen == []


class Recording(JsonPlusSerializer):
    def __init__(self, seen: list[object]) -> None:
        super().__init__()
        self.seen = seen

    def loads_typed(self, data: Any) -> Any:
        self.seen.append(data)
        return super().loads_typed(data)


def test_an_older_thread_is_noticed(tmp_path: Path) -> None:
    put(open_saver(tmp_path / "store"), "1", "old")
    shutil.copytree(tmp_path / "store", tmp_path / "copy")
    put(open_saver(tmp_path / "store"), "1", "new")
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "copy").rename(tmp_path / "store")
    with pytest.raises(RollbackError):
        open_saver(tmp_path / "store").get_tuple(config("1"))


def test_a_checkpoint_that_is_gone_is_missed_even_where_the_index_was_deleted(tmp_path: Path) -> None:
    saver = open_saver(tmp_path / "store")
    for number in range(30):
        put(saver, "1", number)
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    holder = cm.load_checkpoint("langgraph/1")["index_at"]
    cm.delete_versions("langgraph/1", [holder])
    assert len(list(open_saver(tmp_path / "store").list(config("1")))) == 29
    (tmp_path / "store" / "history" / "langgraph%2f1" / "000000000003.checkpoint").unlink()
    with pytest.raises(IntegrityError, match=r"version 3 .* missing"):
        open_saver(tmp_path / "store").get_tuple(config("1"))
    cm.accept_rollback("langgraph/1")
    assert len(list(open_saver(tmp_path / "store").list(config("1")))) == 28


def test_something_else_under_the_name_of_a_thread_is_refused(tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "store", key=KEY).save_checkpoint("langgraph/notes", {"mine": 1})
    saver = open_saver(tmp_path / "store")
    for read in (lambda: saver.get_tuple(config("notes")), lambda: list(saver.list(None)), lambda: put(saver, "notes", 1)):
        with pytest.raises(FormatError, match="something other than"):
            read()


@pytest.mark.parametrize("location", ["{}", "sqlite:///{}"])
def test_nothing_but_the_id_of_the_thread_is_readable(location: str, tmp_path: Path) -> None:
    place = tmp_path / "store"
    value, channel, namespace, task, run, user, node, write = MARKERS
    with CheckpointManager(location.format(place), key=KEY) as cm:
        asked = {"configurable": {"thread_id": "thread-7", "checkpoint_ns": namespace, "user": user}}
        made = {**empty_checkpoint(), "channel_values": {channel: value}, "versions_seen": {node: {channel: 1}}}
        stored = CheckpointSaver(cm).put(asked, made, {"source": "loop", "run_id": run}, {channel: 1})
        CheckpointSaver(cm).put_writes(stored, [(channel, write)], task)
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert [marker for marker in [*MARKERS, made["id"]] if marker.encode() in written] == []


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    saver = open_saver(tmp_path / "store")
    saver.serde = JsonPlusSerializer(pickle_fallback=True)
    put(saver, "1", Opaque())
    with pytest.raises(NotImplementedError, match="pickle"):
        open_saver(tmp_path / "store").get_tuple(config("1"))
    with pytest.raises(TypeError):
        put(open_saver(tmp_path / "other"), "1", Opaque())


class Opaque:
    """Only pickle can write it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Opaque, ()


assert pickle.loads(pickle.dumps(Opaque()))


def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    """The files hold no version of it: neither its checkpoints nor its writes, nor those that were put again."""
    saver = open_saver(tmp_path / "store")
    for thread in ("1", "2"):
        for number in range(4):
            made = {**empty_checkpoint(), "id": str(number // 2)}
            stored = saver.put(config(thread), made, {"run_id": f"run {number // 2}"}, {})
            saver.put_writes(stored, [("v", number)], "task")
    history = tmp_path / "store" / "history"
    saver.delete_for_runs(["run 0"])
    for thread in ("1", "2"):
        files = sorted(path.name for path in (history / f"langgraph%2f{thread}").glob("*.checkpoint"))
        assert files == [f"{number:012}.checkpoint" for number in (5, 6, 7, 8, 9)]
    saver.delete_thread("1")
    assert len(list((history / "langgraph%2f1").glob("*.checkpoint"))) == 1  # the marker of the deletion, without data
    assert saver.get_tuple(config("1")) is None
    assert [each.config["configurable"]["thread_id"] for each in saver.list(None)] == ["2"]


class Threads(Files):
    """The files of a thread, for the judge."""

    prefix = "langgraph"

    def save(self, cm: CheckpointManager, name: str, number: int) -> None:
        put(CheckpointSaver(cm), name, f"{name} {number}")


def reads(cm: CheckpointManager) -> bool:
    """Read as a graph does: the newest checkpoint, and those before it."""
    saver = CheckpointSaver(cm)
    try:
        saver.get_tuple(config("train"))
        list(saver.list(config("train")))
    except CheckpointError:
        return False
    return True


def test_a_thread_that_nobody_edited_reads_well(tmp_path: Path) -> None:
    judged = Threads(tmp_path / "store", reads, keep_header=False)
    judged.setup()
    judged.seed(5)
    judged.reload()
    assert judged.verify()


@pytest.mark.parametrize("keep_header", [False, True], ids=["whole file", "header kept"])
@pytest.mark.parametrize("attack", AT_REST_ATTACKS_WITH_SNAPSHOT, ids=lambda attack: attack.name)
def test_each_edit_is_noticed_by_reading_the_thread(attack: type[Attack], tmp_path: Path, *, keep_header: bool) -> None:
    result = attack().run(Threads(tmp_path / "store", reads, keep_header=keep_header))
    assert (result.status, result.error, result.guard) == ("safe", None, None)


@pytest.mark.parametrize("attack", AT_REST_ATTACKS_WITH_SNAPSHOT, ids=lambda attack: attack.name)
def test_the_judge_sees_a_saver_that_notices_nothing(attack: type[Attack], tmp_path: Path) -> None:
    result = attack().run(Threads(tmp_path / "store", lambda _: True, keep_header=False))
    assert result.status == "VULNERABLE"
