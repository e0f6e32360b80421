"""The attachments of a version as they are stored: whether they are there, the content of a segment, and reading as a file."""

from __future__ import annotations

import contextlib
import io
import os
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO

from checkpoint_manager._format import attachment as attachment_format
from checkpoint_manager._format import seal
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import Hint, IntegrityError, RollbackError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._format.attachment import AttachmentRecord, Output
    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.errors import CheckpointError


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
    return "the arrays in the data" if record.name == attachment_format.CONTENTS else f"the attachment {printable(record.name)}"


def is_there(store: Store, stage: str, record: AttachmentRecord) -> bool:
    """Return whether all segments of an attachment are there with their lengths. Their content is not read."""
    lengths = (attachment_format.segment_length(record.size, index) for index in range(len(record.digests)))
    return store.backend.segment_sizes(stage, record.id) == [seal.sealed_length(length) for length in lengths]


def read_segment(store: Store, stage: str, version: int, record: AttachmentRecord, index: int) -> memoryview:
    """Return the content of one segment, verified as a whole; errors as in :func:`read_segment_into`."""
    content = attachment_format.new_memory(attachment_format.segment_length(record.size, index))
    read_segment_into(store, stage, version, record, index, content)
    return content


def read_segment_into(store: Store, stage: str, version: int, record: AttachmentRecord, index: int, output: Output) -> None:
    """Read the content of one segment; nothing that ``output`` was given is genuine until this returns.

    Raises:
        CheckpointNotFoundError: Its version was deleted since it was opened.
        IntegrityError: It is missing, damaged or forged.
    """
    place = f"version {version} of stage {printable(stage)} in {store.backend.location}"
    where = f"{described(record)} of {place}"
    length = attachment_format.segment_length(record.size, index)
    last = index == len(record.digests) - 1
    context = attachment_format.bound_to(store.keyring.store_id, stage, record.id, index, last=last)
    is_under_active_key = record.written_under == store.keyring.active[0]
    try:
        with store.backend.open_segment(stage, record.id, index) as file:
            if file.size != seal.sealed_length(length):
                raise seal.SealBrokenError
            pieces = iter(lambda: file.read(seal.SLICE_BYTES), b"")
            expected = None if is_under_active_key else record.digests[index]
            attachment_format.open_segment(record, index, pieces, output, context, expected)
    except VersionAbsentError:
        raise _absent(store, stage, version, where) from None
    except seal.SealBrokenError:
        message = f"{where} does not open: it is damaged, was changed, or belongs elsewhere"
        raise IntegrityError(message, hint=Hint.PUT_IT_BACK, stage=stage, version=version) from None
    if is_under_active_key and record.written_under != store.keyring.refresh().active[0]:  # the key was given up meanwhile
        read_segment_into(store, stage, version, record, index, output)


def was_deleted(store: Store, stage: str, version: int) -> bool:
    """Return whether a version that was opened is deleted by now, and its attachments with it."""
    with contextlib.suppress(IntegrityError, RollbackError, StorageError):  # whoever looks at the stage next is told
        return version in store.gaps(stage)[0]
    return False


def was_replaced(store: Store, stage: str, version: int) -> bool:
    """Return whether the newest version that was opened is deleted by now, and another one is the newest.

    After a rollback that was only warned of, a deleted version may be the newest one that is there.
    """
    return was_deleted(store, stage, version) and store.history.look(stage).number > version


def _absent(store: Store, stage: str, version: int, where: str) -> CheckpointError:
    if was_deleted(store, stage, version):
        return store.history.absent(stage, version, version)
    return IntegrityError(f"{where} is missing", hint=Hint.PUT_IT_BACK, stage=stage, version=version)


class Segments:
    """The segments of an attachment. The one that was read last is held.

    Args:
        store: The store.
        stage: The stage.
        version: The version, for an error.
        record: The attachment.
    """

    def __init__(self, store: Store, stage: str, version: int, record: AttachmentRecord) -> None:
        self._place = store, stage, version, record
        self._held: tuple[int, memoryview] = -1, memoryview(b"")

    def get(self, index: int) -> memoryview:
        """Return one segment; errors as in :func:`read_segment`."""
        if index != self._held[0]:
            self._held = -1, memoryview(b"")  # first, so that one is in memory and not two
            self._held = index, read_segment(*self._place, index)
        return self._held[1]

    def read_into(self, first: int, memory: memoryview) -> int:
        """Read the segments, from one on, that fit into memory as a whole, and return their length in bytes.

        Errors as in :func:`read_segment_into`.
        """
        size, start = self._place[3].size, first * attachment_format.SEGMENT_BYTES
        end = min(start + len(memory), size)
        count = (attachment_format.segment_count(size) if end == size else end // attachment_format.SEGMENT_BYTES) - first
        lengths = [attachment_format.segment_length(size, first + each) for each in range(count)]
        self.read(
            (first + each, memory[each * attachment_format.SEGMENT_BYTES :][:length]) for each, length in enumerate(lengths)
        )
        return sum(lengths)

    def read(self, wanted: Iterable[tuple[int, Output]]) -> None:
        """Read segments, two at once; errors as in :func:`read_segment_into`."""
        left, faults = deque(wanted), list[BaseException]()

        def read() -> None:
            try:
                while left and not faults:
                    read_segment_into(*self._place, *left.popleft())
            except IndexError:  # the other thread was faster
                return
            except BaseException as fault:  # noqa: BLE001  # raised in the thread that asked
                faults.append(fault)

        other = threading.Thread(target=read, name="checkpoint_manager", daemon=True) if len(left) > 1 else None
        if other is not None:
            other.start()
        read()
        if other is not None:
            other.join()
        if faults:
            raise faults[0]


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
        index, offset = divmod(self._start + self._position, attachment_format.SEGMENT_BYTES)
        length = self._segments.read_into(index, view) if not offset else 0
        if not length:
            piece = self._segments.get(index)[offset : offset + len(view)]
            length = len(piece)
            view[:length] = piece
        self._position += length
        return length


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
        if each.name == attachment_format.CONTENTS:
            return StoredContents(Segments(store, stage, version, each), each.size)
    return None
