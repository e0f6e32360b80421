"""Programs that are killed in the middle, for the tests of the adapters."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KILLS = int(os.environ.get("CHECKPOINT_MANAGER_KILLS", "1"))
"""How often a test kills a program; a long run sets it higher."""


def start(program: str, *arguments: str | Path) -> subprocess.Popen[str]:
    """Start a program that prints a line for each change that was acknowledged."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)], stdout=subprocess.PIPE, text=True, start_new_session=True
    )


def lines_of_killed(program: str, *arguments: str | Path, after: int) -> list[str]:
    """Run a program, kill it some time after it printed so many lines, and return all that it printed."""
    process = start(program, *arguments)
    assert process.stdout is not None
    with process, process.stdout as stdout:
        lines = [stdout.readline() for _ in range(after)]
        time.sleep(random.uniform(0, 0.02))
        process.kill()
        lines += stdout
    return [line.strip() for line in lines if line.endswith("\n")]
