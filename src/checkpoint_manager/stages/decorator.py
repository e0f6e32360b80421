"""The ``stage`` decorator: a wrapper that runs the function, or returns the saved result."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from checkpoint_manager import stages
from checkpoint_manager._format.notes import check_revision
from checkpoint_manager._text import printable
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.stages.annotations import check_annotation
from checkpoint_manager.stages.code import STAGE, Inner
from checkpoint_manager.stages.fingerprint import check_names, underlying
from checkpoint_manager.stages.identity import check_sibling, origin_of
from checkpoint_manager.stages.runner import Definition, timeout_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from checkpoint_manager.stages.runner import Runner


_DESCRIPTORS: tuple[type, ...] = (classmethod, property)


def make_stage(  # noqa: PLR0913  # all but two are choices, by name
    runner: Runner,
    name: Callable[..., Any] | str | None,
    *,
    revision: int | str | None,
    code: bool | None,
    key: Callable[..., object] | None,
    ignore: Sequence[str],
    encode: Callable[[Any], object] | None,
    decode: Callable[[Any], Any] | None,
    wait: float,
    check: Callable[[Any], str] | None = None,
    beside: Mapping[str, object] | None = None,
    fingerprint: Mapping[type, Callable[[Any], object]] | None = None,
) -> Callable[..., Any]:
    """Return the decorator that makes a function a stage, or the decorated function where one is given instead of a name."""
    if (encode is None) != (decode is None):
        raise TypeError("encode= and decode= belong together. Give both")
    if isinstance(ignore, str):
        raise TypeError(f'ignore= is a list of names. Write ["{ignore}"]')
    check_revision(1 if revision is None else revision)
    if code not in {None, True, False}:
        raise TypeError(f"code= must be True or False, not {code!r}")
    for kind, each in (fingerprint or {}).items():
        if not isinstance(kind, type) or not callable(each):  # type: ignore[redundant-expr]  # whatever a caller passes
            raise TypeError("fingerprint= is a dict of functions by the types that they are for")
    is_code_compared = revision is None if code is None else code
    timeout = timeout_of(wait)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        stage = _name_of(function, name)
        origin = origin_of(function, runner.location)
        definition = Definition(
            function,
            stage,
            origin,
            1 if revision is None else revision,
            key,
            tuple(ignore),
            encode,
            decode,
            timeout,
            is_code_compared,
            check,
            beside or {},
            dict(fingerprint or {}),
        )
        decorated = _decorate(runner, definition)
        setattr(decorated, STAGE, Inner(function, definition.revision, is_code_compared))
        return decorated

    return decorate(name) if callable(name) else decorate


def _name_of(function: Callable[..., Any], name: object) -> str:
    if isinstance(name, str):
        return validate(name)
    own = getattr(function, "__name__", None)
    if own is None or own == "<lambda>":
        kind = "a lambda" if own else f"a {type(function).__name__}"
        raise TypeError(f'{kind} has no name for its stage. Give it one: cm.stage("…")')
    return validate(own)


def _decorate(runner: Runner, definition: Definition) -> Callable[..., Any]:
    """Return the wrapper of the decorated function.

    Raises:
        PayloadError: By its annotation, the function returns what can't be saved, and there is no ``encode``.
        ValueError: Another function is the stage of this name.
        TypeError: It is a generator function, or ``ignore`` names an argument that it does not have.
    """
    function = definition.function
    if isinstance(function, _DESCRIPTORS):
        kind = type(function).__name__
        raise TypeError(f"{_title(function)} is a {kind} already. Put @cm.stage directly above def, and @{kind} above it")
    called = underlying(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise TypeError(f"{_title(function)} is a generator function, whose items can't be saved. Let it return a list")
    check_names(function, definition.ignore)
    _check_function(runner, definition)
    if definition.encode is None:
        check_annotation(function, definition.stage)
    return (
        stages.run_coroutine(runner, definition) if inspect.iscoroutinefunction(called) else _run_function(runner, definition)
    )


def _check_function(runner: Runner, definition: Definition) -> None:
    """Refuse a function whose results could be mistaken for those of another function of this manager."""
    stage, origin, function = definition.stage, definition.origin, definition.function
    known, other = runner.functions.setdefault(stage, (origin, function))
    if known != origin:
        message = f"the stage {printable(stage)} is {printable(known)} already"
        raise ValueError(f'{message}. Give {printable(origin)} another name: @cm.stage("…")')
    check_sibling(other, function, printable(origin))
    runner.functions[stage] = (origin, function)


def _run_function(runner: Runner, definition: Definition) -> Callable[..., Any]:
    @functools.wraps(definition.function)
    def run_stage(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # typed as the function it stands for
        run = runner.run_of(definition, args, kwargs)
        if runner.reuse(definition, run):
            return run.result
        lock = runner.lock(run, is_blocking=True)
        try:
            lock.acquire(definition.timeout, runner.log_waiting)
            if not runner.reuse(definition, run):  # the run that held the lock may have completed it
                runner.begin(run, lock)
                try:
                    run.result = _not_awaitable(definition.function(*args, **kwargs), definition)
                except Exception as error:
                    runner.save_failure(run, error)
                    raise
                finally:
                    runner.end(run)
                runner.save_result(definition, run)
        finally:
            lock.release()
        return run.result

    return run_stage


def _not_awaitable(result: object, definition: Definition) -> object:
    if not inspect.iscoroutine(result):
        return result
    result.close()
    title = _title(definition.function)
    raise TypeError(f"{title} returns a coroutine, but is not an async function itself. Put @cm.stage directly above async def")


def _title(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))
