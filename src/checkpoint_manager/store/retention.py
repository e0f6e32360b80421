"""Which versions of a stage are kept: a pure function from policy, history, tags and time to a plan. No I/O here.

**What a rule counts.** ``keep_last`` and the periods count *completed* versions: what failed, was in progress or was
cleared can't be gone back to, and must not push out what can. ``keep_within`` keeps every version of its time, failures
too: they are what one looks into. A period keeps the newest completed version of each of the last N hours, days, ISO weeks
or months that have one (as restic and borg do), in UTC: the same history gives the same plan on every host. Rules don't
share: a version may be kept by several, and each counts it.

**What is kept whatever the policy says:**

* ``newest``: the newest version of a stage, of any status: it is the stage's state.
* ``newest completed``: what a pipeline resumes from, or goes back to.
* ``newest cleared``: below it nothing is done any more; were it gone, what was cleared would be taken for done.
* ``newest progress``: the two newest ``progress`` versions: a loop that was killed goes on from the one, or should that be
  damaged, from the other.

That is all a restore needs: versions are whole, no version is a difference to another one. A version that says
``restored_from`` holds a copy, so the version that it names is kept only by rules of its own.

**What can't be judged stays:** a version whose metadata does not open is in no plan.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING

from checkpoint_manager.store import moments
from checkpoint_manager.store.standing import Standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from checkpoint_manager.model import Version

NO_RULE = "no rule keeps it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """What is kept when a stage is pruned; see :mod:`checkpoint_manager.store.retention` for what each rule counts.

    ::

        Retention(keep_last=5, keep_daily=7, keep_monthly=12)
        Retention(keep_within="2w")

    Attributes:
        keep_last: So many completed versions, the newest ones.
        keep_within: Every version younger than this: a ``timedelta``, or text such as ``12h``, ``1d`` or ``2w``.
        keep_hourly: The newest completed version of each of so many hours (in UTC) that have one; and so on.
        keep_daily: Likewise of days.
        keep_weekly: Likewise of ISO weeks.
        keep_monthly: Likewise of months.
        keep_tagged: Keep each version that has a tag. If False, a tag goes with its version.

    Raises:
        ValueError: No rule would keep anything, or one says something impossible.
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
            object.__setattr__(self, "keep_within", moments.length(self.keep_within))
        if not (self.keep_within is None or (isinstance(self.keep_within, timedelta) and self.keep_within > timedelta())):
            raise ValueError(f"keep_within must be a length of time above 0, such as 1d, not {self.keep_within!r}")
        for name, number in self.counts.items():
            if type(number) is not int or number < 0:
                raise ValueError(f"{name} must be a number of versions, 0 or more, not {number!r}")
        if self.keep_within is None and not any(self.counts.values()):
            raise ValueError(
                "a retention that keeps nothing is refused: give at least one of keep_last, keep_within, keep_daily, …"
            )

    @property
    def counts(self) -> dict[str, int]:
        """The rules that count, by name."""
        names = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly")
        return {name: getattr(self, name) for name in names}

    @property
    def window(self) -> timedelta | None:
        """``keep_within`` as a length of time."""
        return self.keep_within if isinstance(self.keep_within, timedelta) else None

    def __str__(self) -> str:
        given = ((field.name, getattr(self, field.name)) for field in fields(self) if field.name != "keep_tagged")
        return ", ".join(f"{name}={value}" for name, value in given if value)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one version.

    Attributes:
        version: The version.
        keep: Whether it is kept.
        rules: The rules that keep it, such as ``keep_last`` or ``tag good``; of one that is dropped, why.
    """

    version: Version
    keep: bool
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pruning keeps and drops: the stages by name, the versions of each newest first."""

    verdicts: tuple[Verdict, ...] = ()

    @property
    def kept(self) -> tuple[Version, ...]:
        """The versions that are kept."""
        return tuple(verdict.version for verdict in self.verdicts if verdict.keep)

    @property
    def dropped(self) -> tuple[Version, ...]:
        """The versions that are deleted."""
        return tuple(verdict.version for verdict in self.verdicts if not verdict.keep)

    @property
    def bytes_dropped(self) -> int:
        """The size of the data that is deleted."""
        return sum(version.size for version in self.dropped)


def plan(policy: Retention, history: Iterable[Version], tags: Mapping[str, int], now: datetime) -> Plan:
    """Return what a policy keeps and drops of one stage.

    Args:
        policy: The rules.
        history: The stage's versions, newest first.
        tags: Its tags, with the numbers of the versions they name.
        now: What ``keep_within`` counts from.
    """
    standing = Standing(policy, now)
    versions = list(history)
    for version in versions:
        standing.older(version)
    verdicts: list[Verdict] = []
    for version in versions:
        names = sorted(name for name, number in tags.items() if number == version.version) if policy.keep_tagged else []
        rules = (*standing.rules_of(version.version), *(f"tag {name}" for name in names))
        verdicts.append(Verdict(version, bool(rules), rules or (f"{NO_RULE} ({policy})",)))
    return Plan(tuple(verdicts))
