"""``restore``: make an earlier version the newest, of one stage, or of all in one store or several."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.hints import command, explain, name_store
from checkpoint_manager.cli.options import (
    confirm,
    dry_run_option,
    metadata_reason_option,
    reason_metadata,
    several_stores_options,
    yes_option,
)
from checkpoint_manager.cli.output import say, show_size, show_time, version_fields, write_json, write_line
from checkpoint_manager.cli.preview import difference, say_difference
from checkpoint_manager.cli.selector import Selector, at_option, stage_names

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager import PipelinePlan, RestoreStep, Version
    from checkpoint_manager.cli.access import Access


@click.command()
@click.argument("selector", shell_complete=stage_names, metavar="[STAGE@VERSION]", required=False)
@at_option
@click.option("--all", "every", is_flag=True, help="Bring every stage back to the moment --at, or to its version with --tag.")
@click.option("--tag", "name", metavar="NAME", help="With --all: the tag that each stage's version has; see `tag --all`.")
@click.option("--redact", is_flag=True, help="Show the paths and the kinds of values that would change, not the values.")
@metadata_reason_option
@yes_option
@dry_run_option
@several_stores_options
def restore(  # noqa: PLR0913  # each is an option of its own
    accesses: list[Access],
    selector: str | None,
    at: datetime | None,
    name: str | None,
    reason: str | None,
    *,
    every: bool,
    redact: bool,
    yes: bool,
    dry_run: bool,
    is_list: bool,
    as_json: bool,
) -> None:
    """Make an earlier version of a STAGE the newest, by appending a copy of it. Nothing is removed.

    It shows what that changes before it asks; with --json, --dry-run prints the changes.

    A version is a number, `latest` (the newest completed one), `prev` (the completed one before it), `failed` or a tag.

    With --all, each stage goes back: to its newest version at a moment, or to its version with a tag. One that did not exist
    then, or does not have the tag, is cleared. If one of them can't be restored, none is.

    With several stores, all stages of all of them go back by one plan. If a step fails, what was restored by then is taken
    back; if that is not possible, the exit code is 3. Stores have no common transaction: if this is killed in between, run it
    again.

    \b
    Examples:
      checkpoint-manager restore train@3
      checkpoint-manager restore train@prev --yes
      checkpoint-manager restore train --at 1d
      checkpoint-manager restore --all --at 10m
      checkpoint-manager restore --all --tag release-7
      checkpoint-manager restore --all --at 1h --store etl --store training
    """
    if every and (selector is not None or (at is None) == (name is None)):
        raise UsageError("--all needs either --at or --tag, and no stage", hint=f"Write: {command('restore --all --at 10m')}")
    if not every and (selector is None or name is not None):
        raise UsageError(
            "it is not clear what is to be restored",
            hint="Name a STAGE@VERSION, or every stage with --all --at TIME or --all --tag NAME",
        )
    if selector is None:
        _restore_all(accesses, {"at": at, "tag": name}, reason, yes=yes, dry_run=dry_run, is_list=is_list, as_json=as_json)
    elif is_list:
        raise UsageError("a single stage is restored in one store", hint="Name one --store, or give --all for all stages")
    else:
        _restore_one(accesses[0], selector, at, reason, redact=redact, yes=yes, dry_run=dry_run)


def _restore_all(
    accesses: list[Access],
    goal: dict[str, Any],
    reason: str | None,
    *,
    yes: bool,
    dry_run: bool,
    is_list: bool,
    as_json: bool,
) -> None:
    from checkpoint_manager.pipelines import Pipelines  # noqa: PLC0415  # loads the library, and --help does not wait for it

    secret = accesses[0].key_given()
    with contextlib.ExitStack() as opened:
        managers = []
        for access in accesses:
            _name(access.shown, is_list=is_list)
            managers.append(opened.enter_context(access.open(key=secret)))
        pipelines = Pipelines(managers)
        plans = pipelines.plan_restore(**goal)
        for plan in plans:
            _tell_plan(plan, is_list=is_list)
        if dry_run and as_json:
            stores = [_plan_fields(plan) for plan in plans]
            write_json("restore", {"dry_run": True, **({"stores": stores} if is_list else stores[0])})
        _check_possible(plans, is_list=is_list, as_json=as_json)
        changes = sum(len(plan.changes) for plan in plans)
        if not changes:
            say("Every stage is as it was then: there is nothing to restore.")
        if dry_run:
            return
        if changes:
            say(_how(plans))
            confirm(f"Change {counted(changes, 'stage')}?", yes=yes)
        restored = pipelines.restore(plans, metadata=reason_metadata(reason))
    if not as_json:
        _tell_restored(restored, is_list=is_list)
    elif is_list:
        found = [{"store": store, "versions": list(map(version_fields, versions))} for store, versions in restored.items()]
        write_json("restore", {"dry_run": False, "stores": found})
    else:
        (versions,) = restored.values()
        write_json("restore", {"dry_run": False, "versions": list(map(version_fields, versions))})


def _name(store: str, *, is_list: bool) -> None:
    """Let the commands in hints name a store, where several are meant."""
    if is_list:
        name_store(store)


def _tell_plan(plan: PipelinePlan, *, is_list: bool) -> None:
    shown, indent = printable(plan.location), "  " if is_list else ""
    _name(shown, is_list=is_list)
    if is_list:
        say(f"{shown}:")
    if is_list and plan.error is not None:
        say(f"{indent}can't be restored: {explain(plan.error)}")
    for step in plan.steps:
        say(f"{indent}{_step(step)}")
    for stage in plan.running:
        say(f"{indent}{printable(stage)} runs now: what it computes is saved above what is restored")


def _plan_fields(plan: PipelinePlan) -> dict[str, Any]:
    return {
        "store": plan.location,
        "one_step": plan.is_one_step,
        "running": plan.running,
        "steps": list(map(_fields, plan.steps)),
        "problem": None if plan.error is None else explain(plan.error),
    }


def _check_possible(plans: list[PipelinePlan], *, is_list: bool, as_json: bool) -> None:
    """Raise the error of the first store, or stage, that can't be restored."""
    for plan in plans:
        if plan.refused is not None:
            _name(printable(plan.location), is_list=is_list)
            if not as_json:
                say("Nothing was changed: all stages are restored, or none.")
            raise plan.refused


def _how(plans: list[PipelinePlan]) -> str:
    """Return how the stages are restored, and what a kill in between leaves."""
    changed = [plan for plan in plans if plan.changes]
    if len(changed) == 1 and changed[0].is_one_step:
        return "It is one step: all of them are restored, or none. Nothing is removed, and another restore undoes it."
    return (
        "They are restored one after another; if this is killed in between, run it again. "
        "Nothing is removed, and another restore undoes it."
    )


def _tell_restored(restored: dict[str, list[Version]], *, is_list: bool) -> None:
    for store, versions in restored.items():
        for version in versions:
            place = f"{printable(store)}: " if is_list else ""
            write_line(f"{place}{printable(version.stage)}@{version.number}{' cleared' if version.status == 'cleared' else ''}")
    if changed := sum(map(len, restored.values())):
        say(f"{counted(changed, 'stage')} changed; each has a new version, and none was removed")


def _step(step: RestoreStep) -> str:
    stage = printable(step.stage)
    now = "-" if step.newest is None else f"{step.newest.number} ({step.newest.status})"
    if step.error is not None:
        return f"{stage}: can't be restored: {explain(step.error)}"
    if step.action == "keep":
        return f"{stage}: {now} stays as it is"
    if step.target is None:
        return f"{stage}: {now} → cleared"
    return f"{stage}: {now} → a copy of {_described(step.target)}"


def _fields(step: RestoreStep) -> dict[str, object]:
    return {
        "stage": step.stage,
        "action": step.action,
        "newest": None if step.newest is None else step.newest.number,
        "from": None if step.target is None else step.target.number,
        "problem": None if step.error is None else explain(step.error),
    }


def _restore_one(
    access: Access, selector: str, at: datetime | None, reason: str | None, *, redact: bool, yes: bool, dry_run: bool
) -> None:
    cm = access.open()
    chosen = Selector.find(cm, selector, at)
    if chosen.version is None:
        raise UsageError(
            f"it is not clear which version of {printable(selector)} is meant",
            hint=(
                f"Write {printable(selector)}@NUMBER, {printable(selector)}@prev or --at TIME; "
                f"see: {command('log STAGE', selector)}"
            ),
        )
    checkpoint = cm.get_json(chosen.stage, chosen.version)  # read and verified before the question
    number = checkpoint.version.number
    say(f"Stage {printable(chosen.stage)} in {access.shown}: a copy of version {_described(checkpoint.version)}")
    say("will be appended as the newest version. Nothing is removed, and another restore undoes it.")
    diff = difference(cm, checkpoint.version) if dry_run or not yes else None
    if dry_run and access.as_json:
        changes = None if diff is None else diff.as_dicts(redact=redact)
        write_json("restore", {"dry_run": True, "stage": chosen.stage, "from": number, "changes": changes})
        return
    if dry_run or not yes:
        say_difference(diff, redact=redact)
    if dry_run:
        return
    confirm("Restore it?", yes=yes)
    restored = cm.restore_checkpoint(chosen.stage, number, metadata=reason_metadata(reason))
    if access.as_json:
        write_json("restore", {"dry_run": False, "version": version_fields(restored)})
    else:
        write_line(f"{printable(chosen.stage)}@{restored.number}")
        say(f"stage {printable(chosen.stage)} restored: version {restored.number} is a copy of {number}")


def _described(version: Version) -> str:
    return f"{version.number} ({version.status}, {show_time(version.created_at)}, {show_size(version.total_size)})"
