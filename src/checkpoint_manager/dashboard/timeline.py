"""The versions of a stage on a time axis, as SVG: tags above it, restores as arcs below it, deleted versions as gaps in it."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup

from checkpoint_manager._text import printable
from checkpoint_manager.dashboard.cell import shown_state
from checkpoint_manager.dashboard.filters import duration, local

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from checkpoint_manager import Version

_WIDTH, _LEFT, _RIGHT = 1000.0, 24.0, 976.0
_TAGS_Y, _AXIS_Y, _LABEL_Y, _HEIGHT = 22.0, 74.0, 148.0, 156.0
_MOST_TAGS = 14
_STEPS = (1, 5, 15, 60, 300, 900, 3600, 3 * 3600, 6 * 3600, 86_400, 2 * 86_400, 7 * 86_400, 30 * 86_400, 365 * 86_400)
_MOST_TICKS = 8


class _Point(NamedTuple):
    version: Version
    x: float


def draw(versions: Sequence[Version], tags: Mapping[int, Sequence[str]]) -> Markup | None:
    """Return the chart of versions, newest first; None if there are not two to compare."""
    dated = [version.created_at for version in versions if version.created_at is not None]
    if len(versions) < 2 or not dated:
        return None
    first, last = min(dated), max(dated)
    points = _placed([*reversed(versions)], first, last)
    where = {point.version.number: point.x for point in points}
    parts = [
        Markup('<line class="axis" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(_LEFT, _RIGHT, _AXIS_Y, _AXIS_Y),
        *_ticks(first, last),
        *_gaps(points),
        *(_arc(where[v.restored_from], where[v.number]) for v in versions if v.restored_from in where),
        *_flags(points, tags),
        *map(_dot, points),
    ]
    title = f"{len(versions)} versions, from {local(first)} to {local(last)}"
    return Markup('<svg class="timeline" viewBox="0 0 {:g} {:g}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, f"Timeline: {title}. The table below has the same versions.", Markup("").join(parts)
    )


def legend(versions: Sequence[Version]) -> list[tuple[str, Markup]]:
    """Return the name and the sign of what is in the chart of these versions, newest first."""
    signs = [(state, _sign(state, 8, 8)) for state in dict.fromkeys(map(shown_state, versions))]
    numbers = [version.number for version in versions]
    if any(version.restored_from in numbers for version in versions):
        signs.append(("restored", Markup('<path class="arc" d="M1 5C1 15 15 15 15 5"/>')))
    if numbers and numbers[0] - numbers[-1] >= len(numbers):
        signs.append(("deleted", _gap(8, 8)))
    return signs


def _placed(versions: Sequence[Version], first: datetime, last: datetime) -> list[_Point]:
    """Return each version, oldest first, with its place. One whose time is not known stands beside the one before it."""
    span = (last - first).total_seconds() or 1.0
    points, x = [], _LEFT + 8
    for version in versions:
        if version.created_at is not None:
            x = _LEFT + 8 + (_RIGHT - _LEFT - 16) * (version.created_at - first).total_seconds() / span
        else:
            x = min(x + 12, _RIGHT)
        points.append(_Point(version, round(x, 1)))
    return points


def _dot(point: _Point) -> Markup:
    version = point.version
    state = shown_state(version)
    when = "" if version.created_at is None else f", {local(version.created_at)}"
    return Markup("<g><title>{}</title>{}</g>").format(
        f"version {version.number}: {state}{when}", _sign(state, point.x, _AXIS_Y)
    )


def _sign(state: str, x: float, y: float) -> Markup:
    shape = _SHAPES.get(state, _SHAPES["done"]).format(x=x, y=y)
    return Markup('<g class="dot is-{}">{}</g>').format(state.replace(" ", "-"), shape)


_SHAPES = {  # told apart without colour, too
    "done": Markup('<circle cx="{x}" cy="{y}" r="5"/>'),
    "cleared": Markup('<circle cx="{x}" cy="{y}" r="4.5"/>'),
    "progress": Markup('<path d="M{x} {y}m-5-5h10v10h-10z"/>'),
    "failed": Markup('<path d="M{x} {y}m-5-5l10 10m0-10l-10 10"/>'),
    "damaged": Markup('<path d="M{x} {y}m0-7l7 12h-14z"/>'),
    "unreadable": Markup('<path d="M{x} {y}m0-7l7 12h-14z"/>'),
    "missing": Markup('<path d="M{x} {y}m-4-4h8v8h-8z"/>'),
}


def _ticks(first: datetime, last: datetime) -> list[Markup]:
    span = (last - first).total_seconds()
    if span < 1:
        return [_label(_LEFT, "start", local(first)), _label(_RIGHT, "end", f"{duration(span)} later")]
    step = next((step for step in _STEPS if span / step <= _MOST_TICKS), int(span / _MOST_TICKS) + 1)
    form = "%H:%M:%S" if step < 60 else "%H:%M" if step < 86_400 else "%b %d" if step < 365 * 86_400 else "%Y"
    here = first.astimezone()
    start = here.replace(microsecond=0, second=0, minute=0, hour=0)
    ticks = start + timedelta(seconds=step * ((here - start).total_seconds() // step + 1))
    found: list[Markup] = []
    day = ""
    while ticks <= last and len(found) <= _MOST_TICKS * 3:
        x = round(_LEFT + 8 + (_RIGHT - _LEFT - 16) * (ticks - first).total_seconds() / span, 1)
        text = ticks.strftime(form)
        if step < 86_400 and ticks.strftime("%b %d") != day and span > 86_400 / 2:
            day = ticks.strftime("%b %d")
            text = f"{day} {text}"
        found.append(Markup('<line class="tick" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(x, x, _AXIS_Y, _LABEL_Y - 14))
        found.append(_label(x, "middle" if 60 < x < _WIDTH - 60 else "start" if x <= 60 else "end", text))
        ticks += timedelta(seconds=step)
    return found


def _label(x: float, anchor: str, text: str) -> Markup:
    return Markup('<text class="label" x="{}" y="{}" text-anchor="{}">{}</text>').format(x, _LABEL_Y, anchor, text)


def _gaps(points: Sequence[_Point]) -> list[Markup]:
    """Mark where versions were deleted: numbers that are left out."""
    found = []
    for before, after in itertools.pairwise(points):
        lost = after.version.number - before.version.number - 1
        if lost > 0:
            sign = _gap((before.x + after.x) / 2, _AXIS_Y)
            found.append(Markup("<g><title>{} deleted</title>{}</g>").format(lost, sign))
    return found


def _gap(x: float, y: float) -> Markup:
    return Markup('<g class="gap"><path d="M{} {}m-3 7l3-14m3 14l3-14"/></g>').format(x, y)


def _arc(source: float, copy: float) -> Markup:
    depth = _AXIS_Y + 14 + min(44.0, abs(copy - source) / 6)
    path = f"M{source} {_AXIS_Y + 6}C{source} {depth} {copy} {depth} {copy} {_AXIS_Y + 6}"
    return Markup('<path class="arc" d="{}"><title>restored</title></path>').format(path)


def _flags(points: Sequence[_Point], tags: Mapping[int, Sequence[str]]) -> list[Markup]:
    """Draw the tags, the newest ones, in two rows so that neighbours don't cover each other."""
    found: list[Markup] = []
    tagged = [point for point in points if point.version.number in tags][-_MOST_TAGS:]
    for place, point in enumerate(tagged):
        names = ", ".join(map(printable, tags[point.version.number]))
        y = _TAGS_Y + 18 * (place % 2)
        anchor, shift = ("end", -4) if point.x > _WIDTH - 120 else ("start", 4)
        found.append(
            Markup(
                '<g class="flag"><line x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>'
                '<text x="{3}" y="{4}" text-anchor="{5}">{6}</text></g>'
            ).format(point.x, y - 9, _AXIS_Y - 6, point.x + shift, y, anchor, names if len(names) < 24 else f"{names[:22]}…")
        )
    return found
