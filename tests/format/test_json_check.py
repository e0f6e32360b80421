"""JSON is checked in slices: the answer is that of reading it at once, and memory is bounded."""

from __future__ import annotations

import tracemalloc

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checkpoint_manager._format import json_check
from checkpoint_manager.testing.strategies import json_values

TOKENS = [*"[]{},:", '"', "\\", "1", "-", "null", " ", '"a"', '"b,"', '"\\",', '"]"', "[]", "{}", '{"a":1}', "[1,2]", ",1", "é"]


@pytest.fixture(params=[3, 7, 50])
def slices(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_check, "_SLICE_BYTES", request.param)


def agrees(data: bytes) -> None:
    try:
        orjson.loads(data)
    except orjson.JSONDecodeError:
        assert not json_check.is_json(data)
    else:
        assert json_check.is_json(data)
        assert json_check.is_json(bytearray(data))


@pytest.mark.usefixtures("slices")
@given(json_values())
def test_json_is_json(value: object) -> None:
    agrees(orjson.dumps(value))
    agrees(orjson.dumps(value, option=orjson.OPT_INDENT_2))


@pytest.mark.usefixtures("slices")
@given(st.lists(st.sampled_from(TOKENS), max_size=20))
@example(["[", ",1", ",1", ",1", "]"])
@example(["[1,2]", ",1", ",1"])
@example(["{}", " ", " ", " ", " ", " "])
def test_whatever_tokens_are_judged_as_by_the_reader(tokens: list[str]) -> None:
    agrees("".join(tokens).encode())


@pytest.mark.usefixtures("slices")
@given(json_values(), st.data())
def test_an_edited_byte_is_judged_as_by_the_reader(value: object, data: st.DataObject) -> None:
    encoded = bytearray(orjson.dumps([value, {"a,": [1, {"b": [], '"': "x,]"}]}]))
    encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    agrees(bytes(encoded))


@pytest.mark.parametrize("unit", ['{"":0}', "[]", '"x"', "[" * 100 + "]" * 100], ids=lambda unit: unit[:6])
def test_memory_is_bounded_whatever_the_json_holds(unit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_check, "_SLICE_BYTES", 4 * 1024)
    data = b"[" + b",".join([unit.encode()] * (400_000 // len(unit))) + b"]"
    tracemalloc.start()
    try:
        assert json_check.is_json(data)
        assert tracemalloc.get_traced_memory()[1] < len(data)
    finally:
        tracemalloc.stop()
