"""``doctor``: check the set-up, and name the next step for each problem."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from checkpoint_manager._text import escaped
from checkpoint_manager.cli.colour import in_colour
from checkpoint_manager.cli.exit_codes import Exit
from checkpoint_manager.cli.options import store_options
from checkpoint_manager.cli.output import folded, write_json, write_text

if TYPE_CHECKING:
    from checkpoint_manager.cli.access import Access
    from checkpoint_manager.cli.commands.doctor.check import Check


_INDENT = 22
"""Where what was found begins."""


@click.command()
@store_options
def doctor(access: Access) -> int:
    """Check the set-up, and say what to do about each problem: Python, the environment, the key, the store and its directory.

    The file system is tested with temporary files, which are removed again. Keys and the values of variables are never shown.
    Exits with 1 if there is a problem. To check what the versions hold, run `verify`.

    \b
    Examples:
      checkpoint-manager doctor
      checkpoint-manager doctor --store checkpoints --json
    """
    from checkpoint_manager.cli.commands.doctor.examine import examine  # noqa: PLC0415  # loads the library; --help does not wait for it

    found: list[Check] = []
    for check in examine(access):
        found.append(check)
        if not access.as_json:
            _show(check)
    sound = all(check.state != "problem" for check in found)
    if access.as_json:
        write_json("doctor", {"ok": sound, "checks": [asdict(check) for check in found]})
    return Exit.DONE if sound else Exit.NO


def _show(check: Check) -> None:
    found = folded(f"{check.state:<8} {check.topic:<12} {escaped(check.found)}", sys.stdout, indent=_INDENT)
    write_text(f"{in_colour(check.state, found[:8])}{found[8:]}\n")
    if check.next:
        step = folded(f"{' ' * _INDENT}→ {escaped(check.next)}", sys.stdout, indent=_INDENT + 2)
        write_text(f"{step}\n")
