"""Where a run took place: without it, its figures say nothing. Only ratios within one run can be compared."""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from cryptography.hazmat.backends.openssl import backend

from benchmarks.bootstrap import ROOT, requirements

_OURS = ("checkpoint-manager", "cryptography", "filelock", "orjson", "platformdirs", "click", "rich")
_IN_MEMORY = {"tmpfs", "ramfs"}


def describe(folder: Path) -> dict[str, Any]:
    """Return what a reader of the figures must know about the machine, the disk and the programs."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _output("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load": os.getloadavg()[0],
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "filesystem": filesystem(folder),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "openssl": backend.openssl_version_text(),
        "sqlite": sqlite3.sqlite_version,
        "versions": {name: version for name in (*_OURS, *requirements()) if (version := _version(name))},
        "programs": {name: _output(name, "version") for name in ("git", "restic") if shutil.which(name)},
    }


def warnings(environment: dict[str, Any]) -> list[str]:
    """Return why the figures of this run can't be trusted."""
    found = []
    if environment["load"] > 0.5:
        found.append(f"other programs are running (load {environment['load']:.1f}): the figures are of no use but to look")
    if environment["filesystem"].split()[0] in _IN_MEMORY:
        found.append("the folder is in memory: nothing is ever synced there; choose a disk with --folder")
    return found


def lines(environment: dict[str, Any]) -> str:
    """Return the environment as text, for people."""
    shown = {name: value for name, value in environment.items() if not isinstance(value, dict)}
    shown["memory"] = f"{shown.pop('memory_bytes') / 2**30:.0f} GiB"
    shown["load"] = f"{shown['load']:.2f}"
    shown["versions"] = ", ".join(f"{name} {version}" for name, version in environment["versions"].items())
    shown["programs"] = ", ".join(environment["programs"].values())
    return "\n".join(f"{name:<10} {value}" for name, value in shown.items() if value)


def filesystem(folder: Path) -> str:
    """Return type, device and options of the file system that a folder is on."""
    device = os.stat(folder).st_dev
    try:
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return f"unknown ({sys.platform})"
    for line in mounts:
        left, _, right = line.partition(" - ")
        fields = left.split()
        if fields[2] == f"{os.major(device)}:{os.minor(device)}":
            kind, source, options = right.split(maxsplit=2)
            return f"{kind} on {source} ({options})"
    return "unknown"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _output(*words: str) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.partition("\n")[0].strip() if done.returncode == 0 else ""
