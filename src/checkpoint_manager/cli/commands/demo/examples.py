"""Run an example: a program of its own is killed in the middle, started again, and tells what came of it."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from checkpoint_manager._text import printable
from checkpoint_manager.backends.registry import redacted
from checkpoint_manager.cli.exit_codes import DemonstrationFailedError, UsageError


class Example(NamedTuple):
    """An example.

    Attributes:
        summary: What it shows.
        needs: The modules that it imports, each with what pip installs for it.
    """

    summary: str
    needs: dict[str, str] = {}  # noqa: RUF012  # never changed


EXAMPLES = {
    "etl": Example("Extract, transform, load: no row of a table is lost or doubled"),
    "streaming": Example("A consumer with offsets: each message arrives once, whenever it is killed"),
    "deployment": Example("A release in steps: one fails, and what was done is taken back in order"),
    "training": Example(
        "Weights as versions: a training goes on after a kill, and the best epoch is restored",
        {"sklearn": "scikit-learn", "numpy": "numpy"},
    ),
    "agent": Example(
        "A LangGraph agent is killed, asks a person, and is taken back in time to another answer",
        {"langgraph.graph": "langgraph"},
    ),
    "distributed": Example(
        "Dask workers over one store: each file once, although a worker is killed", {"distributed": "dask[distributed]"}
    ),
}


def source(name: str) -> Path:
    """Return the file of an example."""
    return Path(__file__).with_name(f"{name}.py")


def show(name: str, folder: Path, store: str | None) -> None:
    """Run an example twice: the first time, it is killed.

    Args:
        name: Which.
        folder: Where it works: a new folder.
        store: Where its store is; None: in that folder.

    Raises:
        UsageError: A package is missing.
        DemonstrationFailedError: The example failed.
    """
    example = EXAMPLES[name]
    missing = [package for module, package in example.needs.items() if not _is_installed(module)]
    if missing:
        packages = " ".join(shlex.quote(package) for package in missing)
        raise UsageError(f"the example {name} needs {' and '.join(missing)}", hint=f"Run pip install {packages}")
    began = time.monotonic()
    folder.mkdir(parents=True)
    place = store or str(folder.absolute() / "checkpoints")
    print(f"{name}: {example.summary}")
    print(f"  program    {printable(str(source(name)))}")
    print(f"  store      {printable(redacted(place))}")
    print("\nIt runs, and is killed (SIGKILL) in the middle", flush=True)
    ended = _run(name, folder, place, "--crash")
    if ended != -signal.SIGKILL:
        raise DemonstrationFailedError(f"the example ended with exit code {ended} before it was killed: see its messages above")
    print("\nIt is started again", flush=True)
    if ended := _run(name, folder, place):
        raise DemonstrationFailedError(f"the example failed with exit code {ended}: see its messages above")
    shown = shlex.quote(printable(redacted(store) if store else os.path.relpath(place)))
    print(f"\nDone in {time.monotonic() - began:.1f} s. What it made is in {printable(os.path.relpath(folder))}. Try next:")
    print(f"  checkpoint-manager demo {name} --source")
    print(f"  checkpoint-manager status --store {shown}", flush=True)


def _is_installed(module: str) -> bool:
    """Return whether a module can be imported. Packages may share the one above it, as langgraph-checkpoint does langgraph."""
    above = module.rpartition(".")[0]
    return (not above or _is_installed(above)) and find_spec(module) is not None


def _run(name: str, folder: Path, store: str, *options: str) -> int:
    """Run an example to its end, in a process group of its own, and return its exit code."""
    words = [sys.executable, "-m", f"{__package__}.{name}", *options]
    environment = {**os.environ, "CHECKPOINT_MANAGER_STORE": store, "PYTHONSAFEPATH": "1"}
    with subprocess.Popen(words, cwd=folder, env=environment, process_group=0) as child:  # noqa: S603  # this very package
        try:
            return child.wait()
        except BaseException:
            child.kill()
            raise
