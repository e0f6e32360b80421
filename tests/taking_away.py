"""Taking a version of a directory store away, as an attacker does who knows where its bytes are."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def take_away(version: Path) -> None:
    """Remove a version by all of its names."""
    head = version.parents[2] / f"{version.parent.name}.checkpoint"
    if head.exists() and head.samefile(version):
        head.unlink()
    leave_the_head(version)


def leave_the_head(version: Path) -> None:
    """Remove a version by all of its names but the head."""
    version.unlink()
    for pending in version.parent.glob(f"{version.stem}.*.pending"):
        pending.unlink()
