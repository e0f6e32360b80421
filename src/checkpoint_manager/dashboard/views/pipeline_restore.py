"""Taking a whole pipeline back to a moment or a tag: what would happen to each stage, and then all of it, or nothing.

The plan that is carried out is the one that was shown: each of its steps demands that its stage is still as it was planned. If
one is not, the stages that were changed before it are taken back. The reason is kept in the metadata of each new version.
"""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkpoint_manager import times
from checkpoint_manager._text import printable
from checkpoint_manager.dashboard.filters import local, plural
from checkpoint_manager.dashboard.plans import Goal, newest_number
from checkpoint_manager.dashboard.views.call import RefusedError
from checkpoint_manager.dashboard.views.changes import overtaken, reason_of
from checkpoint_manager.errors import CheckpointError, PartlyRestoredError, VersionConflictError
from checkpoint_manager.pipelines import Pipelines

if TYPE_CHECKING:
    from starlette.responses import Response

    from checkpoint_manager import RestoreStep
    from checkpoint_manager.dashboard.plans import RestorePlan
    from checkpoint_manager.dashboard.views.call import Call

WAIT_SECONDS = 0.15
"""How long a page waits for its plan. If that is not enough, the plan is made while the page reloads."""
_MOST_SEARCHED, _MOST_ROWS, _MOST_TOLD = 100, 300, 30
_DONE_TO = {"restore": "restored", "clear": "cleared", "keep": "kept", "refuse": "refused"}


def plan(call: Call) -> Response:
    """Ask for a moment or a tag, and then show what would happen to each stage."""
    goal = _goal(call)
    if goal is None:
        return call.page("pipeline_restore.html", tags=_tags(call))
    if goal.at is not None and call.asked("at") != goal.at.isoformat():
        return call.go(call.at("/pipeline/plan", at=goal.at.isoformat()))  # an age stays the same moment from now on
    found = _kept(call, goal) or call.store.restore_plans.make(goal, WAIT_SECONDS)
    if found is None:
        return call.page("pipeline_plan.html", goal=goal, plan=None)
    return _page(call, goal, found)


def restore(call: Call) -> Response:
    """Carry out the plan that was shown, if all its stages are as they were planned."""
    goal, reason = _goal(call), reason_of(call)
    found = None if goal is None else _kept(call, goal)
    if goal is None or found is None or found.pipeline.refused is not None:
        raise RefusedError(409, "This plan can't be carried out any more", "Nothing was changed. Open the plan again.")
    again = call.at("/pipeline/plan", at=goal.at and goal.at.isoformat(), tag=goal.tag)
    if (changed := _first_change(call, found)) is not None:
        return overtaken(call, *changed, again)
    try:
        (versions,) = Pipelines([call.store.cm]).restore([found.pipeline], metadata={"reason": reason}).values()
    except CheckpointError as error:
        return _failed(call, found, error, reason, again)
    to = f"the tag {goal.tag}" if goal.at is None else local(goal.at)
    call.note("change", f"restored the pipeline to {to}: {plural(len(versions), 'stage')} changed", reason=reason)
    return call.go(call.at(""), f"The pipeline is restored to {to}: {plural(len(versions), 'stage')} changed.")


def _first_change(call: Call, found: RestorePlan) -> tuple[str, int, int] | None:
    """Return a stage that is not as it was planned, with its newest version then and now; None if all are."""
    cm, planned = call.store.cm, {step.stage: step.newest_number for step in found.pipeline.steps}
    now = ((stage, planned.get(stage, 0), newest_number(cm, stage)) for stage in {**planned, **dict.fromkeys(cm.stages())})
    return next((each for each in now if each[1] != each[2]), None)


def _failed(call: Call, found: RestorePlan, error: CheckpointError, reason: str, again: str) -> Response:
    """Show why a restore failed, and what it has left.

    Raises:
        RefusedError: It failed for another reason than that somebody was quicker.
    """
    left = [stage for _, stage in error.left] if isinstance(error, PartlyRestoredError) else []
    why = error.__cause__ if left and isinstance(error.__cause__, CheckpointError) else error
    if isinstance(why, VersionConflictError):
        told = "Nothing was changed." if found.pipeline.is_one_step else _told_of(left)
        return overtaken(call, why.stage or "", why.expected, why.actual, again, told)
    told = _told_of(left)
    call.note("change", f"began to restore the pipeline, and failed. {told}", reason=reason)
    raise RefusedError(500, why.message, f"{told} {call.store.hint_of(why)}".strip())


def _told_of(left: list[str]) -> str:
    """Return which stages stay as the restore has left them."""
    if not left:
        return "What was changed before is taken back: those stages keep the versions of both steps."
    more = f" and {len(left) - _MOST_TOLD} more" if len(left) > _MOST_TOLD else ""
    return (
        f"These stages were changed before, and could not be taken back: {', '.join(map(printable, left[:_MOST_TOLD]))}{more}."
    )


def _goal(call: Call) -> Goal | None:
    """Return the moment or the tag that is asked for; None if neither is.

    Raises:
        RefusedError: Both are, or the moment can't be read.
    """
    at, tag = call.asked("at").strip(), call.asked("tag").strip()
    if at and tag:
        raise RefusedError(400, "A time and a tag are given", "Give one of them.")
    if tag:
        return Goal(tag=tag)
    try:
        return Goal(at=times.moment(at, datetime.now(UTC))) if at else None
    except ValueError:
        text = "Give one such as 2026-11-20T14:00, in the time zone of this host, or an age such as 30m, 12h or 2d."
        raise RefusedError(400, "Not a time", text) from None


def _kept(call: Call, goal: Goal) -> RestorePlan | None:
    """Return the plan that the page of this request shows, or None if it is not kept any more."""
    found = call.store.restore_plans.kept(call.asked("plan"))
    return found if found is not None and found.goal == goal else None


def _tags(call: Call) -> list[tuple[str, int]]:
    """Return the tags of the first stages, each with the number of those that have it, the largest first."""
    found = Counter[str]()
    for stage in itertools.islice(call.store.names(), _MOST_SEARCHED):
        with contextlib.suppress(CheckpointError):  # told by the plan
            found.update(call.store.cm.tags(stage).keys())
    return sorted(found.items(), key=lambda each: (-each[1], each[0]))[:_MOST_TOLD]


def _page(call: Call, goal: Goal, found: RestorePlan) -> Response:
    place = {stage: index for index, stage in enumerate(call.store.overview().in_order())}
    steps = sorted(found.pipeline.steps, key=lambda step: (place.get(step.stage, len(place)), step.stage))
    counts = Counter[str](step.action for step in steps)
    start = call.number("start") or 0
    return call.page(
        "pipeline_plan.html",
        goal=goal,
        plan=found,
        rows=[_row(call, step) for step in steps[start : start + _MOST_ROWS]],
        total=len(steps),
        start=start,
        length=_MOST_ROWS,
        counts=[(_DONE_TO[action], counts[action]) for action in _DONE_TO if counts[action]],
        cannot=counts["refuse"],
        refused=[_row(call, step) for step in steps if step.action == "refuse"][:_MOST_TOLD],
        changes=len(found.pipeline.changes),
        running=found.pipeline.running[:_MOST_TOLD],
    )


def _row(call: Call, step: RestoreStep) -> dict[str, Any]:
    return {
        "step": step,
        "result": _DONE_TO[step.action],
        "why": "" if step.error is None else call.store.explain(step.error),
    }
