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
    """Return a moment in UTC.

    Args:
        when: An aware time; or text: a date and time as in ISO 8601, local where it names no zone, or an age such as ``1d``.
        now: What the ages count from.

    Raises:
        ValueError: It is neither; or a ``datetime`` without a time zone: a program should say which.
    """
    if isinstance(when, datetime):
        if when.tzinfo is None:
            raise ValueError(
                f"at= needs a time with a time zone, and {when.isoformat()} has none: use datetime.now(timezone.utc), or "
                ".astimezone()"
            )
        return when.astimezone(UTC)
    try:
        if _LENGTH.fullmatch(when.strip()):
            return now - length(when)
        return datetime.fromisoformat(when.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{when[:40]!r} is no moment: give a time such as 2026-11-20T14:00 (local, unless it names a zone), or an age "
            "such as 90s, 30min, 12h, 1d or 2w"
        ) from None
