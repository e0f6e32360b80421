"""Contents that are more than bytes: how arrays are attached and read back. Loaded when one is met.

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
    from checkpoint_manager._operations.attach import StoredAttachment


def source_of(content: object, what: str) -> Source | None:
    """Return the source that a content is; None if its type is not known.

    Args:
        content: The content.
        what: What it is to the caller, for the message of an error.

    Raises:
        PayloadError: It is an array of objects.
    """
    numpy: Any = sys.modules.get("numpy")  # whoever gives an array has imported it
    if numpy is None or not isinstance(content, numpy.ndarray):
        return None
    array: Any = content
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


def load(attachment: StoredAttachment) -> object:
    """Return what an attachment is, by its kind.

    Raises:
        CheckpointError: The package that it needs is not installed.
        FormatError: Its kind is not known, or its content is not of its kind.
    """
    if attachment.kind != "numpy":
        message = f"the attachment {printable(attachment.name)} is of the unknown kind {printable(attachment.kind)}"
        raise FormatError(message, hint="Use the version of checkpoint_manager that wrote it, or read the attachment as bytes")
    try:
        numpy = _loading.load("numpy")
    except ImportError:
        message = f"the attachment {printable(attachment.name)} is a numpy array, and numpy is not installed"
        raise CheckpointError(message, hint="pip install numpy") from None
    with attachment.open() as file:
        try:
            return _read_array(numpy, file)
        except (ValueError, TypeError, SyntaxError, KeyError, EOFError) as error:
            message = f"the attachment {printable(attachment.name)} is not a numpy array: {printable(str(error))}"
            raise FormatError(message, hint="Read the attachment as bytes") from None


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
