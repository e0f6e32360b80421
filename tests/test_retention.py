"""What a policy keeps: the plan against a naive model, and what is remembered from save to save against the plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from checkpoint_manager import Retention, Version
from checkpoint_manager.models import Origin
from checkpoint_manager.retention import HeldVersions, VersionFacts, plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START = datetime(2026, 1, 30, 22, 30, tzinfo=UTC)
ORIGIN = Origin("user", "host", 1, "3", "1")
STATUSES = st.sampled_from(["completed"] * 4 + ["progress", "failed", "cleared"])
STEPS = st.one_of(
    st.timedeltas(timedelta(0), timedelta(minutes=50)),
    st.timedeltas(timedelta(0), timedelta(days=3)),
    st.timedeltas(timedelta(0), timedelta(days=40)),
    st.just(timedelta(0)),
)
COUNT = st.integers(0, 4)


@st.composite
def policies(draw: st.DrawFn) -> Retention:
    fields: dict[str, Any] = {
        name: draw(COUNT) for name in ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly")
    }
    fields["keep_within"] = draw(st.none() | st.timedeltas(timedelta(minutes=1), timedelta(days=90)))
    if fields["keep_within"] is None and not any(fields.values()):
        fields["keep_last"] = 1
    return Retention(**fields, keep_tagged=draw(st.booleans()))


@st.composite
def histories(draw: st.DrawFn, max_size: int = 30) -> list[Version]:
    """The versions of a stage, newest first, some numbers missing."""
    versions: list[Version] = []
    moment, number = START, 0
    for status, step, hole in draw(st.lists(st.tuples(STATUSES, STEPS, st.integers(0, 9)), max_size=max_size)):
        moment += step
        number += 2 if hole == 0 else 1
        versions.append(Version("train", number, status, moment, {}, ORIGIN, 1))
    return versions[::-1]


def kept_by_hand(policy: Retention, history: Sequence[Version], tags: Mapping[str, int], now: datetime) -> dict[int, set[str]]:
    """Which rules keep each version, each by its own words, with no thought for speed."""
    kept: dict[int, set[str]] = {}
    formats = {
        "keep_last": "",
        "keep_hourly": "%Y%m%d%H",
        "keep_daily": "%Y%m%d",
        "keep_weekly": "%G-%V",
        "keep_monthly": "%Y%m",
    }
    for version in history:
        newer = [other for other in history if other.number > version.number]
        rules = set()
        if not newer:
            rules.add("newest")
        for status, rule in (("completed", "newest completed"), ("cleared", "newest cleared")):
            if version.status == status and all(other.status != status for other in newer):
                rules.add(rule)
        if version.status == "progress" and sum(other.status == "progress" for other in newer) < 2:
            rules.add("newest progress")
        if policy.window is not None and version in _within(policy.window, history, now):
            rules.add("keep_within")
        if policy.keep_tagged:
            rules |= {f"tag {name}" for name, number in tags.items() if number == version.number}
        done = [other for other in newer if other.status == "completed"]
        for rule, form in formats.items():
            if version.status == "completed":
                periods = {_time(other).strftime(form) if form else str(other.number) for other in done}
                mine = _time(version).strftime(form) if form else str(version.number)
                if mine not in periods and len(periods) < getattr(policy, rule):
                    rules.add(rule)
        kept[version.number] = rules
    return kept


def _within(window: timedelta, history: Sequence[Version], now: datetime) -> list[Version]:
    """Those of the window, and of one before it if more than the window lies between."""
    found = [version for version in history if now - _time(version) <= window]
    below = history[len(found) : len(found) + 1]
    if below and (_time(found[-1]) if found else now) - _time(below[0]) > window:
        found += [version for version in history[len(found) :] if _time(below[0]) - _time(version) <= window]
    return found


def _facts(number: int, created_at: datetime) -> VersionFacts:
    return VersionFacts(number, "completed", created_at, 1)


def _facts_of(version: Version) -> VersionFacts:
    return VersionFacts(version.number, version.status, _time(version), 1)


def _time(version: Version) -> datetime:
    assert version.created_at is not None
    return version.created_at


class TestPlan:
    @given(policies(), histories(), st.dictionaries(st.sampled_from(["a", "b", "c"]), st.integers(1, 30)), STEPS)
    def test_it_is_what_the_rules_say(
        self, policy: Retention, history: list[Version], tags: dict[str, int], later: timedelta
    ) -> None:
        now = (_time(history[0]) if history else START) + later
        expected = kept_by_hand(policy, history, tags, now)
        found = plan(policy, history, tags, now)
        assert [decision.version for decision in found.decisions] == history
        for decision in found.decisions:
            assert decision.keep == bool(expected[decision.version.number])
            if decision.keep:
                assert set(decision.rules) == expected[decision.version.number]
            else:
                assert decision.rules == (f"no rule keeps it ({policy})",)
        assert sorted(v.number for v in (*found.kept, *found.dropped)) == sorted(v.number for v in history)

    @given(policies(), histories(), STEPS)
    def test_what_is_left_needs_no_second_pruning(self, policy: Retention, history: list[Version], later: timedelta) -> None:
        now = (_time(history[0]) if history else START) + later
        kept = list(plan(policy, history, {}, now).kept)
        assert plan(policy, kept, {}, now).dropped == ()

    @given(policies(), histories(), STEPS)
    def test_what_a_pipeline_stands_on_is_never_dropped(
        self, policy: Retention, history: list[Version], later: timedelta
    ) -> None:
        kept = plan(policy, history, {}, START + later).kept
        assert history[:1] == list(kept[:1])
        for status in ("completed", "cleared"):
            newest = next((version for version in history if version.status == status), None)
            assert newest is None or newest in kept

    def test_a_period_keeps_its_newest_version(self) -> None:
        moments = [START + timedelta(hours=hours) for hours in (0, 1, 2, 25, 26)]  # January 30, 31, 31 (UTC), 31, February 1
        history = [Version("s", number, "completed", when, {}, ORIGIN, 7) for number, when in enumerate(moments, 1)][::-1]
        found = plan(Retention(keep_daily=2), history, {}, moments[-1])
        assert [version.number for version in found.kept] == [5, 4]
        assert found.bytes_dropped == 21


class TestStanding:
    @given(policies(), histories(), st.data())
    @example(Retention(keep_last=1), [], None)
    def test_it_is_the_plan_however_it_was_told(self, policy: Retention, history: list[Version], data: Any) -> None:
        """Downwards from some version, and upwards from it, in any order."""
        if not history:
            return
        at = data.draw(st.integers(0, len(history) - 1))
        above, below = history[:at], history[at + 1 :]
        now = _time(history[at])
        held_versions = HeldVersions(policy, now)
        held_versions.newer(_facts_of(history[at]))
        told = [history[at]]
        while above or below:
            if above and (not below or data.draw(st.booleans())):
                version = above.pop()
                held_versions.newer(_facts_of(version))
                now = _time(version)
                held_versions.pass_time(now)
                told.insert(0, version)
            else:
                version = below.pop(0)
                held_versions.older(_facts_of(version))
                told.append(version)
            _agree(held_versions, policy, told, now)
        _agree(held_versions, policy, history, now)

    def test_time_alone_lets_go(self) -> None:
        history = [Version("s", number, "completed", START, {}, ORIGIN, 1) for number in (2, 1)]
        held_versions = HeldVersions(Retention(keep_within="1h"), START)
        for version in history:
            held_versions.older(_facts(version.number, _time(version)))
        held_versions.pass_time(START + timedelta(hours=1))
        assert list(held_versions.free) == []
        held_versions.newer(_facts(3, START + timedelta(minutes=50)))
        held_versions.pass_time(START + timedelta(hours=1, seconds=1))
        held_versions.pass_time(START)  # a clock that goes back holds nothing again
        assert sorted(held_versions.free) == [1, 2]
        assert list(held_versions.held) == [3]


def _agree(held_versions: HeldVersions, policy: Retention, told: list[Version], now: datetime) -> None:
    decisions = plan(policy, told, {}, now).decisions
    assert set(held_versions.free) == {decision.version.number for decision in decisions if not decision.keep}
    assert set(held_versions.held) == {decision.version.number for decision in decisions if decision.keep}
    for decision in decisions:
        if decision.keep:
            assert set(held_versions.rules_of(decision.version.number)) == set(decision.rules)
            assert all((held_versions.holder(rule) or 0) <= decision.version.number for rule in decision.rules)


class TestPolicy:
    @pytest.mark.parametrize("fields", [{}, {"keep_last": 0}, {"keep_tagged": False}, {"keep_tagged": True}])
    def test_one_that_keeps_nothing_is_refused(self, fields: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match="at least one rule"):
            Retention(**fields)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"keep_last": -1}, "keep_last must be"),
            ({"keep_daily": 1.5}, "keep_daily must be"),
            ({"keep_daily": True}, "keep_daily must be"),
            ({"keep_within": timedelta()}, "keep_within must be"),
            ({"keep_within": timedelta(-1)}, "keep_within must be"),
            ({"keep_within": 7}, "keep_within must be"),
            ({"keep_within": "0d"}, "keep_within must be"),
            ({"keep_within": "7"}, "not a duration"),
            ({"keep_within": "-1d"}, "not a duration"),
            ({"keep_within": "999999999w"}, "not a duration"),
        ],
    )
    def test_an_impossible_rule_is_refused(self, fields: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Retention(**{"keep_last": 1, **fields})

    def test_a_length_of_time_may_be_text(self) -> None:
        assert Retention(keep_within="2w") == Retention(keep_within=timedelta(weeks=2))
        assert str(Retention(keep_last=3, keep_within="90min")) == "keep_last=3, keep_within=1:30:00"

    def test_for_ever_is_a_length_of_time(self) -> None:
        history = [Version("s", number, "completed", START, {}, ORIGIN, 1) for number in (2, 1)]
        assert plan(Retention(keep_within="999999999d"), history, {}, START).dropped == ()
