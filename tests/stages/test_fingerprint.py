"""What a function is called with: told apart where anything could tell it apart, or refused by name."""

from __future__ import annotations

import copy
import dataclasses
import datetime as dt
import enum
import functools
import importlib.resources
import inspect
import os
import struct
import subprocess
import sys
import uuid
import zoneinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any, Generic, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager import FingerprintError
from checkpoint_manager.stages.fingerprint import check_names, fingerprints

T = TypeVar("T")


class Color(enum.Enum):
    RED = 1
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Options:
    depth: int
    names: list[str]


@dataclasses.dataclass
class Others:
    depth: int
    names: list[str]


class Slotted:
    __slots__ = ("__private", "extra")


@dataclasses.dataclass(slots=True)
class Small(Slotted, Generic[T]):
    depth: T


@dataclasses.dataclass
class Rows(list[int]):
    name: str = ""


class Text(str):
    __slots__ = ()


class Zone(dt.tzinfo):
    def __repr__(self) -> str:
        return "Zone()"


def digest(value: object) -> str:
    return fingerprints(lambda value: value, (value,), {}, key=None, ignore=())["value"]


def local(answer: int) -> Any:
    @dataclasses.dataclass
    class Options:
        depth: int = 1

        def __call__(self) -> int:
            return answer

    return Options()


def small(**attributes: Any) -> Small[int]:
    made = Small(1)
    for name, value in attributes.items():
        setattr(made, name, value)
    return made


def options(**attributes: Any) -> Options:
    made = Options(1, [])
    made.__dict__.update(attributes)
    return made


BERLIN, ROME = zoneinfo.ZoneInfo("Europe/Berlin"), zoneinfo.ZoneInfo("Europe/Rome")
NEW_YEAR = dt.datetime(2026, 1, 1)  # noqa: DTZ001


def test_values_are_told_apart() -> None:
    values: list[Any] = [
        *(None, 0, 1, -1, True, False, 0.0, -0.0, 1.0, 2**70, 1j, -1j, complex(-0.0, 1), float("inf"), float("nan")),
        *("", "1", "\ud800", b"", b"1", bytearray(b"1"), [], (), {}, set(), frozenset(), range(3), range(4)),
        *([1], (1,), {1}, {True}, {1.0}, {0.0}, {-0.0}, frozenset({1}), [[1]], [1, 1], ["ab", "c"], ["a", "bc"]),
        *({"a": 1}, {"a": [1]}, {1: "a"}, {True: "a"}, {1.0: "a"}, {"a": 1, "b": 2}, {"b": 2, "a": 1}, [("a", 1)]),
        *(dt.date(2026, 1, 1), NEW_YEAR, NEW_YEAR.replace(fold=1), dt.time(1), dt.time(1, tzinfo=dt.UTC), dt.timedelta(1)),
        *(NEW_YEAR.replace(tzinfo=zone) for zone in (dt.UTC, BERLIN, ROME, dt.timezone(dt.timedelta(hours=1)))),
        *(NEW_YEAR.replace(tzinfo=dt.timezone(dt.timedelta(hours=1), name)) for name in ("CET", "BST")),
        *(Decimal(1), Decimal("1.0"), Decimal("-0"), Decimal(0), Decimal("NaN"), Decimal("sNaN"), uuid.UUID(int=1)),
        *(Path("a"), Path("b"), PurePosixPath("a"), PureWindowsPath("a")),
        *(Color.RED, Color.BLUE, Level.LOW, *(Rights(number) for number in range(4))),
        *(Options(1, []), Options(1, ["a"]), Options(2, []), Others(1, []), options(extra=1), options(extra=2)),
        *(small(), small(extra=1), small(_Slotted__private=1), Small(1.0)),
    ]
    digests: dict[str, Any] = {}
    for value in values:
        other = digests.setdefault(digest(value), value)
        assert other is value, (other, value)


def bits(number: int) -> float:
    return float(struct.unpack(">d", number.to_bytes(8, "big"))[0])


class Sneaky(int):
    """An integer that claims to be 0."""

    def __repr__(self) -> str:
        return "0"


class SneakyText(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "'A'"


def test_values_whose_repr_does_not_tell_all_are_told_apart() -> None:
    nans = [float("nan"), -float("nan"), *(bits(0x7FF8000000000001 + number) for number in range(3)), bits(0x7FF0000000000001)]
    text = "12345678-1234-1234-1234-123456789abc"
    ids = [uuid.UUID(text), *(uuid.UUID(text, is_safe=safe) for safe in (uuid.SafeUUID.safe, uuid.SafeUUID.unsafe))]
    complexes = [complex(nan, part) for nan in nans for part in (0.0, -0.0)] + [complex(0.0, nan) for nan in nans]
    values = [*nans, *complexes, *ids, [nans[0]], [nans[1]], *([nan] * 300 for nan in nans)]
    assert len({digest(value) for value in values}) == len(values)


def test_what_may_lie_in_its_repr_is_refused() -> None:
    with open("/usr/share/zoneinfo/Asia/Tokyo", "rb") if os.path.exists("/usr/share/zoneinfo/Asia/Tokyo") else zone() as file:
        lying = zoneinfo.ZoneInfo.from_file(file, key="Europe/Berlin")
    values = [
        NEW_YEAR.replace(tzinfo=lying),
        dt.time(1, tzinfo=dt.timezone(dt.timedelta(hours=1), SneakyText("B"))),
        Hiding(1),
    ]
    for value in values:
        with pytest.raises(FingerprintError):
            digest(value)
    assert digest(range(Sneaky(5), 10)) == digest(range(5, 10)) != digest(range(10))


def zone() -> Any:
    return importlib.resources.files("tzdata").joinpath("zoneinfo", "Asia", "Tokyo").open("rb")


@dataclasses.dataclass
class Hiding:
    """A dataclass that shows another value than it holds."""

    depth: int

    def __getattribute__(self, name: str) -> Any:
        return 0 if name == "depth" else super().__getattribute__(name)


def test_values_that_python_refuses_to_write_down_have_a_digest() -> None:
    values = [
        10**5000,
        -(10**5000),
        10**5000 + 1,
        Path("\udcff"),
        Path("\udcfe"),
        range(10**5000),
        [10**5000] * 300,
        ["\udcff"] * 300,
    ]
    assert len({digest(value) for value in values}) == len(values)


def test_long_lists_are_told_apart_like_short_ones() -> None:
    lists: list[Any] = []
    for kind in ([0.5], [1.0], [1], ["1"], ["é"], [True], [None], [b"1"], [2**70], [1j]):
        for length in (255, 256, 257):
            lists += [kind * length, tuple(kind * length)]
    for kind in ([0.5], [1], ["1"]):
        lists += [kind * 65_536, kind * 65_537]
    lists += [[*[1] * 300, 1.0], [1.0, *[1] * 300], ["a", "b"] * 300, ["ab", ""] * 300, ["a", "bc"] * 300, ["ab", "c"] * 300]
    lists += [[1, 2.0] * 200, [2.0, 1] * 200, [1, None] * 200, [None, 1] * 200, ["", None] * 200, [True, False] * 200]
    lists += [[False, True] * 200, [True, 1] * 200, [1, True] * 200, ["1", 1, 1.0, None, True] * 60, [b"1", 1] * 200]
    lists += [[[1.0] * 300, [1.0]], [[1.0] * 299, [1.0] * 2], [*[0.0] * 299, -0.0], [*[-0.0] * 299, 0.0], [0.0] * 300]
    assert len({digest(each) for each in lists}) == len(lists)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=4),
    st.binary(max_size=4),
    st.sampled_from([Color.RED, Level.LOW, Decimal("1.0"), Decimal(1), Path("a"), PurePosixPath("a"), NEW_YEAR, 1j, range(1)]),
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(st.text(max_size=2), inner, max_size=3),
        st.builds(Options, inner, inner),
        st.lists(st.one_of(st.floats(), st.integers(0, 1), st.sampled_from(["", "a", None, True])), min_size=1, max_size=3).map(
            lambda few: few * 128
        ),
    ),
    max_leaves=8,
)


def as_seen(value: Any) -> Any:
    """Return what tells a value apart from all others, written independently: types, bits and order."""
    if isinstance(value, list | tuple):
        return (type(value).__name__, *map(as_seen, value))
    if isinstance(value, dict):
        return ("dict", *((as_seen(key), as_seen(each)) for key, each in value.items()))
    if dataclasses.is_dataclass(value):
        return (type(value).__name__, *map(as_seen, vars(value).values()))
    return (type(value).__name__, value.hex() if isinstance(value, float) and value == value else repr(value))  # noqa: PLR0124


@given(VALUES, VALUES)
def test_two_values_have_one_digest_only_if_they_look_the_same(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) <= (as_seen(one) == as_seen(other))
    assert digest(one) == digest(copy.deepcopy(one))


def test_digests_are_those_of_before() -> None:
    """What a loop saved before this version is still the progress of the same items."""
    assert digest([1, 2.5, "é", None, True, {"a": (1, b"x")}, {3}, range(3)]) == "34bccac6cbf82c9ad4fe1ca349831cbd"
    assert digest(["a", "b"]) == "fa81b2ec509e8adf566235a009f31071"


def test_equal_arguments_are_equal_however_they_were_made() -> None:
    assert digest({"x", "y", "z"}) == digest({"z", "y", "x"})
    assert digest(Options(1, ["a"])) == digest(Options(1, ["a"]))
    assert digest(float("nan")) == digest(float("nan"))
    assert digest(Small(1)) == digest(Small(1))


def test_the_digest_is_the_same_in_another_process() -> None:
    program = """
from checkpoint_manager.stages.fingerprint import fingerprints
print(fingerprints(lambda v: v, ({"a", "b", "c", "d", ("e", 1.5)},), {}, key=None, ignore=())["v"])
"""
    found = {subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout for _ in range(3)}
    assert found == {digest({"d", "c", "b", ("e", 1.5), "a"}).encode() + b"\n"}


def test_a_default_that_changed_and_an_argument_that_is_new_count() -> None:
    def found(function: Any) -> dict[str, str]:
        return fingerprints(function, (1,), {}, key=None, ignore=())

    def old(a: int, limit: int = 10) -> None: ...
    def changed(a: int, limit: int = 11) -> None: ...
    def new(a: int, limit: int = 10, more: None = None) -> None: ...
    def collecting(a: int, *rest: int, **named: int) -> None: ...

    assert found(old) != found(changed)
    assert found(old) != found(new)
    assert set(found(collecting)) == {"a", "rest", "named"}


def add(a: int, b: int = 0) -> int:
    return a + b


@dataclasses.dataclass(frozen=True)
class Adder:
    a: int

    def to(self, b: int) -> int:
        return self.a + b

    @classmethod
    def made(cls, b: int) -> int:
        return b

    def __call__(self, b: int) -> int:
        return self.a + b


def test_what_a_callable_holds_is_an_argument_too() -> None:
    def found(function: Any, *args: Any, ignore: Any = ()) -> dict[str, str]:
        return fingerprints(function, args, {}, key=None, ignore=ignore)

    assert found(functools.partial(add, 1), 5) == found(functools.partial(add, b=5), 1) == found(add, 1, 5)
    assert found(functools.partial(functools.partial(add, 1), b=2)) != found(functools.partial(add, 1), 3)
    assert found(Adder(1).to, 5) == found(Adder(1).to, 5) != found(Adder(2).to, 5)
    assert found(Adder(1), 5) == found(Adder(1), 5) != found(Adder(2), 5)
    assert set(found(Adder(1), 5)) == {"self", "b"}
    assert found(functools.lru_cache(add), 1, 5) == found(add, 1, 5)
    assert found(pow, 2, 3) != found(pow, 3, 2)
    assert found(Adder(1), 5, ignore=["self"]) == found(Adder(2).to, 5, ignore=["self"])
    with pytest.raises(FingerprintError, match="argument self is or contains an object of type object"):
        found([object()].index, 1)


def decorated(function: Any) -> Any:
    """A decorator that passes an argument of its own."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function("connection", *args, **kwargs)

    return wrapper


def fetch(connection: str, number: int = 1, *, limit: int = 5) -> int:
    return number + limit


def found_for(function: Any, *args: Any, ignore: Any = (), **kwargs: Any) -> dict[str, str]:
    check_names(function, ignore)
    return fingerprints(function, args, kwargs, key=None, ignore=ignore)


def test_arguments_that_do_not_fit_are_told_with_the_function() -> None:
    with pytest.raises(TypeError, match=r"fetch\(\): missing a required argument"):
        found_for(fetch)


def test_a_decorator_that_adds_an_argument_is_called_as_it_is() -> None:
    plain = decorated(fetch)
    assert found_for(plain, 3) == found_for(plain, 3) != found_for(plain, 4)
    assert found_for(plain, 3, ignore=["connection"]) != found_for(plain, 4, ignore=["connection"])
    assert found_for(plain, number=3, ignore=["number"]) == found_for(plain, number=4, ignore=["number"])
    assert found_for(plain, 3, limit=1) != found_for(plain, 3, limit=2)
    with pytest.raises(TypeError, match="nmber"):
        found_for(plain, 3, ignore=["nmber"])


def test_a_signature_that_lies_changes_nothing() -> None:
    def lying(*args: int) -> int:
        return sum(args)

    lying.__signature__ = inspect.signature(add)  # type: ignore[attr-defined]
    lying.__wrapped__ = add  # type: ignore[attr-defined]
    assert found_for(lying, 1, 2, 3) != found_for(lying, 1, 2, 4)


def test_defaults_below_a_decorator_count() -> None:
    def old(connection: str, number: int = 1) -> None: ...
    def new(connection: str, number: int = 2) -> None: ...

    new.__code__ = new.__code__.replace(co_qualname=old.__code__.co_qualname)
    assert found_for(decorated(old), 3) != found_for(decorated(new), 3)
    assert found_for(decorated(old), 3, ignore=["number"]) == found_for(decorated(new), 3, ignore=["number"])


def test_names_are_ignored_in_collected_keywords() -> None:
    def collecting(a: int, **options: int) -> None: ...

    assert found_for(collecting, 1, quiet=1, ignore=["quiet"]) == found_for(collecting, 1, ignore=["quiet"])
    assert found_for(collecting, 1, quiet=1, loud=1, ignore=["quiet"]) != found_for(collecting, 1, ignore=["quiet"])
    assert found_for(collecting, 1, options=1) != found_for(collecting, 1, options={"options": 1})  # type: ignore[arg-type]


def test_positional_and_collected_arguments_do_not_meet() -> None:
    def collecting(a: int, *rest: Any, **named: Any) -> None: ...

    calls = [((1, 2, 3), {}), ((1, (2, 3)), {}), ((1, 2), {"b": 3}), ((1,), {"rest": (2, 3)}), ((1,), {"named": {"b": 3}})]
    digests = {tuple(sorted(found_for(collecting, *args, **kwargs).items())) for args, kwargs in calls}  # type: ignore[arg-type]
    assert len(digests) == len(calls)


@pytest.mark.skipif(not hasattr(functools, "Placeholder"), reason="since Python 3.14")
def test_placeholders_of_a_partial_are_filled() -> None:
    placeholder = functools.Placeholder  # type: ignore[attr-defined]
    assert found_for(functools.partial(add, placeholder, 2), 1) == found_for(add, 1, 2)


def test_class_methods_and_static_methods() -> None:
    assert found_for(Adder.made, 1) == found_for(Adder.made, 1) != found_for(Adder.made, 2)
    assert set(found_for(Adder.made, 1)) == {"cls", "b"}
    assert set(found_for(staticmethod(add), 1)) == {"a", "b"}
    assert found_for(functools.lru_cache(Adder(1).to), 1) != found_for(functools.lru_cache(Adder(2).to), 1)
    assert found_for(max, 1, 2) != found_for(max, 2, 1)  # in C, and without a signature


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"),
        (len, "builtin_function_or_method"),
        (digest, "function"),
        (functools.partial(digest), "partial"),
        (Options, "type"),
        (iter([1]), "list_iterator"),
        ({}.items(), "dict_items"),
        (memoryview(b"a"), "memoryview"),
        (SimpleNamespace(a=1), "SimpleNamespace"),
        (Text("a"), "Text"),
        (Rows(), "Rows, which is a built-in type with fields"),
        (local(1), "Options, a class that its module and name don't lead to"),
        (enum.Enum("Made", ["A"], module=__name__).A, "Made, a class that"),  # type: ignore[attr-defined]
        (NEW_YEAR.replace(tzinfo=Zone()), "datetime"),
        (dt.time(1, tzinfo=Zone()), "time"),
        (Options(1, [digest]), "function"),  # type: ignore[list-item]
        (options(extra=object()), "object"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_what_has_no_certain_digest_is_refused_by_name(value: object, named: str) -> None:
    for held in (value, [value], {"a": (value,)}):
        with pytest.raises(
            FingerprintError, match=f"argument value is or contains an object of type (local.<locals>.)?{named}"
        ):
            digest(held)


def test_two_classes_of_one_name_are_not_taken_for_each_other() -> None:
    for made in (local(1), local(2)):
        with pytest.raises(FingerprintError, match="Options"):
            digest(made)


def test_what_has_no_end_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(FingerprintError, match="contains itself"):
        digest(loop)
    with pytest.raises(FingerprintError, match="contains itself"):
        digest([(loop, loop)] * 50)


def test_what_is_nested_too_deeply_is_refused() -> None:
    for levels in (150, 5000):
        nested: Any = 1
        for _ in range(levels):
            nested = [nested]
        with pytest.raises(FingerprintError, match="too deep"):
            digest(nested)
