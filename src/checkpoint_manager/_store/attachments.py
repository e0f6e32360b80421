"""The attachments of a version as they are stored: whether they are there, and the content of a segment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format import attachment as format_1
from checkpoint_manager._format import seal
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import Hint, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._format.attachment import AttachmentRecord
    from checkpoint_manager._store.store import Store


def check_there(store: Store, stage: str, records: Iterable[AttachmentRecord]) -> None:
    """Raise an error if an attachment is not there as a whole.

    Raises:
        IntegrityError: It is not. It may have been deleted with the last version that referred to it.
    """
    for each in records:
        if not is_there(store, stage, each):
            where = f"the attachment {printable(each.name)} of stage {printable(stage)} in {store.backend.location}"
            hint = "Attach it again from where it came from"
            raise IntegrityError(f"{where} is gone, or is not whole", hint=hint, stage=stage)


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
    where = f"the attachment {printable(record.name)} of {place}"
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
