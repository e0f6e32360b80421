"""Async functions as stages, and async waiting. A separate module, because asyncio takes long to import.

Results are looked up and saved, and the lock of a run is taken, in worker threads: the event loop goes on meanwhile.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from typing import TYPE_CHECKING, Any

from checkpoint_manager._text import printable
from checkpoint_manager.stages.report import duration
from checkpoint_manager.stages.run_lock import SILENT_WAIT
from checkpoint_manager.stages.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager.errors import LockTimeoutError
    from checkpoint_manager.stages.run import Definition, Run
    from checkpoint_manager.stages.run_lock import RunLock
    from checkpoint_manager.stages.runner import Runner

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1


def run_coroutine(runner: Runner, definition: Definition) -> Callable[..., Any]:
    """Return the async function that is called in place of the decorated one."""

    @functools.wraps(definition.function)
    async def run_stage(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # typed as the function it stands for
        run = runner.run_of(definition, args, kwargs)
        if await in_thread(runner.reuse, definition, run):
            return run.result
        lock = runner.lock(run, is_blocking=False)
        try:
            await acquire(lock, definition.options.patience, runner.log_waiting)
            if not await in_thread(runner.reuse, definition, run):  # the run that held the lock may have completed it
                await _attempt(runner, definition, run, lock, args, kwargs)
                await in_thread(runner.save_result, definition, run)
                runner.warn_of_changes(definition, run, args, kwargs)
        finally:
            await release(lock)
        return run.result

    return run_stage


async def _attempt(
    runner: Runner, definition: Definition, run: Run, lock: RunLock, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    """Call the function until it returns or no attempt is left; see :meth:`Runner.attempt`."""
    while not run.is_done:
        runner.begin_attempt(run, lock)
        try:
            run.result = await _timed(definition, args, kwargs)
            run.is_done = True
        except Exception as error:
            is_last = run.is_last(error)
            await in_thread(runner.save_failure, run, error, is_last=is_last)
            if is_last:
                raise
        except BaseException as error:
            runner.stopped(run, error)
            raise
        finally:
            runner.end(run)
        if not run.is_done:
            await asyncio.sleep(run.pause)


async def _timed(definition: Definition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> object:
    """Return what the function returns, or cancel it at its timeout.

    Raises:
        TimeoutError: It was cancelled.
    """
    limit = definition.options.timeout
    try:
        async with asyncio.timeout(limit) as timer:
            return await definition.function(*args, **kwargs)
    except TimeoutError:
        if limit is None or not timer.expired():  # it is the function's own
            raise
        raise TimeoutError(
            f"stage {printable(definition.stage)} took longer than {duration(limit)}, and was cancelled"
        ) from None


async def release(lock: RunLock) -> None:
    """Release the lock of a run in a worker thread: where it is kept on a server, that takes a while.

    In a coroutine that is being closed, which can't wait any more, it is released at once.
    """
    try:
        if not isinstance(sys.exception(), GeneratorExit):
            await in_thread(lock.release)
    finally:
        lock.release()  # the task may have been cancelled before a thread was free; the second time, this does nothing


async def acquire(
    lock: RunLock,
    timeout: float,  # noqa: ASYNC109  # that of a lock, whose error says who holds it
    log: Callable[[LockTimeoutError], None],
) -> None:
    """Wait for the lock of a run, while the event loop does its other work; arguments and errors as for the lock's own."""
    started, pause, is_logged = time.monotonic(), _SHORTEST_PAUSE, False
    while (refused := await in_thread(lock.try_acquire)) is not None:
        waited = time.monotonic() - started
        if waited >= timeout:
            raise refused
        if waited >= SILENT_WAIT and not is_logged:
            is_logged = True
            log(refused)
            timeout = lock.bounded(timeout, refused.holder)
        await asyncio.sleep(min(pause, timeout - waited))
        pause = min(pause * 1.5, _LONGEST_PAUSE)
