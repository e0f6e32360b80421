"""What is loaded equals what was saved, or the save is refused with the path of the value at fault."""

from __future__ import annotations

import contextlib
import inspect
import marshal
import math
import pickle
import struct
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager._format import payload
from checkpoint_manager._format.payload_faults import MAX_DEPTH
from checkpoint_manager.errors import FormatError, PayloadError
from checkpoint_manager.testing.strategies import json_values
from tests.strategies import NOT_A_KEY, NOT_A_SAVED_KEY, NOT_JSON, NOT_SAVED, SECRET, SECRET_NUMBER, NearMiss, near_misses, same

if TYPE_CHECKING:
    from collections.abc import Callable


def refusal(data: object, encode: Callable[..., bytes] = payload.encode) -> PayloadError:
    with pytest.raises(PayloadError) as caught:
        encode(data, stage="train")
    assert caught.value.stage == "train"
    return caught.value


def assert_tells_nothing(error: PayloadError, culprit: object) -> None:
    told = "".join(traceback.format_exception_only(error)) + error.path + repr(error)
    assert SECRET not in told
    assert str(SECRET_NUMBER) not in told
    if not isinstance(culprit, int) or abs(culprit) < 2**128:  # Python refuses to print the longest ones
        shown = repr(culprit)
        assert len(shown) < 8 or shown not in told
    assert error.__cause__ is None
    assert error.__context__ is None


def nested(levels: int, leaf: object = None, *, kind: str = "list") -> object:
    """Return ``levels`` lists or dicts in one another, around ``leaf``."""
    for _ in range(levels):
        leaf = [leaf] if kind == "list" else {"a": leaf}
    return leaf


# What comes back


@given(json_values())
def test_any_json_comes_back_equal_with_equal_types(value: object) -> None:
    assert same(payload.decode(payload.encode(value)[0]), value)


@given(json_values() | near_misses().map(lambda miss: miss.data))
def test_marshal_tells_no_difference_in_what_comes_back(value: object) -> None:
    """The oracle writes exact types, and shares nothing with what is tested."""
    with contextlib.suppress(PayloadError):
        assert marshal.dumps(payload.decode(payload.encode(value)[0]), 2) == marshal.dumps(value, 2)


@given(st.floats(), st.sampled_from([None, "null", 1.5]))
def test_a_float_is_json_if_and_only_if_it_is_finite(value: float, beside: object) -> None:
    assert payload.encode([value, beside])[0].startswith(b"[") == math.isfinite(value)


@pytest.mark.parametrize("tail", [b"\xcb\x7f\xf0", b"\xcb\xff\xff"])
@pytest.mark.parametrize("place", [0, 1, 49, 98])
def test_a_number_whose_bytes_look_like_an_infinity_is_told_from_one(tail: bytes, place: int) -> None:
    (value,) = struct.unpack(">d", b"\x3f" + tail + bytes(4))
    data: list[Any] = [None, [{"a": value}] * 99]
    assert payload.decode(payload.encode(data)[0]) == data
    data[1] = [{"a": value}] * place + [{"a": math.inf}] + [{"a": value}] * (99 - place)
    assert payload.decode(payload.encode(data)[0]) == data


@pytest.mark.parametrize("beside", [[0.5], [127, -1], [0xCB7F, -0x34_01]], ids=["rare", "often", "as an integer"])
@pytest.mark.parametrize("infinity", [math.inf, -math.inf, math.nan])
def test_a_float_that_is_not_finite_is_found_in_a_long_message(infinity: float, beside: list[float]) -> None:
    clean = [None, *beside * 3000]
    assert payload.decode(payload.encode(clean)[0]) == clean
    for data in ([*clean, infinity], [infinity, *clean], {"rows": [[None]] * 1100 + [[infinity]]}):
        assert not payload.encode(data)[0].startswith((b"[", b"{"))


@given(json_values())
def test_any_buffer_can_be_decoded(value: object) -> None:
    encoded = payload.encode(value)[0]
    assert same(payload.decode(bytearray(encoded)), value)
    assert same(payload.decode(memoryview(encoded)), value)


def test_text_that_says_null_beside_floats_is_no_reason_to_refuse() -> None:
    value = {"null": [1.5, "null", None], "a": -0.0}
    assert same(payload.decode(payload.encode(value)[0]), value)


def test_one_object_in_two_places_is_not_a_cycle() -> None:
    shared = [1]
    assert payload.decode(payload.encode({"a": shared, "b": [shared, shared]})[0]) == {"a": [1], "b": [[1], [1]]}


@pytest.mark.parametrize("kind", ["list", "dict"])
def test_the_deepest_nesting_allowed_comes_back(kind: str) -> None:
    for leaf in (1.5, None):
        value = nested(MAX_DEPTH, leaf, kind=kind)
        assert payload.decode(payload.encode(value)[0]) == value


# What is refused


@given(near_misses())
def test_a_value_that_can_not_be_saved_is_refused_with_its_path(miss: NearMiss) -> None:
    error = refusal(miss.data)
    assert error.path == miss.path
    assert miss.path in str(error)
    assert_tells_nothing(error, miss.culprit)


@given(near_misses(of_json=True))
def test_what_json_does_not_have_is_refused_where_only_json_is_taken(miss: NearMiss) -> None:
    error = refusal(miss.data, payload.encode_json)
    assert error.path == miss.path
    assert miss.path in str(error)
    assert_tells_nothing(error, miss.culprit)


@pytest.mark.parametrize(
    ("kind", "encode"),
    [*((kind, payload.encode) for kind in NOT_SAVED), *((kind, payload.encode_json) for kind in NOT_JSON)],
)
@pytest.mark.parametrize("clean", [0, 1030], ids=["alone", "behind many"])
def test_each_kind_of_value_is_refused_where_it_stands(kind: str, encode: Callable[..., bytes], clean: int) -> None:
    culprit = NOT_JSON[kind]()
    error = refusal({"rows": [{"x": 1.5, "y": None}] * clean + [{"x": 0.5, "y": culprit}]}, encode)
    assert error.path == f"$.rows[{clean}].y"
    assert_tells_nothing(error, culprit)
    assert refusal(culprit, encode).path == "$"


@pytest.mark.parametrize(
    ("kind", "encode"),
    [*((kind, payload.encode) for kind in NOT_A_SAVED_KEY), *((kind, payload.encode_json) for kind in NOT_A_KEY)],
)
def test_each_kind_of_key_is_refused(kind: str, encode: Callable[..., bytes]) -> None:
    error = refusal({"a": [{"b": 1, NOT_A_KEY[kind](): SECRET}]}, encode)
    assert error.path == "$.a[0]"
    assert "has a key of type" in str(error)
    assert_tells_nothing(error, NOT_A_KEY[kind]())


@pytest.mark.parametrize("name", ["float64", "float32", "int64", "uint8", "bool_", "str_", "array"])
def test_a_numpy_value_is_refused_with_the_method_that_converts_it(name: str) -> None:
    numpy = pytest.importorskip("numpy")
    error = refusal({"loss": [0.5, getattr(numpy, name)(1)]}, payload.encode_json)
    assert error.path == "$.loss[1]"
    assert ("value.tolist()" if name == "array" else "value.item()") in str(error)


@pytest.mark.parametrize("kind", ["list", "dict"])
@pytest.mark.parametrize("levels", [MAX_DEPTH + 1, 300, 20_000])
def test_nesting_beyond_the_limit_is_refused(levels: int, kind: str) -> None:
    """Also where it is so deep that walking it recursively would end the interpreter's patience."""
    error = refusal(nested(levels, kind=kind))
    assert error.path.startswith("$[0][0][0]" if kind == "list" else "$.a.a.a")
    assert f"nested deeper than {MAX_DEPTH} levels" in str(error)


def test_data_is_refused_with_its_path_however_deep_the_caller_is() -> None:
    def descend(levels: int) -> PayloadError:
        return refusal(nested(200, object())) if levels == 0 else descend(levels - 1)

    spare = sys.getrecursionlimit() - len(inspect.stack(0))
    assert "of type object" in str(descend(spare - 60))


@pytest.mark.parametrize("width", [1, 3])
def test_a_cycle_is_refused_where_it_closes(width: int) -> None:
    ring: dict[str, Any] = {"name": "x"}
    ring["next"] = [{"back": [ring] * width}]
    error = refusal({"ring": ring})
    assert error.path == "$.ring.next[0].back[0]"
    assert "contain it" in str(error)


def test_the_first_of_several_faults_is_named() -> None:
    data = {"a": [1, {"b": ()}], "c": float("nan"), "d": {1: 2}}
    assert refusal(data, payload.encode_json).paths == ("$.a[1].b", "$.c", "$.d")
    assert refusal({"a": (1, {2: {"b": object()}}), "c": {(object(),): 1}}).paths == ("$.a[1][key 1].b", "$.c")


# What the error says


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [
        ("tuple", "Save list(value)"),
        ("namedtuple", "Save list(value)"),
        ("set", "sorted(value)"),
        ("bytes", "base64"),
        ("datetime", "value.isoformat()"),
        ("date", "value.isoformat()"),
        ("time", "value.isoformat()"),
        ("decimal", "str(value)"),
        ("uuid", "str(value)"),
        ("enum", "value.value"),
        ("int enum", "value.value"),
        ("str enum", "value.value"),
        ("dataclass", "dataclasses.asdict(value)"),
        ("ordered dict", "dict(value)"),
        ("float subclass", "float(value)"),
        ("huge integer", "str(value)"),
        ("nan", "Save None"),
        ("object", "Save what it holds as dict, list, str"),
    ],
)
def test_the_message_says_what_to_save_instead(kind: str, remedy: str) -> None:
    assert remedy in str(refusal([NOT_JSON[kind]()], payload.encode_json))


def test_the_message_says_what_is_wrong_with_what() -> None:
    with pytest.raises(PayloadError) as caught:
        payload.encode_json({"point": (1, 2)}, what="metadata")
    assert str(caught.value) == "the metadata can't be saved: $.point is of type tuple. Save list(value)"
    assert caught.value.stage is None


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("größe", "$.größe"),
        ("", "$[key 2]"),
        ("a\nERROR fake line", "$[key 2]"),
        ("maria@example.org", "$[key 2]"),
        ("\ud800", "$[key 2]"),
        (4711, "$[key 2]"),
        ("k" * 40, "$." + "k" * 40),
        ("k" * 41, "$." + "k" * 39 + "…"),
    ],
)
def test_a_key_in_a_path_is_an_identifier_or_only_its_place(key: object, path: str) -> None:
    assert refusal({"first": 1, key: object()}).path == path


def test_a_long_path_is_shortened_in_its_middle() -> None:
    data: dict[str, object] = {"last": object()}
    for number in range(100):
        data = {f"level{number}": data}
    path = refusal(data).path
    assert len(path) == 200
    assert path.startswith("$.level99.level98.")
    assert path.endswith(".level1.level0.last")


def test_the_error_survives_pickling() -> None:
    error = refusal({"a": object()})
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.path, copy.stage) == (str(error), "$.a", "train")


# Limits, and the way back


def test_data_longer_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MAX_DATA_BYTES", 10)
    assert payload.encode("12345678")[0] == b'"12345678"'
    error = refusal("1234567ü")
    assert (error.path, "1234567" in str(error)) == ("$", False)


@pytest.mark.parametrize("data", ["x" * 30, ["x" * 30], {"a": {"b": [1] * 50 + ["x" * 30]}}, {"x" * 30: 1}])
def test_a_text_over_which_orjson_would_crash_is_refused_before_it_sees_it(
    data: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_: object, **__: object) -> bytes:
        pytest.fail("orjson was called")

    monkeypatch.setattr(payload, "MAX_DATA_BYTES", 29)
    monkeypatch.setattr(payload, "_SHORT", 29)
    monkeypatch.setattr(orjson, "dumps", crash)
    assert "29 characters" in str(refusal(data))


def test_numbers_that_only_ormsgpack_writes_longer_are_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "MAX_DATA_BYTES", 30)
    monkeypatch.setattr(payload, "_SHORT", 30)
    assert payload.encode([0.5] * 7)[0] == b"[0.5,0.5,0.5,0.5,0.5,0.5,0.5]"


def test_out_of_memory_is_not_called_damage() -> None:
    program = (
        "import resource\n"
        "from checkpoint_manager._format import payload\n"
        "data = b'[' + b'1,' * 50_000_000 + b'1]'\n"
        "resource.setrlimit(resource.RLIMIT_AS, (2**28, 2**28))\n"
        "try:\n"
        "    payload.decode(data)\n"
        "except MemoryError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "there is not enough memory to read 100000003 bytes of JSON\n"


def test_what_the_serialiser_alone_refuses_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later orjson may be stricter than we are: then there is no path, but still our error."""

    def refuse(*_: object, **__: object) -> bytes:
        message = f"Type is not JSON serializable: {SECRET}"
        raise TypeError(message)

    monkeypatch.setattr(orjson, "dumps", refuse)
    error = refusal({"a": SECRET})
    assert error.path == "$"
    assert_tells_nothing(error, SECRET)


@pytest.mark.parametrize("data", [b"", b"[1", b"NaN", b"1e999", b"\xff", b'"\\ud800"', b"[" * 200_000, b"1 2", b"{1:2}"])
def test_bytes_that_are_not_json_are_refused(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        payload.decode(data)
    assert caught.value.__context__ is None


@given(st.binary())
def test_decoding_any_bytes_gives_a_value_or_a_format_error(data: bytes) -> None:
    with contextlib.suppress(FormatError):
        payload.decode(data)
