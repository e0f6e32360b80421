"""``has``: say by the exit code whether a stage is done."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import write_json
from checkpoint_manager.cli.selector import stage_names

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access


@click.command()
@click.argument("stage", shell_complete=stage_names)
@store_options
def has(access: Access, stage: str) -> int:
    """Tell by the exit code whether a STAGE is done: 0 if its newest version is whole, authentic and completed, 1 if not.

    \b
    Example:
      checkpoint-manager has train || python train.py
    """
    answer = access.open().has_checkpoint(stage)
    if access.as_json:
        write_json("has", {"stage": stage, "has": answer})
    return Exit.DONE if answer else Exit.NO
