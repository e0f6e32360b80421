r"""The record of versions that are gone on purpose, so that a deletion can be told from a theft, and can't be undone unnoticed.

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

import re
import secrets
from bisect import bisect_right
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import orjson

from checkpoint_manager._format.checkpoint_file import MAX_VERSION, BrokenError
from checkpoint_manager._format.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FORMAT = "checkpoint-manager-gaps/2"
FORMAT_1 = "checkpoint-manager-gaps/1"
MAX_GAPS_BYTES = 64 * 1024 * 1024
RECORD = RecordFormat(FORMAT, of="deleted versions", max_bytes=MAX_GAPS_BYTES, also_reads=FORMAT_1)
_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)

Reason: TypeAlias = Literal["deleted", "set aside", "lost"]


class Gap(NamedTuple):
    """Versions ``first`` to ``last``, gone on purpose; ``before`` and ``id`` as in the module's docstring."""

    first: int
    last: int
    before: str | None
    id: str | None
    reason: Reason = "deleted"


@dataclass(frozen=True, slots=True)
class Gaps:
    """All gaps of a stage, with the serial and the id of their record. Serial 0: there is none, or it is of format 1."""

    gaps: tuple[Gap, ...] = ()
    serial: int = field(default=0, compare=False)
    id: str = field(default="", compare=False)

    def __contains__(self, version: object) -> bool:
        """Whether this version is gone on purpose."""
        return self.find(version) is not None

    def find(self, version: object) -> Gap | None:
        """Return the gap that this version lies in."""
        if not isinstance(version, int):
            return None
        before = bisect_right(self.gaps, version, key=lambda gap: gap.first)
        return self.gaps[before - 1] if before and version <= self.gaps[before - 1].last else None

    def __iter__(self) -> Iterator[Gap]:
        """Yield the gaps, ascending."""
        return iter(self.gaps)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.gaps)

    @property
    def last(self) -> Gap | None:
        """The last gap."""
        return self.gaps[-1] if self.gaps else None

    def add(self, *new: Gap) -> Gaps:
        """Return the gaps of the next record: these and more, adjoining ones of one reason joined."""
        merged: list[Gap] = []
        for gap in sorted((*self.gaps, *new), key=lambda gap: gap.first):
            last = merged[-1] if merged else None
            if last is not None and last.last + 1 == gap.first and last.reason == gap.reason:
                merged[-1] = Gap(last.first, gap.last, last.before, gap.id, gap.reason)
            else:
                merged.append(gap)
        return replace(self, gaps=tuple(merged)).renewed()

    def renewed(self, *, above: int = 0) -> Gaps:
        """Return the same gaps as the record that follows this one, and any record of serial ``above``."""
        return replace(self, serial=max(self.serial, above) + 1, id=secrets.token_hex(16))


def encode_list(gaps: Gaps) -> bytes:
    """Return the list ``gaps`` of the format."""
    return orjson.dumps([[gap.first, gap.last, gap.before, gap.id, gap.reason] for gap in gaps])


def decode_list(plain: bytes) -> Gaps:
    """Return the gaps that :func:`encode_list` wrote; the JSON is authentic."""
    return Gaps(_gaps_of(orjson.loads(plain)))


def encode(gaps: Gaps) -> bytes:
    """Return the content of the record."""
    return b'[%d,"%b",%b]' % (gaps.serial, gaps.id.encode(), encode_list(gaps))


def decode(plain: bytes) -> Gaps:
    """Read the content of a record, of either format. It is authentic: what does not fit was written by a faulty program.

    Raises:
        BrokenError: It breaks a rule of the format.
    """
    try:
        content = orjson.loads(plain)
        if not content or isinstance(content[0], list):  # format 1
            return Gaps(_gaps_of(content))
        serial, record_id, gaps = content
        if type(serial) is int and 1 <= serial <= MAX_VERSION and _ID.fullmatch(record_id) is not None:
            return Gaps(_gaps_of(gaps), serial, record_id)
    except (ValueError, TypeError):
        pass
    raise BrokenError("holds deletions that are not of this format")


def _gaps_of(fields: Iterable[tuple[int, int, str | None, str | None, Reason]]) -> tuple[Gap, ...]:
    return tuple(Gap(*gap) for gap in fields)
