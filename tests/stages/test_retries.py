"""``retries=`` and ``timeout=``: each attempt is in the history, and nothing that asks the program to end is tried again."""

from __future__ import annotations

import asyncio
import logging
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import ArgumentError, CheckpointManager
from checkpoint_manager.stages.options import Options

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(32)


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


def failing(times: int, error: type[BaseException] = ConnectionError) -> Callable[[], str]:
    """Return a function that fails so many times before it returns."""
    calls: list[int] = []

    def fetch() -> str:
        calls.append(1)
        if len(calls) <= times:
            raise error(f"call {len(calls)}")
        return "done"

    return fetch


def asynchronous(function: Callable[[], str]) -> Callable[[], str]:
    async def fetch() -> str:
        await asyncio.sleep(0)
        return function()

    fetch.__wrapped__ = function  # type: ignore[attr-defined]
    return fetch  # type: ignore[return-value]


def called(stage: Callable[[], Any], *, is_async: bool) -> Any:
    return asyncio.run(stage()) if is_async else stage()


@pytest.mark.parametrize("is_async", [False, True])
def test_it_is_tried_again_and_each_attempt_is_kept(
    cm: CheckpointManager, caplog: pytest.LogCaptureFixture, *, is_async: bool
) -> None:
    caplog.set_level(logging.INFO)
    function = failing(2)
    stage = cm.stage("fetch", retries=3, backoff=0.01)(asynchronous(function) if is_async else function)
    assert called(stage, is_async=is_async) == "done"
    assert called(stage, is_async=is_async) == "done"
    versions = cm.history("fetch")[::-1]
    assert [version.status for version in versions] == ["failed", "failed", "completed"]
    failures = [version.metadata["@failure"] for version in versions[:2]]
    assert [(each["message"], each["attempt"], each["attempts"]) for each in failures] == [("call 1", 1, 4), ("call 2", 2, 4)]
    report = cm.run_report()
    assert [outcome.what for outcome in report.outcomes] == ["retried", "retried", "ran", "reused"]
    assert str(report).endswith("1 reused, 1 ran, 0 failed, 2 retried")
    assert report.ran[0].why == "attempt 3 of 4"
    assert any("; attempt 2 of 4 begins in 10 ms" in line for line in caplog.messages)


@pytest.mark.parametrize("is_async", [False, True])
def test_the_last_failure_is_raised(cm: CheckpointManager, *, is_async: bool) -> None:
    function = failing(9)
    stage = cm.stage("fetch", retries=2, backoff=0)(asynchronous(function) if is_async else function)
    with pytest.raises(ConnectionError, match="call 3"):
        called(stage, is_async=is_async)
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["retried", "retried", "failed"]
    assert cm.get_version("fetch").number == 3


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
@pytest.mark.parametrize("is_async", [False, True])
def test_what_ends_the_program_is_not_tried_again(
    cm: CheckpointManager, error: type[BaseException], caplog: pytest.LogCaptureFixture, *, is_async: bool
) -> None:
    caplog.set_level(logging.INFO)
    function = failing(1, error)
    stage = cm.stage("fetch", retries=5, backoff=0)(asynchronous(function) if is_async else function)
    with pytest.raises(error):
        called(stage, is_async=is_async)
    assert cm.history("fetch") == []
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["stopped"]
    assert f"fetch: stopped after 0 ms ({error.__name__})" in caplog.text
    assert called(stage, is_async=is_async) == "done"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_pause_before_a_retry(cm: CheckpointManager, tmp_path: Path, number: signal.Signals) -> None:
    script = """
import logging, sys
from checkpoint_manager import CheckpointManager
logging.basicConfig(level="INFO")
cm = CheckpointManager("store", key=bytes(32))
@cm.stage(retries=3, backoff=600)
def fetch():
    raise ConnectionError("no answer")
fetch()
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "attempt 2 of 4 begins in 10.0 min" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(number)
        process.stderr.read()
        assert process.wait(30) == -number
    assert [version.status for version in cm.history("fetch")] == ["failed"]


def test_a_loop_in_a_function_that_is_tried_again_continues(cm: CheckpointManager) -> None:
    seen: list[int] = []

    @cm.stage(retries=3, backoff=0)
    def embed() -> list[int]:
        with cm.loop("embed", range(6), initial=[], every_items=1) as loop:
            for item in loop:
                seen.append(item)
                if seen in ([0, 1, 2], [0, 1, 2, 2, 3, 4]):
                    raise ConnectionError
                loop.state.append(item)
        return loop.result

    assert embed() == [0, 1, 2, 3, 4, 5]
    assert seen == [0, 1, 2, 2, 3, 4, 4, 5]
    assert [version.status for version in cm.history("embed")] == ["completed", "failed", "failed"]


def test_other_runs_wait_through_the_retries(cm: CheckpointManager, tmp_path: Path) -> None:
    script = """
import os, sys, time
from checkpoint_manager import CheckpointManager
cm = CheckpointManager("store", key=bytes(32))
@cm.stage(retries=1, backoff=0.3)
def fetch():
    with open("calls", "a") as file:
        file.write("x")
    if os.path.getsize("calls") == 1:
        raise ConnectionError
    return 5
print(fetch())
"""
    (tmp_path / "script.py").write_text(script)
    processes = [
        subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate(timeout=60)[0] for process in processes] == ["5\n"] * 3
    assert (tmp_path / "calls").read_text() == "xx"
    assert [version.status for version in cm.history("fetch")] == ["completed", "failed"]


def test_an_attempt_that_takes_too_long_is_cancelled(cm: CheckpointManager) -> None:
    ended: list[str] = []

    @cm.stage(timeout=0.05, retries=1, backoff=0)
    async def fetch() -> str:
        if ended:
            return "done"
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("cancelled")
        return "never"

    assert asyncio.run(fetch()) == "done"  # type: ignore[arg-type]
    failure = cm.get_checkpoint("fetch", 1).data
    assert (failure["type"], failure["message"]) == ("TimeoutError", "stage fetch took longer than 50 ms, and was cancelled")
    assert ended == ["cancelled"]


def test_a_timeout_error_of_the_function_s_own_stays_what_it_is(cm: CheckpointManager) -> None:
    @cm.stage(timeout=60)
    async def fetch() -> None:
        raise TimeoutError("the server's")

    with pytest.raises(TimeoutError, match=r"^the server's$"):
        asyncio.run(fetch())  # type: ignore[arg-type]


def test_cancelling_the_caller_is_not_a_timeout(cm: CheckpointManager) -> None:
    @cm.stage(timeout=60, retries=3, backoff=0)
    async def fetch() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.ensure_future(fetch())  # type: ignore[arg-type]
        await asyncio.sleep(0.05)
        task.cancel()
        await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert cm.history("fetch") == []


def test_a_function_that_can_not_be_stopped_gets_no_timeout(cm: CheckpointManager) -> None:
    with pytest.raises(
        TypeError, match=r"timeout= is given for sleep, which can't be stopped .* checkpoint-manager run --timeout"
    ):
        cm.stage("sleep", timeout=5)(time.sleep)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"retries": -1}, "retries must be 0 or more"),
        ({"retries": 1.5}, "retries must be a number of retries"),
        ({"retries": True}, "retries must be a number of retries"),
        ({"backoff": -1}, "backoff must be a number of seconds"),
        ({"timeout": 0}, "timeout must be more than 0 seconds"),
        ({"timeout": "5"}, "timeout must be a number of seconds"),
    ],
)
def test_what_can_not_be_is_refused(cm: CheckpointManager, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ArgumentError, match=message):
        cm.stage(**given)


def test_each_pause_is_twice_as_long_up_to_a_minute() -> None:
    assert list(Options(retries=8).pauses) == [1, 2, 4, 8, 16, 32, 60, 60]
    assert list(Options(retries=2, backoff=90).pauses) == [90, 90]
    assert list(Options(retries=2000, backoff=0).pauses) == [0] * 2000
