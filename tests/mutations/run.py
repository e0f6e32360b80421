"""Breaks the library in one small way after another and runs the tests: ``python -m tests.mutations.run [NAME …]``.

Prints which test noticed each, as a table in Markdown; ends with 1 if one was not noticed. Takes some seconds for each, longer
for those that only the slow tests notice.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.mutations.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
QUICK_ONES_FIRST = [
    *("tests/envelope", "tests/vectors", "tests/compat", "tests/test_manager.py", "tests/test_seed.py", "tests/backends"),
    *("tests/store", "tests/attacks", "tests/processes", "tests/model", "tests/faults", "tests/powercut", "tests/concurrency"),
]
FOR_STAGES = ["tests/stages", "tests/attacks/test_versions.py"]
PATIENCE = 400


def noticed_by(mutant: Mutant, copy: Path) -> str | None:
    """Return the first test that fails with the library broken like this; None: none does."""
    path = copy / "src" / "checkpoint_manager" / mutant.path
    whole = path.read_text()
    path.write_text(whole.replace(mutant.old, mutant.new))
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:randomly", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    options = ["-o", "faulthandler_timeout=60", "-n", "2"]
    try:
        done = subprocess.run(
            [*command, *options, *(FOR_STAGES if mutant.path.startswith("stages/") else QUICK_ONES_FIRST)],
            capture_output=True,
            text=True,
            cwd=copy,
            env=environment,
            check=False,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return "(the tests did not end)"
    finally:
        path.write_text(whole)
    failed = re.findall(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", done.stdout, re.MULTILINE)
    if failed:
        return failed[0]
    return None if done.returncode == 0 else f"(the tests ended with {done.returncode})"


def main() -> int:
    """Run the mutants named, or all."""
    wanted = [mutant for mutant in MUTANTS if not sys.argv[1:] or mutant.name in sys.argv[1:]]
    survived = 0
    with tempfile.TemporaryDirectory() as place:
        copy = Path(place) / "copy"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "__pycache__", ".venv", ".hypothesis"))
        print("| what was broken | where | noticed by | seconds |\n|---|---|---|---|")
        for mutant in wanted:
            started = time.monotonic()
            test = noticed_by(mutant, copy)
            survived += test is None
            row = (mutant.name, f"`{mutant.path}`", f"`{test}`" if test else "**nothing**", f"{time.monotonic() - started:.0f}")
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{len(wanted)} mutants, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
