"""The full sweep, by hand: ``python -m tests.faults.sweep``: every fault at every system call of every operation.

``kill`` and the names of errors choose among the faults, ``--only`` among the operations. Prints a line for each operation and
fault, and ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from queue import SimpleQueue
from typing import Any

from tests.faults.host import ERRNOS, Task
from tests.faults.operations import OF_A_DIRECTORY, OPERATIONS
from tests.hosting import Host

TALLIES = ("tried", "missed", "acknowledged", "looked")


def main() -> int:
    """Run the sweep."""
    options = _options()
    names = [name for name in options.only if not (options.sqlite and name in OF_A_DIRECTORY)]
    total = dict.fromkeys((*TALLIES, "problems"), 0)
    with ExitStack() as stack:
        hosts: SimpleQueue[Host] = SimpleQueue()
        for _ in range(options.hosts):
            hosts.put(stack.enter_context(Host("tests.faults.host")))

        def sweep(name: str) -> list[tuple[str, dict[str, Any]]]:
            """Try all faults of an operation in one host, which looks once at what several of them leave."""
            host = hosts.get()
            try:
                faults = [fault for fault in options.fault if fault == "kill" or not OPERATIONS[name].goes_on]
                tasks = [Task(name, fault, everywhere=True, scheme="sqlite:///" if options.sqlite else "") for fault in faults]
                return [(task.fault, host.ask(asdict(task))) for task in tasks]
            finally:
                hosts.put(host)

        for name, tallies in zip(names, stack.enter_context(ThreadPoolExecutor(options.hosts)).map(sweep, names), strict=True):
            for fault, tally in tallies:
                for each in total:
                    total[each] += len(tally[each]) if each == "problems" else tally[each]
                counts = "  ".join(f"{each} {tally[each]:4}" for each in TALLIES)
                problems = [f"\n    {problem}" for problem in tally["problems"]]
                end = f"problems {len(problems):3}  {tally['seconds']:6.1f} s"
                print(f"{name:<26} {fault:<7} {counts}  {end}", *problems, flush=True)
    print(total)
    return 1 if total["problems"] else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.sweep", description=__doc__)
    parser.add_argument("fault", nargs="*", default=["kill", *ERRNOS], help=f"of kill, {', '.join(ERRNOS)}")
    parser.add_argument("--hosts", type=int, default=2, help="how many operations are tried at once")
    parser.add_argument("--sqlite", action="store_true", help="of stores in a database")
    parser.add_argument("--only", nargs="+", default=list(OPERATIONS), choices=OPERATIONS, metavar="OPERATION")
    options = parser.parse_args()
    if unknown := set(options.fault) - {"kill", *ERRNOS}:
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    return options


if __name__ == "__main__":
    sys.exit(main())
