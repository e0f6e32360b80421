"""``report``"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

SCRIPT = """
checkpoint-manager run fetch -- true
checkpoint-manager run refuse -- sh -c 'echo no rows >&2; exit 3'
"""


def test_the_steps_of_a_shell_script(cli: Cli, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("run", "other", "--", "true")
    command = SCRIPT.replace("checkpoint-manager", f"{sys.executable} -m checkpoint_manager")
    monkeypatch.setenv("CHECKPOINT_MANAGER_RUN", "nightly")
    subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False)
    monkeypatch.delenv("CHECKPOINT_MANAGER_RUN")
    shown = cli("report")  # the one that saved last
    assert shown.err == "run nightly: 2 outcomes\n"
    assert [line.split()[:3] for line in shown.out.splitlines()] == [
        ["STAGE", "OUTCOME", "VERSION"],
        ["fetch", "ran", "1"],
        ["refuse", "failed", "1"],
    ]
    found = cli("report", "--run", "nightly", "--json").json
    assert (found["run"], found["stale"]) == ("nightly", {})
    assert [(each["stage"], each["what"], each["version"], each["why"]) for each in found["outcomes"]] == [
        ("fetch", "ran", 1, "first run"),
        ("refuse", "failed", 1, "first run"),
    ]


def test_a_command_is_told_its_run(cli: Cli, store: Path, tmp_path: Path) -> None:
    child = "import os; print(os.environ['CHECKPOINT_MANAGER_RUN'])"
    command = [sys.executable, "-m", "checkpoint_manager", "run", "child", "--capture", "--", sys.executable, "-c", child]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert CheckpointManager(store).get_version("child").metadata["@run"]["id"] == done.stdout.strip()


def test_stale_stages_are_named(cli: Cli, store: Path) -> None:
    cm = CheckpointManager(store)
    old = cm.stage("rows", revision=1)(lambda: [1, 2000])()
    cm.stage("total")(lambda rows: sum(rows) + 0.5)(old)
    CheckpointManager(store).stage("rows", revision=2)(lambda: [2, 2000])()
    assert "total is stale: made of version 1 of rows, which is now version 2\n" in cli("report").err


def test_what_is_not_there_says_so(cli: Cli, store: Path) -> None:
    nothing = cli("report")
    assert (nothing.code, nothing.out) == (14, "")
    assert "no stage was run in this store" in nothing.err
    cli("run", "other", "--", "true")
    assert cli("report", "--run", "x").code == 14
