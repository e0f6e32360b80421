"""Completion, as shells ask for it: a real bash (zsh and fish, where they are installed), and the program's answers."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from checkpoint_manager import CheckpointManager
from checkpoint_manager.cli.selector import stage_names
from tests.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

PROGRAM = Path(sys.executable).with_name("checkpoint-manager")


def offered(line: str, folder: Path) -> list[str]:
    """Return what the program offers a bash for the last word of a line."""
    words = line.split(" ")
    asked = {"_CHECKPOINT_MANAGER_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    done = subprocess.run(
        [sys.executable, "-m", "checkpoint_manager"],
        cwd=folder,
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [each.partition(",")[2] for each in done.stdout.split()]


def test_commands_and_options(tmp_path: Path) -> None:
    assert set(offered("checkpoint-manager re", tmp_path)) == {"repair", "report", "restore"}
    assert set(offered("checkpoint-manager key r", tmp_path)) == {"remove", "rotate"}
    assert set(offered("checkpoint-manager show --pa", tmp_path)) >= {"--path"}


def test_stages_without_a_key(store: Path, home: Path) -> None:
    next(home.rglob("default.key")).unlink()
    for line in ("show ", "restore ", "diff ", "run ", "clear ", "verify "):
        assert offered(f"checkpoint-manager {line}", store.parent) == ["clean", "train"]
    assert offered("checkpoint-manager log tr", store.parent) == ["train"]
    assert offered("checkpoint-manager show --store checkpoints c", store.parent) == ["clean"]
    assert offered("checkpoint-manager show --store elsewhere c", store.parent) == []


@pytest.mark.children_measured
def test_a_name_that_a_shell_could_take_for_more_is_not_offered(store: Path) -> None:
    cm = CheckpointManager(store)
    for name in ("$(touch evil)", "-rf", "two words", "a\nb", "`x`", "*"):
        cm.save_checkpoint(name)
    assert offered("checkpoint-manager show ", store.parent) == ["clean", "train"]
    assert offered("checkpoint-manager show --store nosuch://here ", store.parent) == []


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_stage_is_completed(path: tuple[str, ...]) -> None:
    for parameter in COMMANDS[path].params:
        if isinstance(parameter, click.Argument) and parameter.name in {"stage", "selector"}:
            assert parameter._custom_shell_complete is stage_names


def test_in_bash(cli: Cli, store: Path) -> None:
    script = cli("completion", "bash").out
    ask = "COMP_WORDS=(checkpoint-manager show tr); COMP_CWORD=2; _checkpoint_manager_completion checkpoint-manager"
    path = f"{PROGRAM.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f'{script}\n{ask}; echo "$COMPREPLY"'],
        cwd=store.parent,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("train\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one(cli: Cli, tmp_path: Path, shell: str) -> None:
    result = cli("completion", shell)
    assert result.code == 0
    assert f"_CHECKPOINT_MANAGER_COMPLETE={shell}_complete" in result.out
    if shutil.which(shell):
        (tmp_path / "script").write_text(result.out)
        subprocess.run([shell, "-n", tmp_path / "script"], check=True)


def test_another_shell_is_a_usage_error(cli: Cli) -> None:
    assert cli("completion", "tcsh").code == 2
