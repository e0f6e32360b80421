"""Encode arrays, frames and tensors of numpy, pandas, polars and torch for a fingerprint.

It imports none of the four: a program that has such a value has imported its library.

What is encoded is the type of the elements, the shape, the labels, and the elements bit for bit; not how they lie in memory. An
array of Python objects is refused, as its elements are addresses; of a frame's column of objects, each object is encoded.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import sys
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format.contents import memory_of_tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Encode = Callable[[Any], bytes]


def encoded_parts(value: Any, encode: Encode) -> list[bytes] | None:  # noqa: ANN401  # whatever a function is called with
    """Return the parts of the encoding of an array, a frame or an element of one.

    Args:
        value: The value.
        encode: Encodes a value within.

    Returns:
        The parts; None if it is of none of these kinds, or can't be told apart from others with certainty.
    """
    kind = type(value)
    library = kind.__module__.partition(".")[0]
    module = sys.modules.get(library)
    if module is None or library not in _LIBRARIES:
        return None
    found = _LIBRARIES[library](module, value, encode)
    return None if found is None else [f"{library}.{kind.__qualname__}".encode(), *found]


def _of_numpy(numpy: Any, value: Any, _: Encode) -> list[bytes] | None:  # noqa: ANN401
    if type(value) in {numpy.ndarray, numpy.memmap}:
        return None if value.dtype.hasobject else _array(numpy, value)
    if isinstance(value, numpy.generic) and not value.dtype.hasobject and type(value) is value.dtype.type:
        return _array(numpy, numpy.asarray(value))
    if isinstance(value, numpy.dtype) and not value.hasobject:
        return _dtype(value)
    return None


def _array(numpy: Any, array: Any) -> list[bytes]:  # noqa: ANN401
    content = b""
    if array.size and array.dtype.itemsize:
        content = hashlib.sha256(numpy.ascontiguousarray(array).reshape(-1).view(numpy.uint8)).digest()
    return [*_dtype(array.dtype), repr(array.shape).encode(), content]


def _dtype(dtype: Any) -> list[bytes]:  # noqa: ANN401
    """Return the encoding of a type of elements, with the names, types and offsets of its fields, and its metadata."""
    fields = dtype.fields
    inner = [] if fields is None else [(name, [*_dtype(part[0])], part[1:]) for name, part in fields.items()]
    shape = [] if dtype.subdtype is None else [_dtype(dtype.subdtype[0]), dtype.subdtype[1]]
    beside = () if dtype.metadata is None else (dict(dtype.metadata),)
    return [repr((dtype.str, dtype.itemsize, inner, shape, *beside)).encode()]


def _of_pandas(pandas: Any, value: Any, encode: Encode) -> list[bytes] | None:  # noqa: ANN401, PLR0911  # a table of cases
    kind = type(value)
    if value is pandas.NA or value is pandas.NaT:
        return []
    if kind is pandas.Timestamp:
        return [str(value.asm8.view("i8")).encode(), value.unit.encode(), encode(value.to_pydatetime(warn=False))]
    if kind is pandas.Timedelta:
        return [str(value.asm8.view("i8")).encode(), value.unit.encode()]
    if kind is pandas.DataFrame:
        columns = (value.iloc[:, place].array for place in range(value.shape[1]))
        labels = [*_labels(pandas, value.index, encode), *_labels(pandas, value.columns, encode)]
        return [*labels, *_kept_beside(value, encode), *(part for each in columns for part in _column(pandas, each, encode))]
    if kind is pandas.Series:
        labels = [encode(value.name), *_labels(pandas, value.index, encode)]
        return [*labels, *_kept_beside(value, encode), *_column(pandas, value.array, encode)]
    if isinstance(value, pandas.Index):
        return _labels(pandas, value, encode)
    if isinstance(value, pandas.api.extensions.ExtensionArray):
        return _column(pandas, value, encode)
    return None


def _kept_beside(value: Any, encode: Encode) -> Iterator[bytes]:  # noqa: ANN401
    yield encode(dict(value.attrs))
    yield encode(value.flags.allows_duplicate_labels)


def _labels(pandas: Any, index: Any, encode: Encode) -> list[bytes]:  # noqa: ANN401
    start = [type(index).__name__.encode(), encode(list(index.names)), str(getattr(index, "freq", None)).encode()]
    if isinstance(index, pandas.MultiIndex):
        levels = [index.get_level_values(place).array for place in range(index.nlevels)]
        return [*start, *(part for each in levels for part in _column(pandas, each, encode))]
    if isinstance(index, pandas.RangeIndex):
        return [*start, repr((index.start, index.stop, index.step)).encode()]
    return [*start, *_column(pandas, index.array, encode)]


def _column(pandas: Any, array: Any, encode: Encode) -> list[bytes]:  # noqa: ANN401
    """Return the parts of a column, by what its elements are in memory: numbers, codes of categories, or objects."""
    numpy = sys.modules["numpy"]
    start = [type(array).__name__.encode(), repr(array.dtype).encode()]
    if isinstance(array, pandas.Categorical):
        categories = _column(pandas, array.categories.array, encode)
        return [*start, *_array(numpy, array.codes), str(array.ordered).encode(), *categories]
    if isinstance(array, pandas.arrays.NumpyExtensionArray | pandas.arrays.DatetimeArray) and isinstance(
        getattr(array.dtype, "numpy_dtype", array.dtype), numpy.dtype
    ):
        plain = array.to_numpy()
        return [*start, *(_array(numpy, plain) if plain.dtype != object else [encode(list(plain))])]
    if isinstance(array.dtype, numpy.dtype) and array.dtype != object:
        return [*start, *_array(numpy, array.to_numpy())]
    if isinstance(array.dtype, pandas.DatetimeTZDtype):
        return [*start, encode(dt.datetime(1970, 1, 1, tzinfo=array.dtype.tz)), *_array(numpy, array.asi8)]
    return [*start, encode(list(array.to_numpy(dtype=object)))]


def _of_polars(polars: Any, value: Any, encode: Encode) -> list[bytes] | None:  # noqa: ANN401
    columns = [value] if type(value) is polars.Series else value.get_columns() if type(value) is polars.DataFrame else None
    if columns is None or any(_is_uncertain(polars, each.dtype) for each in columns):
        return None
    parts = [repr(value.shape).encode()]
    for each in columns:
        is_named = each.dtype in {polars.Categorical, polars.Enum}
        plain = each.cast(polars.String) if is_named else each if each.dtype == polars.Decimal else each.to_physical()
        parts += [encode(each.name), repr(each.dtype).encode(), encode(plain.to_list())]
    return parts


def _is_uncertain(polars: Any, kind: Any, level: int = 0) -> bool:  # noqa: ANN401
    """Return whether a column holds objects, or holds codes within lists or structs, whose meaning is not encoded."""
    inner = getattr(kind, "inner", None)
    within = [*([] if inner is None else [inner]), *(field.dtype for field in getattr(kind, "fields", ()))]
    is_coded = level > 0 and kind in {polars.Categorical, polars.Enum, polars.Decimal}
    return kind == polars.Object or is_coded or any(_is_uncertain(polars, each, level + 1) for each in within)


def _of_torch(torch: Any, value: Any, _: Encode) -> list[bytes] | None:  # noqa: ANN401
    is_plain = type(value) is torch.Tensor and value.device.type == "cpu" and value.layout == torch.strided
    if not is_plain or value.is_quantized:
        return None
    content = hashlib.sha256(memory_of_tensor(torch, value)).digest() if value.numel() else b""
    return [repr((value.dtype, tuple(value.shape), value.requires_grad)).encode(), content]


_LIBRARIES: dict[str, Callable[[Any, Any, Encode], list[bytes] | None]] = {
    "numpy": _of_numpy,
    "pandas": _of_pandas,
    "polars": _of_polars,
    "torch": _of_torch,
}
