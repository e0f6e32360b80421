"""Show where two texts differ, in context: by line if they have several lines, else by character."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

import orjson

from checkpoint_manager._text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_MOST_LINES = 1000
"""How many lines of the differing part are aligned: the time that difflib takes grows with their square."""
_SHOWN_LINES = 20
_CONTEXT_LINES = 2
_CONTEXT = 20
_SHOWN = 40


def changed_part(old: str, new: str) -> str:
    """Return the part in which two texts of one line each differ, from both of them, in context."""
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    place = f" (from character {start + 1:,})" if start > _CONTEXT else ""
    return f"{_around(old, start, len(old) - end)} → {_around(new, start, len(new) - end)}{place}"


def changed_lines(old: str, new: str) -> Iterator[str]:
    """Yield the lines in which two texts differ, and some lines around them, as in a unified diff."""
    before, after = old.split("\n"), new.split("\n")
    head = _common(before, after)
    tail = _common(before[head:][::-1], after[head:][::-1])
    first = max(0, head - _CONTEXT_LINES)
    part_old = before[first : len(before) - tail + _CONTEXT_LINES]
    part_new = after[first : len(after) - tail + _CONTEXT_LINES]
    if len(part_old) + len(part_new) > _MOST_LINES:
        found = [*_signed("-", part_old), *_signed("+", part_new)]
        yield f"@@ from line {first + 1:,} on, {len(part_old):,} lines → {len(part_new):,} lines @@"
    else:
        found = [*difflib.unified_diff(part_old, part_new, n=_CONTEXT_LINES, lineterm="")][3:]
        yield f"@@ from line {first + 1:,} on @@"
    for line in found[:_SHOWN_LINES]:
        shown = printable(line[1:])
        yield line[0] + (shown if len(shown) <= 2 * _SHOWN else f"{shown[: 2 * _SHOWN - 1]}…")
    if len(found) > _SHOWN_LINES:
        yield f"… and {len(found) - _SHOWN_LINES:,} more lines"


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """Return how many elements two sequences have in common at their beginning."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((index for index, (one, other) in pairs if one != other), min(len(left), len(right)))


def _around(text: str, start: int, end: int) -> str:
    """Return the part of a text from ``start`` to ``end``, in context and in quotes."""
    first, last = max(0, start - _CONTEXT), min(len(text), min(end, start + _SHOWN) + _CONTEXT)
    shown = printable(orjson.dumps(text[first:last]).decode()[1:-1])
    return f'{"…" if first else ""}"{shown}"{"…" if last < len(text) else ""}'


def _signed(sign: str, lines: Sequence[str]) -> Iterator[str]:
    return (f"{sign}{line}" for line in lines[:_SHOWN_LINES])
