"""An async function that is a stage. A module of its own, as it needs asyncio, which takes long to import."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from typing import TYPE_CHECKING, Any

from checkpoint_manager.errors import LockTimeoutError
from checkpoint_manager.stages.runner import SILENT_WAIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from checkpoint_manager.stages.runner import Definition, Runner

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1


def run_coroutine(runner: Runner, definition: Definition) -> Callable[..., Any]:
    """Return the async function that is called in place of the decorated one."""

    @functools.wraps(definition.function)
    async def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # typed as the function it stands for
        call = runner.call(definition, args, kwargs)
        if runner.reuse(definition, call):
            return call.result
        async with _exclusively(runner, definition):
            if not runner.reuse(definition, call):
                with runner.running(call):
                    call.result = await definition.function(*args, **kwargs)
                runner.save_result(definition, call)
        return call.result

    return run


@contextlib.asynccontextmanager
async def _exclusively(runner: Runner, definition: Definition) -> AsyncIterator[None]:
    """Hold the lock of a run; the event loop does its other work while this waits."""
    pause, waited = _SHORTEST_PAUSE, 0.0
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(runner.exclusively(definition.stage, 0))
                break
            except LockTimeoutError as error:
                if not definition.wait:
                    raise
                if waited <= SILENT_WAIT < waited + pause:
                    runner.log_waiting(error)
            await asyncio.sleep(pause)
            waited += pause
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        yield
