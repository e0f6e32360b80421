"""The store of conversations for Pydantic AI: beside its own in memory, with agents, raced, killed and attacked."""

from __future__ import annotations

import asyncio
import copy
import os
import random
import signal
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import ArgumentError, CheckpointError, CheckpointManager, FormatError, IntegrityError, Retention
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytest.importorskip("pydantic_ai.conversation_store")
pytest.importorskip("agmi")

from agmi.attacks.at_rest import AT_REST_ATTACKS_WITH_SNAPSHOT, Attack
from pydantic_ai import Agent, BinaryContent
from pydantic_ai.conversation import Conversation
from pydantic_ai.conversation_store import (
    ConversationConflict,
    ConversationEntry,
    ConversationRecord,
    InMemoryConversationStore,
)
from pydantic_ai.messages import ModelRequest, ModelResponse, TextPart, ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.test import TestModel

from checkpoint_manager.integrations import pydantic_ai as integration
from checkpoint_manager.integrations.pydantic_ai import CheckpointConversationStore
from tests.integrations.edited import Files

TEXTS = ["", "a", "a/b", "a%2Fb", "..", "ä", "\0", "x" * 3000, "💥"]
START = datetime(2026, 1, 1, tzinfo=UTC)
BINARY = BinaryContent(b"\xff\x00", media_type="application/octet-stream", identifier="file")


@pytest.fixture
def new(tmp_path: Path) -> Callable[[], CheckpointConversationStore]:
    return lambda: CheckpointConversationStore(CheckpointManager(tmp_path / "store", key=bytes(32), durability="relaxed"))


def message(number: int) -> Any:
    at = START + timedelta(seconds=number)
    if number % 2:
        return ModelResponse(parts=[TextPart(f"answer {number}"), ToolCallPart("tool", {"a": [number]}, "call")], timestamp=at)
    asked = UserPromptPart([f"question {number}", BINARY], timestamp=at)
    return ModelRequest(parts=[asked, ToolReturnPart("tool", {"b": number}, "call", timestamp=at)])


async def outcome(call: Any) -> Any:
    try:
        return await call
    except ConversationConflict as error:
        return "conflict", error.conversation_id


# Beside its own in memory


@pytest.mark.parametrize("seed", range(3))
def test_it_answers_as_the_store_in_memory(seed: int, new: Callable[[], CheckpointConversationStore]) -> None:
    """The five primitives, with right and wrong revisions, heads of other conversations, branches, and deletions."""

    async def run() -> None:
        chance, ours, theirs = random.Random(seed), new(), InMemoryConversationStore()
        for number in range(60):
            id_ = chance.choice(["a", "b", "c"])
            record = await theirs.read_record(id_)
            revision = record.revision if record and chance.random() < 0.8 else chance.choice([None, "another"])
            if chance.random() < 0.85:
                own = [record.head_id, *record.branches] if record else [None]
                parent = chance.choice([*own, *own, None, chance.choice(["unknown", *theirs._entries])])
                entries = []
                for at in range(chance.randrange(3)):
                    entries.append(ConversationEntry(id=f"{number} {at}", parent_id=parent, message=message(number + at)))
                    parent = entries[-1].id
                is_left = record and record.head_id and record.head_id != parent
                made = ConversationRecord(
                    conversation_id=id_,
                    head_id=parent,
                    scope=chance.choice([None, "s"]),
                    branches=[*record.branches, record.head_id] if is_left else [],
                    revision=f"revision {number}",
                    updated_at=START + timedelta(seconds=number),
                )
                if entries and entries[0].parent_id not in {None, *theirs._entries}:
                    continue  # the store in memory would keep a history that can't be read
                calls = [each.write_record(made, new_entries=entries, expected_revision=revision) for each in (ours, theirs)]
            else:
                calls = [each.delete_record(id_, expected_revision=str(revision)) for each in (ours, theirs)]
            assert await outcome(calls[0]) == await outcome(calls[1])
            for store in (ours, new()) if number % 10 == 0 else (ours,):
                await compare(store, theirs, chance)

    asyncio.run(run())


async def compare(ours: CheckpointConversationStore, theirs: InMemoryConversationStore, chance: random.Random) -> None:
    for scope in (None, "s", "t"):
        limit = chance.choice([None, 1, 2])
        assert await ours.read_records(scope=scope, limit=limit) == await theirs.read_records(scope=scope, limit=limit)
    for id_ in ("a", "b", "c"):
        record = await ours.read_record(id_)
        assert record == await theirs.read_record(id_)
        for tip in [record.head_id, *record.branches] if record else []:
            limit = chance.choice([None, None, 1, 3])
            assert await ours.read_history(tip, limit=limit) == await theirs.read_history(tip, limit=limit)
            if tip is not None:
                assert await ours.read_entry(tip) == await theirs.read_entry(tip)


def test_an_entry_that_is_not_there_is_a_lookup_error(new: Callable[[], CheckpointConversationStore]) -> None:
    with pytest.raises(LookupError):
        asyncio.run(new().read_entry("unknown"))


# With agents


def test_conversations_are_continued_forked_branched_and_deleted(new: Callable[[], CheckpointConversationStore]) -> None:
    async def run() -> None:
        agent = Agent(TestModel())
        first = await agent.run("hello", conversation=Conversation(conversation_id="7"))
        await new().save(first, scope="user")
        again = await new().load("7")
        assert again is not None
        await new().save(await agent.run("once more", conversation=again))
        loaded = await new().load("7")
        assert loaded is not None
        assert len(loaded.messages) == 4
        forked = await new().fork("7", at=2, new_conversation_id="8")
        left = await new().branch("7", at=2, expected_revision=loaded.revision)
        assert (len(forked.messages), len(left.messages)) == (2, 2)
        entries = await new().load_entries("7")
        assert [entry.message for entry in entries or []] == left.messages
        assert [each.conversation_id for each in await new().list_conversations(scope="user")] == ["7", "8"]
        await new().delete("7")
        assert await new().load("7") is None
        copied = await new().load("8")
        assert copied is not None
        assert copied.messages == left.messages
        await new().save(await agent.run("go on", conversation=copied))
        await new().save(await agent.run("hello", conversation=Conversation(conversation_id="7")))
        assert len((await new().load("7") or Conversation()).messages) == 2

    asyncio.run(run())


@pytest.mark.parametrize("name", TEXTS, ids=ascii)
def test_names_are_any_text(name: str, new: Callable[[], CheckpointConversationStore]) -> None:
    async def run() -> None:
        for id_ in (name, f"{name} other"):
            made = Conversation(messages=[message(0), message(1)], conversation_id=id_)
            await new().save(made, scope=name)
        loaded = await new().load(name, scope=name)
        assert loaded is not None
        assert (loaded.conversation_id, loaded.messages) == (name, made.messages)
        assert len(await new().list_conversations(scope=name)) == 2

    asyncio.run(run())


# Several writers, and killed ones


def test_of_many_who_save_one_revision_one_wins(new: Callable[[], CheckpointConversationStore]) -> None:
    asyncio.run(new().save(Conversation(messages=[message(0)], conversation_id="7")))

    def save(number: int) -> bool:
        async def run() -> bool:
            store = new()
            loaded = await store.load("7")
            assert loaded is not None
            if loaded.messages != [message(0)]:
                return False
            loaded.messages.append(message(number))
            return await outcome(store.save(loaded)) != ("conflict", "7")

        return asyncio.run(run())

    children = [forking.start(lambda number=number: save(number)) for number in range(1, 7)]
    assert sum(forking.end(child) for child in children) == 1

    async def race() -> int:
        store, loaded = new(), await new().load("7")
        copies = [copy.deepcopy(loaded) for _ in range(8)]
        for number, each in enumerate(copies):
            each.messages.append(message(number))
        return [await each for each in [outcome(store.save(each)) for each in copies]].count(("conflict", "7"))

    assert asyncio.run(race()) == 7


@pytest.mark.parametrize("method", ["save_checkpoint", "clear_checkpoint"])
def test_a_version_of_the_same_revision_that_comes_between_is_no_conflict(
    method: str, new: Callable[[], CheckpointConversationStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is replaced as well: restoring what is the newest changes nothing for those who loaded it."""
    loaded = Conversation(messages=[message(0)], conversation_id="7")
    asyncio.run(new().save(loaded))
    original = getattr(CheckpointManager, method)
    with monkeypatch.context() as patch:

        def second(*args: Any, **kwargs: Any) -> Any:
            patch.undo()
            CheckpointManager(tmp_path / "store", key=bytes(32)).restore_checkpoint("pydantic-ai/7", 1)
            return original(*args, **kwargs)

        patch.setattr(CheckpointManager, method, second)
        if method == "save_checkpoint":
            loaded.messages.append(message(1))
            asyncio.run(new().save(loaded))
            assert getattr(asyncio.run(new().load("7")), "messages", None) == [message(0), message(1)]
        else:
            asyncio.run(new().delete("7"))
            assert asyncio.run(new().load("7")) is None


@pytest.mark.parametrize("method", ["save_checkpoint", "clear_checkpoint"])
def test_another_revision_that_comes_between_is_a_conflict(
    method: str, new: Callable[[], CheckpointConversationStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is saved after the revision was compared, and before the store writes."""
    mine = Conversation(messages=[message(0)], conversation_id="7")
    asyncio.run(new().save(mine))
    theirs = copy.deepcopy(mine)
    theirs.messages.append(message(1))
    mine.messages.append(message(2))
    record = asyncio.run(new().read_record("7"))
    assert record is not None
    original = getattr(CheckpointManager, method)
    with monkeypatch.context() as patch:

        def second(*args: Any, **kwargs: Any) -> Any:
            patch.undo()
            asyncio.run(new().save(theirs))
            return original(*args, **kwargs)

        patch.setattr(CheckpointManager, method, second)
        call = new().save(mine) if method == "save_checkpoint" else new().delete_record("7", expected_revision=record.revision)
        assert asyncio.run(outcome(call)) == ("conflict", "7")
    assert getattr(asyncio.run(new().load("7")), "messages", None) == theirs.messages


def test_entries_are_found_when_it_is_not_remembered_where_they_are(
    new: Callable[[], CheckpointConversationStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(integration, "_MOST_PLACES", 1)

    async def run() -> None:
        store, loaded = new(), Conversation(conversation_id="7")
        stored = []
        for number in range(6):
            loaded.messages.append(message(number))
            stored += await store.save(loaded)
        await store.fork("7", new_conversation_id="8")
        assert [await new().read_entry(entry.id) for entry in stored] == stored
        await store.delete("7")
        assert await store.read_history(stored[-1].id) == stored

    asyncio.run(run())


def test_a_killed_save_leaves_the_conversation_as_it_was_or_saved(new: Callable[[], CheckpointConversationStore]) -> None:
    chance = random.Random()
    asyncio.run(new().save(Conversation(messages=[message(0)], conversation_id="7")))

    async def talk(writing: int) -> None:
        store = new()
        while loaded := await store.load("7"):
            loaded.messages.append(message(len(loaded.messages)))
            await store.save(loaded)
            os.write(writing, f"{len(loaded.messages)}\n".encode())

    for _ in range(6):
        reading, writing = os.pipe()
        child = forking.start(lambda writing=writing: asyncio.run(talk(writing)))
        os.close(writing)
        with open(reading, "rb") as pipe:
            first = pipe.readline()
            signal.sigtimedwait([], chance.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            told = [int(line) for line in (first + pipe.read()).split()]
        forking.end(child)
        loaded = asyncio.run(new().load("7"))
        assert loaded is not None
        assert len(loaded.messages) in {told[-1], told[-1] + 1}
        assert loaded.messages == [message(number) for number in range(len(loaded.messages))]


# Deleting, and attacks


def test_what_is_deleted_is_gone(new: Callable[[], CheckpointConversationStore], tmp_path: Path) -> None:
    async def run() -> None:
        for number in range(3):
            loaded = await new().load("7") or Conversation(conversation_id="7")
            loaded.messages.append(message(number))
            await new().save(loaded)
        CheckpointManager(tmp_path / "store", key=bytes(32)).tag("pydantic-ai/7", 1, "good")
        await new().delete("7", scope="another")
        assert await new().load("7") is not None
        await new().delete("7")

    asyncio.run(run())
    (left,) = CheckpointManager(tmp_path / "store", key=bytes(32)).history("pydantic-ai/7")
    assert left.status == "cleared"


def test_a_record_that_is_deleted_is_gone(new: Callable[[], CheckpointConversationStore], tmp_path: Path) -> None:
    async def run() -> None:
        await new().save(Conversation(messages=[message(0)], conversation_id="7"))
        record = await new().read_record("7")
        assert record is not None
        await new().delete_record("7", expected_revision=record.revision)

    asyncio.run(run())
    (left,) = CheckpointManager(tmp_path / "store", key=bytes(32)).history("pydantic-ai/7")
    assert left.status == "cleared"


def test_a_deletion_that_was_killed_is_finished_by_the_next(
    new: Callable[[], CheckpointConversationStore], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asyncio.run(new().save(Conversation(messages=[message(0)], conversation_id="7")))
    with monkeypatch.context() as patch:
        patch.setattr(CheckpointManager, "delete_versions", lambda *_: (_ for _ in ()).throw(RuntimeError))
        with pytest.raises(RuntimeError):
            asyncio.run(new().delete("7"))
    asyncio.run(new().delete("7"))
    (left,) = CheckpointManager(tmp_path / "store", key=bytes(32)).history("pydantic-ai/7")
    assert left.status == "cleared"


def test_a_deletion_that_deletes_nothing_leaves_what_was_cleared_and_restored(
    new: Callable[[], CheckpointConversationStore], tmp_path: Path
) -> None:
    async def run() -> None:
        for number in range(3):
            loaded = await new().load("7") or Conversation(conversation_id="7")
            loaded.messages.append(message(number))
            await new().save(loaded, scope="user")
        cm = CheckpointManager(tmp_path / "store", key=bytes(32))
        cm.clear_checkpoint("pydantic-ai/7")
        cm.restore_checkpoint("pydantic-ai/7", 3)
        await new().delete("7", scope="another")
        again = await new().load("7")
        assert again is not None
        assert again.messages == loaded.messages
        await new().delete("7", scope="user")
        assert [version.status for version in cm.history("pydantic-ai/7")] == ["cleared"]

    asyncio.run(run())


def test_a_manager_with_a_retention_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="retention"):
        CheckpointConversationStore(CheckpointManager(tmp_path / "store", key=bytes(32), retention=Retention(keep_last=1)))


def test_a_conversation_that_was_restored_conflicts_with_what_was_loaded_before(
    new: Callable[[], CheckpointConversationStore], tmp_path: Path
) -> None:
    async def run() -> None:
        loaded = Conversation(conversation_id="7")
        for number in range(3):
            loaded.messages.append(message(number))
            await new().save(loaded)
        CheckpointManager(tmp_path / "store", key=bytes(32)).restore_checkpoint("pydantic-ai/7", 2)
        loaded.messages.append(message(3))
        assert await outcome(new().save(loaded)) == ("conflict", "7")
        again = await new().load("7")
        assert again is not None
        assert again.messages == [message(0), message(1)]
        again.messages.append(message(2))
        await new().save(again)
        assert len((await new().load("7") or again).messages) == 3

    asyncio.run(run())


def test_something_else_under_the_name_of_a_conversation_is_said(
    new: Callable[[], CheckpointConversationStore], tmp_path: Path
) -> None:
    CheckpointManager(tmp_path / "store", key=bytes(32)).save_checkpoint("pydantic-ai/7", [1])
    with pytest.raises(FormatError, match="something other than a conversation"):
        asyncio.run(new().load("7"))


class Conversations(Files):
    """The files of a conversation, for the judge."""

    prefix = "pydantic-ai"

    def save(self, cm: CheckpointManager, name: str, number: int) -> None:
        async def say() -> None:
            store = CheckpointConversationStore(cm)
            loaded = await store.load(name) or Conversation(conversation_id=name)
            loaded.messages.append(ModelRequest(parts=[UserPromptPart(f"{name} {number}")]))
            await store.save(loaded)

        asyncio.run(say())


def reads(cm: CheckpointManager) -> bool:
    try:
        asyncio.run(CheckpointConversationStore(cm).load("train"))
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("attack", AT_REST_ATTACKS_WITH_SNAPSHOT, ids=lambda attack: attack.name)
def test_each_edit_is_noticed_by_loading_the_conversation(attack: type[Attack], tmp_path: Path) -> None:
    result = attack().run(Conversations(tmp_path / "store", reads, keep_header=False))
    assert (result.status, result.error, result.guard) == ("safe", None, None)


def test_a_conversation_that_nobody_edited_reads_well(tmp_path: Path) -> None:
    judged = Conversations(tmp_path / "store", reads, keep_header=False)
    judged.setup()
    judged.seed(5)
    judged.reload()
    assert judged.verify()


def test_a_forged_conversation_is_refused(new: Callable[[], CheckpointConversationStore], tmp_path: Path) -> None:
    asyncio.run(new().save(Conversation(messages=[message(0)], conversation_id="7"), scope="s"))
    for path in (tmp_path / "store").rglob("*.checkpoint"):
        path.chmod(0o600)
        content = path.read_bytes()
        path.write_bytes(content[:-20] + bytes(20))
    for call in (lambda: new().load("7"), lambda: new().list_conversations(), lambda: new().delete("7")):
        with pytest.raises(IntegrityError):
            asyncio.run(call())


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example = str(integration.__doc__).split("::\n")[1].split("\n**")[0]
    names: dict[str, Any] = {"agent": Agent(TestModel()), "Conversation": Conversation}
    lines = [f"    {line.removeprefix('    ')}" for line in example.splitlines()]
    exec("\n".join(["async def run():", *lines, "        return await store.load('7')"]), names)
    assert len(asyncio.run(names["run"]()).messages) == 2
