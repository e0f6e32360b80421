"""Retention: which versions of a stage are kept. A pure function of policy, history, tags and time.

**What the rules count.** ``keep_last`` and the periods count *completed* versions only: a failed, unfinished or cleared
version can't be resumed from, so it must not push out one that can. ``keep_within`` keeps every version of its time span,
failures included, because those are what a user investigates. A period rule keeps the newest completed version of each of the
last N hours, days, ISO weeks or months that have one (as in restic and borg), in UTC, so that every host computes the same
plan. The rules are independent: a version may be kept by several, and counts for each.

A function's stage (``@cm.stage``) holds the results of calls with different arguments, none of which replaces that of another
call. So its rules count for each arguments separately: ``keep_last=2`` keeps the two newest results of each.

**What is always kept:**

* ``newest``: the newest version of any status, which is the state of the stage.
* ``newest completed``: the version that a pipeline resumes from or returns to.
* ``newest cleared``: without it, the older versions that it cleared would count as done again.
* ``newest progress``: the two newest ``progress`` versions; an interrupted loop resumes from the newest one or, if that is
  damaged, from the other.

A restore needs nothing else: each version is complete, not a difference to another one. A version with ``restored_from`` is
a copy, so the version that it names is kept only if a rule keeps it.

A version whose metadata does not open can't be judged. It is in no plan, and stays.

**Clocks.** Times are taken as :mod:`checkpoint_manager.times` believes them. A version dated in the future is kept by the rule
``dated in the future`` and counts for no other. ``keep_within`` counts back from now. If the next older version lies beyond
that span by more than the same span again, it also counts back from that version, once: a clock that is years ahead must not
make everything old. As a consequence, the last versions before a pause longer than ``keep_within`` stay until newer ones
follow.

**Cost.** A rule holds the newest version of each of the last N periods; for ``keep_last``, each version is its own period.
Whether a version is held depends only on newer versions, and a version that no rule holds is never held again. So versions can
be added from the newest downwards, as far as needed, and new ones on top, each at a cost that does not depend on their number.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

from checkpoint_manager._arguments import check, check_flags
from checkpoint_manager.errors import ArgumentError
from checkpoint_manager.times import believed, length

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

    from checkpoint_manager.models import Status, Version

NO_RULE = "no rule keeps it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept when a stage is pruned; see :mod:`checkpoint_manager.retention` for what each rule counts.

    ::

        Retention(keep_last=5, keep_daily=7, keep_monthly=12)
        Retention(keep_within="2w")

    Attributes:
        keep_last: Keep the last N completed versions.
        keep_within: Keep every version younger than this: a ``timedelta``, or text such as ``12h``, ``1d`` or ``2w``.
        keep_hourly: Keep the newest completed version of each of the last N hours (UTC) that have one.
        keep_daily: Keep the newest completed version of each of the last N days.
        keep_weekly: Keep the newest completed version of each of the last N ISO weeks.
        keep_monthly: Keep the newest completed version of each of the last N months.
        keep_tagged: Keep every version that has a tag. If False, tags are removed with their versions.

    Raises:
        ArgumentError: No rule is given, or a value is out of range.
    """

    keep_last: int = 0
    keep_within: timedelta | str | None = None
    keep_hourly: int = 0
    keep_daily: int = 0
    keep_weekly: int = 0
    keep_monthly: int = 0
    keep_tagged: bool = True

    def __post_init__(self) -> None:
        if isinstance(self.keep_within, str):
            object.__setattr__(self, "keep_within", length(self.keep_within))
        check("keep_within", self.keep_within, (timedelta, type(None)), "a timedelta, or text such as 1d")
        if self.keep_within is not None and self.keep_within <= timedelta():  # type: ignore[operator]  # text is replaced above
            raise ArgumentError("keep_within must be longer than nothing, such as 1d", argument="keep_within")
        check_flags(keep_tagged=self.keep_tagged)
        for name, number in self.counts.items():
            check(name, number, int, "a number of versions, 0 or more")
            if number < 0:
                raise ArgumentError(f"{name} must be a number of versions, 0 or more, not {number}", argument=name)
        if self.keep_within is None and not any(self.counts.values()):
            raise ArgumentError("a retention needs at least one rule: keep_last, keep_within, keep_daily, …")

    @property
    def counts(self) -> dict[str, int]:
        """The counting rules, by name."""
        names = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly")
        return {name: getattr(self, name) for name in names}

    @property
    def window(self) -> timedelta | None:
        """``keep_within`` as a ``timedelta``."""
        return self.keep_within if isinstance(self.keep_within, timedelta) else None

    def __str__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name != "keep_tagged")
        return ", ".join(f"{name}={value}" for name, value in given if value)


@dataclass(frozen=True, slots=True)
class PruneDecision:
    """The decision on one version.

    Attributes:
        version: The version.
        keep: Whether it is kept.
        rules: The rules that keep it, such as ``keep_last`` or ``tag good``; if it is dropped, the reason.
    """

    version: Version
    keep: bool
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """The decisions of a pruning: stages sorted by name, and the versions of each newest first."""

    decisions: tuple[PruneDecision, ...] = ()

    @property
    def kept(self) -> tuple[Version, ...]:
        """The versions that are kept."""
        return tuple(decision.version for decision in self.decisions if decision.keep)

    @property
    def dropped(self) -> tuple[Version, ...]:
        """The versions to delete."""
        return tuple(decision.version for decision in self.decisions if not decision.keep)

    @property
    def bytes_dropped(self) -> int:
        """The size of the data to delete, in bytes."""
        return sum(version.total_size or 0 for version in self.dropped)


class VersionFacts(NamedTuple):
    """The facts of a version that the rules need. It is small, because thousands may be held in memory.

    Attributes:
        number: Its number.
        status: Its status.
        created_at: When it was written, in UTC, as :func:`checkpoint_manager.times.believed` takes it.
        size: The length of its data in bytes.
        group: What tells the arguments that it is the result of; empty unless a function's stage wrote it.
    """

    number: int
    status: str
    created_at: datetime
    size: int
    group: str = ""


class _Rule:
    """Holds the newest version of each of the last ``limit`` periods; of each group, if it counts by group."""

    __slots__ = ("_by_group", "_held", "_limit", "_period_of", "_status", "name")

    def __init__(
        self,
        name: str,
        limit: int,
        period_of: Callable[[VersionFacts], Hashable],
        status: Status | None,
        *,
        by_group: bool = False,
    ) -> None:
        self.name = name
        self._limit = limit
        self._period_of = period_of
        self._status = status
        self._by_group = by_group
        self._held: dict[str, deque[tuple[Hashable, int]]] = {}  # the newest on the right

    def newer(self, version: VersionFacts) -> tuple[bool, int | None]:
        """Add a version above all others; return whether it is held, and which one is not any more."""
        if not self._counts(version):
            return False, None
        period, lost, held = self._period_of(version), None, self._held_of(version)
        if held and held[-1][0] == period:
            lost = held.pop()[1]
        elif len(held) == self._limit:
            lost = held.popleft()[1]
        held.append((period, version.number))
        return True, lost

    def older(self, version: VersionFacts) -> bool:
        """Add a version below all others; return whether it is held."""
        if not self._counts(version):
            return False
        held = self._held_of(version)
        if len(held) == self._limit:
            return False
        period = self._period_of(version)
        if held and held[0][0] == period:
            return False
        held.appendleft((period, version.number))
        return True

    def _held_of(self, version: VersionFacts) -> deque[tuple[Hashable, int]]:
        return self._held.setdefault(version.group if self._by_group else "", deque())

    def _counts(self, version: VersionFacts) -> bool:
        return self._limit > 0 and self._status in {None, version.status}


def _number(version: VersionFacts) -> Hashable:
    return version.number


def _hour(version: VersionFacts) -> Hashable:
    return version.created_at.strftime("%Y-%m-%dT%H")


def _day(version: VersionFacts) -> Hashable:
    return version.created_at.date()


def _week(version: VersionFacts) -> Hashable:
    return version.created_at.isocalendar()[:2]


def _month(version: VersionFacts) -> Hashable:
    return (version.created_at.year, version.created_at.month)


_PERIODS: dict[str, Callable[[VersionFacts], Hashable]] = {
    "keep_last": _number,
    "keep_hourly": _hour,
    "keep_daily": _day,
    "keep_weekly": _week,
    "keep_monthly": _month,
}
_WITHIN = "keep_within"
_FUTURE = "dated in the future"
_EVER = datetime.min.replace(tzinfo=UTC)


class HeldVersions:
    """The versions of one stage that were added so far, each with the rules that hold it.

    Args:
        policy: The rules.
        now: The time that ``keep_within`` counts back from.
    """

    def __init__(self, policy: Retention, now: datetime) -> None:
        self._window = policy.window
        self._now = now
        self._edge = self._edge_before(now)
        self._past_pause = False
        self._rules = [
            _Rule("newest", 1, _number, None),
            _Rule("newest completed", 1, _number, "completed"),
            _Rule("newest cleared", 1, _number, "cleared"),
            _Rule("newest progress", 2, _number, "progress"),
            *(_Rule(name, limit, _PERIODS[name], "completed", by_group=True) for name, limit in policy.counts.items() if limit),
        ]
        self._within: deque[VersionFacts] = deque()  # the newest on the right
        self._held: dict[int, tuple[VersionFacts, list[str]]] = {}
        self.free: dict[int, VersionFacts] = {}
        """The versions that no rule holds. The caller removes those that it has deleted."""

    def newer(self, version: VersionFacts) -> None:
        """Add a version above all others."""
        self._add(version, [rule.name for rule in self._rules if self._takes(rule, version)])
        if self._window is not None and version.created_at >= self._edge:
            self._hold_within(version)
            self._within.append(version)

    def older(self, version: VersionFacts) -> None:
        """Add a version below all others."""
        self._add(version, [rule.name for rule in self._rules if rule.older(version)])
        if self._window is not None and self._reaches(version.created_at, self._window):
            self._hold_within(version)
            self._within.appendleft(version)

    def older_all(self, versions: Sequence[VersionFacts], now: datetime) -> None:
        """Add versions below all others, newest first, at the times that are believed at ``now``."""
        saved = believed([version.created_at for version in reversed(versions)], now)
        for version, when in zip(versions, reversed(saved), strict=True):
            if when is None:
                self._held[version.number] = version, [_FUTURE]
            else:
                self.older(version._replace(created_at=when))

    def pass_time(self, now: datetime) -> None:
        """Release the versions that are no longer within ``keep_within``."""
        if self._window is None:
            return
        self._now = now
        edge = self._edge_before(now)
        older = list(takewhile(lambda version: version.created_at < edge, self._within))
        if older:
            self._past_pause = True
            above = self._within[len(older)].created_at if len(older) < len(self._within) else now
            if above - older[-1].created_at > self._window:  # a pause, or a clock that is wrong now
                edge = self._edge_before(older[-1].created_at)
        while self._within and self._within[0].created_at < edge:
            self._release(self._within.popleft().number, _WITHIN)
        self._edge = edge

    def _reaches(self, created_at: datetime, window: timedelta) -> bool:
        """Return whether ``keep_within`` reaches back to this time, across at most one pause."""
        if created_at >= self._edge:
            return True
        if self._past_pause:
            return False
        self._past_pause = True
        above = self._within[0].created_at if self._within else self._now
        if above - created_at <= window:
            return False
        self._edge = self._edge_before(created_at)
        return True

    def _edge_before(self, moment: datetime) -> datetime:
        try:
            return _EVER if self._window is None else moment - self._window
        except OverflowError:  # longer than the calendar
            return _EVER

    def rules_of(self, number: int) -> tuple[str, ...]:
        """Return the rules that hold a version."""
        return tuple(self._held[number][1]) if number in self._held else ()

    def holder(self, rule: str) -> int | None:
        """Return the oldest version that a rule holds, or None."""
        return min((number for number, (_, rules) in self._held.items() if rule in rules), default=None)

    @property
    def held(self) -> Iterable[int]:
        """The numbers of the versions that some rule holds."""
        return self._held.keys()

    def _takes(self, rule: _Rule, version: VersionFacts) -> bool:
        held, lost = rule.newer(version)
        if lost is not None:
            self._release(lost, rule.name)
        return held

    def _add(self, version: VersionFacts, rules: list[str]) -> None:
        if rules:
            self._held[version.number] = version, rules
        else:
            self.free[version.number] = version

    def _hold_within(self, version: VersionFacts) -> None:
        self.free.pop(version.number, None)
        self._held.setdefault(version.number, (version, []))[1].append(_WITHIN)

    def _release(self, number: int, rule: str) -> None:
        version, rules = self._held[number]
        rules.remove(rule)
        if not rules:
            del self._held[number]
            self.free[number] = version


def plan(
    policy: Retention,
    history: Iterable[Version],
    tags: Mapping[str, int],
    now: datetime,
    group_of: Callable[[Mapping[str, Any]], str] = lambda _: "",
) -> PrunePlan:
    """Return what a policy keeps and drops of one stage.

    Args:
        policy: The rules.
        history: The stage's versions, newest first.
        tags: The stage's tags, each with the number of the version that it names.
        now: The time that ``keep_within`` counts back from.
        group_of: Returns the group of a version with such metadata.
    """
    held_versions = HeldVersions(policy, now)
    versions = [version for version in history if version.created_at is not None]
    facts = [VersionFacts(v.number, v.status, v.created_at or now, v.total_size or 0, group_of(v.metadata)) for v in versions]
    held_versions.older_all(facts, now)
    decisions: list[PruneDecision] = []
    for version in versions:
        names = sorted(name for name, number in tags.items() if number == version.number) if policy.keep_tagged else []
        rules = (*held_versions.rules_of(version.number), *(f"tag {name}" for name in names))
        decisions.append(PruneDecision(version, bool(rules), rules or (f"{NO_RULE} ({policy})",)))
    return PrunePlan(tuple(decisions))
