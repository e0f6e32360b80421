"""The arrays, frames and tensors in data: small ones are part of it, and the others are in one attachment of the version.

The encodings ``values/2`` and ``values/3`` are ``values/1`` (:mod:`checkpoint_manager._format.values`) and one form more, of
which they hold at least one. What stands in a form is a content (:mod:`checkpoint_manager._format.contents`):

============  =================================================================================================================
``!content``  ``[kind,detail,base64]``: the content is in the text, as that of ``!bytes``. Or, in ``values/2``,
              ``[kind,detail,size,digest]``, and in ``values/3`` ``[kind,detail,size]``: the content is in the version's
              attachment ``@contents``, which holds the contents in the order of their forms in the JSON; ``size`` is its length
              in bytes, and ``digest`` its SHA-256 in 64 lower-case hex digits
============  =================================================================================================================

``kind`` and ``detail`` are those of a content, and ``detail`` is for people. The form does not stand in a set, nor in a key of
a dict. An attachment without contents is not written. A reader MUST refuse a form in a set or a key, data without one, and an
attachment that is not as long as its contents together. It need not compare the digests, as each segment of an attachment is
verified and belongs to the version. By them, what is passed on from one stage to the next is recognised, so results and states
are ``values/2``. To save anything else they would only take time, nearly as much as all the rest: it is ``values/3``, or
``values/2`` if all contents are in the text.
"""

from __future__ import annotations

import base64
import hashlib
import io
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

import orjson

from checkpoint_manager._format.attachment import SEGMENT_BYTES
from checkpoint_manager._loading import load
from checkpoint_manager.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._format.contents import Content
    from checkpoint_manager.models import Buffer

VALUES_2 = b"values/2\n"
VALUES_3 = b"values/3\n"
"""The starts of data that holds contents."""
TAG = "!content"
INLINE_BYTES = 4096
"""The longest content that is written into the data."""


class OpenContents(Protocol):
    """Where the contents of data are read from: its attachment, or the memory."""

    size: int

    def open(self, start: int, size: int) -> BinaryIO:
        """Return a part of them as a file."""


class Embedded:
    """The contents of data that is being encoded.

    Attributes:
        size: The length of those that are not in the data, in bytes; None if it is not known until they end.
        is_used: Whether there are contents, in the data or not.
        tree: The data as JSON with forms.
    """

    size: int | None = 0

    def __init__(self) -> None:
        self._forms: list[tuple[list[Any], Iterator[Buffer]]] = []
        self._is_identified = False
        self.is_used = False
        self.tree: Any = None

    def __bool__(self) -> bool:
        """Whether there are contents that are not in the data."""
        return bool(self._forms)

    def add(self, content: Content) -> dict[str, Any]:
        """Return the form of a content. If it is not in the form, its length is known after :meth:`pieces`."""
        self.is_used = True
        pieces, head = iter(content.pieces), b""
        size = content.size
        while size is None and len(head) <= INLINE_BYTES:
            piece = next(pieces, None)
            if piece is None:
                size = len(head)
            else:
                head += piece
        if size is not None and size <= INLINE_BYTES:
            return {TAG: [content.kind, content.detail, base64.b64encode(head + b"".join(pieces)).decode()]}
        form = [content.kind, content.detail, size or 0, ""]
        self._forms.append((form, _chain(head, pieces)))
        self.size = None if size is None or self.size is None else self.size + size
        return {TAG: form}

    def identify(self) -> None:
        """Have :meth:`pieces` complete the forms with digests, too."""
        self._is_identified = True

    def pieces(self) -> Iterator[Buffer]:
        """Yield the contents that are not in the data, one behind the other, and complete their forms."""
        at = 0
        for form, pieces in self._forms:
            digest, start = hashlib.sha256() if self._is_identified else None, at
            for piece in pieces:
                view = memoryview(piece).cast("B")
                while view:
                    part = view[: SEGMENT_BYTES - at % SEGMENT_BYTES]  # so that a whole segment is not copied
                    if digest is not None:
                        digest.update(part)
                    yield part
                    at += len(part)
                    view = view[len(part) :]
            form[2:] = [at - start] if digest is None else [at - start, digest.hexdigest()]

    def data(self) -> bytes:
        """Return the encoded data, once :meth:`pieces` has ended."""
        return (VALUES_3 if self._forms and not self._is_identified else VALUES_2) + orjson.dumps(self.tree)

    def digest(self) -> bytes:
        """Return the encoded data with digests, for which the contents are read."""
        self.identify()
        for _ in self.pieces():
            pass
        return self.data()

    def hold(self) -> Held:
        """Return copies of the contents, which no longer depend on the values."""
        contents = b"".join(self.pieces())
        return Held(self.data(), contents)


class Held(Embedded):
    """The contents of encoded data, held in memory.

    Args:
        data: The encoded data.
        contents: What is not in it.
    """

    size: int

    def __init__(self, data: bytes, contents: bytes) -> None:
        super().__init__()
        self._data = data
        self._contents = contents
        self.size = len(contents)

    def pieces(self) -> Iterator[Buffer]:
        """Yield the contents."""
        yield self._contents

    def identify(self) -> None:
        """Complete the forms with digests."""
        if self._data.startswith(VALUES_3):
            tree, at = orjson.loads(memoryview(self._data)[len(VALUES_3) :]), 0
            for content in stored_forms(tree):
                content.append(hashlib.sha256(memoryview(self._contents)[at : at + content[2]]).hexdigest())
                at += content[2]
            self._data = VALUES_2 + orjson.dumps(tree)

    def data(self) -> bytes:
        """Return the encoded data."""
        return self._data

    def open(self, start: int, size: int) -> BinaryIO:
        """Return a part of the contents as a file."""
        return io.BytesIO(memoryview(self._contents)[start : start + size])


def _chain(head: bytes, pieces: Iterator[Buffer]) -> Iterator[Buffer]:
    if head:
        yield head
    yield from pieces


class Reader:
    """Reads the contents of data, in the order of their forms.

    Args:
        stored: The contents that are not in the data; None if there are none.
        mark: The start of the data.
    """

    def __init__(self, stored: OpenContents | None, mark: Buffer) -> None:
        self._stored = stored
        self._fields = [str, str, int] if mark == VALUES_3 else [str, str, int, str]
        self._at = 0
        self._is_used = False

    def read(self, content: Any) -> object:  # noqa: ANN401  # what stands in a form
        """Return the value of a form.

        Raises:
            FormatError: It is not valid.
        """
        if type(content) is not list or [type(each) for each in content] not in ([str] * 3, self._fields):
            raise _invalid()
        self._is_used = True
        kind, _, where = content[:3]
        if type(where) is str:
            try:
                content_here = base64.b64decode(where.encode(), validate=True)
            except ValueError:
                raise _invalid() from None
            if base64.b64encode(content_here).decode() != where:
                raise _invalid()
            file: BinaryIO = io.BytesIO(content_here)
        else:
            if self._stored is None or not 0 <= where <= self._stored.size - self._at:
                raise _invalid()
            file = self._stored.open(self._at, where)
            self._at += where
        with file:
            value: object = load("checkpoint_manager._format.contents").value_of(kind, file, "the data")
        return value

    def check_end(self) -> None:
        """Raise a :class:`FormatError` if there are contents that no form has read, or no form was read."""
        if not self._is_used or (self._stored is not None and self._at != self._stored.size):
            raise _invalid()


def forms_in(tree: Any) -> Iterator[tuple[str, list[Any]]]:  # noqa: ANN401  # JSON is what it is
    """Yield where each form stands in JSON, as a JSON pointer (RFC 6901), and what stands in it, in their order."""
    waiting = [("", tree)]
    while waiting:
        at, each = waiting.pop()
        if type(each) is dict and each.keys() == {TAG}:
            content = each[TAG]
            if type(content) is list and [type(field) for field in content[:3]] in ([str, str, int], [str] * 3):
                yield at, content
        elif type(each) is dict:
            inside = [(f"{at}/{key.replace('~', '~0').replace('/', '~1')}", value) for key, value in each.items()]
            waiting += reversed(inside)
        elif type(each) is list:
            waiting += reversed([(f"{at}/{index}", value) for index, value in enumerate(each)])


def stored_forms(tree: Any) -> Iterator[list[Any]]:  # noqa: ANN401  # JSON is what it is
    """Yield what stands in each form whose content is not in the form, in their order."""
    return (content for _, content in forms_in(tree) if type(content[2]) is int)


def _invalid() -> FormatError:
    return FormatError(f"the data holds a {TAG} that is not valid", hint="Load another version")
