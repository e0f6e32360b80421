"""Loading: the newest by size, and any one of a thousand versions."""

from __future__ import annotations

import gc
import os
import random
from typing import TYPE_CHECKING, Any

from benchmarks import payload
from benchmarks.contenders import floors
from benchmarks.contenders.lean import LEAN
from benchmarks.scale import KIB, MB
from benchmarks.summary import Result, row
from benchmarks.timing import Entrant, interleave
from benchmarks.workloads.context import Context, folder_of, opened

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.contenders.base import Contender

_FLOORS = {floors.JSON_BARE, floors.SEALED, LEAN}
_STAGE = "train"


def run(context: Context) -> list[Result]:
    kinds = context.choose(_FLOORS, slow=True)
    newest = [_newest(context, kinds, name, size) for name, size in context.scale.sizes.items()]
    return [*newest, _any_of_many(context, [kind for kind in kinds if not kind.slow and "versions" not in kind.lacks])]


def _newest(context: Context, kinds: list[type[Contender]], name: str, size: int) -> Result:
    context.tell(f"load {name}")
    value = payload.rows(size)
    gc.collect()
    gc.freeze()
    with context.place() as place:
        for kind in kinds:
            writer = kind(folder_of(kind, place))
            writer.save(_STAGE, writer.prepare(value))
            writer.close()
        os.sync()
        with opened(kinds, place) as contenders:
            entrants = [Entrant(one.name, _load(one), yields=one.kind == "peer") for one in contenders]
            samples = interleave(entrants, context.scale.small if size < MB else context.scale.large)
    gc.unfreeze()
    return Result(f"load/{name}", f"load the newest, {name}", "s", tuple(row(*figures) for figures in samples.items()))


def _load(contender: Contender) -> Callable[[Any], Any]:
    return lambda _: contender.load(_STAGE)


def _any_of_many(context: Context, kinds: list[type[Contender]]) -> Result:
    count = context.scale.any_of
    context.tell(f"load any of {count} versions")
    value = payload.rows(KIB)
    chance = random.Random(0)
    with context.place() as place:
        versions: dict[str, list[Any]] = {}
        for kind in kinds:
            writer = kind(folder_of(kind, place), durable=False)
            versions[kind.name] = [writer.save(_STAGE, writer.prepare(value | {"step": 1_000_000 + k})) for k in range(count)]
            writer.close()
        os.sync()
        with opened(kinds, place) as contenders:
            entrants = [_picker(contender, versions[contender.name], chance) for contender in contenders]
            samples = interleave(entrants, context.scale.small)
    rows = tuple(row(name, times) for name, times in samples.items())
    return Result(f"load/any of {count}", f"load any of {count:,} versions, 1 KiB", "s", rows, context.without_versions())


def _picker(contender: Contender, versions: list[Any], chance: random.Random) -> Entrant:
    def act(number: Any) -> None:
        if contender.load(_STAGE, versions[number])["step"] != 1_000_000 + number:
            raise AssertionError(f"{contender.name} loads another version than it was asked for")

    return Entrant(contender.name, act, lambda _: chance.randrange(len(versions)))
