"""Ctrl-C at many instructions of each operation; ``python -m tests.interruptions.sweep`` tries all of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TRIED = {
    **dict.fromkeys(("later save", "update", "restore", "clear", "load", "delete", "prune", "tag"), 20),
    **dict.fromkeys(("first save of a stage", "rotate the key"), 15),
}
"""How many instructions of each operation, at even distances: from another one on each time."""


@pytest.mark.parametrize("operation", TRIED)
def test_interrupted_at_any_instruction_it_leaves_no_lock_and_whole_versions(operation: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.interruptions.sweep", "--sample", str(TRIED[operation]), operation]
    environment = {**os.environ, "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
