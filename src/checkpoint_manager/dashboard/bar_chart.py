"""Bytes as bars in SVG: of each stage, and how they grew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from markupsafe import Markup

from checkpoint_manager._text import printable
from checkpoint_manager.dashboard.filters import size

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _NAMES, _NUMBERS, _ROW = 1000.0, 220.0, 90.0, 22.0
_MOST_CHARACTERS = 30
_MOST_DAYS = 120


def draw(sizes: Sequence[tuple[str, int]]) -> Markup | None:
    """Return a bar for each name, the longest for the largest size; None if there is none."""
    if not sizes:
        return None
    largest = max(number for _, number in sizes) or 1
    rows = []
    for place, (name, number) in enumerate(sizes):
        y = place * _ROW
        length = round((_WIDTH - _NAMES - _NUMBERS) * number / largest, 1)
        text = printable(name)
        shown = text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
        rows.append(
            Markup(
                '<text x="{}" y="{}" text-anchor="end">{}</text>'
                '<rect class="bar" x="{}" y="{}" width="{}" height="12" rx="1.5">'
                '<title>{}: {}</title></rect><text x="{}" y="{}">{}</text>'
            ).format(
                _NAMES - 10, y + 15, shown, _NAMES, y + 5, max(length, 1.5), text, size(number),
                _NAMES + length + 8, y + 15, size(number),
            )
        )  # fmt: skip
    label = f"Bytes of {len(sizes)} stages: the most is {size(largest)}. The table below has the numbers."
    return _svg(len(sizes) * _ROW + 4, label, rows)


def grown(days: Sequence[tuple[str, int]]) -> Markup | None:
    """Return how bytes grew day by day, as bars of all bytes up to that day; None if there are not two days."""
    if len(days) < 2:
        return None
    total, sums = 0, []
    for day, number in days:
        total += number
        sums.append((day, total))
    sums = sums[-_MOST_DAYS:]
    width = min(40.0, (_WIDTH - 80) / len(sums))
    bars = [
        Markup('<rect class="bar" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"><title>{}: {}</title></rect>').format(
            place * width, 130 - 110 * number / total, max(width - 2, 1), 110 * number / total, day, size(number)
        )
        for place, (day, number) in enumerate(sums)
    ]
    bars.append(Markup('<text x="0" y="148">{}</text>').format(sums[0][0]))
    bars.append(Markup('<text x="{:.1f}" y="148" text-anchor="end">{}</text>').format(max(len(sums) * width, 170), sums[-1][0]))
    label = f"Bytes kept from {sums[0][0]} to {sums[-1][0]}: from {size(sums[0][1])} to {size(total)}."
    return _svg(154, label, bars)


def _svg(height: float, label: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<svg class="bars" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, height, label, Markup("").join(parts)
    )
