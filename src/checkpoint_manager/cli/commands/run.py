"""``run``: any command as a stage, so that shell scripts and Makefiles resume too."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import click

from checkpoint_manager.cli.options import Access, store_options
from checkpoint_manager.cli.output import say, write_bytes, write_json
from checkpoint_manager.cli.selector import stage_names
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from typing import Self

_NOT_FOUND, _NOT_RUNNABLE, _BY_SIGNAL = 127, 126, 128


class CommandFailedError(Exception):
    """The command ended with another exit code than 0; the text says which."""

    def __init__(self, code: int) -> None:
        super().__init__(f"exit code {code}")
        self.code = code


@click.command()
@click.argument("stage", shell_complete=stage_names)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
@click.option("--capture", is_flag=True, help="Save the command's stdout, and print it again when the result is reused.")
@click.option("--again", is_flag=True, help="Run it even if it is done.")
@click.option("--no-wait", is_flag=True, help="If another process is running it, exit with 11 instead of waiting.")
@store_options
def run(access: Access, stage: str, command: tuple[str, ...], *, capture: bool, again: bool, no_wait: bool) -> int:
    """Run a COMMAND as a STAGE: only if it is not done yet, and only once, however many processes ask for it.

    It is done if the same command has ended with exit code 0 before. A command that fails is recorded as a failed version, and
    runs again next time; its exit code is passed on. With --json, the command's stdout goes to stderr.

    \b
    Examples:
      checkpoint-manager run clean -- python clean.py --limit 100
      checkpoint-manager run rows --capture -- curl -s https://example.org/rows.json > rows.json
    """
    cm = access.open()
    if again:
        cm.clear_checkpoint(stage)

    @cm.stage(stage, wait=not no_wait, ignore=["shown"])
    def execute(command: list[str], *, capture: bool, shown: list[int]) -> dict[str, Any]:
        output = _execute(command, capture=capture, quiet=access.as_json)
        shown.append(len(output))
        return {"command": command, "exit_code": 0, **_as_json(output, capture=capture)}

    shown: list[int] = []
    try:
        result = execute(list(command), capture=capture, shown=shown)
    except CommandFailedError as failed:
        _tell(access, cm.run_report().outcomes[-1], failed.code, {})
        return failed.code
    if capture and not shown and not access.as_json:
        write_bytes(_output_of(result))
    _tell(access, cm.run_report().outcomes[-1], 0, result)
    return 0


def _execute(command: list[str], *, capture: bool, quiet: bool) -> bytes:
    """Run the command; what it writes goes on to stdout at once unless ``quiet``, and is kept if ``capture``."""
    stdout = subprocess.PIPE if capture else sys.stderr.fileno() if quiet else None
    kept = bytearray()
    with _PassedOn() as signals, _started(command, stdout) as process:
        signals.to(process)
        while process.stdout is not None and (piece := process.stdout.read1()):  # type: ignore[attr-defined]
            kept += piece
            with contextlib.suppress(BrokenPipeError):  # its reader has gone: what is captured is still worth keeping
                write_bytes(b"" if quiet else piece)
        process.wait()
    if signals.interrupted:
        raise KeyboardInterrupt
    if process.returncode:
        raise CommandFailedError(process.returncode if process.returncode > 0 else _BY_SIGNAL - process.returncode)
    return bytes(kept)


def _started(command: list[str], stdout: int | None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(command, stdout=stdout)  # noqa: S603  # what the user typed
    except OSError as error:
        say(f"error: {display(command[0])}: {error.strerror}")
        raise CommandFailedError(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUNNABLE) from None


class _PassedOn:
    """While this is open, SIGINT and SIGTERM go to the command, and its end is waited for: it may have to clean up.

    Ctrl-C at a terminal reaches the command by itself, and is not sent twice.

    Attributes:
        interrupted: There was a SIGINT.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._process: subprocess.Popen[bytes] | None = None
        self._early: list[int] = []

    def __enter__(self) -> Self:
        self._before = [(number, signal.signal(number, self._take)) for number in (signal.SIGINT, signal.SIGTERM)]
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
        elif number != signal.SIGINT or not _have_the_terminal():
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


def _as_json(output: bytes, *, capture: bool) -> dict[str, str]:
    if not capture:
        return {}
    try:
        return {"stdout": output.decode()}
    except UnicodeDecodeError:
        return {"stdout_base64": base64.b64encode(output).decode()}


def _output_of(result: dict[str, Any]) -> bytes:
    if "stdout" in result:
        return str(result["stdout"]).encode()
    return base64.b64decode(result.get("stdout_base64", ""))


def _tell(access: Access, outcome: Any, code: int, result: dict[str, Any]) -> None:  # noqa: ANN401  # an Outcome
    if access.as_json:
        output = {name: value for name, value in result.items() if name.startswith("stdout")}
        fields = {"stage": outcome.stage, "what": outcome.what, "version": outcome.version, "why": outcome.why}
        write_json("run", {**fields, "exit_code": code, **output})
        return
    version = f" version {outcome.version}" if outcome.version else ""
    why = f" ({outcome.why})" if outcome.why else ""
    ended = "" if code == 0 else f" with exit code {code}"
    sys.stdout.flush()
    say(f"{display(outcome.stage)}: {outcome.what}{ended}{version}{why}")
