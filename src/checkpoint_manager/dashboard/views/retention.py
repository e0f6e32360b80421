"""What a retention policy would keep and why, how many bytes there are, and pruning by a plan that was shown."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

from checkpoint_manager.dashboard import bar_chart
from checkpoint_manager.dashboard.filters import plural
from checkpoint_manager.dashboard.plans import newest_number
from checkpoint_manager.dashboard.views.call import RefusedError
from checkpoint_manager.dashboard.views.changes import reason_of
from checkpoint_manager.errors import CheckpointError
from checkpoint_manager.retention import Retention

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import date

    from starlette.responses import Response

    from checkpoint_manager import CheckpointManager, Version
    from checkpoint_manager.dashboard.plans import RetentionPlan
    from checkpoint_manager.dashboard.views.call import Call

_COUNTS = ("keep_last", "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly")
WAIT_SECONDS = 0.15
"""How long a page waits for its plan. If that is not enough, the plan is made while the page reloads."""
_MEASURED_SECONDS = 0.15
_KEPT = "The reason is kept in the store, with the tags of each stage that loses versions."
_MOST_MEASURED, _MOST_BARS, _MOST_ROWS = 2000, 24, 300


def show(call: Call) -> Response:
    """Show how many bytes there are; with rules, what they would keep and drop, and why."""
    policy = _policy(call)
    stage = call.asked("stage")
    if policy is None:
        return _page(call, stage, **_measured(call, stage))
    plan = _kept(call, policy, stage) or call.store.retention_plans.make((policy, stage), WAIT_SECONDS)
    if plan is None:
        return _page(call, stage, policy=policy)
    start = call.number("start") or 0
    return _page(
        call,
        stage,
        plan=plan.decisions,
        rows=plan.decisions.decisions[start : start + _MOST_ROWS],
        start=start,
        policy=policy,
        digest=plan.digest,
        length=_MOST_ROWS,
    )


def prune(call: Call) -> Response:
    """Delete what the plan that was shown drops, if its stages have not changed since."""
    policy, stage, reason = _policy(call), call.asked("stage"), reason_of(call)
    if policy is None:
        raise RefusedError(400, "The policy has no rule")
    plan = _kept(call, policy, stage)
    if plan is None or _has_changed(call.store.cm, plan):
        call.note("refused", "to prune, because the plan has changed meanwhile", stage=stage)
        text = "The plan has changed since it was shown. Nothing was deleted. Look at it again."
        raise RefusedError(409, "Somebody was quicker", text)
    deleted = 0
    try:
        for name, numbers in plan.dropped().items():
            cm, newest = call.store.cm, plan.newest[name]
            deleted += len(cm.delete_versions(name, numbers, expected_version=newest, reason=reason))
    finally:
        if deleted:
            call.note("change", f"pruned {deleted} versions ({policy})", stage=stage, reason=reason)
    return call.go(call.at("/retention", stage=stage), f"{plural(deleted, 'version')} deleted for good.")


def _kept(call: Call, policy: Retention, stage: str) -> RetentionPlan | None:
    """Return the plan that the page of this request shows, or None if it is not kept any more."""
    plan = call.store.retention_plans.kept(call.asked("plan"))
    return plan if plan is not None and (plan.policy, plan.stage) == (policy, stage) else None


def _has_changed(cm: CheckpointManager, plan: RetentionPlan) -> bool:
    """Return whether a stage of a plan has another newest version by now, or a tag protects a version that is to be deleted."""
    return any(
        newest_number(cm, name) != plan.newest[name] or {*numbers} & {*cm.tags(name).values()}
        for name, numbers in plan.dropped().items()
    )


def _page(call: Call, stage: str, **values: Any) -> Response:  # noqa: ANN401  # whatever the template shows
    known: dict[str, Any] = {"plan": None, "policy": None, "bars": None, "growth": None, "measured": [], "is_partial": False}
    rules = {name: call.asked(name) for name in (*_COUNTS, "keep_within")}
    return call.page("retention.html", **(known | values), stage=stage, rules=rules, counts=_COUNTS, kept=_KEPT)


def _policy(call: Call) -> Retention | None:
    """Return the policy that is asked for; None if no rule is given.

    Raises:
        RefusedError: It is not valid.
    """
    rules: dict[str, Any] = {name: number for name in _COUNTS if (number := call.number(name))}
    if within := call.asked("keep_within").strip():
        rules["keep_within"] = within
    try:
        return Retention(**rules) if rules else None
    except ValueError as error:
        raise RefusedError(400, "Invalid policy", str(error)) from None


def _measured(call: Call, stage: str) -> dict[str, Any]:
    """Return the bytes of each stage and how they grew, from as many versions as a page may read."""
    per_stage, counts = Counter[str](), Counter[str]()
    per_day: Counter[date] = Counter()
    read = 0
    until = time.monotonic() + _MEASURED_SECONDS
    for version in _versions(call, stage):
        read += 1
        if read > _MOST_MEASURED or time.monotonic() > until:
            break
        if version.created_at is not None and version.total_size is not None:
            per_stage[version.stage] += version.total_size
            per_day[version.created_at.date()] += version.total_size
            counts[version.stage] += 1
    largest = per_stage.most_common(_MOST_BARS)
    days = sorted(per_day.items())
    return {
        "measured": [(name, counts[name], size) for name, size in largest],
        "bars": bar_chart.draw(largest),
        "growth": bar_chart.grown([(f"{day:%Y-%m-%d}", size) for day, size in days]),
        "is_partial": sum(counts.values()) < read,
    }


def _versions(call: Call, stage: str) -> Iterator[Version]:
    for name in [stage] if stage else call.store.names():
        try:
            yield from call.store.cm.iter_history(name)
        except CheckpointError:  # told where its versions are
            continue
