"""A number over versions, as a line in SVG, with a text that says what it shows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _HEIGHT = 1000.0, 300.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 64.0, 984.0, 14.0, 262.0
_MOST_MARKS = 80
_SMALLEST_STEP = 1e-300
"""Smaller ones can't be divided any more."""


def draw(points: Sequence[tuple[int, float]]) -> Markup | None:
    """Return the chart of numbers by version; None if there are not two."""
    if len(points) < 2:
        return None
    versions, numbers = [version for version, _ in points], [number for _, number in points]
    low, high = min(numbers), max(numbers)
    steps = _steps(low, high)
    low, high = min(low, steps[0]), max(high, steps[-1])
    first, last = versions[0], versions[-1]

    def x(version: float) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (version - first) / max(last - first, 1), 1)

    def y(number: float) -> float:
        return round(_BOTTOM - (_BOTTOM - _TOP) * (number - low) / ((high - low) or 1.0), 1)

    parts = [
        Markup('<path class="line" d="M{}"/>').format(" L".join(f"{x(version)} {y(number)}" for version, number in points))
    ]
    for step in steps:
        parts.insert(0, Markup('<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(_LEFT, _RIGHT, y(step), y(step)))
        parts.append(Markup('<text x="{}" y="{}" text-anchor="end">{:g}</text>').format(_LEFT - 8, y(step) + 4, step))
    parts += [
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(x(version), _BOTTOM + 20, version)
        for version in sorted({first, last, *(first + round((last - first) * place / 6) for place in range(1, 6))})
    ]
    parts.append(Markup('<text x="{}" y="{}" text-anchor="middle">version</text>').format((_LEFT + _RIGHT) / 2, _HEIGHT - 2))
    if len(points) <= _MOST_MARKS:
        parts += [
            Markup('<circle class="mark" cx="{}" cy="{}" r="4"><title>version {}: {:g}</title></circle>').format(
                x(version), y(number), version, number
            )
            for version, number in points
        ]
    text = (
        f"A line over versions {first} to {last}: from {numbers[0]:g} to {numbers[-1]:g}, "
        f"at least {min(numbers):g}, at most {max(numbers):g}. The table below has the numbers."
    )
    return Markup('<svg class="line-chart" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, text, Markup("").join(parts)
    )


def _steps(low: float, high: float) -> list[float]:
    """Return round numbers from below the lowest to above the highest."""
    span = (high - low) or abs(high) or 1.0
    raw = max(span / 4, _SMALLEST_STEP)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw)
    start = math.floor(low / step)
    return [step * place for place in range(start, start + 12) if step * (place - 1) < high]
