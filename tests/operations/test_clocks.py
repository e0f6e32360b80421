"""Clocks that are wrong once: nothing else is dated, kept, deleted or hidden by it."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, LockTimeoutError, Retention
from checkpoint_manager._operations import save as saving
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.times import CLOCK_TOLERANCE, believed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(range(32))
TEN_YEARS = timedelta(days=3650)
NOW = datetime.now(UTC)


class Clock(datetime):
    """A clock that can be set."""

    at = NOW

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        assert tz is UTC
        return cls.at


@pytest.fixture
def set_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[timedelta], None]:
    """Set the clock that dates versions and plans to so long from now."""
    for module in (
        "checkpoint_manager._operations.save",
        "checkpoint_manager._operations.prune",
        "checkpoint_manager._operations.select",
    ):
        monkeypatch.setattr(f"{module}.datetime", Clock)

    def set_to(length: timedelta) -> None:
        Clock.at = NOW + length

    return set_to


def days(number: float) -> timedelta:
    return timedelta(days=number)


def opened(backend: MemoryBackend, retention: Retention | None = None) -> CheckpointManager:
    return CheckpointManager(backend, key=KEY, retention=retention)


def numbers(cm: CheckpointManager) -> list[int]:
    return [version.number for version in cm.history("train")]


def test_a_version_is_dated_by_the_clock_alone(
    set_clock: Callable[[timedelta], None], caplog: pytest.LogCaptureFixture
) -> None:
    cm = opened(MemoryBackend())
    for length in (days(0), TEN_YEARS, days(1), days(1) - CLOCK_TOLERANCE / 2):
        set_clock(length)
        assert cm.save_checkpoint("train").created_at == NOW + length
    assert caplog.text.count("the clock was wrong then, or is wrong now") == 1


@pytest.mark.parametrize("policy", [Retention(keep_within="14d"), Retention(keep_within="14d", keep_last=1)])
def test_one_save_ten_years_ahead_deletes_nothing_that_was_kept(
    set_clock: Callable[[timedelta], None], policy: Retention
) -> None:
    backend = MemoryBackend()
    for day in range(-13, 0):
        for _ in range(2):
            set_clock(days(day))
            opened(backend).save_checkpoint("train")
    set_clock(TEN_YEARS)
    cm = opened(backend, policy)
    assert cm.prune(policy, dry_run=True).dropped == ()  # by hand, before anything is saved
    for _ in range(20):
        cm.save_checkpoint("train")
    assert len(numbers(cm)) == 26 + 20
    assert cm.prune(policy).dropped == ()
    set_clock(days(0))
    cm.save_checkpoint("train")
    assert cm.prune(policy).dropped == ()
    assert len(numbers(opened(backend))) == 26 + 20 + 1


def test_what_is_dated_in_the_future_counts_for_no_rule_and_pushes_nothing_out(set_clock: Callable[[timedelta], None]) -> None:
    cm = opened(MemoryBackend())
    for day in (0, 3650, 1, 2, 3, 4, 5, 6):
        set_clock(days(day))
        cm.save_checkpoint("train")
    for policy in (Retention(keep_daily=6), Retention(keep_last=6)):
        plan = cm.prune(policy, dry_run=True)
        assert [version.number for version in plan.kept] == [8, 7, 6, 5, 4, 3, 2]
        assert next(each.rules for each in plan.decisions if each.version.number == 2) == ("dated in the future",)


def test_a_clock_that_was_years_behind_once_pushes_nothing_out(set_clock: Callable[[timedelta], None]) -> None:
    cm = opened(MemoryBackend())
    for day in (0, 1, 2, -20_000, 3, 4):
        set_clock(days(day))
        cm.save_checkpoint("train")
    plan = cm.prune(Retention(keep_daily=5), dry_run=True)
    assert {6, 5, 2, 1} <= {version.number for version in plan.kept}
    assert 4 in {version.number for version in cm.prune(Retention(keep_within="10d"), dry_run=True).kept}


def test_a_save_with_retention_after_the_clock_was_set_back_judges_all_again(set_clock: Callable[[timedelta], None]) -> None:
    backend = MemoryBackend()
    cm = opened(backend, Retention(keep_daily=40))
    for day in range(10):
        set_clock(days(day))
        cm.save_checkpoint("train", day)
    set_clock(TEN_YEARS)
    cm.save_checkpoint("train", "wrong")
    for day in range(10, 40):
        set_clock(days(day))
        cm.save_checkpoint("train", day)
    assert len(numbers(cm)) == 41


def test_the_version_of_a_moment_is_found_past_wrong_times(set_clock: Callable[[timedelta], None]) -> None:
    cm = opened(MemoryBackend())
    for day in (0, 3650, 1, 2, -20_000, 3):
        set_clock(days(day))
        cm.save_checkpoint("train", day)
    set_clock(days(4))
    for moment, expected in ((3.5, 3), (2.5, -20_000), (1.5, 1), (0.5, 0)):
        assert cm.load_checkpoint("train", at=(NOW + days(moment)).isoformat()) == expected
    assert cm.restore_checkpoint("train", at="1h").restored_from == 6
    assert cm.restore_pipeline(at=(NOW + days(1.5)).isoformat())[0].restored_from == 3


def test_a_time_that_was_ahead_for_a_while_does_not_hide_what_came_after_it() -> None:
    times = [NOW, NOW + days(7), NOW + days(1), NOW + days(2), NOW + days(3)]
    assert believed(times, NOW + days(8)) == [NOW, NOW, NOW + days(1), NOW + days(2), NOW + days(3)]
    assert believed([], NOW) == []
    assert believed([NOW + days(1)], NOW) == [None]


def test_the_clock_of_a_save_is_read_once(set_clock: Callable[[timedelta], None]) -> None:
    set_clock(days(0))
    cm = opened(MemoryBackend())
    saved = saving.save(cm._store, "train", saving.draft("train", 1, None))
    assert saved.created_at == NOW


@pytest.mark.parametrize("end", [datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)])
def test_a_version_dated_at_an_end_of_the_calendar_stops_nothing(set_clock: Callable[[timedelta], None], end: datetime) -> None:
    cm = opened(MemoryBackend(), Retention(keep_last=2, keep_within="1d"))
    set_clock(end - NOW)
    cm.save_checkpoint("train", 1)
    for number in (2, 3, 4):
        set_clock(timedelta(number))
        assert cm.save_checkpoint("train", number).number == number
    assert cm.restore_checkpoint("train", 3).number == 5
    assert cm.prune(Retention(keep_last=1, keep_daily=1))
    assert cm.load_checkpoint("train") == 3


# Waits


@pytest.fixture
def jumping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes a year ahead and two years back, look by look."""
    ahead, now = itertools.cycle([365 * 86400.0, -730 * 86400.0]), time.time
    monkeypatch.setattr(time, "time", lambda: now() + next(ahead))
    monkeypatch.setattr(time, "time_ns", lambda: int(1e9 * (now() + next(ahead))))


@pytest.mark.usefixtures("jumping")
def test_a_clock_that_jumps_ends_no_wait_early_and_prolongs_none(tmp_path: Path) -> None:
    """With time enough, a writer gets the lock that is let go of; without, it ends."""
    first, second = (CheckpointManager(tmp_path / "store", key=KEY, lock_timeout=30) for _ in range(2))
    first.save_checkpoint("train", 0)
    hasty = CheckpointManager(tmp_path / "store", key=KEY, lock_timeout=0.05)
    go_on, inside = threading.Event(), threading.Event()

    def slowly(_: object) -> str:
        inside.set()
        assert go_on.wait(30)
        return "first"

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(first.update_checkpoint, "train", slowly)
        assert inside.wait(30)
        patient = pool.submit(second.save_checkpoint, "train", "second")
        for operate in (lambda: hasty.save_checkpoint("train", 0), hasty.clear_checkpoints, hasty.keys.rotate):
            with pytest.raises(LockTimeoutError):
                operate()
        assert not patient.done()
        go_on.set()
        assert (holding.result().number, patient.result().number) == (2, 3)
