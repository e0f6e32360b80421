"""A function that is a stage: what stands in its place, and runs it or takes the result that is kept."""

from __future__ import annotations

import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any

from checkpoint_manager.errors import LockTimeoutError
from checkpoint_manager.models import display
from checkpoint_manager.stages.annotations import check_annotation
from checkpoint_manager.stages.fingerprint import check_names
from checkpoint_manager.stages.runner import SILENT_WAIT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from checkpoint_manager.stages.runner import Definition, Runner

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1


def decorated(runner: Runner, definition: Definition) -> Callable[..., Any]:
    """Return what is called in the place of a function.

    Raises:
        PayloadError: By its annotation, the function returns what can't be kept, and there is no ``encode``.
        ValueError: Another function is the stage of this name.
        TypeError: It is a generator function, or ``ignore`` names what it has no argument for.
    """
    function = definition.function
    check_names(function, definition.ignore)
    _check_function(runner, definition)
    if definition.encode is None:
        check_annotation(function, definition.stage)
    return _async(runner, definition) if inspect.iscoroutinefunction(function) else _sync(runner, definition)


def _check_function(runner: Runner, definition: Definition) -> None:
    function, stage = definition.function, definition.stage
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__name__} yields, and nothing of that would be kept: let it return a list")
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    other = runner.functions.setdefault(stage, name)
    if other != name:  # the results of the one would be taken for those of the other
        raise ValueError(f'the stage {display(stage)} is {other} already: give {name} another name, @cm.stage("…")')


def _sync(runner: Runner, definition: Definition) -> Callable[..., Any]:
    @functools.wraps(definition.function)
    def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # typed as the function it stands for
        call = runner.call(definition, args, kwargs)
        if runner.find(definition, call):
            return call.result
        with runner.alone(definition.stage, definition.timeout):
            if not runner.find(definition, call):
                with runner.running(call):
                    call.result = definition.function(*args, **kwargs)
                runner.keep(definition, call)
        return call.result

    return run


def _async(runner: Runner, definition: Definition) -> Callable[..., Any]:
    @functools.wraps(definition.function)
    async def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # typed as the function it stands for
        call = runner.call(definition, args, kwargs)
        if runner.find(definition, call):
            return call.result
        async with _alone(runner, definition):
            if not runner.find(definition, call):
                with runner.running(call):
                    call.result = await definition.function(*args, **kwargs)
                runner.keep(definition, call)
        return call.result

    return run


@contextlib.asynccontextmanager
async def _alone(runner: Runner, definition: Definition) -> AsyncIterator[None]:
    """Hold the lock of a run without keeping the event loop from its other work while waiting for it."""
    import asyncio  # noqa: PLC0415  # whoever calls this has it; importing it takes as long as all else here

    pause, waited = _SHORTEST_PAUSE, 0.0
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(runner.alone(definition.stage, 0))
                break
            except LockTimeoutError as error:
                if not definition.wait:
                    raise
                if waited <= SILENT_WAIT < waited + pause:
                    runner.say_who_runs(error)
            await asyncio.sleep(pause)
            waited += pause
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        yield
