"""A process without threads that does tasks for the tests, one after the other: it has imported everything, and forks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

ROOT = Path(__file__).parents[1]


class Host:
    """A module of the tests, run as a program that serves its standard input; it ends with the ``with`` block.

    Args:
        module: The module's name.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", self._module]
        unmeasured = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=unmeasured)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def ask(self, task: Any) -> Any:
        """Have a task done, and return what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(orjson.dumps(task) + b"\n")
        self._process.stdin.flush()
        return orjson.loads(self._process.stdout.readline())


def serve(do: Callable[[Any], object]) -> None:
    """Do the tasks of standard input, one a line, until it ends."""
    for line in sys.stdin.buffer:
        sys.stdout.buffer.write(orjson.dumps(do(orjson.loads(line))) + b"\n")
        sys.stdout.buffer.flush()
