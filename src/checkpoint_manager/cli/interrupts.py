"""Ctrl-C at moments when the interpreter would answer it badly."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def held_back() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: in the middle of an import, Python may lose it with a traceback, or crash."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_now(code: int) -> None:
    """End the process without Python's shutdown, which takes as long as a seventh of the answer to ``has``.

    That skips the handlers of :mod:`atexit`, threads, destructors and what is buffered: call it only where none of them has
    anything left to do.
    """
    os._exit(code)


def end_at_once() -> None:
    """Let Python shut down at once: Ctrl-C ends it, and the collector does not search all modules for what is garbage."""
    atexit.register(gc.freeze)
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # registered last, done first
