"""Our ``NamedTuple`` beside that of :mod:`typing`."""

from __future__ import annotations

import inspect
import pickle
import typing

import pytest

from checkpoint_manager import _named_tuple


class Theirs(typing.NamedTuple):
    """A pair."""

    first: int
    second: str = "none"

    @property
    def both(self) -> str:
        return f"{self.first} {self.second}"

    @classmethod
    def of(cls, text: str) -> typing.Self:
        return cls(*text.split())

    def __str__(self) -> str:
        return "text"


class Ours(_named_tuple.NamedTuple):
    """A pair."""

    first: int
    second: str = "none"

    @property
    def both(self) -> str:
        return f"{self.first} {self.second}"

    @classmethod
    def of(cls, text: str) -> typing.Self:
        return cls(*text.split())

    def __str__(self) -> str:
        return "text"


def test_it_makes_the_same_class() -> None:
    assert Ours.__mro__[1:] == Theirs.__mro__[1:] == (tuple, object)
    for attribute in ("_fields", "_field_defaults", "__slots__", "__match_args__", "__doc__", "__module__"):
        assert getattr(Ours, attribute) == getattr(Theirs, attribute), attribute
    assert typing.get_type_hints(Ours) == typing.get_type_hints(Theirs)
    assert set(vars(Theirs)) - set(vars(Ours)) <= {"__orig_bases__"}


def test_without_a_docstring_it_shows_its_fields() -> None:
    class Bare(_named_tuple.NamedTuple):
        first: int
        second: int = 2

    assert Bare.__doc__ == "Bare(first, second)"
    assert str(inspect.signature(Bare)) == "(first, second=2)"


def test_its_values_are_the_same() -> None:
    ours, theirs = Ours(1), Theirs(1)
    assert ours == theirs == (1, "none")
    assert (
        (str(ours), repr(ours))
        == (str(theirs), repr(theirs).replace("Theirs", "Ours"))
        == ("text", "Ours(first=1, second='none')")
    )
    assert ours._replace(second="b").both == "1 b"
    assert Ours.of("1 2") == Theirs.of("1 2")
    again = pickle.loads(pickle.dumps(ours))
    assert (type(again), again) == (Ours, ours)
    for kind in (Ours, Theirs):
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'first'"):
            kind()  # type: ignore[call-arg]
        with pytest.raises((TypeError, ValueError), match="third"):  # as the version of Python has it
            kind(1)._replace(third=3)
        with pytest.raises(AttributeError, match="can't set attribute"):
            kind(1).first = 2  # type: ignore[misc]
