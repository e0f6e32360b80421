"""Pages go first: while one is being made, the threads that look at stores in the background wait."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

_LONGEST_SECONDS = 0.3
"""How long a step in the background waits at most, so that it gets on even if pages are requested all the time."""


class Pace:
    """Counts the pages that are being made in this process. Threads share it."""

    def __init__(self) -> None:
        self._is_changed = threading.Condition()
        self._pages = 0

    def making_a_page(self) -> AbstractContextManager[None]:
        """Go first until the end of the block."""
        return self._counted(1)

    def waiting(self) -> AbstractContextManager[None]:
        """Let the background go on until the end of the block: a page waits for it."""
        return self._counted(-1)

    def give_way(self) -> None:
        """Wait, in the background, until no page is being made."""
        if self._pages > 0:
            with self._is_changed:
                self._is_changed.wait_for(lambda: self._pages <= 0, _LONGEST_SECONDS)

    @contextlib.contextmanager
    def _counted(self, number: int) -> Iterator[None]:
        self._add(number)
        try:
            yield
        finally:
            self._add(-number)

    def _add(self, number: int) -> None:
        with self._is_changed:
            self._pages += number
            self._is_changed.notify_all()


PACE = Pace()
"""The pace of this process."""
