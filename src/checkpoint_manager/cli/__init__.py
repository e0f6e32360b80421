"""The command line. Its one rule: stdout is data, everything else goes to stderr."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line on this process's arguments, and return its exit code: see :mod:`checkpoint_manager.cli.exits`."""
    try:
        from checkpoint_manager.cli.app import run  # noqa: PLC0415  # needs the extra "cli", and says so where it is missing
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            raise
        sys.stderr.write("error: the command line needs click and rich: pip install 'checkpoint-manager[cli]'\n")
        return 2
    return run(sys.argv[1:])
