"""Whether what a function returns can be kept, told from its annotation: before the work, not after it."""

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
    """Refuse a function that says that it returns what can't be kept.

    Raises:
        PayloadError: It names the type, and what to do.
    """
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001  # names that exist only for type checkers: then nothing is known before the work
        return
    fault = _fault(hints.get("return", Any))
    if fault is not None:
        message = (
            f"{function.__name__} returns a {fault}, which JSON can't hold as it is: give @cm.stage encode=, a function that "
            "makes JSON of it, and decode=, one that makes it again"
        )
        raise PayloadError(message, stage=stage)


def _fault(annotation: Any) -> str | None:  # noqa: ANN401  # whatever stands in an annotation
    """Return what surely can't be kept in values of this type; None: they can, or it is not known."""
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
