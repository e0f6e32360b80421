"""How many bytes of the disk a version takes, with all that is kept beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks import payload
from benchmarks.contenders import floors
from benchmarks.scale import KIB
from benchmarks.summary import Result, Row
from benchmarks.workloads.context import Context, folder_of

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.contenders.base import Contender

_FLOORS = {floors.SAME_PROTOCOL, floors.APPEND}


def run(context: Context) -> list[Result]:
    kinds = context.choose(_FLOORS, lambda kind: "versions" not in kind.lacks, slow=True)
    results = []
    for name, size in (("1 KiB", KIB), ("100 KiB", 100 * KIB)):
        values = [payload.rows(size, seed=seed) for seed in range(context.scale.space)]
        rows = []
        for kind in kinds:
            context.tell(f"space: {kind.name}, versions of {name}")
            few = values[:3] if kind.slow else values
            with context.place() as place:
                rows.append(Row(kind.name, _per_version(kind, folder_of(kind, place), few), runs=len(few)))
        title = f"disk space of a version of {name}, no two alike"
        results.append(Result(f"space/{name}", title, "bytes", tuple(rows), context.without_versions()))
    return results


def _per_version(kind: type[Contender], folder: Path, values: list[dict[str, Any]]) -> float:
    kind(folder).close()
    os.sync()
    empty = _blocks(folder)
    contender = kind(folder, durable=False)
    for value in values:
        contender.save("train", contender.prepare(value))
    contender.close()
    os.sync()  # some file systems choose the blocks only now
    return (_blocks(folder) - empty) / len(values)


def _blocks(folder: Path) -> int:
    """Return the bytes of all blocks below a folder; a file with several names counts once."""
    found = {}
    for path in [folder, *folder.rglob("*")]:
        status = path.lstat()
        found[status.st_ino] = status.st_blocks * 512
    return sum(found.values())
