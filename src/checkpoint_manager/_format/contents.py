"""Contents that are more than bytes: how arrays and frames are attached and read back. Loaded when one is met.

An array is stored as numpy's ``.npy``, a frame as a stream of Arrow's IPC format. What comes back is equal and of the same
types; how an array lay in memory, and the ``freq`` of an index of pandas, are not kept.

Nothing is unpickled: an array of objects is refused, and the kind that a record names is looked up here and nowhere else.
"""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from checkpoint_manager import _loading
from checkpoint_manager._operations.attach import Source
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, FormatError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._operations.attach import StoredAttachment

_ROWS_AT_ONCE = 100_000


def source_of(content: object, what: str) -> Source | None:
    """Return the source that a content is; None if its type is not known.

    Args:
        content: The content.
        what: What it is to the caller, for the message of an error.

    Raises:
        PayloadError: It would not come back as it is.
        CheckpointError: It needs a package that is not installed.
    """
    library = type(content).__module__.partition(".")[0]
    make = {"numpy": _array, "pandas": _pandas_frame, "polars": _polars_frame}.get(library)
    return None if make is None else make(sys.modules[library], content, what)  # whoever has one has imported its library


def _array(numpy: Any, array: Any, what: str) -> Source | None:  # noqa: ANN401  # the libraries are not needed to check types
    if not isinstance(array, numpy.ndarray):
        return None
    if array.dtype.hasobject:
        message = f"{what} is an array of objects, and reading it back would run code"
        raise PayloadError(message, hint="Convert it to an array of numbers or of text of a fixed length")
    if type(array) is not numpy.ndarray:
        message = f"{what} is of the type {printable(type(array).__qualname__)}, and would not come back as one"
        raise PayloadError(message, hint="Attach numpy.asarray(array)")
    header = io.BytesIO()
    in_fortran_order = array.flags.f_contiguous and not array.flags.c_contiguous
    fields = numpy.lib.format.header_data_from_array_1_0(array)
    numpy.lib.format.write_array_header_2_0(header, {**fields, "fortran_order": in_fortran_order})
    ordered = array.T if in_fortran_order else numpy.ascontiguousarray(array)
    detail = f"{'x'.join(map(str, array.shape)) or 'scalar'} {array.dtype}"
    body = [ordered.reshape(-1).view(numpy.uint8)] if array.size else []
    return Source("numpy", [header.getvalue(), *body], detail, header.tell() + array.nbytes)


def _pandas_frame(pandas: Any, frame: Any, what: str) -> Source | None:  # noqa: ANN401
    if type(frame) is not pandas.DataFrame:
        return None
    arrow = _package("pyarrow", what)
    objects = [str(name) for name, dtype in frame.dtypes.items() if dtype == "object"]
    if objects or frame.index.dtype == "object" or frame.columns.has_duplicates or frame.attrs:
        why = f"its column {printable(objects[0])} is of objects" if objects else "of its index, its labels, or its attrs"
        message = f"{what} is a frame that would not come back as it is: {why}"
        raise PayloadError(message, hint="Give each column a type, with frame.astype(…) or frame.convert_dtypes()")
    try:
        table = arrow.Table.from_pandas(frame)
        back = table.slice(0, 1).to_pandas()  # its types are those of the whole
    except (arrow.ArrowException, ValueError, TypeError) as error:
        message = f"{what} is a frame that Arrow can't hold: {printable(str(error))}"
        raise PayloadError(message, hint="Convert the column, or attach the frame in a format of your own") from None
    changed = [str(name) for name in frame.columns if name not in back.columns or back.dtypes[name] != frame.dtypes[name]]
    if changed or back.index.dtype != frame.index.dtype or back.index.names != frame.index.names:
        which = f"its column {printable(changed[0])}" if changed else "its index"
        message = f"{what} is a frame that would not come back as it is: {which} changes its type"
        raise PayloadError(message, hint="Give it a type that Arrow has, with frame.astype(…) or frame.reset_index()")
    return Source("pandas", _batches(arrow, table), _shape(frame))


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


def _polars_frame(polars: Any, frame: Any, what: str) -> Source | None:  # noqa: ANN401
    if type(frame) is not polars.DataFrame:
        return None
    if any(dtype == polars.Object for dtype in frame.schema.values()):
        message = f"{what} is a frame with a column of objects, and would not come back as it is"
        raise PayloadError(message, hint="Give the column a type, with frame.cast(…)")
    written = io.BytesIO()
    frame.write_ipc_stream(written)
    return Source("polars", [written.getbuffer()], _shape(frame), written.tell())


def _shape(frame: Any) -> str:  # noqa: ANN401
    return f"{frame.shape[0]} rows, {frame.shape[1]} columns"


def load(attachment: StoredAttachment) -> object:
    """Return what an attachment is, by its kind.

    Raises:
        CheckpointError: The package that it needs is not installed.
        FormatError: Its kind is not known, or its content is not of its kind.
    """
    what = f"the attachment {printable(attachment.name)}"
    reader = {"numpy": _read_array, "pandas": _read_pandas, "polars": _read_polars}.get(attachment.kind)
    if reader is None:
        message = f"{what} is of the unknown kind {printable(attachment.kind)}"
        raise FormatError(message, hint="Use the version of checkpoint_manager that wrote it, or read the attachment as bytes")
    library = _package(attachment.kind, what)
    broken: tuple[type[Exception], ...] = (ValueError, TypeError, SyntaxError, KeyError, EOFError, OSError)
    if attachment.kind == "polars":
        broken += (library.exceptions.PolarsError,)
    with attachment.open() as file:
        try:
            return reader(library, file)
        except broken as error:
            if isinstance(error, CheckpointError):  # of the content
                raise
            message = f"{what} can't be read as one of {attachment.kind}: {printable(str(error))}"
            raise FormatError(message, hint="Read the attachment as bytes") from None


def _package(name: str, what: str) -> Any:  # noqa: ANN401
    try:
        return _loading.load(name)
    except ImportError:
        raise CheckpointError(f"{what} needs {name}, which is not installed", hint=f"pip install {name}") from None


def _read_pandas(_: Any, file: Any) -> object:  # noqa: ANN401
    arrow = _package("pyarrow", "a frame of pandas")
    with arrow.ipc.open_stream(file) as stream:
        return stream.read_all().to_pandas()


def _read_polars(polars: Any, file: Any) -> object:  # noqa: ANN401
    return polars.read_ipc_stream(file.read())


def _read_array(numpy: Any, file: Any) -> object:  # noqa: ANN401  # numpy is not needed to check the types of this package
    version = numpy.lib.format.read_magic(file)
    header = numpy.lib.format.read_array_header_2_0 if version == (2, 0) else numpy.lib.format.read_array_header_1_0
    shape, in_fortran_order, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("it holds objects")
    array = numpy.empty(shape, dtype, order="F" if in_fortran_order else "C")
    flat = (array.T if in_fortran_order else array).reshape(-1).view(numpy.uint8) if array.size else b""
    view = memoryview(flat)
    filled = 0
    while filled < len(view) and (count := file.readinto(view[filled:])):
        filled += count
    if filled < len(view) or file.read(1):
        raise ValueError("its length is not that of its shape")
    return array
