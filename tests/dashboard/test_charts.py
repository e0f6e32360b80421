"""Charts: SVG with a text that says what they show."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest

from checkpoint_manager import Version
from checkpoint_manager.dashboard import bar_chart, filters, line_chart, timeline

NOW = datetime(2026, 11, 20, 14, 30, tzinfo=UTC)


def versions(*ages: timedelta | None, status: str = "completed") -> list[Version]:
    """Return versions, newest first, of these ages."""
    return [
        Version("train", len(ages) - place, status, None if age is None else NOW - age)  # type: ignore[arg-type]
        for place, age in enumerate(ages)
    ]


@pytest.mark.parametrize(
    "span", [timedelta(0), *(timedelta(seconds=10**power) for power in range(10)), timedelta(days=700_000)]
)
def test_a_time_axis_has_ticks_whatever_it_spans(span: timedelta) -> None:
    chart = timeline.draw(versions(timedelta(0), span / 2, span), {})
    assert chart is not None
    svg = ET.fromstring(f'<svg xmlns="http://www.w3.org/2000/svg">{chart}</svg>')
    labels = [each for each in svg.iter("{http://www.w3.org/2000/svg}text") if each.get("class") == "label"]
    assert 1 <= len(labels) <= 25
    assert 'aria-label="Timeline: 3 versions' in chart


def test_one_version_is_not_a_chart_and_neither_are_unknown_times() -> None:
    assert timeline.draw(versions(timedelta(0)), {}) is None
    assert timeline.draw(versions(None, None), {}) is None


def test_damage_gaps_restores_and_tags_stand_in_it() -> None:
    first, second, third = versions(timedelta(hours=2), timedelta(hours=1), timedelta(0))[::-1]
    shown = [
        Version("train", 9, "completed", NOW, restored_from=first.number),
        Version("train", 6, "damaged"),
        Version("train", 5, "missing"),
        Version("train", 4, "progress", NOW - timedelta(minutes=10)),
        third,
        second,
        first,
    ]
    chart = timeline.draw(shown, {2: ["a-very-long-tag-that-is-cut-somewhere"], 9: ["new"]})
    assert chart is not None
    for text in (
        "2 deleted",
        "restored",
        "a-very-long-tag-that-i…",
        "version 6: damaged",
        "is-missing",
        "is-progress",
        ">new<",
    ):
        assert text in chart


def test_its_legend_has_what_is_in_it() -> None:
    shown = [
        Version("train", 4, "progress", NOW),
        Version("train", 3, "completed", NOW, restored_from=1),
        Version("train", 1, "completed", NOW),
    ]
    assert [name for name, _ in timeline.legend(shown)] == ["progress", "done", "restored", "deleted"]
    assert [name for name, _ in timeline.legend(shown[2:])] == ["done"]


@pytest.mark.parametrize(
    "numbers",
    [
        [1.0, 2.0],
        [3.0, 3.0],
        [0.0, 0.0],
        [0.0, 5e-324],
        [-5.0, 5.0],
        [1e-12, 2e-12],
        [1e200, -1e200],
        [float(n) for n in range(200)],
    ],
)
def test_a_line_says_what_it_shows(numbers: list[float]) -> None:
    chart = line_chart.draw(list(enumerate(numbers, 1)))
    assert chart is not None
    assert f"versions 1 to {len(numbers)}: from {numbers[0]:g} to {numbers[-1]:g}" in chart
    heights = [float(each) for each in re.findall(r" y1=\"([\d.-]+)\"", chart)]
    assert all(0 <= each <= 300 for each in heights)
    assert line_chart.draw([(1, 2.0)]) is None


def test_bars_grow_with_bytes() -> None:
    assert bar_chart.draw([]) is None
    chart = bar_chart.draw([("large" * 20, 4096), ("<small>", 0)])
    assert chart is not None
    assert "4.0 KiB" in chart
    assert "&lt;small&gt;" in chart
    assert bar_chart.grown([("2026-11-20", 5)]) is None
    growth = bar_chart.grown([(f"day {number}", 1024) for number in range(200)])
    assert growth is not None
    assert "from 81.0 KiB to 200.0 KiB" in growth


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, "-"), (0.5, "500 ms"), (3.25, "3.2 s"), (75, "1 min 15 s"), (7265, "2 h 01 min")]
)
def test_durations(seconds: float | None, text: str) -> None:
    assert filters.duration(seconds) == text


def test_times_and_sizes() -> None:
    now = datetime.now(UTC)
    ages = {
        timedelta(0): "now",
        timedelta(seconds=90): "90 s ago",
        timedelta(minutes=5): "5 min ago",
        timedelta(days=3): "3 d ago",
    }
    assert {age: filters.ago(now - age) for age in ages} == ages
    assert filters.ago(now + timedelta(hours=1)) == "in the future"
    assert filters.local(datetime.max.replace(tzinfo=UTC)).startswith("9999-12-31")
    assert "unknown" in filters.moment_and_age(None)
    assert [filters.size(number) for number in (None, 10, 5 * 2**40)] == ["-", "10 B", "5.0 TiB"]
    assert filters.plural(1234, "stage") == "1\u202f234 stages"
    assert filters.left(now - timedelta(hours=1)) == "0 s"
