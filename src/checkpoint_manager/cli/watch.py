"""Draw something repeatedly at a terminal, on its alternate screen, until q is pressed."""

from __future__ import annotations

import os
import select
import shutil
import signal
import sys
import termios
import tty
from typing import TYPE_CHECKING

from checkpoint_manager._text import counted
from checkpoint_manager.cli.exit_codes import Exit, UsageError
from checkpoint_manager.cli.output import write_text

if TYPE_CHECKING:
    from collections.abc import Callable

_BEGIN, _END = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
"""To the alternate screen without a cursor, and back (xterm's control sequences)."""
_HOME, _TO_END_OF_LINE, _TO_END_OF_SCREEN = "\x1b[H", "\x1b[K", "\x1b[J"


def need_a_terminal(what: str) -> None:
    """Refuse to go on without a terminal.

    Raises:
        UsageError: Stdin or stdout is not one.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"{what} needs a terminal", hint="For a program, run: checkpoint-manager status --json")


def watch(draw: Callable[[], list[list[str]]], title: str, interval: float, noun: str) -> Exit:
    """Draw until q is pressed (exit code 0) or Ctrl-C (130), and put the terminal back as it was.

    Args:
        draw: Returns what to show: rows of lines, each of which is shown as a whole.
        title: Stands above it.
        interval: How long to wait after each drawing, in seconds.
        noun: What a row is.
    """
    keyboard = sys.stdin.fileno()
    before = termios.tcgetattr(keyboard)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # by way of what follows `finally`
    head = f"{title}   every {interval:g} s; q quits"
    try:
        tty.setcbreak(keyboard)
        _show(f"{_BEGIN}{_HOME}{head}")
        while True:
            _show(_screen(head, draw(), noun))
            if select.select([keyboard], [], [], interval)[0] and os.read(keyboard, 64) in {b"q", b"Q", b"\x04", b""}:
                return Exit.DONE
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
        _show(_END)


def _screen(head: str, rows: list[list[str]], noun: str) -> str:
    lines, left = [head, ""], shutil.get_terminal_size().lines - 2
    for number, row in enumerate(rows):
        is_last = number == len(rows) - 1
        if len(row) + (not is_last) > left:  # a line is kept for what does not fit
            lines.append(f"… and {counted(len(rows) - number, f'more {noun}')}")
            break
        lines += row
        left -= len(row)
    return _HOME + "\n".join(f"{line}{_TO_END_OF_LINE}" for line in lines) + _TO_END_OF_SCREEN


def _show(text: str) -> None:
    write_text(text)
