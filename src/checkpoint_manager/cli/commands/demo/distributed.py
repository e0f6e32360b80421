"""Dask workers share one store: each file is worked on once, although a worker is killed, and then all of them.

A stage is a function that Dask can send to its workers: where the store is, and where its key comes from, travels with it, and
never the key. Dask runs the calls of a worker that died again, elsewhere. A call that is done comes from the store.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import tokenize
from collections import Counter
from pathlib import Path
from typing import Any

from dask.distributed import Client, LocalCluster

from checkpoint_manager import CheckpointManager

CRASHES = "--crash" in sys.argv
JOURNAL = Path("journal.txt")


def make_stage() -> Any:
    """Return the stage: it counts the kinds of tokens in a file of Python, and notes in a journal that it did."""
    cm = CheckpointManager()  # the store that CHECKPOINT_MANAGER_STORE names

    @cm.stage
    def count(path: str) -> dict[str, int]:
        with tokenize.open(path) as file:
            kinds = Counter(tokenize.tok_name[token.type] for token in tokenize.generate_tokens(file.readline))
        with JOURNAL.open("a") as journal:
            journal.write(f"{os.getpid()} {Path(path).name}\n")
        return dict(kinds)

    return count


def main() -> None:
    """Count the tokens of the standard library on two workers, of which one is killed."""
    done = len(JOURNAL.read_text().splitlines()) if JOURNAL.exists() else 0
    files = [str(path) for path in sorted(Path(os.__file__).parent.glob("[a-d]*.py"))]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL") as cluster,
        Client(cluster) as client,
    ):
        futures = client.map(make_stage(), files, pure=False)
        workers = client.run(os.getpid)
        print(
            f"  {len(files)} files   of which {done} are done, for workers {' and '.join(map(str, workers.values()))}",
            flush=True,
        )
        while sum(future.done() for future in futures) < len(files) // 4:
            time.sleep(0.01)
        if CRASHES:
            print("  the power  fails for all of them, when a quarter is done", flush=True)
            os.killpg(os.getpgid(0), signal.SIGKILL)  # this process, and all workers
        victim = next(iter(workers.values()))
        os.kill(victim, signal.SIGKILL)
        print(f"  worker     {victim} is killed; Dask starts another one", flush=True)
        counted: Counter[str] = sum((Counter(each) for each in client.gather(futures)), Counter())
    ran = Counter(line.split()[1] for line in JOURNAL.read_text().splitlines())
    twice = ", ".join(sorted(name for name, times in ran.items() if times > 1))
    print(f"  counted    {counted.total():,} tokens, of which {counted['NAME']:,} are names")
    exception = f", but for {twice}, whose worker was killed" if twice else ""
    print(f"  ran        {len(ran)} of {len(files)} files, each once{exception}")


if __name__ == "__main__":
    main()
