"""Wait for a lock in the kernel's own queue: first come, first served, without polling.

`flock(2)` has no timeout. So a thread waits for the lock, with a duplicate of the descriptor, and the caller waits for the
thread. A caller that gives up closes its own descriptor and leaves the thread in the queue; when its turn comes, the thread
closes the last descriptor, which frees the lock. The cost is a thread for as long as the holder keeps the lock. So short waits
use none, their number is limited, and a caller without a thread polls.

Starting a thread takes longer than handing a lock over. So a thread whose wait is over stays for a moment, for the next wait of
this process: under contention, that follows at once. It does not stay longer, because a program may be about to fork.

A signal handler may enter this module while the same thread is in it. So it uses only primitives that the interpreter executes
in one step, and not those of :mod:`threading`, which contain further locks.
"""

from __future__ import annotations

import _thread
import fcntl
import io
import math
import operator
import os
import threading
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem.os_errors import passing_over_refusals

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORTEST_WAIT = 0.5
_MOST_THREADS = 64
_SECONDS_IDLE = 0.02
"""How long a thread stays for the next wait: a few saves on a fast disk. On a slow one, starting a thread matters little."""

_seats: list[None] = [None] * _MOST_THREADS
"""One for each thread that may be started."""
_idle: list[None] = []
"""One for each thread that stays, and on which no caller counts yet."""
_next: SimpleQueue[_Place] = SimpleQueue()
"""For the threads on which callers count."""


def wait_in_turn(
    descriptor: int, timeout: float, open_into: Callable[[io.FileIO, Callable[[int], int], int], object]
) -> bool | None:
    """Take the lock of an open file, waiting for at most ``timeout`` seconds.

    Args:
        descriptor: The open file.
        timeout: How long to wait, in seconds.
        open_into: Opens a descriptor for a file object so that no forked child keeps it; see :mod:`.lock`.

    Returns:
        Whether it was taken; None if this is not the way to wait. If False, the caller closes the descriptor.

    Raises:
        OSError: The kernel refused.
    """
    if timeout < _SHORTEST_WAIT:
        return None
    place = _Place()
    try:
        open_into(place, os.dup, descriptor)
        is_taken = _hand_to_idle_thread(place) or _hand_to_new_thread(place)
    except BaseException:
        place.close_it()
        raise
    if not is_taken:
        place.close_it()
        return None
    return place.wait(timeout)


class _Place(io.FileIO):
    """One place in the queue; closed when its turn has come."""

    def __init__(self) -> None:
        self._waiting = _thread.allocate_lock()
        self._waiting.acquire()
        self._error: OSError | ValueError | None = None

    def stand(self) -> None:
        try:
            _in_one_step(partial(fcntl.flock, self, fcntl.LOCK_EX), self._waiting.release)
        except (OSError, ValueError) as error:  # ValueError: the caller was interrupted, and has closed it
            self._error = error
            self._waiting.release()
        self.close_it()

    def close_it(self) -> None:
        with passing_over_refusals():
            self.close()

    def wait(self, timeout: float) -> bool:
        if not self._waiting.acquire(timeout=-1 if math.isinf(timeout) else min(timeout, threading.TIMEOUT_MAX)):
            return False
        if self._error is not None:
            raise self._error
        return True


def _hand_to_idle_thread(place: _Place) -> bool:
    """Let a thread that stays wait at a place; return False if there is none."""
    try:
        _in_one_step(_idle.pop, partial(_next.put, place))
    except IndexError:
        return False
    return True


def _hand_to_new_thread(place: _Place) -> bool:
    """Let a new thread wait at a place; return False if no more may be started."""
    try:
        _in_one_step(_seats.pop, partial(_thread.start_new_thread, _wait_at, (place,)))
    except IndexError:
        return False
    except RuntimeError:  # no more threads, or the interpreter is ending
        _seats.append(None)
        return False
    return True


def _in_one_step(*calls: Callable[[], object]) -> None:
    """Call functions of the interpreter's own with no signal handler in between."""
    [*map(operator.call, calls)]


def _wait_at(place: _Place | None) -> None:
    """Wait at a place, and at the next ones as long as they follow at once."""
    while place is not None:
        place.stand()
        place = None
        _idle.append(None)
        try:
            place = _next.get(timeout=_SECONDS_IDLE)
        except Empty:
            try:
                _idle.pop()
            except IndexError:  # a caller counts on this thread
                place = _next.get()
    _seats.append(None)


def _start_without_threads() -> None:
    global _next  # noqa: PLW0603  # what its parent's threads were to do
    _seats[:] = [None] * _MOST_THREADS
    _idle.clear()
    _next = SimpleQueue()


os.register_at_fork(after_in_child=_start_without_threads)  # its parent's are not there
