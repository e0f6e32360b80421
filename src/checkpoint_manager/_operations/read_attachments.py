"""Read the attachments of a version, and the arrays, frames and tensors in its data."""

from __future__ import annotations

import base64
import contextlib
import functools
import io
import os
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO

from checkpoint_manager import _loading
from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager._format import attachment as attachment_format
from checkpoint_manager._format import embedded, seal
from checkpoint_manager._store.attachments import SegmentFile, Segments
from checkpoint_manager._text import printable
from checkpoint_manager.errors import Hint, StorageError
from checkpoint_manager.models import Attachment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from checkpoint_manager._format.attachment import AttachmentRecord
    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._format.embedded import OpenContents
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import Buffer

_READ_AT_ONCE = 2
"""How many segments are read at once where all of them are read in their order; so many are in memory."""


class _Part(Attachment):
    """An array, a frame or a tensor in the data of a version."""

    __slots__ = ("_opened",)

    def __init__(self, name: str, content: Sequence[Any], size: int, opened: Callable[[], BinaryIO]) -> None:
        super().__init__(name, content[0], size, content[1])
        self._opened = opened

    def open(self) -> BinaryIO:
        return self._opened()

    def read(self) -> bytes:
        with self.open() as file:
            return file.read()

    def load(self) -> Any:  # noqa: ANN401  # what it is depends on its kind
        if self.kind in {"bytes", "file"}:
            return self.read()
        contents = _loading.load("checkpoint_manager._format.contents")
        with self.open() as file:
            return contents.value_of(self.kind, file, f"the attachment {printable(self.name)}")

    def save_to(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        place = os.fspath(path)
        directory, name = os.path.split(os.path.abspath(place))
        with self._writing_to(place), files.open_directory(directory) as folder:
            if not overwrite and files.exists(name, folder):
                raise StorageError(f"{printable(place)} exists already", hint=Hint.OVERWRITE)
            with files.temporary(folder) as temporary:
                self._write_new(temporary, folder, place)
                if overwrite:
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                else:
                    files.publish(temporary, name, folder)
            files.sync(folder)

    def _writing_to(self, place: str) -> as_our_errors:
        return as_our_errors(f"save the attachment {printable(self.name)} to", place)

    def _write_new(self, name: str, folder: int, _: str) -> None:
        with self.open() as file:
            files.write_new(name, folder, iter(lambda: file.read(seal.SLICE_BYTES), b""), durable=True)


class StoredAttachment(_Part):
    """An attachment of one version."""

    __slots__ = ("_record", "_stage", "_store", "_version")

    def __init__(self, store: Store, stage: str, version: int, record: AttachmentRecord) -> None:
        super().__init__(record.name, (record.kind, record.detail), record.size, self._open_segments)
        self._store = store
        self._stage = stage
        self._version = version
        self._record = record

    def record(self, store: Store, stage: str) -> AttachmentRecord | None:
        """Return the record if it can be referred to by another version of this stage, else None."""
        return self._record if self._store is store and self._stage == stage else None

    def _segments(self) -> Segments:
        return Segments(self._store, self._stage, self._version, self._record)

    def _open_segments(self) -> BinaryIO:
        return io.BufferedReader(SegmentFile(self._segments(), 0, self.size), seal.SLICE_BYTES)

    def pieces(self) -> Iterator[memoryview]:
        """Yield all segments; errors as in :func:`~checkpoint_manager._store.attachments.read_segment_into`."""
        segments, count = self._segments(), len(self._record.digests)
        for first in range(0, count, _READ_AT_ONCE):
            indexes = range(first, min(first + _READ_AT_ONCE, count))
            lengths = (attachment_format.segment_length(self.size, index) for index in indexes)
            contents = deque(map(attachment_format.new_memory, lengths))
            segments.read(zip(indexes, contents, strict=True))
            while contents:
                yield contents.popleft()

    def _write_new(self, name: str, folder: int, place: str) -> None:
        with files.new_file(name, folder) as descriptor:

            def write(index: int, pieces: Iterable[Buffer]) -> None:
                with self._writing_to(place):  # else the reading around it would report the error as its own
                    files.write_at(descriptor, index * attachment_format.SEGMENT_BYTES, pieces)

            indexes = range(len(self._record.digests))
            self._segments().read((index, functools.partial(write, index)) for index in indexes)

    def read(self) -> bytes:
        content = io.BytesIO(bytes(self.size))  # whose bytes are filled in place, and returned without a copy
        if self.size:
            with content.getbuffer() as memory:
                self._segments().read_into(0, memory)
        else:
            self._segments().get(0)
        return content.getvalue()


def of(store: Store, stage: str, version: int, entry: Entry) -> dict[str, Attachment]:
    """Return the attachments of a version by name."""
    users = (each for each in entry.attachments if each.name != attachment_format.CONTENTS)
    return {each.name: StoredAttachment(store, stage, version, each) for each in users}


def parts_of(data: Any, contents: OpenContents | None) -> dict[str, Attachment]:  # noqa: ANN401  # JSON is what it is
    """Return the arrays, frames and tensors in data by the JSON pointers to them.

    Args:
        data: The data as JSON, with forms.
        contents: Where those are read from that are not in it.
    """
    found: dict[str, Attachment] = {}
    at = 0
    for pointer, content in embedded.forms_in(data):
        where = content[2]
        if type(where) is str:
            with contextlib.suppress(ValueError):  # only whoever has the key could have written it
                there = base64.b64decode(where.encode(), validate=True)
                found[pointer] = _Part(pointer, content, len(there), functools.partial(io.BytesIO, there))
        elif contents is not None and 0 <= where <= contents.size - at:
            found[pointer] = _Part(pointer, content, where, functools.partial(contents.open, at, where))
            at += where
    return found
