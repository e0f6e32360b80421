"""Tables for people, drawn by rich. A module of its own: rich takes as long to load as the rest of the program."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from checkpoint_manager._text import escaped
from checkpoint_manager.cli.output import STYLES, colourful

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_WIDE = 10_000
_JUDGED = {"STATUS", "STATE"}


def drawn(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as it looks on stdout, with the states coloured."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = zip(columns, map(escaped, row), strict=True)
        table.add_row(*(Text(cell, STYLES.get(cell, "") if column in _JUDGED else "") for column, cell in cells))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE, no_color=not colourful(sys.stdout))
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())
