"""Waiting for a lock in the kernel's own queue: whoever came first is served first, and nobody polls.

`flock(2)` can't wait for a limited time, so a thread does the waiting and the caller waits for the thread, which has a
descriptor of its own for the same open file. A caller who gives up closes the other one and leaves the thread in the queue:
when its turn comes, it closes the last one, and with it the kernel frees the lock. What that costs is the thread, for as long
as the lock's holder stays. So none is used for short waits, which may be many, and there are never more than a few of them; the
caller then looks now and again for itself.
"""

from __future__ import annotations

import fcntl
import math
import os
import threading

from checkpoint_manager.backends.local import lock_descriptors as descriptors

_SHORTEST_WAIT = 0.5
_MOST_THREADS = 64


class _Seats:
    """Counts the threads that wait; a forked child starts with none."""

    def __init__(self) -> None:
        self.free = threading.BoundedSemaphore(_MOST_THREADS)
        os.register_at_fork(after_in_child=self._all_free)

    def _all_free(self) -> None:
        self.free = threading.BoundedSemaphore(_MOST_THREADS)


_seats = _Seats()


def wait_in_turn(descriptor: int, timeout: float) -> bool | None:
    """Take the lock of an open file, waiting for at most ``timeout`` seconds.

    Returns:
        Whether it was taken; None if this is not the way to wait. If False, the caller closes the descriptor.

    Raises:
        OSError: The kernel refused.
    """
    if timeout < _SHORTEST_WAIT or not _seats.free.acquire(blocking=False):
        return None
    try:
        place = _Place(descriptors.opened(lambda: os.dup(descriptor)), _seats.free)
    except BaseException:
        _seats.free.release()
        raise
    try:
        place.start()
    except RuntimeError:  # no more threads, or the interpreter is ending
        place.leave()
        return None
    return place.wait(timeout)


class _Place(threading.Thread):
    """One place in the queue."""

    def __init__(self, descriptor: int, seats: threading.BoundedSemaphore) -> None:
        super().__init__(name="checkpoint_manager: waiting for a lock", daemon=True)
        self._descriptor = descriptor
        self._seats = seats
        self._served = threading.Event()
        self._error: OSError | None = None

    def run(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError as error:
            self._error = error
        self.leave()

    def leave(self) -> None:
        descriptors.close(self._descriptor)
        self._seats.release()
        self._served.set()

    def wait(self, timeout: float) -> bool:
        if not self._served.wait(None if math.isinf(timeout) else min(timeout, threading.TIMEOUT_MAX)):
            return False
        if self._error is not None:
            raise self._error
        return True
