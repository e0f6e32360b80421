"""Values that JSON does not have come back type for type, or are refused; and a hostile form is an error, soon."""

from __future__ import annotations

import collections
import contextlib
import datetime as dt
import decimal
import enum
import io
import json
import math
import subprocess
import sys
import zoneinfo
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager import ArgumentError, CheckpointManager, Codec, FormatError, PayloadError
from checkpoint_manager._format import payload, values
from checkpoint_manager._format.codecs import checked
from checkpoint_manager._format.json_check import is_payload
from checkpoint_manager._format.payload_faults import MAX_DEPTH
from checkpoint_manager.testing import strategies
from tests.strategies import same

if TYPE_CHECKING:
    from collections.abc import Callable


def there_and_back(value: Any) -> Any:
    return payload.decode(payload.encode(value)[0])


def read(content: str) -> Any:
    """Return what is read from JSON with forms."""
    return payload.decode(payload.VALUES + content.encode())


class Level(enum.Enum):
    HIGH = 3


class Pair(NamedTuple):
    left: int
    right: int


@dataclass(frozen=True)
class Point:
    x: int
    y: int


POINT = Codec(Point, "point", lambda point: (point.x, point.y), lambda pair: Point(*pair))
LEVEL = Codec(Level, "level", lambda level: level.value, Level)


# What comes back


@given(strategies.values())
def test_every_value_comes_back_type_for_type(value: Any) -> None:
    assert same(there_and_back(value), value)


@given(strategies.values())
def test_what_is_read_is_written_as_the_same_bytes(value: Any) -> None:
    encoded = payload.encode(value)[0]
    assert payload.encode(payload.decode(encoded))[0] == encoded
    assert payload.decode(bytearray(encoded)) is not NotImplemented
    assert is_payload(encoded)


@given(strategies.json_values())
def test_json_is_written_as_json(value: Any) -> None:
    assert json.loads(payload.encode(value)[0]) == value


@given(strategies.values(max_leaves=4))
def test_a_form_that_a_user_saves_as_data_comes_back_as_that_data(value: Any) -> None:
    """Data that was written before there were forms is JSON, and so is data that only looks like forms."""
    form = payload.form(payload.encode(value)[0])
    assert same(there_and_back(form), form)
    assert same(there_and_back((form,)), (form,))
    assert same(payload.decode(json.dumps(form).encode()), form)


@given(strategies.values(max_leaves=6))
def test_the_form_of_data_can_be_read_without_the_data(value: Any) -> None:
    """It is what programs are shown; of JSON that looks like a form, too."""
    encoded = payload.encode(value)[0]
    form = payload.form(encoded)
    assert same(values.value_of(form), value)


@pytest.mark.parametrize("kind", [dict, list, tuple, set, frozenset, bytes, str])
def test_an_empty_value_comes_back(kind: type) -> None:
    assert same(there_and_back([kind()]), [kind()])


def test_the_two_hours_that_a_clock_shows_twice_are_told_apart() -> None:
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    first = dt.datetime(2026, 10, 25, 2, 30, tzinfo=berlin)
    second = first.replace(fold=1)
    loaded = there_and_back([first, second])
    assert [each.utcoffset() for each in loaded] == [dt.timedelta(hours=2), dt.timedelta(hours=1)]
    assert [each.tzinfo is berlin for each in loaded] == [True, True]
    assert loaded[0] + dt.timedelta(days=1) == dt.datetime(2026, 10, 26, 2, 30, tzinfo=berlin)


def test_two_nans_in_a_set_come_back_as_two() -> None:
    loaded = there_and_back({float("nan"), math.nan, 1})
    assert sorted(map(str, loaded)) == ["1", "nan", "nan"]


def test_equal_sets_are_written_as_the_same_bytes() -> None:
    names = [f"name {number}" for number in range(100)]
    assert payload.encode(set(names))[0] == payload.encode({*sorted(names, reverse=True)})[0]


def test_the_decimal_context_makes_no_difference() -> None:
    with decimal.localcontext(decimal.Context(prec=2, capitals=0, traps=[decimal.Inexact])):
        encoded = payload.encode(Decimal("1.2345E+20"))[0]
        assert encoded == b'values/1\n{"!decimal":"1.2345E+20"}'
        assert payload.decode(encoded) == Decimal("1.2345E+20")


def test_a_value_that_is_there_twice_comes_back_as_two() -> None:
    shared = [1]
    first, second = there_and_back((shared, shared))
    assert first == second == [1]
    assert first is not second


def test_integers_beyond_pythons_limit_of_digits_come_back_soon() -> None:
    huge = 1 << 30_000_000
    assert there_and_back([huge, -huge]) == [huge, -huge]


# What is refused


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        ((1, {"a": Level.HIGH}), "$[1].a", "Level. Save value.value, or open the store with codecs=["),
        ({"a": Point(1, 2)}, "$.a", "Save dataclasses.asdict(value), or open the store with codecs=["),
        ([Pair(1, 2)], "$[0]", "Save tuple(value)"),
        ([collections.OrderedDict(a=1)], "$[0]", "Save dict(value)"),
        ({(1, Level.HIGH): 2}, "$", "has a key of type tuple, in which $[1] is of type"),
        ({Level.HIGH: 2}, "$", "has a key of type tests.format.test_values.Level"),
        ({"a": {3: bytearray()}}, "$.a[key 1]", "Save bytes(value)"),
        ({"a": {(1, 2): [memoryview(b"")]}}, "$.a[key 1][0]", "Save bytes(value)"),
        ({"zone": dt.datetime(2026, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {})())}, "$.zone", "Use a zoneinfo.ZoneInfo"),
        ((Path("a\udcffb"),), "$[0]", "lone surrogate"),
        ({dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(), "\ud800"))}, "$[0]", "lone surrogate"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.startswith("$") else "",
)
def test_a_value_without_a_form_is_refused_with_its_path_and_what_helps(value: Any, path: str, says: str) -> None:
    with pytest.raises(PayloadError) as caught:
        payload.encode(value)
    assert caught.value.path == path
    assert says.replace("tests.format.test_values", __name__) in str(caught.value)


@pytest.mark.parametrize("kind", ["longdouble", "longlong", "void", "subclass", "signalling NaN"])
def test_what_numpy_would_give_back_as_another_value_is_refused(kind: str) -> None:
    np = pytest.importorskip("numpy")
    made = {
        "longdouble": lambda: np.longdouble(1),
        "longlong": lambda: np.longlong(1),
        "void": lambda: np.void(b"ab"),
        "subclass": lambda: type("Special", (np.float64,), {})(1),
        "signalling NaN": lambda: np.frombuffer(bytes.fromhex("0100807f"), "<f4")[0],
    }
    with pytest.raises(PayloadError, match=r"Save value\.") as caught:
        payload.encode([made[kind]()])
    assert caught.value.path == "$[0]"


def test_a_cycle_through_a_tuple_is_refused_where_it_closes() -> None:
    ring: list[Any] = []
    ring.append(("a", ring))
    with pytest.raises(PayloadError, match="contain it") as caught:
        payload.encode(ring)
    assert caught.value.path == "$[0][1]"


@pytest.mark.parametrize("wrap", [lambda inner: (inner,), lambda inner: {1: inner}, lambda inner: {"!a": inner, "b": ()}])
def test_nesting_is_limited_by_the_levels_of_its_json(wrap: Callable[[Any], Any]) -> None:
    value: Any = b""
    for _ in range(40):
        value = wrap(value)
    assert same(there_and_back(value), value)
    for _ in range(MAX_DEPTH):
        value = wrap(value)
    with pytest.raises(PayloadError, match="nested deeper"):
        payload.encode(value)


def test_more_keys_of_one_hash_than_can_be_compared_soon_are_refused() -> None:
    numbers = [number * (2**61 - 1) for number in range(1000)]
    for value in (set(numbers), dict.fromkeys(numbers)):
        with pytest.raises(PayloadError, match="of one hash"):
            payload.encode(value)
    assert there_and_back(set(numbers[:90])) == set(numbers[:90])


def test_a_zone_that_was_read_from_a_file_is_refused() -> None:
    berlin = next(Path(folder, "Europe/Berlin") for folder in zoneinfo.TZPATH if Path(folder, "Europe/Berlin").is_file())
    zone = zoneinfo.ZoneInfo.from_file(io.BytesIO(berlin.read_bytes()), key="Europe/Berlin")
    with pytest.raises(PayloadError, match="time zone of type"):
        payload.encode(dt.datetime(2026, 1, 1, tzinfo=zone))


# Hostile forms

FORMS = [
    *json.loads(Path(__file__).parents[1].joinpath("vectors/values-1.json").read_text())["invalid"],
    "1" * 10_000,
    "[" * 300 + "]" * 300,
    "[" * 1000 + "]" * 1000,
    "[" * 200_000,
    '{"!tuple":[' * 130 + "]}" * 130,
    '{"!set":[' * 130 + "]}" * 130,
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form[:60])
@pytest.mark.parametrize("around", ["{}", '[1,{{"a":{}}}]', '{{"!tuple":[{},1]}}'], ids=["alone", "in a list", "in a tuple"])
def test_a_hostile_form_is_an_error(form: str, around: str) -> None:
    """Also with numpy at hand and none of its warnings."""
    if "numpy" in form:
        pytest.importorskip("numpy")
    with pytest.raises(FormatError) as caught:
        read(around.format(form))
    assert caught.value.hint
    assert caught.value.__cause__ is None


HUGE: dict[str, Callable[[], str]] = {
    "hexadecimal digits": lambda: f'{{"!int":"0x{"f" * 20_000_000}"}}',
    "hexadecimal digits and another": lambda: f'{{"!int":"0x{"1" * 20_000_000}g"}}',
    "decimal digits": lambda: f'{{"!decimal":"{"9" * 5_000_000}"}}',
    "an exponent": lambda: '{"!decimal":"1E+999999999999999999"}',
    "an exponent in a set": lambda: '{"!set":[{"!decimal":"1E+999999999999999999"},1,0.5,{"!int":"0x10000000000000000"}]}',
    "a set of one hash": lambda: f'{{"!set":[{",".join(_of_one_hash())}]}}',
    "keys of one hash": lambda: f'{{"!dict":[{",".join(f"[{each},1]" for each in _of_one_hash())}]}}',
    "a set of tuples": lambda: (
        f'{{"!set":[{",".join(f"[{number}]" for number in range(50_000)).replace("[", TUPLE[:10]).replace("]", "]}")}]}}'
    ),
    "bytes": lambda: f'{{"!bytes":"{"A" * 20_000_000}"}}',
    "parts of a timedelta": lambda: f'{{"!timedelta":[{",".join(["1"] * 500_000)}]}}',
    "parts of a complex": lambda: f'{{"!complex":[{",".join(["1.0"] * 500_000)}]}}',
    "a uuid": lambda: f'{{"!uuid":"{"a" * 5_000_000}"}}',
    "digits of a second": lambda: f'{{"!datetime":"2026-01-01T00:00:00.{"0" * 5_000_000}"}}',
    "a zone": lambda: f'{{"!datetime":["2026-01-01T00:00:00",0,"{"a/" * 2_000_000}a"]}}',
    "a path": lambda: f'{{"!path":"{"a/" * 500_000}"}}',
    "tuples": lambda: f"[{','.join([TUPLE] * 200_000)}]",
}
TUPLE = '{"!tuple":[]}'


def _of_one_hash() -> list[str]:
    return [f'{{"!int":"{number * (2**61 - 1):#x}"}}' for number in range(10, 60_000)]


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_form_is_read_or_refused_soon(name: str) -> None:
    """A hang would end the run, after the time that pytest gives each test; the slowest takes a second."""
    with contextlib.suppress(FormatError):
        read(HUGE[name]())


_TAGS = [*values._READERS, "!codec", "!dict", "!tuple", "!set", "a"]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-5, 5)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(codec="utf-8"), max_size=6)
        | st.sampled_from(["nan", "0x1", "UTC"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_TAGS), inner, max_size=2),
        max_leaves=10,
    )
)
def test_any_json_is_read_as_a_value_or_refused(form: Any) -> None:
    try:
        value = read(json.dumps(form))
    except FormatError:
        return
    assert same(there_and_back(value), value)


def test_reading_imports_nothing_by_a_name_that_it_read() -> None:
    form = '[{"!datetime":["2026-11-23T10:00:00",0,"this/antigravity"]},{"!codec":["os.system","ls"]}]'
    with pytest.raises(FormatError):
        read(form)
    assert not any("antigravity" in name or "tzdata.zoneinfo.this" in name for name in sys.modules)


@pytest.mark.children_measured
def test_without_numpy_the_error_names_it() -> None:
    program = (
        "import sys; sys.modules['numpy'] = None\n"
        "from checkpoint_manager._format import payload\n"
        "from checkpoint_manager import FormatError\n"
        'print(payload.form(b\'values/1\\n[{"!numpy":["int8",1]}]\'))\n'
        "try:\n"
        '    payload.decode(b\'values/1\\n[{"!numpy":["int8",1]}]\')\n'
        "except FormatError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "[{'!numpy': ['int8', 1]}]\nthe data holds a value of numpy, which is not installed. Install numpy to load it\n"
    )


def test_json_is_saved_and_loaded_without_what_other_values_need() -> None:
    program = (
        "import sys\n"
        "from checkpoint_manager._format import payload\n"
        "payload.decode(payload.encode({'a': [1.5, None]})[0])\n"
        "print('checkpoint_manager._format.values' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_data_of_a_later_encoding_says_so() -> None:
    with pytest.raises(FormatError, match="encoded as values/4, and this version of the library reads values/1 to values/3"):
        payload.decode(b"values/4\n[]")


# Codecs


def test_a_value_with_a_codec_comes_back() -> None:
    codecs = checked([POINT, LEVEL])
    data = {"path": [Point(1, 2)], Level.HIGH: {Point(3, 4)}, "plain": (1,)}
    encoded = payload.encode(data, codecs)[0]
    assert payload.decode(encoded, codecs) == data
    assert payload.form(encoded) == {
        "!dict": [
            ["path", [{"!codec": ["point", {"!tuple": [1, 2]}]}]],
            [{"!codec": ["level", 3]}, {"!set": [{"!codec": ["point", {"!tuple": [3, 4]}]}]}],
            ["plain", {"!tuple": [1]}],
        ]
    }


def test_a_codec_that_is_not_there_is_named(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path, key=bytes(32), codecs=[POINT])
    cm.save_checkpoint("train", {"at": Point(1, 2)})
    assert cm.load_checkpoint("train") == {"at": Point(1, 2)}
    with pytest.raises(FormatError) as caught:
        CheckpointManager(tmp_path, key=bytes(32)).load_checkpoint("train")
    assert "codec point" in caught.value.message
    assert "codecs=[" in caught.value.hint


def test_a_codec_is_for_exactly_its_type() -> None:
    class Special(Point):
        pass

    with pytest.raises(PayloadError) as caught:
        payload.encode([Special(1, 2)], checked([POINT]))
    assert caught.value.path == "$[0]"


def test_what_a_codec_makes_is_checked_as_all_data_is() -> None:
    codecs = checked([Codec(Point, "point", lambda point: [point.x, object()], Point)])
    with pytest.raises(PayloadError) as caught:
        payload.encode({"a": Point(1, 2)}, codecs)
    assert caught.value.path == "$.a[1]"
    endless = checked([Codec(Point, "point", lambda point: [point], Point)])
    with pytest.raises(PayloadError, match="contain it"):
        payload.encode({"a": Point(1, 2)}, endless)


def test_an_error_of_a_codec_passes_through() -> None:
    def fail(_: object) -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        payload.encode(Point(1, 2), checked([Codec(Point, "point", fail, fail)]))
    with pytest.raises(KeyError, match="mine"):
        payload.decode(b'values/1\n{"!codec":["point",1]}', checked([Codec(Point, "point", fail, fail)]))


@pytest.mark.parametrize(
    ("codecs", "says"),
    [
        (5, "codecs must be a list of Codec"),
        ([5], "codecs must be a list of Codec, not an int"),
        ([Codec("Point", "point", str, str)], "type of a codec must be a class"),  # type: ignore[arg-type]
        ([Codec(Point, "", str, Point)], "name of a codec must be a text of 1 to 255 characters"),  # type: ignore[arg-type]
        ([Codec(Point, "\ud800", str, Point)], "name of a codec"),  # type: ignore[arg-type]
        ([Codec(Point, "point", None, Point)], "encode of a codec must be a function, not None"),  # type: ignore[arg-type]
        ([POINT, Codec(Level, "point", str, Level)], "the same type or the same name"),
        ([POINT, Codec(Point, "other", str, Point)], "the same type or the same name"),  # type: ignore[arg-type]
        ([Codec(dict, "mine", list, dict)], "dict needs no codec"),
        ([Codec(dt.date, "mine", str, dt.date.fromisoformat)], "date needs no codec"),
    ],
)
def test_codecs_that_would_not_work_are_refused(codecs: Any, says: str) -> None:
    with pytest.raises(ArgumentError, match=says.replace("(", r"\(")) as caught:
        checked(codecs)
    assert caught.value.argument
