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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

from tests.mutations.mutants import MUTANTS, Mutant

ROOT = Path(__file__).parents[2]
COPIES = 2
NEAREST = {
    "_filesystem/": ["tests/backends", "tests/attacks/test_planted.py"],
    "_format/bundle": ["tests/format/test_bundle.py", "tests/attacks/test_bundles.py"],
    "_format/handover": ["tests/vectors/test_keyrings.py", "tests/attacks/test_keyring.py"],
    "_format/hidden.py": ["tests/format/test_hidden.py"],
    "_format/key": ["tests/vectors", "tests/attacks/test_keyring.py", "tests/operations/test_keys.py"],
    "_format/embedded.py": ["tests/vectors/test_vectors.py", "tests/operations/test_embedded.py"],
    "_format/payload.py": ["tests/format/test_payload.py"],
    "_format/values.py": ["tests/format/test_values.py", "tests/vectors/test_vectors.py"],
    "_format/checkpoint_file.py": ["tests/vectors", "tests/format/test_checkpoint_file.py", "tests/attacks/test_versions.py"],
    "_format/": ["tests/vectors", "tests/format", "tests/attacks/test_versions.py"],
    "_operations/auto_prune.py": ["tests/operations/test_auto_prune.py"],
    "_operations/bundle_file.py": ["tests/operations/test_bundles.py"],
    "_operations/delete.py": [
        "tests/store/test_loose_locks.py",
        "tests/operations/test_tag.py",
        "tests/operations/test_upkeep.py",
    ],
    "_operations/import_bundle.py": ["tests/operations/test_bundles.py", "tests/attacks/test_bundles.py"],
    "_operations/prune.py": ["tests/operations/test_prune.py"],
    "_operations/re": ["tests/operations/test_upkeep.py", "tests/test_manager.py"],
    "_operations/rotate_key.py": ["tests/operations/test_keys.py", "tests/attacks/test_keyring.py"],
    "_operations/save.py": ["tests/test_manager.py", "tests/store/test_loose_locks.py"],
    "_operations/attach.py": ["tests/store/test_loose_locks.py", "tests/operations/test_attachments.py"],
    "_operations/tag.py": [
        "tests/store/test_loose_locks.py",
        "tests/operations/test_tag.py",
        "tests/attacks/test_tags.py",
        "tests/attacks/test_bundles.py",
    ],
    "_operations/verify.py": ["tests/operations/test_upkeep.py"],
    "_store/key_sources.py": ["tests/store"],
    "_store/last_seen.py": ["tests/store"],
    "_store/open_keyring.py": ["tests/attacks/test_keyring.py"],
    "_store/": ["tests/test_manager.py", "tests/attacks/test_versions.py", "tests/operations/test_upkeep.py"],
    "backends/local/lock": ["tests/backends/local/test_lock.py", "tests/backends/local/test_lock_queue.py"],
    "backends/": ["tests/backends", "tests/test_manager.py", "tests/powercut"],
    "aio.py": ["tests/aio"],
    "stages/threads.py": ["tests/aio"],
    "retention.py": ["tests/test_retention.py"],
    "stages/runner.py": ["tests/operations/test_embedded.py", "tests/stages"],
    "stages/fingerprint.py": ["tests/stages/test_fingerprint.py"],
    "stages/": ["tests/stages"],
}
"""Where the test that notices is likely to be: the first beginning of the path that fits counts."""
QUICK_ONES_FIRST = [
    *("tests/format", "tests/vectors", "tests/compat", "tests/test_manager.py", "tests/test_seed.py", "tests/backends"),
    *("tests/store", "tests/operations", "tests/attacks", "tests/judge", "tests/stages", "tests/processes"),
    *("tests/powercut", "tests/model", "tests/faults", "tests/concurrency"),
]
PATIENCE = 600


def noticed_by(mutant: Mutant, copy: Path) -> str | None:
    """Return the first test that fails with the library broken like this; None: none does."""
    path = copy / "src" / "checkpoint_manager" / mutant.path
    whole = path.read_text()
    path.write_text(mutant.broken(whole))
    nearest = next((tests for prefix, tests in NEAREST.items() if mutant.path.startswith(prefix)), [])
    try:
        return (nearest and _first_to_fail(nearest, copy)) or _first_to_fail(
            [each for each in QUICK_ONES_FIRST if each not in nearest], copy
        )
    finally:
        path.write_text(whole)


def _first_to_fail(tests: list[str], copy: Path) -> str | None:
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *tests], capture_output=True, text=True, cwd=copy, env=environment, check=False, timeout=PATIENCE
        )
    except subprocess.TimeoutExpired:
        return "(the tests did not end)"
    failed = re.findall(r"^(?:FAILED|ERROR) (?:tests/)?(\S+)", done.stdout, re.MULTILINE)
    if failed:
        return failed[0]
    return None if done.returncode == 0 else f"(the tests ended with {done.returncode})"


def main() -> int:
    """Run the mutants named, or all."""
    wanted = [mutant for mutant in MUTANTS if not sys.argv[1:] or mutant.name in sys.argv[1:]]
    survived = 0
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(COPIES) as threads:
        copies: SimpleQueue[Path] = SimpleQueue()
        for number in range(COPIES):
            copy = Path(place) / str(number)
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "__pycache__", ".venv", ".hypothesis"))
            copies.put(copy)

        def judge(mutant: Mutant) -> tuple[str | None, float]:
            copy, started = copies.get(), time.monotonic()
            try:
                return noticed_by(mutant, copy), time.monotonic() - started
            finally:
                copies.put(copy)

        print("| what was broken | where | noticed by | seconds |\n|---|---|---|---|")
        for mutant, (test, seconds) in zip(wanted, threads.map(judge, wanted), strict=True):
            survived += test is None
            row = (mutant.name, f"`{mutant.path}`", f"`{test}`" if test else "**nothing**", f"{seconds:.0f}")
            print(f"| {' | '.join(row)} |", flush=True)
    print(f"\n{len(wanted)} mutants, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
