"""The attachments of a version as they are stored: whether they are there, the content of a segment, and reading as a file."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

from checkpoint_manager._format import attachment as format_1
from checkpoint_manager._format import seal
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import Hint, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._format.attachment import AttachmentRecord
    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store


def check_there(store: Store, stage: str, records: Iterable[AttachmentRecord]) -> None:
    """Raise an error if an attachment is not there as a whole.

    Raises:
        IntegrityError: It is not. It may have been deleted with the last version that referred to it.
    """
    for each in records:
        if not is_there(store, stage, each):
            where = f"{described(each)} of stage {printable(stage)} in {store.backend.location}"
            hint = "Attach it again from where it came from"
            raise IntegrityError(f"{where} is gone, or is not whole", hint=hint, stage=stage)


def described(record: AttachmentRecord) -> str:
    """Return what an attachment is to people: those that are not the user's hold the arrays of the data."""
    return "the arrays in the data" if record.name == format_1.CONTENTS else f"the attachment {printable(record.name)}"


def is_there(store: Store, stage: str, record: AttachmentRecord) -> bool:
    """Return whether all segments of an attachment are there with their lengths. Their content is not read."""
    lengths = (format_1.segment_length(record.size, index) for index in range(len(record.digests)))
    return store.backend.segment_sizes(stage, record.id) == [seal.sealed_length(length) for length in lengths]


def read_segment(store: Store, stage: str, version: int, record: AttachmentRecord, index: int) -> bytearray:
    """Return the content of one segment, verified as a whole.

    Raises:
        IntegrityError: It is missing, damaged or forged.
    """
    place = f"version {version} of stage {printable(stage)} in {store.backend.location}"
    where = f"{described(record)} of {place}"
    length = format_1.segment_length(record.size, index)
    last = index == len(record.digests) - 1
    context = format_1.bound_to(store.keyring.store_id, stage, record.id, index, last=last)
    try:
        with store.backend.open_segment(stage, record.id, index) as file:
            if file.size != seal.sealed_length(length):
                raise seal.SealBrokenError
            pieces = iter(lambda: file.read(seal.SLICE_BYTES), b"")
            return format_1.open_segment(record.key, pieces, length, context, record.digests[index])
    except VersionAbsentError:
        message = f"{where} is missing"
    except seal.SealBrokenError:
        message = f"{where} does not open: it is damaged, was changed, or belongs elsewhere"
    raise IntegrityError(message, hint=Hint.PUT_IT_BACK, stage=stage, version=version)


class Segments:
    """The segments of an attachment. Those that were read last are held, two at most.

    Args:
        store: The store.
        stage: The stage.
        version: The version, for an error.
        record: The attachment.
    """

    def __init__(self, store: Store, stage: str, version: int, record: AttachmentRecord) -> None:
        self._place = store, stage, version, record
        self._held: dict[int, bytearray] = {}

    def get(self, index: int, *, and_next: bool) -> bytearray:
        """Return one segment; errors as in :func:`read_segment`.

        Args:
            index: Its index.
            and_next: The next one will be asked for, too, and there is one: both are opened at once, in two threads.
        """
        if index not in self._held:
            self._held = {}  # first, so that two are in memory and not four
            self._held = self._read_two(index) if and_next else {index: read_segment(*self._place, index)}
        return self._held[index]

    def _read_two(self, index: int) -> dict[int, bytearray]:
        found: dict[int, bytearray] = {}

        def read_next() -> None:
            with contextlib.suppress(Exception):  # raised again when this segment is asked for
                found[index + 1] = read_segment(*self._place, index + 1)

        thread = threading.Thread(target=read_next, name="checkpoint_manager", daemon=True)
        thread.start()
        try:
            found[index] = read_segment(*self._place, index)
        finally:
            thread.join()
        return found


class SegmentFile(io.RawIOBase):
    """A part of an attachment as a file. A segment is verified before any of it is handed out.

    Args:
        segments: The segments of the attachment.
        start: Where the part begins, in bytes.
        size: Its length.
    """

    def __init__(self, segments: Segments, start: int, size: int) -> None:
        self._segments = segments
        self._start = start
        self._size = size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  # any writable buffer
        view = memoryview(buffer).cast("B")[: max(0, self._size - self._position)]
        if not view:
            return 0
        index, offset = divmod(self._start + self._position, format_1.SEGMENT_BYTES)
        and_next = offset + len(view) > format_1.SEGMENT_BYTES
        piece = memoryview(self._segments.get(index, and_next=and_next))[offset : offset + len(view)]
        view[: len(piece)] = piece
        self._position += len(piece)
        return len(piece)


class StoredContents:
    """The arrays, frames and tensors of a version's data, see :class:`checkpoint_manager._format.embedded.OpenContents`.

    Attributes:
        size: Their length in bytes.
    """

    def __init__(self, segments: Segments, size: int) -> None:
        self._segments = segments
        self.size = size

    def open(self, start: int, size: int) -> BinaryIO:
        """Return a part of them as a file."""
        return io.BufferedReader(SegmentFile(self._segments, start, size), seal.SLICE_BYTES)


def contents_of(store: Store, stage: str, version: int, entry: Entry) -> StoredContents | None:
    """Return the contents of a version's data; None if it has none."""
    for each in entry.attachments:
        if each.name == format_1.CONTENTS:
            return StoredContents(Segments(store, stage, version, each), each.size)
    return None
