"""What is said of each call, to the letter."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from checkpoint_manager.stages.report import Outcome, RunReport, ago, duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (3.2, "3.2 s"),
        (59.94, "59.9 s"),
        (90, "1.5 min"),
        (5400, "1.5 h"),
        (200_000, "55.6 h"),
    ],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(-5, "0 s ago"), (0, "0 s ago"), (59, "59 s ago"), (60, "1 min ago"), (7260, "2 h ago"), (86_400 * 3, "3 d ago")],
)
def test_moments(seconds: float, said: str) -> None:
    assert ago(datetime.now(UTC) - timedelta(seconds=seconds)) == said


def test_the_report() -> None:
    report = RunReport(
        (
            Outcome("clean", "reused", 3, 0.004),
            Outcome("train", "ran", 4, 192.0, "arguments changed: limit"),
            Outcome("train\n2", "stopped", 5, 1.0, "first run"),
            Outcome("plot", "unsaved", None, 1.0, "first run"),
        )
    )
    assert str(report).splitlines() == [
        r"clean       reused       4 ms  version 3",
        r"train       ran       3.2 min  version 4  (arguments changed: limit)",
        r"'train\n2'  stopped     1.0 s  version 5  (first run)",
        r"plot        unsaved     1.0 s  (first run)",
        "1 reused, 1 ran, 0 failed, 1 not saved, 1 stopped",
    ]
    shown: list[str] = []
    report._repr_pretty_(SimpleNamespace(text=shown.append), is_cycle=False)
    assert shown == [str(report)], "what a notebook shows"
