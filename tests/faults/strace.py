"""Attaches strace to a process that waits for it, and reads its log."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

CHANGING = frozenset(
    (
        *("write", "pwrite64", "fsync", "fdatasync", "link", "linkat", "rename", "renameat", "renameat2", "unlink"),
        *("unlinkat", "mkdir", "mkdirat", "rmdir", "fchmod", "ftruncate"),
    )
)
"""The calls that change files, wherever they are."""
OF_FILES = CHANGING | {
    *("open", "openat", "read", "pread64", "stat", "lstat", "newfstatat", "statx", "fstat", "getdents64", "flock"),
    *("close", "lseek", "fcntl"),
}


@dataclass(frozen=True)
class Call:
    """One system call: by its name, and which of that name it is. That finds it again in the next run."""

    name: str
    ordinal: int
    text: str = ""

    def injection(self, what: str) -> str:
        """Return the option that makes something happen at this call."""
        return f"inject={self.name}:{what}:when={self.ordinal}"


class Strace:
    """strace, attached to a process. It ends when the process does.

    Args:
        pid: The process.
        log: Where the calls are written.
        options: More for the command line.
    """

    def __init__(self, pid: int, log: Path, *options: str) -> None:
        command = ["strace", "-p", str(pid), "-o", str(log), *options]
        self._strace = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        assert self._strace.stderr is not None
        said = self._strace.stderr.readline()
        if "attached" not in said:
            raise RuntimeError(f"strace does not attach: {said}")
        return self

    def __exit__(self, *_: object) -> None:
        self._strace.communicate()


def calls(log: Path, names: frozenset[str] | None = None) -> list[Call]:
    """Return the calls in a log, those of ``names`` alone if given."""
    counts: Counter[tuple[str | None, str]] = Counter()
    found: list[Call] = []
    for line in log.read_text(errors="replace").splitlines():
        match = re.match(r"(?:(\d+) +)?(\w+)\(", line)
        if match:
            counts[match[1], match[2]] += 1  # each thread has its own count
            if names is None or match[2] in names:
                found.append(Call(match[2], counts[match[1], match[2]], line))
    return found


def require(program: str) -> None:
    """Skip the test where a program is missing; fail it where that is asked for."""
    if shutil.which(program) is None:
        if os.environ.get("TESTS_REQUIRE_PROGRAMS"):
            pytest.fail(f"{program} is not installed")
        pytest.skip(f"{program} is not installed")
