"""Saving, by size, with and without ``None`` among the values; and a small checkpoint on a disk with a journal, too."""

from __future__ import annotations

import gc
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks import disks, payload
from benchmarks.contenders import floors
from benchmarks.contenders.lean import LEAN
from benchmarks.contenders.ours import VARIANTS
from benchmarks.scale import KIB, MB
from benchmarks.summary import Result, row
from benchmarks.timing import Entrant, interleave
from benchmarks.workloads.context import Context, opened

if TYPE_CHECKING:
    from benchmarks.contenders.base import Contender

JOURNALED = "journaled/"
"""What the keys begin with of what was measured on a disk with a journal."""
CPU = "/cpu"
"""What the keys end with of the processor's time of a save, in the thread that saves."""
_STAGE = "train"
_FLOORS = {floors.BARE, floors.BARE_UNSYNCED, floors.LINK_FIRST, floors.APPEND, floors.MEMORY, floors.JSON_BARE, LEAN}


def run(context: Context) -> list[Result]:
    results = _on_one_disk(context)
    with disks.journaled(context.folder) as place:
        if isinstance(place, str):
            context.tell(f"not measured with a journal: {place}")
            return results
        small = replace(context, folder=place, scale=replace(context.scale, sizes={"1 KiB": KIB}))
        before = os.environ.get("XDG_STATE_HOME")
        os.environ["XDG_STATE_HOME"] = str(place / "state")  # a save writes there, too
        try:
            found = _on_one_disk(small)
        finally:
            if before is None:
                del os.environ["XDG_STATE_HOME"]
            else:
                os.environ["XDG_STATE_HOME"] = before
    return results + [replace(each, key=JOURNALED + each.key, title=f"{each.title}, on ext4 with a journal") for each in found]


def _on_one_disk(context: Context) -> list[Result]:
    kinds = context.choose(_FLOORS, slow=True, variants=VARIANTS)
    results = []
    for name, size in context.scale.sizes.items():
        for nones in (True, False):
            title = f"save {name}, " + ("with None" if nones else "without None")
            context.tell(title)
            value = payload.rows(size, nones=nones)
            gc.collect()
            gc.freeze()  # what the benchmark itself holds is not to slow down whoever collects garbage
            rounds = context.scale.small if size < MB else context.scale.large
            cpu: dict[str, list[float]] = {}
            with context.place(is_large=size >= MB) as place, opened(kinds, place) as contenders:
                samples = interleave([_entrant(contender, value) for contender in contenders], rounds, cpu)
            gc.unfreeze()
            key = f"save/{name}/{'None' if nones else 'no None'}"
            results.append(Result(key, title, "s", tuple(row(kind, times) for kind, times in samples.items())))
            if size == KIB:
                used = tuple(row(kind, times) for kind, times in cpu.items())
                results.append(Result(f"{key}{CPU}", f"{title}: the processor's time", "s", used))
    return results


def _entrant(contender: Contender, value: dict[str, Any]) -> Entrant:
    """Let a contender save a value that differs from round to round."""

    def before(number: int) -> Any:
        value["step"] = 1_000_000 + number
        return contender.prepare(value)

    return Entrant(
        contender.name,
        lambda given: contender.save(_STAGE, given),
        before,
        yields=contender.kind == "peer",
        leaves_dirt="sync" in contender.lacks,
    )
