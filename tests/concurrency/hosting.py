"""The process that runs programs, seen from the tests."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from typing import Self

    from tests.concurrency.program import Program

ROOT = Path(__file__).parents[2]


class Host:
    """A process that runs programs, one after the other; it ends with the ``with`` block."""

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "tests.concurrency.host"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def run(self, program: Program, store: Path | str, home: Path) -> dict[str, Any]:
        """Run a program in a store, and return what its writers told."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        task = {"directory": str(store), "home": str(home), "program": program.as_json()}
        self._process.stdin.write(orjson.dumps(task) + b"\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = orjson.loads(self._process.stdout.readline())
        return answer
