"""Check the return annotation of a stage, so that a result that can't be saved is refused before the function runs."""

from __future__ import annotations

import inspect
import types
import typing
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format.contents import is_content
from checkpoint_manager._format.values import KINDS, is_known
from checkpoint_manager._text import with_article
from checkpoint_manager.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable

    from checkpoint_manager._format.codecs import Codecs

_COLLECTIONS = {list, dict, tuple, set, frozenset}


def check_annotation(function: Callable[..., Any], stage: str, codecs: Codecs) -> None:
    """Refuse a function whose return annotation is a type that can't be saved.

    Raises:
        PayloadError: The annotation is such a type; the error names it.
    """
    try:
        hints = typing.get_type_hints(function)
    except Exception:  # noqa: BLE001  # names that exist only for type checkers: nothing is known then
        return
    fault = _fault(hints.get("return", Any), codecs)
    if fault is not None:
        message = f"{function.__name__} returns {with_article(fault)}, which can't be saved as it is"
        hint = (
            "Give @cm.stage encode=, a function that turns it into what can be saved, and decode=, one that turns that back; "
            "or open the store with codecs=[Codec(…)] for this type"
        )
        raise PayloadError(message, hint=hint, stage=stage)


def _fault(annotation: Any, codecs: Codecs) -> str | None:  # noqa: ANN401  # whatever stands in an annotation
    """Return the name of the type in an annotation that surely can't be saved; None if all can, or if that is not known."""
    origin = typing.get_origin(annotation) or annotation
    arguments = typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType}:
        faults = [_fault(each, codecs) for each in arguments]
        return faults[0] if all(faults) else None
    if inspect.iscoroutinefunction(origin) or typing.is_typeddict(origin) or not isinstance(origin, type):
        return None
    if origin in _COLLECTIONS:
        return next(filter(None, (_fault(each, codecs) for each in arguments)), None)
    if is_known(origin) or is_content(origin) or any(issubclass(each, origin) for each in (*KINDS, *codecs.by_type)):
        return None
    if inspect.isabstract(origin) or origin.__module__ in {"typing", "collections.abc"}:
        return None
    return origin.__qualname__
