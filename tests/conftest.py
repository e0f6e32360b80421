"""What every test stands on: a home of its own, and no key in the environment."""

from __future__ import annotations

import _thread
import gc
import importlib
import itertools
import logging
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from checkpoint_manager import CheckpointManager
from checkpoint_manager._format import key_slot
from checkpoint_manager.backends import base
from tests import s3 as s3_server
from tests.postgres import new_postgres_url, postgres_certificate, postgres_port, postgres_url  # noqa: F401  # fixtures

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from tests.s3 import Server

settings.register_profile("ci", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("thorough", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
os.environ.update(s3_server.CREDENTIALS)  # for processes that start before the server does, too
os.environ.pop("PYTHONUNBUFFERED", None)  # users have not set it, and with it nothing is left to flush at the end of a child
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a script leaves it for what it starts in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)
if os.environ.get("TESTS_REQUIRE_PACKAGES"):  # a test that would skip for want of one fails
    pytest.importorskip = lambda name, *_, **__: importlib.import_module(name)  # type: ignore[assignment]


def spare_syncs() -> None:
    """Let ``os.fsync`` only refuse what is no open file: in this process nothing cuts the power, and a disk takes its time.

    What makes versions durable is tested by recording the calls, in ``tests/powercut`` and ``tests/faults`` those of processes
    of their own, which do sync.
    """
    fstat = os.fstat

    def fsync(descriptor: int) -> None:
        fstat(descriptor)

    os.fsync = fsync


def measure_small_threads() -> None:
    """Measure the coverage of threads that ``_thread`` starts, too: ``threading`` sees to that only for its own."""
    start = _thread.start_new_thread

    def start_measured(function: Callable[..., object], args: tuple[Any, ...], /, *kwargs: dict[str, Any]) -> int:
        def run(*args: Any, **kwargs: Any) -> None:
            sys.settrace(threading.gettrace())
            function(*args, **kwargs)

        return start(run, args, *kwargs)

    _thread.start_new_thread = start_measured


def spare_passphrases() -> None:
    """Give new slots of passphrases the lowest Argon2 cost that is accepted: tests derive many keys.

    Programs that tests start give their slots the cost of users.
    """
    key_slot.ArgonCost.__new__.__defaults__ = (key_slot.MIN_MEMORY_KIB, key_slot.MIN_PASSES, 1)  # type: ignore[attr-defined]


spare_syncs()
spare_passphrases()
if threading.gettrace() is not None:
    measure_small_threads()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect the tests without looking for garbage, and never look at them again: a third of the time that it takes else."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


@pytest.fixture(autouse=True)
def logger() -> Iterator[None]:
    """Leave the library's logger as it was: the command line sets it up for its own process, which may be the tests'."""
    logger = logging.getLogger("checkpoint_manager")
    before = logger.level, logger.handlers[:], logger.propagate
    yield
    logger.handlers[:], logger.propagate = before[1:]
    logger.setLevel(before[0])


@pytest.fixture(scope="session")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield paths of home folders. What would number them itself looks at all there are, for each test again."""
    place = tmp_path_factory.mktemp("homes")
    return map(place.joinpath, map(str, itertools.count()))


@pytest.fixture(autouse=True)
def home(homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Give the test a home folder of its own, apart from its ``tmp_path``.

    The coverage of its child processes is measured only where the test is marked so: it doubles their time.
    """
    home = next(homes)
    home.mkdir(0o700)
    prefixes = ["XDG_", "CHECKPOINT_MANAGER_"]
    if request.node.get_closest_marker("children_measured") is None:
        prefixes.append("COVERAGE_")
    for name in [name for name in os.environ if name.startswith(tuple(prefixes))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    return home


@pytest.fixture(scope="session")
def s3() -> Iterator[Server]:
    """Provide a server that speaks S3's protocol."""
    pytest.importorskip("moto")
    yield from s3_server.running()


@pytest.fixture
def new_s3_url(s3: Server) -> Callable[[], str]:
    """Return what returns the URL of a new store on it."""
    return s3.url


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server that does not answer be waited for no longer than for locks."""
    monkeypatch.setattr(base, "LEAST_ANSWER_SECONDS", 0)


@pytest.fixture
def new_place(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], str]:
    """Return what returns a new place of a kind."""

    def place(kind: str) -> str:
        if kind == "postgresql":
            return str(request.getfixturevalue("new_postgres_url")())
        if kind == "bucket":
            return str(request.getfixturevalue("s3").url())
        return f"sqlite:///{tmp_path}/{kind}.db" if kind == "sqlite" else str(tmp_path / kind)

    return place


KEY_OF_BOTH = b"the key of both users, 32 bytes."


@pytest.fixture
def place(tmp_path: Path, home: Path) -> Path:  # its users have the home of the test
    """Return where two users keep a store."""
    return tmp_path / "checkpoints"


@pytest.fixture
def as_user(tmp_path: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], CheckpointManager]:
    """Return what opens the store as one of several users, each of whom remembers what he has seen."""

    def open_as(name: str) -> CheckpointManager:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / f"state of {name}"))
        return CheckpointManager(place, key=KEY_OF_BOTH)

    return open_as
