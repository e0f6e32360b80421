"""Pacing: when a loop copies and saves its state, so that both take a small share of the time. Pure: the caller has the clock.

*Copying* the state, as JSON in memory, takes time in proportion to its size; *saving* the copy depends on the medium, too. Each
may use a share of the running time: the interval until the next one is a multiple of its duration. So a state of a kilobyte is
copied after nearly every item and one of a gigabyte every minute or two, and neither slows the loop by more than a few per
cent.

If the caller asked for a save after every N items, it is made whatever it costs.
"""

from __future__ import annotations

from dataclasses import dataclass

_COPYING_SHARE = 0.02
_SAVING_SHARE = 0.03


@dataclass
class Pace:
    """When the next copy and the next save are due.

    Attributes:
        every_seconds: The shortest time between two saves, in seconds.
        every_items: Save after so many items in any case; None if only the time decides.
        next_copy: When the next copy is due.
        next_save: When the next save is due.
        saved_at: After which item the last save was made, or tried.
    """

    every_seconds: float
    every_items: int | None
    next_copy: float = 0.0
    next_save: float = 0.0
    saved_at: int = 0

    def begin(self, done: int, now: float) -> None:
        """Start with so many items done. A copy is due after the first item, to see early whether the state can be saved."""
        self.saved_at = done
        self.next_copy, self.next_save = now, now + self.every_seconds

    def is_copy_due(self, now: float) -> bool:
        """Return whether a copy is due."""
        return now >= self.next_copy

    def is_save_due(self, done: int, now: float) -> bool:
        """Return whether a save is due, with so many items done."""
        return now >= self.next_save or (self.every_items is not None and done - self.saved_at >= self.every_items)

    def copied(self, took: float, now: float) -> None:
        """Note that a copy took so many seconds of computing."""
        self.next_copy = now + took / _COPYING_SHARE

    def saved(self, done: int, took: float, now: float) -> None:
        """Note that a save after so many items, or the attempt, took so many seconds."""
        self.saved_at = done
        self.next_save = now + max(self.every_seconds, took / _SAVING_SHARE)
