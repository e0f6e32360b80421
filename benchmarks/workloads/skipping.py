"""The skip decision of a pipeline that starts again: is this stage done? Asked once for each of many stages."""

from __future__ import annotations

import os
import random
import time
from typing import TYPE_CHECKING

from benchmarks import payload
from benchmarks.contenders import floors
from benchmarks.contenders.ours import RELAXED
from benchmarks.scale import KIB
from benchmarks.summary import Result, Row, row
from benchmarks.workloads.context import Context, folder_of, opened

if TYPE_CHECKING:
    from benchmarks.contenders.base import Contender

_BLOCK = 100
"""So many questions in a row to one contender, as a pipeline asks them, before the next one's turn."""
_FLOORS = {floors.SEALED}


def run(context: Context) -> list[Result]:
    kinds = context.choose(
        lambda kind: not kind.slow and (kind.kind != "floor" or kind.name in _FLOORS) and kind.name != RELAXED
    )
    stages = [f"stage {number}" for number in range(context.scale.stages)]
    value = payload.rows(KIB)
    with context.place() as place:
        for kind in kinds:
            context.tell(f"skip: {kind.name} saves {len(stages)} stages")
            filler = kind(folder_of(kind, place), durable=False)
            for stage in stages:
                filler.save(stage, filler.prepare(value))
            filler.close()
        os.sync()
        context.tell(f"skip: all are asked about {len(stages)} stages")
        with opened(kinds, place) as contenders:
            samples = _ask(contenders, stages)
    count = len(stages)
    each = tuple(row(name, times) for name, times in samples.items())
    total = tuple(Row(name, sum(times), runs=1) for name, times in samples.items())
    return [
        Result(f"skip/each of {count}", f"has_checkpoint, 1 KiB, each of {count:,} stages", "s", each),
        Result(f"skip/all of {count}", f"has_checkpoint, {count:,} stages together", "s", total),
    ]


def _ask(contenders: list[Contender], stages: list[str]) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    chance = random.Random(0)
    for start in range(0, len(stages), _BLOCK):
        for contender in chance.sample(contenders, len(contenders)):
            times = samples[contender.name]
            for stage in stages[start : start + _BLOCK]:
                started = time.perf_counter()
                done = contender.has(stage)
                times.append(time.perf_counter() - started)
                if not done:
                    raise AssertionError(f"{contender.name} does not find {stage}")
    return samples
