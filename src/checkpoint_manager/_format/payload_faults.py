"""Faults in data that can't be saved as JSON: the paths of the values, the reasons, and what to save instead.

An error tells of the data paths and types, never a value. A path includes keys, shortened.
"""

from __future__ import annotations

import json
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

Steps: TypeAlias = list[str | int]
"""The way from the data to a value in it: keys of dicts and indices of lists."""

Fault: TypeAlias = tuple[str, str]
"""What is wrong with a value, as the end of a message, and what to do about it."""

MAX_FAULTS = 10
"""The number of faults that an error names."""
MAX_DEPTH = 254
"""The maximum nesting of lists and dicts, which is the limit of orjson."""
TYPES = frozenset({str, int, float, bool, dict, list, type(None)})
"""The types that JSON preserves."""
_CONTAINERS = frozenset({dict, list})
_MIN_INTEGER, _MAX_INTEGER = -(2**63), 2**64 - 1
_KEY_CHARACTERS = 40
_PATH_CHARACTERS = 200

_REMEDIES = {
    "numpy.ndarray": "Save value.tolist()",
    "numpy.generic": "Save value.item()",
    "enum.Enum": "Save value.value",
    "datetime.date": "Save value.isoformat()",
    "datetime.time": "Save value.isoformat()",
    "datetime.timedelta": "Save value.total_seconds()",
    "decimal.Decimal": "Save str(value)",
    "uuid.UUID": "Save str(value)",
    "pathlib.PurePath": "Save str(value)",
    "orjson.Fragment": "Save the value that it was made from",
    "builtins.tuple": "Save list(value): it would come back as a list",
    "builtins.set": "Save sorted(value)",
    "builtins.frozenset": "Save sorted(value)",
    "builtins.bytes": "Save base64.b64encode(value).decode()",
    "builtins.bytearray": "Save base64.b64encode(value).decode()",
    "builtins.memoryview": "Save base64.b64encode(value).decode()",
    "builtins.dict": "Save dict(value): it would come back as a plain dict",
    "builtins.list": "Save list(value): it would come back as a plain list",
    "builtins.str": "Save str(value): it would come back as a plain str",
    "builtins.int": "Save int(value): it would come back as a plain int",
    "builtins.float": "Save float(value): it would come back as a plain float",
}
"""What to do instead, by the name of a base class, so that nothing has to be imported. The first that fits counts."""
_ANY_REMEDY = "Save what it holds as dict, list, str, int, float, bool or None"


def explain(value: object) -> tuple[tuple[str, ...], str, str]:
    """Return the paths of the values that can't be saved, up to ten; what is wrong with them; and what to do."""
    found = list(islice(_faults(value), MAX_FAULTS + 1)) or [([], ("holds a value that can't be written as JSON", _ANY_REMEDY))]
    paths = tuple(_render(path) for path, _ in found[:MAX_FAULTS])
    if len(found) == 1:
        fault, remedy = found[0][1]
        return paths, f"{paths[0]} {fault}", remedy
    told = [
        f"{path} {fault} ({remedy[0].lower()}{remedy[1:]})" for path, (_, (fault, remedy)) in zip(paths, found, strict=False)
    ]
    more = "; and there are more" if len(found) > MAX_FAULTS else ""
    return paths, f"{'; '.join(told)}{more}", "Replace each of these values"


def _faults(value: object) -> Iterator[tuple[Steps, Fault]]:
    """Yield the path of each value that can't be saved, with what is wrong and what to do.

    In the order of the document, and not of what a value at fault contains. Iterative, so that no depth of data meets Python's
    own recursion limit.
    """
    path: Steps = []  # one step for each walk; the first leads to the value itself and is left out of the result
    opened: list[object] = []  # the lists and dicts that contain the current value
    walks: list[Iterator[tuple[str | int, object]]] = [iter([(0, value)])]
    while walks:
        step = next(walks[-1], None)
        if step is None:
            walks.pop()
            continue
        key, child = step
        outer = len(walks) - 1
        path[outer:], opened[outer:] = [key], ()
        if type(key) is str and not _is_unicode(key):
            yield path[1:], ("is a key with a lone surrogate, which is not valid Unicode", "Use another key")
            continue
        fault = _fault(child, opened)
        if fault is not None:
            yield path[1:], fault
        elif type(child) in _CONTAINERS:
            opened.append(child)
            walks.append(iter(child.items()) if type(child) is dict else iter(enumerate(cast("list[object]", child))))


def _fault(value: object, opened: list[object]) -> Fault | None:
    """Return what is wrong with this value itself or with its keys, not with what it contains."""
    kind = type(value)
    if kind not in TYPES:
        return f"is of type {_name(kind)}", _remedy(kind)
    if kind is float and not isfinite(cast("float", value)):
        return "is NaN or infinite, which JSON can't hold", "Save None or a str"
    if kind is int and not _MIN_INTEGER <= cast("int", value) <= _MAX_INTEGER:
        return "is an integer beyond 64 bits", "Save it as text: str(value)"
    if kind is str and not _is_unicode(cast("str", value)):
        return "is text with a lone surrogate, which is not valid Unicode", "Save its bytes as base64"
    return _fault_of_container(value, opened) if type(value) is dict or type(value) is list else None


def _fault_of_container(value: dict[object, object] | list[object], opened: list[object]) -> Fault | None:
    if any(value is container for container in opened):
        return "is one of the lists and dicts that contain it", "Save its name or id instead"
    if len(opened) >= MAX_DEPTH:
        return f"is nested deeper than {MAX_DEPTH} levels", "Save it flatter"
    odd = next((type(key) for key in value if type(key) is not str), None) if type(value) is dict else None
    return None if odd is None else (f"has a key of type {_name(odd)}", "Use str keys")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _remedy(kind: type) -> str:
    """Return what to save in place of a value of this type."""
    if hasattr(kind, "__dataclass_fields__"):
        return "Save dataclasses.asdict(value)"
    # By top-level module: the module that really defines a class differs between versions of Python.
    bases = {f"{str(base.__module__).partition('.')[0]}.{base.__qualname__}" for base in kind.__mro__}
    return next((remedy for base, remedy in _REMEDIES.items() if base in bases), _ANY_REMEDY)


def _render(path: Steps) -> str:
    """Return the path as ``$.model["learning rate"][3]``, shortened in its middle where it is long."""
    text = "$" + "".join(map(_render_step, path))
    half = _PATH_CHARACTERS // 2
    return text if len(text) <= _PATH_CHARACTERS else f"{text[:half]}…{text[1 - half :]}"


def _render_step(step: str | int) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    shown, more = (step, "") if len(step) <= _KEY_CHARACTERS else (step[: _KEY_CHARACTERS - 1], "…")
    # Escaped as in JSON: no key can break a line of a log or reorder it on the screen.
    return f".{shown}{more}" if shown.isidentifier() else f'["{json.dumps(shown)[1:-1]}{more}"]'
