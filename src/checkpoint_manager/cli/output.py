"""Output for people (tables and sentences) and for programs (one JSON document)."""

from __future__ import annotations

import contextlib
import logging
import shutil
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkpoint_manager._text import escaped
from checkpoint_manager.cli import discard
from checkpoint_manager.cli.hints import explain, sentence
from checkpoint_manager.errors import CheckpointError, Hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import TextIO

    from checkpoint_manager.cli.table import Table
    from checkpoint_manager.models import Version

SCHEMA = 1
"""Of the JSON documents. A field may be added under the same number; one that is removed or changed makes a new one."""

_KIB = 1024
_CLOCKS_DIFFER = 60
"""Seconds by which two clocks may differ."""
_AGES = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))


def write_json(command: str, content: Mapping[str, Any]) -> None:
    """Print one JSON document on one line."""
    write_bytes(_encode({"schema": SCHEMA, "command": command, **content}))


def write_json_list(command: str, content: Mapping[str, Any], name: str, items: Iterable[Mapping[str, Any]]) -> None:
    """Print one JSON document with a list, each of whose elements is written on a line of its own as soon as it is there.

    It ends with ``"complete": true``; with ``false`` if an error ends it in the middle, which is raised again. An error before
    the first element is raised with nothing printed.
    """
    opening = _encode({"schema": SCHEMA, "command": command, **content, name: []}).removesuffix(b"]}\n")
    before = opening
    try:
        for item in items:
            write_bytes(before + b"\n" + _encode(item).removesuffix(b"\n"))
            before = b","
    except BaseException:
        if before != opening:
            write_bytes(b'\n],"complete":false}\n')
        raise
    write_bytes((opening if before == opening else b"\n") + b'],"complete":true}\n')


def write_data(data: object) -> None:
    """Print a checkpoint's data as JSON to read: indented."""
    write_bytes(_encode(data, indented=True))


def _encode(value: object, *, indented: bool = False) -> bytes:
    from checkpoint_manager.cli.json_text import encode  # noqa: PLC0415  # loads orjson, and --help does not wait for it

    return encode(value, indented=indented)


def write_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: fitted to a terminal, and never cut where a program reads."""
    write_text(new_table(columns).page(rows))


def new_table(columns: Sequence[str]) -> Table:
    """Return a table that is drawn a page at a time."""
    from checkpoint_manager.cli.table import Table  # noqa: PLC0415  # loads rich, and --help does not wait for it

    return Table(columns)


def write_text(text: str) -> None:
    """Print lines of data."""
    write_bytes(text.encode(errors="backslashreplace"))


def write_line(text: str) -> None:
    """Print a line of data."""
    write_text(f"{escaped(text)}\n")


def write_bytes(data: bytes) -> None:
    """Print bytes as they are."""
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError:
        discard_the_rest()
        raise


def say(text: str) -> None:
    """Tell the user something that is not data, on one line. That it can't be told is not a reason to stop half-way."""
    say_coloured(folded(escaped(text), sys.stderr))


def folded(text: str, stream: TextIO, *, indent: int = 0) -> str:
    """Return a line as several where a terminal would break it inside a word; as it is where no terminal shows it.

    Args:
        text: The line.
        stream: Where it is written to.
        indent: How far the lines after the first one are indented.
    """
    columns = shutil.get_terminal_size().columns
    if len(text) <= columns or not stream.isatty():
        return text
    import textwrap  # noqa: PLC0415  # loads regular expressions that few lines need

    fill = textwrap.TextWrapper(columns, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False)
    return fill.fill(text)


def say_coloured(text: str) -> None:
    """Tell the user a line whose colours are the program's own; the caller has made the rest of it safe."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def say_lines(text: str) -> None:
    """Tell the user something that is not data, on several lines."""
    for line in text.splitlines():
        say(line)


def say_json(content: Mapping[str, Any]) -> None:
    """Tell a program something that is not data, as one JSON document on one line."""
    say_coloured(_encode({"schema": SCHEMA, **content}).decode().removesuffix("\n"))


_told: list[CheckpointError] = []


def errors_told() -> list[CheckpointError]:
    """Return the errors that the library has logged since :func:`show_warnings`, and did not raise."""
    return _told[:]


def show_warnings() -> None:
    """Show the library's warnings and errors, and for what it waits, as lines of this program."""
    _told.clear()
    logger = logging.getLogger("checkpoint_manager")
    logger.handlers[:] = [logging.StreamHandler(sys.stderr)]  # an earlier run in the same process may have left one
    logger.handlers[0].setFormatter(_Line())
    logger.handlers[0].addFilter(lambda record: record.levelno >= logging.WARNING or hasattr(record, "is_waiting"))
    logger.handlers[0].addFilter(_once())
    logger.handlers[0].addFilter(_note)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _once() -> Callable[[logging.LogRecord], bool]:
    """Return a filter that lets each line pass once: a command may look at a store several times."""
    told: set[str] = set()

    def is_new(record: logging.LogRecord) -> bool:
        line = record.getMessage()
        is_told = line in told
        told.add(line)
        return not is_told

    return is_new


def _note(record: logging.LogRecord) -> bool:
    """Note the error that a line tells, and let the line pass."""
    if record.levelno >= logging.ERROR and isinstance(record.args, tuple):
        _told.extend(each for each in record.args if isinstance(each, CheckpointError))
    return True


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_for_people, record.args))
        return folded(escaped(f"{record.levelname.lower()}: {record.getMessage()}"), sys.stderr)


def _for_people(value: object) -> object:
    """Return an argument of a log line in the words of the command line."""
    if isinstance(value, CheckpointError):
        return explain(value)
    return sentence(value) if isinstance(value, Hint) else value


def version_fields(version: Version) -> dict[str, Any]:
    """Return a version as it stands in a JSON document."""
    return {
        "stage": version.stage,
        "version": version.number,
        "status": version.status,
        "created_at": version.created_at,
        "metadata": dict(version.metadata),
        "origin": None if version.origin is None else asdict(version.origin),
        "size": version.size,
        "restored_from": version.restored_from,
        "attachments": [asdict(each) for each in version.attachments],
        "arrays_size": version.arrays_size,
    }


def show_time(moment: datetime | None) -> str:
    """Return a time as a person reads it: local, and how long ago; for an unknown one, a dash."""
    if moment is None:
        return "-"
    seconds = int((datetime.now(UTC) - moment).total_seconds())
    if seconds < -_CLOCKS_DIFFER:
        ago = "in the future"
    else:
        length, unit = next(((length, unit) for length, unit in _AGES if seconds >= length), (1, "s"))
        ago = f"{max(0, seconds) // length} {unit} ago"
    try:
        local = moment.astimezone()
    except (OverflowError, ValueError, OSError):  # at either end of the calendar
        return f"{moment:%Y-%m-%d %H:%M:%S} UTC ({ago})"
    return f"{local:%Y-%m-%d %H:%M:%S} ({ago})"


def show_size(size: float | None) -> str:
    """Return a number of bytes as a person reads it; for an unknown one, a dash."""
    if size is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < _KIB:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _KIB
    return f"{size:.1f} TiB"


def discard_the_rest() -> None:
    """Throw away what is still to be written to stdout: the interpreter would try once more at its end."""
    discard(sys.stdout)
