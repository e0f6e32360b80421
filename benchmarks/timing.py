"""Interleaved runs: all contenders take turns, in another order each round, so that what the machine does meets all alike."""

from __future__ import annotations

import os
import random
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


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
        every: It takes its turn in one of so many rounds.
        leaves_dirt: What it writes is not synced: the disk is brought to rest after its turn, or the next one would pay for it.
    """

    name: str
    act: Callable[[Any], object]
    before: Callable[[int], object] = int
    every: int = 1
    leaves_dirt: bool = False


def interleave(entrants: Sequence[Entrant], rounds: Rounds) -> dict[str, list[float]]:
    """Return the seconds that each turn took, by name. The first round warms up and does not count."""
    samples: dict[str, list[float]] = {entrant.name: [] for entrant in entrants}
    chance = random.Random(0)
    _round(entrants, 0, {entrant.name: [] for entrant in entrants})
    started, number = time.perf_counter(), 0
    while number < rounds.least or (number < rounds.most and time.perf_counter() - started < rounds.seconds):
        number += 1
        turns = [entrant for entrant in entrants if number % entrant.every == 0]
        chance.shuffle(turns)
        _round(turns, number, samples)
    late = [entrant for entrant in entrants if not samples[entrant.name]]
    _round(late, number + 1, samples)
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
