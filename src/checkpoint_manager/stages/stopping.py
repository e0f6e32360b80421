"""SIGTERM and Ctrl-C while a loop runs: the loop saves the newest whole state, then the process ends as it would have.

The handlers are there while a loop runs in the main thread, and only in place of Python's own: a handler of the caller's is
left alone. At the first signal, a loop whose state is copied is interrupted at once. A state is not copied after each item
where that would slow the loop down, and then the items are quick: so such a loop ends its current item first, and copies the
state. A second signal interrupts in any case.

SIGTERM is raised as ``SystemExit``. When the outermost loop has saved its state, the process gives itself the same signal.
"""

from __future__ import annotations

import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from types import CodeType, FrameType

_DEFAULTS = {signal.SIGTERM: signal.SIG_DFL, signal.SIGINT: signal.default_int_handler}


class Stoppable(Protocol):
    """A loop that runs in the main thread."""

    @property
    def is_copied(self) -> bool:
        """Whether its newest whole state is copied, and it may be interrupted now."""


_loops: list[weakref.ref[Stoppable]] = []
"""Not the loops themselves: one that is interrupted before :func:`end` must not stay, and its lock with it."""
ends: set[CodeType] = set()
"""The functions by which a loop ends. No interrupt is raised in them, only in the functions that they call."""
_before: dict[int, Any] = {}
_pending: list[int] = []
_process: list[int] = []


def begin(loop: Stoppable) -> None:
    """Take care of a loop, until :func:`end`. Does nothing in a thread that gets no signals."""
    if threading.current_thread() is not threading.main_thread():
        return
    if _process != [os.getpid()]:  # a child that was forked in a loop of its parent
        _loops.clear()
        _pending.clear()
        _process[:] = [os.getpid()]
    _loops.append(weakref.ref(loop))
    for number, default in _DEFAULTS.items():
        if signal.getsignal(number) == default:
            _before[number] = default
            signal.signal(number, _take)


def end(loop: Stoppable) -> None:
    """End what :func:`begin` began; after the outermost loop, act on a signal that came. May be called again."""
    running = _running()
    if loop not in running:
        return
    running.remove(loop)
    _loops[:] = map(weakref.ref, running)
    if running or _process != [os.getpid()]:
        return
    for number, default in tuple(_before.items()):
        if signal.getsignal(number) is _take:
            signal.signal(number, default)
        _before.pop(number, None)
    if signal.SIGTERM in _pending:  # pragma: no cover  # the process dies of it, and writes no coverage
        _pending.clear()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)
    if _pending:  # Ctrl-C, while the loop was saved
        stop()


def _running() -> list[Stoppable]:
    return [loop for reference in _loops if (loop := reference()) is not None]


def is_pending() -> bool:
    """Return whether a loop in this thread has to stop after its item."""
    return bool(_pending) and threading.current_thread() is threading.main_thread()


def name_of(error: BaseException) -> str:
    """Return what a loop ends with: SIGTERM, or the type of an exception."""
    return "SIGTERM" if isinstance(error, SystemExit) and signal.SIGTERM in _pending else type(error).__qualname__


def stop() -> None:
    """Raise what the signal that came raises."""
    if signal.SIGTERM in _pending:  # pragma: no cover  # it stays there, until the process dies of it
        raise SystemExit(128 + signal.SIGTERM)
    _pending.clear()
    raise KeyboardInterrupt


def _take(number: int, frame: FrameType | None) -> None:
    running = _running()
    if not running or _process != [os.getpid()]:  # as without a loop
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)  # pragma: no cover  # as above
        os.kill(os.getpid(), number)  # pragma: no cover  # as above
        return  # pragma: no cover  # as above
    is_second = bool(_pending)
    _pending.append(number)
    if frame is not None and frame.f_code in ends:  # no ``try`` stands there yet: :func:`end` acts on it
        return
    if is_second or all(loop.is_copied for loop in running):
        stop()
