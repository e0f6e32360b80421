r"""The values that JSON does not have, written as JSON: the encoding ``values/1``.

Data that is not JSON begins with the nine bytes ``values/1\n``, and JSON follows, in which a *form* stands for each value that
JSON does not have. A form is an object with exactly one key, which begins with ``!``. Data that is JSON does not begin so (no
JSON begins with ``v``), and holds no forms: an object in it that looks like one is a dict. All data that was written before
this encoding is JSON.

==================  =========================================================================================================
``!dict``           A dict with a key that is not text, or that looks like a form: ``[[key,value],…]``, in the dict's order
``!tuple``          ``[element,…]``
``!set``            ``[element,…]``, sorted by their JSON as bytes
``!frozenset``      Likewise
``!bytes``          Base64 with padding (RFC 4648, section 4)
``!int``            An integer beyond 64 bits (below -2**63, or 2**64 and above): ``0x`` and lower-case hex digits, after ``-``
                    if it is negative
``!float``          ``nan``, ``inf`` or ``-inf``; a NaN of other bits than 7ff8000000000000: its bits, as 16 hex digits
``!complex``        ``[real,imaginary]``
``!decimal``        Python's ``str``, with ``E`` before an exponent
``!date``           ISO 8601, as ``isoformat`` writes it: ``2026-11-23``
``!datetime``       A naive time, or one with a fixed offset of whole minutes without a name, whose ``fold`` is 0: as
                    ``isoformat`` writes it, ``2026-11-23T10:00:00+01:00``. Any other: ``[the same without an
                    offset,fold,zone]``, where the zone is ``null``, the key of a ``ZoneInfo``, or ``[offset in
                    microseconds,name or null]``
``!time``           Likewise: ``10:00:00.000001``
``!timedelta``      ``[days,seconds,microseconds]``, as Python normalises them
``!uuid``           36 characters; ``[those,"safe"]`` or ``[those,"unsafe"]`` if ``is_safe`` says so
``!path``           A ``PosixPath``: its text. ``!pureposixpath``, ``!purewindowspath``, ``!windowspath``: likewise
``!numpy``          A scalar of numpy: ``[name,value]``. The name is that of its dtype (``bool``, ``int8`` to ``int64``,
                    ``uint8`` to ``uint64``, ``float16`` to ``float64``, ``complex64``, ``complex128``, ``datetime64[unit]``,
                    ``timedelta64[unit]``), ``str`` or ``bytes``; the value is that of ``item()``, and of a datetime64 or
                    timedelta64 the number of its units
``!codec``          A value of a type with a codec: ``[name of the codec,what its encode made of the value]``
==================  =========================================================================================================

All contents may hold forms where they hold keys, elements or values. The JSON is written without white space, and a form is
written if and only if JSON does not have the value. A reader MUST refuse an unknown form, a content of another kind, equal
elements of a set, equal keys of a dict or object, and the content of any form from ``!bytes`` to ``!numpy`` that is not the one
that would be written for the value.

Arrays, frames and tensors in data are ``values/2`` and ``values/3``, see :mod:`checkpoint_manager._format.embedded`.

A time zone by key comes back as the ``ZoneInfo`` of that key by the rules of the reading machine: the time on the clock stays,
and its offset may not. Values that are shared come back as equal values of their own. Reading imports ``numpy`` and
``zoneinfo`` where such a form is there, and nothing by a name that it read.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import functools
import json
import os
import pathlib
import re
import struct
import sys
import uuid
from collections import Counter
from math import isfinite
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager._format.codecs import NO_CODECS
from checkpoint_manager._format.embedded import TAG
from checkpoint_manager._format.unsavable import UnsavableError
from checkpoint_manager._loading import load
from checkpoint_manager._text import printable
from checkpoint_manager.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from checkpoint_manager._format.codecs import Codecs

_MARK = "!"
_AS_THEY_ARE: frozenset[type] = frozenset({str, bool, type(None)})
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
_MAX_COLLISIONS = 100
"""How many elements of a set, or keys of a dict, may have one hash: each is compared with all others of its hash."""
_NAN = "7ff8000000000000"
_CONTEXT = decimal.Context(capitals=1, traps=[decimal.InvalidOperation])
_MICROSECOND, _MINUTE = dt.timedelta(microseconds=1), dt.timedelta(minutes=1)
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+)*", re.ASCII)
_INTEGER = re.compile(r"-?0x[1-9a-f][0-9a-f]*", re.ASCII)
_NUMPY_TYPES = {
    **dict.fromkeys(["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"], int),
    **dict.fromkeys(["float16", "float32", "float64"], float),
    **dict.fromkeys(["complex64", "complex128"], complex),
    "bool": bool,
    "str": str,
    "bytes": bytes,
}
"""What is written for a scalar of numpy, by the name of its dtype."""
_NUMPY_TIME = re.compile(r"(?:datetime|timedelta)64(?:\[(?:[1-9][0-9]{0,8})?(?:Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?", re.ASCII)


# Writing


def form_of(value: Any, codecs: Codecs = NO_CODECS) -> Any:  # noqa: ANN401  # whatever is to be saved
    """Return what stands for a value in JSON: itself, or a form.

    Text that is not valid Unicode, and nesting that is too deep, are left for orjson to refuse.

    Raises:
        UnsavableError: It, or what it holds, has no form.
        RecursionError: It holds itself, or is nested too deeply.
    """
    kind = type(value)
    write = _WRITERS.get(kind)
    if write is not None:
        return write(value, codecs)
    codec = codecs.by_type.get(kind)
    if codec is not None:
        return {"!codec": [codec.name, form_of(codec.encode(value), codecs)]}
    numpy = sys.modules.get("numpy")  # a program that has such a value has imported it
    if numpy is not None and isinstance(value, numpy.generic):
        return _numpy_form(numpy, value)
    content = None if codecs.embedded is None else load("checkpoint_manager._format.contents").content_of(value)
    if content is not None and codecs.embedded is not None:
        return codecs.embedded.add(content)
    raise UnsavableError(f"is of type {name_of(kind)}")


def is_known(kind: type) -> bool:
    """Return whether values of a type are saved without a codec."""
    numpy = sys.modules.get("numpy")
    return kind in _WRITERS or (numpy is not None and issubclass(kind, numpy.generic))


def name_of(kind: type) -> str:
    """Return the name of a type as messages show it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _list(values: Iterable[Any], codecs: Codecs) -> list[Any]:
    return [each if type(each) in _AS_THEY_ARE else form_of(each, codecs) for each in values]


def _dict(value: dict[Any, Any], codecs: Codecs) -> dict[str, Any]:
    form = {key: each if type(each) in _AS_THEY_ARE else form_of(each, codecs) for key, each in value.items()}
    if needs_form(form):
        refuse_collisions(form)
        of_keys = codecs._replace(embedded=None)
        return {"!dict": [[form_of(key, of_keys), each] for key, each in form.items()]}
    return form


def needs_form(value: dict[Any, Any]) -> bool:
    """Return whether a dict has a key that is not text, or looks like a form."""
    return not set(map(type, value)) <= {str} or tag_of(value) is not None


def tag_of(value: dict[Any, Any]) -> str | None:
    """Return the key of a form; None if an object is not a form."""
    if len(value) != 1:
        return None
    (key,) = value
    return key if type(key) is str and key.startswith(_MARK) else None


def _set(value: Collection[Any], codecs: Codecs) -> dict[str, Any]:
    refuse_collisions(value)
    try:
        return {f"!{type(value).__name__}": sorted(_list(value, codecs._replace(embedded=None)), key=orjson.dumps)}
    except orjson.JSONEncodeError:
        raise UnsavableError("holds what can't be written as JSON") from None


def refuse_collisions(values: Collection[Any]) -> None:
    """Raise an :class:`UnsavableError` for so many elements or keys of one hash that it takes long to read them back."""
    if _collide(values):
        raise UnsavableError(f"has more than {_MAX_COLLISIONS} elements or keys of one hash", "Save them in a list")


def _collide(values: Collection[Any]) -> bool:
    """Return whether so many values have one hash that it takes long to compare them."""
    return len(values) > _MAX_COLLISIONS and max(Counter(map(hash, values)).values()) > _MAX_COLLISIONS


def _int(value: int, _: Codecs) -> Any:  # noqa: ANN401
    return value if _MIN_INTEGER <= value <= _MAX_INTEGER else {"!int": hex(value)}


def _float(value: float, _: Codecs = NO_CODECS) -> Any:  # noqa: ANN401
    if isfinite(value):
        return value
    bits = struct.pack(">d", value).hex()
    return {"!float": bits if value != value and bits != _NAN else repr(value)}  # noqa: PLR0124  # NaN


def _decimal(value: decimal.Decimal) -> str:
    return _CONTEXT.to_sci_string(value)


def _moment(value: Any) -> Any:  # noqa: ANN401  # a datetime or time
    zone = value.tzinfo
    if not is_certain(zone):
        raise UnsavableError(f"has a time zone of type {name_of(type(zone))}", "Use a zoneinfo.ZoneInfo or a datetime.timezone")
    if not value.fold and (zone is None or _is_plain(zone)):
        return value.isoformat()
    return [value.replace(tzinfo=None, fold=0).isoformat(), value.fold, _zone_form(zone)]


def is_certain(zone: Any) -> bool:  # noqa: ANN401  # a tzinfo, or None
    """Return whether a zone is a ``ZoneInfo`` of a key or a ``timezone``: any other may keep what can't be seen."""
    if zone is None:
        return True
    if type(zone) is dt.timezone:
        offset, *name = _made_of(zone)
        return type(offset) is dt.timedelta and all(type(each) is str for each in name)
    zoneinfo = sys.modules.get("zoneinfo")  # slow to import; a program that has such a zone has imported it
    if zoneinfo is None or type(zone) is not zoneinfo.ZoneInfo or type(zone.key) is not str:
        return False
    try:
        zone.__reduce__()
    except Exception:  # noqa: BLE001  # pickle's error: it was read from a file, and its key may be any text
        return False
    return True


def _made_of(zone: Any) -> tuple[Any, ...]:  # noqa: ANN401  # a timezone
    """Return the offset of a fixed zone, and its name if it was given one."""
    arguments: tuple[Any, ...] = zone.__getinitargs__()
    return arguments


def _is_plain(zone: Any) -> bool:  # noqa: ANN401  # a tzinfo
    """Return whether a zone is all that ISO 8601 writes: an offset in whole minutes."""
    return type(zone) is dt.timezone and len(_made_of(zone)) == 1 and not _made_of(zone)[0] % _MINUTE


def _zone_form(zone: Any) -> Any:  # noqa: ANN401
    if zone is None:
        return None
    if type(zone) is not dt.timezone:
        try:
            _zone_named(zone.key)
        except FormatError as error:
            raise UnsavableError(f"has a time zone by a key that can't be read back ({error.message})") from None
        return zone.key
    offset, *name = _made_of(zone)
    return [offset // _MICROSECOND, name[0] if name else None]


def _timedelta(value: dt.timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


def _uuid(value: uuid.UUID) -> Any:  # noqa: ANN401
    return str(value) if value.is_safe is uuid.SafeUUID.unknown else [str(value), value.is_safe.name]


def _numpy_form(numpy: Any, value: Any) -> dict[str, Any]:  # noqa: ANN401
    name = {"U": "str", "S": "bytes"}.get(value.dtype.kind, value.dtype.name)
    if name in _NUMPY_TYPES:
        plain = _NUMPY_TYPES[name](value)
    elif _NUMPY_TIME.fullmatch(name):
        plain = int(value.view("i8"))
    else:
        raise UnsavableError(f"is of type {name_of(type(value))}")
    again = _numpy_scalar(numpy, name, plain)
    if type(again) is not type(value) or again.dtype != value.dtype or again.tobytes() != value.tobytes():
        raise UnsavableError(f"is a {name_of(type(value))} that would come back as another value")
    return {"!numpy": [name, form_of(plain)]}


def _numpy_scalar(numpy: Any, name: str, plain: Any) -> Any:  # noqa: ANN401
    if name in {"str", "bytes"}:
        return getattr(numpy, f"{name}_")(plain)
    with numpy.errstate(all="ignore"):
        if name in _NUMPY_TYPES:
            return numpy.dtype(name).type(plain)
        return numpy.array(plain, "i8").view(name)[()]


def _tagged(tag: str, write: Callable[[Any], Any]) -> Callable[[Any, Codecs], dict[str, Any]]:
    return lambda value, _: {tag: write(value)}


# Reading


def value_of(form: Any, codecs: Codecs = NO_CODECS) -> Any:  # noqa: ANN401
    """Return the value that JSON with forms stands for; lists and dicts are changed in place.

    Raises:
        FormatError: A form is not valid, or needs what is not there: a codec, numpy or a time zone.
    """
    if type(form) is list:
        for index, each in enumerate(form):
            if type(each) in _CONTAINERS:
                form[index] = value_of(each, codecs)
    elif type(form) is dict:
        tag = tag_of(form)
        if tag is not None:
            return _read(tag, form[tag], codecs)
        for key, each in form.items():
            if type(each) in _CONTAINERS:
                form[key] = value_of(each, codecs)
    return form


_CONTAINERS = frozenset({list, dict})


_NOT_VALID = (
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    AttributeError,
    NotImplementedError,
    struct.error,
    UnsavableError,
)
"""What reading a content of another kind or beyond the limits raises."""


def _read(tag: str, content: Any, codecs: Codecs) -> Any:  # noqa: ANN401
    """Return the value of one form."""
    read = _READERS.get(tag)
    if read is not None:
        try:
            value = read(content)
            is_valid = _is_same(form_of(value), {tag: content})
        except FormatError:  # what it needs is not there
            raise
        except _NOT_VALID:
            is_valid = False
        if not is_valid:
            raise _invalid(tag)
        return value
    if tag == "!dict" and type(content) is list:
        return _dict_of(content, codecs)
    if tag in _COLLECTIONS and type(content) is list:
        return _COLLECTIONS[tag](tag, value_of(content, codecs if tag == "!tuple" else codecs._replace(contents=None)))
    if tag == "!codec" and type(content) is list and len(content) == 2 and type(content[0]) is str:
        name, inner = content
        codec = codecs.by_name.get(name)
        if codec is None:
            message = f"the data holds a value of the codec {printable(name)}, which is not there"
            raise FormatError(message, hint=f"Open the store with codecs=[…], with the Codec of the name {printable(name)}")
        return codec.decode(value_of(inner, codecs))
    if tag == TAG and codecs.contents is not None:
        return codecs.contents.read(content)
    raise _invalid(tag)


def _invalid(tag: str) -> FormatError:
    """Return the error for a form that can't be read."""
    if tag in _READERS or tag in _COLLECTIONS or tag in {"!dict", "!codec", TAG}:
        return FormatError(f"the data holds a {tag} that is not valid", hint="Load another version")
    message = f"the data holds a value of the kind {printable(tag)}, which this version of the library does not know"
    return FormatError(message, hint="Use the version of checkpoint_manager that wrote it, or a newer one")


def _is_same(form: Any, other: Any) -> bool:  # noqa: ANN401
    ((_, left),), ((_, right),) = form.items(), other.items()
    if type(left) is str or type(right) is str:
        return type(left) is type(right) and bool(left == right)
    return orjson.dumps(left) == orjson.dumps(right)


def _tuple(_: str, values: list[Any]) -> tuple[Any, ...]:
    return tuple(values)


def _set_of(tag: str, values: list[Any]) -> Collection[Any]:
    try:
        if not _collide(values):
            found = frozenset(values) if tag == "!frozenset" else set(values)
            if len(found) == len(values):
                return found
    except TypeError:  # one of them is not hashable
        pass
    raise _invalid(tag)


def _dict_of(pairs: list[Any], codecs: Codecs) -> dict[Any, Any]:
    of_keys = codecs._replace(contents=None)
    if all(type(each) is list and len(each) == 2 for each in pairs):
        read = [(value_of(key, of_keys), value_of(each, codecs)) for key, each in pairs]
        try:
            if not _collide([key for key, _ in read]):
                found = dict(read)
                if len(found) == len(read):
                    return found
        except TypeError:  # a key is not hashable
            pass
    raise _invalid("!dict")


_COLLECTIONS: dict[str, Callable[[str, list[Any]], Any]] = {
    "!tuple": _tuple,
    "!set": _set_of,
    "!frozenset": _set_of,
}


def _bytes_of(text: str) -> bytes:
    return base64.b64decode(text.encode(), validate=True)


def _int_of(text: str) -> int:
    return int(text if _INTEGER.fullmatch(text) else "", 16)


def _float_of(text: str) -> float:
    if text in {"nan", "inf", "-inf"}:
        return float(text)
    (value,) = struct.unpack(">d", bytes.fromhex(text))
    return float(value)


def _part_of(content: Any) -> float:  # noqa: ANN401
    return content if type(content) is float else _float_of(content["!float"])


def _complex_of(content: Any) -> complex:  # noqa: ANN401
    real, imaginary = content
    return complex(_part_of(real), _part_of(imaginary))


def _moment_of(kind: Any) -> Callable[[Any], Any]:  # noqa: ANN401
    def read(content: Any) -> Any:  # noqa: ANN401
        if type(content) is str:
            return kind.fromisoformat(content)
        text, fold, zone = content
        return kind.fromisoformat(text).replace(fold=fold, tzinfo=_zone_of(zone))

    return read


def _zone_of(zone: Any) -> dt.tzinfo | None:  # noqa: ANN401
    if zone is None:
        return None
    if type(zone) is str:
        return _zone_named(zone)
    offset, name = zone
    return dt.timezone(offset * _MICROSECOND, *([] if name is None else [name]))


@functools.lru_cache(maxsize=256)
def _zone_named(key: str) -> dt.tzinfo:
    """Return a zone by its key, if the machine has it. A key alone would make ``ZoneInfo`` import a package of its name."""
    zoneinfo = load("zoneinfo")
    is_valid = len(key) <= 255 and _ZONE.fullmatch(key) is not None
    is_there = is_valid and any(os.path.isfile(os.path.join(folder, key)) for folder in zoneinfo.TZPATH)
    if is_there or (is_valid and key in zoneinfo.available_timezones()):
        zone: dt.tzinfo = zoneinfo.ZoneInfo(key)
        return zone
    raise FormatError(f"this machine does not have the time zone {printable(key)}", hint="Install the package tzdata")


def _uuid_of(content: Any) -> uuid.UUID:  # noqa: ANN401
    if type(content) is str:
        return uuid.UUID(content)
    text, safety = content
    return uuid.UUID(text, is_safe=uuid.SafeUUID[safety])


def _numpy_of(content: Any) -> Any:  # noqa: ANN401
    name, inner = content
    plain = value_of(inner) if type(inner) is not dict or tag_of(inner) in _PLAIN else None
    if type(plain) is not _NUMPY_TYPES.get(name, int if _NUMPY_TIME.fullmatch(name) else None):
        raise ValueError
    try:
        numpy = load("numpy")
    except ImportError:
        message = "the data holds a value of numpy, which is not installed"
        raise FormatError(message, hint="Install numpy to load it") from None
    return _numpy_scalar(numpy, name, plain)


_PLAIN = {"!bytes", "!float", "!complex"}

_WRITERS: dict[type, Callable[[Any, Codecs], Any]] = {
    **dict.fromkeys(_AS_THEY_ARE, lambda value, _: value),
    list: _list,
    dict: _dict,
    tuple: lambda value, codecs: {"!tuple": _list(value, codecs)},
    set: _set,
    frozenset: _set,
    int: _int,
    float: _float,
    bytes: _tagged("!bytes", lambda value: base64.b64encode(value).decode()),
    complex: _tagged("!complex", lambda value: [_float(value.real), _float(value.imag)]),
    decimal.Decimal: _tagged("!decimal", _decimal),
    dt.date: _tagged("!date", dt.date.isoformat),
    dt.datetime: _tagged("!datetime", _moment),
    dt.time: _tagged("!time", _moment),
    dt.timedelta: _tagged("!timedelta", _timedelta),
    uuid.UUID: _tagged("!uuid", _uuid),
    pathlib.PosixPath: _tagged("!path", str),
    pathlib.WindowsPath: _tagged("!windowspath", str),
    pathlib.PurePosixPath: _tagged("!pureposixpath", str),
    pathlib.PureWindowsPath: _tagged("!purewindowspath", str),
}
"""By exact type, how a value is written."""

KINDS = frozenset(_WRITERS)
"""The types that are saved without a codec, but for those of numpy."""

_READERS: dict[str, Callable[[Any], Any]] = {
    "!bytes": _bytes_of,
    "!int": _int_of,
    "!float": _float_of,
    "!complex": _complex_of,
    "!decimal": lambda text: decimal.Decimal(text, _CONTEXT),
    "!date": dt.date.fromisoformat,
    "!datetime": _moment_of(dt.datetime),
    "!time": _moment_of(dt.time),
    "!timedelta": lambda content: dt.timedelta(*content),
    "!uuid": _uuid_of,
    "!path": pathlib.PosixPath,
    "!windowspath": pathlib.WindowsPath,
    "!pureposixpath": pathlib.PurePosixPath,
    "!purewindowspath": pathlib.PureWindowsPath,
    "!numpy": _numpy_of,
}
"""By its key, how a form without keys, elements or values in it is read."""


def parse(data: bytes | bytearray | memoryview) -> Any:  # noqa: ANN401
    """Return the JSON with forms that follows ``values/1``.

    Raises:
        orjson.JSONDecodeError: It is not JSON.
        FormatError: It is nested too deeply, or an object has a key twice.
    """
    tree = orjson.loads(data)
    try:
        is_plain = orjson.dumps(tree) == data
    except orjson.JSONEncodeError:
        raise FormatError("the data is nested too deeply", hint="Load another version") from None
    if not is_plain:  # by another release of orjson, or it is not ours
        json.loads(bytes(data), object_pairs_hook=_without_duplicates, parse_int=_within_64_bits)
    return tree


def _within_64_bits(digits: str) -> int:
    if len(digits) > 20 or not _MIN_INTEGER <= int(digits) <= _MAX_INTEGER:
        raise FormatError("the data has an integer beyond 64 bits that is not an !int", hint="Load another version")
    return int(digits)


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise FormatError("the data has an object with the same key twice", hint="Load another version")
    return found
