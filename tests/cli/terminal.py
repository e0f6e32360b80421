"""The program at a real terminal: what is typed goes in at one end, what is shown comes out there."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import termios
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from typing import IO, NoReturn, Self

_SECONDS = 60
_LEAD = "import fcntl, os, sys, termios; fcntl.ioctl(2, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
"""Makes the terminal the session's own, so that Ctrl-C is a signal, and becomes the program. It imports nothing else."""


class Terminal:
    """The program, with a terminal as stdout and stderr, and as stdin unless a file is given, for one ``with`` block."""

    def __init__(self, *arguments: str, columns: int = 100, stdin: IO[bytes] | None = None, **environment: str) -> None:
        self._ours, self._theirs = pty.openpty()
        termios.tcsetwinsize(self._ours, (24, columns))
        settings = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "COLUMNS", "LINES"}}
        self.before = termios.tcgetattr(self._theirs)
        self._child = subprocess.Popen(
            [sys.executable, "-S", "-E", "-c", _LEAD, sys.executable, "-m", "checkpoint_manager", *arguments],
            stdin=self._theirs if stdin is None else stdin,
            stdout=self._theirs,
            stderr=self._theirs,
            env=settings | {"TERM": "xterm"} | environment,
            start_new_session=True,
        )
        self.shown = ""
        self._read = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.wait()
        os.close(self._ours)
        os.close(self._theirs)

    def until(self, text: str) -> None:
        """Wait until a text is shown, after what was waited for before. White space is as good as any other."""
        pattern = re.compile(r"\s+".join(map(re.escape, text.split(" "))))
        deadline = time.monotonic() + _SECONDS
        while not (match := pattern.search(self.shown, self._read)):
            if time.monotonic() > deadline:
                self._fail(f"{text!r} is not shown")
            self._more(1)
        self._read = match.end()

    @property
    def pid(self) -> int:
        return self._child.pid

    def type(self, keys: str) -> None:
        os.write(self._ours, keys.encode(errors="surrogateescape"))

    def send(self, number: int) -> None:
        self._child.send_signal(number)

    def answer(self, question: str, answer: str) -> None:
        """Answer a question: with the space at its end, for what is typed before it is thrown away."""
        self.until(f"{question}: ")
        self.type(f"{answer}\n")

    def end(self) -> int:
        """Wait for the program's end, and return its exit code."""
        deadline = time.monotonic() + _SECONDS
        while self._child.poll() is None:
            if time.monotonic() > deadline:
                self._fail("it does not end")
            self._more(0.05)
        while self._more(0):
            pass
        return self._child.returncode

    @property
    def settings(self) -> list[object]:
        return termios.tcgetattr(self._theirs)

    def _fail(self, why: str) -> NoReturn:
        self._child.kill()  # whatever else waits for it ends, too
        pytest.fail(f"{why}: {self.shown[-5000:]!r}")

    def _more(self, seconds: float) -> bool:
        if not select.select([self._ours], [], [], seconds)[0]:
            return False
        self.shown += os.read(self._ours, 65536).decode(errors="replace")
        return True
