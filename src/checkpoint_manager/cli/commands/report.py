"""``report``: what all processes of a run of a pipeline did."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from checkpoint_manager import stages
from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import say, write_json, write_table
from checkpoint_manager.errors import CheckpointNotFoundError
from checkpoint_manager.stages.report import duration

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access

_COLUMNS = ("STAGE", "OUTCOME", "VERSION", "TOOK", "PROCESS", "WHY")


@click.command()
@click.option("--run", "run_id", metavar="ID", help="The run. Default: $CHECKPOINT_MANAGER_RUN, or the one that saved last.")
@store_options
def report(access: Access, *, run_id: str | None) -> None:
    """Show what all processes of a run of a pipeline saved, in the order in which it was saved, and which stages are stale.

    A run is a program that uses stages, with all that it starts. To make several programs one run, give them the same
    environment variable CHECKPOINT_MANAGER_RUN. Results that were reused are not shown: they saved nothing.

    \b
    Examples:
      checkpoint-manager report
      checkpoint-manager report --run nightly-2026-11-27
    """
    cm = access.open()
    chosen = run_id or os.environ.get("CHECKPOINT_MANAGER_RUN") or stages.latest_run(cm._store)  # noqa: SLF001  # of this package
    if not chosen:
        hint = "Call a function that is a stage, or run a command: checkpoint-manager run STAGE -- COMMAND"
        raise CheckpointNotFoundError("no stage was run in this store", hint=hint)
    found = cm.run_report(chosen)
    if access.as_json:
        outcomes = [
            {
                "stage": each.stage,
                "what": each.what,
                "version": each.version,
                "seconds": each.seconds,
                "process": each.process,
                "ended_at": each.ended_at,
                "why": each.why,
            }
            for each in found.outcomes
        ]
        write_json("report", {"run": chosen, "outcomes": outcomes, "stale": dict(found.stale)})
        return
    say(f"run {printable(chosen)}: {counted(len(found.outcomes), 'outcome')}")
    write_table(
        _COLUMNS,
        [(each.stage, each.what, str(each.version), duration(each.seconds), each.process, each.why) for each in found.outcomes],
    )
    for stage, why in found.stale.items():
        say(f"{printable(stage)} is stale: {why}")
