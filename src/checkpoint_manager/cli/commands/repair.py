"""``repair``: set damaged files aside and remove leftovers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.commands.verify import next_step
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.options import confirm, dry_run_option, store_options, yes_option
from checkpoint_manager.cli.output import say, version_fields, write_json, write_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.models import Version
    from checkpoint_manager.reports import Finding, RepairStep


_NOT_REPAIRED = {"rolled-back", "missing", "unfinished", "unreadable", "newer"}
"""The states of findings that need something else than a repair."""
_LEFT_ALONE = {"leftover", "exposed", "clock"}
"""The states of findings that no repair changes, or that harm nothing."""


@click.command()
@yes_option
@dry_run_option
@click.option(
    "--accept-rollback",
    is_flag=True,
    help="Accept the store as it is now, after an older copy was restored on purpose.",
)
@store_options
def repair(access: Access, *, yes: bool, dry_run: bool, accept_rollback: bool) -> int:
    """Set damaged files aside, correct heads, and remove leftovers. No version is deleted. Exits with 3 if problems are left.

    \b
    Examples:
      checkpoint-manager repair --dry-run
      checkpoint-manager repair --accept-rollback
    """
    cm = access.open(on_rollback="warn" if accept_rollback else "raise")
    appended: list[Version] = []
    if accept_rollback and not dry_run:
        say("Versions that you have seen, and that are gone, will be given up as lost.")
        confirm("Accept the store as it is now?", yes=yes)
        appended = cm.accept_rollback()
        say(f"{access.shown} is accepted as it is now")
    found = cm.verify().problems
    steps = cm.repair(dry_run=True) if found else []
    if dry_run or (steps and not yes):
        _say_steps(steps)
    if steps and not dry_run:
        confirm("Do this?", yes=yes)
        steps = cm.repair()
        found = cm.verify().problems
    if access.as_json:
        versions = [version_fields(version) for version in appended]
        write_json("repair", {"dry_run": dry_run, "steps": [asdict(step) for step in steps], "accepted": versions})
    elif not dry_run:
        for step in steps:
            write_line(_step(step))
    left = _left(found, dry_run=dry_run)
    if not steps and not left and not accept_rollback:
        say(f"nothing to repair in {access.shown}")
    for finding in left:
        what = "to be accepted" if accept_rollback and dry_run else "not repaired"
        say(f"{what}: {_place(finding.stage, finding.version)} {printable(finding.detail)}")
    if left and not (accept_rollback and dry_run):
        say(f"{'' if dry_run else 'error: '}{counted(len(left), 'problem')} left. {next_step(left)}")
    return Exit.PARTLY if left and not dry_run else Exit.DONE


def _left(found: Iterable[Finding], *, dry_run: bool) -> list[Finding]:
    """Return the problems that are left after a repair, or in a dry run, those that it would leave."""
    left = [finding for finding in found if finding.state not in _LEFT_ALONE]
    return [finding for finding in left if finding.state in _NOT_REPAIRED] if dry_run else left


def _say_steps(steps: Sequence[RepairStep]) -> None:
    for step in steps:
        say(_step(step))


def _step(step: RepairStep) -> str:
    place = f" {_place(step.stage, step.version)}" if step.stage is not None else ""
    return f"{step.action}{place}: {printable(step.detail)}"


def _place(stage: str | None, version: int | None) -> str:
    if stage is None:
        return "the store"
    return printable(stage) if version is None else f"{printable(stage)}@{version}"
