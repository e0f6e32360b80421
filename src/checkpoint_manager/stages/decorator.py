"""A function that is a stage: what stands in its place, and runs it or takes the result that is kept."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from checkpoint_manager import stages
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.models import display
from checkpoint_manager.stages.annotations import check_annotation
from checkpoint_manager.stages.fingerprint import check_names
from checkpoint_manager.stages.runner import Definition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checkpoint_manager.stages.runner import Runner


def make_stage(
    runner: Runner,
    name: Callable[..., Any] | str | None,
    *,
    revision: int | str,
    key: Callable[..., object] | None,
    ignore: Sequence[str],
    encode: Callable[[Any], object] | None,
    decode: Callable[[Any], Any] | None,
    wait: bool,
) -> Callable[..., Any]:
    """Return the decorator that makes a function a stage, or the decorated function where one is given instead of a name."""
    if (encode is None) != (decode is None):
        raise TypeError("encode= and decode= belong together. Give both")

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        stage = validate(name if isinstance(name, str) and name else function.__name__)
        return _decorate(runner, Definition(function, stage, revision, key, tuple(ignore), encode, decode, wait))

    return decorate(name) if callable(name) else decorate


def _decorate(runner: Runner, definition: Definition) -> Callable[..., Any]:
    """Return the function that is called in place of the decorated one.

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
    if inspect.iscoroutinefunction(function):
        return stages.run_coroutine(runner, definition)
    return _run_function(runner, definition)


def _check_function(runner: Runner, definition: Definition) -> None:
    function, stage = definition.function, definition.stage
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__name__} is a generator function, whose items can't be saved. Let it return a list")
    name = f"{function.__module__}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    other = runner.functions.setdefault(stage, name)
    if other != name:  # the results of the one would be taken for those of the other
        raise ValueError(f'the stage {display(stage)} is {other} already. Give {name} another name: @cm.stage("…")')


def _run_function(runner: Runner, definition: Definition) -> Callable[..., Any]:
    @functools.wraps(definition.function)
    def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  # typed as the function it stands for
        call = runner.call(definition, args, kwargs)
        if runner.reuse(definition, call):
            return call.result
        with runner.exclusively(definition.stage, definition.timeout):
            if not runner.reuse(definition, call):
                with runner.running(call):
                    call.result = definition.function(*args, **kwargs)
                runner.save_result(definition, call)
        return call.result

    return run
