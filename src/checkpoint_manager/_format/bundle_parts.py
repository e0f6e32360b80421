"""The parts inside a bundle, as specified in :mod:`checkpoint_manager._format.bundle`: to bytes and back, in their order.

This module knows nothing of keys. What it reads is authentic, but its maker may be hostile.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import orjson

from checkpoint_manager._format import gaps, seal, tags
from checkpoint_manager._format.bundle_chain import Chain
from checkpoint_manager._format.checkpoint_file import MAX_METADATA_BYTES, BrokenError, Entry, decode_entry, encode_entry
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from checkpoint_manager._format.attachment import AttachmentRecord
    from checkpoint_manager._format.gaps import Gaps
    from checkpoint_manager._format.tags import Tagged
    from checkpoint_manager.models import Buffer

MAX_GAPS_BYTES = 32 * 1024 * 1024
MAX_OPTIONAL_BYTES = 64 * 1024 * 1024
_MAX_NAME_BYTES = 1020
_MAX_NUMBER_BYTES = 13
_MAX_END_BYTES = 64
_FRAME_BYTES = 9
_NO_KEY = Hidden(bytes(seal.KEY_BYTES))
_NUMBERED = re.compile(rb"([1-9][0-9]{0,11})\n")


@dataclass(frozen=True, slots=True)
class StagePart:
    """A stage begins."""

    name: str


@dataclass(frozen=True, slots=True)
class VersionPart:
    """A version, with its data."""

    version: int
    entry: Entry
    data: bytes | bytearray = field(repr=False)


@dataclass(frozen=True, slots=True)
class AttachmentPart:
    """The content of an attachment of the version just before; its pieces can be read once."""

    record: AttachmentRecord = field(repr=False)
    pieces: Iterator[Buffer] = field(repr=False)


@dataclass(frozen=True, slots=True)
class GapsPart:
    """A stage's versions end."""

    gaps: Gaps


@dataclass(frozen=True, slots=True)
class TagsPart:
    """Names of versions of the stage just before."""

    named: Mapping[str, Tagged]


@dataclass(frozen=True, slots=True)
class EndPart:
    """The bundle ends."""

    stages: int
    versions: int


Part: TypeAlias = StagePart | VersionPart | AttachmentPart | GapsPart | TagsPart | EndPart
Parts: TypeAlias = "Iterator[Part]"


def encode(part: Part) -> Iterator[Buffer]:
    """Yield the bytes of a part, before they are sealed."""
    match part:
        case StagePart():
            yield from _framed(b"S", part.name.encode())
        case VersionPart():
            yield from _framed(b"V", f"{part.version}\n".encode() + encode_entry(_without_keys(part.entry)))
            yield from _framed(b"D", part.data)
        case AttachmentPart():
            yield b"A" + part.record.size.to_bytes(8, "big")
            yield from part.pieces
        case GapsPart():
            yield from _framed(b"G", gaps.encode_list(part.gaps))
        case TagsPart():
            yield from _framed(b"t", orjson.dumps(tags.rows_of(part.named)))
        case EndPart():
            yield from _framed(b"E", orjson.dumps([part.stages, part.versions]))


def _without_keys(entry: Entry) -> Entry:
    """Return an entry whose attachments have no keys: with those, a holder of the bundle could forge them in the store."""
    records = (record._replace(key=_NO_KEY, written_under="") for record in entry.attachments)
    return entry._replace(attachments=tuple(records)) if entry.attachments else entry


def _framed(kind: bytes, content: Buffer) -> Iterator[Buffer]:
    yield kind + len(content).to_bytes(8, "big")
    yield content


class _Cursor:
    """A position in a stream of pieces. It takes no more memory than has come."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def next_part(self) -> tuple[str, int]:
        """Return the kind and the length of the next part."""
        frame = self.take(_FRAME_BYTES)
        return chr(frame[0]), int.from_bytes(frame[1:], "big")

    def take(self, length: int) -> bytearray:
        """Return the next ``length`` bytes."""
        taken = bytearray()
        while length:
            piece = self._some(length)
            taken += piece
            length -= len(piece)
        return taken

    def pieces(self, length: int) -> Iterator[memoryview]:
        """Yield the next ``length`` bytes as they come."""
        while length:
            piece = self._some(length)
            length -= len(piece)
            yield piece

    def at_end(self) -> bool:
        """Return whether nothing is left; the whole message is verified then."""
        return not self._rest and not self._fill()

    def _some(self, most: int) -> memoryview:
        if not self._rest and not self._fill():
            raise BrokenError("ends in the middle of a part")
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece

    def _fill(self) -> bool:
        self._rest = memoryview(next((piece for piece in self._pieces if piece), b""))
        return bool(self._rest)


def decode(pieces: Iterator[bytes]) -> Parts:
    """Yield the parts of an opened message.

    Raises:
        BrokenError: One of them breaks a rule.
        FormatError: One of them is of a newer format.
    """
    cursor = _Cursor(pieces)
    name, stages, versions = "", 0, 0
    chain: Chain | None = None
    untagged: Chain | None = None  # the stage just before, as long as its tags may follow
    while True:
        kind, length = cursor.next_part()
        if kind == "S" and chain is None:
            stage = _stage(cursor, length)
            if stages and stage.name <= name:
                raise BrokenError("holds its stages in another order than it must")
            name, chain = stage.name, Chain()
            attachments: set[str] = set()
            yield stage
        elif kind == "V" and chain is not None:
            part = _version(cursor, length)
            chain.add(part.version, part.entry)
            versions += 1
            yield part
            yield from _attachments(cursor, part.entry, attachments)
        elif kind == "G" and chain is not None:
            end_of_stage = _gaps(cursor, length)
            chain.close(end_of_stage.gaps)
            chain, untagged = None, chain
            stages += 1
            yield end_of_stage
        elif kind == "E" and chain is None:
            yield _end(cursor, length, EndPart(stages, versions))
            return
        elif kind == "t" and chain is None and untagged is not None:
            yield _tags(cursor, length, untagged)
            untagged = None
        elif kind != "t" and "a" <= kind <= "z" and chain is None and stages:
            _use_up(cursor.pieces(_at_most(length, MAX_OPTIONAL_BYTES)))
        elif kind in "SVDAGE" or not "A" <= kind <= "Z":
            raise BrokenError("holds a part in the wrong place")
        else:
            raise FormatError(
                f"the bundle holds a part {kind} of a newer format", hint="Use a newer version of checkpoint_manager"
            )


def _at_most(length: int, most: int) -> int:
    if length > most:
        raise BrokenError("declares a part that is longer than its kind may be")
    return length


def _stage(cursor: _Cursor, length: int) -> StagePart:
    try:
        return StagePart(cursor.take(_at_most(length, _MAX_NAME_BYTES)).decode())
    except UnicodeDecodeError:
        raise BrokenError("holds a stage name that is not text") from None


def _version(cursor: _Cursor, length: int) -> VersionPart:
    content = bytes(cursor.take(_at_most(length, MAX_METADATA_BYTES + _MAX_NUMBER_BYTES)))
    number = _NUMBERED.match(content)
    if number is None:
        raise BrokenError("holds a version without a number")
    entry = _entry(content[number.end() :])
    kind, size = cursor.next_part()
    if kind != "D" or size != entry.size:
        raise BrokenError("holds a version without its data")
    return VersionPart(int(number[1]), entry, cursor.take(size))


def _attachments(cursor: _Cursor, entry: Entry, before: set[str]) -> Iterator[AttachmentPart]:
    """Yield the attachments of a version that no version ``before`` it had."""
    for record in entry.attachments:
        if record.id not in before:
            before.add(record.id)
            kind, length = cursor.next_part()
            if kind != "A" or length != record.size:
                raise BrokenError("holds a version without its attachments")
            pieces = cursor.pieces(length)
            yield AttachmentPart(record, pieces)
            _use_up(pieces)


def _use_up(pieces: Iterator[Buffer]) -> None:
    for _ in pieces:
        pass


def _entry(plain: bytes) -> Entry:
    entry = decode_entry(plain)
    try:
        written = encode_entry(entry)
    except (TypeError, ValueError, OverflowError):
        written = b""
    if written != plain or seal.sealed_length(len(plain)) > MAX_METADATA_BYTES:
        raise BrokenError("holds metadata that is not in canonical form")
    return entry


def _gaps(cursor: _Cursor, length: int) -> GapsPart:
    plain = bytes(cursor.take(_at_most(length, MAX_GAPS_BYTES)))
    return GapsPart(gaps.decode_list(plain))


def _tags(cursor: _Cursor, length: int, chain: Chain) -> TagsPart:
    plain = bytes(cursor.take(_at_most(length, tags.MAX_TAGS_BYTES)))
    try:
        named = tags.named_by(orjson.loads(plain))
    except ValueError:
        raise BrokenError("holds tags that are not JSON") from None
    if not named or orjson.dumps(tags.rows_of(named)) != plain:
        raise BrokenError("holds tags that are not in canonical form")
    for name, tagged in named.items():
        if not chain.has(tagged.version, tagged.id):
            raise BrokenError(f"holds the tag {name} of a version {tagged.version} that it does not hold")
    return TagsPart(named)


def _end(cursor: _Cursor, length: int, expected: EndPart) -> EndPart:
    said = cursor.take(_at_most(length, _MAX_END_BYTES))
    if said != orjson.dumps([expected.stages, expected.versions]):
        raise BrokenError("holds another number of stages or versions than its end says")
    if not cursor.at_end():
        raise BrokenError("goes on after its end")
    return expected
