"""The storage for Prefect's results: in its ``ResultStore``, and in a real flow that is killed and runs again."""

from __future__ import annotations

import asyncio
import os
import pickle
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if not os.environ.get("TESTS_REQUIRE_PACKAGES"):
    pytest.importorskip("prefect")

from prefect.cache_policies import INPUTS
from prefect.filesystems import LocalFileSystem, WritableFileSystem
from prefect.results import ResultStore
from prefect.settings import PREFECT_API_URL, temporary_settings

from checkpoint_manager import (
    CheckpointManager,
    CheckpointNotFoundError,
    FormatError,
    IntegrityError,
    RollbackError,
)
from checkpoint_manager.integrations import prefect as integration
from checkpoint_manager.integrations.prefect import CheckpointFileSystem
from tests.integrations.awaiting import awaited, run_example
from tests.integrations.killing import KILLS, lines_of_killed, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prefect.types import DateTime


@pytest.fixture(autouse=True)
def forget_managers() -> Iterator[None]:
    """Open each store again in each test: what a process remembers of one is not what a new one knows."""
    yield
    integration._manager.cache_clear()
    integration._async_manager.cache_clear()


@pytest.fixture
def results(tmp_path: Path) -> CheckpointFileSystem:
    return CheckpointFileSystem(location=str(tmp_path / "c"))


class Evil:
    """What would run code where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_a_result_store_finds_what_another_one_wrote(results: CheckpointFileSystem) -> None:
    assert isinstance(results, WritableFileSystem)
    store = ResultStore(result_storage=results)
    assert not store.exists("k")
    for value in ({"x": {1, 2}}, "y" * 3_000_000):
        store.write(value, key="k")
        other = ResultStore(result_storage=results.model_copy())
        assert other.exists("k")
        assert other.read("k").result == value
    with pytest.raises(CheckpointNotFoundError):
        store.read("never")


@awaited
async def test_in_a_coroutine_all_is_awaited(results: CheckpointFileSystem) -> None:
    store = ResultStore(result_storage=results)
    await store.awrite([1], key="k")
    assert (await ResultStore(result_storage=results).aread("k")).result == [1]
    assert await store.aexists("k")
    assert not await store.aexists("never")
    assert await results.write_path("plain", b"content") == "plain"
    assert await results.read_path("plain") == b"content"
    assert await asyncio.to_thread(results.read_path, "plain") == b"content"


def test_a_cache_policy_keeps_its_keys_there_and_results_expire(results: CheckpointFileSystem, tmp_path: Path) -> None:
    keys = CheckpointFileSystem(location=str(tmp_path / "c"), prefix="keys")
    assert INPUTS.configure(key_storage=keys).key_storage == keys
    store = ResultStore(result_storage=results, metadata_storage=keys, cache_result_in_memory=False)
    past: DateTime = datetime.now(UTC) - timedelta(days=1)  # type: ignore[assignment]
    store.write(1, key="old", expiration=past)
    store.write(2, key="new")
    assert (store.exists("old"), store.exists("new"), store.read("new").result) == (False, True, 2)
    assert {stage.partition("/")[0] for stage in CheckpointManager(tmp_path / "c").stages()} == {"prefect", "keys"}


def test_any_path_is_a_result_of_its_own_and_is_inside_of_the_store(results: CheckpointFileSystem, tmp_path: Path) -> None:
    paths = ["", "/", "../../x", "a/b", "a\0b", "%2F", "\u00e9", "e\u0301", "A", "a", "x" * 5000, "\ud800", "/etc/passwd"]
    for path in paths:
        results.write_path(path, ascii(path).encode())
    assert [results.read_path(path) for path in paths] == [ascii(path).encode() for path in paths]
    assert {path.name for path in tmp_path.iterdir()} == {"c"}


def test_the_history_of_a_path_is_bounded(results: CheckpointFileSystem, tmp_path: Path) -> None:
    for number in range(20):
        results.write_path("k", bytes([number]))
    assert len(CheckpointManager(tmp_path / "c").history("prefect/k")) <= 16
    assert results.read_path("k") == bytes([19])


@pytest.mark.parametrize("edit", ["damaged", "older", "another path's", "gone"])
def test_a_result_that_was_edited_is_not_used_and_not_unpickled(
    edit: str, results: CheckpointFileSystem, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root, trace = tmp_path / "c", tmp_path / "trace"
    store = ResultStore(result_storage=results, cache_result_in_memory=False)
    store.write("first", key="k")
    shutil.copytree(root, tmp_path / "older")
    store.write("second", key="k")
    store.write(Evil(trace), key="evil")
    history = root / "history"
    if edit == "damaged":
        for segment in (history / "prefect%2fk").rglob("*.segment"):
            segment.chmod(0o600)
            segment.write_bytes(pickle.dumps(Evil(trace)))
    elif edit == "older":
        shutil.rmtree(root)
        shutil.copytree(tmp_path / "older", root)
    elif edit == "another path's":
        shutil.rmtree(history / "prefect%2fk")
        shutil.copytree(history / "prefect%2fevil", history / "prefect%2fk")
    else:
        shutil.rmtree(history / "prefect%2fk")
        (root / "prefect%2fk.checkpoint").unlink()
    integration._manager.cache_clear()
    assert not ResultStore(result_storage=results).exists("k")
    with pytest.raises((IntegrityError, RollbackError)):
        results.read_path("k")
    with pytest.raises((IntegrityError, RollbackError)):
        asyncio.run(results.aread_path("k"))
    assert "The result 'k' is not used: " in caplog.text
    assert not trace.exists()


@pytest.mark.parametrize("is_awaited", [False, True])
def test_a_result_that_can_not_be_written_is_told(
    is_awaited: bool, results: CheckpointFileSystem, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = tmp_path / "c"
    results.write_path("k", b"first")
    shutil.copytree(root, tmp_path / "older")
    results.write_path("k", b"second")
    shutil.rmtree(root)
    (tmp_path / "older").rename(root)
    integration._manager.cache_clear()

    async def write() -> None:
        await results.awrite_path("k", b"third")

    with pytest.raises(RollbackError):
        asyncio.run(write()) if is_awaited else results.write_path("k", b"third")
    assert "The result 'k' is not persisted: " in caplog.text


def test_plain_storage_of_results_unpickles_whatever_is_there(tmp_path: Path) -> None:
    """What the tests above would see if nothing were authenticated."""
    plain, trace = LocalFileSystem(basepath=str(tmp_path)), tmp_path / "trace"
    ResultStore(result_storage=plain).write(Evil(trace), key="evil")
    trace.unlink(missing_ok=True)
    shutil.copy(tmp_path / "evil", tmp_path / "k")
    ResultStore(result_storage=plain).read("k")
    assert trace.exists()


def test_a_damaged_result_is_written_again(results: CheckpointFileSystem, tmp_path: Path) -> None:
    results.write_path("k", b"first")
    (newest,) = (tmp_path / "c" / "history" / "prefect%2fk").glob("*.checkpoint")
    newest.chmod(0o600)
    newest.write_bytes(newest.read_bytes()[:-1] + b"x")
    integration._manager.cache_clear()
    with pytest.raises(IntegrityError):
        results.read_path("k")
    results.write_path("k", b"again")
    assert results.read_path("k") == b"again"


def test_something_else_under_the_name_of_the_stage_is_refused(results: CheckpointFileSystem, tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "c").save_checkpoint("prefect/k", [1])
    with pytest.raises(FormatError, match="something other than"):
        results.read_path("k")


def test_the_block_holds_no_key(results: CheckpointFileSystem, tmp_path: Path) -> None:
    results.write_path("k", b"x")
    assert set(results.model_dump()) == {"location", "prefix", "keep_last", "block_type_slug"}


def test_a_location_with_a_password_is_refused() -> None:
    assert CheckpointFileSystem(location="postgresql://user@host/db").location == "postgresql://user@host/db"
    with pytest.raises(ValueError, match="password") as raised:
        CheckpointFileSystem(location="postgresql://user:MARKER@host/db")
    assert "MARKER" not in str(raised.value)


WRITING = """
import itertools, sys
from prefect.results import ResultStore
from checkpoint_manager.integrations.prefect import CheckpointFileSystem

store = ResultStore(result_storage=CheckpointFileSystem(location=sys.argv[1]))
for number in itertools.islice(itertools.count(), int(sys.argv[3])):
    store.write((sys.argv[2], number), key="both")
    print(number, flush=True)
"""


def test_two_processes_write_one_result_and_one_of_them_is_killed(results: CheckpointFileSystem) -> None:
    store = ResultStore(result_storage=results, cache_result_in_memory=False)
    with start(WRITING, results.location, "stays", "30") as process:
        for _ in range(KILLS):
            lines_of_killed(WRITING, results.location, "killed", "1000", after=5)
            assert store.read("both").result[0] in {"stays", "killed"}
        assert len(process.communicate()[0].splitlines()) == 30
    cm = CheckpointManager(results.location)
    assert cm.verify().ok
    assert cm.get_version("prefect/both").number >= 35


# Real flows

FLOW = """
import sys
from prefect import flow, task
from prefect.cache_policies import INPUTS
from checkpoint_manager.integrations.prefect import CheckpointFileSystem

results = CheckpointFileSystem(location=sys.argv[1])
results.save("results", overwrite=True)

@task(persist_result=True, cache_policy=INPUTS, result_storage=results)
def double(number):
    print("ran", number, flush=True)
    return {number: {2 * number}}

@flow
def doubled():
    return [double(number) for number in range(int(sys.argv[2]))]

print("result", doubled(), flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Start Prefect's server, and yield the environment of flows that use it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        "PREFECT_HOME": str(tmp_path_factory.mktemp("prefect")),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_LOGGING_LEVEL": "ERROR",
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=os.environ | environment, **quiet) as process:  # type: ignore[call-overload]
        try:
            for _ in range(600):
                try:
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/api/health", timeout=5)
                    break
                except OSError:
                    time.sleep(0.1)
            yield environment
        finally:
            process.terminate()


def test_a_flow_that_was_killed_runs_only_what_had_not_ended(
    tmp_path: Path, server: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    ran: list[str] = []
    for _ in range(KILLS):
        ran += lines_of_killed(FLOW, tmp_path / "c", "100", after=3)
    most = len(ran) + 2
    with start(FLOW, tmp_path / "c", str(most)) as process:
        lines = process.communicate()[0].splitlines()
    assert lines[-1] == f"result {[{number: {2 * number}} for number in range(most)]}"
    again = [line for line in lines if line in ran]
    assert len(again) <= 1, "the task that was killed before its result was written"
    assert set(ran) | set(lines[:-1]) == {f"ran {number}" for number in range(most)}
    assert CheckpointManager(tmp_path / "c").verify().ok


def test_the_example_runs_and_a_saved_block_is_found_by_its_name(server: dict[str, str]) -> None:
    with temporary_settings({PREFECT_API_URL: server["PREFECT_API_URL"]}):
        saved = run_example(integration)["results"]
        found = CheckpointFileSystem.load("results", _sync=True)
    assert found == saved
    assert found.location == "/srv/checkpoints"
