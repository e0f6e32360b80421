"""Several processes and threads on one thread of a graph, and processes that are killed.

``CHECKPOINT_MANAGER_KILLS=500`` kills so many.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager
from tests import forking

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("langgraph.checkpoint")

from langgraph.checkpoint.base import empty_checkpoint

from checkpoint_manager.integrations.langgraph import CheckpointSaver

LOCATIONS = ["{}", "sqlite:///{}"]
KILLS = int(os.environ.get("CHECKPOINT_MANAGER_KILLS", "12"))


def opened(place: str) -> CheckpointSaver:
    return CheckpointSaver(CheckpointManager(place, key=bytes(range(32))))


def config(id_: str | None = None) -> dict[str, Any]:
    return {"configurable": {"thread_id": "1", "checkpoint_ns": "", **({"checkpoint_id": id_} if id_ else {})}}


def put(saver: CheckpointSaver, id_: str, parent: str | None = None) -> None:
    made = {**empty_checkpoint(), "id": id_, "channel_values": {"value": id_}}
    saver.put(config(parent), made, {"source": "loop", "step": 1}, {})


def put_both(saver: CheckpointSaver, id_: str) -> None:
    put(saver, id_)
    saver.put_writes(config(id_), [("value", id_)], "task")


def check(saver: CheckpointSaver, ids: set[str]) -> None:
    """Check that these are there, each with its value and its writes."""
    found = {each.config["configurable"]["checkpoint_id"]: each for each in saver.list(config())}
    assert ids <= set(found)
    for id_ in ids:
        assert found[id_].checkpoint["channel_values"] == {"value": id_}
        assert found[id_].pending_writes == [("task", "value", id_)]


@pytest.mark.parametrize("location", LOCATIONS)
def test_processes_write_to_one_thread_at_once(location: str, tmp_path: Path) -> None:
    place = location.format(tmp_path / "store")
    put(opened(place), "0")
    names = [[f"{process}{number:02}" for number in range(12)] for process in "abc"]
    children = [forking.start(lambda mine=mine: [put_both(opened(place), id_) for id_ in mine] and 0) for mine in names]
    assert [forking.end(child) for child in children] == [0, 0, 0]
    check(opened(place), {id_ for mine in names for id_ in mine})


def test_threads_write_to_one_thread_at_once(tmp_path: Path) -> None:
    saver = opened(str(tmp_path / "store"))
    names = [f"{number:03}" for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        list(
            pool.map(lambda id_: (put_both(saver, id_), saver.get_tuple(config()), list(saver.list(config(), limit=3))), names)
        )
    check(saver, set(names))
    check(opened(str(tmp_path / "store")), set(names))


def test_a_reader_sees_a_checkpoint_while_others_are_deleted(tmp_path: Path) -> None:
    place = str(tmp_path / "store")
    for number in range(10):
        put(opened(place), f"{number:03}")

    def write() -> None:
        saver = CheckpointSaver(CheckpointManager(place, key=bytes(range(32))), keep_last=1)
        for number in range(10, 50):
            put(saver, f"{number:03}")

    child, reader = forking.start(write), opened(place)
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        assert reader.get_tuple(config()) is not None
    assert reader.get_tuple(config()).checkpoint["id"] == "049"


@pytest.mark.parametrize("location", LOCATIONS)
def test_what_was_acknowledged_survives_a_kill(location: str, tmp_path: Path) -> None:
    """Kill a writer at random moments: what it acknowledged is there, the thread reads well, and the next writer goes on."""
    place, chance = location.format(tmp_path / "store"), random.Random()
    put_both(opened(place), "start")
    acknowledged = {"start"}
    for attempt in range(KILLS):
        reading, writing = os.pipe()

        def write(attempt: int = attempt, writing: int = writing) -> None:
            saver = CheckpointSaver(CheckpointManager(place, key=bytes(range(32))))
            for number in range(10_000):
                put_both(saver, f"{attempt:05} {number:05}")
                os.write(writing, f"{attempt:05} {number:05}\n".encode())

        child = forking.start(write)
        os.close(writing)
        with open(reading, "rb") as pipe:
            acknowledged.add(pipe.readline().decode().strip())
            time.sleep(chance.uniform(0, 0.02))
            os.kill(child, signal.SIGKILL)
            acknowledged |= set(pipe.read().decode().split("\n")) - {""}
        assert forking.end(child) == -signal.SIGKILL
        newest = opened(place).get_tuple(config())
        assert newest.checkpoint["channel_values"] == {"value": newest.checkpoint["id"]}
    check(opened(place), acknowledged)


def test_a_kill_between_a_checkpoint_and_its_writes_leaves_the_checkpoint(tmp_path: Path) -> None:
    place = str(tmp_path / "store")

    def write() -> None:
        put(opened(place), "1")
        os.kill(os.getpid(), signal.SIGKILL)

    assert forking.end(forking.start(write)) == -signal.SIGKILL
    saver = opened(place)
    assert saver.get_tuple(config()).pending_writes == []
    saver.put_writes(config("1"), [("value", "again")], "task")
    assert opened(place).get_tuple(config()).pending_writes == [("task", "value", "again")]


def test_a_child_that_was_forked_during_a_put_can_put(tmp_path: Path) -> None:
    saver = opened(str(tmp_path / "store"))
    done = threading.Event()

    def put_all() -> None:
        while not done.is_set():
            put_both(saver, f"parent {time.monotonic_ns()}")

    def put_one() -> None:
        signal.alarm(30)  # it would wait for ever for a thread that is not there
        put_both(saver, "child")

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(put_all)
        time.sleep(0.02)
        ended = [forking.end(forking.start(put_one)) for _ in range(3)]
        done.set()
    writing.result()
    assert ended == [0, 0, 0]
    check(opened(str(tmp_path / "store")), {"child"})


def test_a_cancelled_put_is_finished_first_or_was_never_made(tmp_path: Path) -> None:
    saver, manager = opened(str(tmp_path / "store")), CheckpointManager(tmp_path / "store", key=bytes(range(32)))
    made = {**empty_checkpoint(), "channel_values": {"value": "x" * 1_000_000}}

    async def put_and_cancel() -> None:
        for _ in range(10):
            task = asyncio.create_task(saver.aput(config(), {**made, "id": str(uuid.uuid4())}, {}, {}))
            await asyncio.sleep(0.002)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            there = len(manager.history("langgraph/1"))
            await asyncio.sleep(0.02)
            assert len(manager.history("langgraph/1")) == there, "nothing happens afterwards"

    asyncio.run(put_and_cancel())
