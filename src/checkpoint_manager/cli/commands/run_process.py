"""Start the command of ``run`` and wait for its end: signals go to it, the lock of the run is its own, stderr is kept."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import subprocess
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

from checkpoint_manager._text import printable
from checkpoint_manager.cli.commands.run_stderr import Relay
from checkpoint_manager.cli.output import say, write_bytes
from checkpoint_manager.stages import FailedCallError
from checkpoint_manager.stages.report import duration

if TYPE_CHECKING:
    from typing import Self

    from checkpoint_manager.cli.commands.run_files import Stdin

_TIMED_OUT, _NOT_RUNNABLE, _NOT_FOUND, _BY_SIGNAL = 124, 126, 127, 128
"""Exit codes, as those of ``timeout`` and of shells."""
_GRACE = 10.0
"""How long a command may take to end after SIGTERM, in seconds."""
_FROM_THE_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (*_FROM_THE_KEYBOARD, signal.SIGTERM, signal.SIGHUP)


class CommandFailedError(FailedCallError):
    """The command ended with another exit code than 0; the record has it, and the last lines of the command's stderr."""

    def __init__(self, code: int, command: list[str], stderr: str = "", *, is_final: bool = False) -> None:
        words = [storable_word(word) for word in command]
        last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
        record = {"command": words, "exit_code": code, "stderr": stderr}
        super().__init__(f"exit code {code}", last, record, is_final=is_final)
        self.code = code


def storable_word(word: str) -> str | dict[str, str]:
    """Return a word of a command as JSON can hold it: one that is not UTF-8, such as a file name in Latin-1, by its bytes."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return {"base64": base64.b64encode(os.fsencode(word)).decode()}
    return word


@dataclass(frozen=True)
class Process:
    """How a command is run.

    Attributes:
        words: Its words.
        environment: Its environment.
        stdin: Its stdin.
        timeout: After how many seconds it is stopped.
        is_captured: What it writes to stdout is returned.
        is_shown: It has this program's stdout; what is captured is shown there at once, too.
    """

    words: list[str]
    environment: dict[str, str]
    stdin: Stdin
    _: KW_ONLY
    timeout: float | None = None
    is_captured: bool = False
    is_shown: bool = True

    def run(self, locks: list[int]) -> bytes:
        """Run the command, and return what was captured.

        Args:
            locks: The descriptors that hold the lock of the run. The command inherits them, so that the lock lives as long as
                it.

        Raises:
            CommandFailedError: It can't be started, ended with another exit code than 0, or took longer than the timeout.
        """
        kept = bytearray()
        with _PassedOn(self.timeout) as signals:
            relay = Relay(_PASSED_ON)  # not before: a Ctrl-C in its first moments would end it
            with self._start(locks, relay) as process:
                signals.to(process)
                relay.started()
                guard = _guard(process) if locks else None
                while process.stdout is not None and (piece := process.stdout.read1()):  # type: ignore[attr-defined]
                    kept += piece
                    with contextlib.suppress(BrokenPipeError):  # its reader has gone: what is captured is still worth keeping
                        write_bytes(piece if self.is_shown else b"")
                process.wait()
        if guard is not None:
            os.waitpid(guard, 0)
        stderr = relay.last_lines()
        if signals.interrupted:
            raise KeyboardInterrupt
        if signals.is_expired:
            why = f"took longer than {duration(self.timeout or 0)}, and was stopped"
            say(f"error: the command {why}")
            raise CommandFailedError(_TIMED_OUT, self.words, f"{stderr}\nit {why}".strip())
        if process.returncode:
            code = process.returncode if process.returncode > 0 else _BY_SIGNAL - process.returncode
            raise CommandFailedError(code, self.words, stderr, is_final=signals.were_passed_on)
        return bytes(kept)

    def _start(self, locks: list[int], relay: Relay) -> subprocess.Popen[bytes]:
        stderr = relay.descriptor
        stdout = subprocess.PIPE if self.is_captured else None if self.is_shown else stderr
        self.stdin.rewind()
        try:
            return subprocess.Popen(  # noqa: S603  # what the user typed
                self.words,
                stdin=self.stdin.copy,
                stdout=stdout,
                stderr=stderr,
                env=self.environment,
                pass_fds=locks,
                process_group=None if self.timeout is None else 0,
            )
        except OSError as error:
            why = f"{printable(self.words[0])}: {error.strerror}"
            relay.last_lines()
            say(f"error: {why}")
            code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
            raise CommandFailedError(code, self.words, why, is_final=True) from None


def _guard(command: subprocess.Popen[bytes]) -> int | None:
    """Start a process that holds the locks, too, until the command has ended, and return its id; None where that can't be done.

    A command may close the descriptors that it inherits, as ``sudo`` does.
    """
    if not hasattr(os, "pidfd_open"):  # not on Linux
        return None
    with contextlib.suppress(OSError):
        ended = os.pidfd_open(command.pid)
        if guard := os.fork():
            os.close(ended)
            return guard
        for number in _PASSED_ON:
            signal.signal(number, signal.SIG_IGN)
        if command.stdout is not None:  # otherwise the command would block on a full pipe
            os.close(command.stdout.fileno())
        select.select([ended], [], [])
        os._exit(0)
    return None


class _PassedOn:
    """While this is open, signals that ask to end go to the command, and its end is waited for: it may have to clean up.

    Ctrl-C at a terminal reaches the command by itself, and is not sent twice. With a timeout, the command has a process group
    of its own, and signals go to all of it.

    Attributes:
        interrupted: There was a SIGINT.
        were_passed_on: There was a signal that asks to end.
        is_expired: The timeout was over, and the command was told to end.
    """

    def __init__(self, timeout: float | None) -> None:
        self.interrupted = self.were_passed_on = self.is_expired = False
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __enter__(self) -> Self:
        self._before = [(number, signal.signal(number, self._take)) for number in _PASSED_ON]
        if self._timeout is not None:
            self._before.append((signal.SIGALRM, signal.signal(signal.SIGALRM, self._expire)))
        return self

    def __exit__(self, *_: object) -> None:
        if self._timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in self._before:
            signal.signal(number, handler)

    def to(self, process: subprocess.Popen[bytes]) -> None:
        """Name the command's process; it gets what came before it was there, too."""
        self._process = process
        for number in self._early:
            self._send(process, number)
        if self._timeout is not None:
            signal.setitimer(signal.ITIMER_REAL, self._timeout)

    def _take(self, number: int, _: object) -> None:
        self.interrupted |= number == signal.SIGINT
        self.were_passed_on = True
        if self._process is None:
            self._early.append(number)
        elif self._timeout is not None or number not in _FROM_THE_KEYBOARD or not _have_the_terminal():
            self._send(self._process, number)

    def _expire(self, *_: object) -> None:
        if self._process is not None:
            self._send(self._process, signal.SIGKILL if self.is_expired else signal.SIGTERM)
            self.is_expired = True
            signal.setitimer(signal.ITIMER_REAL, _GRACE)

    def _send(self, process: subprocess.Popen[bytes], number: int) -> None:
        if self._timeout is None:
            process.send_signal(number)
        elif process.returncode is None:  # then its number is not another process's yet
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)


def _have_the_terminal() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
