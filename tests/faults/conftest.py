"""A process that does operations under faults, one for all tests of a worker."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.strace import require
from tests.hosting import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def attempt() -> Iterator[Callable[[Any], dict[str, Any]]]:
    """Return what tries the faults of a task, and returns the tally."""
    require("strace")
    with Host("tests.faults.host") as host:
        yield lambda task: host.ask(asdict(task))
