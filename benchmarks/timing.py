"""Interleaved runs: all contenders take turns, in another order each round, so that what the machine does meets all alike."""

from __future__ import annotations

import os
import random
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_LEAST_SHARE = 0.1
_LEAST_TURNS = 3
_PATIENCE = 15
"""How many seconds more the least number of rounds may take: on a slow disk there are fewer."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often: until ``seconds`` are over, but ``least`` rounds and ``most``. ``_PATIENCE`` bounds the rest."""

    seconds: float
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Entrant:
    """One who takes turns.

    Attributes:
        name: The contender's.
        act: What is measured, given what ``before`` returned.
        before: What is done before the clock starts; it is given the number of the round.
        yields: It leaves its turn to the others while it has used more than its share of the time, but takes a few in any case:
            what is slow is not to keep the others from being measured often.
        leaves_dirt: What it writes is not synced: the disk is brought to rest after its turn, or the next one would pay for it.
    """

    name: str
    act: Callable[[Any], object]
    before: Callable[[int], object] = int
    yields: bool = False
    leaves_dirt: bool = False


def interleave(
    entrants: Sequence[Entrant], rounds: Rounds, cpu: dict[str, list[float]] | None = None
) -> dict[str, list[float]]:
    """Return the seconds that each turn took, by name. What is done first warms up and does not count.

    Args:
        entrants: Who takes turns.
        rounds: How many.
        cpu: Is filled with the seconds of this thread's processor time.
    """
    chance = random.Random(0)
    _round([entrant for entrant in entrants if not entrant.yields], 0, {entrant.name: [] for entrant in entrants})
    samples: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    share = max(_LEAST_SHARE, 2 / len(entrants))
    started, number = time.perf_counter(), 0
    while number < rounds.most:
        spent = time.perf_counter() - started
        if number and (spent >= rounds.seconds + _PATIENCE or (spent >= rounds.seconds and number >= rounds.least)):
            break
        number += 1
        allowed = (time.perf_counter() - started) * share
        turns = [entrant for entrant in entrants if not entrant.yields or sum(samples[entrant.name]) <= allowed]
        chance.shuffle(turns)
        _round(turns, number, samples, cpu)
    for entrant in entrants:
        while len(samples[entrant.name]) < min(_LEAST_TURNS, 1 + rounds.least // 4):
            number += 1
            _round([entrant], number, samples)
    cold = {entrant.name for entrant in entrants if entrant.yields}
    return {name: times[1:] if name in cold and len(times) > _LEAST_TURNS else times for name, times in samples.items()}


def median_ms(act: Callable[[], object], times: int) -> float:
    """Return the median of several runs, one after the other, in milliseconds."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        act()
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def _round(
    turns: Sequence[Entrant], number: int, samples: dict[str, list[float]], cpu: dict[str, list[float]] | None = None
) -> None:
    for entrant in turns:
        given = entrant.before(number)
        used = time.thread_time()
        started = time.perf_counter()
        result = entrant.act(given)
        samples[entrant.name].append(time.perf_counter() - started)
        if cpu is not None:
            cpu.setdefault(entrant.name, []).append(time.thread_time() - used)
        del result  # the time to free it is the caller's
        if entrant.leaves_dirt:
            os.sync()
