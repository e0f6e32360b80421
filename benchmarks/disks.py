"""A disk with a journal, beside the one under test: what its users have, and where a flush costs most.

A sync makes ext4 commit its journal, which a disk without one does not do. So saves are measured on both: on the disk as it is,
and on an ext4 in an image file on that disk, where this process may mount one.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from typing import TYPE_CHECKING

from benchmarks.environment import filesystem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_IMAGE_BYTES = 2 * 1024**3
"""Sparse: it takes as much of the disk as is written to it."""


@contextlib.contextmanager
def journaled(folder: Path) -> Iterator[Path | str]:
    """Make an ext4 with a journal in an image file in ``folder`` and mount it; give the place, or why there is none."""
    image, place = folder / "journaled.img", folder / "journaled"
    if _has_journal(folder):
        yield "the disk under test has a journal itself"
        return
    try:
        with image.open("wb") as file:
            file.truncate(_IMAGE_BYTES)
        place.mkdir()
        _run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", str(image))
        _run("mount", "-o", "loop", str(image), str(place))
    except (OSError, subprocess.CalledProcessError) as error:
        yield f"no ext4 can be mounted here: {error}"
        return
    try:
        yield place
    finally:
        with contextlib.suppress(subprocess.SubprocessError):  # it goes with the machine
            _run("umount", "--lazy", str(place))


def _has_journal(folder: Path) -> bool:
    """Return whether each sync on a file system commits a journal or a log."""
    kind, _, device = filesystem(folder).split()[:3]
    if kind in {"ext3", "ext4"}:
        return any(name.startswith(f"{os.path.basename(device)}-") for name in _journals())
    return kind in {"xfs", "jfs"}


def _journals() -> list[str]:
    try:
        return os.listdir("/proc/fs/jbd2")
    except OSError:
        return []


def _run(*words: str) -> None:
    subprocess.run(words, check=True, capture_output=True, timeout=120)
