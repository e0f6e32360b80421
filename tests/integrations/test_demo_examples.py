"""The examples of the demonstration that need frameworks."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager.cli.commands.demo import examples

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def told(tmp_path: Path, home: Path, capfd: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> str:
    """What the example of the test's parameter printed."""
    for module in examples.EXAMPLES[request.param].needs:
        pytest.importorskip(module)
    examples.show(request.param, tmp_path / request.param, None)
    return capfd.readouterr().out


@pytest.mark.parametrize("told", ["training"], indirect=True)
def test_training(told: str, tmp_path: Path) -> None:
    assert "goes on    with epoch 7, from version 6" in told
    assert "as when it was saved" in told
    cm = CheckpointManager(tmp_path / "training" / "checkpoints")
    assert [version.metadata["epoch"] for version in reversed(cm.history("model"))][:12] == list(range(1, 13))
    newest = cm.get_version("model")
    assert newest.restored_from == cm.tags("model")["best"]
    accuracies = [version.metadata["accuracy"] for version in cm.history("model")]
    assert newest.metadata["accuracy"] == max(accuracies)


def test_a_training_that_was_killed_before_it_set_the_tag_sets_it_later(tmp_path: Path, home: Path) -> None:
    pytest.importorskip("sklearn")
    program = "import os; from checkpoint_manager.cli.commands.demo import training; training.EPOCHS = 2; {}; training.main()"
    environment = {**os.environ, "CHECKPOINT_MANAGER_STORE": str(tmp_path / "store")}
    killed, went_on = (
        subprocess.run([sys.executable, "-c", program.format(change)], env=environment, check=False).returncode
        for change in ("training.cm.tag = lambda *_, **__: os._exit(9)", "pass")
    )
    assert (killed, went_on) == (9, 0)
    cm = CheckpointManager(tmp_path / "store")
    assert cm.get_version("model").restored_from == cm.tags("model")["best"]


@pytest.mark.parametrize("told", ["agent"], indirect=True)
def test_agent(told: str, tmp_path: Path) -> None:
    assert "goes on    after __init__.py, decoder.py\n  review     encoder.py" in told
    assert told.count("  review     encoder.py") == 2, "the step in which it was killed, and only that, runs again"
    assert told.count("  review     decoder.py") == 1
    assert "answer     no: report.txt is there: False" in told
    cm = CheckpointManager(tmp_path / "agent" / "checkpoints")
    assert [stage.partition("/")[0] for stage in cm.stages()] == ["langgraph"]
    assert cm.verify().ok


@pytest.mark.parametrize("told", ["distributed"], indirect=True)
def test_distributed(told: str, tmp_path: Path) -> None:
    assert "is killed; Dask starts another one" in told
    files = int(told.rpartition(" files, each once")[0].rpartition(" ")[2])
    assert f"ran        {files} of {files} files" in told
    assert len(CheckpointManager(tmp_path / "distributed" / "checkpoints").history("count")) == files
