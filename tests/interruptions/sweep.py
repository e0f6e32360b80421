"""Ctrl-C at every instruction, by hand: ``python -m tests.interruptions.sweep [OPERATION ...] [--step N | --sample N]``.

It needs a process of its own: what is raised while an exception is being handled leaves that exception current in its thread.
Prints a line for each operation, and ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.interruptions.trial import ALL, Trial, Witness


def main() -> int:
    """Run the sweep."""
    parser = argparse.ArgumentParser(prog="python -m tests.interruptions.sweep", description=__doc__)
    parser.add_argument("operation", nargs="*", default=list(ALL), metavar="OPERATION", help=", ".join(ALL))
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--step", type=int, default=1, help="interrupt before each N-th instruction only")
    how.add_argument("--sample", type=int, help="interrupt before N instructions at even distances, other ones each time")
    options = parser.parse_args()
    logging.disable()
    total = wrong = 0
    with Witness() as witness:
        for name in options.operation:
            with tempfile.TemporaryDirectory() as place:
                started = time.monotonic()
                trial = Trial(ALL[name], Path(place), witness)
                step = max(1, trial.instructions // options.sample) if options.sample else options.step
                tried = range(random.randint(1, step) if options.sample else 1, trial.instructions + 1, step)
                problems = [problem for at in tried for problem in trial.interrupt(at)]
            total, wrong = total + len(tried), wrong + len(problems)
            seconds = time.monotonic() - started
            counts = f"instructions {trial.instructions:6}  tried {len(tried):6}  problems {len(problems):4}"
            print(f"{name:<26} {counts}  {seconds:6.1f} s")
            print(*(f"    {problem}\n" for problem in problems), sep="", end="", flush=True)
    print({"tried": total, "problems": wrong})
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
