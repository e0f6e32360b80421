r"""The record of versions that are gone on purpose, so that a deletion can be told from a theft.

One file for each stage that has any::

    header  {"format":"checkpoint-manager-gaps/1","store":"S","key":"K"}\n
    gaps    to the end of the file: a sealed message, a JSON list of gaps

S, K and the sealing are as in :mod:`checkpoint_manager._format.records`.

A gap is the JSON list ``[first, last, before, id, reason]``: the
versions first to last are gone; ``before`` is the id of version first - 1 and ``id`` that of version last (either may
be null: not known), so that the chain of ids can be followed across the gap; the reason is ``deleted``, ``set aside``
(damaged, moved away by a repair) or ``lost`` (a rollback of the directory that its user accepted). Gaps are in
ascending order and do not overlap. The file is at most 64 MiB long: whoever would make it longer refuses.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import orjson

from checkpoint_manager._format.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterable

FORMAT = "checkpoint-manager-gaps/1"
MAX_GAPS_BYTES = 64 * 1024 * 1024
RECORD = RecordFormat(FORMAT, of="deleted versions", max_bytes=MAX_GAPS_BYTES)

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
    """All gaps of a stage."""

    gaps: tuple[Gap, ...] = ()

    def __contains__(self, version: object) -> bool:
        """Whether this version is gone on purpose."""
        return self.find(version) is not None

    def find(self, version: object) -> Gap | None:
        """Return the gap that this version lies in."""
        if not isinstance(version, int):
            return None
        before = bisect_right(self.gaps, version, key=lambda gap: gap.first)
        return self.gaps[before - 1] if before and version <= self.gaps[before - 1].last else None

    @property
    def last(self) -> Gap | None:
        """The last gap."""
        return self.gaps[-1] if self.gaps else None

    def add(self, *new: Gap) -> Gaps:
        """Return these gaps and more, adjoining ones of one reason made one."""
        merged: list[Gap] = []
        for gap in sorted((*self.gaps, *new), key=lambda gap: gap.first):
            last = merged[-1] if merged else None
            if last is not None and last.last + 1 == gap.first and last.reason == gap.reason:
                merged[-1] = Gap(last.first, gap.last, last.before, gap.id, gap.reason)
            else:
                merged.append(gap)
        return Gaps(tuple(merged))


def encode(gaps: Gaps) -> bytes:
    """Return the gaps as JSON."""
    return orjson.dumps([[gap.first, gap.last, gap.before, gap.id, gap.reason] for gap in gaps.gaps])


def decode(plain: bytes) -> Gaps:
    """Return the gaps that ``encode`` wrote; the JSON is authentic."""
    return Gaps(_decode(orjson.loads(plain)))


def _decode(fields: Iterable[tuple[int, int, str | None, str | None, Reason]]) -> tuple[Gap, ...]:
    return tuple(Gap(*gap) for gap in fields)
