"""A forked child that does one thing and is gone, whatever happens: it never goes on with the tests."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

RAISED = 99


def start(act: Callable[[], int | bool | None]) -> int:
    """Start a child that ends with the code that ``act`` returns, or with ``RAISED``; return its pid."""
    child = os.fork()
    if child == 0:
        code = RAISED
        try:
            code = int(act() or 0)
        finally:
            os._exit(code)
    return child


def end(child: int) -> int:
    """Wait for a child, and return its exit code, or the negative number of the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def answer(act: Callable[[], object]) -> Any:
    """Do something in a child, and return what it returned there; None: it ended first."""
    reading, writing = os.pipe()
    child = start(lambda: os.write(writing, orjson.dumps(act())) and None)
    os.close(writing)
    with open(reading, "rb") as pipe:
        told = pipe.read()
    end(child)
    return orjson.loads(told) if told else None
