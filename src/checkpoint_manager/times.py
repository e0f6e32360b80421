"""Times and durations as users write them, and which times of versions to believe. Pure: the caller passes the clock.

A version is dated by the clock of the host that saved it, and clocks are sometimes wrong. Versions are ordered by number, never
by time. Where time matters (retention, ``at=``), the times of a stage are checked against each other:

* A version dated more than ``CLOCK_TOLERANCE`` in the future is not believed. Retention keeps it without counting it, and
  ``at=`` finds it only at its own time.
* Of the others, the longest run of versions whose times do not go back is believed. A version outside that run was saved under
  a wrong clock; it counts as saved at the time of the last believed version before it.

One wrong time thus changes nothing for the versions before and after it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

CLOCK_TOLERANCE = timedelta(minutes=5)
"""How far the clocks of two hosts may differ before it is reported or acted upon."""

_LENGTH = r"([0-9]{1,9}) ?(s|min|h|d|w)"
_MINUTES = r"([0-9]{1,9}) ?m"
"""Minutes, in an age only: where versions are deleted, "1m" might be meant for a month."""
_UNITS = {
    "s": timedelta(seconds=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}


def length(text: str) -> timedelta:
    """Parse a duration: a number and one of the units s, min, h, d, w.

    Raises:
        ValueError: ``text`` is not a duration, or is longer than the calendar.
    """
    match = re.fullmatch(_LENGTH, text.strip())
    try:
        if match is not None:
            return int(match[1]) * _UNITS[match[2]]
    except OverflowError:
        pass
    raise ValueError(f"{text[:40]!r} is not a duration: give a number and a unit, such as 90s, 30min, 12h, 1d or 2w")


def moment(when: datetime | str, now: datetime) -> datetime:
    """Return a time in UTC. A ``datetime`` or text without a time zone is taken as local time.

    Args:
        when: A ``datetime``, a time in ISO 8601, or an age such as ``1d``.
        now: The time that an age counts back from.

    Raises:
        ValueError: ``when`` is not a time.
    """
    try:
        if isinstance(when, datetime):
            return when.astimezone(UTC)
        age = re.sub(_MINUTES, r"\1min", when.strip()) if re.fullmatch(_MINUTES, when.strip()) else when.strip()
        if re.fullmatch(_LENGTH, age):
            return now - length(age)
        return datetime.fromisoformat(when.strip()).astimezone(UTC)
    except (ValueError, OverflowError):
        shown = when.isoformat() if isinstance(when, datetime) else when[:40]
        raise ValueError(
            f"{shown!r} is not a time: give one such as 2026-11-20T14:00 (local, unless it names a zone), "
            "or an age such as 90s, 30m, 12h, 1d or 2w"
        ) from None


def local(moment: datetime) -> str:
    """Return a moment in local time, with its zone, as a message shows it; in UTC at either end of the calendar."""
    try:
        return moment.astimezone().isoformat(timespec="seconds")
    except (OverflowError, ValueError, OSError):
        return moment.isoformat(timespec="seconds")


def believed(times: Sequence[datetime], now: datetime) -> list[datetime | None]:
    """Return when each version was saved, as far as it is believed; None for one dated in the future.

    Args:
        times: The times of a stage's versions, by ascending number.
        now: The current time.
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
    """Return the indexes of the longest non-decreasing subsequence; of several, the one with the earlier times."""
    tails: list[datetime] = []  # for each length, the earliest time that such a run ends with
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
