"""Attachments, formats 1 to 3: large contents beside the versions of a stage, in sealed segments.

**Segments.** The content is cut into segments of 16 MiB (16777216 bytes); the last one is what is left, and an empty content
has one empty segment. Segment i (0, 1, 2, …) is a sealed message (see :mod:`checkpoint_manager._format.seal`) under the
attachment's own 32-byte key, which is random. The context is::

    ["checkpoint-manager/attachment/1", store, stage, id, i, "more" or "last"]

where ``store`` is the store's id, ``id`` the attachment's (32 lower-case hex digits, never used twice), and i stands in
decimal digits.

**Record.** The sealed metadata of each version that refers to an attachment holds, under the key ``@attachments`` of
``metadata`` and after all other keys, an object with one record for each name::

    {"id": "…", "key": "…", "size": N, "kind": "…", "detail": "…", "blake3": "…", "under": "…"}

``key`` is the attachment's key in 64 hex digits, ``size`` the length of the content in bytes, ``kind`` what the content is
read back as, ``detail`` a text for people, ``blake3`` the BLAKE3 digest of each sealed segment, 32 bytes in 64 hex digits,
joined, and ``under`` the id of the store's key that was active when the attachment was written. In place of ``blake3``,
records of formats 1 and 2 have ``segments``, the same with SHA-256. Those of format 1 have no ``under``; others have none
where it is not known. A writer MUST cut ``detail`` to 200 characters, and a reader MUST take any: there were writers that did
not. A version whose ``@attachments`` are of another form MUST be refused as a whole: taken for a version without attachments,
it would lose them.

The attachment ``@contents`` holds the arrays, frames and tensors of the version's data, see
:mod:`checkpoint_manager._format.embedded`. No other name begins with ``@``.

The digests keep out whoever once had a key of the store, and so knows the keys of its attachments: a rotation seals the records
again, and not gigabytes. Where ``under`` is the store's active key, no record of the attachment was ever sealed under a key
that was given up, or written into a bundle, and only a holder of the active key, who may write anything, can seal another
segment. So a reader MUST compare the digests, unless it finds that ``under`` is the active key of the keyring as it is after
the segment was read. It MUST take ``under`` for absent where it is not the id of the key that the version itself is sealed
under: until a rotation is finished, who has the key that is given up can seal a version whose ``under`` names the new one, and
the rotation seals that again. A version, an attachment's name and its content can't be exchanged, for the record says what
belongs together.
"""

from __future__ import annotations

import contextlib
import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from checkpoint_manager._format import seal
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.note_keys import ATTACHMENTS
from checkpoint_manager._loading import load
from checkpoint_manager._named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager.models import Buffer

    Output: TypeAlias = memoryview | Callable[[Iterable[Buffer]], object]
    """Memory of the content's length, or a function that takes its pieces, which share a buffer. A second call begins again."""

HashName: TypeAlias = Literal["blake3", "sha256"]

FORMAT = "checkpoint-manager/attachment/1"
CONTENTS = "@contents"
"""The name of the attachment that holds the arrays in the data; a user's does not begin with ``@``."""
SEGMENT_BYTES = 16 * 1024 * 1024
MAX_ATTACHMENTS = 1000
MAX_NAME_CHARACTERS = 255

_MAX_DETAIL_CHARACTERS = 200
_LARGE = 1024 * 1024

_ID = r"[0-9a-f]{32}"
_KEY_ID = r"(?:[0-9a-f]{16})?"
_KEY = r"[0-9a-f]{64}"
_KIND = r"[a-z][a-z0-9-]{0,31}"
_DIGESTS = r"(?:[0-9a-f]{64})+"
_DIGEST_DIGITS = 64
_FIRST_FIELDS = ["id", "key", "size", "kind", "detail"]
_DIGESTS_OF: dict[HashName, str] = {"blake3": "blake3", "sha256": "segments"}
"""The field of a record that holds the digests, by the hash that they are made with."""
_FIELDS = [[*_FIRST_FIELDS, digests, *under] for digests in _DIGESTS_OF.values() for under in ([], ["under"])]
_NOT_RECORDS = "records of attachments are not of this format"


class AttachmentRecord(NamedTuple):
    """What a version says of one attachment.

    Attributes:
        name: Its name in the version.
        id: Its random id.
        key: Its key.
        size: The length of its content in bytes.
        kind: What the content is read back as.
        detail: What it is, for people.
        digests: The digest of each sealed segment, in hexadecimal digits.
        written_under: The id of the key that was active when it was written; empty if that is not known.
        hashed_with: What the digests are made with.
    """

    name: str
    id: str
    key: SecretBytes
    size: int
    kind: str
    detail: str
    digests: tuple[str, ...]
    written_under: str = ""
    hashed_with: HashName = "blake3"


def segment_count(size: int) -> int:
    """Return how many segments a content of ``size`` bytes has."""
    return max(1, -(-size // SEGMENT_BYTES))


def segment_length(size: int, index: int) -> int:
    """Return the length of a segment's content in bytes."""
    return min(SEGMENT_BYTES, size - index * SEGMENT_BYTES)


def bound_to(store: str, stage: str, attachment: str, index: int, *, last: bool) -> bytes:
    """Return the context of a segment."""
    return seal.context(FORMAT, store, stage, attachment, index, "last" if last else "more")


def seal_segment(key: SecretBytes, slices: Iterable[Buffer], context: bytes, digests: list[str]) -> Iterator[Buffer]:
    """Yield the sealed segment piece by piece, and append its digest at the end. Use each piece before the next.

    Args:
        key: The attachment's key.
        slices: The content, in slices of ``seal.SLICE_BYTES`` or less.
        context: What it is bound to.
        digests: What its digest is appended to.
    """
    digest = _new_hash("blake3")
    for piece in seal.seal_cut(key, slices, context):
        digest.update(piece)
        yield piece
    digests.append(digest.hexdigest())


def open_segment(
    record: AttachmentRecord, index: int, pieces: Iterable[Buffer], output: Output, context: bytes, expected: str | None
) -> None:
    """Read the content of a segment; nothing that ``output`` was given is genuine until this returns.

    Args:
        record: The attachment.
        index: The segment's number.
        pieces: The sealed segment, in slices of ``seal.SLICE_BYTES`` or less.
        output: Where its content goes.
        context: What it is bound to.
        expected: The digest that was recorded; None if it need not be compared.

    Raises:
        SealBrokenError: It does not open, has another length, or is not the one that was recorded.
    """
    digest = None if expected is None else _new_hash(record.hashed_with)

    def hashed() -> Iterator[Buffer]:
        for piece in pieces:
            if digest is not None:
                digest.update(piece)
            yield piece

    if isinstance(output, memoryview):
        seal.unseal_into(record.key, hashed(), output, context)
    else:
        output(seal.unseal_slices(record.key, hashed(), segment_length(record.size, index), context))
    if digest is not None and digest.hexdigest() != expected:
        raise seal.SealBrokenError


def _new_hash(name: HashName) -> Any:  # noqa: ANN401  # what has update() and hexdigest()
    return load("hashlib").sha256() if name == "sha256" else load("blake3").blake3()


def new_memory(length: int) -> memoryview:
    """Return writable memory for the content of a segment.

    It is in huge pages where the kernel has them: with small ones, reading a segment would mostly wait for page faults.
    """
    if length < _LARGE:
        return memoryview(bytearray(length))
    mmap = load("mmap")  # which only programs with large arrays need
    private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}
    memory = mmap.mmap(-1, length, **private)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):  # a kernel without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(memory)


def shortened(detail: str) -> str:
    """Return a text for people as it may be written."""
    return detail if len(detail) <= _MAX_DETAIL_CHARACTERS else f"{detail[: _MAX_DETAIL_CHARACTERS - 1]}…"


def sealed_under(key_id: str, records: Iterable[AttachmentRecord]) -> tuple[AttachmentRecord, ...]:
    """Return the records of a version that is sealed under a key: that they were written under another one does not count."""
    return tuple(each if each.written_under == key_id else each._replace(written_under="") for each in records)


def encode_records(records: Iterable[AttachmentRecord]) -> dict[str, dict[str, Any]]:
    """Return the value that is kept under ``@attachments``.

    Raises:
        ValueError: It would not be read.
    """
    note = {
        each.name: {
            "id": each.id,
            "key": each.key.raw.hex(),
            "size": each.size,
            "kind": each.kind,
            "detail": each.detail,
            _DIGESTS_OF[each.hashed_with]: "".join(each.digests),
            **({"under": each.written_under} if each.written_under else {}),
        }
        for each in records
    }
    if not all(map(_is_record, note, note.values())):
        raise ValueError(_NOT_RECORDS)
    return note


def take_records(metadata: dict[str, Any]) -> tuple[AttachmentRecord, ...]:
    """Remove the records from a version's metadata and return them.

    Raises:
        ValueError: They are not of this format.
    """
    note = metadata.pop(ATTACHMENTS)
    if type(note) is not dict or not note or not all(map(_is_record, note, note.values())):
        raise ValueError(_NOT_RECORDS)
    return tuple(_record(name, fields) for name, fields in note.items())


def _record(name: str, fields: Mapping[str, Any]) -> AttachmentRecord:
    hashed_with, joined = _digests_in(fields)
    digests = tuple(joined[at : at + _DIGEST_DIGITS] for at in range(0, len(joined), _DIGEST_DIGITS))
    key, under = Hidden(bytes.fromhex(fields["key"])), fields.get("under", "")
    return AttachmentRecord(
        name, fields["id"], key, fields["size"], fields["kind"], fields["detail"], digests, under, hashed_with
    )


def _digests_in(fields: Mapping[str, Any]) -> tuple[HashName, str]:
    return next((name, fields[field]) for name, field in _DIGESTS_OF.items() if field in fields)


def _is_record(name: str, fields: object) -> bool:
    return (
        0 < len(name) <= MAX_NAME_CHARACTERS
        and type(fields) is dict
        and list(fields) in _FIELDS
        and all(type(fields[each]) is str for each in fields if each != "size")
        and type(fields["size"]) is int
        and fields["size"] >= 0
        and re.fullmatch(_ID, fields["id"]) is not None
        and re.fullmatch(_KEY, fields["key"]) is not None
        and re.fullmatch(_KIND, fields["kind"]) is not None
        and re.fullmatch(_DIGESTS, _digests_in(fields)[1]) is not None
        and re.fullmatch(_KEY_ID, fields.get("under", "")) is not None
        and len(_digests_in(fields)[1]) == segment_count(fields["size"]) * _DIGEST_DIGITS
    )
