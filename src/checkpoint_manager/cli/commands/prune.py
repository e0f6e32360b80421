"""``prune``: delete the versions that no rule keeps."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import click

import checkpoint_manager
from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.each_stage import tell_troubles, trouble_fields, with_each
from checkpoint_manager.cli.exit_codes import Exit, UsageError, exit_of
from checkpoint_manager.cli.options import Age, Number, confirm, dry_run_option, sealed_reason_option, store_options, yes_option
from checkpoint_manager.cli.output import errors_told, say, show_size, show_time, version_fields, write_json, write_line
from checkpoint_manager.cli.selector import stage_names
from checkpoint_manager.retention import NO_RULE, PrunePlan

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.errors import CheckpointError
    from checkpoint_manager.retention import PruneDecision, Retention


_NUMBER = Number(0)
_SHORTEST_RUN = 4
"""How many versions that are dropped together share a line."""


@click.command()
@click.argument("stage", shell_complete=stage_names, required=False)
@click.option("--keep-last", type=_NUMBER, default=0, metavar="N", help="Keep the N newest completed versions.")
@click.option("--keep-within", type=Age(), metavar="AGE", help="Keep every version younger than this: 12h, 1d, 2w.")
@click.option(
    "--keep-hourly",
    type=_NUMBER,
    default=0,
    metavar="N",
    help="Keep the newest completed version of each of the last N hours (UTC) that have one.",
)
@click.option("--keep-daily", type=_NUMBER, default=0, metavar="N", help="The same for each of the last N days.")
@click.option("--keep-weekly", type=_NUMBER, default=0, metavar="N", help="The same for each of the last N weeks.")
@click.option("--keep-monthly", type=_NUMBER, default=0, metavar="N", help="The same for each of the last N months.")
@click.option("--keep-tagged/--drop-tagged", default=True, show_default=True, help="Keep, or drop, versions that have a tag.")
@click.option("--limit", type=Number(0), metavar="N", help="Show the first N lines of the plan only.")
@sealed_reason_option
@yes_option
@dry_run_option
@store_options
def prune(
    access: Access,
    stage: str | None,
    reason: str | None,
    *,
    limit: int | None,
    yes: bool,
    dry_run: bool,
    **rules: Any,  # noqa: ANN401  # as click gives them; checked where they go
) -> int:
    """Delete the versions of a STAGE, or of all, that no rule keeps, for good. It first shows the rule that keeps each version.

    Always kept: the newest version, the newest completed and the newest cleared one, and the two newest of an unfinished loop.
    A damaged version is left as it is and named, and the exit code is 13. In the stage of a function or a command, the rules
    count the results of each set of arguments by themselves.

    \b
    Examples:
      checkpoint-manager prune --keep-last 5 --keep-daily 7 --dry-run
      checkpoint-manager prune train --keep-within 2w --yes
    """
    policy = _policy(rules)
    cm = access.open()
    if stage is None:
        plans, troubles = with_each(cm.stages(), lambda stage: cm.prune(policy, stage, dry_run=True))
    else:
        plans, troubles = {stage: cm.prune(policy, stage, dry_run=True)}, {}
    plan = _together(plans)
    _say_plan(plan, limit)
    code = tell_troubles(troubles)
    damaged = {error.stage: error for error in errors_told() if error.stage is not None}
    if troubles:
        say(f"{counted(len(troubles), 'stage')} in trouble: nothing of it is deleted")
    if plan.dropped and not dry_run:
        confirm("Delete them?", yes=yes)
        plan = _together({name: cm.prune(policy, name, reason=reason) for name, each in plans.items() if each.dropped})
        say(f"{counted(len(plan.dropped), 'version')} deleted for good ({show_size(plan.bytes_dropped)})")
    if access.as_json:
        _write_plan(plan, {**damaged, **troubles}, dry_run=dry_run)
    elif not dry_run:
        for version in plan.dropped:
            write_line(f"{printable(version.stage)}@{version.number}")
    return code or next(map(exit_of, damaged.values()), Exit.DONE)


def _say_plan(plan: PrunePlan, limit: int | None) -> None:
    """Tell what is kept and dropped: a line for each version, but one for a run of versions that no rule keeps."""
    lines = [_line(decision) if len(run) == 1 else _line_of_run(run) for run in _runs(plan.decisions) for decision in run[:1]]
    for line in lines[:limit]:
        say(line)
    if limit is not None and len(lines) > limit:
        say(f"… and {counted(len(lines) - limit, 'more line')}")
    say(f"{len(plan.kept)} kept, {len(plan.dropped)} to be deleted for good ({show_size(plan.bytes_dropped)})")


def _runs(decisions: Sequence[PruneDecision]) -> Iterator[list[PruneDecision]]:
    """Yield the versions of the plan, those of a stage that follow one another and are dropped together."""
    for (_, keep), group in itertools.groupby(decisions, lambda each: (each.version.stage, each.keep)):
        run = list(group)
        if keep or len(run) < _SHORTEST_RUN:
            yield from ([each] for each in run)
        else:
            yield run


def _line_of_run(run: Sequence[PruneDecision]) -> str:
    newest, oldest = run[0].version, run[-1].version
    size = show_size(sum(each.version.total_size or 0 for each in run))
    stage, versions = printable(newest.stage), counted(len(run), "version")
    return f"drop {stage}@{newest.number} to {stage}@{oldest.number} ({versions}, {size}): no rule keeps them"


def _together(plans: Mapping[str, PrunePlan]) -> PrunePlan:
    return PrunePlan(tuple(decision for plan in plans.values() for decision in plan.decisions))


def _policy(rules: dict[str, Any]) -> Retention:
    if not any(value for name, value in rules.items() if name != "keep_tagged"):
        raise UsageError("no rule keeps anything", hint="Give one that does, such as --keep-last 5")
    return checkpoint_manager.Retention(**rules)


def _line(decision: PruneDecision) -> str:
    version = decision.version
    what = "keep" if decision.keep else "drop"
    when = f"{version.status}, {show_time(version.created_at)}, {show_size(version.total_size)}"
    why = ", ".join(map(_rule, decision.rules)) if decision.keep else NO_RULE
    return f"{what} {printable(version.stage)}@{version.number} ({when}): {why}"


def _rule(name: str) -> str:
    """Return a rule as the command line names it."""
    return f"--{name.replace('_', '-')}" if name.startswith("keep_") else name


def _write_plan(plan: PrunePlan, troubles: dict[str, CheckpointError], *, dry_run: bool) -> None:
    versions = [
        {**version_fields(decision.version), "keep": decision.keep, "rules": list(decision.rules)}
        for decision in plan.decisions
    ]
    problems = trouble_fields(troubles)
    write_json("prune", {"dry_run": dry_run, "versions": versions, "bytes_dropped": plan.bytes_dropped, "problems": problems})
