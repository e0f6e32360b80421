"""Faults in data that can't be saved: the paths of the values, the reasons, and what to do instead.

An error tells of the data paths and types, never a value. A path shows a key that is an identifier, such as the name of a
field. Any other key may be data, such as an address or a number, and the path shows only its place in the dict.
"""

from __future__ import annotations

from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeAlias

from checkpoint_manager._format.unsavable import UnsavableError
from checkpoint_manager._loading import load
from checkpoint_manager._text import is_unicode
from checkpoint_manager.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from types import ModuleType

    from checkpoint_manager._format.codecs import Codecs

Step: TypeAlias = tuple[int, object] | int | None
"""A key of a dict, after its place there, from 1; an index of a list or tuple, or of a set as it is iterated.

None leads from a value to what its codec makes of it.
"""

Fault: TypeAlias = tuple[str, str]
"""What is wrong with a value, as the end of a message, and what to do about it."""

MAX_FAULTS = 10
"""The number of faults that an error names."""
MAX_DEPTH = 254
"""The maximum nesting of lists and objects in the JSON, which is the limit of orjson."""
MAX_TEXT = 2_000_000_000
"""The longest text, in characters."""
_JSON = frozenset({str, int, float, bool, dict, list, type(None)})
"""The types that JSON has."""
_KEY_CHARACTERS = 40
_PATH_CHARACTERS = 200

_REMEDIES = {
    "numpy.ndarray": "Save value.tolist()",
    "numpy.generic": "Save value.item()",
    "enum.Enum": "Save value.value",
    "pydantic.BaseModel": "Save value.model_dump()",
    "datetime.date": "Save value.isoformat()",
    "datetime.time": "Save value.isoformat()",
    "datetime.timedelta": "Save value.total_seconds()",
    "decimal.Decimal": "Save str(value)",
    "uuid.UUID": "Save str(value)",
    "pathlib.PurePath": "Save str(value)",
    "orjson.Fragment": "Save the value that it was made from",
    "builtins.tuple": "Save list(value)",
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
"""What to save instead, by the name of a base class, so that nothing has to be imported. The first that fits counts."""
_REMEDIES_OF_DATA = {
    **_REMEDIES,
    "pandas.DataFrame": "Save pandas.DataFrame(value): it would come back as a plain frame",
    "pandas.Series": "Save value.to_frame()",
    "polars.DataFrame": "Save polars.DataFrame(value): it would come back as a plain frame",
    "polars.Series": "Save value.to_frame()",
    "torch.Tensor": "Save it as a value of a dict or in a list, not as a key or in a set",
    "builtins.tuple": "Save tuple(value): it would come back as a plain tuple",
    "builtins.set": "Save set(value): it would come back as a plain set",
    "builtins.frozenset": "Save frozenset(value): it would come back as a plain frozenset",
    "builtins.bytes": "Save bytes(value): it would come back as plain bytes",
    "builtins.bytearray": "Save bytes(value): it would come back as bytes",
    "builtins.memoryview": "Save bytes(value): it would come back as bytes",
}
"""The same where more than JSON can be saved."""
_ANY_REMEDY = "Save what it holds as dict, list, str, int, float, bool or None"
_CODEC = ", or open the store with codecs=[Codec(…)] for this type"


def refusal(value: object, codecs: Codecs | None, *, stage: str | None, what: str) -> PayloadError:
    """Return the error for a value that can't be saved: it names up to ten that are at fault.

    Args:
        value: The value.
        codecs: The codecs; None where only JSON can be saved.
        stage: The stage that the error is to name.
        what: What ``value`` is to the caller.
    """
    found = find(value, codecs) or [([], ("holds a value that can't be written as JSON", _ANY_REMEDY))]
    paths = tuple(_render(path) for path, _ in found[:MAX_FAULTS])
    if len(found) == 1:
        fault, hint = found[0][1]
        told = f"{paths[0]} {fault}"
    else:
        each = [
            f"{path} {fault} ({remedy[0].lower()}{remedy[1:]})"
            for path, (_, (fault, remedy)) in zip(paths, found, strict=False)
        ]
        told = "; ".join(each) + ("; and there are more" if len(found) > MAX_FAULTS else "")
        hint = "Replace each of these values"
    return PayloadError(f"the {what} can't be saved: {told}", hint=hint, path=paths[0], paths=paths, stage=stage)


def find(value: object, codecs: Codecs | None) -> list[tuple[list[Step], Fault]]:
    """Return the paths of up to eleven values that can't be saved, with what is wrong and what to do."""
    return list(islice(_faults(value, codecs), MAX_FAULTS + 1))


def _faults(value: object, codecs: Codecs | None) -> Iterator[tuple[list[Step], Fault]]:
    """Yield the path of each value that can't be saved, with what is wrong and what to do.

    In the order of the document, and not of what a value at fault contains. Iterative, so that no depth of data meets Python's
    own recursion limit.
    """
    path: list[Step] = []  # one step for each walk; the first leads to the value itself and is left out of the result
    opened: list[object] = []  # what contains the current value
    depths = [0]  # the levels of JSON that each of them takes, with those around it
    walks: list[Iterator[tuple[Step, Any]]] = [iter([(0, value)])]
    while walks:
        step = next(walks[-1], None)
        if step is None:
            walks.pop()
            continue
        key, child = step
        outer = len(walks) - 1
        path[outer:], opened[outer:], depths[outer + 1 :] = [key], (), ()
        if isinstance(key, tuple) and type(key[1]) is str and not is_unicode(key[1]):
            yield path[1:], ("is a key with a lone surrogate, which is not valid Unicode", "Use another key")
            continue
        if any(child is each for each in opened):
            yield path[1:], ("is one of the values that contain it", "Save its name or id instead")
            continue
        here = codecs
        if codecs is not None and any(type(each) in {set, frozenset} for each in opened):
            here = codecs._replace(embedded=None)
        contents, fault = _contents(child, here), _fault(child, here)
        if fault is None and depths[-1] + (_levels(child, here) if contents is None else contents[0]) > MAX_DEPTH:
            fault = f"is nested deeper than {MAX_DEPTH} levels", "Save it flatter"
        if fault is not None:
            yield path[1:], fault
        elif contents is not None:
            levels, inner = contents
            opened.append(child)
            depths.append(depths[-1] + levels)
            walks.append(iter(inner))


def _contents(value: Any, codecs: Codecs | None) -> tuple[int, Iterable[tuple[Step, Any]]] | None:  # noqa: ANN401
    """Return how many levels of JSON a value takes that contains others, and these, each with the step to it."""
    kind = type(value)
    if kind is list:
        return 1, enumerate(value)
    if kind is dict:
        return 3 if _values().needs_form(value) else 1, zip(enumerate(value, 1), value.values(), strict=True)
    if codecs is not None and kind in {tuple, set, frozenset}:
        return 2, enumerate(value)
    if codecs is not None and kind in codecs.by_type:
        return 2, [(None, codecs.by_type[kind].encode(value))]
    return None


def _fault(value: Any, codecs: Codecs | None) -> Fault | None:  # noqa: ANN401
    """Return what is wrong with a value itself or with its keys, not with what it contains."""
    kind = type(value)
    if kind is str:
        return _fault_of_text(value)
    if kind is dict:
        odd = [key for key in value if type(key) is not str]
        return next(filter(None, (_fault_of_key(key, codecs) for key in odd)), None) or _fault_of_hashes(odd)
    if kind is list or (codecs is not None and (kind is tuple or kind in codecs.by_type)):
        return None
    if codecs is None:
        return _fault_of_json(value)
    return _fault_of_hashes(value) if kind in {set, frozenset} else _fault_of_form(value, codecs)


def _fault_of_form(value: Any, codecs: Codecs) -> Fault | None:  # noqa: ANN401
    """Return why a value that contains no other has no form."""
    try:
        form = _values().form_of(value, codecs)
    except UnsavableError as error:
        return error.fault, error.remedy or _remedy(type(value), _REMEDIES_OF_DATA) + _CODEC
    return next(filter(None, map(_fault_of_text, _texts_in(form))), None)


def _fault_of_json(value: Any) -> Fault | None:  # noqa: ANN401
    """Return why a value that is neither text nor a dict is not JSON."""
    kind = type(value)
    if kind not in _JSON:
        return f"is of type {_values().name_of(kind)}", _remedy(kind, _REMEDIES)
    if kind is float and not isfinite(value):
        return "is NaN or infinite, which JSON can't hold", "Save None or a str"
    if kind is int and _values().form_of(value) is not value:
        return "is an integer beyond 64 bits", "Save it as text: str(value)"
    return None


def _fault_of_key(key: object, codecs: Codecs | None) -> Fault | None:
    """Return what is wrong with a dict that has a key that is not text."""
    name = _values().name_of(type(key))
    if codecs is None:
        return f"has a key of type {name}", "Use str keys"
    for path, (what, remedy) in find(key, codecs._replace(embedded=None)):
        where = f", in which {_render(path)} {what}" if path else "" if name in what else f" that {what}"
        return f"has a key of type {name}{where}", remedy
    return None


def _fault_of_hashes(values: Collection[object]) -> Fault | None:
    try:
        _values().refuse_collisions(values)
    except UnsavableError as error:
        return error.fault, error.remedy
    return None


def _fault_of_text(text: str) -> Fault | None:
    if len(text) > MAX_TEXT:
        return f"is a text of more than {MAX_TEXT} characters", "Save it in parts, or save the name of a file that holds it"
    if not is_unicode(text):
        return (
            "is text with a lone surrogate, which is not valid Unicode",
            'Save its bytes: value.encode("utf-8", "surrogatepass")',
        )
    return None


def _texts_in(form: Any) -> list[str]:  # noqa: ANN401  # of a value that contains no other
    inner = form.values() if type(form) is dict else form if type(form) is list else ()
    return [form] if type(form) is str else [text for each in inner for text in _texts_in(each)]


def _levels(value: object, codecs: Codecs | None) -> int:
    """Return how many levels of JSON a value takes that contains no other."""
    return _levels_of(_values().form_of(value) if codecs is None else _values().form_of(value, codecs))


def _levels_of(form: Any) -> int:  # noqa: ANN401
    inner = form.values() if type(form) is dict else form if type(form) is list else None
    return 0 if inner is None else 1 + max(map(_levels_of, inner), default=0)


def _values() -> ModuleType:
    return load("checkpoint_manager._format.values")


def _remedy(kind: type, remedies: dict[str, str]) -> str:
    """Return what to save in place of a value of this type."""
    if hasattr(kind, "__dataclass_fields__"):
        return "Save dataclasses.asdict(value)"
    # By top-level module: the module that really defines a class differs between versions of Python.
    bases = {f"{str(base.__module__).partition('.')[0]}.{base.__qualname__}" for base in kind.__mro__}
    return next((remedy for base, remedy in remedies.items() if base in bases), _ANY_REMEDY)


def _render(path: list[Step]) -> str:
    """Return the path as ``$.model[key 2][3]``, shortened in its middle where it is long."""
    text = "$" + "".join(map(_render_step, path))
    half = _PATH_CHARACTERS // 2
    return text if len(text) <= _PATH_CHARACTERS else f"{text[:half]}…{text[1 - half :]}"


def _render_step(step: Step) -> str:
    if step is None:
        return ""
    if isinstance(step, int):
        return f"[{step}]"
    place, key = step
    if type(key) is not str or not key.isidentifier():
        return f"[key {place}]"
    return f".{key}" if len(key) <= _KEY_CHARACTERS else f".{key[: _KEY_CHARACTERS - 1]}…"
