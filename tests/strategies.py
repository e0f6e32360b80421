"""What the property tests draw, besides what the library ships for them in :mod:`checkpoint_manager.testing.strategies`.

* :func:`near_misses`: data with one value in it, at a random place, that can't be saved; and the path to it.
* :func:`same`: whether what came back is what was drawn.
* :func:`programs`: what several processes do in one directory at once, and which of them are killed or stopped meanwhile.
* :func:`fast_path_programs`: what two users and an attacker do to a store, one after another.
"""

from __future__ import annotations

import datetime as dt
import pickle
import struct
import uuid
from collections import Counter, OrderedDict, namedtuple
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, get_args

import orjson
from hypothesis import strategies as st

from checkpoint_manager.testing.strategies import json_values
from tests.concurrency.program import STAGES, Op, Program, Signal, Writer
from tests.fast_paths import program as fast_paths

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = "hunter2-5ecret"
"""Part of every value at fault that can hold text: it must not turn up in an error."""
SECRET_NUMBER = 0x5EC2E7
"""The same for values that can hold a number only."""


@dataclass(frozen=True)
class NearMiss:
    """Data that must be refused.

    Attributes:
        data: What to save.
        path: The path that the error must name.
        culprit: The value at fault: what must not be told.
    """

    data: Any
    path: str
    culprit: Any


class _Color(Enum):
    RED = SECRET


class _Level(IntEnum):
    HIGH = SECRET_NUMBER


class _Mode(StrEnum):
    FAST = SECRET


class _TextMode(str, Enum):  # noqa: UP042 - the older spelling is what this tests
    FAST = SECRET


class _Text(str):
    __slots__ = ()


class _Number(int):
    pass


class _Real(float):
    pass


class _Items(list):  # type: ignore[type-arg]
    pass


class _Object:
    def __repr__(self) -> str:
        return SECRET


@dataclass
class _Record:
    password: str = SECRET


_Pair = namedtuple("_Pair", ["user", "password"])  # noqa: PYI024 - the plain kind
_MOMENT = dt.datetime(1987, 6, 5, 4, 3, 2, tzinfo=dt.UTC)

NOT_JSON: dict[str, Callable[[], Any]] = {
    "nan": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "minus infinity": lambda: float("-inf"),
    "integer above 64 bits": lambda: 2**64,
    "integer below 64 bits": lambda: -(2**63) - 1,
    "huge integer": lambda: 10**4000,
    "lone high surrogate": lambda: SECRET + "\ud83d",
    "lone low surrogate": lambda: "\ude00" + SECRET,
    "empty tuple": tuple,
    "tuple": lambda: (SECRET, SECRET_NUMBER),
    "set": lambda: {SECRET},
    "frozenset": lambda: frozenset({SECRET}),
    "bytes": SECRET.encode,
    "bytearray": lambda: bytearray(SECRET.encode()),
    "memoryview": lambda: memoryview(SECRET.encode()),
    "datetime": lambda: _MOMENT,
    "naive datetime": lambda: _MOMENT.replace(tzinfo=None),
    "date": _MOMENT.date,
    "time": _MOMENT.time,
    "timedelta": lambda: dt.timedelta(seconds=SECRET_NUMBER),
    "decimal": lambda: Decimal(SECRET_NUMBER),
    "uuid": lambda: uuid.UUID(int=SECRET_NUMBER),
    "complex": lambda: complex(SECRET_NUMBER, 1),
    "enum": lambda: _Color.RED,
    "int enum": lambda: _Level.HIGH,
    "str enum": lambda: _Mode.FAST,
    "str mixed into an enum": lambda: _TextMode.FAST,
    "dataclass": _Record,
    "namedtuple": lambda: _Pair("root", SECRET),
    "fragment": lambda: orjson.Fragment(f'"{SECRET}"'),
    "fragment that is not JSON": lambda: orjson.Fragment(f"[{SECRET}".encode()),
    "str subclass": lambda: _Text(SECRET),
    "int subclass": lambda: _Number(SECRET_NUMBER),
    "float subclass": lambda: _Real(SECRET_NUMBER),
    "list subclass": lambda: _Items([SECRET]),
    "ordered dict": lambda: OrderedDict(a=SECRET),
    "counter": lambda: Counter([SECRET]),
    "object": _Object,
    "class": lambda: _Object,
    "function": lambda: lambda: SECRET,
    "generator": lambda: (letter for letter in SECRET),
    "ellipsis": lambda: ...,
}
"""A maker for each kind of value that JSON does not have."""

_SAVED = {
    "nan", "infinity", "minus infinity", "integer above 64 bits", "integer below 64 bits", "huge integer", "empty tuple",
    "tuple", "set", "frozenset", "bytes", "datetime", "naive datetime", "date", "time", "timedelta", "decimal", "uuid",
    "complex",
}  # fmt: skip
NOT_SAVED = {kind: make for kind, make in NOT_JSON.items() if kind not in _SAVED}
"""A maker for each kind of value that can't be saved."""

NOT_A_KEY: dict[str, Callable[[], Any]] = {
    "int": lambda: SECRET_NUMBER,
    "bool": lambda: True,
    "none": lambda: None,
    "float": lambda: 0.5,
    "nan": lambda: float("nan"),
    "bytes": SECRET.encode,
    "tuple": lambda: (SECRET, 1),
    "date": _MOMENT.date,
    "uuid": lambda: uuid.UUID(int=SECRET_NUMBER),
    "str subclass": lambda: _Text(SECRET),
    "str enum": lambda: _Mode.FAST,
    "int enum": lambda: _Level.HIGH,
}
"""A maker for each kind of key that JSON does not have."""

NOT_A_SAVED_KEY = {kind: NOT_A_KEY[kind] for kind in ("str subclass", "str enum", "int enum")}
"""A maker for each kind of key that makes its dict the value at fault."""

_SURROGATE_KEYS = st.sampled_from(["\ud800", "a\udfff", "\udc00 b"])
_HOST_KEYS = st.sampled_from(["a", "b", "_x1", "größe", "class", "", "odd key", "3", 'q"', "\n"]) | st.text(max_size=3)
_SIBLINGS = json_values(max_leaves=4)


@st.composite
def near_misses(draw: st.DrawFn, *, of_json: bool = False) -> NearMiss:
    """Draw JSON with one thing in it, at any place, that can't be saved, or that JSON does not have."""
    values, keys = (NOT_JSON, NOT_A_KEY) if of_json else (NOT_SAVED, NOT_A_SAVED_KEY)
    kind = draw(st.sampled_from(["value", "value", "value", "key", "surrogate key"]))
    path: list[str] = []
    if kind == "value":
        data = culprit = values[draw(st.sampled_from(sorted(values)))]()
    elif kind == "key":
        culprit = keys[draw(st.sampled_from(sorted(keys)))]()
        data = _dict_around(draw, culprit, draw(_SIBLINGS))
    else:
        key, culprit = draw(_SURROGATE_KEYS), SECRET
        data = _dict_around(draw, key, culprit)
        path.append(_step_to(key, data))
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            before = draw(st.lists(_SIBLINGS, max_size=3))
            data = [*before, data, *draw(st.lists(_SIBLINGS, max_size=3))]
            path.append(f"[{len(before)}]")
        else:
            key = draw(_HOST_KEYS)
            data = _dict_around(draw, key, data)
            path.append(_step_to(key, data))
    return NearMiss(data, "$" + "".join(reversed(path)), culprit)


def _step_to(key: str, around: dict[Any, Any]) -> str:
    """Return the step of a path from a dict to the value of a key."""
    return f".{key}" if key.isidentifier() else f"[key {list(around).index(key) + 1}]"


def _dict_around(draw: st.DrawFn, key: Any, value: Any) -> dict[Any, Any]:
    siblings = list(draw(st.dictionaries(_HOST_KEYS.filter(lambda other: other != key), _SIBLINGS, max_size=3)).items())
    place = draw(st.integers(0, len(siblings)))
    return dict([*siblings[:place], (key, value), *siblings[place:]])


def same(left: Any, right: Any) -> bool:
    """Return whether two values are of equal types and nothing tells them apart but their identity, whatever ``==`` says."""
    kind = type(left)
    if kind is not type(right):
        return False
    if kind is dict:
        return same(list(left.items()), list(right.items()))
    if kind in {list, tuple}:
        return len(left) == len(right) and all(map(same, left, right))
    if kind in {set, frozenset}:
        others = list(right)
        for each in left:
            found = next((place for place, other in enumerate(others) if same(each, other)), None)
            if found is None:
                return False
            others.pop(found)
        return not others
    if kind is float:
        return struct.pack("d", left) == struct.pack("d", right)
    if kind is complex:
        return same(left.real, right.real) and same(left.imag, right.imag)
    if kind in {dt.datetime, dt.time}:
        bare = [each.replace(tzinfo=None) for each in (left, right)]
        return bare[0] == bare[1] and left.fold == right.fold and pickle.dumps(left.tzinfo) == pickle.dumps(right.tzinfo)
    if kind is Decimal:
        return bool(left.as_tuple() == right.as_tuple())
    if kind is uuid.UUID:
        return bool(left == right and left.is_safe is right.is_safe)
    if kind.__module__ == "numpy":
        return bool(left.dtype == right.dtype and left.shape == right.shape and left.tobytes() == right.tobytes())
    if kind.__qualname__ == "DataFrame":
        return (
            bool(left.equals(right)) and list(left.dtypes) == list(right.dtypes) and list(left.columns) == list(right.columns)
        )
    if kind.__module__ == "torch":
        return left.dtype == right.dtype and left.shape == right.shape and left.tolist() == right.tolist()
    return bool(left == right)


_LENGTHS = st.sampled_from([0, 1, 100, 20_000, 300_000])
_VERSIONS = st.integers(1, 8)
_OPS = st.one_of(
    st.builds(Op, st.just("save"), st.sampled_from(STAGES), _LENGTHS),
    st.builds(Op, st.just("update"), st.sampled_from(STAGES), _LENGTHS),
    st.builds(Op, st.just("expect"), st.sampled_from(STAGES), st.integers(0, 8)),
    st.builds(Op, st.sampled_from(["get", "has", "history", "clear"]), st.sampled_from(STAGES)),
    st.builds(Op, st.sampled_from(["load", "restore", "delete"]), st.sampled_from(STAGES), _VERSIONS),
    st.builds(Op, st.sampled_from(["save", "update", "get"]), st.just(STAGES[0])),  # most of it on one stage
    st.builds(Op, st.sampled_from(["clear all", "rotate"])),
)


@st.composite
def programs(draw: st.DrawFn) -> Program:
    """Draw 2 to 6 writers with up to 3 threads each, and up to 4 signals to them."""
    threads = st.lists(st.lists(_OPS, min_size=1, max_size=8).map(tuple), min_size=1, max_size=3).map(tuple)
    start = st.sampled_from(["fork", "fork", "fork", "spawn"])
    writers = draw(st.lists(st.builds(Writer, start, threads, st.booleans()), min_size=2, max_size=6))
    signals = st.builds(
        Signal,
        st.integers(0, len(writers) - 1),
        st.sampled_from(["kill", "kill", "stop"]),
        st.integers(1, 12),
        st.floats(0, 0.003),
    )
    return Program(tuple(writers), tuple(draw(st.lists(signals, max_size=4))), draw(st.booleans()))


_CALLS = st.sampled_from([*get_args(fast_paths.Call), *["save"] * 12, *["load", "has", "reopen"] * 3])
_ATTACKS = st.sampled_from([*get_args(fast_paths.Attack), *["keep"] * 4])


def fast_path_programs() -> st.SearchStrategy[fast_paths.Program]:
    """Draw what is done to one store by two users and an attacker, mostly to one stage by one manager."""
    call, attack = (
        st.builds(
            fast_paths.Op, kinds, st.sampled_from([0, 0, 0, 1]), st.sampled_from([0, 0, 0, 0, 1, 2, 3]), st.integers(0, 5)
        )
        for kinds in (_CALLS, _ATTACKS)
    )
    scene = st.tuples(call) | st.tuples(call, call) | st.tuples(attack, call) | st.tuples(call, attack, call, call)
    return st.builds(
        fast_paths.Program,
        st.lists(scene, max_size=12).map(lambda scenes: tuple(op for scene in scenes for op in scene)),
        st.sampled_from(["alike", "relaxed", "pruning"]),
        st.sampled_from(["raise", "raise", "warn"]),
    )
