"""JSON as the command line writes it: one valid document, and nothing in it acts on a terminal."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager import CheckpointError
from checkpoint_manager.cli.json_text import encode
from checkpoint_manager.testing.strategies import json_values


@given(json_values())
def test_it_is_the_value_and_shows_nothing_that_acts(value: Any) -> None:
    for indented in (False, True):
        text = encode(value, indented=indented)
        assert json.loads(text) == value
        assert orjson.loads(text) == value
        assert text.decode().replace("\n", "").isprintable() or not any(
            "\x00" <= each < " " or "\x7f" <= each <= "\x9f" for each in text.decode().replace("\n", "")
        )


@given(st.text(st.characters()))
def test_text_of_any_kind_is_valid_unicode(text: str) -> None:
    """Also what is half a surrogate pair, as in names of files that are not UTF-8."""
    encoded = encode({text: text})
    ((name, value),) = orjson.loads(encoded).items()
    assert name == value == text.encode(errors="backslashreplace").decode()


@pytest.mark.parametrize("character", ["\x9b", "\x7f", "\u202e", "\u2028", "\u200b", "\ufeff", "\U000e0041"])
def test_what_a_terminal_acts_on_is_escaped(character: str) -> None:
    text = encode([f"a{character}b"]).decode()
    assert character not in text
    assert json.loads(text) == [f"a{character}b"]


def test_what_json_has_no_word_for() -> None:
    odd = {"big": 2**70, "nan": math.nan, "at": datetime(2026, 1, 1, tzinfo=UTC), "text": "\udcff", "one": (1,), 5: {1}}
    assert json.loads(encode(odd)) == {
        "big": 2**70,
        "nan": None,
        "at": "2026-01-01T00:00:00+00:00",
        "text": r"\udcff",
        "one": [1],
        "5": "{1}",
    }


def test_what_is_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="nested too deeply"):
        encode(deep)
    while deep:  # else its end would recurse as deeply
        deep = deep.pop()
