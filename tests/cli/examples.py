"""The example lines of the help texts, and a folder in which each of them can really run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from checkpoint_manager import CheckpointManager, KeyFile, Passphrase
from checkpoint_manager._store.key_sources import create_key_file
from tests.cli.commands import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_SLOT = "1f0c22ab"
"""Stands for the id of a slot in all help texts."""


def examples() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield each example with the command that it explains."""
    for path, command in COMMANDS.items():
        after = str(command.help).partition("Example")[2].splitlines()[1:]
        for line in after:
            if not line.strip():
                break
            yield path, line.strip()


def with_option(path: tuple[str, ...], line: str, option: str) -> str:
    """Return the line with an option added to its call of the program, if the command has it."""
    if not any(option in parameter.opts for parameter in COMMANDS[path].params if isinstance(parameter, click.Option)):
        return line
    call = f"checkpoint-manager {' '.join(path)}"
    return line.replace(call, f"{call} {option}") if option not in line else line


def prepare(folder: Path, home: Path, line: str) -> str:
    """Make what an example speaks of, and return the example as it can run there."""
    cm = CheckpointManager(folder / "checkpoints")
    for stage in ("train", "clean"):
        for epoch in range(1, 8):
            cm.save_checkpoint(stage, {"epoch": epoch})
    for name, text in {
        "settings.json": "{}",
        "state.json": "{}",
        "weights.npy": "0.5 0.25",
        "rows.json": "[1, 2]",
        "raw.csv": "1,2",
        "alice.txt": "correct horse",
        "secret.txt": "x y z",
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o600)
    for script in ("clean.py", "train.py"):
        (folder / script).write_text("open('rows.csv', 'w').close(); print('done')")
    (home / ".config" / "fish" / "completions").mkdir(parents=True)
    programs = folder / "bin"
    programs.mkdir()
    (programs / "python").symlink_to(sys.executable)
    (programs / "curl").write_text("#!/bin/sh\nexec cat rows.json\n")
    (programs / "curl").chmod(0o700)
    if "--attachment weights" in line:
        cm.save_checkpoint("train", {}, attachments={"weights": folder / "weights.npy"})
    if "--attachment /layers/0" in line:
        cm.save_checkpoint("train", {"layers": [np.arange(3)]})
    if "--also" in line:
        cm.keys.add(Passphrase("correct horse"), label="alice")
    line = re.sub(r"--at \S+", "--at 0s", line)
    if "checkpoint-manager report" in line:
        os.environ["CHECKPOINT_MANAGER_RUN"] = "nightly-2026-11-27"
        cm.stage("rows")(lambda: [1, 2])()
        del os.environ["CHECKPOINT_MANAGER_RUN"]
    line = line.replace("/srv/pipelines", str(folder))
    for name in re.findall(r"--store (etl|training)", line):
        CheckpointManager(folder / name).save_checkpoint("rows", 1)
    if "tag --delete" in line:
        cm.tag("train", 7, "good")
    if "--tag release-7" in line:
        cm.tag_pipeline("release-7")
    if "checkpoint-manager import" in line:
        create_key_file(folder / "bundle.key")
        cm.export_bundle(folder / "history.bundle", key=KeyFile(str(folder / "bundle.key")))
        cm.export_bundle(folder / "train.bundle", ["train"], key=Passphrase("x y z"))
    if "checkpoint-manager init" in line:
        shutil.rmtree(folder / "checkpoints")
    if "key remove alice" in line:
        cm.keys.add(Passphrase("correct horse"), label="alice")
    if _SLOT in line:
        create_key_file(folder / "lost.key")
        line = line.replace(_SLOT, cm.keys.add(KeyFile(str(folder / "lost.key"))).slot)
    return line


def is_plain(line: str) -> bool:
    """Return whether a line calls the program alone, and so needs no shell."""
    return line.startswith("checkpoint-manager ") and not re.search(r"[|<>;&$]| -- ", line)


def run(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    """Run a line as a shell does, without a terminal."""
    with start(folder, line) as process:
        out, err = process.communicate()
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def start(folder: Path, line: str) -> subprocess.Popen[str]:
    """Start a line as a shell does, without a terminal. A line of one command is that command's process."""
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.Popen(
        ["bash", "-o", "pipefail", "-c", line],
        cwd=folder,
        env=os.environ | {"PATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
