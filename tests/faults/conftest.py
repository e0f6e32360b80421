"""A process that does operations under faults, one for all tests of a worker."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import pytest

from tests.faults.strace import require

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def attempt() -> Iterator[Callable[[Any], dict[str, Any]]]:
    """Return what tries the faults of a task, and returns the tally."""
    require("strace")
    command = [sys.executable, "-m", "tests.faults.host"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, env=environment) as host:
        assert host.stdin is not None
        assert host.stdout is not None

        def attempt(task: Any) -> dict[str, Any]:
            host.stdin.write(orjson.dumps(asdict(task)) + b"\n")
            host.stdin.flush()
            tally: dict[str, Any] = orjson.loads(host.stdout.readline())
            return tally

        yield attempt
        host.stdin.close()
