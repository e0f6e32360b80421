"""The store for py-key-value: what its ``BaseStoreTests`` ask, beside its own ``MemoryStore``, and what they don't."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import pytest

if not os.environ.get("TESTS_REQUIRE_PACKAGES"):
    pytest.importorskip("key_value.aio")

from hypothesis import given
from hypothesis import strategies as st
from key_value.aio.errors import InvalidTTLError, SerializationError, StoreSetupError
from key_value.aio.protocols.key_value import AsyncKeyValueProtocol
from key_value.aio.stores.memory import MemoryStore

from checkpoint_manager import (
    ArgumentError,
    AsyncCheckpointManager,
    CheckpointManager,
    FormatError,
    IntegrityError,
    RollbackError,
)
from checkpoint_manager.integrations import key_value
from checkpoint_manager.integrations.key_value import CheckpointStore
from tests.integrations.awaiting import awaited, run_example
from tests.integrations.killing import KILLS, lines_of_killed, start

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["directory", "memory", "py-key-value's own"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    if request.param == "py-key-value's own":
        return MemoryStore()
    return CheckpointStore("memory:" if request.param == "memory" else tmp_path / "checkpoints")


class Colour(StrEnum):
    RED = "red"


HOSTILE = ["", "/", "../..", "a/b", "a\0b", "%2F", "\u00e9", "e\u0301", "A", "a", " ", "\u202e", "x" * 5000, "con", "🔑"]


@awaited
async def test_it_is_a_store_as_the_protocol_has_it(store: Any) -> None:
    assert isinstance(store, AsyncKeyValueProtocol)


@awaited
async def test_what_is_not_there_is_none(store: Any) -> None:
    assert await store.get("k") is None
    assert await store.ttl("k") == (None, None)
    assert await store.delete("k") is False
    assert await store.delete_many(["k", "l"]) == 0
    assert await store.get_many(["k", "l"]) == [None, None]
    assert await store.collections() in ([], ["default_collection"])  # a collection may be listed once it was asked
    assert await store.destroy_collection("never") is False


@awaited
async def test_what_was_put_is_there_until_it_is_put_again_or_deleted(store: Any) -> None:
    await store.put("k", {"a": 1}, collection="c")
    assert await store.get("k", collection="c") == {"a": 1}
    assert await store.get("k") is None, "of another collection"
    await store.put("k", {"a": 2}, collection="c")
    assert await store.get("k", collection="c") == {"a": 2}
    assert await store.ttl("k", collection="c") == ({"a": 2}, None)
    assert await store.delete("k", collection="c") is True
    assert await store.delete("k", collection="c") is False
    assert await store.get("k", collection="c") is None


@awaited
async def test_many_at_once(store: Any) -> None:
    keys = [f"k{number}" for number in range(20)]
    values = [{"n": number} for number in range(20)]
    await store.put_many(keys, tuple(values))
    assert await store.get_many([*keys, "none"]) == [*values, None]
    assert await store.ttl_many(["k1", "none"]) == [({"n": 1}, None), (None, None)]
    assert sorted(await store.keys()) == sorted(keys)
    assert len(await store.keys(limit=7)) == 7
    assert await store.delete_many(["k1", "k2", "k1", "none"]) == 2
    assert len(await store.keys()) == 18
    with pytest.raises(ValueError, match="different number"):
        await store.put_many(["a"], [])


@pytest.mark.parametrize(
    ("value", "loaded"),
    [
        ({}, {}),
        ({"n": None, "t": True, "i": 2**70, "f": 1.5, "s": "é", "l": [1, {"a": []}]}, None),
        ({"t": (1, 2)}, {"t": [1, 2]}),
        ({"e": Colour.RED, "c": Counter("aa")}, {"e": "red", "c": {"a": 2}}),
        ({"surrogate": "\ud800"}, None),
        ({"!tuple": [1]}, None),
        ({"long": "x" * 1_000_000}, None),
    ],
)
@awaited
async def test_values_come_back_as_they_do_from_the_frameworks_own_store(store: Any, value: Any, loaded: Any) -> None:
    await store.put("k", value)
    assert await store.get("k") == (value if loaded is None else loaded)


@pytest.mark.parametrize("value", [{"x": object()}, {"x": b"bytes"}, {"x": {1, 2}}, {1: "a number as a key"}])
@awaited
async def test_what_is_not_json_is_a_serialization_error(store: Any, value: Any) -> None:
    with pytest.raises((SerializationError, TypeError)):
        await store.put("k", value)
    assert await store.get("k") is None


@awaited
async def test_any_text_is_a_key_and_a_collection(store: Any) -> None:
    for number, name in enumerate(HOSTILE):
        await store.put(name, {"key": number})
        await store.put("k", {"collection": number}, collection=name or None)
    assert await store.get_many(HOSTILE) == [{"key": number} for number in range(len(HOSTILE))]
    for number, name in enumerate(HOSTILE[1:], 1):  # an empty collection is the default one
        assert await store.get("k", collection=name) == {"collection": number}
    assert set(await store.keys()) == {*HOSTILE, "k"}
    assert set(await store.collections()) == {*HOSTILE[1:], "default_collection"}


@awaited
async def test_entries_expire(store: Any) -> None:
    await store.put("short", {"a": 1}, ttl=0.05)
    await store.put("long", {"a": 2}, ttl=100)
    value, left = await store.ttl("long")
    assert value == {"a": 2}
    assert 95 < left <= 100
    await asyncio.sleep(0.06)
    assert await store.get("short") is None
    assert await store.ttl("short") == (None, None)
    if not isinstance(store, MemoryStore):  # which lists what has expired
        assert await store.keys() == ["long"]
        assert await store.delete("short") is False
    for wrong in (0, -1, True):
        with pytest.raises(InvalidTTLError):
            await store.put("k", {}, ttl=wrong)


@awaited
async def test_a_collection_and_the_store_are_destroyed(store: Any) -> None:
    await store.put_many(["a", "b"], [{}, {}], collection="one")
    await store.put("a", {"n": 1}, collection="two")
    assert await store.destroy_collection("one") is True
    assert await store.collections() == ["two"]
    assert await store.get("a", collection="two") == {"n": 1}
    assert await store.destroy() is True
    if not isinstance(store, MemoryStore):  # which can't be used afterwards
        assert await store.get("a", collection="two") is None
        await store.put("a", {"n": 2}, collection="two")
        assert await store.get("a", collection="two") == {"n": 2}


@awaited
async def test_a_name_that_is_not_unicode_is_refused_and_is_not_there() -> None:
    store = CheckpointStore("memory:")
    with pytest.raises(SerializationError, match="Unicode"):
        await store.put("\ud800", {})
    assert await store.get("\ud800") is None
    assert await store.keys() == []


names = st.sampled_from(["a", "b", "/", ""])
values = st.dictionaries(names, st.integers())
calls = st.one_of(
    st.tuples(st.just("put"), names, values),
    st.tuples(st.sampled_from(["get", "delete"]), names),
    st.tuples(st.just("put_many"), st.lists(names, min_size=2, max_size=2), st.lists(values, min_size=2, max_size=2)),
    st.tuples(st.sampled_from(["get_many", "delete_many"]), st.lists(names, max_size=3)),
)


@given(st.lists(st.tuples(calls, st.sampled_from(["c", "d"])), max_size=15))
def test_any_calls_have_the_results_of_the_frameworks_own_store(made: list[tuple[tuple[Any, ...], str]]) -> None:
    async def results(store: Any) -> list[Any]:
        results = [await getattr(store, call[0])(*call[1:], collection=collection) for call, collection in made]
        return [*results, sorted(await store.keys("c")), sorted(await store.keys("d"))]

    assert asyncio.run(results(CheckpointStore("memory:"))) == asyncio.run(results(MemoryStore()))


@awaited
async def test_seeds_and_a_prefix_and_closing(tmp_path: Path) -> None:
    async with CheckpointStore(tmp_path / "c", seed={"c": {"k": {"a": 1}}}) as store:
        assert await store.get("k", collection="c") == {"a": 1}
        assert await CheckpointStore(tmp_path / "c", prefix="other").get("k", collection="c") is None
    manager = AsyncCheckpointManager(f"sqlite:///{tmp_path}/s.db")
    async with manager, CheckpointStore(manager) as store:
        await store.put("k", {})
        await store.close()
        assert await manager.stages("key-value/"), "a manager that was given stays open"


@awaited
async def test_no_name_and_no_value_is_readable(tmp_path: Path) -> None:
    async with CheckpointStore(tmp_path / "c") as store:
        await store.put("MARKERkey", {"MARKERfield": "MARKERvalue"}, collection="MARKERcollection")
    for path in (tmp_path / "c").rglob("*"):
        assert b"MARKER" not in os.fsencode(path).upper()
        assert not path.is_file() or b"MARKER" not in path.read_bytes()


@awaited
async def test_the_store_does_not_grow_with_what_comes_and_goes(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    for number in range(40):
        await store.put("k", {"n": number})
    versions = len(CheckpointManager(tmp_path / "c").history((await store._all_stages())[0]))
    assert versions <= 16
    await store.put_many([f"session {number}" for number in range(40)], [{}] * 40, ttl=0.001)
    await asyncio.sleep(0.002)
    await store.cull()
    await store.delete("k")
    cm = CheckpointManager(tmp_path / "c")
    assert {len(cm.history(stage)) for stage in cm.stages()} == {1}, "what was deleted is in no earlier version"
    assert all(cm.load_checkpoint(stage)["collections"] == {} for stage in cm.stages())


@awaited
async def test_a_deletion_that_was_killed_is_finished_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, cm = CheckpointStore(tmp_path / "c"), CheckpointManager(tmp_path / "c")
    await store.put("k", {"n": 1})
    (stage,) = cm.stages()
    cm.tag(stage, 1, "good")
    with monkeypatch.context() as patch:
        patch.setattr(AsyncCheckpointManager, "prune", lambda *_: (_ for _ in ()).throw(RuntimeError))
        with pytest.raises(RuntimeError):
            await store.delete("k")
    assert await store.delete("k") is False
    assert [version.number for version in cm.history(stage)] == [2]


@awaited
async def test_what_expired_and_left_with_another_change_is_erased_by_a_culling(tmp_path: Path) -> None:
    store, cm = CheckpointStore(tmp_path / "c"), CheckpointManager(tmp_path / "c")
    await store.put("k", {"n": 1}, ttl=0.001)
    await asyncio.sleep(0.002)
    same = next(key for key in map(str, range(9999)) if store._stage_of("default_collection", key) == cm.stages()[0])
    await store.put(same, {"n": 2})
    await store.cull()
    assert [version.number for version in cm.history(cm.stages()[0])] == [2]


def test_a_manager_that_is_not_asynchronous_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="an AsyncCheckpointManager, not a CheckpointManager"):
        CheckpointStore(CheckpointManager(tmp_path / "c"))  # type: ignore[arg-type]


@awaited
async def test_ten_thousand_keys_are_listed_by_reading_each_stage_once() -> None:
    loads: Counter[str] = Counter()

    class Counting(AsyncCheckpointManager):
        async def load_checkpoint(self, stage_name: str, *args: Any, **kwargs: Any) -> Any:  # type: ignore[override]
            loads[stage_name] += 1
            return await super().load_checkpoint(stage_name, *args, **kwargs)

    store = CheckpointStore(Counting("memory:"))
    keys = [f"{number:05}" for number in range(10_000)]
    await store.put_many(keys, [{}] * len(keys))
    assert await store.keys() == keys
    assert len(loads) == 256
    assert set(loads.values()) == {1}


# Attacks and faults


def history_of(root: Path, cm: CheckpointManager) -> list[Path]:
    (stage,) = cm.stages()
    return sorted((root / "history" / stage.replace("/", "%2f")).glob("*.checkpoint"))


@awaited
async def test_what_is_damaged_or_older_is_an_error_and_never_a_missing_entry(tmp_path: Path) -> None:
    root = tmp_path / "c"
    cm = AsyncCheckpointManager(root)
    store = CheckpointStore(cm)
    await store.put("k", {"balance": 1})
    shutil.copytree(root, tmp_path / "older")
    await store.put("k", {"balance": 2})
    newest = history_of(root, CheckpointManager(root))[-1]
    content = newest.read_bytes()
    newest.chmod(0o600)
    newest.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
    for call in (lambda s: s.get("k"), lambda s: s.keys(), lambda s: s.put("k", {}), lambda s: s.delete("k")):
        with pytest.raises(IntegrityError):
            await call(CheckpointStore(AsyncCheckpointManager(root)))
    shutil.rmtree(root)
    shutil.copytree(tmp_path / "older", root)
    with pytest.raises(RollbackError):
        await CheckpointStore(AsyncCheckpointManager(root)).get("k")
    shutil.rmtree(root / "history")
    with pytest.raises((RollbackError, IntegrityError)):
        await CheckpointStore(AsyncCheckpointManager(root)).get("k")


@awaited
async def test_something_else_under_the_name_of_a_stage_is_refused_and_kept(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "c")
    store = CheckpointStore(tmp_path / "c")
    cm.save_checkpoint(store._stage_of("default_collection", "k"), {"mine": 1})
    with pytest.raises(FormatError, match="something other than"):
        await store.put("k", {})
    assert cm.load_checkpoint(store._stage_of("default_collection", "k")) == {"mine": 1}


@awaited
async def test_a_store_that_does_not_open_says_why(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("a file")
    with pytest.raises(StoreSetupError, match="c") as raised:
        await CheckpointStore(tmp_path / "c").get("k")
    assert raised.value.__cause__ is not None


@awaited
async def test_a_cancelled_put_is_whole_or_was_never_made(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "c")
    await store.put("first", {})
    for steps in range(25):
        call = asyncio.ensure_future(store.put("k", {"n": steps}))
        for _ in range(steps):
            await asyncio.sleep(0.0002)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
        found = await store.get("k")
        await asyncio.sleep(0.001)
        assert await store.get("k") == found, "nothing happens afterwards"
    await store.put("k", {"n": "after"})
    assert await store.get("k") == {"n": "after"}
    assert CheckpointManager(tmp_path / "c").verify().ok


PUTTING = """
import asyncio, itertools, sys
from checkpoint_manager.integrations import key_value
from checkpoint_manager.integrations.key_value import CheckpointStore

async def main():
    store, name = CheckpointStore(sys.argv[1]), sys.argv[2]
    for number in itertools.islice(itertools.count(), int(sys.argv[3])):
        await store.put(f"{name} {number}", {"n": number})
        print(number, flush=True)

asyncio.run(main())
"""


@awaited
async def test_what_was_acknowledged_before_a_kill_is_there(tmp_path: Path) -> None:
    for kill in range(KILLS):
        lines = lines_of_killed(PUTTING, tmp_path / "c", f"k{kill}", "100000", after=5)
        store = CheckpointStore(tmp_path / "c")
        found = await store.get_many([f"k{kill} {number}" for number in range(len(lines) + 1)])
        assert found[: len(lines)] == [{"n": number} for number in range(len(lines))]
        await store.put("after", {"kill": kill})
    assert CheckpointManager(tmp_path / "c").verify().ok


@awaited
async def test_two_processes_put_into_the_same_stages(tmp_path: Path) -> None:
    processes = [start(PUTTING, tmp_path / "c", name, "60") for name in "ab"]
    assert [len(process.communicate()[0].splitlines()) for process in processes] == [60, 60]
    keys = await CheckpointStore(tmp_path / "c").keys()
    assert sorted(keys) == sorted(f"{name} {number}" for name in "ab" for number in range(60))


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    run_example(key_value)
    assert capsys.readouterr().out == "{'scope': 'read'}\n"
