"""The checkpointer beside LangGraph's own in memory, with names of any text, and with graphs that run on it."""

from __future__ import annotations

import asyncio
import operator
import random
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import pytest

from checkpoint_manager import (
    ArgumentError,
    AsyncCheckpointManager,
    CheckpointManager,
    PayloadError,
    Retention,
    StorageError,
    VersionConflictError,
)

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("langgraph.graph")

from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from checkpoint_manager.integrations import _records
from checkpoint_manager.integrations import langgraph as integration
from checkpoint_manager.integrations.langgraph import CheckpointSaver, pruning

KEY = bytes(range(32))
TEXTS = ["", "a", "a/b", "a%2Fb", "%", "..", "ä", "e\u0301", "\0", "\n", "x" * 5000, "con", "💥", "A", "checkpoint_ns"]


def new(place: Path, **settings: Any) -> CheckpointSaver:
    return CheckpointSaver(CheckpointManager(place / "store", key=KEY, durability="relaxed"), **settings)


def config(thread: object, ns: str = "", id_: str | None = None) -> dict[str, Any]:
    return {"configurable": {"thread_id": thread, "checkpoint_ns": ns, **({"checkpoint_id": id_} if id_ else {})}}


def checkpoint(id_: str, **values: Any) -> Any:
    return {**empty_checkpoint(), "id": id_, "channel_values": values, "channel_versions": dict.fromkeys(values, 1)}


def put(saver: BaseCheckpointSaver, thread: object, id_: str, *, ns: str = "", **values: Any) -> dict[str, Any]:
    return saver.put(config(thread, ns), checkpoint(id_, **values), {"source": "loop", "step": 1}, dict.fromkeys(values, 1))


def ids(saver: CheckpointSaver, thread: object, ns: str = "") -> list[str]:
    return [each.config["configurable"]["checkpoint_id"] for each in saver.list(config(thread, ns))]


# Beside LangGraph's own


@pytest.mark.parametrize("seed", range(6))
def test_it_answers_as_the_saver_in_memory(seed: int, tmp_path: Path) -> None:
    """Random calls on few names: checkpoints put again, writes before and after, children of any parent, deleted threads."""
    chance = random.Random(seed)
    ours, theirs = new(tmp_path), InMemorySaver()
    threads, spaces, names = ["1", "2"], ["", "child:1"], [f"{number:03}" for number in range(12)]
    channels = ["a", "b", "__error__", "__interrupt__"]
    for number in range(120):
        thread, ns, id_ = chance.choice(threads), chance.choice(spaces), chance.choice(names)
        what = chance.random()
        if what < 0.4:
            parent = config(thread, ns, chance.choice([None, *names]))
            made = checkpoint(id_, a=number)
            made["channel_versions"] = {"a": number + 1}
            metadata = {"source": "loop", "step": chance.randrange(3), "parents": {}}
            for saver in (ours, theirs):
                saver.put(parent, made, metadata, {"a": number + 1})
        elif what < 0.97:
            writes = [(chance.choice(channels), [number, at]) for at in range(chance.randrange(3))]
            task, path = chance.choice("xyz"), chance.choice(["", "p", "q"])
            for saver in (ours, theirs):
                saver.put_writes(config(thread, ns, id_), writes, task, path)
        else:
            for saver in (ours, theirs):
                saver.delete_thread(thread)
        asked = config(thread, ns, chance.choice([None, id_]))
        assert as_plain(ours.get_tuple(asked)) == as_plain(theirs.get_tuple(asked))
    again = new(tmp_path)
    for thread in threads:
        for ns in spaces:
            for criteria in ({}, {"filter": {"step": 1}}, {"before": config(thread, ns, "006")}, {"limit": 2}):
                found = [as_plain(each) for each in again.list(config(thread, ns), **criteria)]
                assert found == [as_plain(each) for each in theirs.list(config(thread, ns), **criteria)]


def as_plain(found: Any) -> Any:
    if found is None:
        return None
    parent = found.parent_config and found.parent_config["configurable"]["checkpoint_id"]
    return found.config["configurable"]["checkpoint_id"], found.checkpoint, found.metadata, parent, found.pending_writes


# Names


@pytest.mark.parametrize("thread", [*TEXTS, 7], ids=ascii)
def test_a_thread_has_an_id_of_any_text(thread: object, tmp_path: Path) -> None:
    saver = new(tmp_path)
    put(saver, thread, "1", value=1)
    put(saver, f"{thread} other", "2", value=2)
    assert saver.get_tuple(config(thread)).checkpoint["channel_values"] == {"value": 1}
    assert saver.get_tuple(config(thread)).config["configurable"]["thread_id"] == str(thread)


def test_a_name_that_is_not_valid_unicode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadError, match="surrogate"):
        put(new(tmp_path), "\ud800", "1")


def test_names_of_any_text_are_told_apart(tmp_path: Path) -> None:
    saver = new(tmp_path)
    for number, name in enumerate(TEXTS):
        put(saver, name, f"1{name}", ns=f"{name}", **{f"channel {name}": number})
        saver.put_writes(config(name, name, f"1{name}"), [(name, number)], name, name)
    assert len({each.config["configurable"]["thread_id"] for each in new(tmp_path).list(None)}) == len(TEXTS)
    for number, name in enumerate(TEXTS):
        (found,) = new(tmp_path).list(config(name, name))
        assert found.checkpoint["channel_values"] == {f"channel {name}": number}
        assert found.pending_writes == [(name, name, number)]


# Deleting


def test_the_last_checkpoints_of_each_namespace_are_kept(tmp_path: Path) -> None:
    saver = new(tmp_path, keep_last=3)
    put(saver, "1", "000", ns="child")
    for number in range(40):
        put(saver, "1", f"{number:03}")
        saver.put_writes(config("1", "", f"{number:03}"), [("a", number)], "task")
    assert ids(saver, "1")[:3] == ["039", "038", "037"]
    assert len(ids(saver, "1")) <= 3 + 8
    assert ids(saver, "1", "child") == ["000"]
    assert saver.get_tuple(config("1", "", "037")).pending_writes == [("task", "a", 37)]
    left = {
        version.metadata["checkpoint_id"] for version in CheckpointManager(tmp_path / "store", key=KEY).history("langgraph/1")
    }
    assert "000" in left
    assert "020" not in left


def test_a_pruning_that_fails_fails_no_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any) -> None:
        raise StorageError("the medium fails")

    saver = new(tmp_path, keep_last=1)
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "delete_versions", refuse)
        for number in range(12):
            put(saver, "1", f"{number:03}")
    assert "could not be pruned: the medium fails" in caplog.text
    for number in range(12, 30):
        put(saver, "1", f"{number:03}")
    assert len(ids(saver, "1")) <= 1 + 8


def test_a_thread_with_delta_channels_is_not_pruned_at_each_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a delta channel needs counts as kept, or each step would look through the whole history."""
    pruned: list[int] = []
    kept = pruning.kept
    monkeypatch.setattr(pruning, "kept", lambda *args: pruned.append(1) or kept(*args))
    saver, parent = new(tmp_path, keep_last=1), None
    for number in range(60):
        made = {**checkpoint(f"{number:03}"), "channel_versions": {"lines": number}}
        saver.put(config("1", "", parent), made, {"counters_since_delta_snapshot": {"lines": (number, number)}}, {})
        parent = f"{number:03}"
    assert 0 < len(pruned) <= 10
    assert ids(saver, "1") == [f"{number:03}" for number in reversed(range(60))]


def test_a_manager_with_a_retention_and_an_asynchronous_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="retention"):
        CheckpointSaver(CheckpointManager(tmp_path / "store", key=KEY, retention=Retention(keep_last=4)))
    with pytest.raises(ArgumentError, match="a location or a CheckpointManager, not an AsyncCheckpointManager"):
        CheckpointSaver(AsyncCheckpointManager(tmp_path / "store", key=KEY))  # type: ignore[arg-type]


def test_a_tag_protects_a_checkpoint_from_pruning_and_not_from_deletion(tmp_path: Path) -> None:
    saver, cm = new(tmp_path), CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(4):
        saver.put(config("1"), checkpoint(str(number)), {"run_id": f"run {number}"}, {})
    cm.tag("langgraph/1", 2, "good")
    saver.prune(["1"])
    assert ids(new(tmp_path), "1") == ["3", "1"]
    saver.delete_for_runs(["run 1"])
    assert ids(new(tmp_path), "1") == ["3"]
    assert cm.tags("langgraph/1") == {}
    assert [version.metadata["checkpoint_id"] for version in cm.history("langgraph/1")] == ["", "3"]


def test_pruning_what_is_pruned_changes_nothing(tmp_path: Path) -> None:
    saver, cm = new(tmp_path), CheckpointManager(tmp_path / "store", key=KEY)
    saver.prune(["1"])
    for number in range(3):
        put(saver, "1", str(number))
    saver.prune(["1"])
    pruned = cm.history("langgraph/1")
    saver.prune(["1"])
    assert cm.history("langgraph/1") == pruned
    put(saver, "1", "3")
    saver.prune(["1"])
    assert [version.metadata["record"] for version in cm.history("langgraph/1")] == ["index", "checkpoint"]


def test_a_pruned_thread_is_taken_back_to_each_version_that_is_kept(tmp_path: Path) -> None:
    """Also if the version that held the index then is deleted, and over restored copies in between."""
    saver, cm = new(tmp_path, keep_last=3), CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(40):
        put(saver, "1", f"{number:03}")
        saver.put_writes(config("1", "", f"{number:03}"), [("a", number)], "task")
    saver._keep("langgraph/1", 3)
    kept = [version for version in cm.history("langgraph/1") if version.metadata["record"] != "index"]
    assert len(kept) == 6
    for version in [*kept, *reversed(kept)]:
        cm.restore_checkpoint("langgraph/1", version.number)
        expected = [f"{number:03}" for number in range(39, 36, -1) if number <= int(version.metadata["checkpoint_id"])]
        assert ids(new(tmp_path), "1") == expected
        assert bool(new(tmp_path).get_tuple(config("1")).pending_writes) == (version.metadata["record"] == "writes")
    cm.restore_checkpoint("langgraph/1", kept[-1].number)
    put(saver, "1", "100")
    assert ids(new(tmp_path), "1") == ["100", "037"]


def test_an_index_that_is_put_together_holds_what_the_thread_is_now(tmp_path: Path) -> None:
    saver, cm = new(tmp_path), CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(4):
        put(saver, "1", str(number))
    cm.restore_checkpoint("langgraph/1", 2)
    put(saver, "1", "9")
    cm.delete_versions("langgraph/1", [1])  # which holds the index
    assert ids(new(tmp_path), "1") == ["9", "1"]
    cm.clear_checkpoint("langgraph/1")
    put(saver, "1", "a")
    put(saver, "1", "b")
    cm.delete_versions("langgraph/1", [8])
    assert ids(new(tmp_path), "1") == ["b"]


def test_a_pruning_by_the_manager_is_seen_as_deletion(tmp_path: Path) -> None:
    """It may delete the version with the index, which is put together again from the metadata of all versions."""
    cm = CheckpointManager(tmp_path / "store", key=KEY, durability="relaxed")
    for number in range(50):
        put(CheckpointSaver(cm), "1", f"{number:03}", value=number)
    cm.prune(Retention(keep_last=4))
    assert ids(CheckpointSaver(cm), "1")[:4] == ["049", "048", "047", "046"]
    assert CheckpointSaver(cm).get_tuple(config("1", "", "010")) is None
    put(CheckpointSaver(cm), "1", "050")
    assert ids(CheckpointSaver(cm), "1")[:2] == ["050", "049"]


def test_a_deletion_that_was_killed_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = new(tmp_path)
    for number in range(5):
        saver.put(config("1"), checkpoint(str(number)), {"run_id": f"run {number % 2}"}, {})
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "delete_versions", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            saver.delete_for_runs(["run 1"])
    assert ids(new(tmp_path), "1") == ["4", "2", "0"]
    new(tmp_path).delete_for_runs(["run 1"])
    left = {
        version.metadata["checkpoint_id"] for version in CheckpointManager(tmp_path / "store", key=KEY).history("langgraph/1")
    }
    assert left == {"0", "2", "4", ""}


def test_two_processes_delete_the_same_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        put(new(tmp_path), "1", str(number))
    delete_versions = CheckpointManager.delete_versions

    saver = new(tmp_path)
    with monkeypatch.context() as patch:

        def second(*args: Any) -> Any:
            patch.undo()
            new(tmp_path).prune(["1"])
            return delete_versions(*args)

        patch.setattr(CheckpointManager, "delete_versions", second)
        saver.prune(["1"])
    assert ids(saver, "1") == ids(new(tmp_path), "1") == ["3"]


def test_a_writer_that_is_never_the_first_gives_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saver = new(tmp_path)
    put(saver, "1", "0")
    put(new(tmp_path), "1", "1")
    with monkeypatch.context() as patch:
        patch.setattr(_records, "_MOST_ATTEMPTS", 1)
        with pytest.raises(VersionConflictError):
            put(saver, "1", "2")
    put(saver, "1", "2")
    assert ids(saver, "1") == ["2", "1", "0"]


def test_the_indexes_of_the_threads_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_records, "_MOST_INDEXES", 2)
    saver = new(tmp_path)
    for number in range(6):
        put(saver, str(number % 3), str(number))
    assert [ids(saver, thread) for thread in "012"] == [["3", "0"], ["4", "1"], ["5", "2"]]
    assert len(saver._records._indexes) == 2


def test_writes_name_their_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="checkpoint_id"):
        new(tmp_path).put_writes(config("1"), [("a", 1)], "task")


def test_an_unknown_strategy_of_pruning_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="keep_latest"):
        new(tmp_path).prune(["1"], strategy="keep_all")
    with pytest.raises(ValueError, match="keep_last"):
        new(tmp_path, keep_last=0)


# What the store can do with a thread


def test_a_thread_can_be_restored_and_cleared_as_a_stage(tmp_path: Path) -> None:
    saver = new(tmp_path)
    for number in range(25):
        put(saver, "1", f"{number:03}", value=number)
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.restore_checkpoint("langgraph/1", 11)
    assert ids(saver, "1")[0] == "010"
    put(saver, "1", "100", value=100)
    assert ids(new(tmp_path), "1")[:2] == ["100", "010"]
    cm.clear_checkpoint("langgraph/1")
    assert saver.get_tuple(config("1")) is None
    put(saver, "1", "200")
    assert ids(new(tmp_path), "1") == ["200"]


def test_a_location_is_opened_and_closed_by_the_saver(tmp_path: Path) -> None:
    async def run() -> None:
        async with CheckpointSaver(f"sqlite:///{tmp_path}/agents.db") as saver:
            put(saver, "1", "1", value=1)

    asyncio.run(run())
    with CheckpointSaver(f"sqlite:///{tmp_path}/agents.db") as saver:
        assert ids(saver, "1") == ["1"]


# Graphs


class State(TypedDict):
    total: Annotated[int, operator.add]


def graph_on(saver: CheckpointSaver) -> Any:
    inner = StateGraph(State).add_node("inside", lambda _: {"total": interrupt("how many?")})
    inner.add_edge(START, "inside").add_edge("inside", END)
    builder = StateGraph(State).add_node("one", lambda _: {"total": 1}).add_node("nested", inner.compile())
    builder.add_edge(START, "one").add_edge("one", "nested").add_edge("nested", END)
    return builder.compile(checkpointer=saver)


def test_a_graph_is_interrupted_resumed_elsewhere_and_taken_back(tmp_path: Path) -> None:
    thread = {"configurable": {"thread_id": "7"}}
    stopped = graph_on(new(tmp_path)).invoke({"total": 0}, thread)
    assert stopped["__interrupt__"][0].value == "how many?"
    graph = graph_on(new(tmp_path))
    assert graph.get_state(thread, subgraphs=True).tasks[0].state.next == ("inside",)
    assert graph.invoke(Command(resume=10), thread)["total"] == 12
    before = next(state for state in graph.get_state_history(thread) if state.next == ("nested",))
    graph_on(new(tmp_path)).invoke(None, before.config)
    assert graph_on(new(tmp_path)).invoke(Command(resume=5), thread)["total"] == 7


def test_a_graph_runs_in_an_event_loop(tmp_path: Path) -> None:
    async def run() -> int:
        graph, thread = graph_on(new(tmp_path)), {"configurable": {"thread_id": "7"}}
        await graph.ainvoke({"total": 0}, thread)
        result = await graph.ainvoke(Command(resume=10), thread)
        return int(result["total"])

    assert asyncio.run(run()) == 12


def all_lines(old: list[str], new: list[list[str]]) -> list[str]:
    return [*old, *(line for lines in new for line in lines)]


class Log(TypedDict):
    lines: Annotated[list[str], DeltaChannel(all_lines, list, snapshot_frequency=5)]
    other: int


@pytest.mark.parametrize("keep", [{}, {"keep_last": 2}], ids=["pruned", "keep_last"])
def test_pruning_keeps_what_a_delta_channel_needs(keep: dict[str, int], tmp_path: Path) -> None:
    builder = StateGraph(Log).add_node("say", lambda state: {"lines": [f"line {len(state['lines'])}"], "other": 1})
    graph = builder.add_edge(START, "say").add_edge("say", END).compile(checkpointer=new(tmp_path, **keep))
    thread = {"configurable": {"thread_id": "7"}}
    said = [f"line {number}" for number in range(12)]
    for number in range(12):
        graph.invoke({"other": 0}, thread)
        assert graph.get_state(thread).values["lines"] == said[: number + 1]
    saver = new(tmp_path)
    saver.prune(["7"])
    graph = builder.compile(checkpointer=new(tmp_path))
    assert graph.get_state(thread).values["lines"] == said
    assert 1 < len(ids(saver, "7")) < 12
    assert graph.invoke({"other": 0}, thread)["lines"] == [*said, "line 12"]


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = str(integration.__doc__).split("::\n")[1].split("\n**")[0]
    builder = StateGraph(dict).add_node("hello", lambda state: state)
    names: dict[str, Any] = {"builder": builder.add_edge(START, "hello").add_edge("hello", END)}
    exec("\n".join(line.removeprefix("    ") for line in example.splitlines()), names)
    with CheckpointSaver("sqlite:///agents.db") as saver:
        assert builder.compile(checkpointer=saver).get_state({"configurable": {"thread_id": "7"}}).values == {
            "messages": ["hello"]
        }
