"""What a save costs beside the bare floor of its protocol: ``python benchmarks/floor.py [--rounds 1000] [--folder .]``.

The floor is what no durable, atomic, exclusive save can leave out: write a file, sync it, link it to its name, sync the
directory, rename the second name over the head. No encryption, no lock, no JSON. Both take turns, save by save, in one folder,
so that what the disk is doing meets both alike; the medians are compared. The lines without syncs leave them out on both sides:
they show the program's own share, without the disk's.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from checkpoint_manager import CheckpointManager

SIZES = {"1 KiB": 1024, "100 KiB": 100 * 1024, "10 MB": 10_000_000}


def floor(folder: Path, number: int, data: bytes, *, durable: bool) -> None:
    temporary, name = str(folder / "temporary"), str(folder / f"{number:012d}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, data)
    if durable:
        os.fsync(descriptor)
    os.close(descriptor)
    os.link(temporary, name)
    if durable:
        directory = os.open(folder, os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)
    os.rename(temporary, folder / "head")


def measure(size: int, rounds: int, folder: Path, *, durable: bool) -> tuple[float, float]:
    """Return the medians of a save and of the floor, in seconds."""
    value = "x" * (size - 2)
    data = b"x" * size
    saves, floors = [], []
    with tempfile.TemporaryDirectory(dir=folder) as work:
        bare = Path(work) / "bare"
        bare.mkdir()
        cm = CheckpointManager(Path(work) / "store", key=bytes(32), durability="full" if durable else "relaxed")
        for number in range(1, rounds + 1):
            for kind in ("save", "floor") if number % 2 else ("floor", "save"):
                started = time.perf_counter()
                if kind == "save":
                    cm.save_checkpoint("train", value)
                else:
                    floor(bare, number, data, durable=durable)
                (saves if kind == "save" else floors).append(time.perf_counter() - started)
    return statistics.median(saves), statistics.median(floors)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path.cwd())
    arguments = parser.parse_args()
    print(f"{'size':>8} {'syncs':>6} {'save':>10} {'floor':>10} {'ratio':>6}")
    for name, size in SIZES.items():
        rounds = arguments.rounds if size < 1_000_000 else max(20, arguments.rounds // 20)
        for durable in (True, False):
            save, bare = measure(size, rounds, arguments.folder, durable=durable)
            print(f"{name:>8} {'yes' if durable else 'no':>6} {save * 1e6:>7.0f} µs {bare * 1e6:>7.0f} µs {save / bare:>6.2f}")


if __name__ == "__main__":
    main()
