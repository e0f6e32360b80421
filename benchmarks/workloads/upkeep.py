"""What the library's own upkeep costs: commands over one long history, over many stages, and over much data.

Nobody else keeps what these read, so there is nothing to compare with but the aims.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import payload
from benchmarks.contenders.ours import OURS
from benchmarks.scale import KIB, MB
from benchmarks.summary import Result, Row
from checkpoint_manager import CheckpointManager, KeyFile
from checkpoint_manager._store.key_sources import create_key_file

if TYPE_CHECKING:
    from benchmarks.workloads.context import Context

_MEASURED = """\
import resource, subprocess, sys
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def run(context: Context) -> list[Result]:
    with context.place() as place:
        key = KeyFile(str(place / "key"))
        create_key_file(Path(key.path))
        return [*_one_long_history(context, place, key), _much_data(context, place, key), *_many_stages(context, place, key)]


def _one_long_history(context: Context, place: Path, key: KeyFile) -> list[Result]:
    count = context.scale.logged
    context.tell(f"upkeep: a history of {count:,} versions is filled, and listed by a command")
    value = payload.rows(KIB)
    few, many = place / "few", place / "many"
    for store, length in ((few, count // 10), (many, count)):
        with CheckpointManager(store, key=key, durability="relaxed") as cm:
            for _ in range(length):
                cm.save_checkpoint("train", value)
    of_few = _peak(_command(few, key, "log", "train", "--json"))
    started = time.perf_counter()
    of_many = _peak(_command(many, key, "log", "train", "--json"))
    seconds = time.perf_counter() - started
    return [
        Result(f"upkeep/log of {count}", f"log of {count:,} versions, the command", "s", (Row(OURS, seconds),)),
        Result(
            f"upkeep/memory of log of {count}",
            f"what it takes more than one of {count // 10:,}",
            "bytes",
            (Row(OURS, max(0, of_many - of_few)),),
        ),
    ]


def _much_data(context: Context, place: Path, key: KeyFile) -> Result:
    count = context.scale.verified
    context.tell(f"upkeep: {count} MB are verified")
    with CheckpointManager(place / "much", key=key, durability="relaxed") as cm:
        value = payload.rows(MB)
        for _ in range(count):
            cm.save_checkpoint("train", value)
        sealed = sum(path.stat().st_size for path in (place / "much" / "history").rglob("*.checkpoint"))
        started = time.perf_counter()
        if not cm.verify().ok:
            raise AssertionError("what was just saved is not whole")
        rate = sealed / MB / (time.perf_counter() - started)
    return Result(f"upkeep/verify {count} MB", f"verify {count} versions of 1 MB", "MB/s", (Row(OURS, rate),))


def _many_stages(context: Context, place: Path, key: KeyFile) -> list[Result]:
    count = context.scale.stages
    context.tell(f"upkeep: {count:,} stages are filled, and status and repair look at them")
    value = payload.rows(KIB)
    with CheckpointManager(place / "stages", key=key, durability="relaxed") as cm:
        for number in range(count):
            cm.save_checkpoint(f"stage {number}", value)
    found = []
    for what in ("status", "repair"):
        words = _command(place / "stages", key, what, *(("--yes",) if what == "repair" else ()))
        started = time.perf_counter()
        subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        found.append(
            Result(
                f"upkeep/{what} of {count}",
                f"{what} of {count:,} stages, the command",
                "s",
                (Row(OURS, time.perf_counter() - started),),
            )
        )
    return found


def _command(store: Path, key: KeyFile, *words: str) -> list[str]:
    return [sys.executable, "-m", "checkpoint_manager", *words, "--store", str(store), "--key", f"file:{key.path}"]


def _peak(words: list[str]) -> int:
    """Return the most memory that a command takes, in bytes."""
    done = subprocess.run([sys.executable, "-c", _MEASURED, *words], capture_output=True, check=True, text=True)
    return int(done.stdout)
