"""``restore``: make an earlier version the newest, of one stage or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.cli.hints import command, explain
from checkpoint_manager.cli.options import confirm, dry_run_option, store_options, yes_option
from checkpoint_manager.cli.output import say, show_size, show_time, version_fields, write_json, write_line
from checkpoint_manager.cli.preview import difference, say_difference
from checkpoint_manager.cli.selector import Selector, at_option, stage_names

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager import RestoreStep, Version
    from checkpoint_manager.cli.access import Access


@click.command()
@click.argument("selector", shell_complete=stage_names, metavar="[STAGE@VERSION]", required=False)
@at_option
@click.option("--all", "every", is_flag=True, help="Bring every stage back to the moment --at, or to its version with --tag.")
@click.option("--tag", "name", metavar="NAME", help="With --all: the tag that each stage's version has; see `tag --all`.")
@click.option("--redact", is_flag=True, help="Show the paths and the kinds of values that would change, not the values.")
@yes_option
@dry_run_option
@store_options
def restore(
    access: Access,
    selector: str | None,
    at: datetime | None,
    name: str | None,
    *,
    every: bool,
    redact: bool,
    yes: bool,
    dry_run: bool,
) -> None:
    """Make an earlier version of a STAGE the newest, by appending a copy of it. Nothing is removed.

    It shows what that changes before it asks; with --json, --dry-run prints the changes.

    A version is a number, `latest` (the newest completed one), `prev` (the completed one before it), `failed` or a tag.

    With --all, each stage goes back: to its newest version at a moment, or to its version with a tag. One that did not exist
    then, or does not have the tag, is cleared. If one of them can't be restored, none is.

    \b
    Examples:
      checkpoint-manager restore train@3
      checkpoint-manager restore train@prev --yes
      checkpoint-manager restore train --at 1d
      checkpoint-manager restore --all --at 10m
      checkpoint-manager restore --all --tag release-7
    """
    if every and (selector is not None or (at is None) == (name is None)):
        raise UsageError("--all needs either --at or --tag, and no stage", hint=f"Write: {command('restore --all --at 10m')}")
    if not every and (selector is None or name is not None):
        raise UsageError(
            "it is not clear what is to be restored",
            hint="Name a STAGE@VERSION, or every stage with --all --at TIME or --all --tag NAME",
        )
    if selector is None:
        _restore_all(access, {"at": at, "tag": name}, yes=yes, dry_run=dry_run)
    else:
        _restore_one(access, selector, at, redact=redact, yes=yes, dry_run=dry_run)


def _restore_all(access: Access, goal: dict[str, Any], *, yes: bool, dry_run: bool) -> None:
    cm = access.open()
    steps = cm.plan_restore(**goal)
    for step in steps:
        say(_step(step))
    refused = next((step.error for step in steps if step.error is not None), None)
    if refused is not None and not access.as_json:
        say("Nothing was changed: all stages are restored, or none.")
    changes = [step for step in steps if step.action in {"restore", "clear"}]
    if dry_run and access.as_json:
        write_json("restore", {"dry_run": True, "steps": list(map(_fields, steps))})
    if refused is not None:
        raise refused
    if not changes:
        say("Every stage is as it was then: there is nothing to restore.")
    if dry_run:
        return
    if changes:
        say("Nothing is removed, and another restore undoes it.")
        confirm(f"Change {counted(len(changes), 'stage')}?", yes=yes)
    restored = cm.restore_pipeline(**goal) if changes else []
    if access.as_json:
        write_json("restore", {"dry_run": False, "versions": list(map(version_fields, restored))})
        return
    _tell_restored(restored)


def _tell_restored(versions: list[Version]) -> None:
    for version in versions:
        write_line(f"{printable(version.stage)}@{version.number}{' cleared' if version.status == 'cleared' else ''}")
    if versions:
        say(f"{counted(len(versions), 'stage')} changed; each has a new version, and none was removed")


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


def _restore_one(access: Access, selector: str, at: datetime | None, *, redact: bool, yes: bool, dry_run: bool) -> None:
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
    restored = cm.restore_checkpoint(chosen.stage, number)
    if access.as_json:
        write_json("restore", {"dry_run": False, "version": version_fields(restored)})
    else:
        write_line(f"{printable(chosen.stage)}@{restored.number}")
        say(f"stage {printable(chosen.stage)} restored: version {restored.number} is a copy of {number}")


def _described(version: Version) -> str:
    return f"{version.number} ({version.status}, {show_time(version.created_at)}, {show_size(version.total_size)})"
