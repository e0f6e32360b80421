"""The command line. Stdout is data; everything else goes to stderr."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "checkpoint-manager"
COMPLETION = "_CHECKPOINT_MANAGER_COMPLETE"
"""The environment variable by which a shell asks for completions."""

_INTERNAL, _INTERRUPTED = 70, 130


def main() -> int:
    """Run the command line on this process's arguments, and return its exit code; see :mod:`.exit_codes`."""
    try:
        _open_what_is_closed()
        with not_interrupted():
            from checkpoint_manager.cli.app import run  # noqa: PLC0415  # needs the extra "cli", and says so where it is missing

        return _done(run(sys.argv[1:]))
    except ModuleNotFoundError as error:
        if error.name not in {"click", "rich"}:
            return _bug()
        _say("error: the command line needs click and rich. Run: pip install 'checkpoint-manager[cli]'\n")
        return 2
    except KeyboardInterrupt:  # before the program began, or while it reported another interruption
        _say("interrupted: the store is whole\n")
        return _INTERRUPTED
    except Exception:  # noqa: BLE001  # Python would exit with 1, which scripts read as "no"
        return _bug()


def _bug() -> int:
    with contextlib.suppress(OSError):
        sys.excepthook(*sys.exc_info())
    _say("error: this is a bug of checkpoint-manager. Please report it with the lines above\n")
    return _INTERNAL


def _say(text: str) -> None:
    with contextlib.suppress(OSError):  # stderr may be full or closed; the exit code tells
        sys.stderr.write(text)


def _done(code: int) -> int:
    """Let Ctrl-C end the process at once while Python shuts down; return the code."""
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)  # registered last, done first
    return code


@contextlib.contextmanager
def not_interrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block ends: in the middle of an import, Python may lose it with a traceback, or crash."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _open_what_is_closed() -> None:
    """Open stdin, stdout and stderr if they are closed: the next file opened, a checkpoint, would get their numbers."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)  # noqa: FBT003
    os.close(descriptor)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # for as long as the process lives
