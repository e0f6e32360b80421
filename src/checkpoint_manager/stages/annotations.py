"""Check the return annotation of a stage, so that a result that can't be saved is refused before the function runs."""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Any

from checkpoint_manager.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = {dict, list, str, int, float, bool, type(None), object}


def check_annotation(function: Callable[..., Any], stage: str) -> None:
    """Refuse a function whose return annotation is a type that can't be saved.

    Raises:
        PayloadError: The annotation is such a type; the error names it.
    """
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001  # names that exist only for type checkers: nothing is known then
        return
    fault = _fault(hints.get("return", Any))
    if fault is not None:
        message = f"{function.__name__} returns a {fault}, which JSON can't hold"
        hint = "Give @cm.stage encode=, a function that turns it into JSON, and decode=, one that turns that back"
        raise PayloadError(message, hint=hint, stage=stage)


def _fault(annotation: Any) -> str | None:  # noqa: ANN401  # whatever stands in an annotation
    """Return the name of the type in an annotation that surely can't be saved; None if all can, or if that is not known."""
    origin = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        faults = [_fault(each) for each in arguments]
        return faults[0] if all(faults) else None
    if inspect.iscoroutinefunction(origin) or typing.is_typeddict(origin) or not isinstance(origin, type):
        return None
    if origin in {list, dict}:
        return _fault(arguments[-1]) if arguments else None
    if origin in _KEPT or inspect.isabstract(origin) or origin.__module__ in {"typing", "collections.abc"}:
        return None
    return origin.__qualname__
