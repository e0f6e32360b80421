"""What a look at the store gave: findings, their report, and what a repair did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["whole", "damaged", "missing", "foreign", "rolled back", "unreadable", "leftover", "exposed"]
"""What ``verify`` found: see :class:`Finding`."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``verify`` looked at.

    Attributes:
        stage: The stage, or None for something that belongs to no stage (the keyring, a stray file).
        version: The version's number, or None.
        state: ``whole``; ``damaged``: does not open or contradicts itself; ``missing``: was there and no record says
            that it was deleted; ``foreign``: genuine, but of another stage, store or position; ``rolled back``: older than
            what was already seen; ``unreadable``: the operating system refused to read it, perhaps only this time;
            ``leftover``: harmless remains of an interrupted operation; ``exposed``: others on this host may read or write it.
        detail: What exactly, in a sentence. Never data.
        path: Where, or the empty string.
    """

    stage: str | None
    version: int | None
    state: State
    detail: str = ""
    path: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What ``verify`` found, in the order: store, then stages by name, then versions by number."""

    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """True if nothing is damaged, missing, foreign or rolled back. Leftovers and wide permissions do not count."""
        return all(finding.state in {"whole", "leftover", "exposed"} for finding in self.findings)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """All findings but the ``whole`` ones."""
        return tuple(finding for finding in self.findings if finding.state != "whole")


@dataclass(frozen=True, slots=True)
class Repair:
    """What one step of ``repair`` did, or with ``dry_run`` would do.

    Attributes:
        action: ``set aside`` (moved to the folder ``damaged``, nothing is deleted), ``rebuild head``, ``sweep`` (a
            leftover removed) or ``append`` (a version that says that the newest one was set aside).
        stage: The stage, or None.
        version: The version's number, or None.
        detail: What, where and why, in a sentence.
    """

    action: Literal["set aside", "rebuild head", "sweep", "append"]
    stage: str | None
    version: int | None
    detail: str
