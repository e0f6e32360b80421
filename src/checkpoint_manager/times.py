"""Moments and lengths of time as people write them, and which times of versions can be believed. Pure: the clock is handed in.

A version says when it was saved by the clock of its host, and clocks are wrong at times. Versions are ordered by number, and
no clock decides that. Where time matters (retention, ``at=``), the times of a stage are compared with one another:

* A version dated in the future, by more than ``CLOCK_TOLERANCE``, is not believed: retention keeps it and counts it for
  nothing, and ``at=`` finds it at its own time only.
* Of the others, the longest run of versions whose times do not go back is believed. One that does not fit in was saved under a
  wrong clock, and counts as saved when the last believed version before it was.

So one wrong time changes nothing for the versions before and after it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How much the clocks of hosts may differ before anything is said or done about it."""

_LENGTH = re.compile(r"([0-9]{1,9}) ?(s|min|h|d|w)", re.ASCII)
_MINUTES = re.compile(r"([0-9]{1,9}) ?m", re.ASCII)
"""Minutes, in an age only: where versions are deleted, "1m" might be meant for a month."""
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
        age = _MINUTES.sub(r"\1min", when.strip()) if _MINUTES.fullmatch(when.strip()) else when.strip()
        if _LENGTH.fullmatch(age):
            return now - length(age)
        return datetime.fromisoformat(when.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        shown = when.isoformat() if isinstance(when, datetime) else when[:40]
        raise ValueError(
            f"{shown!r} is no moment: give a time such as 2026-11-20T14:00 (local, unless it names a zone), or an age "
            "such as 90s, 30m, 12h, 1d or 2w"
        ) from None


def believed(times: Sequence[datetime], now: datetime) -> list[datetime | None]:
    """Return when versions were saved, as far as their times can be believed; None: dated in the future.

    Args:
        times: The times of a stage's versions, in the order of their numbers.
        now: What the clock says.
    """
    latest = now + CLOCK_TOLERANCE
    plausible = [index for index, time in enumerate(times) if time <= latest]
    run = _longest_run([times[index] for index in plausible])
    result: list[datetime | None] = [None] * len(times)
    last = times[plausible[run[0]]] if run else now
    members = {plausible[index] for index in run}
    for index in plausible:
        if index in members:
            last = times[index]
        result[index] = last
    return result


def _longest_run(times: Sequence[datetime]) -> list[int]:
    """Return the indexes of the longest run of times that do not go back, the earlier times where there are several."""
    tails: list[datetime] = []  # the earliest time that a run of each length ends with
    ends: list[int] = []
    previous: list[int] = []
    for index, time in enumerate(times):
        length = bisect_right(tails, time)
        tails[length : length + 1] = [time]
        ends[length : length + 1] = [index]
        previous.append(ends[length - 1] if length else -1)
    run: list[int] = []
    index = ends[-1] if ends else -1
    while index >= 0:
        run.append(index)
        index = previous[index]
    return run[::-1]
