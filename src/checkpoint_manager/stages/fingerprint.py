"""Telling whether a function is called with the same arguments as before: a digest of each, or a refusal.

Only values that can be told apart completely by what they hold get one. Whatever else is passed is an error that names the
argument: a guess would, sooner or later, hand out the result of another call. In doubt, two values differ: that costs one run
more. So dicts in another order differ (a function may return ``list(argument)``), and so do 1, 1.0 and True, or 0.0 and -0.0.
Digests are kept sealed, with the version's metadata.

A value is encoded as the name of its kind, then its parts, each with its length in front: no two values can read alike. An
object of a class (a dataclass, an enum) is encoded with the class's module and name, which must lead to that very class: one
that was made inside a function, or has been replaced since, might share its name with another one.

What is *not* looked at: the code, the variables around it, the files that an argument names, and where a relative path begins.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import inspect
import pathlib
import sys
import types
import uuid
from typing import TYPE_CHECKING, Any

from checkpoint_manager.errors import FingerprintError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_BY_REPR = {
    *(type(None), bool, int, float, complex, range, decimal.Decimal, uuid.UUID, dt.date, dt.timedelta),
    *(pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath),
}
"""Kinds, exactly these and no subclass, whose ``repr`` says all that they hold."""
_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)
_TIMES = {dt.datetime, dt.time}
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
        FingerprintError: One has no certain digest; it is named.
    """
    if key is not None:
        return {"key": digest(key(*args, **kwargs), "what key= returned", _FOR_ARGUMENTS)}
    while isinstance(function, functools.partial):
        args, kwargs, function = (*function.args, *args), {**function.keywords, **kwargs}, function.func
    bound = inspect.signature(function).bind(*args, **kwargs)
    bound.apply_defaults()
    found = {**bound.arguments, **({"self": _owner_of(function)} if _owner_of(function) is not None else {})}
    ignored = set(ignore)
    named = ((name, value) for name, value in found.items() if name not in ignored)
    return {name: digest(value, f"argument {name}", _FOR_ARGUMENTS) for name, value in named}


_FOR_ARGUMENTS = "Pass ignore=[…] if it makes no difference, or key=, a function of the arguments that returns what does"


def check_names(function: Callable[..., Any], ignore: Iterable[str]) -> None:
    """Refuse to ignore an argument that the function does not have.

    Raises:
        TypeError: It names them.
    """
    while isinstance(function, functools.partial):
        function = function.func
    known = {*inspect.signature(function).parameters, *(["self"] if _owner_of(function) is not None else [])}
    if unknown := set(ignore) - known:
        raise TypeError(f"ignore= names arguments that the function does not have: {', '.join(sorted(unknown))}")


def _owner_of(function: Callable[..., Any]) -> object | None:
    """Return the object that a method was taken from, or that is called itself: its first argument in all but name."""
    owner = getattr(function, "__self__", None)
    if owner is not None:
        return None if isinstance(owner, types.ModuleType) else owner  # a built-in function's is its module
    is_function = isinstance(function, _FUNCTIONS) or hasattr(function, "__wrapped__")
    return None if is_function else function


def digest(value: object, what: str, hint: str) -> str:
    """Return a digest of a value: 32 hex digits, the same only for values that nothing tells apart.

    Args:
        value: The value.
        what: What it is to the caller, for the message of an error.
        hint: What to do if it has none, for that error.

    Raises:
        FingerprintError: It has no certain digest.
    """
    hasher = hashlib.sha256()
    try:
        for part in _parts(value, 0):
            hasher.update(len(part).to_bytes(8, "big"))
            hasher.update(part)
    except _NoDigestError as error:
        raise FingerprintError(
            f"{what} is or contains a {error}, which can't be compared with later calls", hint=hint
        ) from None
    return hasher.hexdigest()[:32]


class _NoDigestError(Exception):
    """Carries the name of the type."""


def _parts(value: Any, level: int) -> Iterator[bytes]:  # noqa: ANN401  # whatever a function is called with
    kind = type(value)
    if level > _MOST_LEVELS:
        raise _NoDigestError("structure too deep")
    if kind in {list, tuple}:
        yield kind.__name__.encode()
        yield from _all(value, level)
    elif kind in {set, frozenset}:
        yield kind.__name__.encode()
        yield from sorted(_all(value, level))
    elif kind is dict:
        yield b"dict"
        yield from _all(value.items(), level)
    elif isinstance(value, enum.Enum):
        yield from _name_of(kind, b"enum")
        yield from _all((value.name, value.value), level)  # the value, too: combined flags may have no name
    elif dataclasses.is_dataclass(kind):
        yield from _name_of(kind, b"dataclass")
        yield from _all(_held_by(value), level)
    else:
        yield from _simple(value, kind)


def _simple(value: Any, kind: type) -> Iterator[bytes]:  # noqa: ANN401
    """Encode a value that holds no others."""
    if kind is str:
        yield b"str"
        yield value.encode("utf-8", "surrogatepass")
    elif kind in {bytes, bytearray}:
        yield kind.__name__.encode()
        yield bytes(value)
    elif kind in _BY_REPR or (kind in _TIMES and _is_certain(value.tzinfo)):
        yield kind.__name__.encode()
        yield repr(value).encode()
    else:
        raise _NoDigestError(kind.__qualname__)


def _is_certain(zone: Any) -> bool:  # noqa: ANN401  # a tzinfo, or None
    """Whether the zone's ``repr`` says which one it is: a class of the caller's own may say anything."""
    zoneinfo = sys.modules.get("zoneinfo")  # which takes long to import; who has a zone of it has imported it
    is_named = zoneinfo is not None and type(zone) is zoneinfo.ZoneInfo and zone.key is not None
    return zone is None or type(zone) is dt.timezone or is_named


def _name_of(kind: type, what: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what names a class, if its name leads to it, as it must for ``pickle``."""
    found: Any = sys.modules.get(kind.__module__)
    for step in kind.__qualname__.split("."):
        found = getattr(found, step, None)
    if found is not kind:
        raise _NoDigestError(f"{kind.__qualname__}, a class that its module and name don't lead to")
    return what, kind.__module__.encode(), kind.__qualname__.encode()


def _held_by(value: Any) -> list[tuple[str, object]]:  # noqa: ANN401  # a dataclass's instance
    """Return all that an object of a dataclass holds by name: its fields, and whatever else was put into it."""
    kind = type(value)
    if any(isinstance(vars(base).get("__new__"), types.BuiltinFunctionType) for base in kind.__mro__[:-1]):
        raise _NoDigestError(f"{kind.__qualname__}, which is a built-in type with fields")  # of which this sees the fields only
    fields = [field.name for field in dataclasses.fields(value)]
    slots = [name for base in kind.__mro__ for name in _slots_of(base) if hasattr(value, name)]
    others = sorted({*getattr(value, "__dict__", {}), *slots} - {*fields})
    return [(name, getattr(value, name)) for name in (*fields, *others)]


def _slots_of(base: type) -> Iterable[str]:
    slots = vars(base).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    private = f"_{base.__name__.lstrip('_')}"  # Python stores __name of a class under this and the name
    mangled = (private + name if name.startswith("__") and not name.endswith("__") else name for name in names)
    return [name for name in mangled if name not in {"__dict__", "__weakref__"}]


def _all(values: Iterable[object], level: int) -> Iterator[bytes]:
    for each in values:
        yield b"".join(_framed(each, level))


def _framed(value: object, level: int) -> Iterator[bytes]:
    for part in _parts(value, level + 1):
        yield len(part).to_bytes(8, "big")
        yield part
