"""Moments and lengths of time, as people write them."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checkpoint_manager.times import length, local, moment

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", timedelta(seconds=90)),
        ("30min", timedelta(minutes=30)),
        ("12h", timedelta(hours=12)),
        (" 1 d ", timedelta(days=1)),
        ("2w", timedelta(weeks=2)),
    ],
)
def test_a_length_has_a_unit(text: str, expected: timedelta) -> None:
    assert length(text) == expected
    assert moment(text, NOW) == NOW - expected


def test_an_age_may_be_in_m_for_minutes_and_a_length_that_deletes_may_not() -> None:
    assert moment("10m", NOW) == moment(" 10 m", NOW) == NOW - timedelta(minutes=10)
    with pytest.raises(ValueError, match="not a duration"):
        length("10m")


@pytest.mark.parametrize("text", ["", "1", "d", "1m", "1.5h", "-1d", "1d2h", "1e9d", "999999999w", "٣d", "1\nd"])
def test_what_is_no_length_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        length(text)


@pytest.mark.parametrize(
    "text", ["", "yesterday", "2026-13-01", "2026-11-20T25:00", "0001-01-01T00:00+23:00", "999999999w", "1d ago"]
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        moment(text, NOW)


def test_a_zone_counts_and_none_is_the_local_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moment("2026-11-20T14:00Z", NOW) == datetime(2026, 11, 20, 14, tzinfo=UTC)
    assert moment("2026-11-20T14:00+02:00", NOW) == datetime(2026, 11, 20, 12, tzinfo=UTC)
    local = datetime(2026, 11, 20, 14).astimezone()  # on purpose
    assert moment("2026-11-20T14:00", NOW) == local
    assert moment("2026-11-20", NOW) == local.replace(hour=0)


@given(st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)), st.integers(-23, 23))  # noqa: DTZ001  # the zone comes next
def test_a_datetime_keeps_its_moment(naive: datetime, hours: int) -> None:
    aware = naive.replace(tzinfo=timezone(timedelta(hours=hours)))
    assert moment(aware, NOW) == aware
    assert moment(aware.isoformat(), NOW) == aware
    assert moment(aware, NOW).tzinfo is UTC
    assert moment(naive, NOW) == moment(naive.isoformat(), NOW) == naive.astimezone()


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/New_York"])
def test_a_moment_is_told_in_local_time_also_at_either_end_of_the_calendar(zone: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        told = local(datetime(2026, 11, 28, 23, tzinfo=UTC))
        ends = [local(datetime.min.replace(tzinfo=UTC)), local(datetime.max.replace(tzinfo=UTC))]
    finally:
        monkeypatch.undo()
        time.tzset()
    assert told == ("2026-11-29T08:00:00+09:00" if zone == "Asia/Tokyo" else "2026-11-28T18:00:00-05:00")
    assert "+00:00" in " ".join(ends)


def test_a_datetime_beyond_the_calendar_is_refused() -> None:
    with pytest.raises(ValueError, match="is not a time"):
        moment(datetime.min.replace(tzinfo=timezone(timedelta(hours=23))), NOW)
