"""The power of real file systems is cut: what was acknowledged is there after their own recovery.

Here at a few moments, other ones at each run; ``python -m tests.powercut.images`` tries all scenarios at many more.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.powercut.images import KINDS

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not os.path.exists("/dev/fuse") or not os.path.exists("/dev/loop-control"),
    reason="root, loop devices and FUSE are needed",
)


def run(kind: str, *options: str) -> subprocess.CompletedProcess[str]:
    program = KINDS[kind][1]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    command = [sys.executable, "-m", "tests.powercut.images", "--kind", kind, *options]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_acknowledged_survives_a_power_cut_of_a_real_file_system(kind: str) -> None:
    done = run(kind, "--cuts", "5", "--", "pipeline")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 5 cuts  0 problems" in done.stdout


def test_saves_that_were_not_synced_are_missed() -> None:
    done = run("ext4", "--cuts", "15", "--careless", "--", "pipeline")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "problems  seed" in done.stdout
