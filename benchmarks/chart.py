"""The results as one SVG picture, for the README: bars from nothing, our own in blue, legible on light and dark pages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from benchmarks.contenders import floors
from benchmarks.contenders.ours import VARIANTS
from benchmarks.summary import figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contenders.registry import Field
    from benchmarks.summary import Result, Row

_STYLE = """\
text { font: 12px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.page { fill: #ffffff } .title { font-weight: 600; font-size: 14px } .faint { fill: #59636e; font-size: 11px }
.ours { fill: #0969da } .floor { fill: #afb8c1 } .peer { fill: #bc4c00 } .less { fill: #f6c9a8 }
.mine { font-weight: 600 } .cut { stroke: #ffffff; stroke-width: 3 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .page { fill: #0d1117 } .faint { fill: #9198a1 } .cut { stroke: #0d1117 }
  .ours { fill: #4493f8 } .floor { fill: #656c76 } .peer { fill: #f0883e } .less { fill: #7d4a20 }
}"""
_LEGEND = (
    ("ours", "checkpoint_manager"),
    ("floor", "the floor: the least that it takes"),
    ("peer", "encrypts and syncs"),
    ("less", "leaves out one of them"),
)
_WIDTH, _PANEL, _LABELS, _BARS, _ROW, _HEAD, _TOP = 920, 460, 200, 170, 18, 46, 48
_CLIPPED_AT = 4.0
"""In multiples of ours: longer bars are cut, and say so."""


@dataclass(frozen=True, slots=True)
class _Panel:
    title: str
    keys: tuple[str, ...]
    floor: str


_PANELS = (
    _Panel("Save 1 KiB", ("save/1 KiB/None",), floors.SAME_PROTOCOL),
    _Panel("Save 10 MB", ("save/10 MB/None", "save/1 MB/None", "save/100 KiB/None"), floors.JSON_BARE),
    _Panel("Is this stage done? (1 KiB)", ("skip/each of ",), floors.SEALED),
    _Panel("8 processes on one stage", ("contention/8 processes on one stage/throughput", "contention/"), floors.SAME_PROTOCOL),
)


def draw(results: Sequence[Result], field: Field, caption: str) -> str:
    """Return the picture.

    Raises:
        ValueError: None of the results is one that is drawn.
    """
    chosen = [(panel, result) for panel in _PANELS if (result := _find(panel, results))]
    if not chosen:
        raise ValueError("there is nothing to draw: the chart shows save, skip and contention")
    parts, top = [_legend()], float(_TOP)
    for left, right in zip(chosen[::2], [*chosen[1::2], None], strict=False):
        pair = [pair for pair in (left, right) if pair]
        shown = [_rows(panel, result, field) for panel, result in pair]
        for column, ((panel, result), rows) in enumerate(zip(pair, shown, strict=True)):
            parts += _panel(column * _PANEL + 16, top, panel, result, rows, field)
        top += _HEAD + _ROW * max(map(len, shown)) + 16
    parts.append(f'<text class="faint" x="16" y="{top + 6}">{escape(caption)}</text>')
    height = top + 20
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height:.0f}" viewBox="0 0 {_WIDTH} {height:.0f}" '
        f'role="img" aria-label="Times of checkpoint_manager beside others">\n<style>\n{_STYLE}\n</style>\n'
        f'<rect class="page" width="{_WIDTH}" height="{height:.0f}" rx="6"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _find(panel: _Panel, results: Sequence[Result]) -> Result | None:
    return next((result for key in panel.keys for result in results if result.key.startswith(key) and result.rows), None)


def _rows(panel: _Panel, result: Result, field: Field) -> list[Row]:
    """Return what is drawn of a result, the best first."""
    drawn = {kind.name for kind in field if kind.kind == "peer"} | {panel.floor}
    rows = [row for row in result.rows if row.runs and (row.contender in drawn or _kind(row, field) == "ours")]
    rows = [row for row in rows if row.contender not in VARIANTS]
    return sorted(rows, key=lambda row: row.median, reverse=result.unit == "/s")


def _kind(row: Row, field: Field) -> str:
    there = field.present[row.contender]
    if there.kind != "peer":
        return there.kind
    return "less" if there.lacks & {"encrypt", "sync"} else "peer"


def _legend() -> str:
    parts, x = [], 16
    for kind, text in _LEGEND:
        parts.append(f'<rect class="{kind}" x="{x}" y="14" width="12" height="12" rx="2"/>')
        parts.append(f'<text x="{x + 18}" y="24">{escape(text)}</text>')
        x += 46 + round(6.4 * len(text))
    return "\n".join(parts)


def _panel(x: float, y: float, panel: _Panel, result: Result, rows: Sequence[Row], field: Field) -> list[str]:
    title = panel.title if result.key.startswith(panel.keys[0]) else result.title[0].upper() + result.title[1:]
    more = "more is better" if result.unit == "/s" else "less is better"
    unit = "saves per second" if result.unit == "/s" else "median"
    parts = [
        f'<text class="title" x="{x}" y="{y + 14}">{escape(title)}</text>',
        f'<text class="faint" x="{x}" y="{y + 30}">{unit}, {more}</text>',
    ]
    longest = max(row.median for row in rows)
    ours = result.median()
    limit = min(longest, _CLIPPED_AT * ours) if ours else longest
    for number, row in enumerate(rows):
        parts += _bar(x, y + _HEAD + number * _ROW, row, result.unit, limit, _kind(row, field))
    return parts


def _bar(x: float, y: float, row: Row, unit: str, limit: float, kind: str) -> list[str]:
    width = max(1.0, _BARS * min(1.0, row.median / limit))
    start = x + _LABELS
    name = row.contender.removeprefix("floor: ")
    mine = ' class="mine"' if kind == "ours" else ""
    parts = [
        f'<text{mine} x="{start - 8}" y="{y + 9}" text-anchor="end">{escape(name)}</text>',
        f'<rect class="{kind}" x="{start}" y="{y - 2}" width="{width:.1f}" height="13" rx="2"/>',
        f'<text{mine} x="{start + width + 6:.1f}" y="{y + 9}">{escape(figure(row.median, unit))}</text>',
    ]
    if row.median > limit:
        cut = start + width - 18
        parts.append(f'<path class="cut" d="M{cut:.0f} {y + 13} l6 -17"/>')
    return parts
