"""SIGTERM, Ctrl-C and exceptions in a loop: the newest whole state is kept. And where a loop goes on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, FingerprintError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path
    from types import FrameType

KEY = bytes(32)

SCRIPT = """
import os, signal, sys, time
from checkpoint_manager import CheckpointManager
signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a measurement of coverage has a handler of its own
cm = CheckpointManager("store", key=bytes(32))
with cm.loop("count", range(1234), initial=INITIAL, bar=False) as loop:
    for item in loop:
        loop.state["items"].append(item)
        if item == 1200 and "go on" not in sys.argv:
            print("ready", flush=True)
            ACT
print(len(loop.result["items"]))
"""


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


@pytest.fixture(autouse=True)
def default_handler() -> Iterator[None]:
    """Take away the handler that a measurement of coverage has."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


def run(folder: Path, act: str, initial: str = '{"items": []}', *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "script.py").write_text(SCRIPT.replace("ACT", act).replace("INITIAL", initial))
    command = [sys.executable, "script.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder, timeout=60)


LARGE = '{"items": [], "rest": "x" * 3_000_000}'
"""A state that is not copied after each item."""


@pytest.mark.parametrize("initial", ['{"items": []}', LARGE])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_newest_state_and_ends_the_process_as_without(
    cm: CheckpointManager, tmp_path: Path, number: signal.Signals, initial: str
) -> None:
    done = run(tmp_path, f"os.kill(os.getpid(), {int(number)})", initial)
    assert done.returncode == -number, done.stderr
    newest = cm.get_version("count")
    assert newest.status == "progress"
    # a small state is copied after nearly each item; with a large one, the item is ended first
    assert newest.metadata["@progress"]["done"] in ({1199, 1200, 1201} if "rest" not in initial else {1201})
    state = cm.get_checkpoint("count", newest.number).data
    assert state["items"] == list(range(newest.metadata["@progress"]["done"]))
    assert run(tmp_path, "pass", initial, "go on").stdout == "1234\n"


def test_the_log_says_what_stopped_it(cm: CheckpointManager, tmp_path: Path) -> None:
    done = run(tmp_path, "os.kill(os.getpid(), 15)", "(__import__('logging').basicConfig(level='INFO'), {'items': []})[1]")
    assert re.search(r"count: stopped after .* \(SIGTERM\), version 1 continues after 1,\d{3} of 1,234 items", done.stderr)
    assert cm.get_version("count").status == "progress"


def test_a_second_signal_does_not_wait_for_the_item(cm: CheckpointManager, tmp_path: Path) -> None:
    done = run(tmp_path, "os.kill(os.getpid(), 15); os.kill(os.getpid(), 15); time.sleep(60)", LARGE)
    assert done.returncode == -signal.SIGTERM
    assert cm.get_version("count").status == "progress"


def test_sigterm_in_nested_loops_saves_both(cm: CheckpointManager, tmp_path: Path) -> None:
    act = (
        "with cm.loop('inner', range(3), initial=[], bar=False) as inner:\n"
        "                for each in inner:\n"
        "                    inner.state.append(each)\n"
        "                    if each == 1: time.sleep(0.01); os.kill(os.getpid(), 15); time.sleep(0.01)"
    )
    assert run(tmp_path, act).returncode == -signal.SIGTERM
    assert [cm.get_version(stage).status for stage in ("inner", "count")] == ["progress", "progress"]


def test_a_handler_of_the_callers_own_is_left_alone(cm: CheckpointManager, tmp_path: Path) -> None:
    act = (
        "signal.signal(15, lambda *_: print('mine', flush=True)); inner = cm.loop('i', [1], initial=0, bar=False)\n"
        "            with inner:\n"
        "                for _ in inner: os.kill(os.getpid(), 15)"
    )
    done = run(tmp_path, act)
    assert (done.returncode, done.stdout) == (0, "ready\nmine\n1234\n")


def test_ctrl_c_lets_the_item_at_hand_end_if_the_state_is_not_copied(cm: CheckpointManager) -> None:
    """A large state is not copied after each item: to end at once would lose all that was done since."""

    def work(*, is_interrupted: bool) -> list[object]:
        with cm.loop("count", range(1234), initial={"items": [], "rest": "x" * 3_000_000}, bar=False) as loop:
            assert loop.done == (0 if is_interrupted else 1201)
            for item in loop:
                loop.state["items"].append(item)
                if item == 1200 and is_interrupted:
                    os.kill(os.getpid(), signal.SIGINT)
                    loop.state["items"].append("the rest of it")
        return loop.result["items"]

    with pytest.raises(KeyboardInterrupt):
        work(is_interrupted=True)
    items = work(is_interrupted=False)
    assert items[1200:1203] == [1200, "the rest of it", 1201]
    assert len(items) == 1235


def test_ctrl_c_while_the_end_is_saved_interrupts_after_it(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    save = cm._runner.save

    def interrupted(*arguments: Any) -> int:
        os.kill(os.getpid(), signal.SIGINT)
        return save(*arguments)

    monkeypatch.setattr(cm._runner, "save", interrupted)
    with pytest.raises(KeyboardInterrupt), cm.loop("count", [1], initial=0, bar=False) as loop:
        list(loop)
    assert cm.load_checkpoint("count") == 0


def test_handlers_are_put_back_after_the_loop(cm: CheckpointManager) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    with cm.loop("count", [1], initial=0, bar=False) as loop:
        assert signal.getsignal(signal.SIGTERM) not in before
        list(loop)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
# The interpreter closes the lock file when the traceback goes, and warns of it.
@pytest.mark.parametrize("step", ["Loop.__exit__", "Loop._close", "end"])
def test_an_interruption_at_the_end_of_a_loop_does_not_keep_it(cm: CheckpointManager, step: str) -> None:
    def interrupt(frame: FrameType, _: str, __: object) -> None:
        if frame.f_code.co_qualname == step and "/stages/" in frame.f_code.co_filename:
            sys.settrace(None)
            raise KeyboardInterrupt

    def work() -> int:
        with cm.loop("count", [1, 2], initial=0, bar=False, wait=False) as loop:
            for item in loop:
                loop.state += item
        return loop.result

    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        work()
    except KeyboardInterrupt:
        pass  # its traceback ends here
    finally:
        sys.settrace(before)
    assert work() == 3


def test_a_loop_in_a_thread_sets_no_handlers(cm: CheckpointManager) -> None:
    def work() -> None:
        with cm.loop("count", [1, 2], initial=0, bar=False) as loop:
            seen.append(signal.getsignal(signal.SIGTERM))
            list(loop)

    seen: list[Any] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.SIG_DFL]


def test_a_child_that_is_forked_in_a_loop_dies_of_sigterm(cm: CheckpointManager) -> None:
    with cm.loop("count", [1], initial=0, bar=False) as loop:
        for _ in loop:
            child = os.fork()
            if not child:
                os.kill(os.getpid(), signal.SIGTERM)
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


def test_save_saves_when_the_item_is_done(cm: CheckpointManager) -> None:
    with cm.loop("count", [1, 2, 3], initial=[], bar=False) as loop:
        for item in loop:
            if item == 3:
                assert cm.get_version("count").metadata["@progress"]["done"] == 2
                assert cm.get_checkpoint("count", 1).data == [1, 2]
            loop.state.append(item)
            if item == 2:
                loop.save()
                assert cm.history("count") == []
    assert loop.result == [1, 2, 3]


def test_a_source_is_told_where_to_go_on(cm: CheckpointManager) -> None:
    def rows(start: int) -> Iterator[int]:
        starts.append(start)
        yield from range(start, 10)

    starts: list[int] = []
    for stop in (4, 99):
        with cm.loop("sum", rows, initial=[], key="rows", bar=False) as loop:
            for item in loop:
                if item == stop:
                    break
                loop.state.append(item)
                loop.save()
    assert loop.result == list(range(10))
    assert starts == [0, 4]
    with pytest.raises(FingerprintError, match="items is a function"):
        cm.loop("sum", rows, initial=[])


def test_an_async_source_is_told_where_to_go_on(cm: CheckpointManager) -> None:
    async def rows(start: int) -> AsyncIterator[int]:
        starts.append(start)
        for item in range(start, 10):
            yield item

    async def add(stop: int) -> list[int]:
        async with cm.loop("sum", rows, initial=[], key="rows", bar=False) as loop:
            async for item in loop:
                if item == stop:
                    break
                loop.state.append(item)
                loop.save()
        return loop.state

    starts: list[int] = []
    asyncio.run(add(4))
    assert asyncio.run(add(99)) == list(range(10))
    assert starts == [0, 4]


def test_items_that_were_appended_go_on(cm: CheckpointManager, tmp_path: Path) -> None:
    def add(items: list[int], stop: int = 99) -> list[int]:
        done.clear()
        with CheckpointManager(tmp_path / "store", key=KEY).loop("sum", items, initial=[], bar=False) as loop:
            for item in loop:
                if item == stop:
                    return loop.state
                done.append(item)
                loop.state.append(item)
                loop.save()
        assert loop.reused is (not done)
        return loop.result

    done: list[int] = []
    add([1, 2, 3], stop=3)
    assert (add([1, 2, 3, 4]), done) == ([1, 2, 3, 4], [3, 4])
    assert (add([1, 2, 3, 4, 5, 6]), done) == ([1, 2, 3, 4, 5, 6], [5, 6])
    assert (add([1, 2, 3, 4, 5, 6]), done) == ([1, 2, 3, 4, 5, 6], [])
    assert (add([1, 2, 3, 4]), done) == ([1, 2, 3, 4], [])
    assert (add([2, 1, 3, 4, 5, 6, 7]), done) == ([2, 1, 3, 4, 5, 6, 7], [2, 1, 3, 4, 5, 6, 7])
    assert [version.status for version in cm.history("sum")] == ["completed", "completed", "completed", "progress", "progress"]
