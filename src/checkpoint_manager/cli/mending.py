"""Commands that go back and put in order: ``restore``, ``verify``, ``repair``. Each shows its plan and asks first."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli.completing import stage_names
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.options import Access, confirm, dry_run_option, say_plan, store_options, yes_option
from checkpoint_manager.cli.output import say, show_size, show_time, version_fields, write_json, write_line, write_table
from checkpoint_manager.cli.preview import difference, say_difference
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.cli.selector import Selector, at_option
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager.manager import CheckpointManager
    from checkpoint_manager.models import RepairStep, VerificationReport, Version


@click.command()
@click.argument("selector", shell_complete=stage_names, metavar="STAGE@VERSION")
@at_option
@click.option("--redact", is_flag=True, help="Of what would change, show where and what kind of value, and no value.")
@yes_option
@dry_run_option
@store_options
def restore(access: Access, selector: str, at: datetime | None, *, redact: bool, yes: bool, dry_run: bool) -> None:
    """Make an earlier version of a STAGE the newest, by appending a copy of it. Nothing is removed.

    What that changes is shown before it is asked for; with --json, --dry-run prints it.

    A version is a number, `latest`, `prev` or a tag.

    \b
    Examples:
      checkpoint-manager restore train@3
      checkpoint-manager restore train@prev --yes
      checkpoint-manager restore train --at 1d
    """
    cm = access.open()
    chosen = Selector.find(cm, selector, at)
    if chosen.version is None:
        raise click.UsageError(
            f"which version? Write {selector}@NUMBER, {selector}@prev or --at TIME; see: checkpoint-manager log {selector}"
        )
    checkpoint = cm.get_checkpoint(chosen.stage, chosen.version)  # read and verified before anything is asked
    number = checkpoint.version.number
    say(f"Stage {display(chosen.stage)} in {display(str(access.store))}: a copy of {_described(checkpoint.version)}")
    say("will be appended as the newest version. Nothing is removed, and another restore undoes it.")
    diff = difference(cm, checkpoint) if dry_run or not yes else None
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
        write_line(f"{display(chosen.stage)}@{restored.number}")


def _described(version: Version) -> str:
    return f"version {version.number} ({version.status}, {show_time(version.created_at)}, {show_size(version.size)})"


@click.command()
@click.argument("stage", shell_complete=stage_names, required=False)
@store_options
def verify(access: Access, stage: str | None) -> int:
    """Read and check every version of a STAGE, or of the whole store. Exits with 13 if anything is wrong.

    \b
    Example:
      checkpoint-manager verify
    """
    cm = access.open(on_rollback="warn")
    with progress_of("verifying") as step:
        report = cm.verify(stage, progress=step)
    if access.as_json:
        write_json("verify", {"ok": report.ok, "findings": [asdict(finding) for finding in report.findings]})
    else:
        _show_report(report)
    return Exit.DONE if report.ok else Exit.INTEGRITY


def _show_report(report: VerificationReport) -> None:
    if report.problems:
        write_table(
            ("STATE", "STAGE", "VERSION", "WHAT"),
            [
                (finding.state, finding.stage or "", str(finding.version or ""), f"{finding.path} {finding.detail}".strip())
                for finding in report.problems
            ],
        )
    counts = Counter(finding.state for finding in report.findings)
    write_line(", ".join(f"{count} {state}" for state, count in sorted(counts.items())) or "nothing saved yet")
    if not report.ok:
        say('error: the store is not as it should be; see what can be done: "checkpoint-manager repair --dry-run"')


@click.command()
@yes_option
@dry_run_option
@click.option(
    "--accept-rollback",
    is_flag=True,
    help="An older copy of the directory was put back on purpose: take it for the truth from now on.",
)
@store_options
def repair(access: Access, *, yes: bool, dry_run: bool, accept_rollback: bool) -> int:
    """Put damaged files aside (nothing is deleted), set heads right, remove leftovers. Exits with 3 if problems are left.

    \b
    Examples:
      checkpoint-manager repair --dry-run
      checkpoint-manager repair --accept-rollback
    """
    cm = access.open(on_rollback="warn" if accept_rollback else "raise")
    appended: list[Version] = []
    if accept_rollback and not dry_run:
        confirm("Take the directory as it is now for the truth? Versions seen since are given up as lost.", yes=yes)
        appended = cm.accept_rollback()
    plan = cm.repair(dry_run=True)
    say_plan([_step(step) for step in plan])
    if plan and not dry_run:
        confirm("Do this?", yes=yes)
        plan = cm.repair()
    left = [finding for finding in cm.verify().problems if finding.state not in {"leftover", "exposed"}]
    _show_repair(access, cm, plan, appended, dry_run=dry_run)
    for finding in [] if dry_run else left:
        say(f"left: {finding.state}: {display(finding.stage or '')} {finding.version or ''} {finding.detail}")
    return Exit.PARTLY if left and not dry_run else Exit.DONE


def _show_repair(
    access: Access, cm: CheckpointManager, steps: list[RepairStep], appended: list[Version], *, dry_run: bool
) -> None:
    if access.as_json:
        versions = [version_fields(version) for version in appended]
        write_json("repair", {"dry_run": dry_run, "steps": [asdict(step) for step in steps], "accepted": versions})
    elif not steps:
        say(f"nothing to repair in {cm!r}")
    elif not dry_run:
        for step in steps:
            write_line(_step(step))


def _step(step: RepairStep) -> str:
    place = "" if step.stage is None else f" {display(step.stage)}" + ("" if step.version is None else f"@{step.version}")
    return f"{step.action}{place}: {display(step.detail)}"
