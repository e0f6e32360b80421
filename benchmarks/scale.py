"""How much is measured: ``full`` for figures, ``quick`` to look, ``tiny`` to see that everything still runs."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.timing import Rounds

KIB, MB = 1024, 1_000_000


@dataclass(frozen=True, slots=True)
class Scale:
    """The extent of each workload."""

    sizes: dict[str, int]
    small: Rounds
    large: Rounds
    stages: int
    fill_seconds: float
    versions: tuple[int, ...]
    histories: Rounds
    writers: int
    slice_seconds: float
    slices: int
    any_of: int
    starts: Rounds
    memory: int
    array: int
    arrays: Rounds
    space: int
    rotated: int
    rotations: Rounds
    logged: int
    verified: int


SCALES = {
    "full": Scale(
        sizes={"1 KiB": KIB, "100 KiB": 100 * KIB, "1 MB": MB, "10 MB": 10 * MB},
        small=Rounds(5, 200, 1500),
        large=Rounds(8, 12, 300),
        stages=10_000,
        fill_seconds=4,
        versions=(10, 1000, 10_000),
        histories=Rounds(10, 3, 20),
        writers=8,
        slice_seconds=0.4,
        slices=3,
        any_of=1000,
        starts=Rounds(9, 10, 40),
        memory=100 * MB,
        array=1024 * KIB * KIB,
        arrays=Rounds(25, 5, 20),
        space=100,
        rotated=1000,
        rotations=Rounds(10, 3, 5),
        logged=50_000,
        verified=100,
    ),
    "quick": Scale(
        sizes={"1 KiB": KIB, "1 MB": MB},
        small=Rounds(1, 4, 200),
        large=Rounds(1, 2, 20),
        stages=300,
        fill_seconds=1,
        versions=(10, 1000),
        histories=Rounds(1, 1, 5),
        writers=8,
        slice_seconds=0.15,
        slices=1,
        any_of=200,
        starts=Rounds(1, 2, 10),
        memory=MB,
        array=32 * KIB * KIB,
        arrays=Rounds(1, 2, 5),
        space=6,
        rotated=100,
        rotations=Rounds(1, 1, 2),
        logged=1000,
        verified=3,
    ),
    "tiny": Scale(
        sizes={"1 KiB": KIB, "100 KiB": 100 * KIB},
        small=Rounds(0, 2, 2),
        large=Rounds(0, 2, 2),
        stages=3,
        fill_seconds=5,
        versions=(10, 20),
        histories=Rounds(0, 1, 1),
        writers=2,
        slice_seconds=0.05,
        slices=1,
        any_of=3,
        starts=Rounds(0, 1, 1),
        memory=100_000,
        array=100_000,
        arrays=Rounds(0, 1, 1),
        space=2,
        rotated=2,
        rotations=Rounds(0, 1, 1),
        logged=20,
        verified=1,
    ),
}
