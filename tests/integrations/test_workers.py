"""Stages on the workers of Dask and joblib: each call runs once, workers are killed, and a later run takes up what is done."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from pathlib import Path

FILES = 16

STAGE = """
import os, signal, sys, time
from pathlib import Path
from checkpoint_manager import CheckpointManager

store, here, kills = sys.argv[1], Path(sys.argv[2]), sys.argv[3:]

cm = CheckpointManager(store)

@cm.stage
def work(path):
    with open(here / "began", "a") as journal:
        journal.write(f"{path} ")
    if path in kills and not (here / f"killed-{path}").exists():
        (here / f"killed-{path}").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    with open(here / "runs", "a") as journal:
        journal.write(f"{path} ")
    return len(path)
"""

DASK = (
    STAGE
    + """
from dask.distributed import Client, LocalCluster

if __name__ == "__main__":
    files = [f"file-{number}" for number in range(16)]
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, silence_logs="CRITICAL") as cluster,
        Client(cluster) as client,
    ):
        assert client.gather(client.map(work, files, pure=False)) == [len(file) for file in files]
"""
)

JOBLIB = (
    STAGE
    + """
from joblib import Parallel, delayed

if __name__ == "__main__":
    files = [f"file-{number}" for number in range(16)]
    results = Parallel(n_jobs=2, backend="loky", batch_size=1)(delayed(work)(file) for file in files)
    assert results == [len(file) for file in files]
"""
)


def run(tmp_path: Path, script: str, store: str, *kills: str) -> subprocess.CompletedProcess[str]:
    (tmp_path / "script.py").write_text(script)
    return subprocess.run(
        [sys.executable, "script.py", store, str(tmp_path), *kills],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def journal(tmp_path: Path, name: str) -> Counter[str]:
    return Counter((tmp_path / name).read_text().split())


def test_dask_runs_each_file_once_and_survives_killed_workers(tmp_path: Path, home: Path) -> None:
    """A client that is killed with its workers is in the example ``distributed``."""
    pytest.importorskip("distributed")
    store = str(tmp_path / "store")
    done = run(tmp_path, DASK, store, "file-3", "file-9")
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(journal(tmp_path, "runs").values()) == {1}
    assert len(journal(tmp_path, "runs")) == FILES
    assert (tmp_path / "killed-file-3").exists()
    assert (tmp_path / "killed-file-9").exists()
    again = run(tmp_path, DASK, store)
    assert again.returncode == 0, again.stderr[-3000:]
    assert sum(journal(tmp_path, "runs").values()) == FILES, "a later run takes up what is done"
    assert len(CheckpointManager(store).history("work")) == FILES


def test_joblib_runs_each_call_once(tmp_path: Path, home: Path) -> None:
    pytest.importorskip("joblib")
    store = str(tmp_path / "store")
    broken = run(tmp_path, JOBLIB, store, "file-3")
    assert broken.returncode != 0  # loky gives up when a worker dies
    done = run(tmp_path, JOBLIB, store)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(journal(tmp_path, "runs")) == FILES
    saved = CheckpointManager(store).history("work")
    assert len(saved) == FILES
    assert run(tmp_path, JOBLIB, store).returncode == 0
    assert len(CheckpointManager(store).history("work")) == FILES
