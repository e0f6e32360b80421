r"""A bundle, format 1: histories of stages in one file, under a key of its own, to be moved to another store.

::

    header  {"format":"checkpoint-manager-bundle/1","slot":{…}}\n
    body    to the end of the file: a sealed message, the parts below one after the other

**Header.** One line of JSON without white space and a line feed, at most 4096 bytes. The slot is one of
:mod:`checkpoint_manager.envelope.keyring`, with an empty label. It wraps the bundle's key, 32 random bytes made for this bundle
alone, as the key ``bundle`` of the store ``checkpoint-manager-bundle/1``: no slot of a store opens as one of a bundle, or the
other way round. Its costs are bounded as there. A reader MUST refuse whatever is not, byte for byte, what writing its content
anew gives.

**Body.** Cobblestone-256 (see :mod:`checkpoint_manager.envelope.seal`) under the bundle's key, with the context
``["checkpoint-manager-bundle/1", "body", header]``, where ``header`` is the header's bytes with the line feed. It is a single
message on purpose: that nothing in it is changed, moved, doubled, left out or appended, and that it ends where it ended, is
what the cipher promises, and nobody without the key sees more than how long it is.

**Parts.** A part is its kind (one byte, an ASCII letter), the length of its content (8 bytes, big-endian), and the content:

====  ==================================================================================================================
S     a stage begins: its name, in UTF-8; 1 to 1020 bytes
V     a version: its number in decimal digits, a line feed, and its metadata as in
      :mod:`checkpoint_manager.envelope.format`, as long as a checkpoint file of format 1 can hold it
D     the data of the version just before: JSON, exactly as long as its metadata's ``size`` says
G     the gaps that end this stage's versions: the JSON of :mod:`checkpoint_manager.envelope.gaps`; at most 32 MiB
E     the end: ``[stages,versions]``, how many of each there were
a-z   about the stage just before; at most 64 MiB. A reader passes over a kind it does not know: what an older one need not
      understand, such as names for versions, belongs here
====  ==================================================================================================================

In the order ``(S (V D)+ G [a-z]*)* E``. Stages ascend by the bytes of their names, so none comes twice; the versions of a stage
are what :mod:`checkpoint_manager.envelope.bundle_chain` accepts. Metadata, gaps and the end are JSON without white space, in
the order of their specification: here too, a reader MUST refuse what writing anew would write differently. A capital kind that
it does not know is of a newer format. Whoever has the key may still be hostile: no length is believed before its bytes have
come.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias, get_args

import orjson

from checkpoint_manager.envelope import gaps as sealed_gaps
from checkpoint_manager.envelope import seal
from checkpoint_manager.envelope.bundle_chain import Chain
from checkpoint_manager.envelope.format import MAX_METADATA_BYTES, BrokenError, Entry, decode_entry, encode_entry
from checkpoint_manager.envelope.gaps import Gap, Gaps, Reason
from checkpoint_manager.envelope.keyring import new_slot
from checkpoint_manager.envelope.slots import Slot
from checkpoint_manager.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from checkpoint_manager.envelope.slots import ArgonCost, Secret
    from checkpoint_manager.model import Buffer

FORMAT = "checkpoint-manager-bundle/1"
MAX_HEADER_BYTES = 4096
MAX_GAPS_BYTES = 32 * 1024 * 1024
MAX_OPTIONAL_BYTES = 64 * 1024 * 1024
_KEY_ID = "bundle"
_MAX_NAME_BYTES = 1020
_MAX_NUMBER_BYTES = 13
_MAX_END_BYTES = 64
_OTHER_FORMAT = re.compile(rb'\{"format":"(checkpoint-manager-bundle/[1-9][0-9]{0,5})"')
_NUMBERED = re.compile(rb"([1-9][0-9]{0,11})\n")
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TOO_LONG = "declares a part that is longer than its kind may be"


@dataclass(frozen=True, slots=True)
class StagePart:
    """A stage begins."""

    name: str


@dataclass(frozen=True, slots=True)
class VersionPart:
    """A version with its data as JSON."""

    version: int
    entry: Entry
    data: Buffer = field(repr=False)


@dataclass(frozen=True, slots=True)
class GapsPart:
    """A stage's versions end."""

    gaps: Gaps


@dataclass(frozen=True, slots=True)
class EndPart:
    """The bundle ends."""

    stages: int
    versions: int


Part: TypeAlias = StagePart | VersionPart | GapsPart | EndPart
Parts: TypeAlias = "Iterator[Part]"


@dataclass(frozen=True, slots=True)
class Header:
    """The first line of a bundle, checked for form but not yet authenticated."""

    line: bytes
    slot: Slot

    def unlock(self, secret: Secret) -> bytes | None:
        """Return the bundle's key, or None if the secret is not the one it was made for."""
        if secret.kind != self.slot.kind:
            return None
        try:
            return self.slot.unwrap(self.slot.derive(secret), FORMAT)[_KEY_ID]
        except seal.SealBrokenError:
            return None


def create(secret: Secret, *, now: datetime, cost: ArgonCost | None = None) -> tuple[Header, bytes]:
    """Return the header of a new bundle that this secret opens, and the bundle's key."""
    key = seal.generate_key()
    slot, _ = new_slot(FORMAT, {_KEY_ID: key}, secret, label="", now=now, cost=cost)
    return Header(_line(slot), slot), key


def parse_header(opening: bytes) -> Header:
    """Read the header from a file's opening bytes; ``MAX_HEADER_BYTES`` of them are enough. Nothing costly is done.

    Raises:
        BrokenError: It is none, or asks for a cost that is out of bounds.
        FormatError: It is one of another format version.
    """
    other = _OTHER_FORMAT.match(opening)
    if other is not None and other[1].decode() != FORMAT:
        message = (
            f"the bundle is of the format {other[1].decode()}, and this version of the library reads {FORMAT}: "
            "use the version of checkpoint_manager that wrote it, or a newer one"
        )
        raise FormatError(message)
    line = opening[: opening.find(b"\n", 0, MAX_HEADER_BYTES) + 1]
    try:
        fields = orjson.loads(line)
        slot = Slot.from_fields(fields["slot"], (_KEY_ID,))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BrokenError("has no valid header") from None
    if slot.label or _line(slot) != line:
        raise BrokenError("has a header that is not written as it must be")
    return Header(line, slot)


def _line(slot: Slot) -> bytes:
    return orjson.dumps({"format": FORMAT, "slot": slot.as_fields()}) + b"\n"


def seal_bundle(header: Header, key: bytes, parts: Iterable[Part]) -> Iterator[Buffer]:
    """Yield the bytes of a bundle, to be written in this order."""
    yield header.line
    plain = (piece for part in parts for piece in _encode(part))
    yield from seal.seal_stream(key, plain, _context(header))


def open_bundle(header: Header, key: bytes, body: Iterable[Buffer]) -> Iterator[Part]:
    """Yield the parts of a bundle, each checked in its place. Only when this has ended it is known that nothing is missing.

    Raises:
        BrokenError: The bundle does not open, or its parts are not as they must be.
        FormatError: It has a part of a newer format.
    """
    try:
        yield from _in_order(_Cursor(seal.unseal_stream(key, body, _context(header))))
    except seal.SealBrokenError:
        raise BrokenError("does not open: it is damaged, cut short or was changed") from None


def _context(header: Header) -> bytes:
    return seal.context(FORMAT, "body", header.line)


def _encode(part: Part) -> Iterator[Buffer]:
    match part:
        case StagePart():
            yield from _framed(b"S", part.name.encode())
        case VersionPart():
            yield from _framed(b"V", f"{part.version}\n".encode() + encode_entry(part.entry))
            yield from _framed(b"D", part.data)
        case GapsPart():
            yield from _framed(b"G", sealed_gaps.encode(part.gaps))
        case EndPart():
            yield from _framed(b"E", orjson.dumps([part.stages, part.versions]))


def _framed(kind: bytes, content: Buffer) -> Iterator[Buffer]:
    yield kind + len(content).to_bytes(8, "big")
    yield content


class _Cursor:
    """Reads parts from a stream of pieces, without ever taking more memory than has come."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def next_part(self) -> tuple[str, int]:
        """Return the kind and the length of the next part."""
        frame = self.take(9)
        return chr(frame[0]), int.from_bytes(frame[1:], "big")

    def take(self, length: int) -> bytearray:
        """Return the next ``length`` bytes."""
        taken = bytearray()
        while length:
            piece = self._some(length)
            taken += piece
            length -= len(piece)
        return taken

    def skip(self, length: int) -> None:
        """Pass over the next ``length`` bytes."""
        while length:
            length -= len(self._some(length))

    def at_end(self) -> bool:
        """Return whether nothing is left; the last tag was verified then."""
        return not self._rest and not self._fill()

    def _some(self, most: int) -> memoryview:
        if not self._rest and not self._fill():
            raise BrokenError("ends in the middle of a part")
        piece, self._rest = self._rest[:most], self._rest[most:]
        return piece

    def _fill(self) -> bool:
        self._rest = memoryview(next((piece for piece in self._pieces if piece), b""))
        return bool(self._rest)


def _in_order(cursor: _Cursor) -> Iterator[Part]:
    """Yield the parts, and refuse any that can't stand where it does."""
    name, stages, versions = "", 0, 0
    chain: Chain | None = None
    while True:
        kind, length = cursor.next_part()
        if kind == "S" and chain is None:
            stage = _stage(cursor, length)
            if stages and stage.name <= name:
                raise BrokenError("holds its stages in another order than it must")
            name, chain = stage.name, Chain()
            yield stage
        elif kind == "V" and chain is not None:
            part = _version(cursor, length)
            chain.add(part.version, part.entry)
            versions += 1
            yield part
        elif kind == "G" and chain is not None:
            gaps = _gaps(cursor, length)
            chain.close(gaps.gaps)
            chain = None
            stages += 1
            yield gaps
        elif kind == "E" and chain is None:
            yield _end(cursor, length, EndPart(stages, versions))
            return
        elif "a" <= kind <= "z" and chain is None and stages:
            cursor.skip(_at_most(length, MAX_OPTIONAL_BYTES))
        elif kind in "SVDGE" or not "A" <= kind <= "Z":
            raise BrokenError("holds a part that can't stand where it does")
        else:
            raise FormatError(f"the bundle holds a part {kind} of a newer format: use a newer version of checkpoint_manager")


def _at_most(length: int, most: int) -> int:
    if length > most:
        raise BrokenError(_TOO_LONG)
    return length


def _stage(cursor: _Cursor, length: int) -> StagePart:
    try:
        return StagePart(cursor.take(_at_most(length, _MAX_NAME_BYTES)).decode())
    except UnicodeDecodeError:
        raise BrokenError("holds a stage name that is no text") from None


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


def _entry(plain: bytes) -> Entry:
    entry = decode_entry(plain)
    ids = [entry.id] if entry.previous is None else [entry.id, entry.previous]
    if not all(map(_is_id, ids)) or not (entry.restored_from is None or type(entry.restored_from) is int):
        raise BrokenError("holds metadata with a field that is not as it must be")
    try:
        written = encode_entry(entry)
    except (TypeError, ValueError, OverflowError):
        written = b""
    if written != plain or seal.sealed_length(len(plain)) > MAX_METADATA_BYTES:
        raise BrokenError("holds metadata that is not written as it must be")
    return entry


def _gaps(cursor: _Cursor, length: int) -> GapsPart:
    plain = bytes(cursor.take(_at_most(length, MAX_GAPS_BYTES)))
    try:
        gaps = sealed_gaps.decode(plain)
    except (ValueError, TypeError):
        raise BrokenError("holds a record of deletions that is not of its format") from None
    if not all(map(_is_gap, gaps.gaps)) or sealed_gaps.encode(gaps) != plain:
        raise BrokenError("holds a record of deletions that is not written as it must be")
    return GapsPart(gaps)


def _end(cursor: _Cursor, length: int, expected: EndPart) -> EndPart:
    said = cursor.take(_at_most(length, _MAX_END_BYTES))
    if said != orjson.dumps([expected.stages, expected.versions]):
        raise BrokenError("holds another number of stages or versions than it says")
    if not cursor.at_end():
        raise BrokenError("goes on after its end")
    return expected


def _is_gap(gap: Gap) -> bool:
    numbers, ids = (gap.first, gap.last), (gap.before, gap.id)
    return (
        all(type(number) is int for number in numbers)
        and all(each is None or _is_id(each) for each in ids)
        and gap.reason in get_args(Reason)
    )


def _is_id(value: object) -> bool:
    return isinstance(value, str) and _ID.fullmatch(value) is not None
