"""The skip decision of a pipeline that starts again: is this stage done? Asked for each of many stages, and once more."""

from __future__ import annotations

import math
import os
import random
import time
from typing import TYPE_CHECKING

from benchmarks import payload
from benchmarks.contenders import floors
from benchmarks.contenders.lean import LEAN
from benchmarks.scale import KIB
from benchmarks.summary import Result, Row, row
from benchmarks.workloads.context import Context, folder_of, opened

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.contenders.base import Contender

_BLOCK = 100
"""So many questions in a row to one contender, as a pipeline asks them, before the next one's turn."""
_AGAIN = 2000
"""So many are asked about a second time: each takes the same way."""
_FLOORS = {floors.SEALED, LEAN}


def run(context: Context) -> list[Result]:
    kinds = context.choose(_FLOORS)
    count = context.scale.stages
    with context.place() as place:
        filled = {}
        for kind in kinds:
            context.tell(f"skip: {kind.name} saves {count} stages")
            filled[kind.name] = _fill(kind, place, count, context.scale.fill_seconds if kind.kind == "peer" else math.inf)
        os.sync()
        context.tell(f"skip: all are asked about {count} stages")
        with opened(kinds, place) as contenders:
            samples = _ask(contenders, filled)
            context.tell("skip: and once more")
            again = _ask(contenders, {name: min(there, _AGAIN) for name, there in filled.items()})
    few = {
        name: f"it saved only {there:,} in {context.scale.fill_seconds} s" for name, there in filled.items() if there < count
    }
    each = tuple(row(name, times, few.get(name, "")) for name, times in samples.items())
    total = tuple(Row(name, sum(times)) for name, times in samples.items() if name not in few)
    return [
        Result(f"skip/each of {count}", f"has_checkpoint, 1 KiB, each of {count:,} stages", "s", each),
        Result(
            f"skip/again of {count}",
            "the same, asked again by the same process",
            "s",
            tuple(row(*each) for each in again.items()),
        ),
        Result(f"skip/all of {count}", f"has_checkpoint, {count:,} stages together", "s", total, few),
    ]


def _fill(kind: type[Contender], place: Path, count: int, seconds: float) -> int:
    """Save stages until all are there or the time is over, and return how many there are."""
    filler = kind(folder_of(kind, place), durable=False)
    given = filler.prepare(payload.rows(KIB))
    number, ends = 0, time.perf_counter() + seconds
    while number < count and time.perf_counter() < ends:
        filler.save(_stage(number), given)
        number += 1
    filler.close()
    return number


def _stage(number: int) -> str:
    return f"stage {number}"


def _ask(contenders: list[Contender], filled: dict[str, int]) -> dict[str, list[float]]:
    samples: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    chance = random.Random(0)
    for start in range(0, max(filled.values()), _BLOCK):
        for contender in chance.sample(contenders, len(contenders)):
            times = samples[contender.name]
            for number in range(start, min(start + _BLOCK, filled[contender.name])):
                stage = _stage(number)
                started = time.perf_counter()
                done = contender.has(stage)
                times.append(time.perf_counter() - started)
                if not done:
                    raise AssertionError(f"{contender.name} does not find {stage}")
    return samples
