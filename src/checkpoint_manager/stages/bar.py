"""The progress bar of a loop at a terminal. Needs ``rich``, an extra, and is imported only where a bar can be shown.

The bar is drawn on stderr when an item is done, at most ten times a second. It has no thread of its own, so that the loop may
fork. If the terminal goes away, the bar is not drawn any more, and the loop goes on.
"""

from __future__ import annotations

import contextlib
import math
import time
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SECONDS_BETWEEN_DRAWINGS = 0.1


class Bar:
    """A bar on stderr.

    Args:
        title: The text before the bar.
        done: How many items are done already.
        total: How many items there are, or None if that is not known.
        ended: Called once, when the bar is closed.
    """

    def __init__(self, title: str, done: int, total: int | None, ended: Callable[[], object]) -> None:
        self._ended: Callable[[], object] | None = ended
        columns = (
            TextColumn("{task.description}", markup=False),
            *(BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()),
        )
        self._progress = Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False)
        self._task = self._progress.add_task(title, completed=done, total=total)
        self._drawn = 0.0
        with self._if_still_there():
            self._progress.start()

    @contextlib.contextmanager
    def _if_still_there(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError):  # hung up, or closed
            self._drawn = math.inf

    def update(self, done: int) -> None:
        """Draw the bar with so many items done, unless it was drawn a moment ago."""
        now = time.monotonic()
        if now - self._drawn >= _SECONDS_BETWEEN_DRAWINGS:
            self._drawn = now
            with self._if_still_there():
                self._progress.update(self._task, completed=done, refresh=True)

    def close(self) -> None:
        """Remove the bar. May be called again."""
        if self._ended is not None:
            ended, self._ended = self._ended, None
            with self._if_still_there():
                self._progress.stop()
            ended()
