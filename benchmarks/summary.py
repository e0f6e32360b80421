"""Samples to figures: medians, 99th percentiles, ratios."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from benchmarks.contenders.ours import OURS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Unit: TypeAlias = Literal["s", "/s", "MB/s", "bytes"]


@dataclass(frozen=True, slots=True)
class Row:
    """What one contender needed, or achieved."""

    contender: str
    median: float
    p99: float | None = None
    runs: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One comparison: all its rows come from one run, interleaved.

    Attributes:
        key: Its name for programs, as ``save/1 KiB``.
        title: Its name for people.
        unit: What the figures count; more of ``/s`` and ``MB/s`` is better, of all else less.
        rows: Ours first, then as they were registered.
        absent: Who is left out of this comparison, and why.
    """

    key: str
    title: str
    unit: Unit
    rows: tuple[Row, ...]
    absent: Mapping[str, str] = field(default_factory=dict)

    def median(self, contender: str = OURS) -> float | None:
        """Return a contender's figure, or None if it did not take part."""
        return next((row.median for row in self.rows if row.contender == contender), None)

    def ratio(self, row: Row) -> float | None:
        """Return a row's figure in multiples of ours."""
        ours = self.median()
        return row.median / ours if ours else None


def row(contender: str, samples: Sequence[float], note: str = "") -> Row:
    """Return the figures of a contender's samples. Of fewer than 20 there is no 99th percentile."""
    p99 = percentile(samples, 0.99) if len(samples) >= 20 else None
    return Row(contender, statistics.median(samples), p99, len(samples), note)


def percentile(samples: Sequence[float], share: float) -> float:
    """Return the smallest sample that at least this share of all does not exceed (nearest rank)."""
    return sorted(samples)[max(0, math.ceil(share * len(samples)) - 1)]


def figure(value: float, unit: str) -> str:
    """Return a figure with its unit, to three digits."""
    if unit == "s":
        for factor, name in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
            if value * factor >= 1 or name == "µs":
                return f"{_digits(value * factor)} {name}"
    if unit == "bytes":
        for factor, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
            if value >= factor:
                return f"{_digits(value / factor)} {name}"
        return f"{value:.0f} B"
    return f"{_digits(value)} {unit.removeprefix('/s')}".strip() + ("/s" if unit == "/s" else "")


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
