"""What a long history costs: saving at its end, and listing it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from benchmarks import payload
from benchmarks.contenders import floors
from benchmarks.contenders.lean import LEAN
from benchmarks.contenders.ours import OURS
from benchmarks.scale import KIB
from benchmarks.summary import Result, row
from benchmarks.timing import Entrant, Rounds, interleave
from benchmarks.workloads.context import Context, folder_of, opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from benchmarks.contenders.base import Contender

_FLOORS = {floors.SAME_PROTOCOL, LEAN}
_TURNS = 10
"""So many saves at the end of one history; then comes another of that length: version 10 is to stay about version 10."""


def run(context: Context) -> list[Result]:
    kinds = context.choose(_FLOORS, lambda kind: not kind.lacks & {"versions", "sync"})
    value = payload.rows(KIB)
    rounds = context.scale.small
    results = []
    with context.place() as place:
        for kind in kinds:
            context.tell(f"versions: {kind.name} fills histories of {', '.join(map(str, context.scale.versions))}")
            _fill(kind, place, context.scale.versions, rounds, value)
        os.sync()
        context.tell("versions: all save at the end of them")
        with opened(kinds, place) as contenders:
            entrants = [_saver(contender, length, value) for contender in contenders for length in context.scale.versions]
            samples = interleave(entrants, rounds)
            for length in context.scale.versions:
                rows = tuple(row(kind.name, samples[f"{kind.name}@{length}"]) for kind in kinds)
                results.append(Result(f"versions/save at {length}", f"save 1 KiB at version {length:,}", "s", rows))
            results += _first_saves(context, place, value)
            context.tell("versions: all list the longest one")
            longest = context.scale.versions[-1]
            listed = interleave(
                [_lister(contender, _stage(longest, 0), longest) for contender in contenders], context.scale.histories
            )
            rows = tuple(row(name, times) for name, times in listed.items())
            results.append(Result("versions/history", f"list the history of {longest:,} versions", "s", rows))
    return results


def _fill(kind: type[Contender], place: Path, lengths: tuple[int, ...], rounds: Rounds, value: dict[str, Any]) -> None:
    filler = kind(folder_of(kind, place), durable=False)
    for length in lengths:
        for series in range(_series(length, rounds)):
            for _ in range(length - 1):
                filler.save(_stage(length, series), filler.prepare(value))
    filler.close()


def _series(length: int, rounds: Rounds) -> int:
    """Return how many histories of this length are needed; a long one does not change by a few hundred more."""
    return -(-(rounds.most + 1) // _TURNS) if length < 100 else 1


def _stage(length: int, series: int) -> str:
    return f"of {length}, {series}"


def _saver(contender: Contender, length: int, value: dict[str, Any]) -> Entrant:
    turns = 0

    def before(_: int) -> tuple[str, Any]:
        nonlocal turns
        given = contender.prepare(value)
        stage = _stage(length, turns // _TURNS if length < 100 else 0)
        if turns % _TURNS == 0:
            contender.save(stage, given)  # the first one of a handle looks around: not what is compared
        turns += 1
        return stage, given

    return Entrant(f"{contender.name}@{length}", lambda given: contender.save(*given), before)


def _first_saves(context: Context, place: Path, value: dict[str, Any]) -> list[Result]:
    """Save once with each of many managers: each finds out first which version is the newest."""
    context.tell("versions: the first saves of many managers")
    ours = next(kind for kind in context.field if kind.name == OURS)
    entrants = [
        Entrant(str(length), lambda pair: pair[0].save(pair[1], value), _newcomer(ours, place, _stage(length, 0)))
        for length in context.scale.versions
    ]
    samples = interleave(entrants, context.scale.histories)
    return [
        Result(
            f"versions/first save at {length}",
            f"the first save of a manager, at version {length:,}",
            "s",
            (row(OURS, samples[str(length)]),),
        )
        for length in context.scale.versions
    ]


def _newcomer(kind: type[Contender], place: Path, stage: str) -> Callable[[int], tuple[Contender, str]]:
    return lambda _: (kind(folder_of(kind, place)), stage)


def _lister(contender: Contender, stage: str, least: int) -> Entrant:
    def act(_: object) -> None:
        if contender.history(stage) < least:
            raise AssertionError(f"{contender.name} does not list all versions")

    return Entrant(contender.name, act)
