"""What a function is called with: told apart where anything could tell it apart, or refused by name."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import functools
import subprocess
import sys
import uuid
import zoneinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from types import SimpleNamespace
from typing import Any, Generic, NamedTuple, TypeVar

import pytest

from checkpoint_manager import FingerprintError
from checkpoint_manager.stages.fingerprint import fingerprints

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


class Point(NamedTuple):
    x: int


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
    with pytest.raises(FingerprintError, match="argument self is or contains a object"):
        found([object()].index, 1)


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
        (Point(1), "Point"),
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
        with pytest.raises(FingerprintError, match=f"argument value is or contains a (local.<locals>.)?{named}"):
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
