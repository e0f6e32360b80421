"""Interleaved runs: all contenders take turns, in another order each round, so that what the machine does meets all alike."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


_SHARE_OF_SLOW = 0.1
_LEAST_OF_SLOW = 3


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often: until ``seconds`` are over, but ``least`` rounds and ``most``."""

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
        slow: It takes its turn only while it has used little of the time, but once or a few times in any case.
        leaves_dirt: What it writes is not synced: the disk is brought to rest after its turn, or the next one would pay for it.
    """

    name: str
    act: Callable[[Any], object]
    before: Callable[[int], object] = int
    slow: bool = False
    leaves_dirt: bool = False


def interleave(entrants: Sequence[Entrant], rounds: Rounds) -> dict[str, list[float]]:
    """Return the seconds that each turn took, by name. The first round warms up and does not count."""
    chance = random.Random(0)
    _round([entrant for entrant in entrants if not entrant.slow], 0, {entrant.name: [] for entrant in entrants})
    samples: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    started, number = time.perf_counter(), 0
    while number < rounds.least or (number < rounds.most and time.perf_counter() - started < rounds.seconds):
        number += 1
        allowed = (time.perf_counter() - started) * _SHARE_OF_SLOW
        turns = [entrant for entrant in entrants if not entrant.slow or sum(samples[entrant.name]) <= allowed]
        chance.shuffle(turns)
        _round(turns, number, samples)
    for entrant in entrants:
        while len(samples[entrant.name]) < min(_LEAST_OF_SLOW, 1 + rounds.least // 4):
            number += 1
            _round([entrant], number, samples)
    return samples


def _round(turns: Sequence[Entrant], number: int, samples: dict[str, list[float]]) -> None:
    for entrant in turns:
        given = entrant.before(number)
        started = time.perf_counter()
        result = entrant.act(given)
        samples[entrant.name].append(time.perf_counter() - started)
        del result  # the time to free it is the caller's
        if entrant.leaves_dirt:
            os.sync()
