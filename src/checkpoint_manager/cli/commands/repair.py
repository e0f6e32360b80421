"""``repair``: set damaged files aside and remove leftovers."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import printable
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.hints import HINTS
from checkpoint_manager.cli.options import confirm, dry_run_option, store_options, yes_option
from checkpoint_manager.cli.output import say, version_fields, write_json, write_line
from checkpoint_manager.errors import Hint

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.models import Version
    from checkpoint_manager.reports import RepairStep


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
        confirm("Accept the directory as it is now? Newer versions that you have seen are given up as lost.", yes=yes)
        appended = cm.accept_rollback()
        say(f"{access.shown} is accepted as it is now")
    plan = cm.repair(dry_run=True)
    for step in plan:
        say(_step(step))
    if plan and not dry_run:
        confirm("Do this?", yes=yes)
        plan = cm.repair()
    left = [finding for finding in cm.verify().problems if finding.state not in {"leftover", "exposed", "clock"}]
    _show_repair(access, plan, appended, dry_run=dry_run)
    for finding in [] if dry_run else left:
        say(f"left: {finding.state}: {printable(finding.stage or '')} {finding.version or ''} {finding.detail}")
    if not dry_run and any(finding.state == "rolled-back" for finding in left):
        say(HINTS[Hint.ACCEPT_ROLLBACK])
    return Exit.PARTLY if left and not dry_run else Exit.DONE


def _show_repair(access: Access, steps: list[RepairStep], appended: list[Version], *, dry_run: bool) -> None:
    if access.as_json:
        versions = [version_fields(version) for version in appended]
        write_json("repair", {"dry_run": dry_run, "steps": [asdict(step) for step in steps], "accepted": versions})
    elif not steps:
        say(f"nothing to repair in {access.shown}")
    elif not dry_run:
        for step in steps:
            write_line(_step(step))


def _step(step: RepairStep) -> str:
    place = "" if step.stage is None else f" {printable(step.stage)}" + ("" if step.version is None else f"@{step.version}")
    return f"{step.action}{place}: {printable(step.detail)}"
