"""What inspections, bundles and long operations report: frozen, slotted values, and free of I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Literal, TypeAlias

from checkpoint_manager._text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from checkpoint_manager.errors import CheckpointError
    from checkpoint_manager.models import Origin, Version


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
    "newer",
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
            * ``newer``: by its first line, a newer version of the library wrote it;
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


@dataclass(frozen=True, slots=True)
class Running:
    """A function or loop of a stage that runs now, in whatever process.

    All but the stage is what its process told, sealed with the key of the store. Someone who may write to the store can't make
    it up, but can put back what the process told earlier. Where it can't be read, as after a rotation of the key, all is None.

    Attributes:
        stage: The stage.
        started_at: When it began, by the clock of its host.
        updated_at: When its process told this. A loop does so about twice a second, in an object store every five seconds, and
            with each save; a function only when it begins.
        origin: The user, host and process that runs it.
        run_id: The run of the pipeline that it is a part of, see ``cm.run_id``.
        done: The number of items done, if it is a loop, or a function with a loop of the same name.
        total: The number of its items, if that is known.
        resumed_from: The number of items that were done when it began.
        stages: The stages that its program has defined, in their order; none if there are more than 50.
    """

    stage: str
    started_at: datetime | None = None
    updated_at: datetime | None = None
    origin: Origin | None = None
    run_id: str | None = None
    done: int | None = None
    total: int | None = None
    resumed_from: int = 0
    stages: tuple[str, ...] = ()

    @property
    def expected_end(self) -> datetime | None:
        """When a loop will end if it goes on as fast as it did so far; None if that can't be told."""
        if self.started_at is None or self.updated_at is None or self.done is None or self.total is None:
            return None
        took, items = self.updated_at - self.started_at, self.done - self.resumed_from
        if items <= 0 or took <= timedelta():
            return None
        try:
            return self.updated_at + took / items * max(0, self.total - self.done)
        except OverflowError:  # in thousands of years
            return None


@dataclass(frozen=True, slots=True)
class StageStatus:
    """The state of a stage, from the metadata of its newest version, without its data.

    Attributes:
        stage: The stage.
        newest: Its newest version, whatever its status; None if it has none yet, or none that can be read.
        running: What runs of it now, in whatever process.
        stale: Why it is out of date, if it was made of a result of another stage that is; see ``stale_stages``.
        error: Why the newest version can't be read.
    """

    stage: str
    newest: Version | None = None
    running: tuple[Running, ...] = ()
    stale: str | None = None
    error: CheckpointError | None = None

    @property
    def state(self) -> Literal["running", "completed", "progress", "failed", "cleared", "stale", "damaged", "new"]:
        """The state in one word: ``running`` before all others, ``damaged`` with an error, ``new`` without a version."""
        if self.running:
            return "running"
        if self.error is not None:
            return "damaged"
        if self.newest is None:
            return "new"
        match self.newest.status:
            case "missing" | "unreadable":
                return "damaged"
            case "completed" if self.stale is not None:
                return "stale"
            case status:
                return status
