"""The cache for joblib's ``Memory``: beside its own backend, in workers, attacked and killed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if not os.environ.get("TESTS_REQUIRE_PACKAGES"):
    pytest.importorskip("joblib")
    pytest.importorskip("numpy")

import joblib
import numpy as np
from joblib import Memory, Parallel, delayed, expires_after
from joblib._store_backends import CacheWarning
from joblib.externals.loky import get_reusable_executor

from checkpoint_manager import CheckpointManager, IntegrityError, RollbackError
from checkpoint_manager.integrations import joblib as integration
from tests.integrations.awaiting import run_example
from tests.integrations.killing import KILLS, lines_of_killed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def forget_functions() -> Iterator[None]:
    """Let each test be a new process: joblib remembers whose code it has saved, wherever that was."""
    yield
    joblib.memory._FUNCTION_HASHES.clear()


def double(number: Any, ran: str) -> Any:
    with open(ran, "a") as file:
        file.write(f"{number} ")
    return {"twice": np.array([2 * number])}


def other(number: Any, ran: str) -> Any:
    return double(number, ran)


class Evil:
    """What would run code where it is unpickled."""

    def __init__(self, trace: str) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.trace,)


def evil(trace: str) -> Evil:
    return Evil(trace)


def memory(place: Path, *, ours: bool = True, **options: Any) -> Memory:
    return Memory(str(place), backend="checkpoint-manager" if ours else "local", verbose=0, **options)


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "joblib's own"])
def test_a_call_runs_once_until_it_is_cleared(tmp_path: Path, *, ours: bool) -> None:
    ran = str(tmp_path / "ran")
    for _ in range(2):
        cached = memory(tmp_path / "c", ours=ours).cache(double, ignore=["ran"])
        assert [cached(number, ran)["twice"][0] for number in (1, 2, 1)] == [2, 4, 2]
    assert cached.check_call_in_cache(1, ran)
    shelved = cached.call_and_shelve(1, ran)
    assert shelved.get()["twice"][0] == 2
    shelved.clear()
    with pytest.raises(KeyError):
        shelved.get()
    cached.clear(warn=False)
    assert not cached.check_call_in_cache(2, ran)
    assert cached(1, ran)["twice"][0] == 2
    memory(tmp_path / "c", ours=ours).clear(warn=False)
    assert not cached.check_call_in_cache(1, ran)
    assert Path(ran).read_text() == "1 2 1 "


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "joblib's own"])
def test_changed_code_runs_again_and_a_validation_decides(tmp_path: Path, *, ours: bool) -> None:
    (tmp_path / "module.py").write_text("def f(x):\n    return x\n")
    results = []
    for body in ("x", "x + 1"):
        (tmp_path / "module.py").write_text(f"def f(x):\n    return {body}\n")
        names: dict[str, Any] = {"__name__": "module"}
        exec(compile((tmp_path / "module.py").read_text(), str(tmp_path / "module.py"), "exec"), names)
        results.append(memory(tmp_path / "c", ours=ours).cache(names["f"])(1))
    assert results == [1, 2]
    ran = str(tmp_path / "ran")
    for age in (86400, 0):
        validated = memory(tmp_path / "c", ours=ours).cache(double, cache_validation_callback=expires_after(seconds=age))
        validated(1, ran)
        validated(1, ran)
    assert Path(ran).read_text() == "1 1 1 "


def test_what_joblib_asks_besides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cached = Memory(str(tmp_path / "c"), backend="checkpoint-manager", verbose=2).cache(double)
    for _ in range(2):
        cached(1, str(tmp_path / "ran"))
    assert "Loading" in capsys.readouterr().out
    backend = cached.store_backend
    assert (backend.contains_path([cached.func_id]), backend.contains_path(["other"])) == (True, False)
    assert backend.get_metadata([cached.func_id, "never"]) == {}
    with pytest.raises(NotImplementedError):
        backend.create_location("x")
    edit(tmp_path / "c", "*metadata/*.checkpoint", b"damaged")
    assert len(backend.get_items()) == 1
    backend.clear_path(["other"])


def test_the_size_of_the_cache_is_reduced(tmp_path: Path) -> None:
    cached = memory(tmp_path / "c").cache(double)
    for number in range(4):
        cached(number, str(tmp_path / "ran"))
    memory(tmp_path / "c").reduce_size(items_limit=1)
    assert [cached.check_call_in_cache(number, str(tmp_path / "ran")) for number in range(4)] == [False, False, False, True]


def test_results_of_workers_are_in_one_cache(tmp_path: Path) -> None:
    cached = memory(tmp_path / "c").cache(double)
    ran = str(tmp_path / "ran")
    get_reusable_executor().shutdown(wait=True)  # its workers have the home of another test
    for _ in range(2):
        results = Parallel(n_jobs=2)(delayed(cached)(number, ran) for number in range(6))
        assert [result["twice"][0] for result in results] == [0, 2, 4, 6, 8, 10]
    get_reusable_executor().shutdown(wait=True)
    assert sorted(Path(ran).read_text().split()) == list("012345")


def test_another_store_or_manager_takes_the_place_of_the_location(tmp_path: Path) -> None:
    with CheckpointManager(f"sqlite:///{tmp_path}/c.db") as cm:
        cached = memory(tmp_path / "unused", backend_options={"store": cm}).cache(double)
        cached(1, str(tmp_path / "ran"))
        assert len(cm.stages("joblib/")) == 3
    assert not (tmp_path / "unused").exists()
    with pytest.raises(ValueError, match="mapped"):
        memory(tmp_path / "c", mmap_mode="r")


def test_what_can_not_be_pickled_is_a_warning(tmp_path: Path) -> None:
    with pytest.warns(CacheWarning, match="Unable to cache"):
        assert callable(memory(tmp_path / "c").cache(lambda: lambda: 1)())


class Unwritable:
    """What is shown of it is not valid Unicode, which joblib would note."""

    def __repr__(self) -> str:
        return "\ud800"


def test_a_result_is_returned_though_its_metadata_can_not_be_saved(tmp_path: Path) -> None:
    with pytest.warns(CacheWarning, match="Unable to cache metadata"):
        assert memory(tmp_path / "c").cache(lambda _: 7)(Unwritable()) == 7


# Attacks and faults


def edit(place: Path, pattern: str, content: bytes) -> None:
    (found,) = [path for path in place.rglob(pattern) if path.is_file()]
    found.chmod(0o600)
    found.write_bytes(content)


def test_a_result_that_was_edited_is_computed_again_and_not_unpickled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ran, trace = str(tmp_path / "ran"), str(tmp_path / "trace")
    memory(tmp_path / "c").cache(double)(1, ran)
    memory(tmp_path / "pickles", ours=False).cache(evil)(trace)
    pickled = next((tmp_path / "pickles").rglob("output.pkl")).read_bytes()
    for same_length in (False, True):  # has_checkpoint sees the one, and loading the other
        for segment in (tmp_path / "c").rglob("*.segment"):
            segment.chmod(0o600)
            segment.write_bytes(pickled.ljust(segment.stat().st_size) if same_length else pickled)
        assert memory(tmp_path / "c").cache(double)(1, ran)["twice"][0] == 2
        assert ("Exception while loading results" in caplog.text) is same_length
    assert Path(ran).read_text() == "1 1 1 "
    assert not os.path.exists(trace)
    edit(tmp_path / "pickles", "output.pkl", pickled)
    memory(tmp_path / "pickles", ours=False).cache(evil)(trace)
    assert os.path.exists(trace), "joblib's own backend runs it"


def test_a_damaged_version_is_computed_again_and_damaged_code_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ran = str(tmp_path / "ran")
    memory(tmp_path / "c").cache(double)(1, ran)
    history = tmp_path / "c" / "joblib" / "history"
    code, result, _ = sorted(history.iterdir(), key=lambda path: len(path.name))
    edit(result, "*.checkpoint", b"damaged")
    assert memory(tmp_path / "c").cache(double)(1, ran)["twice"][0] == 2
    assert "ERROR" in caplog.text
    edit(code, "*.checkpoint", b"damaged")
    joblib.memory._FUNCTION_HASHES.clear()
    with pytest.raises(IntegrityError):
        memory(tmp_path / "c").cache(double)(2, ran)
    assert Path(ran).read_text() == "1 1 "


def test_an_older_cache_is_an_error(tmp_path: Path) -> None:
    ran = str(tmp_path / "ran")
    memory(tmp_path / "c").cache(double)(1, ran)
    shutil.copytree(tmp_path / "c", tmp_path / "older")
    memory(tmp_path / "c").cache(double).call(1, ran)
    shutil.rmtree(tmp_path / "c")
    shutil.copytree(tmp_path / "older", tmp_path / "c")
    with pytest.raises(RollbackError):
        memory(tmp_path / "c").cache(double)(1, ran)


CALLING = """
import itertools, sys
from joblib import Memory
import checkpoint_manager.integrations.joblib

@Memory(sys.argv[1], backend="checkpoint-manager", verbose=0).cache
def square(number):
    return number**2

for number in itertools.count():
    square(number)
    print(number, flush=True)
"""


def test_results_that_were_there_before_a_kill_are_there(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(CALLING)
    program = f"import runpy, sys; runpy.run_path({str(tmp_path / 'program.py')!r}, run_name='__main__')"
    for _ in range(KILLS):
        lines = lines_of_killed(program, tmp_path / "c", after=5)
        cm = CheckpointManager(tmp_path / "c" / "joblib")
        results = [version.stage for version in cm.find(metadata={}) if version.attachments]
        assert len(results) >= len(lines)
        assert cm.verify().ok


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    run_example(integration)
    assert capsys.readouterr().out == "9\n"
