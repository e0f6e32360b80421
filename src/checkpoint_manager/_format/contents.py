"""Contents: arrays, frames and tensors as bytes, and back. This module is loaded when the first one is met.

===========  ==================================================================================================================
``numpy``    An array: ``.npy`` of format version 2.0 (numpy's NEP 1), without pickled objects
``pandas``   A frame: a stream of Arrow's IPC format, with the metadata that pyarrow adds to its schema, and, under the key
             ``checkpoint-manager``, a JSON object: ``columns`` is null, or the start, stop and step if the columns are a
             ``RangeIndex``; ``utc`` lists the columns by their places (-1: the index) whose zone is ``datetime.UTC``, and
             ``levels``, which may be absent, such levels of an index that has several; ``freq``, which may be absent, is that
             of the index, as text
``polars``   A frame: a stream of Arrow's IPC format
``torch``    A tensor in the main memory: a file of safetensors that holds one tensor, whose name is ``tensor``
===========  ==================================================================================================================

What comes back is equal and of the same types. Not kept are the memory layout of an array and, of a frame of pandas, the
``freq`` of its columns, and of its index where no text names it, the values of a level of its index that no row has, and the
bits of a NaN. Nothing is unpickled: an array of objects is refused, and the kind that a record names is looked up here and
nowhere else. The header of an array or a tensor is at most 1,000,000 bytes long.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import json
import math
import sys
from typing import TYPE_CHECKING, Any

from checkpoint_manager import _loading
from checkpoint_manager._format.arrow_stream import StreamCheck
from checkpoint_manager._format.unsavable import UnsavableError
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from checkpoint_manager.models import Buffer

    Make = Callable[[Any, Any], "Content | None"]

_ROWS_AT_ONCE = 100_000


_MAX_HEADER_BYTES = 1_000_000
"""The longest header of an array or a tensor."""


class Content(NamedTuple):
    """What an array, a frame or a tensor is stored as.

    Attributes:
        kind: What it is read back as.
        detail: What it is, for people.
        pieces: The bytes. They may share the memory of what they were made of.
        size: Their number; None if it is not known until the pieces end.
    """

    kind: str
    detail: str
    pieces: Iterable[Buffer]
    size: int | None


def content_of(value: object) -> Content | None:
    """Return what a value is stored as; None if it is not an array, a frame or a tensor.

    Raises:
        UnsavableError: It would not come back as it is, or needs a package that is not installed.
    """
    library = _library_of(type(value))
    make, loaded = _WRITERS.get(library), sys.modules.get(library)  # it was imported to make a value of its own
    return None if make is None or loaded is None else make(loaded, value)


def is_content(kind: type) -> bool:
    """Return whether values of a type are arrays, frames or tensors."""
    place = _library_of(kind), kind.__qualname__
    return place in {("numpy", "ndarray"), ("pandas", "DataFrame"), ("polars", "DataFrame"), ("torch", "Tensor")}


def _library_of(kind: type) -> str:
    return str(kind.__module__).partition(".")[0]  # a class may set it to anything


def _array(numpy: Any, array: Any) -> Content | None:  # noqa: ANN401  # the libraries are not needed to check types
    if not isinstance(array, numpy.ndarray):
        return None
    if type(array) is not numpy.ndarray:
        fault = f"is of the type {printable(type(array).__qualname__)}, and would not come back as one"
        is_masked = isinstance(array, numpy.ma.MaskedArray)
        raise UnsavableError(fault, "Save value.data and value.mask" if is_masked else "Convert it with numpy.asarray(value)")
    if array.dtype.kind == "T":
        raise UnsavableError(
            "is an array of text of any length, which a .npy does not hold", "Convert it with value.astype(str)"
        )
    if array.dtype.hasobject:
        fault = "is an array of objects, and reading it back would run code"
        raise UnsavableError(fault, "Convert it to an array of numbers or of text of a fixed length")
    format_ = numpy.lib.format
    if array.dtype.metadata is not None or not _is_same_type(format_, array.dtype):
        raise UnsavableError(f"is an array of {printable(str(array.dtype))}, which would come back as another type", _PLAINER)
    header = io.BytesIO()
    in_fortran_order = array.flags.f_contiguous and not array.flags.c_contiguous
    fields = format_.header_data_from_array_1_0(array)
    try:
        format_.write_array_header_2_0(header, {**fields, "fortran_order": in_fortran_order})
    except UnicodeEncodeError:
        raise UnsavableError("is an array whose fields have names that are not Latin-1", _BY_FIELDS) from None
    if header.tell() > _MAX_HEADER_BYTES:
        raise UnsavableError("is an array of more fields than can be read back", _BY_FIELDS)
    ordered = array.T if in_fortran_order else numpy.ascontiguousarray(array)
    detail = f"{_shape_of(array)} {array.dtype}"
    body = [ordered.reshape(-1).view(numpy.uint8)] if array.nbytes else []
    return Content("numpy", detail, [header.getvalue(), *body], header.tell() + array.nbytes)


_PLAINER = "Convert it to an array of numbers with value.astype(…) or value.view(…)"
_BY_FIELDS = "Save its fields as a dict of arrays"


def _is_same_type(format_: Any, dtype: Any) -> bool:  # noqa: ANN401
    """Return whether a type of elements comes back from the header of a ``.npy``."""
    try:
        back = format_.descr_to_dtype(format_.dtype_to_descr(dtype))
    except (ValueError, TypeError, UserWarning):
        return False
    return bool(type(back) is type(dtype) and back == dtype and repr(back) == repr(dtype))


def _shape_of(value: Any) -> str:  # noqa: ANN401  # an array or a tensor
    return "x".join(map(str, value.shape)) or "scalar"


def _pandas_frame(pandas: Any, frame: Any) -> Content | None:  # noqa: ANN401
    if type(frame) is not pandas.DataFrame:
        return None
    arrow = _package("pyarrow")
    _check_frame(frame)
    try:
        table = _table_of(pandas, arrow, frame)
        back = _frame_of(table.slice(0, 1))  # its types are those of the whole
    except (arrow.ArrowException, ValueError, TypeError):  # its text may hold a value
        table = None
    if table is None:
        places = (place for place in range(frame.shape[1]) if not _is_held(arrow, frame.iloc[:, [place]]))
        which = next((_column(frame, place) for place in places), "its index")
        fault = f"is a frame that would not come back as it is: Arrow can't hold {which}"
        raise UnsavableError(fault, "Convert it, or save the frame in a format of your own, as bytes")
    changed = _changed_column(frame, back)
    is_range = type(frame.index) is pandas.RangeIndex  # of which a slice is none
    if changed is None and (is_range or _index_comes_back(pandas, arrow, frame, back)):
        return Content("pandas", _rows(frame), _batches(arrow, table), None)
    which = "its index" if changed is None else changed
    fault = f"is a frame that would not come back as it is: {which} changes its type"
    raise UnsavableError(fault, "Give it a type that Arrow has, with frame.astype(…) or frame.reset_index()")


def _is_held(arrow: Any, frame: Any) -> bool:  # noqa: ANN401
    """Return whether Arrow can hold the columns of a frame."""
    try:
        arrow.Table.from_pandas(frame, preserve_index=False)
    except (arrow.ArrowException, ValueError, TypeError):
        return False
    return True


def _column(frame: Any, place: int) -> str:  # noqa: ANN401
    """Return what a message calls a column: a name that is not an identifier may be data, such as that of a person."""
    name = frame.columns[place]
    return f"its column {name if type(name) is str and name.isidentifier() else place}"


def _check_frame(frame: Any) -> None:  # noqa: ANN401
    """Raise an :class:`UnsavableError` for what Arrow loses without an error."""
    why = remedy = ""
    objects = [place for place, dtype in enumerate(frame.dtypes) if dtype == "object"]
    missing = [
        place
        for place, ((_, column), kind) in enumerate(zip(frame.items(), frame.dtypes, strict=True))
        if _has_nan_beside_na(column, kind)
    ]
    if objects:
        why = f"{_column(frame, objects[0])} is of objects"
        remedy = "Give each column a type, with frame.astype(…) or frame.convert_dtypes()"
    elif missing:
        why, remedy = f"{_column(frame, missing[0])} has NaN beside NA", "Convert one to the other"
    elif not all(name is None or type(name) is str for name in frame.index.names):
        why, remedy = "the name of its index is not text", "Name it by a text, with frame.rename_axis(…)"
    elif any(dtype == "object" for dtype in _types_of_index(frame.index)):
        why, remedy = "its index is of objects", "Give it a type, or save frame.reset_index()"
    elif str(frame.columns.inferred_type).startswith("mixed") and frame.columns.nlevels == 1:
        why, remedy = "the names of its columns are of several types", "Rename them, with frame.rename(columns=str)"
    elif frame.columns.has_duplicates:
        why, remedy = "two of its columns have the same name", "Give each column a name of its own"
    elif frame.attrs or not frame.flags.allows_duplicate_labels:
        why, remedy = "its attrs and flags are not kept", "Save them beside a frame without them"
    if why:
        raise UnsavableError(f"is a frame that would not come back as it is: {why}", remedy)


def _has_nan_beside_na(column: Any, kind: Any) -> bool:  # noqa: ANN401
    if str(kind) not in {"Float32", "Float64"}:
        return False
    plain = column.to_numpy(dtype="f8", na_value=0.0)
    return bool((plain != plain).any())  # noqa: PLR0124  # NaN


_NOTES = b"checkpoint-manager"


def _table_of(pandas: Any, arrow: Any, frame: Any) -> Any:  # noqa: ANN401
    table = arrow.Table.from_pandas(frame)
    noted = json.dumps(_notes_of(pandas, frame)).encode()
    return table.replace_schema_metadata({**table.schema.metadata, _NOTES: noted})


def _notes_of(pandas: Any, frame: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return what Arrow does not tell of a frame."""
    columns = frame.columns
    labels = [columns.start, columns.stop, columns.step] if type(columns) is pandas.RangeIndex else None
    zones = [getattr(frame.index.dtype, "tz", None), *(getattr(dtype, "tz", None) for dtype in frame.dtypes)]
    notes = {"columns": labels, "utc": [place - 1 for place, zone in enumerate(zones) if zone is dt.UTC]}
    with contextlib.suppress(AttributeError, ValueError):  # it is not an index of times; no text names its frequency
        text, freq = frame.index.freqstr, frame.index.freq
        if freq is not None and frame.index.dtype.kind in "mM" and pandas.tseries.frequencies.to_offset(text) == freq:
            notes["freq"] = text
    if frame.index.nlevels > 1:
        notes["levels"] = [place for place, each in enumerate(frame.index.levels) if getattr(each, "tz", None) is dt.UTC]
    return notes


def _frame_of(table: Any) -> Any:  # noqa: ANN401
    """Return the frame that a table of Arrow was made of."""
    notes = json.loads((table.schema.metadata or {}).get(_NOTES, b'{"columns":null,"utc":[]}'))
    frame = table.to_pandas()
    for place in notes["utc"]:
        if place < 0:
            frame.index = frame.index.tz_convert(dt.UTC)
        else:
            frame.isetitem(place, frame.iloc[:, place].dt.tz_convert(dt.UTC))
    for place in notes.get("levels", ()):
        frame.index = frame.index.set_levels(frame.index.levels[place].tz_convert(dt.UTC), level=place)
    if "freq" in notes:
        with contextlib.suppress(ValueError):  # pandas lets an index have one that it does not conform to
            frame.index.freq = notes["freq"]
    if notes["columns"] is not None:
        frame.columns = sys.modules["pandas"].RangeIndex(*notes["columns"], name=frame.columns.name)
    return frame


def _changed_column(frame: Any, back: Any) -> str | None:  # noqa: ANN401
    """Return which column has another type in a part of a frame that came back; None if none has."""
    if not _is_same_index(frame.columns, back.columns) or list(frame.columns) != list(back.columns):
        return "the index of its columns"
    for place, (one, other) in enumerate(zip(frame.dtypes, back.dtypes, strict=True)):
        if one != other or getattr(one, "tz", None) != getattr(other, "tz", None):
            return _column(frame, place)
    return None


def _index_comes_back(pandas: Any, arrow: Any, frame: Any, back: Any) -> bool:  # noqa: ANN401
    """Return whether the index of a frame comes back as it was.

    ``back`` is its first row, read back. That is enough for one level; several levels are written and read as a whole.
    """
    if frame.index.nlevels == 1:
        return _is_same_index(frame.index, back.index)
    rows = pandas.DataFrame({"": False}, index=frame.index)
    whole = _frame_of(_table_of(pandas, arrow, rows)).index  # a missing value changes the type of its level
    return _is_same_index(frame.index, whole) and bool(frame.index.equals(whole))


def _is_same_index(one: Any, other: Any) -> bool:  # noqa: ANN401
    """Return whether two indexes are of the same types, and have the same names."""
    types, others = _types_of_index(one), _types_of_index(other)
    is_same = type(one) is type(other) and types == others and list(map(repr, one.names)) == list(map(repr, other.names))
    return is_same and [getattr(each, "tz", None) for each in types] == [getattr(each, "tz", None) for each in others]


def _types_of_index(index: Any) -> list[Any]:  # noqa: ANN401
    """Return the type of an index, or those of its levels."""
    return [index.dtype] if index.nlevels == 1 else [level.dtype for level in index.levels]


def _batches(arrow: Any, table: Any) -> Iterator[bytes]:  # noqa: ANN401
    """Yield a table as a stream of Arrow's IPC format, one batch at a time."""
    written = io.BytesIO()
    with arrow.ipc.new_stream(written, table.schema) as stream:
        for batch in table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            stream.write_batch(batch)
            yield written.getvalue()
            written.seek(0)
            written.truncate()
    yield written.getvalue()


def _polars_frame(polars: Any, frame: Any) -> Content | None:  # noqa: ANN401
    if type(frame) is not polars.DataFrame:
        return None
    if any(dtype == polars.Object for dtype in frame.schema.values()):
        fault = "is a frame with a column of objects, and would not come back as it is"
        raise UnsavableError(fault, "Give the column a type, with frame.cast(…)")
    part, written = io.BytesIO(), io.BytesIO()
    frame.head(1).write_ipc_stream(part)
    try:
        is_same = polars.read_ipc_stream(part.getvalue()).schema == frame.schema
    except polars.exceptions.PolarsError:
        is_same = False
    if not is_same:
        fault = "is a frame with a column that Arrow's format does not hold"
        raise UnsavableError(fault, "Give the column another type, with frame.cast(…)")
    frame.write_ipc_stream(written, compression="uncompressed")
    return Content("polars", _rows(frame), [written.getbuffer()], written.tell())


def _rows(frame: Any) -> str:  # noqa: ANN401
    return f"{frame.shape[0]} rows, {frame.shape[1]} columns"


_TENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "C64": "complex64",
}
"""The types of elements by their names in safetensors, and in torch."""


def _tensor(torch: Any, tensor: Any) -> Content | None:  # noqa: ANN401
    if not isinstance(tensor, torch.Tensor):
        return None
    if type(tensor) is not torch.Tensor or tensor.requires_grad or vars(tensor):
        fault = "is a tensor with a gradient or attributes, which would not come back with them"
        raise UnsavableError(fault, "Convert it with value.detach()")
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        fault = "is a tensor on another device, or sparse, and would not come back as one"
        raise UnsavableError(fault, "Convert it with value.cpu() or value.to_dense()")
    name = next((name for name, each in _TENSORS.items() if tensor.dtype == getattr(torch, each, None)), None)
    if name is None:
        raise UnsavableError(f"is a tensor of {tensor.dtype}, which safetensors can't hold", "Convert it with value.to(…)")
    size = tensor.numel() * tensor.element_size()
    fields = {"tensor": {"dtype": name, "shape": list(tensor.shape), "data_offsets": [0, size]}}
    header = json.dumps(fields, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    body = [memory_of_tensor(torch, tensor)] if size else []
    opening = len(header).to_bytes(8, "little") + header
    return Content("torch", f"{_shape_of(tensor)} {_TENSORS[name]}", [opening, *body], len(opening) + size)


def memory_of_tensor(torch: Any, tensor: Any) -> Any:  # noqa: ANN401
    """Return the elements of a tensor that has some, as an array of bytes: its own memory where they lie in their order.

    Raises:
        UnsavableError: numpy, which is needed for this, is not installed.
    """
    _package("numpy")
    flat = tensor.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    if flat.stride(0) != 1:  # one element out of another tensor
        flat = flat.clone(memory_format=torch.contiguous_format)
    return flat.view(torch.uint8).numpy()


_WRITERS: dict[str, Make] = {"numpy": _array, "pandas": _pandas_frame, "polars": _polars_frame, "torch": _tensor}
"""By the library that a type comes from, what makes a content of a value."""


def value_of(kind: str, file: Any, what: str) -> object:  # noqa: ANN401  # a binary file
    """Return what a content is, by its kind.

    Args:
        kind: The kind.
        file: A binary file that holds the content and nothing else.
        what: What it is to the caller, for the message of an error.

    Raises:
        CheckpointError: The package that it needs is not installed.
        FormatError: Its kind is not known, or its content is not of its kind.
    """
    reader = _READERS.get(kind)
    if reader is None:
        message = f"{what} is of the unknown kind {printable(kind)}"
        raise FormatError(message, hint="Use the version of checkpoint_manager that wrote it, or read the attachment as bytes")
    try:
        return reader(_package(kind), file)
    except UnsavableError as error:
        raise CheckpointError(f"{what} {error.fault}", hint=error.remedy) from None
    except (CheckpointError, MemoryError, TimeoutError):  # of the file, of the machine, and of a handler of a signal
        raise
    except Exception as error:  # noqa: BLE001  # whatever a library raises for what it did not write
        message = f"{what} can't be read as one of {kind}: {printable(str(error))}"
        raise FormatError(message, hint="Read the attachment as bytes, or load another version") from None


def _package(name: str) -> Any:  # noqa: ANN401
    try:
        return _loading.load(name)
    except ImportError:
        raise UnsavableError(f"needs {name}, which is not installed", f"pip install {name}") from None


def _read_pandas(_: Any, file: Any) -> object:  # noqa: ANN401
    checked = _Checked(file)
    with _package("pyarrow").ipc.open_stream(checked) as stream:
        table = stream.read_all()
    if table.num_columns and table.num_rows > 8 * checked.size:
        raise ValueError("it has more rows than bits")  # of a type that takes no memory here, and much in pandas
    return _frame_of(table)


class _Checked(io.RawIOBase):
    """An Arrow stream that is checked as it is read.

    No more is asked of the file than is left: a buffered file allocates what it is asked for, and a forged length may be huge.

    Attributes:
        size: Its length in bytes.
    """

    def __init__(self, file: Any) -> None:  # noqa: ANN401
        self._file = file
        self._left = self.size = _left_in(file)
        self._check = StreamCheck(self.size)

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        piece: bytes = self._file.read(min(size, self._left))
        self._left -= len(piece)
        self._check.feed(piece)
        return piece


def _read_polars(polars: Any, file: Any) -> object:  # noqa: ANN401
    stream = file.read()
    StreamCheck(len(stream)).feed(memoryview(stream))
    try:
        return polars.read_ipc_stream(stream)
    except polars.exceptions.PanicException as error:  # which is not an Exception
        raise ValueError(str(error)) from None


def _read_array(numpy: Any, file: Any) -> object:  # noqa: ANN401  # numpy is not needed to check the types of this package
    head = io.BytesIO(file.read(_MAX_HEADER_BYTES))
    version = numpy.lib.format.read_magic(head)
    header = numpy.lib.format.read_array_header_2_0 if version == (2, 0) else numpy.lib.format.read_array_header_1_0
    try:
        shape, in_fortran_order, dtype = header(head, max_header_size=_MAX_HEADER_BYTES)
    except MemoryError:  # what Python's parser raises for it
        raise ValueError("its header is nested too deeply") from None
    if dtype.hasobject:
        raise ValueError("it holds objects")
    file.seek(head.tell())
    _check_length(file, shape, dtype.itemsize)
    array = numpy.ndarray(shape, dtype, order="F" if in_fortran_order else "C")  # numpy.empty makes <U1 of <U0
    if array.nbytes:
        _fill((array.T if in_fortran_order else array).reshape(-1).view(numpy.uint8), file)
    return array


def _read_tensor(torch: Any, file: Any) -> object:  # noqa: ANN401
    length = int.from_bytes(file.read(8), "little")
    if length > _MAX_HEADER_BYTES:
        raise ValueError("its header is too long")
    fields = json.loads(file.read(length))["tensor"]
    dtype, shape = getattr(torch, _TENSORS[fields["dtype"]]), fields["shape"]
    if type(shape) is not list or any(type(each) is not int for each in shape):
        raise ValueError("its shape is not a list of integers")
    size = _check_length(file, shape, dtype.itemsize)
    if fields["data_offsets"] != [0, size]:
        raise ValueError("its length is not that of its shape")
    _package("numpy")
    tensor = torch.empty(shape, dtype=dtype)
    if size:
        _fill(tensor.reshape(-1).view(torch.uint8).numpy(), file)
    return tensor


def _check_length(file: Any, shape: Sequence[int], of_one: int) -> int:  # noqa: ANN401
    """Return the length of the rest of a file, if the elements of a shape have it: before memory is taken for them."""
    left = _left_in(file)
    if min(shape, default=0) < 0 or math.prod(shape) * of_one != left:
        raise ValueError("its length is not that of its shape")
    return left


def _left_in(file: Any) -> int:  # noqa: ANN401
    at = file.tell()
    left: int = file.seek(0, io.SEEK_END) - at
    file.seek(at)
    return left


def _fill(memory: Any, file: Any) -> None:  # noqa: ANN401
    """Read the rest of a file into memory of its length."""
    if file.readinto(memory) != len(memory):
        raise EOFError("it ends early")


_READERS: dict[str, Callable[[Any, Any], object]] = {
    "numpy": _read_array,
    "pandas": _read_pandas,
    "polars": _read_polars,
    "torch": _read_tensor,
}
"""By its kind, what reads a content: called with the library of that name, and the file."""
