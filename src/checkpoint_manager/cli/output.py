"""What people and programs read: tables and sentences, or one JSON document."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any

from checkpoint_manager.cli.wording import for_the_command_line
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from checkpoint_manager.models import Version

SCHEMA = 1
"""Of the JSON documents. A field may be added under the same number; one that is removed or changed makes a new one."""

_WIDE = 10_000
_JUDGED = {"STATUS", "STATE"}
_STYLES = {
    **dict.fromkeys(("completed", "whole", "ok"), "green"),
    **dict.fromkeys(("progress", "leftover", "exposed", "clock", "warning"), "yellow"),
    **dict.fromkeys(("failed", "damaged", "missing", "foreign", "rolled-back", "unreadable", "unfinished", "problem"), "red"),
    "cleared": "dim",
}
"""What is in order, what wants to be looked at, and what is wrong."""
_KIB = 1024
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def write_json(command: str, content: Mapping[str, Any]) -> None:
    """Print one JSON document on one line."""
    import orjson  # noqa: PLC0415  # --help does not wait for it

    document = {"schema": SCHEMA, "command": command, **content}
    _write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def write_data(data: object) -> None:
    """Print a checkpoint's data as JSON to read: indented."""
    import orjson  # noqa: PLC0415  # --help does not wait for it

    _write(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: fitted to a terminal, and never cut where a program reads."""
    write_text(table_text(columns, rows))


def table_text(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table as it looks on stdout; what a version's status says is coloured."""
    from rich.console import Console  # noqa: PLC0415  # takes as long as the rest of the program
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = zip(columns, map(display, row), strict=True)
        table.add_row(*(Text(cell, _STYLES.get(cell, "") if column in _JUDGED else "") for column, cell in cells))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE, no_color=not colourful(sys.stdout))
    with console.capture() as captured:
        console.print(table)
    return "".join(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def in_colour(judgement: str, text: str) -> str:
    """Return a text in the colour of what it says, where colours are wanted."""
    code = {"green": 32, "yellow": 33, "red": 31, "dim": 2}.get(_STYLES.get(judgement, ""))
    return text if code is None or not colourful(sys.stdout) else f"\x1b[{code}m{text}\x1b[0m"


def write_text(text: str) -> None:
    """Print lines of data."""
    _write(text.encode())


def write_bytes(data: bytes) -> None:
    """Print bytes as they are."""
    _write(data)


def write_line(text: str) -> None:
    """Print a line of data."""
    _write(f"{text}\n".encode())


def say(text: str) -> None:
    """Tell the user something that is no data. That nobody listens is no reason to stop half-way."""
    with contextlib.suppress(BrokenPipeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def say_json(content: Mapping[str, Any]) -> None:
    """Tell a program something that is no data, as one JSON document on one line."""
    import orjson  # noqa: PLC0415  # --help does not wait for it

    say(orjson.dumps({"schema": SCHEMA, **content}).decode())


def show_warnings() -> None:
    """Show the library's warnings and errors as lines of this program; what is merely told, the commands print themselves."""
    logger = logging.getLogger("checkpoint_manager")
    logger.handlers[:] = [logging.StreamHandler(sys.stderr)]  # an earlier run in the same process may have left one
    logger.handlers[0].setFormatter(_Line())
    logger.setLevel(logging.WARNING)
    logger.propagate = False


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return f"{record.levelname.lower()}: {for_the_command_line(record.getMessage())}"


def colourful(stream: IO[str]) -> bool:
    """Return whether colours may be written: at a terminal that has them, to someone who has not asked for none.

    See https://no-color.org.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def version_fields(version: Version) -> dict[str, Any]:
    """Return a version as it stands in a JSON document."""
    return {
        "stage": version.stage,
        "version": version.number,
        "status": version.status,
        "created_at": version.created_at,
        "metadata": dict(version.metadata),
        "origin": asdict(version.origin),
        "size": version.size,
        "restored_from": version.restored_from,
    }


def show_time(moment: datetime) -> str:
    """Return a time as a person reads it: local, and how long ago."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds()))
    length, unit = next(((length, unit) for length, unit in _AGES if seconds >= length), (1, "s"))
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S} ({seconds // length} {unit} ago)"


def show_size(size: float) -> str:
    """Return a number of bytes as a person reads it."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} TiB"


def discard_the_rest() -> None:
    """Throw away what is still to be written to stdout: the interpreter would try once more at its end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        discard_the_rest()
        raise
