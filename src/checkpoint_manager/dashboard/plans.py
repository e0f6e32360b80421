"""Plans of a store: one of each kind is made at a time, in a thread of its own, and the newest few are kept.

A plan is identified by a digest of what it would do. A page shows a part of a plan that is kept. The plan that was shown is the
one that is carried out; it is not made again.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

from checkpoint_manager.dashboard.background import Job
from checkpoint_manager.dashboard.pace import PACE
from checkpoint_manager.errors import IntegrityError
from checkpoint_manager.pipelines import Pipelines
from checkpoint_manager.retention import PrunePlan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from checkpoint_manager import CheckpointManager, PruneDecision
    from checkpoint_manager.pipelines import PipelinePlan
    from checkpoint_manager.retention import Retention

_MOST_KEPT = 4
_READY_SECONDS = 30.0
"""How long a plan that is ready waits to be asked for."""


class RetentionPlan(NamedTuple):
    """What a policy would delete.

    Attributes:
        policy: The policy.
        stage: The stage that it is for; empty: all.
        decisions: What is kept and what is not.
        newest: The newest version that each stage had before.
        digest: Identifies it.
    """

    policy: Retention
    stage: str
    decisions: PrunePlan
    newest: dict[str, int]
    digest: str

    def dropped(self) -> dict[str, list[int]]:
        """Return the numbers of the versions to delete, by stage."""
        found: dict[str, list[int]] = {}
        for version in self.decisions.dropped:
            found.setdefault(version.stage, []).append(version.number)
        return found


class RestorePlan(NamedTuple):
    """What taking a pipeline back would do.

    Attributes:
        goal: The moment or the tag.
        pipeline: What would be done; it is given to :meth:`Pipelines.restore`.
        digest: Identifies it.
    """

    goal: Goal
    pipeline: PipelinePlan
    digest: str


class Goal(NamedTuple):
    """What a pipeline is taken back to: a moment, or a tag."""

    at: datetime | None = None
    tag: str | None = None


class _Plan(Protocol):
    @property
    def digest(self) -> str: ...


Asked = TypeVar("Asked")
Made = TypeVar("Made", bound=_Plan)


class _Making(NamedTuple, Generic[Asked, Made]):
    """A plan that is being made, or is ready and was not asked for yet."""

    asked: Asked
    job: Job[Made]

    def serves(self, asked: Asked) -> bool:
        """Return whether it is the plan that is asked for, and not too old."""
        return self.asked == asked and (self.job.age or 0) <= _READY_SECONDS


class Plans(Generic[Asked, Made]):
    """The plans of one kind for one store.

    Args:
        make: Makes the plan that is asked for.
    """

    def __init__(self, make: Callable[[Asked], Made]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._making: _Making[Asked, Made] | None = None
        self._kept: dict[str, Made] = {}

    def kept(self, digest: str) -> Made | None:
        """Return a plan that was made, if it is still kept."""
        return self._kept.get(digest)

    def make(self, asked: Asked, wait: float) -> Made | None:
        """Return the plan that is asked for; None: it is not ready, or another one is being made.

        Args:
            asked: What it is for.
            wait: How long to wait for it, in seconds.

        Raises:
            CheckpointError: It can't be made.
        """
        with self._lock:
            making = self._making
            if making is None or (making.job.age is not None and not making.serves(asked)):
                making = self._making = _Making(asked, Job("A plan", lambda: self._made(asked)))
        if making.asked != asked or not making.job.wait(wait):
            return None
        with self._lock:
            if self._making is making:
                self._making = None
        return making.job.result()

    def _made(self, asked: Asked) -> Made:
        plan = self._make(asked)
        with self._lock:
            self._kept[plan.digest] = plan
            while len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return plan


def plan_retention(cm: CheckpointManager, policy: Retention, stage: str) -> RetentionPlan:
    """Return what a policy would delete of a stage, or of all."""
    newest: dict[str, int] = {}
    made: list[PruneDecision] = []
    for name in [stage] if stage else cm.stages():
        PACE.give_way()
        newest[name] = newest_number(cm, name)
        made += cm.prune(policy, name, dry_run=True).decisions
    decisions = PrunePlan(tuple(made))
    told = [f"{policy} {stage}", *(f"{each.stage} {each.number} {newest.get(each.stage)}" for each in decisions.dropped)]
    return RetentionPlan(policy, stage, decisions, newest, _digest(told))


def plan_restore(cm: CheckpointManager, goal: Goal) -> RestorePlan:
    """Return what taking a pipeline back would do. Everything that would be restored is read and verified.

    Raises:
        CheckpointError: No stage has the tag, or the store can't be read. What is wrong with a single stage is in its step.
    """
    (pipeline,) = Pipelines([cm]).plan_restore(at=goal.at, tag=goal.tag)
    if pipeline.error is not None:
        raise pipeline.error
    told = (f"{each.stage} {each.action} {each.newest_number} {each.target and each.target.number}" for each in pipeline.steps)
    return RestorePlan(goal, pipeline, _digest([f"{goal}", *told]))


def _digest(told: Iterable[str]) -> str:
    return hashlib.sha256("\0".join(told).encode(errors="surrogatepass")).hexdigest()


def newest_number(cm: CheckpointManager, stage: str) -> int:
    """Return the number of the newest version of a stage, whether it opens or not."""
    try:
        return cm.get_version(stage).number
    except IntegrityError as error:
        if error.version is None:
            raise
        return error.version
