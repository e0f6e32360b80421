"""Arrays, frames and objects as arguments: told apart bit for bit, and quickly, whatever they look like in memory."""

from __future__ import annotations

import collections
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from checkpoint_manager import CheckpointManager, FingerprintError
from checkpoint_manager.stages.fingerprint import digest

KEY = bytes(32)


class Point(NamedTuple):
    x: int
    y: int


class Pixel(NamedTuple):
    x: int
    y: int


class Veiled(Point):
    def __iter__(self) -> Any:
        return iter((0, 0))


class Client:
    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = open  # what can't be compared


class Model:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def predict(self, number: int) -> float:
        return self.scale * number


def tell(value: object) -> str:
    return digest(value, "value", "")


def all_differ(*values: object) -> bool:
    return len({tell(value) for value in values}) == len(values)


def test_named_tuples_and_ordered_dicts_are_told_apart() -> None:
    assert all_differ((1, 2), [1, 2], Point(1, 2), Point(2, 1), Pixel(1, 2))
    ordered = collections.OrderedDict
    assert all_differ({"a": 1, "b": 2}, ordered(a=1, b=2), ordered(b=2, a=1), collections.Counter(a=1, b=2))
    assert all_differ(collections.deque([1]), collections.deque([1], 3), [1])
    assert tell(Point(1, 2)) == tell(Point(1, 2))
    assert all_differ(Veiled(1, 2), Veiled(3, 4))
    for kind in (ordered, collections.Counter):
        labelled: Any = kind(a=1)
        labelled.unit = "kg"
        with pytest.raises(FingerprintError, match=kind.__name__):
            tell(labelled)


def test_self_is_told_by_all_that_it_holds() -> None:
    cm = CheckpointManager("memory:", key=KEY)
    stage = cm.stage("predict")(Model.predict)
    assert [stage(Model(scale), 3) for scale in (2.0, 2.0, 4.0)] == [6.0, 6.0, 12.0]
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "reused", "ran"]
    with pytest.raises(FingerprintError):
        cm.stage("other")(lambda number: number)(Model(1))  # only as self


def test_another_type_is_told_by_a_registered_function_and_else_the_error_says_what_to_do() -> None:
    cm = CheckpointManager("memory:", key=KEY)

    def fetch(client: Any) -> str:
        return str(client.url)

    with pytest.raises(FingerprintError) as refused:
        cm.stage("fetch")(fetch)(Client("a"))
    for part in ("stage fetch", "argument client", "Client", "ignore=", "key=", "fingerprint={type: function}"):
        assert part in str(refused.value)
    told = cm.stage("fetch", fingerprint={Client: lambda client: client.url})(fetch)
    assert [told(Client(url)) for url in ("a", "a", "b")] == ["a", "a", "b"]
    assert [outcome.what for outcome in cm.run_report().outcomes] == ["ran", "reused", "ran"]
    with pytest.raises(TypeError, match="fingerprint must be a dict of functions"):
        cm.stage(fingerprint={"Client": str})(fetch)  # type: ignore[dict-item]


def test_nothing_is_imported_for_it() -> None:
    program = (
        "import sys; from checkpoint_manager.stages.fingerprint import digest\n"
        "digest([1.5, (2,)], '', ''); print({'numpy', 'pandas', 'polars'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_arrays_of_numpy() -> None:
    numpy = pytest.importorskip("numpy")
    array = numpy.arange(12.0).reshape(3, 4)
    assert tell(array) == tell(array.copy(order="F")) == tell(numpy.repeat(array, 2, axis=0)[::2])
    assert all_differ(
        array,
        array.T,
        array.reshape(4, 3),
        array.ravel(),
        array.astype("f4"),
        array.astype(">f8"),
        array.tolist(),
        array + 1e-15,
    )
    assert all_differ(numpy.zeros((0, 3)), numpy.zeros((3, 0)), numpy.zeros(0, "i4"), numpy.array(0.0), numpy.float64(0), 0.0)
    assert all_differ(numpy.float64(1), numpy.float32(1), numpy.int64(1), numpy.bool_(1), numpy.datetime64(1, "s"))
    assert all_differ(numpy.datetime64(1, "s"), numpy.datetime64(1, "ms"), numpy.timedelta64(1, "s"))
    assert all_differ(numpy.array([0.0]), numpy.array([-0.0]), numpy.array([numpy.nan]))
    assert all_differ(numpy.dtype("f4"), numpy.dtype(">f4"), numpy.dtype([("a", "f4")]), "f4")
    pairs = [numpy.zeros(2, dtype) for dtype in ([("a", "i4"), ("b", "i4")], [("b", "i4"), ("a", "i4")], [("a", "i4", (2,))])]
    units = [numpy.zeros(2, numpy.dtype("f8", metadata={"unit": unit})) for unit in ("m", "kg")]
    assert all_differ(*pairs, *units, numpy.zeros(2))
    for refused in (numpy.array([object()]), numpy.ma.array([1], mask=[True]), numpy.zeros(1, [("a", object)])):
        with pytest.raises(FingerprintError):
            tell(refused)


def test_frames_of_pandas() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    assert tell(frame) == tell(frame.copy()) == tell(pandas.concat([frame, frame]).iloc[:2].reset_index(drop=True))
    assert all_differ(
        frame,
        frame[["b", "a"]],
        frame.rename(columns={"a": "c"}),
        frame.set_index("a"),
        frame.astype({"a": "int32"}),
        frame.astype({"a": "Int64"}),
        frame.astype({"b": "category"}),
        frame.astype({"b": object}),
        frame.assign(a=[1, None]),
        frame.iloc[::-1],
        frame.iloc[:0],
        frame["a"],
        frame["b"],
        frame["a"].rename("b"),
        frame.columns,
    )
    assert tell(frame.astype({"a": "Int64"}).assign(a=pandas.array([1, None], "Int64")))
    moment = pandas.Timestamp("2026-01-01")
    assert all_differ(moment, moment.tz_localize("UTC"), moment + pandas.Timedelta(1, "us"), pandas.NaT, pandas.NA)
    days = pandas.Series(pandas.date_range("2026-01-01", periods=3))
    assert all_differ(days, days.dt.tz_localize("UTC"), days.shift(1), days.array, pandas.MultiIndex.from_product([[1], [2]]))
    second = pandas.Timedelta(1, "s")
    assert all_differ(second, 2 * second, second.as_unit("ms"), pandas.Series([second]), pandas.Series([2 * second]))
    attributes = frame.copy()
    attributes.attrs["unit"] = "m"
    assert all_differ(frame, attributes)
    for refused in (pandas.Series([object()]), pandas.Period("2026-01")):
        with pytest.raises(FingerprintError):
            tell(refused)


def test_frames_of_polars() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"a": [1, 2], "b": ["x", None]})
    assert tell(frame) == tell(frame.clone()) == tell(polars.concat([frame[:1], frame[1:]]))
    assert all_differ(
        frame,
        frame.select("b", "a"),
        frame.rename({"a": "c"}),
        frame.cast({"a": polars.Int32}),
        frame[:1],
        frame["a"],
        frame["b"],
    )
    days = polars.Series([0, 1]).cast(polars.Datetime("ns"))
    assert all_differ(days, days.cast(polars.Datetime("us")), days.cast(int))
    names = polars.Series(["x", "y"])
    assert all_differ(names, names.cast(polars.Categorical), names.cast(polars.Enum(["x", "y"])), polars.Series([["x"], ["y"]]))
    for refused in (frame.lazy(), polars.DataFrame({"a": [object()]})):
        with pytest.raises(FingerprintError):
            tell(refused)
