"""The manager for asyncio: the same methods, awaited; what cancellation leaves; and an event loop that is never blocked."""

from __future__ import annotations

import asyncio
import inspect
import os
import pickle
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from checkpoint_manager import (
    AsyncCheckpointManager,
    AsyncKeys,
    CheckpointError,
    CheckpointManager,
    Keys,
    PayloadError,
    Retention,
    StageNameError,
    VersionConflictError,
    aio,
)
from checkpoint_manager._format import payload
from checkpoint_manager.stages.run_lock import RunLock
from tests.aio.through import ThroughAnEventLoop
from tests.attacks.test_leaks import frames_that_show
from tests.concurrency.writer import KEY as MODEL_KEY
from tests.model.test_model import InMemory

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

KEY = bytes(32)
ATTRIBUTES = {"run_id", "retention", "keys", "stage", "loop", "iter_history", "find"}


@pytest.fixture
def cm(tmp_path: Path) -> AsyncCheckpointManager:
    return AsyncCheckpointManager(tmp_path / "store", key=KEY)


class Gate:
    """Stops the calls of a method of a backend, in their threads, until it is opened."""

    def __init__(self, owner: object, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self._opened = threading.Event(), threading.Event()
        real: Callable[..., Any] = getattr(owner, name)

        def stopped(*args: Any, **kwargs: Any) -> Any:
            self.reached.set()
            assert self._opened.wait(30)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, stopped)

    async def is_reached(self) -> None:
        await until(self.reached.is_set)

    def open(self) -> None:
        self._opened.set()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # what a thread does
            await asyncio.sleep(0.001)


def names(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


class TestTheSameMethods:
    def test_each_is_there(self) -> None:
        assert names(AsyncCheckpointManager) == names(CheckpointManager)
        assert names(AsyncKeys) == names(Keys)

    @pytest.mark.parametrize("name", sorted(names(CheckpointManager) - ATTRIBUTES))
    def test_each_is_awaited_and_documented(self, name: str) -> None:
        ours, theirs = getattr(AsyncCheckpointManager, name), getattr(CheckpointManager, name)
        assert inspect.iscoroutinefunction(ours)
        assert ours.__doc__
        assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters)

    def test_the_constructor_takes_the_same(self) -> None:
        ours, theirs = (inspect.signature(kind).parameters.values() for kind in (AsyncCheckpointManager, CheckpointManager))
        assert [(each.name, each.default) for each in ours] == [(each.name, each.default) for each in theirs]

    def test_a_stage_takes_the_same_options(self) -> None:
        theirs = inspect.signature(CheckpointManager.stage).parameters.keys() - {"self", "name"}
        assert aio._StageOptions.__annotations__.keys() == theirs

    def test_the_seed_calls(self, cm: AsyncCheckpointManager, tmp_path: Path) -> None:
        async def main() -> list[Any]:
            async with cm:
                before = await cm.has_checkpoint("train")
                await cm.save_checkpoint("train", {"epoch": 3})
                loaded = [before, await cm.has_checkpoint("train"), await cm.load_checkpoint("train")]
                await cm.clear_checkpoints()
                return [*loaded, await cm.has_checkpoint("train"), [each.status async for each in cm.iter_history("train")]]

        assert asyncio.run(main()) == [False, True, {"epoch": 3}, False, ["cleared", "completed"]]
        assert CheckpointManager(tmp_path / "store", key=KEY).load_checkpoint("train", 1) == {"epoch": 3}

    def test_find(self, cm: AsyncCheckpointManager) -> None:
        assert list(inspect.signature(cm.find).parameters) == list(inspect.signature(CheckpointManager.find).parameters)[1:]

        async def main() -> list[int | None]:
            for number in range(3):
                await cm.save_checkpoint("train", number, metadata={"even": number % 2 == 0})
            return [each.number async for each in cm.find(stage_prefix="tr", metadata={"even": True})]

        assert asyncio.run(main()) == [3, 1]

    def test_its_keys(self, cm: AsyncCheckpointManager) -> None:
        async def main() -> list[str]:
            await cm.save_checkpoint("train", 1)
            await cm.keys.add(bytes([1]) * 32, label="other")
            await cm.keys.rotate(also=[bytes([1]) * 32])
            return [slot.label for slot in await cm.keys.list()]

        assert asyncio.run(main()) == ["", "other"]

    def test_whatever_is_called_in_whatever_order(self) -> None:
        class ThroughAsync(InMemory):
            def reopen(self, key: bytes = MODEL_KEY) -> None:
                self.cm = ThroughAnEventLoop(runner, self.backend(), key=key)  # type: ignore[assignment]

        with asyncio.Runner() as runner:
            run_state_machine_as_test(ThroughAsync, settings=settings(max_examples=3, stateful_step_count=20, deadline=None))

    @pytest.mark.parametrize("stage", [1, "", ["train"], None])
    def test_a_wrong_name_is_refused_as_ever(self, cm: AsyncCheckpointManager, stage: Any) -> None:
        with pytest.raises((StageNameError, TypeError)):
            asyncio.run(cm.save_checkpoint(stage, 1))

    def test_errors_come_through(self, cm: AsyncCheckpointManager) -> None:
        with pytest.raises(PayloadError):
            asyncio.run(cm.save_checkpoint("train", object()))
        with pytest.raises(VersionConflictError):
            asyncio.run(cm.save_checkpoint("train", 1, expected_version=7))

    def test_its_text_tells_the_place_and_no_key(self, cm: AsyncCheckpointManager, tmp_path: Path) -> None:
        assert repr(cm) == "AsyncCheckpointManager(not open)"
        asyncio.run(cm.stages())
        assert repr(cm) == f"AsyncCheckpointManager({str(tmp_path / 'store')!r})"
        assert repr(KEY) not in repr(vars(AsyncCheckpointManager(tmp_path, key=KEY)))

    def test_it_is_pickled_where_its_key_is_found_again(self, cm: AsyncCheckpointManager, tmp_path: Path) -> None:
        with pytest.raises(TypeError, match="can't be pickled"):
            pickle.dumps(cm)
        again = pickle.loads(pickle.dumps(AsyncCheckpointManager(tmp_path / "other")))
        asyncio.run(again.save_checkpoint("train", 1))
        assert CheckpointManager(tmp_path / "other").load_checkpoint("train") == 1

    def test_its_retention_is_told_before_and_after_it_is_opened(self, cm: AsyncCheckpointManager, tmp_path: Path) -> None:
        assert cm.retention is None
        keeping = AsyncCheckpointManager(tmp_path / "other", retention=Retention(keep_last=3))
        assert keeping.retention == Retention(keep_last=3)
        assert not (tmp_path / "other").exists()
        assert pickle.loads(pickle.dumps(keeping)).retention == Retention(keep_last=3)

    def test_no_frame_of_an_error_shows_a_key(self, cm: AsyncCheckpointManager, tmp_path: Path) -> None:
        secret = b"another key that nobody must see"
        taken = tmp_path / "taken.bundle"
        taken.write_bytes(b"")

        async def main() -> None:
            await cm.save_checkpoint("train", 1)
            for call in (
                lambda: cm.export_bundle(taken, key=secret),
                lambda: cm.import_bundle(taken, key=secret),
                lambda: cm.keys.add(secret, label="a" * 999),
                lambda: cm.keys.rotate(also=[secret], drop=["absent"]),
            ):
                with pytest.raises((CheckpointError, ValueError, FileExistsError)) as caught:
                    await call()
                assert frames_that_show(caught.value, secret) == set()

        asyncio.run(main())

    def test_a_large_state_is_read_in_a_thread(self, cm: AsyncCheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        real, threads = payload.decode, []
        monkeypatch.setattr(payload, "decode", lambda *args: (threads.append(threading.current_thread()), real(*args))[1])

        async def main() -> None:
            async with cm.loop("sum", range(3), initial={"rows": []}) as loop:
                async for item in loop:
                    loop.state["rows"].append(item)

        asyncio.run(main())
        asyncio.run(main())
        assert threads
        assert threading.main_thread() not in threads


class TestSideBySide:
    def test_a_thousand_tasks(self, cm: AsyncCheckpointManager) -> None:
        async def main() -> set[int]:
            await cm.save_checkpoint("shared", 0)

            async def use(number: int) -> int:
                if number % 20 == 0:
                    return (await cm.update_checkpoint("shared", lambda value: value + 1)).number
                assert await cm.has_checkpoint("shared")
                return 0

            return set(await asyncio.gather(*(use(number) for number in range(1000))))

        assert asyncio.run(main()) == {0, *range(2, 52)}
        assert asyncio.run(cm.load_checkpoint("shared")) == 50

    def test_first_come_first_served(self, cm: AsyncCheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> list[Any]:
            gate = Gate((await cm._opened())._store.backend, "append", monkeypatch)
            tasks = [asyncio.create_task(cm.save_checkpoint("train", number)) for number in range(20)]
            await gate.is_reached()
            gate.open()
            return [(await task).number for task in tasks]

        assert asyncio.run(main()) == list(range(1, 21))
        assert [asyncio.run(cm.load_checkpoint("train", number)) for number in range(1, 21)] == list(range(20))

    def test_one_stage_does_not_wait_for_another(self, cm: AsyncCheckpointManager, tmp_path: Path) -> None:
        async def main() -> None:
            other = CheckpointManager(tmp_path / "store", key=KEY)
            await cm.save_checkpoint("held", 1)
            with other._store.lock("held"):
                waiting = asyncio.create_task(cm.save_checkpoint("held", 2))
                for number in range(5):  # the event loop goes on, and so do other stages
                    await cm.save_checkpoint("free", number)
                assert not waiting.done()
            assert (await waiting).number == 2

        asyncio.run(main())

    def test_two_event_loops_and_a_forked_child(self, cm: AsyncCheckpointManager) -> None:
        asyncio.run(cm.save_checkpoint("train", 1))
        threads = [threading.Thread(target=asyncio.run, args=(cm.save_checkpoint("train", number),)) for number in (2, 3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        child = os.fork()
        if child == 0:
            os._exit(asyncio.run(cm.save_checkpoint("train", 4)).number)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 4
        assert len(asyncio.run(cm.history("train"))) == 4


class TestCancellation:
    def test_a_save_that_has_begun_is_finished_first(self, cm: AsyncCheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> list[int]:
            gate = Gate((await cm._opened())._store.backend, "append", monkeypatch)
            saving = asyncio.create_task(cm.save_checkpoint("train", 1))
            await gate.is_reached()
            for _ in range(3):  # impatience changes nothing
                saving.cancel()
                await asyncio.sleep(0)
            assert not saving.done()
            gate.open()
            with pytest.raises(asyncio.CancelledError):
                await saving
            return [version.number for version in await cm.history("train")]

        assert asyncio.run(main()) == [1]

    def test_a_save_that_waits_for_its_turn_never_happens(
        self, cm: AsyncCheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> list[Any]:
            gate = Gate((await cm._opened())._store.backend, "append", monkeypatch)
            first = asyncio.create_task(cm.save_checkpoint("train", "first"))
            await gate.is_reached()
            second = asyncio.create_task(cm.save_checkpoint("train", "second"))
            third = asyncio.create_task(cm.save_checkpoint("train", "third"))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):  # at once, while the first one is under way
                await second
            gate.open()
            await asyncio.gather(first, third)
            return [await cm.load_checkpoint("train", number) for number in (1, 2)]

        assert asyncio.run(main()) == ["first", "third"]

    def test_a_save_that_waits_for_a_thread_never_happens(
        self, cm: AsyncCheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def main() -> list[str]:
            gate = Gate((await cm._opened())._store.backend, "append", monkeypatch)
            saves = [asyncio.create_task(cm.save_checkpoint(f"stage {number}", 1)) for number in range(100)]
            await gate.is_reached()
            saves[-1].cancel()
            await asyncio.sleep(0)
            gate.open()
            with pytest.raises(asyncio.CancelledError):
                await saves[-1]
            await asyncio.gather(*saves[:-1])
            return await cm.stages()

        assert sorted(asyncio.run(main())) == sorted(f"stage {number}" for number in range(99))

    def test_at_every_await(self, cm: AsyncCheckpointManager) -> None:
        async def main() -> None:
            for steps in range(12):
                stage = f"stage {steps}"
                saving = asyncio.create_task(cm.save_checkpoint(stage, steps))
                for _ in range(steps):
                    await asyncio.sleep(0)
                saving.cancel()
                result = (await asyncio.gather(saving, return_exceptions=True))[0]
                there = [version.number for version in await cm.history(stage)]
                if isinstance(result, asyncio.CancelledError):
                    assert there in ([], [1])
                else:
                    assert there == [1]
                assert (await cm.save_checkpoint(stage, "next")).number == len(there) + 1  # no lock is left

        asyncio.run(main())

    def test_a_timeout_ends_a_wait_for_the_turn(self, cm: AsyncCheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            gate = Gate((await cm._opened())._store.backend, "append", monkeypatch)
            first = asyncio.create_task(cm.save_checkpoint("train", 1))
            await gate.is_reached()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(cm.save_checkpoint("train", 2), 0.01)
            gate.open()
            await first

        asyncio.run(main())


class TestStages:
    def test_calls_with_other_arguments_run_side_by_side(self, cm: AsyncCheckpointManager) -> None:
        active, most = 0, 0

        @cm.stage
        async def fetch(number: int) -> int:
            nonlocal active, most
            active += 1
            most = max(most, active)
            await until(lambda: most == 30)
            active -= 1
            return number

        async def main() -> list[int]:
            return await asyncio.gather(*(fetch(number) for number in range(30)))

        assert asyncio.run(main()) == list(range(30))
        assert asyncio.run(main()) == list(range(30))
        assert len(asyncio.run(cm.run_report()).reused) == 30

    def test_the_event_loop_goes_on_while_a_result_waits_to_be_saved(self, cm: AsyncCheckpointManager, tmp_path: Path) -> None:
        @cm.stage
        async def fetch() -> int:
            return 1

        async def main() -> int:
            other = CheckpointManager(tmp_path / "store", key=KEY)
            with other._store.lock("fetch"):
                running = asyncio.create_task(fetch())
                for _ in range(20):
                    await asyncio.sleep(0.001)
                assert not running.done()
            return await running

        assert asyncio.run(main()) == 1

    def test_a_call_cancelled_while_its_result_is_saved_has_saved_it(
        self, cm: AsyncCheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @cm.stage
        async def fetch() -> int:
            return 1

        async def main() -> int:
            gate = Gate((await cm._opened())._store.backend, "append", monkeypatch)
            running = asyncio.create_task(fetch())
            await gate.is_reached()
            running.cancel()
            gate.open()
            with pytest.raises(asyncio.CancelledError):
                await running
            return await fetch()

        assert asyncio.run(main()) == 1
        assert [each.what for each in asyncio.run(cm.run_report()).outcomes] == ["ran", "reused"]

    def test_cancelled_at_every_await_it_keeps_no_lock(self, cm: AsyncCheckpointManager) -> None:
        @cm.stage
        async def slow(number: int) -> int:
            await asyncio.sleep(0)
            return number

        async def main() -> None:
            manager = await cm._opened()
            for steps in (*range(8), *(10 * factor for factor in range(1, 12))):
                running = asyncio.create_task(slow(steps))
                for _ in range(steps):
                    await asyncio.sleep(0.0002)
                running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                assert manager.running() == []
                assert await slow(steps) == steps
            assert len(asyncio.all_tasks()) == 1

        asyncio.run(main())

    def test_the_event_loop_does_not_wait_for_the_end_of_a_lock(
        self, cm: AsyncCheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """On a server, it is a round trip."""
        threads: list[str] = []
        release = RunLock.release

        def noted(lock: RunLock) -> None:
            if lock._lock is not None:
                threads.append(threading.current_thread().name)
            release(lock)

        monkeypatch.setattr(RunLock, "release", noted)

        @cm.stage
        async def slow() -> int:
            async with cm.loop("rows", range(2), initial=0, bar=False) as loop:
                async for _ in loop:
                    pass
            return 1

        asyncio.run(slow())
        assert [name.partition("_")[0] for name in threads] == ["checkpoint", "checkpoint"]

    def test_a_failure_is_saved(self, cm: AsyncCheckpointManager) -> None:
        @cm.stage(retries=1, backoff=0)
        async def fetch() -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            asyncio.run(fetch())
        assert [version.status for version in asyncio.run(cm.history("fetch"))] == ["failed", "failed"]

    def test_a_plain_function_is_refused(self, cm: AsyncCheckpointManager) -> None:
        with pytest.raises(TypeError, match="'fetch' is not an async function"):

            @cm.stage(revision=2)  # type: ignore[type-var]
            def fetch() -> int:
                return 1


class TestLoops:
    @pytest.mark.parametrize("is_async", [True, False], ids=["async items", "plain items"])
    def test_it_resumes(self, cm: AsyncCheckpointManager, is_async: bool) -> None:
        async def numbers() -> AsyncIterator[int]:
            for number in range(10):
                yield number

        async def run(until: int) -> int:
            items: Any = numbers() if is_async else range(10)
            async with cm.loop("sum", items, initial=0, key="numbers", every_items=1) as loop:
                async for item in loop:
                    if item == until:
                        raise KeyError
                    loop.state += item
            return loop.result

        with pytest.raises(KeyError):
            asyncio.run(run(6))
        assert [version.status for version in asyncio.run(cm.history("sum"))][:1] == ["progress"]
        assert asyncio.run(run(-1)) == 45

    def test_the_event_loop_goes_on_while_it_waits_to_save(self, cm: AsyncCheckpointManager, tmp_path: Path) -> None:
        async def run(reached: asyncio.Event) -> int:
            async with cm.loop("sum", range(3), initial=0, every_items=1) as loop:
                async for item in loop:
                    loop.state += item
                    reached.set()
            return loop.result

        async def main() -> int:
            other, reached = CheckpointManager(tmp_path / "store", key=KEY), asyncio.Event()
            running = asyncio.create_task(run(reached))
            await reached.wait()
            with other._store.lock("sum"):
                for _ in range(20):
                    await asyncio.sleep(0.001)
                assert not running.done()
            return await running

        assert asyncio.run(main()) == 3

    def test_one_that_is_cancelled_has_saved_its_progress(self, cm: AsyncCheckpointManager) -> None:
        async def run(seen: list[int]) -> None:
            async with cm.loop("sum", range(10), initial=0) as loop:
                async for item in loop:
                    loop.state += item
                    seen.append(item)
                    if item == 4:
                        await asyncio.sleep(60)

        async def main() -> list[int]:
            seen: list[int] = []
            running = asyncio.create_task(run(seen))
            await until(lambda: 4 in seen)
            running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await running
            return [await cm.load_checkpoint("sum", 1)]

        assert asyncio.run(main()) == [0 + 1 + 2 + 3]

    def test_one_whose_coroutine_is_closed_has_saved_its_progress(self, cm: AsyncCheckpointManager) -> None:
        seen: list[int] = []

        async def run() -> None:
            async with cm.loop("sum", range(10), initial=0) as loop:
                async for item in loop:
                    loop.state += item
                    seen.append(item)
                    if item == 4:
                        await asyncio.sleep(60)

        loop = asyncio.new_event_loop()
        task = loop.create_task(run())
        loop.run_until_complete(until(lambda: 4 in seen))
        loop.close()
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        task.get_coro().close()  # type: ignore[union-attr]
        assert asyncio.run(cm.load_checkpoint("sum", 1)) == 6

    def test_an_error_in_a_thread_is_raised_as_it_is(self, cm: AsyncCheckpointManager) -> None:
        with pytest.raises(CheckpointError):
            asyncio.run(cm.load_checkpoint("absent"))


def test_the_run_is_that_of_the_process(cm: AsyncCheckpointManager) -> None:
    assert cm.run_id == CheckpointManager("memory:", key=KEY).run_id
    assert repr(cm) == "AsyncCheckpointManager(not open)"  # which may take long, and this is asked on the event loop
