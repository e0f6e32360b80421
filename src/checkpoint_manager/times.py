"""Moments and lengths of time as people write them: ``2026-11-20T14:00``, ``1d``, ``90s``. Pure: the clock is handed in."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_LENGTH = re.compile(r"([0-9]{1,9}) ?(s|min|h|d|w)", re.ASCII)
_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def length(text: str) -> timedelta:
    """Return a length of time: a number and one of the units s, min, h, d, w.

    Raises:
        ValueError: It is none, or longer than a calendar.
    """
    match = _LENGTH.fullmatch(text.strip())
    try:
        if match is not None:
            return int(match[1]) * _UNITS[match[2]]
    except OverflowError:
        pass
    raise ValueError(f"{text[:40]!r} is no length of time: give a number and a unit, such as 90s, 30min, 12h, 1d or 2w")


def moment(when: datetime | str, now: datetime) -> datetime:
    """Return a moment in UTC. Without a time zone, it is local time, whether it is a ``datetime`` or text.

    Args:
        when: A ``datetime``; or text: a date and time as in ISO 8601, or an age such as ``1d``.
        now: What the ages count from.

    Raises:
        ValueError: It is neither.
    """
    try:
        if isinstance(when, datetime):
            return when.astimezone(UTC)
        if _LENGTH.fullmatch(when.strip()):
            return now - length(when)
        return datetime.fromisoformat(when.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        shown = when.isoformat() if isinstance(when, datetime) else when[:40]
        raise ValueError(
            f"{shown!r} is no moment: give a time such as 2026-11-20T14:00 (local, unless it names a zone), or an age "
            "such as 90s, 30min, 12h, 1d or 2w"
        ) from None
