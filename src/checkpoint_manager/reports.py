"""What inspections, bundles and long operations report: frozen, slotted values, and free of I/O."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from checkpoint_manager._text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class BundledStage:
    """One stage of a bundle.

    Attributes:
        stage: Its name; after an import, its name in the store.
        versions: The number of its versions in the bundle.
        newest: The number of the newest of them.
        added: The number of versions that an import appended, or would append with ``dry_run``; 0 for an export.
        tags: The tags that were exported; after an import, those that were added, or would be added with ``dry_run``.
        tags_kept: The tags of the bundle that an import skipped because they name another version in the store.
    """

    stage: str
    versions: int
    newest: int
    added: int = 0
    tags: tuple[str, ...] = ()
    tags_kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """The result of an export or import.

    Attributes:
        stages: The stages, sorted by their names in the bundle.
        size: The length of the bundle in bytes.
    """

    stages: tuple[BundledStage, ...]
    size: int

    @property
    def versions(self) -> int:
        """The number of versions in the bundle."""
        return sum(stage.versions for stage in self.stages)

    @property
    def added(self) -> int:
        """The number of versions that an import appended."""
        return sum(stage.added for stage in self.stages)


State: TypeAlias = Literal[
    "whole",
    "damaged",
    "missing",
    "incomplete",
    "foreign",
    "rolled-back",
    "unreadable",
    "unfinished",
    "clock",
    "leftover",
    "exposed",
]
"""The state of something that ``verify`` examined: see :class:`Finding`."""

_HARMLESS = frozenset({"whole", "clock", "leftover", "exposed"})


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of ``verify`` for one version or file.

    Attributes:
        stage: The stage, or None for what belongs to no stage, such as the keyring.
        version: The version's number, or None.
        state: One of

            * ``whole``: it is in order;
            * ``damaged``: it does not open, or contradicts itself;
            * ``missing``: it is gone without a record of its deletion;
            * ``incomplete``: an attachment of it is gone or does not open; its data is whole;
            * ``foreign``: it is genuine, but belongs to another stage, store or position;
            * ``rolled-back``: it is older than what this user has seen;
            * ``unreadable``: the operating system refused to read it, perhaps only this time;
            * ``unfinished``: a key rotation was interrupted, and the old key is still valid;
            * ``clock``: it is dated in the future, or before an earlier version;
            * ``leftover``: a harmless leftover of an interrupted operation;
            * ``exposed``: other users of this host may read or write it.
        detail: What was found, as a sentence. Never data.
        path: Where, or the empty string.
    """

    stage: str | None
    version: int | None
    state: State
    detail: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        """Escape what a file may have put into the sentence."""
        object.__setattr__(self, "detail", escaped(self.detail))


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """The findings of ``verify``: those of the store first, then by stage and by version."""

    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether all findings are harmless: whole, or a wrong clock, a leftover or wide permissions."""
        return all(finding.state in _HARMLESS for finding in self.findings)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """All findings except those that are ``whole``."""
        return tuple(finding for finding in self.findings if finding.state != "whole")


@dataclass(frozen=True, slots=True)
class RepairStep:
    """One step of ``repair``, done or, with ``dry_run``, planned.

    Attributes:
        action: ``set-aside`` (move to the folder ``damaged``; nothing is deleted), ``put-back`` (a version whose only copy is
            the head), ``rebuild-head``, ``remove`` (a leftover) or ``append`` (a version that records that the newest one was
            set aside).
        stage: The stage, or None.
        version: The version's number, or None.
        detail: What, where and why, as a sentence.
    """

    action: Literal["set-aside", "put-back", "rebuild-head", "remove", "append"]
    stage: str | None
    version: int | None
    detail: str

    def __post_init__(self) -> None:
        """Escape what a file may have put into the sentence."""
        object.__setattr__(self, "detail", escaped(self.detail))


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a long operation, as passed to its ``progress`` callback.

    Attributes:
        done: The number of units done.
        total: The number of units in all; it may grow while other writers are active.
        unit: What is counted: ``versions``, ``stages``, or the ``bytes`` of a bundle.
        stage: The stage being worked on, or None.
    """

    done: int
    total: int
    unit: Literal["versions", "stages", "bytes"] = "versions"
    stage: str | None = None


OnProgress: TypeAlias = "Callable[[Progress], object]"
"""A progress callback. Its return value is ignored; an exception from it ends the operation."""
