"""Work that pages wait for only for a moment: each piece is done in a thread of its own."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import TYPE_CHECKING, Generic, TypeVar

from checkpoint_manager.dashboard import unexpected
from checkpoint_manager.dashboard.pace import PACE
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable

Made = TypeVar("Made")


def start(name: str, work: Callable[[], None]) -> threading.Thread:
    """Start a thread, and return it. What it logs names the store in commands as the caller would."""
    thread = threading.Thread(target=contextvars.copy_context().run, args=(work,), name=name, daemon=True)
    thread.start()
    return thread


class Job(Generic[Made]):
    """A piece of work in a thread of its own. It begins at once.

    Args:
        what: What it is, as the log calls it if it ends with an unexpected error.
        work: Does it, and returns what it has made.
    """

    def __init__(self, what: str, work: Callable[[], Made]) -> None:
        self._what = what
        self._work = work
        self._made: list[Made] = []
        self._error: CheckpointError | None = None
        self._ended_at = 0.0
        self._is_ended = threading.Event()
        start(what, self._run)

    @property
    def age(self) -> float | None:
        """How many seconds ago it ended; None: it has not."""
        return time.monotonic() - self._ended_at if self._is_ended.is_set() else None

    def wait(self, seconds: float) -> bool:
        """Wait for its end, for so many seconds at most; return whether it has ended."""
        with PACE.waiting():
            return self._is_ended.wait(seconds)

    def result(self) -> Made:
        """Return what it has made, after its end.

        Raises:
            CheckpointError: It could not.
        """
        if self._error is not None:
            raise self._error
        return self._made[0]

    def _run(self) -> None:
        try:
            self._made.append(self._work())
        except CheckpointError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001  # nothing of it reaches a page
            unexpected.log(self._what, error)
            self._error = CheckpointError(unexpected.TOLD)
        finally:
            self._ended_at = time.monotonic()
            self._is_ended.set()
