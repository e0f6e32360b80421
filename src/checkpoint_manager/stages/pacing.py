"""When it is time to save, so that saving costs little. Pure: it is told what time it is.

Two things cost time. To *copy* the state, as JSON in memory, takes as long as the state is large; to *save* the copy takes a
few system calls more, and a medium that may be slow. Each gets a share of the running time that it may use: the interval
after one is at least so many times what it took. So a state of a kilobyte is copied after nearly each item, one of a gigabyte
every minute or two, and neither slows the loop by more than a few per cent.

What the caller asked for by number of items is done to the item, whatever it costs.
"""

from __future__ import annotations

from dataclasses import dataclass

_COPYING_SHARE = 0.02
_SAVING_SHARE = 0.03


@dataclass
class Pace:
    """Says when the next copy and the next save are due.

    Attributes:
        every_seconds: The shortest time between two saves, in seconds.
        every_items: Save after so many items in any case; None: time alone decides.
        next_copy: When the next copy is due.
        next_save: When the next save is due.
        saved_at: After which item was last saved, or tried to.
    """

    every_seconds: float
    every_items: int | None
    next_copy: float = 0.0
    next_save: float = 0.0
    saved_at: int = 0

    def begin(self, done: int, now: float) -> None:
        """Start with so many items done, at this time: copy after the first item, to see that the state can be saved."""
        self.saved_at = done
        self.next_copy, self.next_save = now, now + self.every_seconds

    def is_copy_due(self, now: float) -> bool:
        """Whether there is time for a copy."""
        return now >= self.next_copy

    def is_save_due(self, done: int, now: float) -> bool:
        """Whether to save now, with so many items done."""
        return now >= self.next_save or (self.every_items is not None and done - self.saved_at >= self.every_items)

    def copied(self, took: float, now: float) -> None:
        """A copy took so many seconds of computing."""
        self.next_copy = now + took / _COPYING_SHARE

    def saved(self, done: int, took: float, now: float) -> None:
        """A save after so many items, or the attempt, took so many seconds."""
        self.saved_at = done
        self.next_save = now + max(self.every_seconds, took / _SAVING_SHARE)
