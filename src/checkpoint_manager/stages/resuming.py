"""``@cm.stage``, ``cm.partial`` and ``cm.run_report``: what a manager offers to functions that resume.

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

import math
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from checkpoint_manager._format import payload
from checkpoint_manager.backends.stage_names import validate

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Sequence

    from checkpoint_manager._operations.services import Store
    from checkpoint_manager.stages.loop import Partial
    from checkpoint_manager.stages.report import RunReport
    from checkpoint_manager.stages.runner import Runner

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S")


class Resuming:
    """The part of a manager that runs functions as stages. Whatever that needs is loaded by the first one to ask for it."""

    _store: Store
    _made_runner: Runner | None = None

    @property
    def _runner(self) -> Runner:
        """Runs the stages of this manager: one for all threads, made when it is first needed."""
        if self._made_runner is not None:
            return self._made_runner
        from checkpoint_manager.stages.runner import Runner  # noqa: PLC0415  # for those who have stages

        runner: Runner = self.__dict__.setdefault("_made_runner", Runner(self._store))  # of two threads, the first one's
        return runner

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
            FingerprintError: On a call: it can't be told whether an argument is the same as before.
            ResultNotSavedError: On a call: the function ran, and its result could not be saved; the error carries it.
            ValueError: Another function of this manager's is the stage of this name.
            TypeError: It is a generator function, or ``ignore`` names what it has no argument for.
        """
        if callable(name):
            return self.stage()(name)
        if (encode is None) != (decode is None):
            raise TypeError("encode= and decode= belong together: give both")
        from checkpoint_manager.stages.decorator import decorated  # noqa: PLC0415  # for those who have stages
        from checkpoint_manager.stages.runner import Definition  # noqa: PLC0415  # likewise

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            stage = validate(name or function.__name__)
            definition = Definition(function, stage, version, key, tuple(ignore), encode, decode, wait)
            return decorated(self._runner, definition)

        return decorate

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
            FingerprintError: It can't be told whether the items are the same as before.
            PayloadError: The state is not JSON; in the loop, as soon as that is seen, mostly after the first item.
            ResultNotSavedError: At the end of the block: the result could not be saved; the error carries it.
            LockTimeoutError: On entry: another process runs it, and ``wait`` is False.
        """
        stage = validate(stage_name)
        if not (every_seconds >= 0 and (every_items is None or every_items >= 1)):
            raise ValueError("every_seconds must be 0 or more, and every_items 1 or more")
        from checkpoint_manager.stages.loop import Partial, note_of  # noqa: PLC0415  # likewise
        from checkpoint_manager.stages.pacing import Pace  # noqa: PLC0415  # for those who have long loops
        from checkpoint_manager.stages.runner import Call  # noqa: PLC0415  # likewise

        encoded = payload.encode(start, stage=stage, what="start")
        call = Call(stage, note_of(items, start, version=version, key=key), is_function=False)
        pace = Pace(every_seconds, every_items)
        return Partial(self._runner, call, items, encoded, pace, timeout=math.inf if wait else 0, bar=bar)

    def run_report(self) -> RunReport:
        """Return what became of each call of a stage since this manager was made: reused, ran, or failed."""
        from checkpoint_manager.stages.report import RunReport  # noqa: PLC0415  # for those who have stages

        return RunReport(tuple(self._runner.outcomes))
