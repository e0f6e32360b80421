"""``verify``: read and check every version."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import counted
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.hints import command, sentence
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import say, write_json, write_line, write_table
from checkpoint_manager.cli.progress import progress_of
from checkpoint_manager.cli.selector import stage_names
from checkpoint_manager.errors import Hint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.reports import Finding, VerificationReport


@click.command()
@click.argument("stage", shell_complete=stage_names, required=False)
@click.option("--quick", is_flag=True, help="Don't read the attachments: look only whether they are there.")
@store_options
def verify(access: Access, stage: str | None, *, quick: bool) -> int:
    """Read and check every version of a STAGE, or of the whole store. Exits with 13 if anything is wrong.

    \b
    Examples:
      checkpoint-manager verify
      checkpoint-manager verify train --quick
    """
    cm = access.open(on_rollback="warn")
    if stage is not None and stage not in cm.stages():
        cm.get_version(stage)  # raises, and says what is wrong
    with progress_of("verifying") as step:
        report = cm.verify(stage, quick=quick, progress=step)
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
        say(f"error: {counted(len(report.problems), 'problem')} found. {next_step(report.problems)}")


def next_step(problems: Sequence[Finding]) -> str:
    """Return what to do about problems: the step that has to come first."""
    states = {finding.state for finding in problems}
    first = {
        "rolled-back": sentence(Hint.ACCEPT_ROLLBACK),
        "unfinished": f"Finish the rotation with: {command('key rotate')}",
        "newer": "Update checkpoint-manager, or move away what someone else has put there",
    }
    alone = {
        "incomplete": "Put the attachments back from a backup, run the stage again, or delete the versions that have them",
        "missing": f"Restore what is missing from a backup, or go on without it: {command('repair --accept-rollback')}",
        "clock": "Check the clock of this host. Versions are ordered by number, but retention and --at go by the time",
    }
    steps = [step for state, step in first.items() if state in states]
    steps += [step for state, step in alone.items() if states == {state}]
    return steps[0] if steps else f"See what can be done: {command('repair --dry-run')}"
