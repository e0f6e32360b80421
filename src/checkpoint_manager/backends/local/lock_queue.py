"""Wait for a lock in the kernel's own queue: first come, first served, without polling.

`flock(2)` has no timeout. So a thread waits for the lock, with a duplicate of the descriptor, and the caller waits for the
thread. A caller that gives up closes its own descriptor and leaves the thread in the queue; when its turn comes, the thread
closes the last descriptor, which frees the lock. The cost is a thread for as long as the holder keeps the lock. So short waits
use none, their number is limited, and a caller without a thread polls.

A signal handler may enter this module while the same thread is in it. So it uses only primitives that the interpreter executes
in one step, and not those of :mod:`threading`, which contain further locks.
"""

from __future__ import annotations

import _thread
import fcntl
import io
import math
import os
import threading
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem.os_errors import passing_over_refusals

if TYPE_CHECKING:
    from collections.abc import Callable

_SHORTEST_WAIT = 0.5
_MOST_THREADS = 64

_seats: list[None] = [None] * _MOST_THREADS
"""One for each thread that may wait."""


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
    try:
        _seats.pop()
    except IndexError:
        return None
    place = _Place()
    try:
        open_into(place, os.dup, descriptor)
        _thread.start_new_thread(place.stand, ())
    except RuntimeError:  # no more threads, or the interpreter is ending
        place.leave()
        return None
    except BaseException:
        place.leave()
        raise
    return place.wait(timeout)


class _Place(io.FileIO):
    """One place in the queue; closed when its turn has come."""

    def __init__(self) -> None:
        self._left = False
        self._waiting = _thread.allocate_lock()
        self._waiting.acquire()
        self._error: OSError | None = None

    def stand(self) -> None:
        try:
            fcntl.flock(self.fileno(), fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        self.leave()

    def leave(self) -> None:
        with passing_over_refusals():
            self.close()
        _seats.append(None)
        self._waiting.release()

    def wait(self, timeout: float) -> bool:
        if not self._waiting.acquire(timeout=-1 if math.isinf(timeout) else min(timeout, threading.TIMEOUT_MAX)):
            return False
        if self._error is not None:
            raise self._error
        return True


def _free_all_seats() -> None:
    _seats[:] = [None] * _MOST_THREADS


os.register_at_fork(after_in_child=_free_all_seats)  # its parent's threads are not there
