"""Colours at a terminal: whether they may be used, and the colour of each state."""

from __future__ import annotations

import os
import sys
from typing import IO

_STYLES = {
    **dict.fromkeys(("completed", "whole", "ok"), "green"),
    **dict.fromkeys(("progress", "leftover", "exposed", "clock", "warning"), "yellow"),
    **dict.fromkeys(
        ("failed", "damaged", "missing", "foreign", "rolled-back", "unreadable", "newer", "unfinished", "problem"), "red"
    ),
    "cleared": "dim",
}
"""The colour of each state: in order, worth a look, wrong."""


def in_colour(judgement: str, text: str) -> str:
    """Return a text in the colour of what it says, where colours are wanted."""
    code = {"green": 32, "yellow": 33, "red": 31, "dim": 2}.get(_STYLES.get(judgement, ""))
    return text if code is None or not colourful(sys.stdout) else f"\x1b[{code}m{text}\x1b[0m"


def colourful(stream: IO[str]) -> bool:
    """Return whether colours may be written: at a terminal that has them, to someone who has not asked for none.

    See https://no-color.org.
    """
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
