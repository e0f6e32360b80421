r"""The checkpoint file, format 1: one line of JSON in the clear, then two sealed messages.

::

    header    {"format":"checkpoint-manager/1","store":"S","key":"K","version":N,"metadata":M}\n
    metadata  M bytes: a sealed message, the metadata as JSON
    data      to the end of the file: a sealed message, the data

**Header.** ASCII, exactly as shown: these five fields in this order, no white space, one line feed at the end. S is the
store's id (32 lower-case hex digits), K the id of the store key that both messages are sealed under (16 lower-case hex digits),
N the version's number (1 to 999999999999, no leading zero), M the length of the sealed metadata in bytes (at most 1048576,
no leading zero). A reader MUST refuse anything else. N tells where a file belongs without a key; like all of the
header, it is authenticated.

**Sealing.** Cobblestone-256 (see :mod:`checkpoint_manager._format.seal`) under the 32-byte store key K. The contexts are::

    metadata  ["checkpoint-manager/1", "metadata", header, stage, N]
    data      ["checkpoint-manager/1", "data",     header, stage, N, id]

where ``header`` is the header's bytes with the line feed, ``stage`` the stage's name in UTF-8, N in decimal digits, and
``id`` the metadata's ``id``. A message that was sealed for another store, key, stage, version or part does not open.

**Metadata.** A JSON object with exactly these fields:

==============  ========================================================================================================
id              32 hex digits, random for each version
previous        the ``id`` of the version before it, or null: it is the first, or that version could not be read
status          ``completed``, ``progress``, ``failed`` or ``cleared``
created_at      ``2026-11-23T10:00:00.000000Z``: UTC, always with microseconds
metadata        the caller's: an object; also what the library notes, under keys that begin with ``@``
origin          an object: ``user``, ``host``, ``python``, ``library`` (text) and ``pid`` (integer)
size            the length of the data in bytes; the sealed data MUST be exactly as long as that makes it
restored_from   the number of the version this one is a copy of, or null
==============  ========================================================================================================

**A version that need not be durable** names, under ``@durable`` in ``metadata``, an earlier version of its history that was
known to survive a power cut: ``[number, id]``. A power cut may take the versions between the two and leave this one, which
leads back to that one all the same. What is not of this form counts as none.

**Data.** Any JSON value in UTF-8, or ``values/1`` (see :mod:`checkpoint_manager._format.values`).
"""

from __future__ import annotations

import functools
import itertools
import marshal
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format import documents, seal
from checkpoint_manager._format.note_keys import ATTACHMENTS, DURABLE
from checkpoint_manager._loading import load
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import ModuleType

    from checkpoint_manager._format.attachment import AttachmentRecord
    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager.models import Buffer, Origin, Status, Version


FORMAT = "checkpoint-manager/1"
MAX_HEADER_BYTES = 192
MAX_METADATA_BYTES = 1024 * 1024
MAX_CALLER_METADATA_BYTES = 512 * 1024
MAX_VERSION = 999_999_999_999
ID_BYTES = 16
"""How many random bytes the id of a version is."""
MAX_UNREADABLE = 16
"""How many versions back a version may name its predecessor: those between could not be read when it was saved."""

READ_IT_WITH_ANOTHER = "Use the version of checkpoint_manager that wrote it, or a newer one. If none reads it, move it away"

_METADATA = seal.context(FORMAT, "metadata")
_DATA = seal.context(FORMAT, "data")
"""The beginnings of the contexts of the two parts: the context of more fields is longer by the context of those fields."""
_HEADER = re.compile(
    rb'\{"format":"checkpoint-manager/1","store":"([0-9a-f]{32})","key":"([0-9a-f]{16})",'
    rb'"version":([1-9][0-9]{0,11}),"metadata":([1-9][0-9]{0,6})\}\n'
)
_OTHER_FORMAT = rb'\{"format":"(checkpoint-manager/[1-9][0-9]{0,5})"'
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", re.ASCII)
_STATUSES = frozenset[object]({"completed", "progress", "failed", "cleared"})
_ENTRY_FIELDS = ("id", "previous", "status", "created_at", "metadata", "origin", "size", "restored_from")


class BrokenError(Exception):
    """Stored bytes that break a rule; the text says what is wrong, as a clause without its subject.

    Attributes:
        foreign: True if the bytes are of another store or position.
        newer: True if they claim to be of a newer format.
    """

    def __init__(self, what: str, *, foreign: bool = False, newer: bool = False) -> None:
        super().__init__(what)
        self.foreign = foreign
        self.newer = newer


class Place(NamedTuple):
    """The place of a version. All three are authenticated."""

    store: str
    stage: str
    version: int


class Header(NamedTuple):
    """The first line of a file: its form is checked, and it is not yet authenticated."""

    line: bytes
    store: str
    key: str
    version: int
    metadata_length: int
    data_offset: int
    """Where the sealed data begins."""


class SealedData(NamedTuple):
    """Where the data of a version stands in its file, and what it is bound to."""

    opening: bytes
    """The header and the sealed metadata, which stand before it."""
    sealed_length: int
    length: int
    """The length of the data itself."""
    bound_to: bytes


class Ancestor(NamedTuple):
    """An earlier version of the same history."""

    version: int
    id: str


class Writer(NamedTuple):
    """Who wrote a version, and where: the fields of :class:`checkpoint_manager.Origin`, which only callers get.

    The classes that callers get take longer to make than a look at a stage, which needs none of them.
    """

    user: str
    host: str
    pid: int
    python: str
    library: str


class Entry(NamedTuple):
    """The authenticated metadata of one version, with its link to the version before it."""

    id: str
    previous: str | None
    status: Status
    created_at: datetime
    metadata: dict[str, Any]
    origin: Writer
    size: int
    restored_from: int | None
    attachments: tuple[AttachmentRecord, ...] = ()
    durable: Ancestor | None = None

    def copied(self) -> Entry:
        """Return a copy whose metadata can be changed."""
        return self._replace(metadata=marshal.loads(marshal.dumps(self.metadata))) if self.metadata else self  # noqa: S302  # of what JSON said

    def as_version(self, stage: str, version: int) -> Version:
        """Return the value for callers."""
        made: type[Version] = _models().Version
        by = _origin(self.origin)
        if not self.attachments:
            return made(stage, version, self.status, self.created_at, self.metadata, by, self.size, self.restored_from)
        arrays, attached = 0, []
        for each in self.attachments:
            if each.name == _attachments().CONTENTS:
                arrays += each.size
            else:
                attachment_info = load("checkpoint_manager.attachment_info")
                attached.append(attachment_info.AttachmentInfo(each.name, each.kind, each.size, each.detail))
        size, attachments = self.size + arrays, tuple(attached)
        placed = (self.status, self.created_at, self.metadata, by, size, self.restored_from, attachments, arrays)
        return made(stage, version, *placed)


@functools.cache
def _orjson() -> ModuleType:
    """Return what writes metadata of callers; see :mod:`.documents`."""
    return load("orjson")


@functools.cache
def _models() -> ModuleType:
    """Return the module of what callers get."""
    return load("checkpoint_manager.models")


def _attachments() -> ModuleType:
    """Return the module of the records of attachments, which few versions have."""
    return load("checkpoint_manager._format.attachment")


def parse_header(opening: bytes) -> Header:
    """Return the header from the first ``MAX_HEADER_BYTES`` of a file.

    Raises:
        BrokenError: There is no valid header.
        FormatError: The header is of another format version.
    """
    match = _HEADER.match(opening)
    if match is None:
        other = re.match(_OTHER_FORMAT, opening)
        if other is not None and other[1].decode() != FORMAT:
            raise FormatError(
                f"the file claims the format {other[1].decode()}, and this version of the library reads {FORMAT}",
                hint=READ_IT_WITH_ANOTHER,
            )
        raise BrokenError("has no valid header")
    length = int(match[4])
    if length > MAX_METADATA_BYTES:
        raise BrokenError(f"has a header that claims more metadata than the limit of {MAX_METADATA_BYTES} bytes")
    return Header(match[0], match[1].decode(), match[2].decode(), int(match[3]), length, match.end() + length)


def seal_version(key_id: str, key: SecretBytes, place: Place, entry: Entry, data: Buffer) -> Iterable[Buffer]:
    """Return the bytes of a version's file, to be written in this order.

    A piece may share its buffer with the next one: use it before taking the next.
    """
    plain = encode_entry(entry)
    line = (
        f'{{"format":"{FORMAT}","store":"{place.store}","key":"{key_id}",'
        f'"version":{place.version},"metadata":{seal.sealed_length(len(plain))}}}\n'
    ).encode()
    where = seal.context(line, place.stage, place.version)
    opening = line + seal.seal(key, plain, _METADATA + where)
    bound_to = _DATA + where + seal.context(entry.id)
    if len(data) <= seal.SLICE_BYTES:
        return (opening + seal.seal(key, data, bound_to),)
    return itertools.chain((opening,), seal.seal_slices(key, data, bound_to))


def context_of(header: Header, stage: str, version: int) -> bytes:
    """Return the context that both parts share: header, stage and version. The caller chose the key by the store's id.

    Raises:
        BrokenError: It is of another position.
    """
    if header.version != version:
        raise BrokenError(f"was written as version {header.version}", foreign=True)
    return seal.context(header.line, stage, version)


def open_entry(key: SecretBytes, header: Header, where: bytes, sealed: bytes) -> Entry:
    """Open the metadata of a version, whose header and place are ``where``, as :func:`context_of` returns it.

    Raises:
        BrokenError: It does not open.
    """
    try:
        plain = seal.unseal(key, sealed, _METADATA + where)
    except seal.SealBrokenError:
        raise BrokenError("has metadata that does not open: it is damaged, was changed, or belongs elsewhere") from None
    entry = decode_entry(plain)
    return (
        entry._replace(attachments=_attachments().sealed_under(header.key, entry.attachments)) if entry.attachments else entry
    )


def sealed_data(opening: bytes, where: bytes, entry: Entry) -> SealedData:
    """Return what opens the data of a version whose header and metadata, the opening, were opened."""
    return SealedData(opening, seal.sealed_length(entry.size), entry.size, _DATA + where + seal.context(entry.id))


def open_data(key: SecretBytes, data: SealedData, sealed: bytes, rest: Iterable[Buffer] = ()) -> bytes | bytearray:
    """Open the data of a version. The caller has compared the length of its file.

    Args:
        key: The key that the header names.
        data: What was read of it before.
        sealed: The sealed data, or its beginning.
        rest: What follows, in pieces of any length.

    Raises:
        BrokenError: It does not open.
    """
    try:
        if len(sealed) == data.sealed_length:
            return seal.unseal(key, sealed, data.bound_to)
        output = bytearray(data.length)
        seal.unseal_into(key, itertools.chain((sealed,) if sealed else (), rest), memoryview(output), data.bound_to)
    except seal.SealBrokenError:
        raise BrokenError("has data that does not open: it is damaged or was changed") from None
    return output


def file_length(header: Header, entry: Entry) -> int:
    """Return the exact length of the file."""
    return header.data_offset + seal.sealed_length(entry.size)


def encode_time(moment: datetime) -> str:
    """Return an aware time in the form of the format."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def is_time(text: str) -> bool:
    """Return whether this is a time in that form."""
    return _TIME.fullmatch(text) is not None


def decode_time(text: str) -> datetime:
    """Return the aware time that ``encode_time`` wrote."""
    return datetime.fromisoformat(text)


def encode_entry(entry: Entry) -> bytes:
    """Return the metadata as JSON."""
    origin = entry.origin
    written: bytes = _orjson().dumps(
        {
            "id": entry.id,
            "previous": entry.previous,
            "status": entry.status,
            "created_at": entry.created_at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z",
            "metadata": _with_notes(entry) if entry.attachments or entry.durable is not None else entry.metadata,
            "origin": {
                "user": origin.user,
                "host": origin.host,
                "pid": origin.pid,
                "python": origin.python,
                "library": origin.library,
            },
            "size": entry.size,
            "restored_from": entry.restored_from,
        }
    )
    return written


def _with_notes(entry: Entry) -> dict[str, Any]:
    """Return the metadata with what has a field of its own in an entry."""
    metadata = dict(entry.metadata)
    if entry.attachments:
        metadata[ATTACHMENTS] = _attachments().encode_records(entry.attachments)
    if entry.durable is not None:
        metadata[DURABLE] = [entry.durable.version, entry.durable.id]
    return metadata


def decode_entry(plain: bytes) -> Entry:
    """Return the entry from the metadata's JSON, with each field checked for type and range.

    The metadata is authenticated, but a bundle's maker may be hostile.

    Raises:
        BrokenError: A field is not of this format.
    """
    try:
        fields = documents.loads(plain)
        version_id, previous, status, created_at, metadata, origin, size, restored_from = fields.values()
        if (
            tuple(fields) == _ENTRY_FIELDS
            and _ID.fullmatch(version_id) is not None
            and (previous is None or _ID.fullmatch(previous) is not None)
            and status in _STATUSES
            and _TIME.fullmatch(created_at) is not None
            and type(metadata) is dict
            and type(origin) is dict
            and type(size) is int
            and size >= 0
            and (restored_from is None or (type(restored_from) is int and 1 <= restored_from <= MAX_VERSION))
        ):
            at = datetime.fromisoformat(created_at)
            attachments = _attachments().take_records(metadata) if ATTACHMENTS in metadata else ()
            durable = _take_durable(metadata) if DURABLE in metadata else None
            by = _writer(**origin)
            return Entry(version_id, previous, status, at, metadata, by, size, restored_from, attachments, durable)
    except (ValueError, TypeError, AttributeError):
        pass
    raise BrokenError("has metadata that is not of this format")


def _take_durable(metadata: dict[str, Any]) -> Ancestor | None:
    """Remove the note of a durable version and return it; what is not of this format is left and counts as none."""
    note = metadata[DURABLE]
    if type(note) is not list or len(note) != 2 or not is_number(note[0]) or not is_id(note[1]):
        return None
    del metadata[DURABLE]
    return Ancestor(*note)


@functools.lru_cache(maxsize=8, typed=True)  # a hostile one may be long
def _writer(user: object, host: object, pid: object, python: object, library: object) -> Writer:
    """Return the writer of versions, of which one process writes many.

    Raises:
        TypeError: A field is not of this format.
    """
    if type(user) is str and type(host) is str and type(pid) is int and type(python) is str and type(library) is str:
        return Writer(user, host, pid, python, library)
    raise TypeError


@functools.lru_cache(maxsize=8)
def _origin(writer: Writer) -> Origin:
    made: type[Origin] = _models().Origin
    return made(*writer)


def is_id(value: object) -> bool:
    """Return whether this is the id of a version."""
    return type(value) is str and _ID.fullmatch(value) is not None


def is_number(value: object) -> bool:
    """Return whether this is the number of a version."""
    return type(value) is int and 1 <= value <= MAX_VERSION
