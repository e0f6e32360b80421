"""The full sweep, by hand: ``python -m tests.faults.sweep``: every fault at every system call of every operation.

``kill`` and the names of errors choose among the faults, ``--only`` among the operations. Prints a line for each operation and
fault, and ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson

from tests.faults.host import ERRNOS
from tests.faults.operations import OF_A_DIRECTORY, OPERATIONS

ROOT = Path(__file__).parents[2]
HOSTS = 2


def ask(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Give tasks to one host, and return what came of them."""
    command = [sys.executable, "-m", "tests.faults.host"]
    lines = b"".join(orjson.dumps(task) + b"\n" for task in tasks)
    done = subprocess.run(command, input=lines, stdout=subprocess.PIPE, cwd=ROOT, check=True)
    return [orjson.loads(line) for line in done.stdout.splitlines()]


def main() -> int:
    """Run the sweep."""
    options = _options()
    pairs = [
        (name, fault)
        for fault in options.fault
        for name in options.only
        if (fault == "kill" or not OPERATIONS[name].goes_on) and not (options.sqlite and name in OF_A_DIRECTORY)
    ]
    scheme = "sqlite:///" if options.sqlite else ""
    tasks = [{"operation": name, "fault": fault, "everywhere": True, "scheme": scheme} for name, fault in pairs]
    total = {"tried": 0, "missed": 0, "acknowledged": 0, "problems": 0}
    with ThreadPoolExecutor(HOSTS) as hosts:
        for task, tallies in zip(tasks, hosts.map(lambda task: ask([task]), tasks), strict=True):
            tally = tallies[0]
            for name in total:
                total[name] += len(tally[name]) if name == "problems" else tally[name]
            counts = "  ".join(f"{name} {tally[name]:4}" for name in ("tried", "missed", "acknowledged"))
            found = [f"\n    {problem}" for problem in tally["problems"]]
            print(
                f"{task['operation']:<26} {task['fault']:<7} {counts}  problems {len(found):3}  {tally['seconds']:6.1f} s",
                *found,
            )
            sys.stdout.flush()
    print(total)
    return 1 if total["problems"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sweep", description=__doc__)
    parser.add_argument("fault", nargs="*", default=["kill", *ERRNOS], help=f"of kill, {', '.join(ERRNOS)}")
    parser.add_argument("--sqlite", action="store_true", help="of stores in a database")
    parser.add_argument("--only", nargs="+", default=list(OPERATIONS), choices=OPERATIONS, metavar="OPERATION")
    options = parser.parse_args()
    if unknown := set(options.fault) - {"kill", *ERRNOS}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
