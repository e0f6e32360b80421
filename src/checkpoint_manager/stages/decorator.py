"""The ``stage`` decorator: a wrapper that runs the function, or returns the saved result."""

from __future__ import annotations

import functools
import inspect
import time
from typing import TYPE_CHECKING, Any

from checkpoint_manager import stages
from checkpoint_manager._text import printable, with_article
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.stages.annotations import check_annotation
from checkpoint_manager.stages.code import STAGE, Inner
from checkpoint_manager.stages.fingerprint import check_names, underlying
from checkpoint_manager.stages.identity import check_sibling, origin_of
from checkpoint_manager.stages.run import Definition

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager.stages.options import Options
    from checkpoint_manager.stages.runner import Runner


_DESCRIPTORS: tuple[type, ...] = (classmethod, property)


def make_stage(runner: Runner, name: Callable[..., Any] | str | None, options: Options) -> Callable[..., Any]:
    """Return the decorator that makes a function a stage, or the decorated function where one is given instead of a name."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        definition = Definition(function, _name_of(function, name), origin_of(function, runner.location), options)
        decorated = _decorate(runner, definition)
        setattr(decorated, STAGE, Inner(function, definition.revision, options.is_code_compared))
        return decorated

    return decorate(name) if callable(name) else decorate


def _name_of(function: Callable[..., Any], name: object) -> str:
    if name is not None and not callable(name):
        return validate(name)
    own = getattr(function, "__name__", None)
    if own is None or own == "<lambda>":
        kind = "a lambda" if own else with_article(type(function).__name__)
        raise TypeError(f'{kind} has no name for its stage. Give it one: cm.stage("…")')
    return validate(own)


def _decorate(runner: Runner, definition: Definition) -> Callable[..., Any]:
    """Return the wrapper of the decorated function.

    Raises:
        PayloadError: By its annotation, the function returns what can't be saved, and there is no ``encode``.
        ValueError: Another function is the stage of this name.
        TypeError: It is a generator function, ``ignore`` names an argument that it does not have, or it has a ``timeout`` and
            is not an async function.
    """
    function = definition.function
    if isinstance(function, _DESCRIPTORS):
        kind = type(function).__name__
        raise TypeError(f"{_title(function)} is a {kind} already. Put @cm.stage directly above def, and @{kind} above it")
    called = underlying(function)
    if inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        raise TypeError(f"{_title(function)} is a generator function, whose items can't be saved. Let it return a list")
    is_async = inspect.iscoroutinefunction(called)
    if definition.options.timeout is not None and not is_async:
        what = "which can't be stopped while it runs. Make it async, or a program of its own: checkpoint-manager run --timeout"
        raise TypeError(f"timeout= is given for {_title(function)}, {what}")
    check_names(function, definition.options.ignore)
    _check_function(runner, definition)
    if definition.options.encode is None:
        check_annotation(function, definition.stage, runner.codecs)
    return stages.run_coroutine(runner, definition) if is_async else _run_function(runner, definition)


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
            lock.acquire(definition.options.patience, runner.log_waiting)
            if not runner.reuse(definition, run):  # the run that held the lock may have completed it
                while not run.is_done:
                    with runner.attempt(run, lock):
                        run.result = _not_awaitable(definition.function(*args, **kwargs), definition)
                    if not run.is_done:
                        time.sleep(run.pause)
                runner.save_result(definition, run)
                runner.warn_of_changes(definition, run, args, kwargs)
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
