"""The full sweep, by hand: ``python -m tests.faults.sweep``: every fault at every system call of every operation.

A kill is tried at the calls that may change files: between two of them, it leaves what it leaves at the second.

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
    scheme = "sqlite:///" if options.sqlite else ""
    with ExitStack() as stack:
        hosts: SimpleQueue[Host] = SimpleQueue()
        for _ in range(options.hosts):
            hosts.put(stack.enter_context(Host("tests.faults.host")))

        def sweep(name: str) -> list[dict[str, Any]]:
            """Try all faults of an operation in one host, which looks once at what several of them leave."""
            host, tallies = hosts.get(), []
            for fault in options.fault:
                if fault == "kill" or not OPERATIONS[name].goes_on:
                    tallies.append(host.ask(asdict(Task(name, fault, everywhere=True, scheme=scheme))))
                    _report(name, fault, tallies[-1])
            hosts.put(host)
            return tallies

        tallies = [
            tally for found in stack.enter_context(ThreadPoolExecutor(options.hosts)).map(sweep, names) for tally in found
        ]
    problems = sum(len(tally["problems"]) for tally in tallies)
    print({each: sum(tally[each] for tally in tallies) for each in TALLIES} | {"problems": problems})
    return 1 if problems else 0


def _report(name: str, fault: str, tally: dict[str, Any]) -> None:
    counts = "  ".join(f"{each} {tally[each]:4}" for each in TALLIES)
    problems = "".join(f"\n    {problem}" for problem in tally["problems"])
    print(
        f"{name:<26} {fault:<7} {counts}  problems {len(tally['problems']):3}  {tally['seconds']:6.1f} s{problems}", flush=True
    )


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
