"""JSON pointers: the examples of RFC 6901, and what leads nowhere."""

from __future__ import annotations

from typing import Any

import click
import pytest
from hypothesis import given

from checkpoint_manager import CheckpointNotFoundError
from checkpoint_manager.cli.pointer import value_at
from checkpoint_manager.testing.strategies import json_values

RFC = {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, 'k"l': 6, " ": 7, "m~n": 8, "~1": 9}


@pytest.mark.parametrize(
    ("pointer", "value"),
    [
        ("", RFC),
        ("/foo", ["bar", "baz"]),
        ("/foo/0", "bar"),
        ("/", 0),
        ("/a~1b", 1),
        ("/c%d", 2),
        ("/e^f", 3),
        ("/g|h", 4),
        ("/i\\j", 5),
        ('/k"l', 6),
        ("/ ", 7),
        ("/m~0n", 8),
        ("/~01", 9),
    ],
)
def test_the_examples_of_the_rfc(pointer: str, value: object) -> None:
    assert value_at(RFC, pointer, "it") == value


@pytest.mark.parametrize("pointer", ["foo", "/foo/~", "/~2", "foo/0", "$.foo"])
def test_what_is_no_pointer(pointer: str) -> None:
    with pytest.raises(click.UsageError, match="is not a JSON pointer"):
        value_at(RFC, pointer, "it")


@pytest.mark.parametrize(
    ("pointer", "message"),
    [
        ("/bar", "at its top is an object of 11 keys, without bar"),
        ("/foo/2", "at /foo is a list of 2 elements, counted from 0, the last of them 1"),
        ("/foo/-", "at /foo is a list"),
        ("/foo/-1", "at /foo is a list"),
        ("/foo/01", "at /foo is a list"),
        ("/foo/\u0661", "at /foo is a list"),
        ("/foo/9999999999999999999999", "at /foo is a list"),
        ("/foo/0/x", "at /foo/0 is a single value"),
        ("/a~1b/x", "at /a~1b is a single value"),
    ],
)
def test_what_leads_nowhere_says_how_far_it_led(pointer: str, message: str) -> None:
    with pytest.raises(CheckpointNotFoundError) as caught:
        value_at(RFC, pointer, "train@3")
    assert f"train@3 has nothing at {pointer}: {message}" in str(caught.value)


def pointers_into(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [(prefix, value)]
    for key, inner in inside:
        found += pointers_into(inner, f"{prefix}/{str(key).replace('~', '~0').replace('/', '~1')}")
    return found


@given(json_values())
def test_every_value_can_be_pointed_at(data: Any) -> None:
    for pointer, value in pointers_into(data):
        assert value_at(data, pointer, "it") is value
