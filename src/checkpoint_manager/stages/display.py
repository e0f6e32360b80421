"""Show the progress of a loop: a bar at a terminal, otherwise a line in the log from time to time."""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Protocol

from checkpoint_manager import stages
from checkpoint_manager._text import printable
from checkpoint_manager.stages.report import duration

if TYPE_CHECKING:
    from collections.abc import Callable

_LOG = logging.getLogger("checkpoint_manager")
SECONDS_BETWEEN_LINES = 10.0
_one_bar = threading.Lock()
"""Held while a bar is shown, by the process and the children it forks: two bars would overwrite each other."""


class Display(Protocol):
    """The display of a loop's progress."""

    def update(self, done: int) -> None:
        """Update the number of items done. It is called after each item, so it must be fast."""

    def close(self) -> None:
        """End the display. May be called again."""


def can_show_bar() -> bool:
    """Return whether stderr is a terminal, and ``rich`` is installed; loads it, so to be called before any lock is taken."""
    stderr = sys.stderr  # None where a program has no console at all
    if stderr is None or not stderr.isatty() or os.environ.get("TERM") == "dumb":
        return False
    try:
        return bool(stages.Bar)
    except ImportError:  # an extra
        return False


def open_display(stage: str, done: int, total: int | None, *, bar: bool) -> Display:
    """Return the display of a loop: a bar if one is possible and none is shown yet, otherwise lines in the log."""
    if bar and _one_bar.acquire(blocking=False):
        return stages.Bar(printable(stage), done, total, _one_bar.release)
    return LogLines(stage, done, total)


class LogLines:
    """A display in the log: an INFO line every ten seconds at most, the first one after ten seconds."""

    def __init__(self, stage: str, done: int, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stage = stage
        self._first = done
        self._total = total
        self._clock = clock
        self._started = self._last = clock()

    def update(self, done: int) -> None:
        """Log a line if the last one is ten seconds ago."""
        now = self._clock()
        if now - self._last < SECONDS_BETWEEN_LINES:
            return
        self._last = now
        rate = (done - self._first) / (now - self._started)
        left = ""
        if self._total is not None:
            left = f", {100 * done // self._total} %, about {duration((self._total - done) / rate)} left"
        speed = f"{rate:.1f} a second" if rate >= 1 else f"one in {duration(1 / rate)}"
        _LOG.info("%s: %s done (%s%s)", printable(self._stage), items(done, self._total), speed, left)

    def close(self) -> None:
        """Do nothing: lines in a log stay."""


def items(done: int, total: int | None) -> str:
    """Return the number of items that are done, and of how many if that is known, as text."""
    return f"{done:,} items" if total is None else f"{done:,} of {total:,} items"
