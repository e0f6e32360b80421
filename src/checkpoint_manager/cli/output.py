"""What people and programs read: tables and sentences, or one JSON document."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager.model import display

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from checkpoint_manager.model import Version

SCHEMA = 1
"""Of the JSON documents. A field may be added under the same number; one that is removed or changed makes a new one."""

_WIDE = 10_000
_KIB = 1024
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


class ReaderGoneError(Exception):
    """Whoever read stdout has read enough: no fault, and nothing more to do. No OSError: click would judge that itself."""


def write_json(command: str, content: Mapping[str, Any]) -> None:
    """Print one JSON document on one line."""
    document = {"schema": SCHEMA, "command": command, **content}
    _write(orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE))


def write_data(data: object) -> None:
    """Print a checkpoint's data as JSON to read: indented."""
    _write(orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: fitted to a terminal, and never cut where a program reads."""
    from rich.console import Console  # noqa: PLC0415  # takes as long as the rest of the program
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(display(cell)) for cell in row))
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
    with console.capture() as captured:
        console.print(table)
    lines = (line.rstrip() for line in captured.get().splitlines())
    _write("".join(f"{line}\n" for line in lines).encode())


def write_bytes(data: bytes) -> None:
    """Print bytes as they are."""
    _write(data)


def write_line(text: str) -> None:
    """Print a line of data."""
    _write(f"{text}\n".encode())


def say(text: str) -> None:
    """Tell the user something that is no data."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def version_fields(version: Version) -> dict[str, Any]:
    """Return a version as it stands in a JSON document."""
    return {
        "stage": version.stage,
        "version": version.version,
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


def _write(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more at its end
        raise ReaderGoneError from None
