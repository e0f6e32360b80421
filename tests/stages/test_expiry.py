"""Results that are not reused although the call is the same: those that are too old, and those that the caller refuses."""

from __future__ import annotations

import datetime as dt
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoint_manager import ArgumentError, CheckpointManager
from checkpoint_manager._operations import save

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def cm() -> CheckpointManager:
    return CheckpointManager("memory:", key=bytes(32))


def staged(cm: CheckpointManager, **options: Any) -> Callable[[], int]:
    calls = iter(range(100))
    return cm.stage("count", **options)(lambda: next(calls))


def whats(cm: CheckpointManager) -> list[tuple[str, str]]:
    return [(outcome.what, outcome.why) for outcome in cm.run_report().outcomes]


def test_a_result_expires(cm: CheckpointManager) -> None:
    stage = staged(cm, expires=timedelta(microseconds=1))
    assert (stage(), stage()) == (0, 1)
    assert whats(cm) == [("ran", "first run"), ("ran", "version 1 has expired: saved 0 s ago")]


@pytest.mark.parametrize("expires", ["1d", timedelta(weeks=2), None])
def test_until_then_it_is_reused(cm: CheckpointManager, expires: Any) -> None:
    stage = staged(cm, expires=expires)
    assert (stage(), stage()) == (0, 0)


def test_a_result_that_a_wrong_clock_has_dated_does_not_last_for_ever(
    cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(dt.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return super().now(tz).replace(year=2090)

    stage = staged(cm, expires="1d")
    with monkeypatch.context() as patched:
        patched.setattr(save, "datetime", Ahead)
        stage()
    assert (stage(), stage()) == (1, 1)
    assert whats(cm)[1] == ("ran", "version 1 is dated in the future")


@pytest.mark.parametrize("answer", [True, np.True_])
def test_a_result_that_is_valid_is_reused(cm: CheckpointManager, answer: Any) -> None:
    stage = staged(cm, validate=lambda _: answer)
    assert (stage(), stage()) == (0, 0)


def test_a_result_that_is_refused_is_made_again(cm: CheckpointManager) -> None:
    seen: list[Any] = []
    stage = staged(cm, encode=str, decode=int, validate=lambda result: bool(seen.append(result)))
    assert (stage(), stage()) == (0, 1)
    assert set(seen) == {0}, "what the caller would get: the decoded result"
    assert whats(cm)[1] == ("ran", "validate= refused version 1")


def test_a_check_that_fails_is_a_warning_and_the_stage_runs_again(
    cm: CheckpointManager, caplog: pytest.LogCaptureFixture
) -> None:
    stage = staged(cm, validate=lambda result: 1 / result > 0)
    assert (stage(), stage(), stage()) == (0, 1, 1)
    assert caplog.messages == ["count: validate= raised ZeroDivisionError for version 1, so it runs again"]


def test_a_check_without_an_answer_is_a_mistake(cm: CheckpointManager) -> None:
    stage = staged(cm, validate=lambda _: None)
    stage()
    with pytest.raises(TypeError, match="stage count: validate= must return True or False, and returned a NoneType"):
        stage()


@pytest.mark.parametrize(
    ("expires", "message"),
    [
        ("soon", "expires: 'soon' is not a duration: give a number and a unit, such as 90s, 30min, 12h, 1d or 2w"),
        (60, 'expires must be a timedelta, text such as "1d", or None, not an int'),
        (timedelta(0), "expires must be more than no time"),
    ],
)
def test_what_is_not_an_age_is_refused(cm: CheckpointManager, expires: Any, message: str) -> None:
    with pytest.raises(ArgumentError) as caught:
        staged(cm, expires=expires)
    assert str(caught.value) == message
