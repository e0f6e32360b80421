r"""The record of deleted versions, which distinguishes a deletion from a theft and reveals an undone deletion.

One file for each stage that has any::

    header  {"format":"checkpoint-manager-gaps/2","store":"S","key":"K"}\n
    gaps    to the end of the file: a sealed message, the JSON list [serial, id, gaps]

S, K and the sealing are as in :mod:`checkpoint_manager._format.records`.

The serial is 1 for the first record and higher with each change; the id is 32 random hex digits, new with each change and the
same when only the key is exchanged. Serial and id together say whether a record is the one that was seen before, or an older
one that was put back.

A gap is the JSON list ``[first, last, before, id, reason]``: the versions first to last are gone. ``before`` is the id of the
last version below them that could be read, and ``id`` that of version last (either may be null: not known), so that the chain
of ids can be followed across the gap. The reason is ``deleted``, ``set aside`` (damaged, moved away by a repair) or ``lost``
(versions that this store once had, or an import skips, and that nobody may expect here). Gaps are in ascending order and do not
overlap. The file is at most 64 MiB long: a writer refuses to make it longer.

**Format 1** differs in its name, ``checkpoint-manager-gaps/1``, and in that the message is the list of gaps alone, without
serial and id. A reader takes its serial for 0 and its id for empty text. Nothing writes it any more.
"""

from __future__ import annotations

import os
import re
from array import array
from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Literal, TypeAlias, cast, get_args

from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.records import RecordFormat
from checkpoint_manager._named_tuple import NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

FORMAT = "checkpoint-manager-gaps/2"
FORMAT_1 = "checkpoint-manager-gaps/1"
MAX_GAPS_BYTES = 64 * 1024 * 1024
RECORD = RecordFormat(FORMAT, of="deleted versions", max_bytes=MAX_GAPS_BYTES, also_reads=FORMAT_1)
_NUMBER, _ID = rb"([1-9][0-9]{0,11})", rb'(?:null|"([0-9a-f]{32})")'
_GAP = rb'\[%b,%b,%b,%b,"(deleted|set aside|lost)"\]' % (_NUMBER, _NUMBER, _ID, _ID)
_BEGINNING = rb'\[%b,"([0-9a-f]{32})",' % _NUMBER
_NOT_OF_FORMAT = "holds deletions that are not of this format"

Reason: TypeAlias = Literal["deleted", "set aside", "lost"]


class Gap(NamedTuple):
    """Versions ``first`` to ``last``, gone on purpose; ``before`` and ``id`` as in the module's docstring."""

    first: int
    last: int
    before: str | None
    id: str | None
    reason: Reason = "deleted"


class Gaps:
    """All gaps of a stage, ascending, with serial and id of their record. Serial 0: there is none, or it is of format 1.

    Kept in arrays: a gap takes 51 bytes here, and up to a hundred as JSON. As an object it would take 330.
    """

    __slots__ = ("_firsts", "_ids", "_lasts", "_reasons", "id", "serial")

    def __init__(self, gaps: Iterable[Gap] = (), serial: int = 0, record_id: str = "") -> None:
        self.serial = serial
        self.id = record_id
        self._firsts = array("Q")
        self._lasts = array("Q")
        self._ids = bytearray()  # of each gap: before and id
        self._reasons = bytearray()
        for gap in gaps:
            self._firsts.append(gap.first)
            self._lasts.append(gap.last)
            self._ids += _packed(gap.before) + _packed(gap.id)
            self._reasons.append(_REASONS.index(gap.reason))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._firsts)

    def __iter__(self) -> Iterator[Gap]:
        """Yield the gaps, ascending."""
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, index: int) -> Gap:
        """Return one gap."""
        first, last, reason = self._firsts[index], self._lasts[index], _REASONS[self._reasons[index]]
        at = 2 * _PACKED_BYTES * (index % len(self))
        before, gap_id = self._ids[at : at + _PACKED_BYTES], self._ids[at + _PACKED_BYTES : at + 2 * _PACKED_BYTES]
        return Gap(first, last, _unpacked(before), _unpacked(gap_id), reason)

    def __eq__(self, other: object) -> bool:
        """Whether these are the same gaps, in whatever record."""
        return isinstance(other, Gaps) and self._content() == other._content()

    def __hash__(self) -> int:
        """Return a hash of the gaps."""
        return hash((bytes(self._ids), bytes(self._reasons)))

    def __repr__(self) -> str:
        return f"Gaps({list(self)}, {self.serial}, {self.id!r})"

    def _content(self) -> tuple[object, ...]:
        return self._firsts, self._lasts, self._ids, self._reasons

    def __contains__(self, version: object) -> bool:
        """Whether this version is gone on purpose."""
        return self.find(version) is not None

    def find(self, version: object) -> Gap | None:
        """Return the gap that this version lies in."""
        if not isinstance(version, int):
            return None
        index = bisect_right(self._firsts, version) - 1
        return self[index] if index >= 0 and version <= self._lasts[index] else None

    def has_any(self, first: int, last: int) -> bool:
        """Return whether one of these versions is gone on purpose."""
        index = bisect_right(self._firsts, last) - 1
        return index >= 0 and first <= self._lasts[index]

    def between(self, first: int, last: int) -> Iterator[Gap]:
        """Yield the gaps that hold one of these versions."""
        start = bisect_left(self._lasts, first)
        return map(self.__getitem__, range(start, bisect_right(self._firsts, last, lo=start)))

    @property
    def last(self) -> Gap | None:
        """The last gap."""
        return self[-1] if self else None

    def add(self, *new: Gap) -> Gaps:
        """Return the gaps of the next record: these and more, adjoining ones of one reason joined."""
        return self.merged(sorted(new, key=_first))

    def merged(self, new: Iterable[Gap]) -> Gaps:
        """As :meth:`add`, with any number of new gaps in ascending order."""
        return Gaps(_joined(self._with(new)), self.serial, self.id).renewed()

    def _with(self, new: Iterable[Gap]) -> Iterator[Gap]:
        """Yield these gaps and the new ones, ascending."""
        start = 0
        for gap in new:
            end = bisect_left(self._firsts, gap.first, lo=start)
            yield from map(self.__getitem__, range(start, end))
            yield gap
            start = end
        yield from map(self.__getitem__, range(start, len(self)))

    def only(self, keep: Callable[[Gap], bool]) -> Gaps:
        """Return those of the gaps that ``keep`` returns True for, with the serial and the id of these."""
        return Gaps(filter(keep, self), self.serial, self.id)

    def renewed(self, *, above: int = 0) -> Gaps:
        """Return the same gaps as the record that follows this one, and any record of serial ``above``."""
        return Gaps(self, max(self.serial, above) + 1, os.urandom(16).hex())


_REASONS: tuple[Reason, ...] = get_args(Reason)
_PACKED_BYTES = 17
_NO_ID = bytes(_PACKED_BYTES)


def _first(gap: Gap) -> int:
    return gap.first


def _packed(version_id: str | None) -> bytes:
    return _NO_ID if version_id is None else b"\1" + bytes.fromhex(version_id)


def _unpacked(packed: bytearray) -> str | None:
    return packed[1:].hex() if packed[0] else None


def _joined(gaps: Iterable[Gap]) -> Iterator[Gap]:
    before: Gap | None = None
    for gap in gaps:
        if before is not None and before.last + 1 == gap.first and before.reason == gap.reason:
            before = Gap(before.first, gap.last, before.before, gap.id, gap.reason)
        else:
            if before is not None:
                yield before
            before = gap
    if before is not None:
        yield before


def encode_list(gaps: Gaps) -> bytes:
    """Return the list ``gaps`` of the format."""
    encoded = bytearray(b"[")
    for gap in gaps:
        before, gap_id = (b"null" if each is None else b'"%b"' % each.encode() for each in (gap.before, gap.id))
        encoded += b'[%d,%d,%b,%b,"%b"],' % (gap.first, gap.last, before, gap_id, gap.reason.encode())
    if gaps:
        del encoded[-1:]
    return bytes(encoded + b"]")


def decode_list(plain: bytes) -> Gaps:
    """Return the gaps that :func:`encode_list` wrote.

    Raises:
        BrokenError: It is not written like that, or the gaps do not ascend.
    """
    return Gaps(_read_list(plain, 0, len(plain)))


def _read_list(plain: bytes, start: int, end: int) -> Iterator[Gap]:
    """Yield the gaps of a list, without ever holding it as objects."""
    if plain[start : start + 1] != b"[" or plain[end - 1 : end] != b"]":
        raise BrokenError(_NOT_OF_FORMAT)
    position, reached, pattern = start + 1, 0, re.compile(_GAP)
    while position < end - 1:
        match = pattern.match(plain, position, end - 1)
        if match is None or not reached < int(match[1]) <= int(match[2]):
            raise BrokenError(_NOT_OF_FORMAT)
        reached = int(match[2])
        before, gap_id = (None if each is None else each.decode() for each in match.group(3, 4))
        yield Gap(int(match[1]), reached, before, gap_id, cast("Reason", match[5].decode()))
        position = match.end()
        if position < end - 1:
            if plain[position : position + 2] != b",[":
                raise BrokenError(_NOT_OF_FORMAT)
            position += 1


def encode(gaps: Gaps) -> bytes:
    """Return the content of the record."""
    return b'[%d,"%b",%b]' % (gaps.serial, gaps.id.encode(), encode_list(gaps))


def decode(plain: bytes) -> Gaps:
    """Return the gaps from the content of a record, of either format.

    Raises:
        BrokenError: It breaks a rule of the format.
    """
    match = re.match(_BEGINNING, plain)
    if match is None:  # format 1
        return decode_list(plain)
    if not plain.endswith(b"]"):
        raise BrokenError(_NOT_OF_FORMAT)
    return Gaps(_read_list(plain, match.end(), len(plain) - 1), int(match[1]), match[2].decode())
