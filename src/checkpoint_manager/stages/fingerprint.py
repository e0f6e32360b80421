"""Telling whether a function is called with the same arguments as before: a digest of each, or a refusal.

Only values whose equality is certain from what they hold get one. Whatever else is passed is an error that names the argument:
a guess would, sooner or later, hand out the result of another call. Digests are kept sealed, with the version's metadata.

A value is encoded as the name of its kind, then its parts, each with its length in front: no two values can read alike.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import hashlib
import inspect
import pathlib
import uuid
from typing import TYPE_CHECKING, Any

from checkpoint_manager.errors import ArgumentError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_AS_TEXT = (dt.date, dt.time, dt.timedelta, decimal.Decimal, uuid.UUID, pathlib.PurePath)
_STANDARD = {"datetime", "decimal", "uuid", "pathlib"}
_BY_REPR = {type(None), bool, int, float, complex}
_MOST_LEVELS = 100


def fingerprints(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    key: Callable[..., Any] | None,
    ignore: Iterable[str],
) -> dict[str, str]:
    """Return a digest for each argument by its name, defaults included.

    Args:
        function: What is called.
        args: With these,
        kwargs: and these.
        key: Called with the same arguments; what it returns stands for all of them.
        ignore: Names of arguments that make no difference.

    Raises:
        ArgumentError: One has no certain digest; it is named.
    """
    if key is not None:
        return {"key": _digest(key(*args, **kwargs), "what key= returned")}
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    ignored = set(ignore)
    return {name: _digest(value, f"argument {name}") for name, value in bound.arguments.items() if name not in ignored}


def check_names(function: Callable[..., Any], ignore: Iterable[str]) -> None:
    """Refuse to ignore an argument that the function does not have.

    Raises:
        TypeError: It names them.
    """
    unknown = set(ignore) - set(inspect.signature(function).parameters)
    if unknown:
        raise TypeError(f"ignore= names what {function.__name__} has no arguments for: {', '.join(sorted(unknown))}")


def _digest(value: object, what: str) -> str:
    hasher = hashlib.sha256()
    try:
        for part in _parts(value, 0):
            hasher.update(len(part).to_bytes(8, "big"))
            hasher.update(part)
    except _NoDigestError as error:
        message = (
            f"{what} is, or holds, a {error}, of which it can't be told whether it is the same as before: pass ignore=[…] if "
            "it makes no difference, or key=, a function of the arguments that returns what does"
        )
        raise ArgumentError(message) from None
    return hasher.hexdigest()[:32]


class _NoDigestError(Exception):
    """Carries the name of the type."""


def _parts(value: Any, level: int) -> Iterator[bytes]:  # noqa: ANN401  # whatever a function is called with
    kind = type(value)
    yield kind.__qualname__.encode()
    if level > _MOST_LEVELS:
        raise _NoDigestError("structure too deep")
    if kind in {list, tuple}:
        yield from _all(value, level)
    elif kind in {set, frozenset}:
        yield from sorted(_all(value, level))
    elif kind is dict:
        yield from sorted(_all(value.items(), level))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield kind.__module__.encode()
        yield from _all([(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)], level)
    else:
        yield from _simple(value, kind)


def _simple(value: Any, kind: type) -> Iterator[bytes]:  # noqa: ANN401
    """Encode a value that holds no others."""
    if kind in _BY_REPR or (isinstance(value, _AS_TEXT) and kind.__module__.partition(".")[0] in _STANDARD):
        yield repr(value).encode()
    elif kind is str:
        yield value.encode("utf-8", "surrogatepass")
    elif kind in {bytes, bytearray}:
        yield bytes(value)
    elif isinstance(value, enum.Enum):
        yield kind.__module__.encode()
        yield value.name.encode()
    else:
        raise _NoDigestError(kind.__qualname__)


def _all(values: Iterable[object], level: int) -> Iterator[bytes]:
    for each in values:
        yield b"".join(_framed(each, level))


def _framed(value: object, level: int) -> Iterator[bytes]:
    for part in _parts(value, level + 1):
        yield len(part).to_bytes(8, "big")
        yield part
