"""Starts the command of ``run`` and waits for its end: signals go to it, the lock of the run is its own, stderr is kept."""

from __future__ import annotations

import base64
import contextlib
import os
import select
import signal
import subprocess
from typing import TYPE_CHECKING

from checkpoint_manager._text import printable
from checkpoint_manager.cli.commands.run_stderr import Relay
from checkpoint_manager.cli.output import say, write_bytes
from checkpoint_manager.stages import FailedCallError

if TYPE_CHECKING:
    from typing import BinaryIO, Self

_NOT_FOUND, _NOT_RUNNABLE, _BY_SIGNAL = 127, 126, 128
_STDERR = 2
_FROM_THE_KEYBOARD = (signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (*_FROM_THE_KEYBOARD, signal.SIGTERM, signal.SIGHUP)


class CommandFailedError(FailedCallError):
    """The command ended with another exit code than 0; the record has it, and the last lines of the command's stderr."""

    def __init__(self, code: int, command: list[str], stderr: str = "") -> None:
        words = [storable_word(word) for word in command]
        last = next((line.strip() for line in reversed(stderr.splitlines()) if line.strip()), "")
        super().__init__(f"exit code {code}", last, {"command": words, "exit_code": code, "stderr": stderr})
        self.code = code


def storable_word(word: str) -> str | dict[str, str]:
    """Return a word of a command as JSON can hold it: one that is not UTF-8, such as a file name in Latin-1, by its bytes."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return {"base64": base64.b64encode(os.fsencode(word)).decode()}
    return word


def run_command(  # two are choices, by name
    command: list[str],
    environment: dict[str, str],
    locks: list[int],
    stdin: BinaryIO | None,
    *,
    capture: bool,
    quiet: bool,
) -> bytes:
    """Run the command.

    Args:
        command: Its words.
        environment: Its environment.
        locks: The descriptors that hold the lock of the run. The command inherits them, so that the lock lives as long as it.
        stdin: Its stdin; None: that of this program.
        capture: Return what it writes to stdout; it goes on to stdout at once, too, unless ``quiet``.
        quiet: Keep stdout free.

    Raises:
        CommandFailedError: It can't be started, or ended with another exit code than 0.
    """
    stdout = subprocess.PIPE if capture else _STDERR if quiet else None
    kept = bytearray()
    relay = Relay(_PASSED_ON)
    with _PassedOn() as signals, _started(command, environment, locks, (stdin, stdout, relay)) as process:
        signals.to(process)
        relay.started()
        guard = _guard(process) if locks else None
        while process.stdout is not None and (piece := process.stdout.read1()):  # type: ignore[attr-defined]
            kept += piece
            with contextlib.suppress(BrokenPipeError):  # its reader has gone: what is captured is still worth keeping
                write_bytes(b"" if quiet else piece)
        process.wait()
    if guard is not None:
        os.waitpid(guard, 0)
    stderr = relay.last_lines()
    if signals.interrupted:
        raise KeyboardInterrupt
    if process.returncode:
        code = process.returncode if process.returncode > 0 else _BY_SIGNAL - process.returncode
        raise CommandFailedError(code, command, stderr)
    return bytes(kept)


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


def _started(
    command: list[str], environment: dict[str, str], locks: list[int], streams: tuple[BinaryIO | None, int | None, Relay]
) -> subprocess.Popen[bytes]:
    stdin, stdout, relay = streams
    stderr = relay.descriptor
    if stdin is not None:
        stdin.seek(0)
    try:
        return subprocess.Popen(  # noqa: S603  # what the user typed
            command, stdin=stdin, stdout=stderr if stdout == _STDERR else stdout, stderr=stderr, env=environment, pass_fds=locks
        )
    except OSError as error:
        why = f"{printable(command[0])}: {error.strerror}"
        relay.last_lines()
        say(f"error: {why}")
        code = _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE
        raise CommandFailedError(code, command, why) from None


class _PassedOn:
    """While this is open, signals that ask to end go to the command, and its end is waited for: it may have to clean up.

    Ctrl-C at a terminal reaches the command by itself, and is not sent twice.

    Attributes:
        interrupted: There was a SIGINT.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __enter__(self) -> Self:
        self._before = [(number, signal.signal(number, self._take)) for number in _PASSED_ON]
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)

    def to(self, process: subprocess.Popen[bytes]) -> None:
        """Name the command's process; it gets what came before it was there, too."""
        self._process = process
        for number in self._early:
            process.send_signal(number)

    def _take(self, number: int, _: object) -> None:
        self.interrupted |= number == signal.SIGINT
        if self._process is None:
            self._early.append(number)
        elif number not in _FROM_THE_KEYBOARD or not _have_the_terminal():
            self._process.send_signal(number)


def _have_the_terminal() -> bool:
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    finally:
        os.close(terminal)
