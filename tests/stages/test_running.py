"""What runs now, as another process sees it: who began it, when, and how far it is."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import (
    AsyncCheckpointManager,
    CheckpointError,
    CheckpointManager,
    LockTimeoutError,
    Running,
    StageStatus,
    StorageError,
)
from checkpoint_manager.stages import loop as loop_module
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(32)


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


@pytest.fixture(autouse=True)
def tells_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_TELL_SECONDS", 0.0)
    monkeypatch.setattr(loop_module, "_SHARE_OF_TELLING", 1e9)


def during(cm: CheckpointManager, act: Callable[[], object]) -> None:
    """Do something while the function ``slow`` of another manager of the store runs in another thread."""
    begun, ended = threading.Event(), threading.Event()

    def slow() -> int:
        begun.set()
        ended.wait(60)
        return 1

    other = CheckpointManager(cm._store.backend.location, key=KEY)
    thread = threading.Thread(target=other.stage(slow))
    thread.start()
    try:
        assert begun.wait(60)
        act()
    finally:
        ended.set()
        thread.join()


def only(cm: CheckpointManager) -> Running:
    (run,) = cm.running()
    return run


def test_a_function_of_another_process_is_seen_until_it_is_killed(cm: CheckpointManager) -> None:
    reading, writing = os.pipe()

    def slow() -> None:
        os.write(writing, b"x")
        time.sleep(60)

    child = forking.start(CheckpointManager(cm._store.backend.location, key=KEY).stage(slow))
    try:
        os.read(reading, 1)
        run = only(cm)
        assert (run.stage, run.done, run.total, run.expected_end) == ("slow", None, None, None)
        assert run.origin is not None
        assert (run.origin.pid, run.origin.host) == (child, os.uname().nodename)
        assert run.started_at is not None
        assert timedelta() <= datetime.now(UTC) - run.started_at < timedelta(minutes=1)
        assert run.run_id
        assert cm.status() == [StageStatus("slow", running=(run,))]
        assert cm.status()[0].state == "running"
    finally:
        os.kill(child, signal.SIGKILL)
        forking.end(child)
        os.close(reading)
        os.close(writing)
    assert cm.running() == []
    assert cm.status() == []


def test_a_loop_says_how_far_it_is_and_when_it_will_end(cm: CheckpointManager) -> None:
    seen: list[Running] = []
    with cm.loop("embed", range(10), initial=0, bar=False) as loop:
        for item in loop:
            seen.append(only(cm))
            if item == 3:
                break
    assert [(run.done, run.total, run.resumed_from) for run in seen] == [(done, 10, 0) for done in range(4)]
    assert [run.expected_end is None for run in seen] == [True, False, False, False]
    with cm.loop("embed", range(10), initial=0, bar=False) as loop:
        for _ in loop:
            seen.append(only(cm))
            break
    assert (seen[-1].done, seen[-1].resumed_from) == (3, 3)
    assert cm.running() == []


def test_an_async_loop_and_one_of_unknown_length_tell_it_too(tmp_path: Path) -> None:
    async def work() -> list[Running]:
        async with AsyncCheckpointManager(tmp_path / "store", key=KEY) as cm:
            seen = []
            async with cm.loop("rows", iter("abc"), initial=0, key="abc", bar=False) as loop:
                async for _ in loop:
                    seen += await cm.running("rows")
                    assert await cm.running("other") == []
            assert [each.state for each in await cm.status("r")] == ["completed"]
            return seen

    assert [(run.done, run.total) for run in asyncio.run(work())] == [(0, None), (1, None), (2, None)]


def test_a_loop_in_a_function_of_the_same_name_is_one_run(cm: CheckpointManager) -> None:
    seen: list[Running] = []

    @cm.stage
    def embed() -> int:
        with cm.loop("embed", range(3), initial=0, bar=False) as loop:
            seen.extend(only(cm) for _ in loop)
        return loop.result

    embed()
    assert [(run.done, run.total) for run in seen] == [(0, 3), (1, 3), (2, 3)]


def test_calls_with_different_arguments_are_told_apart(cm: CheckpointManager) -> None:
    seen: list[Running] = []

    @cm.stage
    def work(depth: int) -> int:
        if depth:
            return int(work(depth - 1)) + 1
        seen.extend(cm.running())
        return 0

    work(2)
    assert [run.stage for run in seen] == ["work"] * 3
    assert sorted(run.started_at for run in seen if run.started_at) == [run.started_at for run in seen]


def test_a_save_with_attachments_is_no_run(cm: CheckpointManager) -> None:
    seen: list[Running] = []
    cm.save_checkpoint("train", attachments={"w": b"w"}, progress=lambda _: seen.extend(cm.running()))
    assert seen == []


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), StorageError("the lease can't be written", errno=28)]
)
def test_a_failure_to_tell_ends_no_run(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def refuse(*_: object) -> int:
        raise error

    monkeypatch.setattr(os, "pwrite", refuse)
    with cm.loop("embed", range(3), initial=0, bar=False) as loop:
        for _ in loop:
            loop.state += 1
    assert loop.result == 3


class TestWhoeverMayWriteToTheStore:
    def lock_file(self, tmp_path: Path) -> Path:
        (found,) = (tmp_path / "store" / ".locks").glob("*.run")
        return found

    def test_reads_no_names_there(self, cm: CheckpointManager, tmp_path: Path) -> None:
        during(cm, lambda: self.shows_nothing(self.lock_file(tmp_path).read_bytes()))

    def shows_nothing(self, notice: bytes) -> None:
        assert len(notice) > 512
        for told in (b"slow", os.uname().nodename.encode(), str(os.getpid()).encode(), b"started"):
            assert told not in notice.partition(b"\n")[2]

    @pytest.mark.parametrize("kind", ["flipped", "cut", "nothing", "endless"])
    def test_can_hide_who_runs_a_stage_and_no_more(self, cm: CheckpointManager, tmp_path: Path, kind: str) -> None:
        cm.save_checkpoint("slow", 1)

        def damage() -> None:
            path = self.lock_file(tmp_path)
            notice = bytearray(path.read_bytes())
            notice[-1] ^= 1
            changed = {"flipped": notice, "cut": notice[:100], "nothing": b"", "endless": b"{" * 1_000_000}[kind]
            path.write_bytes(changed)
            assert cm.running() == [Running("slow")]

        during(cm, damage)

    def test_can_give_no_run_the_notice_of_another(self, cm: CheckpointManager, tmp_path: Path) -> None:
        def plant() -> None:
            notice = self.lock_file(tmp_path).read_bytes()
            for stage, name in (("slow", "1" * 32), ("other", self.lock_file(tmp_path).stem.partition("~")[2])):
                with cm._store.backend.lock(stage, 0, purpose="run", name=name) as lock:
                    lock.write_notice(notice)  # type: ignore[attr-defined]
                    assert [run.stage for run in cm.running()] == ["slow"]  # no version of the planted ones is known

        during(cm, plant)

    def test_has_nothing_written_through_a_link(self, cm: CheckpointManager, tmp_path: Path) -> None:
        victim, name = tmp_path / "victim", "2" * 32
        victim.write_bytes(b"precious")
        (tmp_path / "store" / ".locks").mkdir()
        os.link(victim, tmp_path / "store" / ".locks" / f"work~{name}.run")
        with cm._store.backend.lock("work", 0, purpose="run", name=name) as lock:
            lock.write_notice(b"notice")  # type: ignore[attr-defined]
        assert victim.read_bytes() == b"precious"

    def test_plants_files_that_are_not_held_in_vain(self, cm: CheckpointManager, tmp_path: Path) -> None:
        locks = tmp_path / "store" / ".locks"
        locks.mkdir()
        (locks / f"a~{'1' * 32}.run").write_bytes(b"x")
        (locks / f"b~{'1' * 32}.run").mkdir()
        os.mkfifo(locks / f"c~{'1' * 32}.run")
        (locks / f"d~{'1' * 32}.run").symlink_to("/dev/zero")
        (locks / f"%zz~{'1' * 32}.run").write_bytes(b"x")
        assert cm.running() == []


def test_a_notice_under_a_key_that_was_given_up_is_of_nobody(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("slow", 1)

    def rotate() -> None:
        cm.keys.rotate()
        assert cm.running() == [Running("slow")]

    during(cm, rotate)


def test_another_key_of_the_store_opens_it_as_well(cm: CheckpointManager, tmp_path: Path) -> None:
    another = bytes(31) + b"1"
    cm.keys.add(another)

    def look() -> None:
        assert only(CheckpointManager(tmp_path / "store", key=another)).origin is not None

    during(cm, look)


def test_an_end_beyond_the_calendar_is_not_told() -> None:
    began = datetime(2026, 1, 1, tzinfo=UTC)
    slow = Running("train", began, began + timedelta(days=1), done=1, total=10**9)
    assert slow.expected_end is None
    assert Running("train", began, began + timedelta(days=1), done=1, total=3).expected_end == began + timedelta(days=3)


def test_a_stage_whose_newest_version_can_not_be_read_hides_no_other(cm: CheckpointManager, tmp_path: Path) -> None:
    for stage in ("clean", "train"):
        cm.save_checkpoint(stage, 1)
    for path in (tmp_path / "store").rglob("*clean*/*.checkpoint"):
        path.write_bytes(b"damaged")
    found = CheckpointManager(tmp_path / "store", key=KEY).status()
    assert [(each.stage, each.state) for each in found] == [("clean", "damaged"), ("train", "completed")]
    assert StageStatus("new").state == "new"


def test_in_an_event_loop_a_loop_that_another_thread_runs_is_refused(cm: CheckpointManager) -> None:
    """Waiting for it would keep all tasks waiting."""

    async def loop_without_waiting(wait: float) -> None:
        with CheckpointManager(cm._store.backend.location, key=KEY).loop("slow", [1], initial=0, wait=wait, bar=False) as loop:
            list(loop)

    def refused() -> None:
        with pytest.raises(LockTimeoutError, match="by MainThread of this process"):
            asyncio.run(loop_without_waiting(0))
        with pytest.raises(CheckpointError, match="waiting for it would block the event loop") as caught:
            asyncio.run(loop_without_waiting(5))
        assert caught.value.hint == "Use async with"

    with cm.loop("slow", [1], initial=0, bar=False) as held:
        thread = threading.Thread(target=refused)
        thread.start()
        thread.join()
        list(held)
