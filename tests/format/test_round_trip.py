"""The two ways to look at a value say the same, and the quick one falls back where it can't tell."""

from __future__ import annotations

import struct
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager._format import payload
from checkpoint_manager._format import round_trip as fidelity
from tests.strategies import NearMiss, json_values, near_misses

ormsgpack = pytest.importorskip("ormsgpack")


@given(json_values())
def test_what_the_quick_way_is_sure_of_the_other_one_finds_too(value: Any) -> None:
    if fidelity.is_surely_faithful(value):
        assert fidelity.is_faithful(value, orjson.dumps(value))


@given(near_misses())
def test_the_quick_way_is_never_sure_of_what_would_not_come_back(miss: NearMiss) -> None:
    try:
        orjson.dumps(miss.data, option=payload._OPTIONS)
    except orjson.JSONEncodeError:  # refused already: nobody asks
        return
    assert not fidelity.is_surely_faithful(miss.data)


@given(st.floats())
def test_a_float_is_surely_faithful_if_and_only_if_it_is_finite(value: float) -> None:
    assert fidelity.is_surely_faithful(value) == (value - value == 0)


@pytest.mark.parametrize("tail", [b"\xcb\x7f\xf0", b"\xcb\xff\xff"])
def test_a_value_that_looks_like_an_infinity_in_the_quick_way_is_saved_all_the_same(tail: bytes) -> None:
    (value,) = struct.unpack(">d", b"\x3f" + tail + bytes(4))
    assert not fidelity.is_surely_faithful(value)
    assert payload.decode(payload.encode([value, None])) == [value, None]


def test_without_the_extra_the_value_is_looked_at_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ormsgpack", None)
    fidelity._pack.cache_clear()
    try:
        assert not fidelity.is_surely_faithful(1)
        assert payload.encode([1]) == b"[1]"
    finally:
        fidelity._pack.cache_clear()
