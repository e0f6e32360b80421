"""The two ways to check a value agree, and the compiled one falls back where it can't tell."""

from __future__ import annotations

import math
import struct
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager._format import payload
from checkpoint_manager.testing.strategies import json_values
from tests.strategies import NearMiss, near_misses

ormsgpack = pytest.importorskip("ormsgpack")


@given(json_values())
def test_both_ways_write_what_reads_back(value: Any) -> None:
    encoded = orjson.dumps(value)
    assert payload._scan(value) is not None
    assert payload._has_only_json_types(value, encoded)
    assert payload._dumps(value) == encoded


@given(near_misses())
def test_the_compiled_way_never_writes_what_would_not_read_back(miss: NearMiss) -> None:
    assert payload._dumps(miss.data) is None


@given(st.floats(), st.sampled_from([None, "null", 1.5]))
def test_a_float_is_written_if_and_only_if_it_is_finite(value: float, beside: object) -> None:
    assert (payload._dumps([value, beside]) is not None) == math.isfinite(value)


@pytest.mark.parametrize("tail", [b"\xcb\x7f\xf0", b"\xcb\xff\xff"])
def test_a_number_whose_bytes_look_like_an_infinity_is_saved(tail: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    (value,) = struct.unpack(">d", b"\x3f" + tail + bytes(4))
    assert payload._scan(value) is True
    assert payload.decode(payload.encode([value, None])) == [value, None]
    monkeypatch.setattr(payload, "_has_only_json_types", lambda *_: pytest.fail("the JSON has no null: it is not needed"))
    assert payload.decode(payload.encode([value, 1])) == [value, 1]


def test_without_the_extra_the_value_is_checked_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ormsgpack", None)
    payload._pack.cache_clear()
    try:
        assert payload._scan(1) is None
        assert payload.encode([1]) == b"[1]"
    finally:
        payload._pack.cache_clear()
