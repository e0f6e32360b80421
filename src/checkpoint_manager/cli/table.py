"""Tables for people: fitted to a terminal without breaking a word, and never cut where a program reads.

Where the columns do not fit even with their longest words side by side, or where it takes fewer lines, each row becomes a block
of lines. A module of its own: the widths of characters come from rich, and loading it takes time.
"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from rich.cells import cell_len

from checkpoint_manager._text import escaped
from checkpoint_manager.cli.colour import colourful, in_colour

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_JUDGED = frozenset(("STATUS", "STATE"))
_BETWEEN = "  "


class Table:
    """A table on stdout that is drawn a page at a time: a column never gets narrower from one page to the next."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._columns = columns
        self._widths = [0] * len(columns)
        self._words = [0] * len(columns)
        self._is_begun = False

    def page(self, rows: Iterable[Sequence[str]]) -> str:
        """Return the next rows as text; before the first ones, the names of the columns."""
        return "".join(f"{line}\n" for lines in self.rows(rows) for line in lines)

    def rows(self, rows: Iterable[Sequence[str]]) -> list[list[str]]:
        """Return the lines of each row; the names of the columns stand above the first one."""
        cells = [list(map(escaped, row)) for row in rows]
        for row in cells if self._is_begun else [list(self._columns), *cells]:
            self._widths = [max(width, cell_len(cell)) for width, cell in zip(self._widths, row, strict=True)]
            self._words = [max(width, _longest_word(cell)) for width, cell in zip(self._words, row, strict=True)]
        room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        widths = _fitted(self._widths, self._words, room)
        if widths is None:
            return self._blocks(cells, room)
        drawn = [list(_row(self._columns, row, widths)) for row in cells]
        if not self._is_begun:
            if any(len(lines) > 1 for lines in drawn) and _lines_in(drawn) > _lines_in(blocks := self._blocks(cells, room)):
                return blocks
            self._is_begun = True
            drawn.insert(0, list(_row(self._columns, self._columns, widths, is_head=True)))
        return drawn

    def _blocks(self, cells: Iterable[Sequence[str]], room: int | None) -> list[list[str]]:
        return [list(_block(self._columns, row, room)) for row in cells]


def _lines_in(drawn: Iterable[Sequence[str]]) -> int:
    return sum(map(len, drawn))


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split(" ")))


def _fitted(widths: Sequence[int], words: Sequence[int], room: int | None) -> list[int] | None:
    """Return how wide the columns are drawn; None: they can't be, without breaking a word."""
    fitted = list(widths)
    while room is not None and sum(fitted) + len(_BETWEEN) * (len(fitted) - 1) > room:
        wide = [index for index, width in enumerate(fitted) if width > words[index]]
        if not wide:
            return None
        fitted[max(wide, key=fitted.__getitem__)] -= 1
    return fitted


def _row(columns: Sequence[str], row: Sequence[str], widths: Sequence[int], *, is_head: bool = False) -> Iterator[str]:
    wrapped = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
    for number in range(max(map(len, wrapped))):
        parts = []
        for column, cell, lines, width in zip(columns, row, wrapped, widths, strict=True):
            text = lines[number] if number < len(lines) else ""
            padded = text + " " * (width - cell_len(text))
            if is_head:
                padded = f"\x1b[1m{padded}\x1b[0m" if colourful(sys.stdout) else padded
            elif column in _JUDGED:
                padded = in_colour(cell, padded)
            parts.append(padded)
        yield _BETWEEN.join(parts).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    if cell_len(text) <= width:
        return [text]
    lines: list[str] = []
    for word in text.split(" "):
        if lines and cell_len(lines[-1]) + 1 + cell_len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def _block(columns: Sequence[str], row: Sequence[str], room: int | None) -> Iterator[str]:
    width = max(map(len, columns))
    for column, cell in zip(columns, row, strict=True):
        if cell:
            first, *more = _wrapped(cell, (room or 0) - width - len(_BETWEEN))
            yield f"{column.ljust(width)}{_BETWEEN}{in_colour(cell, first) if column in _JUDGED else first}"
            yield from (f"{' ' * width}{_BETWEEN}{line}" for line in more)
    yield ""
