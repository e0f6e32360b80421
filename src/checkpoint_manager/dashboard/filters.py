"""How times, sizes and durations read on a page."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from checkpoint_manager._text import escaped, printable

if TYPE_CHECKING:
    from collections.abc import Callable

_AGES = ((86_400 * 2, 86_400, "d"), (7200, 3600, "h"), (120, 60, "min"), (0, 1, "s"))
_CLOCKS_DIFFER = 60


def moment(when: datetime | None, *, is_whole: bool = False) -> str:
    """Return a time as an element: how long ago, and the time itself as its title; or the other way round."""
    if when is None:
        return Markup('<span class="none">unknown</span>')
    text, age = local(when), ago(when)
    shown, title = (text, age) if is_whole else (age, text)
    return Markup('<time datetime="{}" title="{}">{}</time>').format(when.isoformat(), title, shown)


def moment_and_age(when: datetime | None) -> str:
    """Return a time, and how long ago it was."""
    return Markup("{} <span class=quiet>({})</span>").format(moment(when, is_whole=True), "-" if when is None else ago(when))


def local(when: datetime) -> str:
    """Return a time in the time zone of this host."""
    try:
        return f"{when.astimezone():%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):  # at either end of the calendar
        return f"{when:%Y-%m-%d %H:%M:%S} UTC"


def ago(when: datetime) -> str:
    """Return how long ago something was."""
    seconds = int((datetime.now(UTC) - when).total_seconds())
    if seconds < -_CLOCKS_DIFFER:
        return "in the future"
    if seconds < 1:
        return "now"
    length, unit = next((length, unit) for least, length, unit in _AGES if seconds >= least)
    return f"{seconds // length} {unit} ago"


def size(number: float | None) -> str:
    """Return a number of bytes."""
    if number is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def duration(seconds: float | None, *, is_whole: bool = False) -> str:
    """Return a length of time."""
    if seconds is None:
        return "-"
    if seconds < 1 and not is_whole:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.0f} s" if is_whole else f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02} min"


def since(moment: datetime) -> str:
    """Return how long something lasts already."""
    return duration(max(0, int((datetime.now(UTC) - moment).total_seconds())), is_whole=True)


def left(moment: datetime) -> str:
    """Return how long it is until something."""
    return duration(max(0, int((moment - datetime.now(UTC)).total_seconds())), is_whole=True)


def count(number: int) -> str:
    """Return a number with its thousands set apart."""
    return f"{number:,}".replace(",", "\u202f")


def plural(number: int, noun: str) -> str:
    """Return a number of things."""
    return f"{count(number)} {noun}{'' if number == 1 else 's'}"


def safe(text: object) -> str:
    """Return outside text in a form that can't change the direction or the lines of what is around it."""
    return printable(str(text))


FILTERS: dict[str, Callable[..., Any]] = {
    "ago": ago,
    "count": count,
    "duration": duration,
    "left": left,
    "message": escaped,  # whole: a command in it must not be cut
    "moment": moment,
    "moment_and_age": moment_and_age,
    "plural": plural,
    "safe_text": safe,
    "since": since,
    "size": size,
}
