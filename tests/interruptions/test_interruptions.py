"""Ctrl-C at many instructions of each operation, and at random moments of real time.

``python -m tests.interruptions.sweep`` tries all instructions.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from checkpoint_manager import CheckpointManager

ROOT = Path(__file__).parents[2]
OPERATIONS = (
    ("later save", "update", "restore", "clear", "first save of a stage"),
    ("load", "delete", "delete a stage", "prune", "tag", "add a slot"),
    ("stage", "end of a loop", "rotate the key", "repair", "import"),
)
"""Those of one process each."""
TRIED = "9"
"""How many instructions of each operation, at even distances: from another one on each time."""


def unmeasured(home: Path) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")} | {"HOME": str(home)}


@pytest.mark.parametrize("operations", OPERATIONS, ids=" ".join)
def test_interrupted_at_any_instruction_it_leaves_no_lock_and_whole_versions(
    operations: tuple[str, ...], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tests.interruptions.sweep", "--sample", TRIED, *operations]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=unmeasured(tmp_path), timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr


PROGRAM = """
import random, signal, sys, time
from checkpoint_manager import CheckpointManager, Retention

signal.signal(signal.SIGALRM, signal.default_int_handler)
place, rounds = sys.argv[1], int(sys.argv[2])
cm, other = (CheckpointManager(place + "/store", key=bytes(32), lock_timeout=0) for _ in range(2))
there = CheckpointManager(place + "/there", key=bytes(32))
for number in range(3):
    cm.save_checkpoint("train", number)
cm.export_bundle(place + "/first", key=bytes(32))
OPERATIONS = {
    "save": lambda: cm.save_checkpoint("train", list(range(1000))),
    "clear": lambda: cm.clear_checkpoint("train"),
    "prune": lambda: cm.prune(Retention(keep_last=3)),
    "rotate": lambda: cm.keys.rotate(),
    "export": lambda: cm.export_bundle(place + "/bundle", key=bytes(32), overwrite=True),
    "import": lambda: there.import_bundle(place + "/first", key=bytes(32), rename={"train": f"copy {round}"}),
}
interrupted = 0
for round in range(rounds):
    for name, act in OPERATIONS.items():
        started = time.perf_counter()
        act()
        took = time.perf_counter() - started
        kept = None
        try:
            signal.setitimer(signal.ITIMER_REAL, random.random() * took + 1e-5)
            act()
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt as error:
            kept = error  # as a prompt does: the traceback, which refers to all that was opened, stays alive
            interrupted += 1
        other.save_checkpoint("train", name)  # lock_timeout=0: a lock that is left would end this
        other.keys.rotate()
        act()
    assert [found.data for found in [there.get_checkpoint(f"copy {round}")]] == [2]
assert cm.import_bundle(place + "/bundle", key=bytes(32), dry_run=True).versions > 0
assert cm.verify().ok and there.verify().ok, (cm.verify().problems, there.verify().problems)
print(interrupted)
"""


def test_interrupted_at_any_moment_every_operation_can_be_done_again_at_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=unmeasured(tmp_path), timeout=110)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout) >= 20
    assert CheckpointManager(tmp_path / "store", key=bytes(32)).verify().ok
