"""The storage for Microsoft's Agent Framework: beside its own in memory, as its conformance tests ask, attacked and killed."""

from __future__ import annotations

import asyncio
import copy
import os
import random
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import ArgumentError, CheckpointError, CheckpointManager, IntegrityError, Retention
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("agent_framework")
pytest.importorskip("agmi")

from agent_framework import (
    Executor,
    InMemoryCheckpointStorage,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowCheckpointException,
    WorkflowContext,
    WorkflowEvent,
    handler,
    register_checkpoint_type,
)
from agent_framework._workflows._runner_context import WorkflowMessage
from agmi.attacks.at_rest import AT_REST_ATTACKS_WITH_SNAPSHOT, Attack

from checkpoint_manager.integrations import agent_framework as integration
from checkpoint_manager.integrations.agent_framework import CheckpointStorage
from tests.integrations.edited import Files

TEXTS = ["", "a", "a/b", "a%2Fb", "..", "ä", "\0", "x" * 3000, "💥"]


@pytest.fixture
def new(tmp_path: Path) -> Callable[..., CheckpointStorage]:
    return lambda **settings: CheckpointStorage(CheckpointManager(tmp_path / "store", key=bytes(32)), **settings)


def checkpoint(workflow: str = "w", **fields: Any) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(workflow_name=workflow, graph_signature_hash="hash", **fields)


@pytest.mark.parametrize("seed", range(2))
def test_it_answers_as_the_storage_in_memory(seed: int, new: Callable[..., CheckpointStorage]) -> None:
    async def run() -> None:
        chance, ours, theirs = random.Random(seed), new(), InMemoryCheckpointStorage()
        names = [f"id {number}" for number in range(8)]
        for number in range(60):
            id_ = chance.choice(names)
            workflow = f"workflow {names.index(id_) % 2}"
            if chance.random() < 0.7:
                made = checkpoint(workflow, checkpoint_id=id_, state={"number": number}, metadata={"a": [number]})
                if chance.random() < 0.3:
                    made.timestamp = f"2026-01-01T00:00:{number:02}+02:00"
                assert await ours.save(made) == await theirs.save(made) == id_
            else:
                assert await ours.delete(id_) == await theirs.delete(id_)
            latest = [await each.get_latest(workflow_name=workflow) for each in (ours, theirs)]
            assert latest[0] == latest[1]
        for workflow in ("workflow 0", "workflow 1", "unknown"):
            found = await new().list_checkpoints(workflow_name=workflow)
            expected = await theirs.list_checkpoints(workflow_name=workflow)
            assert sorted(found, key=str) == sorted(expected, key=str)
            assert sorted(await new().list_checkpoint_ids(workflow_name=workflow)) == sorted(
                each.checkpoint_id for each in expected
            )
        for id_ in names:
            try:
                expected_one = await theirs.load(id_)
            except WorkflowCheckpointException:
                with pytest.raises(WorkflowCheckpointException):
                    await new().load(id_)
            else:
                assert await new().load(id_) == expected_one

    asyncio.run(run())


@dataclass
class Opaque:
    """Only pickle can copy it."""

    value: str

    def __deepcopy__(self, memo: object) -> Any:
        raise TypeError


MADE = {
    "state": {"nested": {"deep": ["original"]}},
    "messages": {"executor": [WorkflowMessage(source_id="a", target_id="b", data=["original"])]},
    "pending_request_info_events": {"request": WorkflowEvent(type="test", data=["original"])},
    "metadata": {"nested": {"deep": ["original"]}},
}
FIRST: dict[str, Callable[[WorkflowCheckpoint], list[str]]] = {
    "state": lambda made: made.state["nested"]["deep"],
    "messages": lambda made: made.messages["executor"][0].data,
    "pending_request_info_events": lambda made: made.pending_request_info_events["request"].data,
    "metadata": lambda made: made.metadata["nested"]["deep"],
}


@pytest.mark.parametrize("field", FIRST)
def test_a_checkpoint_that_is_returned_belongs_to_the_caller(field: str, new: Callable[..., CheckpointStorage]) -> None:
    async def run() -> None:
        storage, made = new(), checkpoint(**copy.deepcopy(MADE))
        id_ = await storage.save(made)
        FIRST[field](made).append("changed after it was saved")
        ways = (
            lambda: storage.load(id_),
            lambda: storage.get_latest(workflow_name="w"),
            lambda: storage.list_checkpoints(workflow_name="w"),
        )
        for read in ways:
            for _ in range(2):
                found = await read()
                found = found[0] if isinstance(found, list) else found
                assert FIRST[field](found) == ["original"]
                FIRST[field](found).append("changed after it was loaded")

    asyncio.run(run())


def test_a_type_is_loaded_if_it_is_allowed_and_otherwise_not_even_saved(new: Callable[..., CheckpointStorage]) -> None:
    async def run() -> None:
        made = checkpoint(state={"opaque": Opaque("x")})
        with pytest.raises(WorkflowCheckpointException, match="Opaque"):
            await new().save(made)
        assert await new().get_latest(workflow_name="w") is None
        allowed = f"{Opaque.__module__}:Opaque"
        id_ = await new(allowed_checkpoint_types=[allowed]).save(made)
        with pytest.raises(WorkflowCheckpointException, match="Opaque"):
            await new().load(id_)
        assert (await new(allowed_checkpoint_types=[allowed]).load(id_)).state == {"opaque": Opaque("x")}
        with pytest.raises(WorkflowCheckpointException, match="can't be encoded"):
            await new().save(checkpoint(state={"function": lambda: None}))

    asyncio.run(run())


def test_a_registered_type_is_loaded(new: Callable[..., CheckpointStorage]) -> None:
    @dataclass
    class Local:
        value: int

    Local.__qualname__ = "Registered"
    globals()["Registered"] = Local
    register_checkpoint_type(Local)

    async def run() -> None:
        id_ = await new().save(checkpoint(state={"local": Local(7)}))
        assert (await new().load(id_)).state == {"local": Local(7)}

    asyncio.run(run())


@pytest.mark.parametrize("name", TEXTS, ids=ascii)
def test_names_are_any_text(name: str, new: Callable[..., CheckpointStorage]) -> None:
    async def run() -> None:
        id_ = await new().save(checkpoint(name, checkpoint_id=f"id {name}"))
        await new().save(checkpoint(f"{name} other"))
        assert [each.checkpoint_id for each in await new().list_checkpoints(workflow_name=name)] == [id_]
        assert (await new().load(id_)).workflow_name == name
        assert await new().delete(id_)
        assert await new().list_checkpoints(workflow_name=name) == []

    asyncio.run(run())


def test_a_forged_checkpoint_is_refused(new: Callable[..., CheckpointStorage], tmp_path: Path) -> None:
    async def run() -> None:
        id_ = await new().save(checkpoint())
        for path in (tmp_path / "store").rglob("*.checkpoint"):
            path.chmod(0o600)
            header, _, _ = path.read_bytes().partition(b"\n")
            path.write_bytes(header + b'\n{"checkpoint": "{}"}')
        for read in (new().load(id_), new().get_latest(workflow_name="w"), new().list_checkpoints(workflow_name="w")):
            with pytest.raises(IntegrityError):
                await read

    asyncio.run(run())


class Workflows(Files):
    """The files of a workflow, for the judge."""

    prefix = "agent-framework"

    def save(self, cm: CheckpointManager, name: str, number: int) -> None:
        asyncio.run(CheckpointStorage(cm).save(checkpoint(name, state={"number": number})))


def reads(cm: CheckpointManager) -> bool:
    try:
        asyncio.run(CheckpointStorage(cm).list_checkpoints(workflow_name="train"))
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("attack", AT_REST_ATTACKS_WITH_SNAPSHOT, ids=lambda attack: attack.name)
def test_each_edit_is_noticed_by_reading_the_workflow(attack: type[Attack], tmp_path: Path) -> None:
    result = attack().run(Workflows(tmp_path / "store", reads, keep_header=False))
    assert (result.status, result.error, result.guard) == ("safe", None, None)


def test_a_workflow_that_nobody_edited_reads_well(tmp_path: Path) -> None:
    judged = Workflows(tmp_path / "store", reads, keep_header=False)
    judged.setup()
    judged.seed(5)
    judged.reload()
    assert judged.verify()


def test_what_is_deleted_is_gone(new: Callable[..., CheckpointStorage], tmp_path: Path) -> None:
    async def run() -> None:
        ids = [await new().save(checkpoint(state={"number": number})) for number in range(3)]
        cm = CheckpointManager(tmp_path / "store", key=bytes(32))
        cm.tag("agent-framework/w", 2, "good")
        again = await new().load(ids[1])
        await new().save(again)
        again.timestamp = "2026-01-01T00:00:00+00:00"
        await new().save(again)
        assert await new().list_checkpoint_ids(workflow_name="w") == [ids[0], ids[2], ids[1]]
        assert await new().delete(ids[1])
        assert not await new().delete(ids[1])
        assert [version.metadata["checkpoint_id"] for version in cm.history("agent-framework/w")] == ["", ids[2], ids[0]]
        assert await new().list_checkpoint_ids(workflow_name="w") == [ids[0], ids[2]]

    asyncio.run(run())


def test_a_deletion_that_was_killed_is_finished_by_the_next(
    new: Callable[..., CheckpointStorage], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = [asyncio.run(new().save(checkpoint())) for _ in range(2)]
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "delete_versions", lambda *_: (_ for _ in ()).throw(RuntimeError))
        with pytest.raises(RuntimeError):
            asyncio.run(new().delete(first))
    assert not asyncio.run(new().delete(first))
    history = CheckpointManager(tmp_path / "store", key=bytes(32)).history("agent-framework/w")
    assert [version.metadata["checkpoint_id"] for version in history] == ["", second]


def test_what_a_manager_pruned_is_not_listed_and_one_with_a_retention_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        cm = CheckpointManager(tmp_path / "store", key=bytes(32))
        storage = CheckpointStorage(cm)
        ids = [await storage.save(checkpoint()) for _ in range(3)]
        cm.prune(Retention(keep_last=1))
        assert await storage.list_checkpoint_ids(workflow_name="w") == ids[2:]

    asyncio.run(run())
    with pytest.raises(ArgumentError, match="retention"):
        CheckpointStorage(CheckpointManager(tmp_path / "store", key=bytes(32), retention=Retention(keep_last=1)))


class Count(Executor):
    """Counts down, and ends the process at a number."""

    def __init__(self, end_at: int | None) -> None:
        super().__init__(id="count")
        self.end_at = end_at

    @handler
    async def count(self, number: int, ctx: WorkflowContext[int, str]) -> None:
        if number == self.end_at:
            os.kill(os.getpid(), signal.SIGKILL)
        if number:
            await ctx.send_message(number - 1, target_id="count")
        else:
            await ctx.yield_output("done")


def workflow(storage: CheckpointStorage, end_at: int | None = None) -> Any:
    count = Count(end_at)
    return WorkflowBuilder(start_executor=count, checkpoint_storage=storage, name="w").add_edge(count, count).build()


def test_a_workflow_that_was_killed_goes_on_from_its_newest_checkpoint(new: Callable[..., CheckpointStorage]) -> None:
    child = forking.start(lambda: asyncio.run(workflow(new(), end_at=2).run(5)) and None)
    assert forking.end(child) == -signal.SIGKILL

    async def resume() -> Any:
        latest = await new().get_latest(workflow_name="w")
        assert [message.data for messages in latest.messages.values() for message in messages] == [2]
        result = await workflow(new()).run(checkpoint_id=latest.checkpoint_id)
        return result.get_outputs()

    assert asyncio.run(resume()) == ["done"]


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = str(integration.__doc__).split("::\n")[1].split("\n**")[0]

    class First(Executor):
        @handler
        async def hello(self, text: str, ctx: WorkflowContext[Any, str]) -> None:
            await ctx.yield_output(text)

    names: dict[str, Any] = {"first": First(id="first"), "WorkflowBuilder": WorkflowBuilder}
    lines = [f"    {line.removeprefix('    ')}" for line in example.splitlines()]
    exec("\n".join(["async def run():", *lines, "        return newest"]), names)
    assert asyncio.run(names["run"]()).workflow_name == "triage"
