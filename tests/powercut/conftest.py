"""A process that cuts the power, one for all tests of a worker."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.strace import require
from tests.hosting import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="session")
def cut() -> Iterator[Callable[..., dict[str, Any]]]:
    """Return what cuts the power of a scenario, with the arguments of ``cut_everywhere``, and returns the result."""
    require("strace")
    with Host("tests.powercut.host") as host:
        yield lambda name, **options: host.ask({"name": name, **options})
