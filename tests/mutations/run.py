"""Breaks the library in one small way after another and runs the tests: ``python -m tests.mutations.run [NAME …]``.

Prints which test noticed each, as a table in Markdown; ends with 1 if one was not noticed. The test that noticed a mutant is
written down in ``noticed.json`` and tried first the next time, so that each takes a few seconds; then the nearest tests, then
all. A test counts as noticing only if it passes with the library unbroken.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

import orjson
import pytest

from tests.mutations.mutants import MUTANTS, Mutant

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[2]
NOTICED = Path(__file__).with_name("noticed.json")
NEAREST = {
    "_filesystem/": ["tests/backends/local", "tests/attacks/test_planted.py"],
    "_format/bundle": ["tests/format/test_bundle.py", "tests/attacks/test_bundles.py"],
    "_format/handover": ["tests/vectors/test_keyrings.py", "tests/attacks/test_keyring.py"],
    "_format/hidden.py": ["tests/format/test_hidden.py"],
    "_format/key": ["tests/vectors", "tests/attacks/test_keyring.py", "tests/operations/test_keys.py"],
    "_format/embedded.py": ["tests/vectors/test_vectors.py", "tests/operations/test_embedded.py"],
    "_format/payload.py": ["tests/format/test_payload.py", "tests/operations/test_ahead.py"],
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
    "_operations/unused_attachments.py": ["tests/store/test_loose_locks.py", "tests/operations/test_attachments.py"],
    "_operations/attach.py": ["tests/store/test_loose_locks.py", "tests/operations/test_attachments.py"],
    "_operations/tag.py": [
        "tests/store/test_loose_locks.py",
        "tests/operations/test_tag.py",
        "tests/attacks/test_tags.py",
        "tests/attacks/test_bundles.py",
    ],
    "_operations/lineage.py": ["tests/operations/test_lineage.py"],
    "_operations/verify.py": ["tests/operations/test_upkeep.py"],
    "_store/key_sources.py": ["tests/store"],
    "_store/last_seen.py": ["tests/store"],
    "_store/open_keyring.py": ["tests/attacks/test_keyring.py"],
    "_store/sealed_store.py": ["tests/operations/test_ahead.py", "tests/attacks/test_versions.py", "tests/test_manager.py"],
    "_store/": ["tests/test_manager.py", "tests/attacks/test_versions.py", "tests/operations/test_upkeep.py"],
    "backends/local/pending.py": ["tests/backends/local/test_pending.py", "tests/backends/local"],
    "backends/local/shared.py": ["tests/backends/local/test_shared.py"],
    "backends/local/lock": ["tests/backends/local/test_lock.py", "tests/backends/local/test_lock_queue.py"],
    "backends/local/": ["tests/backends/local/test_pending.py", "tests/backends/local", "tests/attacks/test_planted.py"],
    "aio.py": ["tests/aio"],
    "stages/threads.py": ["tests/aio"],
    "stages/code.py": ["tests/stages/test_code.py"],
    "stages/results.py": ["tests/stages/test_results.py"],
    "retention.py": ["tests/test_retention.py"],
    "stages/runner.py": ["tests/operations/test_embedded.py", "tests/stages"],
    "stages/fingerprint.py": ["tests/stages/test_fingerprint.py"],
    "stages/": ["tests/stages"],
}
"""Where the test that notices is likely to be: the first beginning of the path that fits counts."""
QUICK_ONES_FIRST = [
    *("tests/format", "tests/vectors", "tests/compat", "tests/test_manager.py", "tests/test_seed.py", "tests/backends/local"),
    *("tests/store", "tests/operations", "tests/attacks", "tests/judge", "tests/stages", "tests/processes", "tests/backends"),
    *("tests/powercut", "tests/model", "tests/faults", "tests/concurrency"),
]
SLOW = ("tests/powercut", "tests/model")
PATIENCE = 600
"""Seconds that a group of tests may take."""


class Host:
    """A process that runs tests on copies of the repository; see :mod:`tests.mutations.host`."""

    def __init__(self, copy: Path) -> None:
        self.copy = copy
        command = [sys.executable, str(Path(__file__).with_name("host.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def first_to_fail(self, tests: list[str], without: Iterable[str] = ()) -> str | None:
        """Return the first of some tests, without others, that fails; None: none does, or none is there."""
        left_out = [f"--deselect={each}" for each in without]
        code, output = self._run(["-x", "-q", "--tb=no", "-o", "faulthandler_timeout=60", *left_out, *tests])
        if code is None:
            return "(the tests did not end)"
        failed: list[str] = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", output, re.MULTILINE)
        if failed:
            return failed[0]
        is_gone = code in {pytest.ExitCode.USAGE_ERROR, pytest.ExitCode.NO_TESTS_COLLECTED}
        return None if code == 0 or is_gone else f"(the tests ended with {code})"

    def _run(self, arguments: list[str]) -> tuple[int | None, str]:
        options = ["--assert=plain", "-n", "0", "-p", "no:randomly", "-p", "no:cacheprovider"]
        task = {"copy": str(self.copy), "arguments": [*options, *arguments], "patience": PATIENCE}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(task).decode() + "\n")
        code, output = orjson.loads(self._process.stdout.readline())
        return code, output

    def collect(self, files: Iterable[str]) -> list[str]:
        """Return the names of the tests in some files."""
        there = [each for each in files if (self.copy / each).exists()]
        return self._run(["--collect-only", "-q", *there])[1].splitlines() if there else []

    def noticed_by(self, mutant: Mutant, before: str | None) -> str | None:
        """Return the first test that fails with the library broken like this; None: none does.

        Args:
            mutant: How the library is broken.
            before: The test that noticed it the last time, which passes with the library unbroken.
        """
        path = self.copy / "src" / "checkpoint_manager" / mutant.path
        whole = path.read_text()
        nearest = next((tests for prefix, tests in NEAREST.items() if mutant.path.startswith(prefix)), [])
        for tests in ([before] if before else [], nearest, [each for each in QUICK_ONES_FIRST if each not in nearest]):
            failing: list[str] = []  # with the library unbroken, too
            while tests:
                path.write_text(mutant.broken(whole))
                try:
                    failed = self.first_to_fail(tests, failing)
                finally:
                    path.write_text(whole)
                if failed is None:
                    break
                if failed.startswith("("):
                    if self.first_to_fail(tests, failing) is None:
                        return failed
                    break  # with the library unbroken, they end like this, too
                if failed == before or self.first_to_fail([failed]) is None:
                    return failed
                failing.append(failed)
        return None

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def main() -> int:
    """Run the mutants named, or all."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutations.run", description=__doc__)
    parser.add_argument("name", nargs="*", help="of a mutant")
    parser.add_argument("--copies", type=int, default=2, help="how many are run at once")
    asked = parser.parse_args()
    before: dict[str, str] = orjson.loads(NOTICED.read_bytes())
    wanted = [mutant for mutant in MUTANTS if not asked.name or mutant.name in asked.name]
    wanted.sort(key=lambda mutant: (mutant.name not in before, before.get(mutant.name, "").startswith(SLOW)))
    survived = 0
    with tempfile.TemporaryDirectory() as place, ThreadPoolExecutor(asked.copies) as threads:
        hosts: SimpleQueue[Host] = SimpleQueue()
        for number in range(asked.copies):
            copy = Path(place) / str(number)
            shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".git", "__pycache__", ".venv", ".hypothesis"))
            hosts.put(Host(copy))
        _check(hosts, before, wanted)

        def judge(mutant: Mutant) -> tuple[str | None, float]:
            host, started = hosts.get(), time.monotonic()
            try:
                return host.noticed_by(mutant, before.get(mutant.name)), time.monotonic() - started
            finally:
                hosts.put(host)

        print("| what was broken | where | noticed by | seconds |\n|---|---|---|---|")
        for mutant, (test, seconds) in zip(wanted, threads.map(judge, wanted), strict=True):
            survived += test is None
            row = (mutant.name, f"`{mutant.path}`", f"`{test}`" if test else "**nothing**", f"{seconds:.0f}")
            print(f"| {' | '.join(row)} |", flush=True)
            if test and "::" in test and test != before.get(mutant.name):
                before[mutant.name] = test
                known = {each.name: before[each.name] for each in MUTANTS if each.name in before}
                NOTICED.write_bytes(orjson.dumps(known, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
        while not hosts.empty():
            hosts.get().close()
    print(f"\n{len(wanted)} mutants, {survived} survived")
    return 1 if survived else 0


def _check(hosts: SimpleQueue[Host], before: dict[str, str], wanted: list[Mutant]) -> None:
    """Forget the tests that are gone, or that fail with the library unbroken. A whole file is only a place to look first."""
    host = hosts.get()
    left = sorted({test for each in wanted if "::" in (test := before.get(each.name, ""))})
    there = host.collect({test.split("::")[0] for test in left})
    left = [test for test in left if any(each == test or each.startswith(f"{test}[") for each in there)]
    while left and (failed := host.first_to_fail(left)) is not None:
        others = [test for test in left if failed != test and not failed.startswith(f"{test}[")]
        left = others if others != left else []
    for mutant in wanted:
        if "::" in before.get(mutant.name, "") and before[mutant.name] not in left:
            del before[mutant.name]
    hosts.put(host)


if __name__ == "__main__":
    sys.exit(main())
