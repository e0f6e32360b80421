"""``@cm.stage``, ``cm.partial`` and ``cm.report``: what a manager offers to functions that resume.

::

    @cm.stage
    def clean(path: str, limit: int = 100) -> list[dict]: ...

    @cm.stage("train", version=2, ignore=["verbose"])
    def fit(rows: list[dict], verbose: bool = False) -> dict: ...

    with cm.partial("embed", texts, start=[]) as progress:
        for text in progress:
            progress.state.append(embed(text))
    vectors = progress.result
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from checkpoint_manager.backends.names import validate
from checkpoint_manager.envelope import payload
from checkpoint_manager.errors import LockTimeoutError
from checkpoint_manager.model import display
from checkpoint_manager.stages.fingerprint import check_names
from checkpoint_manager.stages.outcomes import StageReport
from checkpoint_manager.stages.pacing import Pace
from checkpoint_manager.stages.partial import Partial, note_of
from checkpoint_manager.stages.results import check_annotation
from checkpoint_manager.stages.running import SILENT_WAIT, Call, Definition

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

    from checkpoint_manager.stages.running import Runner

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S")

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
        The code itself is not compared, nor are the variables around it: when they change what it returns, change
        ``version``, or make them arguments. Async functions work, too.

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
            ValueError: Another function of this manager's is the stage of this name.
            TypeError: It is a generator function, or ``ignore`` names what it has no argument for.
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
        self._check_function(definition)
        if definition.encode is None:
            check_annotation(definition.function, definition.stage)
        return self._async(definition) if inspect.iscoroutinefunction(definition.function) else self._sync(definition)

    def _check_function(self, definition: Definition) -> None:
        function, stage = definition.function, definition.stage
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__name__} yields, and nothing of that would be kept: let it return a list")
        name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
        other = self._runner.functions.setdefault(stage, name)
        if other != name:  # the results of the one would be taken for those of the other
            raise ValueError(f'the stage {display(stage)} is {other} already: give {name} another name, @cm.stage("…")')

    @overload
    def partial(
        self,
        stage_name: str,
        items: Iterable[T] | AsyncIterable[T],
        *,
        start: dict[str, Any],
        every_seconds: float = 30.0,
        every_items: int | None = None,
        version: int | str = 1,
        key: object = None,
        wait: bool = True,
        bar: bool = True,
    ) -> Partial[T, dict[str, Any]]: ...

    @overload
    def partial(
        self,
        stage_name: str,
        items: Iterable[T] | AsyncIterable[T],
        *,
        start: list[Any],
        every_seconds: float = 30.0,
        every_items: int | None = None,
        version: int | str = 1,
        key: object = None,
        wait: bool = True,
        bar: bool = True,
    ) -> Partial[T, list[Any]]: ...

    @overload
    def partial(
        self,
        stage_name: str,
        items: Iterable[T] | AsyncIterable[T],
        *,
        start: S,
        every_seconds: float = 30.0,
        every_items: int | None = None,
        version: int | str = 1,
        key: object = None,
        wait: bool = True,
        bar: bool = True,
    ) -> Partial[T, S]: ...

    def partial(  # noqa: PLR0913  # all but three are choices with a default, by name
        self,
        stage_name: str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        start: Any,
        every_seconds: float = 30.0,
        every_items: int | None = None,
        version: int | str = 1,
        key: object = None,
        wait: bool = True,
        bar: bool = True,
    ) -> Partial[Any, Any]:
        """Make a long loop a stage: its state is saved now and then, and after a kill it goes on from there.

        What is saved, what it is compared by and how it works with ``@cm.stage``: see :class:`Partial`.

        Args:
            stage_name: Any non-empty text up to 255 characters.
            items: What to loop over: a list, tuple or range; anything else in a certain order needs ``key``.
            start: The state before the first item: any JSON value. It is copied.
            every_seconds: How long to go on at least without saving; 0: what saving costs alone decides.
            every_items: Save after so many items in any case.
            version: Of what the loop does: another one makes it begin anew.
            key: A value that stands for the items when they are compared.
            wait: False: don't wait for another process that runs it, but raise a LockTimeoutError. Waiting would block the
                event loop of a coroutine.
            bar: Show a bar if stderr is a terminal and ``rich`` is installed; else a line in the log every ten seconds.

        Raises:
            ArgumentError: It can't be told whether the items are the same as before.
            PayloadError: The state is not JSON; in the loop, as soon as that is seen, mostly after the first item.
            ResultNotSavedError: At the end of the block: the result could not be saved; the error carries it.
            LockTimeoutError: On entry: another process runs it, and ``wait`` is False.
        """
        stage = validate(stage_name)
        if not (every_seconds >= 0 and (every_items is None or every_items >= 1)):
            raise ValueError("every_seconds must be 0 or more, and every_items 1 or more")
        encoded = payload.encode(start, stage=stage, what="start")
        call = Call(stage, note_of(items, start, version=version, key=key), is_function=False)
        pace = Pace(every_seconds, every_items)
        return Partial(self._runner, call, items, encoded, pace, timeout=math.inf if wait else 0, bar=bar)

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
