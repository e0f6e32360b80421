"""Stages in other processes: a function that is a stage travels to a worker, and its store and key are found again there."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import cloudpickle
import pytest

from checkpoint_manager import CheckpointManager, Passphrase

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import multiprocessing, os
from concurrent.futures import ProcessPoolExecutor
from checkpoint_manager import CheckpointManager

cm = CheckpointManager("store")

@cm.stage
def square(number):
    with open("runs", "a") as runs:
        runs.write(f"{number} ")
    return number * number

if __name__ == "__main__":
    for method in ("fork", "forkserver", "spawn"):
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(method)) as pool:
            assert list(pool.map(square, [1, 2, 1, 2])) == [1, 4, 1, 4]
    print(len(cm.history("square")), open("runs").read().split())
"""


def test_workers_of_every_kind_run_each_call_once(tmp_path: Path, home: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout in {"2 ['1', '2']\n", "2 ['2', '1']\n"}


def staged(cm: CheckpointManager, calls: list[Any]) -> Any:
    """Return a stage that can only be pickled by value."""
    rate = 3

    @cm.stage("inner")
    def inner(number: int) -> int:
        calls.append(number)
        return number * rate

    return inner


def test_a_function_that_is_pickled_by_value_reuses_the_results_of_its_store(tmp_path: Path, home: Path) -> None:
    cm = CheckpointManager(tmp_path / "store")
    calls: list[Any] = []
    stage = staged(cm, calls)
    assert (stage(1), calls) == (3, [1])
    sent = cloudpickle.dumps(stage)
    first, second = pickle.loads(sent), pickle.loads(sent)
    assert (first(1), calls) == (3, [1]), "its code is the same, whatever source is there"
    assert first(2) == second(2) == stage(2) == 6
    assert (len(cm.history("inner")), calls) == (2, [1]), "the copies have a list of their own"
    assert pickle.loads(cloudpickle.dumps(first))(2) == 6, "and may be sent on"


def test_stages_that_arrive_share_one_opened_store(tmp_path: Path, home: Path) -> None:
    cm = CheckpointManager(tmp_path / "store")
    sent = [pickle.dumps(cm._runner) for _ in range(2)]
    first, second = map(pickle.loads, sent)
    assert first is second
    assert first is not cm._runner


@pytest.mark.parametrize(
    ("location", "key"),
    [("store", bytes(32)), ("store", Passphrase("correct horse")), ("memory:", None)],
    ids=["bytes", "passphrase", "memory"],
)
def test_a_secret_does_not_travel(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, location: str, key: Any) -> None:
    monkeypatch.chdir(tmp_path)
    cm = CheckpointManager(location, key=key)
    for send in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match=r"a secret or a backend, .* give the key as a key file or in the environment"):
            send(cm)
    with pytest.raises(TypeError, match="a function that is a stage of it, can't be pickled"):
        cloudpickle.dumps(staged(cm, []))
