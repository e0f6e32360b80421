"""The command line. Stdout is data; everything else goes to stderr.

This module and the package itself load nothing but what the interpreter has loaded already, so that Ctrl-C finds :func:`main`
running as soon as possible. Before that, while the interpreter starts, Python answers it with a traceback of its own, and the
same exit code.
"""

from __future__ import annotations

import errno
import os
import sys

TYPE_CHECKING = False  # as in typing, which takes long to import
if TYPE_CHECKING:
    from typing import TextIO

NAME = "checkpoint-manager"
DEFAULT_STORE = "checkpoints"
COMPLETION = "_CHECKPOINT_MANAGER_COMPLETE"
"""The environment variable by which a shell asks for completions."""

CLOSE_SOME_FILES = "Close some of the files that this process has open, or raise the limit (ulimit -n)"
"""The hint of an error of the system that is met before a store is."""

_STORAGE, _INTERNAL, _INTERRUPTED = 20, 70, 130


def main() -> int:
    """Run the command line on this process's arguments, and return its exit code; see :mod:`.exit_codes`.

    What :mod:`.plain_has` answers ends the process here.
    """
    try:
        return _settled(_command())
    except KeyboardInterrupt:  # before the program began, while it reported another interruption, or at its end
        _say("interrupted: nothing is left half done\n")
        return _settled(_INTERRUPTED)


def _command() -> int:
    try:
        _open_what_is_closed()
        from checkpoint_manager.cli import interrupts  # noqa: PLC0415  # not before Ctrl-C is caught

        with interrupts.held_back():
            from checkpoint_manager.cli import plain_has  # noqa: PLC0415  # likewise

        code = plain_has.answer(sys.argv[1:])
        if code is not None:
            interrupts.end_now(_settled(code))  # a reader leaves nothing to clean up: no thread, no file that is half written
            return code
        with interrupts.held_back():
            from checkpoint_manager.cli.app import run  # noqa: PLC0415  # needs the extra "cli", and says so where it is missing

        code = run(sys.argv[1:])
        interrupts.end_at_once()
        return code  # noqa: TRY300  # what is raised up to here is told
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            return _bug()
        _say("error: the command line needs click and rich. Run: pip install 'checkpoint-manager[cli]'\n")
        return 2
    except Exception as error:  # noqa: BLE001  # Python would exit with 1, which scripts read as "no"
        return _unreadable(error) if isinstance(error, OSError) else _bug()


def _settled(code: int) -> int:
    """Return the exit code when all is written that is to be told.

    What stdout or stderr refuses is thrown away: Python would try once more at its end, and exit with 120.
    """
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # its reader has read enough
        discard(sys.stdout)
    except OSError as error:
        discard(sys.stdout)
        if code == 0:
            _say(f"error: the output: {error.strerror or error}\n")
            code = _STORAGE
    try:
        sys.stderr.flush()
    except OSError:
        discard(sys.stderr)
    return code


def discard(stream: TextIO) -> None:
    """Throw away what is still to be written to a stream."""
    try:
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, stream.fileno())
        os.close(nothing)
    except (OSError, ValueError):  # it has no descriptor
        pass


def _unreadable(error: OSError) -> int:
    """Say that the system does not let the program read its own files: what a command meets has been told."""
    hint = f". {CLOSE_SOME_FILES}" if error.errno == errno.EMFILE else ""
    _say(f"error: the program can't be loaded: {error.strerror or 'the system refused'}{hint}\n")
    return _STORAGE


def _bug() -> int:
    try:  # noqa: SIM105  # contextlib takes long to import
        sys.excepthook(*sys.exc_info())
    except OSError:
        pass
    _say("error: this is a bug of checkpoint-manager. Please report it with the lines above\n")
    return _INTERNAL


def _say(text: str) -> None:
    try:  # noqa: SIM105  # likewise
        sys.stderr.write(text)
    except OSError:  # stderr may be full or closed; the exit code tells
        pass


def _open_what_is_closed() -> None:
    """Open stdin, stdout and stderr if they are closed: the next file opened, a checkpoint, would get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # for as long as the process lives
