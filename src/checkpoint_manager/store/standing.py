"""Which versions of a stage are held by which rule, kept up to date as versions come: the arithmetic of retention. Pure.

A rule holds the newest version of each of the last N periods that have one; for ``keep_last``, each version is a period of
its own. Whether a version is held depends on newer ones alone. So versions may be told from the newest downwards, as far as
one likes, and each new one may be added on top, at a cost that does not depend on how many there are; and one that is held
by no rule is never held again.
"""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from checkpoint_manager.model import Status
    from checkpoint_manager.store.retention import Retention


class Judged(Protocol):
    """What the rules look at. A :class:`Version` is one."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def status(self) -> Status:
        """Its status."""

    @property
    def created_at(self) -> datetime:
        """When it was written, in UTC; never earlier than the version before it."""

    @property
    def size(self) -> int:
        """The length of its data."""


class _Rule:
    """Holds the newest version of each of the last ``limit`` periods."""

    __slots__ = ("_held", "_limit", "_period_of", "_status", "name")

    def __init__(self, name: str, limit: int, period_of: Callable[[Judged], Hashable], status: Status | None) -> None:
        self.name = name
        self._limit = limit
        self._period_of = period_of
        self._status = status
        self._held: deque[tuple[Hashable, int]] = deque()  # the newest on the right

    def newer(self, version: Judged) -> tuple[bool, int | None]:
        """Add a version above all others; return whether it is held, and which one is not any more."""
        if not self._counts(version):
            return False, None
        period, lost = self._period_of(version), None
        if self._held and self._held[-1][0] == period:
            lost = self._held.pop()[1]
        elif len(self._held) == self._limit:
            lost = self._held.popleft()[1]
        self._held.append((period, version.version))
        return True, lost

    def older(self, version: Judged) -> bool:
        """Add a version below all others; return whether it is held."""
        if not self._counts(version) or len(self._held) == self._limit:
            return False
        period = self._period_of(version)
        if self._held and self._held[0][0] == period:
            return False
        self._held.appendleft((period, version.version))
        return True

    def _counts(self, version: Judged) -> bool:
        return self._limit > 0 and self._status in {None, version.status}


def _number(version: Judged) -> Hashable:
    return version.version


def _hour(version: Judged) -> Hashable:
    return version.created_at.strftime("%Y-%m-%dT%H")


def _day(version: Judged) -> Hashable:
    return version.created_at.date()


def _week(version: Judged) -> Hashable:
    return version.created_at.isocalendar()[:2]


def _month(version: Judged) -> Hashable:
    return (version.created_at.year, version.created_at.month)


_PERIODS: dict[str, Callable[[Judged], Hashable]] = {
    "keep_last": _number,
    "keep_hourly": _hour,
    "keep_daily": _day,
    "keep_weekly": _week,
    "keep_monthly": _month,
}
_WITHIN = "keep_within"
_EVER = datetime.min.replace(tzinfo=UTC)


class Standing:
    """The versions of one stage, as far as they were told, with the rules that hold each.

    Args:
        policy: The rules.
        now: What ``keep_within`` counts from.
    """

    def __init__(self, policy: Retention, now: datetime) -> None:
        self._window = policy.window
        self._edge = _EVER
        self._rules = [
            _Rule("newest", 1, _number, None),
            _Rule("newest completed", 1, _number, "completed"),
            _Rule("newest cleared", 1, _number, "cleared"),
            _Rule("newest progress", 2, _number, "progress"),
            *(_Rule(name, limit, _PERIODS[name], "completed") for name, limit in policy.counts.items()),
        ]
        self._within: deque[Judged] = deque()  # the newest on the right
        self._held: dict[int, tuple[Judged, list[str]]] = {}
        self.free: dict[int, Judged] = {}
        """The versions that no rule holds; whoever has deleted one takes it out."""
        self.pass_time(now)

    def newer(self, version: Judged) -> None:
        """Add a version that is above all others."""
        self._add(version, [rule.name for rule in self._rules if self._takes(rule, version)])
        if self._is_within(version):
            self._within.append(version)

    def older(self, version: Judged) -> None:
        """Add a version that is below all others."""
        self._add(version, [rule.name for rule in self._rules if rule.older(version)])
        if self._is_within(version):
            self._within.appendleft(version)

    def pass_time(self, now: datetime) -> None:
        """Let go of what is not within ``keep_within`` any more."""
        if self._window is None:
            return
        try:
            self._edge = max(self._edge, now - self._window)
        except OverflowError:  # longer than the calendar: for ever
            return
        while self._within and self._within[0].created_at < self._edge:
            self._let_go(self._within.popleft().version, _WITHIN)

    def rules_of(self, number: int) -> tuple[str, ...]:
        """Return the rules that hold a version."""
        return tuple(self._held[number][1]) if number in self._held else ()

    def holder(self, rule: str) -> int | None:
        """Return the oldest version that a rule holds."""
        return min((number for number, (_, rules) in self._held.items() if rule in rules), default=None)

    @property
    def held(self) -> Iterable[int]:
        """The numbers of the versions that some rule holds."""
        return self._held.keys()

    def _takes(self, rule: _Rule, version: Judged) -> bool:
        held, lost = rule.newer(version)
        if lost is not None:
            self._let_go(lost, rule.name)
        return held

    def _add(self, version: Judged, rules: list[str]) -> None:
        if self._is_within(version):
            rules.append(_WITHIN)
        if rules:
            self._held[version.version] = version, rules
        else:
            self.free[version.version] = version

    def _is_within(self, version: Judged) -> bool:
        return self._window is not None and version.created_at >= self._edge

    def _let_go(self, number: int, rule: str) -> None:
        version, rules = self._held[number]
        rules.remove(rule)
        if not rules:
            del self._held[number]
            self.free[number] = version
