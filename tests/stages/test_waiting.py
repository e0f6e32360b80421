"""Who waits for whom: same arguments run once, others at the same time, and no caller waits for itself."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import gc
import itertools
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, LockTimeoutError
from checkpoint_manager._format.notes import Note
from checkpoint_manager.stages.run import Run
from tests import forking

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

KEY = bytes(32)
BY_ITSELF = "is called by itself with the same arguments, and would wait for itself"


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


def in_thread(function: Callable[[], Any]) -> Any:
    """Run a function in a thread that knows nothing of this one, and return its result."""
    results: list[Any] = []

    def work() -> None:
        try:
            results.append(function())
        except Exception as error:
            results.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return raised(results[0])


def raised(result: Any) -> Any:
    if isinstance(result, Exception):
        raise result
    return result


def in_executor(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def in_executor_map(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return next(iter(pool.map(lambda _: function(), [0])))


def in_executor_that_is_waited_for(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function)
        concurrent.futures.wait([future])
        return future.result()


def in_executor_that_is_shut_down(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(function)
    return future.result()


def in_thread_pool(function: Callable[[], Any]) -> Any:
    with ThreadPool(1) as pool:
        return pool.apply(function)


def in_executor_with_the_context(function: Callable[[], Any]) -> Any:
    context = contextvars.copy_context()
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(context.run, function).result()


def in_thread_of_a_thread(function: Callable[[], Any]) -> Any:
    return in_executor(lambda: in_thread(function))


def in_thread_of_a_loop(function: Callable[[], Any]) -> Any:
    return asyncio.run(asyncio.to_thread(function))


def in_a_task(function: Callable[[], Any]) -> Any:
    async def main() -> Any:
        async def call() -> Any:
            return function()

        return await asyncio.create_task(call())

    return asyncio.run(main())


WAYS = [
    lambda function: function(),
    in_thread,
    in_executor,
    in_executor_map,
    in_executor_that_is_waited_for,
    in_executor_that_is_shut_down,
    in_thread_pool,
    in_executor_with_the_context,
    in_thread_of_a_thread,
    in_thread_of_a_loop,
    in_a_task,
]


class TestThreads:
    @pytest.mark.parametrize("way", WAYS)
    def test_a_stage_that_waits_for_itself_is_told_so(self, cm: CheckpointManager, way: Any) -> None:
        @cm.stage
        def size(depth: int) -> Any:
            return way(lambda: size(depth))

        with pytest.raises(CheckpointError, match=BY_ITSELF):
            size(1)

    @pytest.mark.parametrize("way", WAYS[:-1])  # an event loop runs in no other one
    def test_a_stage_that_calls_itself_with_other_arguments_runs(self, cm: CheckpointManager, way: Any) -> None:
        @cm.stage
        def size(depth: int) -> int:
            return way(lambda: size(depth - 1)) + 1 if depth else 0

        assert size(2) == 2
        assert len(cm.run_report().ran) == 3

    def test_two_stages_that_wait_for_each_other_are_told_so(self, cm: CheckpointManager) -> None:
        barrier, entered = threading.Barrier(2), []

        def meet() -> None:
            entered.append(1)
            if len(entered) <= 2:
                barrier.wait(30)

        @cm.stage
        def one() -> None:
            meet()
            other()

        @cm.stage
        def other() -> None:
            meet()
            one()

        def work(stage: Callable[[], None]) -> Exception | None:
            try:
                stage()
            except CheckpointError as error:
                return error
            return None

        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(work, [one, other]))
        assert all(BY_ITSELF in str(result) for result in results)

    def test_a_thread_that_is_not_waited_for_waits_and_takes_the_result(self, cm: CheckpointManager) -> None:
        results: list[Any] = []
        threads: list[threading.Thread] = []

        @cm.stage
        def train(number: int) -> int:
            threads.append(threading.Thread(target=lambda: results.append(train(number))))
            threads[-1].start()
            time.sleep(0.3)
            return number

        assert train(1) == 1
        for thread in threads:
            thread.join()
        assert results == [1]
        assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "reused"]

    def test_a_loop_in_whose_task_a_stage_runs_is_not_taken_for_one_that_waits(self, cm: CheckpointManager) -> None:
        """The thread of the event loop waits for all its tasks, but the stage in one of them goes on by itself."""
        begun = threading.Event()

        @cm.stage
        def train(number: int) -> int:
            begun.set()
            time.sleep(0.3)
            return number

        def call_when_begun() -> int:
            begun.wait()
            return train(1)

        async def call() -> int:
            await asyncio.sleep(0.05)
            return train(1)

        async def main() -> list[int]:
            return await asyncio.gather(asyncio.to_thread(call_when_begun), call())

        assert asyncio.run(main()) == [1, 1]
        assert len(cm.run_report().ran) == 1

    def test_calls_with_different_arguments_run_at_the_same_time(self, cm: CheckpointManager) -> None:
        barrier = threading.Barrier(8)

        @cm.stage
        def train(number: int) -> int:
            barrier.wait(30)  # which breaks unless all are here
            return number

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(train, range(8))) == list(range(8))
        assert not os.listdir(os.path.join(cm._store.backend.location, ".locks")) or all(
            not name.endswith(".run") for name in os.listdir(os.path.join(cm._store.backend.location, ".locks"))
        )

    def test_tasks_with_different_arguments_run_at_the_same_time(self, cm: CheckpointManager) -> None:
        async def main() -> list[int]:
            barrier = asyncio.Barrier(30)

            @cm.stage
            async def train(number: int) -> int:
                async with asyncio.timeout(30), barrier:  # which breaks unless all are here
                    return number

            return await asyncio.gather(*map(train, range(30)))

        assert asyncio.run(main()) == list(range(30))

    def test_a_wait_of_so_many_seconds_ends_and_names_the_thread(self, cm: CheckpointManager, caplog: Any) -> None:
        caplog.set_level(logging.INFO, logger="checkpoint_manager")
        release, begun = threading.Event(), threading.Event()

        @cm.stage(wait=0.6)
        def train() -> int:
            begun.set()
            release.wait()
            return 1

        thread = threading.Thread(target=train, name="the other")
        thread.start()
        begun.wait()
        with pytest.raises(LockTimeoutError, match="stage train is being run with these arguments by the other") as caught:
            train()
        assert caught.value.holder == "the other of this process"
        assert "train: waits for the other of this process, which runs it" in caplog.text
        release.set()
        thread.join()

    @pytest.mark.parametrize("wait", [-1, float("nan")])
    def test_a_wait_that_is_none_is_refused(self, cm: CheckpointManager, wait: float) -> None:
        with pytest.raises(ValueError, match="wait must be True, False or a number of seconds, 0 or more"):
            cm.stage(wait=wait)(len)
        with pytest.raises(ValueError, match="wait must be True, False or a number of seconds, 0 or more"):
            cm.loop("sum", [], initial=0, wait=wait)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of the lock's file, which its finaliser closes
def test_a_lock_that_nothing_refers_to_any_more_is_free(cm: CheckpointManager) -> None:
    """As an interrupt leaves it that comes between taking a lock and the block that releases it."""
    run = Run(cm._runner.store_id, "train", Note(1))
    for _ in range(2):
        lock = cm._runner.lock(run, is_blocking=True)
        lock.acquire(0, print)
        assert lock.is_held
        del lock
        gc.collect()


class TestProcesses:
    def test_a_forked_child_that_waits_for_its_parent_is_told_so(self, cm: CheckpointManager) -> None:
        @cm.stage
        def train(number: int) -> int:
            def in_child() -> bool:
                try:
                    train(number)
                except CheckpointError as error:
                    return BY_ITSELF not in str(error)
                return True

            return forking.end(forking.start(in_child))

        assert train(1) == 0

    def test_a_forked_child_may_call_the_stage_when_the_parent_is_done(self, cm: CheckpointManager) -> None:
        children: list[Any] = []
        reader, writer = os.pipe()

        @cm.stage
        def train(number: int) -> int:
            children.append(forking.start(lambda: not (os.read(reader, 1) and train(number) == number)))
            return number

        assert train(1) == 1
        os.write(writer, b"x")
        assert forking.end(children[0]) == 0
        os.close(reader)
        os.close(writer)

    def test_different_arguments_run_at_the_same_time_and_the_same_once(self, tmp_path: Path) -> None:
        program = """
import os, sys, time
from checkpoint_manager import CheckpointManager
cm = CheckpointManager(sys.argv[1], key=bytes(32))

@cm.stage
def train(number):
    open(f"{sys.argv[1]}.{number}", "x").close()  # fails if it runs twice
    while not all(os.path.exists(f"{sys.argv[1]}.{each}") for each in range(2)):
        time.sleep(0.01)
    return number

train(int(sys.argv[2]))
"""
        store = tmp_path / "store"
        commands = [[sys.executable, "-c", program, str(store), str(number % 2)] for number in range(4)]
        children = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
        for child in children:
            _, err = child.communicate(timeout=60)
            assert child.returncode == 0, err
        assert [name for name in os.listdir(store / ".locks") if name.endswith(".run")] == []


async def gathered(call: Callable[[], Awaitable[Any]]) -> Any:
    return (await asyncio.gather(call()))[0]


async def as_task(call: Callable[[], Any]) -> Any:
    return await asyncio.create_task(call())


async def in_task_group(call: Callable[[], Any]) -> Any:
    try:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(call())
    except* CheckpointError as errors:
        raise errors.exceptions[0] from None
    return task.result()


async def waited(call: Callable[[], Any]) -> Any:
    done, _ = await asyncio.wait([asyncio.create_task(call())])
    return done.pop().result()


async def shielded(call: Callable[[], Any]) -> Any:
    return await asyncio.shield(call())


async def timed(call: Callable[[], Any]) -> Any:
    return await asyncio.wait_for(call(), 60)


async def in_another_loop(call: Callable[[], Any]) -> Any:
    return await asyncio.to_thread(lambda: asyncio.run(call()))


async def from_a_thread(call: Callable[[], Any]) -> Any:
    loop = asyncio.get_running_loop()
    return await asyncio.to_thread(lambda: asyncio.run_coroutine_threadsafe(call(), loop).result())


async def directly(call: Callable[[], Any]) -> Any:
    return await call()


ASYNC_WAYS = [directly, as_task, gathered, in_task_group, waited, shielded, timed, in_another_loop, from_a_thread]


class TestTasks:
    @pytest.mark.parametrize("way", ASYNC_WAYS)
    def test_a_stage_that_awaits_itself_is_told_so(self, cm: CheckpointManager, way: Any) -> None:
        @cm.stage
        async def size(depth: int) -> Any:
            return await way(lambda: size(depth))

        with pytest.raises(CheckpointError, match=BY_ITSELF):
            asyncio.run(asyncio.wait_for(size(1), 30))

    @pytest.mark.parametrize("way", ASYNC_WAYS)
    def test_a_stage_that_awaits_itself_with_other_arguments_runs(self, cm: CheckpointManager, way: Any) -> None:
        @cm.stage
        async def size(depth: int) -> Any:
            return await way(lambda: size(depth - 1)) + 1 if depth else 0

        assert asyncio.run(size(2)) == 2

    def test_a_task_that_outlives_the_stage_it_was_started_in_may_call_it(self, cm: CheckpointManager) -> None:
        tasks: list[asyncio.Task[int]] = []

        @cm.stage
        async def fetch(page: int) -> int:
            async def prefetch() -> int:
                await asyncio.sleep(0.1)
                return await fetch(page) + await fetch(page + 1)

            if page == 1:
                tasks.append(asyncio.create_task(prefetch()))
            return page

        async def main() -> int:
            await fetch(1)
            return await tasks[0]

        assert asyncio.run(main()) == 3

    def test_a_task_that_the_stage_does_not_wait_for_waits_for_the_stage(self, cm: CheckpointManager) -> None:
        tasks: list[asyncio.Task[int]] = []

        @cm.stage
        async def fetch(page: int) -> int:
            tasks.append(asyncio.create_task(fetch(page)))
            await asyncio.sleep(0.3)
            return page

        async def main() -> int:
            await fetch(1)
            return await tasks[0]

        assert asyncio.run(main()) == 1
        assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "reused"]

    def test_many_calls_with_different_arguments_overlap(self, cm: CheckpointManager) -> None:
        under_way, most = 0, 0

        @cm.stage
        async def embed(number: int) -> int:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            while most < 30:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            under_way -= 1
            return number

        async def main() -> list[int]:
            return await asyncio.gather(*(embed(number) for number in range(30)))

        assert asyncio.run(asyncio.wait_for(main(), 60)) == list(range(30))

    def test_many_calls_with_the_same_arguments_run_once(self, cm: CheckpointManager) -> None:
        @cm.stage
        async def embed(number: int) -> int:
            await asyncio.sleep(0.2)
            return number

        async def main() -> list[int]:
            return await asyncio.gather(*(embed(1) for _ in range(60)))

        assert asyncio.run(main()) == [1] * 60
        assert len(cm.run_report().ran) == 1

    @pytest.mark.parametrize("rounds", [range(1, 12)])
    def test_cancelled_at_any_await_it_leaves_no_lock(self, cm: CheckpointManager, rounds: range) -> None:
        @cm.stage
        async def embed(number: int) -> int:
            for _ in range(3):
                await asyncio.sleep(0)
            return number

        async def main(number: int, steps: int) -> int:
            holder, waiter = (asyncio.create_task(embed(number)) for _ in range(2))
            for _ in range(steps):
                await asyncio.sleep(0.0005)
            for task in (holder, waiter):
                task.cancel()
            await asyncio.gather(holder, waiter, return_exceptions=True)
            return await asyncio.wait_for(embed(number), 30)

        for steps in rounds:
            assert asyncio.run(main(steps, steps)) == steps


async def numbers(last: int) -> AsyncIterator[int]:
    for number in range(last):
        await asyncio.sleep(0.001)
        yield number


class TestAsyncLoops:
    def test_async_with_waits_and_the_event_loop_goes_on(self, cm: CheckpointManager) -> None:
        ticks = itertools.count()

        async def add() -> int:
            async with cm.loop("sum", numbers(20), initial=0, key="numbers", bar=False) as progress:
                async for number in progress:
                    progress.state += number
                    next(ticks)
            return progress.result

        async def main() -> list[int]:
            return await asyncio.gather(*(add() for _ in range(3)))

        assert asyncio.run(main()) == [190] * 3
        assert next(ticks) == 20
        assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "reused", "reused"]

    def test_with_is_refused_where_it_would_block_the_event_loop(self, cm: CheckpointManager) -> None:
        async def add() -> int:
            with cm.loop("sum", numbers(20), initial=0, key="numbers", bar=False) as progress:
                async for number in progress:
                    progress.state += number
            return progress.result

        async def main() -> list[Any]:
            return await asyncio.gather(add(), add(), return_exceptions=True)

        results = asyncio.run(main())
        assert results[0] == 190
        assert str(results[1]).endswith("waiting for it would block the event loop. Use async with")

    def test_a_loop_that_is_cancelled_while_it_waits_leaves_no_lock(self, cm: CheckpointManager) -> None:
        async def add(*, forever: bool = False) -> int:
            async with cm.loop("sum", numbers(5), initial=0, key="numbers", every_items=1) as progress:
                async for number in progress:
                    progress.state += number
                    if forever:
                        await asyncio.sleep(60)
            return progress.result

        async def main() -> int:
            holder, waiter = asyncio.create_task(add(forever=True)), asyncio.create_task(add())
            await asyncio.sleep(0.1)
            waiter.cancel()
            await asyncio.gather(waiter, return_exceptions=True)
            holder.cancel()
            await asyncio.gather(holder, return_exceptions=True)
            return await asyncio.wait_for(add(), 30)

        assert asyncio.run(main()) == 10

    def test_one_that_does_not_wait_is_refused(self, cm: CheckpointManager) -> None:
        async def add(wait: float, has_begun: asyncio.Event, may_end: asyncio.Event) -> int:
            async with cm.loop("sum", numbers(30), initial=0, key="numbers", wait=wait, bar=False) as progress:
                async for number in progress:
                    progress.state += number
                    has_begun.set()
                    await may_end.wait()
            return progress.result

        async def main() -> list[Any]:
            has_begun, may_end = asyncio.Event(), asyncio.Event()
            first = asyncio.create_task(add(True, has_begun, may_end))
            await has_begun.wait()
            others = [add(wait, has_begun, may_end) for wait in (False, 0.05)]
            refused = await asyncio.gather(*others, return_exceptions=True)
            may_end.set()
            return [await first, *refused]

        results = asyncio.run(main())
        assert results[0] == sum(range(30))
        assert all(isinstance(result, LockTimeoutError) for result in results[1:])

    def test_one_inside_itself_is_told_so(self, cm: CheckpointManager) -> None:
        async def main() -> None:
            async with cm.loop("sum", [1], initial=0), cm.loop("sum", [1], initial=0):
                pass

        with pytest.raises(CheckpointError, match=BY_ITSELF):
            asyncio.run(asyncio.wait_for(main(), 30))


def test_a_child_that_waits_for_its_parents_run_says_so(tmp_path: Path) -> None:
    program = """
import logging, subprocess, sys
from checkpoint_manager import CheckpointManager, LockTimeoutError
logging.basicConfig()
cm = CheckpointManager(sys.argv[1], key=bytes(32))

@cm.stage(wait=1)
def train():
    subprocess.run([sys.executable, "-c", sys.argv[2], *sys.argv[1:]], check=True)

try:
    train()
except LockTimeoutError:
    print("refused")
"""
    command = [sys.executable, "-c", program, str(tmp_path / "store"), program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "refused\n"
    assert "which runs it and started this process, and so may be waiting for this one" in done.stderr


def test_a_child_does_not_wait_without_end_for_the_run_that_started_it(tmp_path: Path) -> None:
    program = """
import subprocess, sys
from checkpoint_manager import CheckpointManager, LockTimeoutError
cm = CheckpointManager(sys.argv[1], key=bytes(32), lock_timeout=1)

@cm.stage
def train():
    subprocess.run(["sh", "-c", '"$@"; exit $?', "sh", sys.executable, "-c", sys.argv[2], *sys.argv[1:]], check=True)

try:
    train()
except LockTimeoutError as error:
    print(error)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "store"), program]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "started this call and may be waiting for it. Call the plain function inside of it" in done.stdout


def test_a_task_does_not_wait_without_end_for_the_run_that_started_it(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY, lock_timeout=1)
    errors: list[CheckpointError] = []

    @cm.stage
    async def train() -> int:
        is_done = asyncio.Event()

        async def again() -> None:
            try:
                await train()
            except LockTimeoutError as error:
                errors.append(error)
            is_done.set()

        task = asyncio.create_task(again())
        await is_done.wait()
        await task
        return 1

    assert asyncio.run(asyncio.wait_for(train(), 30)) == 1
    assert "started this call and may be waiting for it" in errors[0].message


def test_a_run_of_another_process_that_takes_too_long_is_told_in_the_words_of_a_stage(cm: CheckpointManager) -> None:
    running, write = os.pipe()

    @cm.stage(wait=0)
    def train() -> int:
        os.write(write, b"x")
        time.sleep(30)
        return 1

    child = forking.start(train)
    try:
        os.read(running, 1)
        with pytest.raises(LockTimeoutError, match=f"by process {child}. Wait until it is done, or pass a longer wait=$"):
            train()
    finally:
        os.kill(child, signal.SIGKILL)
        forking.end(child)


def test_threads_that_wait_for_one_another_by_an_event_are_told_so(tmp_path: Path) -> None:
    """In a process of its own: there is no other thread that could set the event."""
    program = """
import queue, sys, threading
from concurrent.futures import ThreadPoolExecutor
from checkpoint_manager import CheckpointError, CheckpointManager
cm = CheckpointManager(sys.argv[1], key=bytes(32))
idle = ThreadPoolExecutor(1)
idle.submit(int).result()

@cm.stage
def size(depth):
    answers = queue.Queue()
    def work():
        try:
            answers.put(size(depth))
        except CheckpointError as error:
            answers.put(str(error))
    threading.Thread(target=work).start()
    return answers.get()

assert "is called by itself" in size(1)
print("told")
"""
    command = [sys.executable, "-c", program, str(tmp_path / "store")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "told\n"


def test_a_thread_that_waits_with_a_limit_is_no_standstill(cm: CheckpointManager) -> None:
    begun, results = threading.Event(), []

    @cm.stage
    def train() -> int:
        begun.set()
        threading.Event().wait(4)
        return 1

    thread = threading.Thread(target=lambda: results.append(train()))
    thread.start()
    begun.wait()
    assert train() == 1
    thread.join()
    assert results == [1]


def test_the_search_does_not_freeze_the_process_in_a_garbage_collection() -> None:
    program = """
import faulthandler, gc, threading, time
from checkpoint_manager.stages.deadlock import standstill

class Cycle:
    def __init__(self):
        self.itself, self.local = self, threading.local()
        self.local.x = 1

def deep(n):
    return deep(n - 1) if n else time.sleep(0.0005)

def work():
    while True:
        deep(30)

faulthandler.dump_traceback_later(5, exit=True)
for _ in range(8):
    threading.Thread(target=work, daemon=True).start()
gc.set_threshold(60)
for _ in range(300):
    [Cycle() for _ in range(15)]
    standstill()
print(gc.isenabled())
gc.disable()
standstill()
print(gc.isenabled())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "True\nFalse\n", done.stderr


@pytest.mark.parametrize(
    ("holder", "says"), [(os.getppid, "which runs it and started this process"), (lambda: 1, "which runs it")]
)
def test_the_log_says_which_process_is_waited_for(
    cm: CheckpointManager, caplog: pytest.LogCaptureFixture, holder: Callable[[], int], says: str
) -> None:
    caplog.set_level(logging.INFO, logger="checkpoint_manager")
    cm._runner.log_waiting(LockTimeoutError("", stage="train", holder=f"process {holder()}"))
    assert f"train: waits for process {holder()}, {says}" in caplog.text
    caplog.clear()
    cm._runner.log_waiting(LockTimeoutError("", stage="train", hint="This place has no locks"))
    assert not caplog.text
