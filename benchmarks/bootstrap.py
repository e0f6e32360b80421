"""An environment for the libraries to compare with, made on first use: nothing of it enters the one that runs the command.

Where the extra ``bench`` is installed already, nothing is made. This module imports only the standard library.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REASONS = "CHECKPOINT_MANAGER_BENCHMARK_ABSENT"
"""The variable that tells the program in the new environment, by module, what could not be installed."""
MODULES = {
    "numpy": "numpy",
    "langgraph-checkpoint-sqlite": "langgraph",
    "pycryptodome": "Crypto",
    "diskcache": "diskcache",
    "zodb": "ZODB",
    "py-key-value-aio": "key_value",
    "joblib": "joblib",
    "sqlcipher3-wheels": "sqlcipher3",
}
"""What each distribution of the extra is imported as."""


def requirements() -> dict[str, str]:
    """Return the extra's requirements, by distribution."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = [text for text in extras["bench"] if not text.startswith("checkpoint-manager")]
    return {_distribution(text): text for text in wanted}


def _distribution(requirement: str) -> str:
    return requirement.partition(">=")[0].partition("[")[0].strip().lower()


def complete() -> bool:
    """Whether this Python can import the library and everything of the extra."""
    return all(importlib.util.find_spec(name) is not None for name in ("checkpoint_manager", "click", *MODULES.values()))


def restart_inside(arguments: list[str]) -> None:
    """Go on in the environment of the benchmarks, made first if it is not there; does not return.

    Raises:
        subprocess.CalledProcessError: Not even the library itself can be installed.
    """
    folder = _folder()
    python = folder / "bin" / "python"
    absent = folder / "absent.json"
    if not absent.exists() or json.loads(absent.read_text()):  # what could not be installed may be installable by now
        print(f"making an environment for the libraries to compare with: {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, stdout=sys.stderr)
        absent.write_text(json.dumps(_install(python)))
    os.environ[REASONS] = absent.read_text()
    os.execv(python, [str(python), "-m", "benchmarks", "--no-install", *arguments])


def _folder() -> Path:
    """Return the environment's place in the user's cache: another one for each checkout, Python and list of requirements."""
    text = f"{ROOT} {sys.version} {(ROOT / 'pyproject.toml').read_text()}"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "checkpoint-manager-benchmarks" / hashlib.sha256(text.encode()).hexdigest()[:16]


def _install(python: Path) -> dict[str, str]:
    """Install the library from this checkout and the extra, and return the reasons for what can't be, by module."""
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = requirements()
    if not _failure([*pip, "-e", f"{ROOT}[cli]", *wanted.values()]):
        return {}
    subprocess.run([*pip, "-e", f"{ROOT}[cli]"], check=True, stdout=sys.stderr)
    failures = {name: _failure([*pip, text]) for name, text in wanted.items()}
    return {MODULES[name]: f"can't be installed: {reason}" for name, reason in failures.items() if reason}


def _failure(command: list[str]) -> str:
    """Run pip, and return the first line that says what went wrong; empty if nothing did."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return ""
    lines = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return lines[0].partition(" (from versions")[0] if lines else f"pip ended with {done.returncode}"


def reasons() -> dict[str, str]:
    """Return why something could not be installed, by module, as ``restart_inside`` left it."""
    return dict(json.loads(os.environ.get(REASONS, "{}")))
