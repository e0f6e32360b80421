"""JSON pointers (RFC 6901): a value inside of another, ``/rows/0/name``; in a key, ``~1`` is a slash, ``~0`` is ``~``."""

from __future__ import annotations

import re
from typing import Any

from checkpoint_manager._text import counted, printable
from checkpoint_manager.cli.exit_codes import UsageError
from checkpoint_manager.errors import CheckpointNotFoundError

_POINTER = re.compile(r"(?:/(?:[^/~]|~[01])*)*", re.DOTALL)
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}", re.ASCII)


def steps_of(pointer: str) -> list[str]:
    """Return the keys and indexes that a pointer names, one after the other.

    Raises:
        UsageError: It is not a pointer.
    """
    if not _POINTER.fullmatch(pointer):
        raise UsageError(
            f"{printable(pointer)} is not a JSON pointer",
            hint="Start it with a slash, as in /rows/0/name; in a key, write ~0 for ~, and ~1 for /",
        )
    return [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]


def value_at(data: Any, pointer: str, of: str) -> Any:  # noqa: ANN401  # JSON is what it is
    """Return the value that a pointer leads to.

    Args:
        data: The whole.
        pointer: The pointer; the empty one leads to the whole.
        of: What the whole is called, for messages.

    Raises:
        UsageError: It is not a pointer.
        CheckpointNotFoundError: It leads nowhere; the message says how far it led, and what is there.
    """
    led = ""
    for step in steps_of(pointer):
        match data:
            case dict() if step in data:
                data = data[step]
            case list() if _INDEX.fullmatch(step) and int(step) < len(data):
                data = data[int(step)]
            case _:
                raise CheckpointNotFoundError(f"{of} has nothing at {printable(pointer)}: {_whereabouts(data, led, step)}")
        led += f"/{step.replace('~', '~0').replace('/', '~1')}"
    return data


def _whereabouts(data: Any, led: str, step: str) -> str:  # noqa: ANN401
    here = f"at {printable(led)}" if led else "at its top"
    match data:
        case dict():
            return f"{here} is an object of {counted(len(data), 'key')}, without {printable(step)}"
        case list():
            last = f", the last of them {len(data) - 1}" if data else ""
            return f"{here} is a list of {counted(len(data), 'element')}, counted from 0{last}"
        case _:
            return f"{here} is a single value, which has nothing in it"
