"""What every test stands on: a home of its own, and no key in the environment."""

from __future__ import annotations

import importlib
import logging
import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

settings.register_profile("ci", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
if os.environ.get("TESTS_REQUIRE_PACKAGES"):  # a test that would skip for want of one fails
    pytest.importorskip = lambda name, *_, **__: importlib.import_module(name)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def logger() -> Iterator[None]:
    """Leave the library's logger as it was: the command line sets it up for its own process, which may be the tests'."""
    logger = logging.getLogger("checkpoint_manager")
    before = logger.level, logger.handlers[:], logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[1:]
    logger.setLevel(before[0])


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Give the test a home folder of its own, apart from its ``tmp_path``.

    The coverage of its child processes is measured only where the test is marked so: it doubles their time.
    """
    home = tmp_path_factory.mktemp("home")
    prefixes = ["XDG_", "CHECKPOINT_MANAGER_"]
    if request.node.get_closest_marker("children_measured") is None:
        prefixes.append("COVERAGE_")
    for name in [name for name in os.environ if name.startswith(tuple(prefixes))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home
