"""Fingerprints of arguments: a digest of each, to recognise a call with the same arguments as before.

A value has a digest only if that distinguishes it from every other value. For any other value, an error names the argument,
because a guess would sooner or later return the result of another call. In doubt, two values differ, which costs one more run:
dicts with another order of keys differ (a function may return ``list(argument)``), and so do 1, 1.0 and True, 0.0 and -0.0, and
two NaNs with different bits.

A value is encoded as the name of its kind and its parts, each preceded by its length, so that two values never have the same
encoding. An instance of a class (a dataclass, an enum) is encoded with the class's module and name, which must lead to that
very class: a class that was made inside a function, or was replaced since, might share its name with another.

**Parameters.** An argument is assigned to a parameter by the function that is called, not by ``__wrapped__`` or
``__signature__``, because a decorator may add, drop or reorder arguments. Below a decorator with ``*args, **kwargs``, the
arguments are compared as they are passed, so ``f(1)`` and ``f(x=1)`` differ. The defaults of wrapped functions are compared.

What is *not* compared: the code, the variables around it, the content of files that an argument names, and the directory that a
relative path starts from.
"""

from __future__ import annotations

import array
import collections
import collections.abc
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import hashlib
import inspect
import pathlib
import struct
import sys
import types
import uuid
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format.codecs import NO_CODECS
from checkpoint_manager._format.values import is_certain
from checkpoint_manager._text import printable
from checkpoint_manager.errors import FingerprintError
from checkpoint_manager.stages import results
from checkpoint_manager.stages.frames import encoded_parts
from checkpoint_manager.stages.module_names import module_name

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from checkpoint_manager._format.codecs import Codecs
    from checkpoint_manager.stages.results import Result

    Registered = Mapping[type, Callable[[Any], object]]

_PATHS = {pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath}
_BY_REPR = {type(None), bool, decimal.Decimal, dt.date, dt.timedelta, *_PATHS}
"""Kinds, exactly these and no subclass, whose ``repr`` tells all that they hold."""
_TIMES = {dt.datetime, dt.time}
_MAX_LEVELS = 100
_MAX_BITS_BY_REPR = 2000
"""Larger integers are encoded in hexadecimal: Python limits the digits of a ``repr``, and lets programs lower that limit."""
_MANY_VALUES, _CHUNK = 256, 65_536
"""From how many numbers and texts on they are encoded together, and how many at most."""
_CACHED = type(functools.lru_cache(len))
_HINT = (
    "Pass ignore=[…] if it makes no difference, "
    "key=, a function of the arguments that returns what does, "
    "or fingerprint={type: function}, with a function that returns what an object of that type holds"
)


def fingerprints(  # noqa: PLR0913  # all but three are by name
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    *,
    key: Callable[..., Any] | None,
    ignore: Collection[str],
    location: str = "",
    stage: str = "",
    registered: Registered | None = None,
    used: list[tuple[str, Result]] | None = None,
    codecs: Codecs = NO_CODECS,
) -> dict[str, str]:
    """Return a digest for each argument by its name, defaults included.

    Args:
        function: The function that is called.
        args: Its positional arguments.
        kwargs: Its keyword arguments.
        key: Called with the same arguments; its result stands for all of them.
        ignore: Names of arguments that are not compared.
        location: Where the store is.
        stage: The stage, for an error.
        registered: Functions that return what stands for an object, by its type.
        used: Receives the results of stages that the arguments are or contain, each with the name of the argument.
        codecs: What they make of an object stands for it if nothing else does.

    Raises:
        FingerprintError: An argument has no certain digest; the error names it.
    """
    where = f"stage {printable(stage)}: " if stage else ""
    try:
        found = {name: value for name, value in _arguments(function, args, kwargs).items() if name not in ignore}
    except TypeError as error:
        raise TypeError(f"{where}{error}") from None
    if key is not None:
        whole = [(name, results.recognise(value)) for name, value in found.items()] if used is not None else []
        (used if used is not None else []).extend((name, result) for name, result in whole if result is not None)
        return {"key": digest(key(*args, **kwargs), f"{where}the result of key=", _HINT, location, registered, codecs=codecs)}
    for name, parameter in _parameters(underlying(function)).items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD and name in found:
            found[name] = {each: value for each, value in found[name].items() if each not in ignore}
    for inner in _wrapped(function):
        defaults = {name: value for name, value in _defaults(inner).items() if name not in ignore}
        if defaults:
            found[f"defaults of {inner.__code__.co_qualname}"] = defaults
    first = next(iter(_parameters(underlying(function))), "")
    if first == "self" and first in found:
        found[first] = _Self(found[first])
    if first == "cls" and isinstance(found.get(first), type):
        found[first] = _class_name(found[first])
    digests: dict[str, str] = {}
    for name, value in found.items():
        inner_results: list[Result] = []
        digests[name] = digest(value, f"{where}argument {name}", _HINT, location, registered, used=inner_results, codecs=codecs)
        (used if used is not None else []).extend((name, result) for result in inner_results)
    return digests


def check_names(function: Callable[..., Any], ignore: Iterable[str]) -> None:
    """Refuse to ignore an argument that the function does not have.

    Raises:
        TypeError: The function has no argument of such a name.
    """
    called = underlying(function)
    inner: list[Callable[..., Any]] = list(_wrapped(function))
    last = _parameters(inner[-1] if inner else called)
    if any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in last.values()):
        return
    known = {name for each in (called, *inner) for name in _parameters(each)} | ({"self"} if _is_object(called) else set())
    if unknown := set(ignore) - known:
        raise TypeError(f"ignore= names arguments that the function does not have: {', '.join(sorted(unknown))}")


def digest(
    value: object,
    what: str,
    hint: str,
    location: str = "",
    registered: Registered | None = None,
    *,
    used: list[Result] | None = None,
    codecs: Codecs = NO_CODECS,
) -> str:
    """Return a digest of a value: 32 hex digits, the same only for values that nothing tells apart.

    Args:
        value: The value.
        what: What the value is to the caller, for the message of an error.
        hint: What to do if it has no digest, for that error.
        location: Where the store is.
        registered: Functions that return what stands for an object, by its type.
        used: Receives the results of stages that the value is or contains. None: they are not looked for.
        codecs: What they make of an object stands for it if nothing else does.

    Raises:
        FingerprintError: It has no certain digest.
    """
    hasher = hashlib.sha256()
    try:
        for piece in _pieces(value, _Walk(location, registered or {}, codecs, None if results.is_none_known() else used)):
            hasher.update(piece)
    except _NoDigestError as error:
        message = f"{what} is or contains an object of type {error}, which can't be compared"
        is_used_up = isinstance(value, collections.abc.Iterator | collections.abc.MappingView)
        raise FingerprintError(message, hint="Pass a list" if is_used_up and hint else hint) from None
    except RecursionError:
        raise FingerprintError(f"{what} is nested too deeply to be compared", hint=hint) from None
    return hasher.hexdigest()[:32]


def of_object(value: object) -> object:
    """Return a value whose digest is that of an object, if need be of all that an instance of a plain class holds."""
    return _Self(value)


def underlying(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function that is called in the end, below partials, caches and bound methods."""
    return _resolved(function, (), {})[0]


# The arguments of a call, by name


def _arguments(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    called, args, kwargs = _resolved(function, args, kwargs)
    found = {"self": _owner(called)} if _is_object(called) else {}
    parameters = _parameters(called)
    if not parameters and (args or kwargs):  # written in C, and without a signature
        return {**found, "args": args, "kwargs": dict(kwargs)}
    try:
        bound = inspect.Signature(list(parameters.values())).bind(*args, **kwargs)
    except TypeError as error:
        raise TypeError(f"{getattr(called, '__qualname__', 'the call')}(): {error}") from None
    bound.apply_defaults()
    return {**found, **bound.arguments}


def _resolved(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[Callable[..., Any], tuple[Any, ...], Mapping[str, Any]]:
    """Return the function that is called in the end, and its arguments, with those of partials and the owner of a method."""
    while True:
        if type(function) is functools.partial:
            args, kwargs, function = _joined(function.args, args), {**function.keywords, **kwargs}, function.func
        elif type(function) is _CACHED:
            function = function.__wrapped__
        elif isinstance(function, staticmethod):
            function = function.__func__
        elif isinstance(function, types.MethodType):
            owner = function.__self__
            function, args = function.__func__, (_class_name(owner) if isinstance(owner, type) else owner, *args)
        elif not isinstance(function, _FUNCTIONS) and isinstance(type(function).__call__, types.FunctionType):
            function, args = type(function).__call__, (function, *args)
        else:
            return function, args, kwargs


_FUNCTIONS = (types.FunctionType, types.BuiltinFunctionType, type)


def _joined(stored: tuple[Any, ...], given: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the positional arguments of a partial: since Python 3.14, it may have placeholders for some of those given."""
    placeholder = getattr(functools, "Placeholder", None)
    rest = iter(given)
    filled = tuple(next(rest, each) if placeholder is not None and each is placeholder else each for each in stored)
    return (*filled, *rest)


def _is_object(called: Callable[..., Any]) -> bool:
    """Return whether the called thing holds a state: a method written in C, or an instance with a ``__call__`` written in C."""
    if isinstance(called, types.BuiltinFunctionType):
        return called.__self__ is not None and not isinstance(called.__self__, types.ModuleType)
    return not isinstance(called, _FUNCTIONS)


def _owner(called: Callable[..., Any]) -> object:
    return called.__self__ if isinstance(called, types.BuiltinFunctionType) else called


def _parameters(called: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function as its code has them, whatever ``__wrapped__`` and ``__signature__`` claim."""
    if isinstance(called, types.FunctionType):
        bare = types.FunctionType(called.__code__, called.__globals__, called.__name__, called.__defaults__, called.__closure__)
        bare.__kwdefaults__ = called.__kwdefaults__
        called = bare
    try:
        return inspect.signature(called, follow_wrapped=False).parameters
    except ValueError:  # written in C, and without a signature
        return {}


def _wrapped(function: Callable[..., Any]) -> Iterator[types.FunctionType]:
    """Yield the functions below decorators that tell which function they wrap."""
    inner: Any = underlying(function)
    seen = {id(inner)}
    while callable(inner := getattr(inner, "__wrapped__", None)) and id(inner) not in seen:
        seen.add(id(inner))
        inner = underlying(inner)
        if isinstance(inner, types.FunctionType):
            yield inner


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    parameters = _parameters(function).values()
    return {each.name: each.default for each in parameters if each.default is not inspect.Parameter.empty}


def _class_name(kind: type) -> object:
    """Return a text for a class, the first argument of a class method, if its name leads to it."""
    with contextlib.suppress(_NoDigestError):
        return f"class {b'.'.join(_name_of(kind, b'class', '')[1:]).decode()}"
    return kind


class _NoDigestError(Exception):
    """Carries the name of the type."""


# The encoding of a value


@dataclasses.dataclass(frozen=True, slots=True)
class _Walk:
    """A walk through a value.

    Attributes:
        location: Where the store is: classes of a script are named by its file as seen from there.
        registered: Functions that return what stands for an object, by its type.
        codecs: What they make of an object stands for it if nothing else does.
        used: Receives the results of stages that are met; None: they are not looked for.
        around: The ids of the values that the current one lies in.
    """

    location: str
    registered: Registered
    codecs: Codecs
    used: list[Result] | None = None
    around: set[int] = dataclasses.field(default_factory=set)

    def result_of(self, value: object) -> Result | None:
        """Return the result of a stage that a value is, after taking note of it; None if it is none."""
        result = None if self.used is None else results.recognise(value)
        if result is not None and self.used is not None:
            self.used.append(result)
        return result


@dataclasses.dataclass(frozen=True, slots=True)
class _Self:
    """The object whose method is called."""

    value: object


def _pieces(value: Any, walk: _Walk) -> Iterator[bytes]:  # noqa: ANN401  # whatever a function is called with
    """Yield the encoding of a value, a long list in pieces."""
    if type(value) in {list, tuple} and type(value) not in walk.registered and not results.may_be_known(value):
        walk.around.add(id(value))
        yield _framed(type(value).__name__.encode())
        yield from _elements(value, 0, walk)
    else:
        yield _encoded(value, 0, walk)


def _encoded(value: Any, level: int, walk: _Walk) -> bytes:  # noqa: ANN401
    """Return the encoding of a value: its parts, each with its length in front.

    Args:
        value: The value.
        level: How deep it lies.
        walk: The walk that it is a part of.
    """
    kind = type(value)
    if kind is _Self:
        return _self(value.value, level, walk)
    result = walk.result_of(value)
    registered = next((each for each in kind.__mro__ if each in walk.registered), None) if walk.registered else None
    if registered is not None:
        name = f"{kind.__module__}.{kind.__qualname__}".encode("utf-8", "surrogatepass")
        return _framed(b"registered", name, _encoded(walk.registered[registered](value), level + 1, walk))
    simple = _SIMPLE.get(kind)
    if simple is not None:
        return _framed(kind.__name__.encode(), *simple(value))
    if id(value) in walk.around:
        raise _NoDigestError(f"{kind.__qualname__} that contains itself")
    if level > _MAX_LEVELS:
        raise _NoDigestError("structure too deep")
    walk.around.add(id(value))
    try:
        return _compound(value, kind, level, walk)
    except _NoDigestError:
        if result is None:
            if walk.used is not None and results.was_changed(value):
                raise _NoDigestError(f"{kind.__qualname__} (a result of a stage that was changed since)") from None
            raise
        return _framed(
            b"result", *(each.encode("utf-8", "surrogatepass") for each in (result.stage, result.function, result.data))
        )
    finally:
        walk.around.discard(id(value))


def _compound(value: Any, kind: type, level: int, walk: _Walk) -> bytes:  # noqa: ANN401, PLR0911  # a table of cases
    """Encode a value that contains others."""
    if kind in {list, tuple}:
        return b"".join([_framed(kind.__name__.encode()), *_elements(value, level, walk)])
    if kind in {set, frozenset}:
        return _framed(kind.__name__.encode(), *sorted(_encoded(each, level + 1, walk) for each in value))
    if kind in _DICTS and not getattr(value, "__dict__", None):  # an OrderedDict may have attributes, which are not compared
        return b"".join([_framed(kind.__name__.encode()), *_elements(list(value.items()), level, walk)])
    if kind is collections.deque:
        return b"".join([_framed(b"deque", repr(value.maxlen).encode()), *_elements(list(value), level, walk)])
    if isinstance(value, enum.Enum):  # the value, too: combined flags may have no name
        parts = (_encoded(each, level + 1, walk) for each in (value.name, value.value))
        return _framed(*_name_of(kind, b"enum", walk.location), *parts)
    if dataclasses.is_dataclass(kind):
        parts = (_encoded(each, level + 1, walk) for each in _held_by(value))
        return _framed(*_name_of(kind, b"dataclass", walk.location), *parts)
    if _is_named_tuple(kind):
        parts = (_encoded(each, level + 1, walk) for each in (tuple(tuple.__iter__(value)), getattr(value, "__dict__", {})))
        return _framed(*_name_of(kind, b"named tuple", walk.location), *parts)
    parts_of_array = encoded_parts(value, lambda each: _encoded(each, level + 1, walk))
    if parts_of_array is not None:
        return _framed(b"array", *parts_of_array)
    codec = walk.codecs.by_type.get(kind)
    if codec is not None:
        return _framed(b"codec", codec.name.encode(), _encoded(codec.encode(value), level + 1, walk))
    raise _NoDigestError(kind.__qualname__)


_DICTS = {dict, collections.OrderedDict, collections.Counter}


def _is_named_tuple(kind: type) -> bool:
    """Return whether a class is a named tuple: its fields are all that it has, but for what is in its ``__dict__``."""
    bases = [base for base in kind.__mro__ if base is not tuple and base is not object]
    return issubclass(kind, tuple) and hasattr(kind, "_fields") and not any("__getattribute__" in vars(each) for each in bases)


def _self(value: Any, level: int, walk: _Walk) -> bytes:  # noqa: ANN401  # the object whose method is called
    """Encode the object whose method is called: of a class of the caller's, by all that it holds."""
    kind = type(value)
    is_plain = all(base.__flags__ & _HEAP_TYPE for base in kind.__mro__[:-1])
    try:
        return _encoded(value, level, walk)
    except _NoDigestError:
        if not is_plain or dataclasses.is_dataclass(kind) or isinstance(value, enum.Enum):
            raise
    walk.around.add(id(value))
    parts = (_encoded(each, level + 1, walk) for each in _held_by(value))
    return _framed(*_name_of(kind, b"self", walk.location), *parts)


_HEAP_TYPE = 1 << 9
"""Of ``type.__flags__``: the class was made by a class statement, and not in C; see ``Py_TPFLAGS_HEAPTYPE``."""


def _elements(values: Sequence[Any], level: int, walk: _Walk) -> Iterator[bytes]:
    """Yield the encodings of values, each with its length in front; many simple values as one."""
    for start in range(0, len(values), _CHUNK):
        chunk = values[start : start + _CHUNK]
        many = _many(chunk) if len(chunk) >= _MANY_VALUES else None
        if many is not None and walk.used is not None and results.is_any_known(chunk):
            for each in filter(results.may_be_known, chunk):
                walk.result_of(each)
        yield many if many is not None else b"".join([_framed(_encoded(each, level + 1, walk)) for each in chunk])


def _framed(*parts: bytes) -> bytes:
    if len(parts) == 1:
        return len(parts[0]).to_bytes(8, "big") + parts[0]
    return b"".join([piece for part in parts for piece in (len(part).to_bytes(8, "big"), part)])


def _many(values: Sequence[Any]) -> bytes | None:
    """Return the encoding of numbers and texts by columns: the kind of each, then all of a kind; None if there are others."""
    kinds = list(map(type, values))
    if not _CODES.keys() >= set(kinds):
        return None
    is_of_one_kind = kinds.count(kinds[0]) == len(kinds)
    codes = bytes([_CODES[kinds[0]]]) * len(kinds) if is_of_one_kind else bytes(map(_CODES.__getitem__, kinds))
    floats, integers, texts, truths = (_of_kind(values, kinds, kind) for kind in (float, int, str, bool))
    try:
        packed = _packed("q", integers)
    except OverflowError:  # one has more than 64 bits
        return None
    lengths = struct.pack(f">{len(texts)}Q", *map(len, texts))
    joined = "".join(texts).encode("utf-8", "surrogatepass")
    columns = (codes, _packed("d", floats), packed, lengths, joined, bytes(truths))
    return _framed(_framed(b"many", *columns))


def _packed(code: str, numbers: Sequence[Any]) -> bytes:
    """Return numbers as eight bytes each, the highest first."""
    packed = array.array(code, numbers)
    if sys.byteorder == "little":
        packed.byteswap()
    return packed.tobytes()


_CODES = {type(None): 0, bool: 1, int: 2, float: 3, str: 4}


def _of_kind(values: Sequence[Any], kinds: Sequence[type], kind: type) -> Sequence[Any]:
    count = kinds.count(kind)
    if count in {0, len(values)}:
        return values if count else ()
    return [value for value, each in zip(values, kinds, strict=True) if each is kind]


def _float(value: float) -> tuple[bytes, ...]:
    text = repr(value).encode()
    bits = struct.pack(">d", value)
    return (text,) if text != b"nan" or bits == _NAN else (text, bits)


_NAN = bytes.fromhex("7ff8000000000000")


def _complex(value: complex) -> tuple[bytes, ...]:
    parts = (value.real, value.imag)
    return (repr(value).encode(), *(struct.pack(">d", part) for part in parts if part != part))  # noqa: PLR0124  # NaN


def _integer(value: int) -> tuple[bytes]:
    return ((repr if value.bit_length() <= _MAX_BITS_BY_REPR else hex)(value).encode(),)


def _range(value: range) -> tuple[bytes, ...]:
    large = any(abs(each).bit_length() > _MAX_BITS_BY_REPR for each in (value.start, value.stop, value.step))
    return tuple(map(_hex, (value.start, value.stop, value.step))) if large else (repr(value).encode(),)


def _hex(number: int) -> bytes:
    return hex(number).encode()


def _uuid(value: uuid.UUID) -> tuple[bytes, ...]:
    safe = value.is_safe
    return (repr(value).encode(), *([] if safe is uuid.SafeUUID.unknown else [safe.name.encode()]))


def _time(value: dt.datetime | dt.time) -> tuple[bytes]:
    if not is_certain(value.tzinfo):
        raise _NoDigestError(type(value).__qualname__)
    return (repr(value).encode(),)


def _by_repr(value: object) -> tuple[bytes]:
    return (repr(value).encode("utf-8", "surrogatepass"),)


_SIMPLE: dict[type, Callable[[Any], tuple[bytes, ...]]] = {
    **dict.fromkeys(_BY_REPR, _by_repr),
    **dict.fromkeys(_TIMES, _time),
    int: _integer,
    float: _float,
    complex: _complex,
    range: _range,
    uuid.UUID: _uuid,
    str: lambda value: (value.encode("utf-8", "surrogatepass"),),
    bytes: lambda value: (value,),
    bytearray: lambda value: (bytes(value),),
}


def _name_of(kind: type, what: bytes, location: str) -> tuple[bytes, bytes, bytes]:
    """Return what names a class, if its name leads to it, as it must for ``pickle``."""
    module: Any = sys.modules.get(kind.__module__)
    found = module
    for step in kind.__qualname__.split("."):
        found = getattr(found, step, None)
    if found is not kind:
        raise _NoDigestError(f"{kind.__qualname__}, a class that its module and name don't lead to")
    place = module_name(vars(module), kind.__module__, location)
    return what, place.encode("utf-8", "surrogatepass"), kind.__qualname__.encode()


def _held_by(value: Any) -> list[tuple[str, object]]:  # noqa: ANN401  # an instance of a class of the caller's
    """Return all that an object holds by name: a dataclass's fields, and whatever else was put into it."""
    kind = type(value)
    if any(isinstance(vars(base).get("__new__"), types.BuiltinFunctionType) for base in kind.__mro__[:-1]):
        raise _NoDigestError(f"{kind.__qualname__}, which is a built-in type with fields")  # only the fields can be seen
    if any("__getattribute__" in vars(base) for base in kind.__mro__[:-1]):
        raise _NoDigestError(f"{kind.__qualname__}, which decides itself what its attributes are")
    declared = dataclasses.fields(value) if dataclasses.is_dataclass(value) else ()
    fields = [field.name for field in declared if hasattr(value, field.name)]
    slots = [name for base in kind.__mro__ for name in _slots_of(base) if hasattr(value, name)]
    own = getattr(value, "__dict__", {})
    others = sorted({*own, *slots} - {*fields})
    held = [(name, getattr(value, name)) for name in (*fields, *others)]
    return held + [(f"{name} below", own[name]) for name, seen in held if name in own and own[name] is not seen]


def _slots_of(base: type) -> Iterable[str]:
    slots = vars(base).get("__slots__", ())
    names = (slots,) if isinstance(slots, str) else tuple(slots)
    private = f"_{base.__name__.lstrip('_')}"  # Python stores __name of a class under this and the name
    mangled = (private + name if name.startswith("__") and not name.endswith("__") else name for name in names)
    return [name for name in mangled if name not in {"__dict__", "__weakref__"}]
