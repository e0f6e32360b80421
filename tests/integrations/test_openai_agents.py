"""The session for the OpenAI Agents SDK: its protocol, beside its own ``SQLiteSession``, and in its ``Runner``; attacks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

if not os.environ.get("TESTS_REQUIRE_PACKAGES"):
    pytest.importorskip("agents")
    pytest.importorskip("agmi")

from agents import (
    Agent,
    OpenAIResponsesCompactionSession,
    Runner,
    SessionSettings,
    SQLiteSession,
    set_tracing_disabled,
)
from agents.memory import Session
from agents.testing import ScriptedModel, assistant_message
from agmi.attacks.at_rest import AT_REST_ATTACKS_WITH_SNAPSHOT, Attack
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager import (
    ArgumentError,
    AsyncCheckpointManager,
    CheckpointError,
    CheckpointManager,
    FormatError,
    IntegrityError,
    Retention,
    RollbackError,
)
from checkpoint_manager.integrations import openai_agents
from checkpoint_manager.integrations.openai_agents import CheckpointSession
from tests.integrations.awaiting import awaited, run_example
from tests.integrations.killing import KILLS, lines_of_killed, start
from tests.judge.test_agent_memory_integrity import KEY, Directory

if TYPE_CHECKING:
    from pathlib import Path

set_tracing_disabled(True)  # nothing leaves for a server


def said(text: object) -> Any:
    return {"role": "user", "content": str(text)}


def texts(items: list[Any]) -> list[str]:
    return [item["content"] for item in items]


def agent(*answers: str) -> tuple[Agent[Any], ScriptedModel]:
    model = ScriptedModel([[assistant_message(answer)] for answer in answers])
    return Agent(name="test", model=model), model


def test_it_is_a_session_as_the_protocol_has_it(tmp_path: Path) -> None:
    assert isinstance(CheckpointSession("s", tmp_path / "c"), Session)


contents = st.sampled_from(["a", "b", "é", "🔑", "\ud800"])
calls = st.one_of(
    st.tuples(st.just("add_items"), st.lists(contents.map(said), max_size=3)),
    st.tuples(st.just("get_items"), st.none() | st.integers(-1, 4)),
    st.tuples(st.sampled_from(["pop_item", "clear_session"])),
)


@given(st.lists(calls, max_size=12), st.none() | st.integers(0, 3))
def test_any_calls_have_the_results_of_the_frameworks_own_session(made: list[tuple[Any, ...]], limit: int | None) -> None:
    async def results(session: Any) -> list[Any]:
        return [await getattr(session, call[0])(*call[1:]) for call in made] + [await session.get_items()]

    settings = SessionSettings(limit=limit)
    own = SQLiteSession("s", session_settings=settings)
    with contextlib.closing(own):
        expected = asyncio.run(results(own))
    assert asyncio.run(results(CheckpointSession("s", "memory:", session_settings=settings))) == expected


@pytest.mark.parametrize("item", [said("x" * 1_000_000), "text", {"t": (1, 2), "n": None, "!set": [1]}, {"deep": [[[{}]]]}])
@awaited
async def test_items_come_back_as_they_do_from_the_frameworks_own_session(item: Any) -> None:
    session, own = CheckpointSession("s", "memory:"), SQLiteSession("s")
    for each in (session, own):
        await each.add_items([item, item])
    assert await session.get_items() == await own.get_items()
    assert await session.pop_item() == await own.pop_item()
    own.close()
    with pytest.raises(TypeError):
        await session.add_items([said("whole"), {"not JSON": object()}])  # type: ignore[list-item]
    assert len(await session.get_items()) == 1


@pytest.mark.parametrize("name", ["run", "run_streamed"])
@awaited
async def test_an_agent_remembers_what_was_said_to_another_instance(tmp_path: Path, name: str) -> None:
    for turn, answer in enumerate(["San Francisco", "California"]):
        assistant, model = agent(answer)
        running = getattr(Runner, name)(assistant, f"question {turn}", session=CheckpointSession("u", tmp_path / "c"))
        if name == "run":
            assert (await running).final_output == answer
        else:
            async for _ in running.stream_events():
                pass
        assert len(model.calls[-1].input) == 1 + 2 * turn
    assert [item.get("role") for item in await CheckpointSession("u", tmp_path / "c").get_items()] == ["user", "assistant"] * 2


@awaited
async def test_any_text_is_a_session_of_its_own() -> None:
    cm = AsyncCheckpointManager("memory:")
    ids = ["", "/", "../..", "a/b", "a\0b", "%2F", "\u00e9", "e\u0301", "A", "a", "x" * 5000, "x" * 5001, "\ud800", "con"]
    for name in ids:
        await CheckpointSession(name, cm).add_items([said(ascii(name))])
    for name in ids:
        assert texts(await CheckpointSession(name, cm).get_items()) == [ascii(name)]
    assert len(await cm.stages("openai-agents/")) == len(ids)


@awaited
async def test_a_conversation_goes_back_and_its_history_is_bounded(tmp_path: Path) -> None:
    session = CheckpointSession("u", tmp_path / "c")
    for number in range(40):
        await session.add_items([said(number)])
    cm = CheckpointManager(tmp_path / "c")
    assert 10 <= len(cm.history("openai-agents/u")) <= 25
    cm.restore_checkpoint("openai-agents/u", version=35)
    assert texts(await session.get_items()) == [str(number) for number in range(35)]
    await session.clear_session()
    assert cm.stages() == cm.history("openai-agents/u") == await session.get_items() == []
    await session.clear_session()
    await session.add_items([said("again")])
    assert texts(await session.get_items()) == ["again"]
    await session.close()


@awaited
async def test_a_compaction_replaces_the_conversation_in_one_step(tmp_path: Path) -> None:
    class Responses:
        async def compact(self, **_: object) -> Any:
            return SimpleNamespace(output=[said("summary")])

    cm = AsyncCheckpointManager(tmp_path / "c")
    session = CheckpointSession("u", cm)
    await session.add_items([said(number) for number in range(20)])
    client: Any = SimpleNamespace(responses=Responses())
    compacting = OpenAIResponsesCompactionSession("u", session, client=client)
    await compacting.run_compaction({"force": True, "compaction_mode": "input"})
    assert texts(await session.get_items()) == ["summary"]
    assert [version.number for version in await cm.history("openai-agents/u")] == [2, 1]
    await session.close()
    assert texts(await CheckpointSession("u", cm).get_items()) == ["summary"], "a manager that was given stays open"


# Attacks and faults


class Sessions(Directory):
    """The files of a session, for the judge: each record is the version of one change."""

    def _save(self, stage: str, n: int) -> None:
        session = CheckpointSession(stage, AsyncCheckpointManager(self.root, key=KEY))
        for number in range(n):
            asyncio.run(session.add_items([said(f"{stage} {number}")]))

    def _read(self, stage: str) -> list[Any]:
        return super()._read(f"openai-agents%2f{stage}")

    def _path(self, number: int) -> Path:
        return self.root / "history" / "openai-agents%2ftrain" / f"{number:012}.checkpoint"

    def _follow(self) -> None:
        head = self.root / "openai-agents%2ftrain.checkpoint"
        head.unlink(missing_ok=True)
        os.link(max(self._path(1).parent.glob("*.checkpoint")), head)


def reads(cm: CheckpointManager) -> bool:
    """Continue the conversation as a program does, and look at what earlier versions it could go back to."""
    try:
        asyncio.run(CheckpointSession("train", AsyncCheckpointManager(cm._store.backend.location, key=KEY)).get_items())
        for version in cm.history("openai-agents/train"):
            cm.load_checkpoint("openai-agents/train", version.number)
    except CheckpointError:
        return False
    return True


@pytest.mark.parametrize("attack", AT_REST_ATTACKS_WITH_SNAPSHOT, ids=lambda attack: attack.name)
def test_each_edit_of_the_judge_is_noticed(attack: type[Attack], tmp_path: Path) -> None:
    result = attack().run(Sessions(tmp_path / "store", reads, keep_header=False))
    assert (result.status, result.error, result.guard) == ("safe", None, None)


@pytest.mark.parametrize("attack", AT_REST_ATTACKS_WITH_SNAPSHOT, ids=lambda attack: attack.name)
def test_the_judge_sees_a_session_that_notices_nothing(attack: type[Attack], tmp_path: Path) -> None:
    assert attack().run(Sessions(tmp_path / "store", lambda _: True, keep_header=False)).status == "VULNERABLE"


@awaited
async def test_a_run_stops_at_a_damaged_or_older_conversation(tmp_path: Path) -> None:
    root = tmp_path / "c"
    assistant, model = agent("first", "second", "never")
    await Runner.run(assistant, "one", session=CheckpointSession("u", root))
    shutil.copytree(root, tmp_path / "older")
    await Runner.run(assistant, "two", session=CheckpointSession("u", root))
    newest = max((root / "history" / "openai-agents%2fu").glob("*.checkpoint"))
    content = newest.read_bytes()
    newest.chmod(0o600)
    newest.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    with pytest.raises(IntegrityError):
        await Runner.run(assistant, "three", session=CheckpointSession("u", root))
    for call in (CheckpointSession("u", root).pop_item, lambda: CheckpointSession("u", root).add_items([said("x")])):
        with pytest.raises(IntegrityError):
            await call()
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "older", root)
    with pytest.raises(RollbackError):
        await Runner.run(assistant, "three", session=CheckpointSession("u", root))
    assert len(model.calls) == 2


def test_a_manager_that_is_not_asynchronous_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="an AsyncCheckpointManager, not a CheckpointManager"):
        CheckpointSession("u", CheckpointManager(tmp_path / "c"))  # type: ignore[arg-type]


@awaited
async def test_something_else_under_the_name_of_the_stage_is_refused(tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "c").save_checkpoint("openai-agents/u", [said("mine")])
    with pytest.raises(FormatError, match="something other than"):
        await CheckpointSession("u", tmp_path / "c").add_items([said("x")])


@awaited
async def test_tasks_lose_nothing_and_a_cancelled_change_is_whole_or_was_never_made(tmp_path: Path) -> None:
    session = CheckpointSession("u", AsyncCheckpointManager(tmp_path / "c", retention=Retention(keep_last=1)))
    tasks = [asyncio.create_task(session.add_items([said(number), said(number)])) for number in range(30)]
    for number, task in enumerate(tasks):
        if number % 3 == 0:
            await asyncio.sleep(0.001)
            task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    found = texts(await session.get_items())
    assert found[::2] == found[1::2] == sorted(set(found), key=int)
    assert {str(number) for number, outcome in enumerate(ended) if outcome is None} <= set(found)
    popped = await asyncio.gather(*(session.pop_item() for _ in found), session.pop_item())
    assert sorted(texts([item for item in popped if item])) == sorted(found)
    assert popped.count(None) == 1


ADDING = """
import asyncio, itertools, sys
from checkpoint_manager.integrations.openai_agents import CheckpointSession

async def main():
    session = CheckpointSession("u", sys.argv[1])
    for number in itertools.islice(itertools.count(), int(sys.argv[3])):
        await session.add_items([{"role": "user", "content": f"{sys.argv[2]} {number}"}] * 2)
        print(number, flush=True)

asyncio.run(main())
"""


@awaited
async def test_what_was_acknowledged_before_a_kill_is_there_and_nothing_by_half(tmp_path: Path) -> None:
    before = 0
    for kill in range(KILLS):
        lines = lines_of_killed(ADDING, tmp_path / "c", f"k{kill}", "100000", after=4)
        found = texts(await CheckpointSession("u", tmp_path / "c").get_items())[before:]
        assert found == [f"k{kill} {number // 2}" for number in range(len(found))]
        assert len(found) in (2 * len(lines), 2 * len(lines) + 2)
        before += len(found)
    assert CheckpointManager(tmp_path / "c").verify().ok


@awaited
async def test_two_processes_add_to_one_session(tmp_path: Path) -> None:
    processes = [start(ADDING, tmp_path / "c", name, "20") for name in "ab"]
    assert [len(process.communicate()[0].splitlines()) for process in processes] == [20, 20]
    found = texts(await CheckpointSession("u", tmp_path / "c").get_items())
    for name in "ab":
        assert [text for text in found if text.startswith(name)] == [f"{name} {number // 2}" for number in range(40)]


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_example(openai_agents, agent=agent("what you asked")[0])
    assert names["result"].final_output == "what you asked"
    assert len(asyncio.run(names["session"].get_items())) == 2
