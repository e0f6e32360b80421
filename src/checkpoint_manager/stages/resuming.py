"""``@cm.stage`` and ``cm.report``: what a manager offers to functions that resume.

::

    @cm.stage
    def clean(path: str, limit: int = 100) -> list[dict]: ...

    @cm.stage("train", version=2, ignore=["verbose"])
    def fit(rows: list[dict], verbose: bool = False) -> dict: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from checkpoint_manager.backends.names import validate
from checkpoint_manager.errors import LockTimeoutError
from checkpoint_manager.stages.fingerprint import check_names
from checkpoint_manager.stages.outcomes import StageReport
from checkpoint_manager.stages.results import check_annotation
from checkpoint_manager.stages.running import Definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from checkpoint_manager.stages.running import Runner

P = ParamSpec("P")
R = TypeVar("R")

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.001, 0.1


class Resuming:
    """The part of a manager that runs functions as stages."""

    _runner: Runner

    @overload
    def stage(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def stage(
        self,
        name: str | None = None,
        /,
        *,
        version: int | str = 1,
        key: Callable[..., object] | None = None,
        ignore: Sequence[str] = (),
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], Any] | None = None,
        wait: bool = True,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def stage(
        self,
        name: Callable[..., Any] | str | None = None,
        /,
        *,
        version: int | str = 1,
        key: Callable[..., object] | None = None,
        ignore: Sequence[str] = (),
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], Any] | None = None,
        wait: bool = True,
    ) -> Any:
        """Make a function a stage: it runs once for the same arguments, and its result is kept and given back.

        What the function raises is kept as a ``failed`` version, and it runs again the next time. Several processes on one host
        that reach a stage run it once: the others wait and take the result; if the one that runs is killed, another takes over.
        The code itself is not compared: when it changes what it returns, change ``version``. Async functions work, too.

        Args:
            name: The stage's name; None: the function's.
            version: Of what the function does: another one makes it run again.
            key: A function of the same arguments, whose result stands for them when they are compared.
            ignore: Names of arguments that make no difference.
            encode: Makes JSON of a result that is none.
            decode: Makes the result of that JSON again.
            wait: False: don't wait for another process that runs it, but raise a LockTimeoutError.

        Raises:
            PayloadError: By its annotation, the function returns what can't be kept, and there is no ``encode``.
            ArgumentError: On a call: it can't be told whether an argument is the same as before.
            ResultNotSavedError: On a call: the function ran, and its result could not be saved; the error carries it.
        """
        if callable(name):
            return self.stage()(name)
        if (encode is None) != (decode is None):
            raise TypeError("encode= and decode= belong together: give both")

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            stage = validate(name or function.__name__)
            return self._decorated(Definition(function, stage, version, key, tuple(ignore), encode, decode, wait))

        return decorate

    def _decorated(self, definition: Definition) -> Callable[..., Any]:
        check_names(definition.function, definition.ignore)
        if definition.encode is None:
            check_annotation(definition.function, definition.stage)
        return self._async(definition) if inspect.iscoroutinefunction(definition.function) else self._sync(definition)

    def report(self) -> StageReport:
        """Return what became of each call of a stage since this manager was made: reused, ran, or failed."""
        return StageReport(tuple(self._runner.outcomes))

    def _sync(self, definition: Definition) -> Callable[..., Any]:
        runner = self._runner

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

    def _async(self, definition: Definition) -> Callable[..., Any]:
        runner = self._runner

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
    pause = _SHORTEST_PAUSE
    with contextlib.ExitStack() as stack:
        while True:
            try:
                stack.enter_context(runner.alone(definition.stage, 0))
                break
            except LockTimeoutError:
                if not definition.wait:
                    raise
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        yield
