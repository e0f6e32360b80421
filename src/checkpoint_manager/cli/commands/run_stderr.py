"""Pass on what a command writes to stderr, and keep its last lines for the record of a failure.

A process of its own does that. It lives as long as anything writes there: if ``run`` is killed, its command goes on, and what a
command leaves in the background goes on after ``run`` has ended. If stderr is a terminal, the command gets one, too.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import sys
import termios
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_STDERR = 2
_MOST_BYTES, _MOST_LINES = 8192, 20
_PIECE = 65_536
_PATIENCE = 5.0
"""How long to wait for the last lines, in seconds, should the process that has them be stopped."""


class Relay:
    """The process that passes stderr on.

    Attributes:
        descriptor: What the command gets as its stderr; -1 once it is closed here.
    """

    def __init__(self, ignored: Iterable[int]) -> None:
        """Start the process; it ignores the signals ``ignored``."""
        source, self.descriptor = _terminal() if os.isatty(_STDERR) else os.pipe()
        asked, self._ask = os.pipe()
        self._answer, answer = os.pipe()
        sys.stderr.flush()
        self._process = os.fork()
        if not self._process:
            try:
                for number in ignored:
                    signal.signal(number, signal.SIG_IGN)
                for other in (self.descriptor, self._ask, self._answer):
                    os.close(other)
                _relay(source, asked, answer)
            finally:
                os._exit(0)
        for other in (source, asked, answer):
            os.close(other)

    def started(self) -> None:
        """Close this process's copy of the command's stderr: the command has its own."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def last_lines(self) -> str:
        """Return the last lines that were written, once all that was written so far is passed on. Called once."""
        self.started()
        kept = bytearray()
        with contextlib.suppress(OSError):
            os.write(self._ask, b"?")
            while select.select([self._answer], [], [], _PATIENCE)[0] and (piece := os.read(self._answer, _PIECE)):
                kept += piece
        os.close(self._ask)
        os.close(self._answer)
        with contextlib.suppress(OSError):
            os.waitpid(self._process, os.WNOHANG)
        lines = kept.decode("utf-8", "replace").splitlines()[-_MOST_LINES:]
        return "\n".join("".join(each for each in line if each.isprintable() or each == "\t") for line in lines)


def _terminal() -> tuple[int, int]:
    """Return the two ends of a terminal that is like the one at stderr and leaves what is written to it as it is."""
    ours, theirs = pty.openpty()
    modes = termios.tcgetattr(theirs)
    modes[1] &= ~termios.OPOST
    termios.tcsetattr(theirs, termios.TCSANOW, modes)
    with contextlib.suppress(OSError, termios.error):
        termios.tcsetwinsize(theirs, termios.tcgetwinsize(_STDERR))
    return ours, theirs


def _relay(source: int, asked: int, answer: int) -> None:
    """Pass on what comes from ``source`` until its end, and answer with the last of it when asked."""
    kept, waiting = bytearray(), [source, asked]
    while waiting:
        ready = select.select(waiting, [], [])[0]
        if source in ready:
            piece = _read(source)
            if not piece:
                waiting.remove(source)
            kept = (kept + piece)[-_MOST_BYTES:]
            _write(piece)
        elif asked in ready:  # only when nothing is left that was written before
            waiting.remove(asked)
            if os.read(asked, 1):
                with contextlib.suppress(OSError):
                    os.write(answer, kept)
            os.close(answer)


def _read(source: int) -> bytes:
    try:
        return os.read(source, _PIECE)
    except OSError:  # the other end of a terminal is closed
        return b""


def _write(piece: bytes) -> None:
    with contextlib.suppress(OSError):  # its reader has gone
        while piece:
            piece = piece[os.write(_STDERR, piece) :]
