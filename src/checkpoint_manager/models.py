"""The values that callers see. Frozen, slotted, without behaviour that does I/O."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from checkpoint_manager._text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from checkpoint_manager.errors import CheckpointError

Buffer: TypeAlias = bytes | bytearray | memoryview

Status: TypeAlias = Literal["completed", "progress", "failed", "cleared"]
"""What a version says of its stage. Only ``completed`` makes ``has_checkpoint`` true."""

Durability: TypeAlias = Literal["full", "relaxed"]
"""``full`` syncs each save to the medium; ``relaxed`` leaves that to the operating system."""

OnRollback: TypeAlias = Literal["raise", "warn"]
"""What to do when the directory is older than what this user has already seen."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a version was written: kept with it, encrypted, to find out later who wrote it."""

    user: str
    host: str
    pid: int
    python: str
    library: str


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one stage, without its data.

    Attributes:
        stage: The stage's name.
        number: 1, 2, 3, … within the stage, never used twice.
        status: ``completed``, ``progress``, ``failed`` or ``cleared``. In a history also ``damaged``: it does not open, or is
            forged; and ``missing``: it is gone, and no record says that it was deleted. Nothing more is known of these two.
        created_at: When it was written, aware, in UTC, as the clock of that host said; None if that is not known.
        metadata: What the caller gave as ``metadata=``.
        origin: Who wrote it, and where, as that process said; None if that is not known.
        size: Length of the data as JSON, in bytes; None if that is not known.
        restored_from: The number of the version that this one is a copy of, or None.
    """

    stage: str
    number: int
    status: Status | Literal["damaged", "missing"]
    created_at: datetime | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None
    size: int | None = None
    restored_from: int | None = None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A version with its data."""

    version: Version
    data: Any


@dataclass(frozen=True, slots=True)
class BundledStage:
    """One stage of a bundle.

    Attributes:
        stage: Its name; after an import, the one that it has in the store.
        versions: How many versions of it the bundle holds.
        newest: The number of the newest one.
        added: How many of them an import appended to the store, or with ``dry_run`` would append; 0 for an export.
        tags: The tags that were exported; after an import, those that it added, or with ``dry_run`` would add.
        tags_kept: The tags of the bundle that an import left alone, as another version has that name in the store.
    """

    stage: str
    versions: int
    newest: int
    added: int = 0
    tags: tuple[str, ...] = ()
    tags_kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """What was exported or imported.

    Attributes:
        stages: The stages, by name as in the bundle.
        size: The length of the bundle in bytes.
    """

    stages: tuple[BundledStage, ...]
    size: int

    @property
    def versions(self) -> int:
        """How many versions the bundle holds."""
        return sum(stage.versions for stage in self.stages)

    @property
    def added(self) -> int:
        """How many of them an import appended."""
        return sum(stage.added for stage in self.stages)


State: TypeAlias = Literal[
    "whole", "damaged", "missing", "foreign", "rolled-back", "unreadable", "unfinished", "clock", "leftover", "exposed"
]
"""What ``verify`` found: see :class:`Finding`."""

_HARMLESS = frozenset({"whole", "clock", "leftover", "exposed"})


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that ``verify`` looked at.

    Attributes:
        stage: The stage, or None for something that belongs to no stage (the keyring, a stray file).
        version: The version's number, or None.
        state: ``whole``; ``damaged``: does not open or contradicts itself; ``missing``: was there and no record says
            that it was deleted; ``foreign``: genuine, but of another stage, store or position; ``rolled-back``: older than
            what was already seen; ``unreadable``: the operating system refused to read it, perhaps only this time;
            ``unfinished``: a key rotation that was interrupted, so that the old key still counts; ``clock``: dated in the
            future, or before an earlier version; ``leftover``: harmless remains of an interrupted operation; ``exposed``:
            others on this host may read or write it.
        detail: What exactly, in a sentence. Never data.
        path: Where, or the empty string.
    """

    stage: str | None
    version: int | None
    state: State
    detail: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        """Make the sentence safe to show, whatever a file says."""
        object.__setattr__(self, "detail", escaped(self.detail))


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What ``verify`` found, in the order: store, then stages by name, then versions by number."""

    findings: tuple[Finding, ...] = ()

    @property
    def ok(self) -> bool:
        """True if no finding is worse than a wrong clock, a leftover or wide permissions."""
        return all(finding.state in _HARMLESS for finding in self.findings)

    @property
    def problems(self) -> tuple[Finding, ...]:
        """All findings but the ``whole`` ones."""
        return tuple(finding for finding in self.findings if finding.state != "whole")


@dataclass(frozen=True, slots=True)
class RepairStep:
    """What one step of ``repair`` did, or with ``dry_run`` would do.

    Attributes:
        action: ``set-aside`` (moved to the folder ``damaged``, nothing is deleted), ``rebuild-head``, ``remove`` (a
            leftover) or ``append`` (a version that says that the newest one was set aside).
        stage: The stage, or None.
        version: The version's number, or None.
        detail: What, where and why, in a sentence.
    """

    action: Literal["set-aside", "rebuild-head", "remove", "append"]
    stage: str | None
    version: int | None
    detail: str

    def __post_init__(self) -> None:
        """Make the sentence safe to show, whatever a file says."""
        object.__setattr__(self, "detail", escaped(self.detail))


@dataclass(frozen=True, slots=True)
class RestoreStep:
    """What ``restore_pipeline`` would do to one stage, as ``plan_restore`` returns it.

    Attributes:
        stage: The stage.
        action: ``restore``: append a copy of ``target``; ``clear``: append a cleared version, as the stage was not there then;
            ``keep``: leave it as it is; ``refuse``: it can't be restored, and then no stage is.
        newest: The newest version now; None if there is none, or it can't be told.
        target: The version that is restored; None if there is none.
        error: Why it can't be restored; None if it can.
    """

    stage: str
    action: Literal["restore", "clear", "keep", "refuse"]
    newest: Version | None = None
    target: Version | None = None
    error: CheckpointError | None = None


@dataclass(frozen=True, slots=True)
class KeySlot:
    """One way to open the store, as ``cm.keys.list()`` shows it: nothing in it is secret.

    Attributes:
        slot: The slot's id, to name it in ``cm.keys.remove``.
        kind: ``key-file`` or ``passphrase``.
        label: What the owner called it, or the empty string.
        created_at: When it was added, aware, in UTC.
        current: True for the slot that this manager itself opened the store with.
    """

    slot: str
    kind: Literal["key-file", "passphrase"]
    label: str
    created_at: datetime
    current: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a long operation has come, as its ``progress`` callback is told.

    Attributes:
        done: How many units are done.
        total: How many there are; it may grow while writers go on.
        unit: What is counted: ``versions``, ``stages``, or the ``bytes`` of a bundle.
        stage: The stage just worked on, or None where the operation does not go by stages.
    """

    done: int
    total: int
    unit: Literal["versions", "stages", "bytes"] = "versions"
    stage: str | None = None


OnProgress: TypeAlias = "Callable[[Progress], object]"
"""A callback for progress; what it returns is ignored, what it raises ends the operation."""


@dataclass(frozen=True, slots=True)
class Passphrase:
    """A passphrase to open a store with: ``CheckpointManager(key=Passphrase("…"))``. Never shown by ``repr``."""

    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A key file to open a store with: ``CheckpointManager(key=KeyFile("/path/to/key"))``."""

    path: str


Key: TypeAlias = Passphrase | KeyFile | os.PathLike[str] | bytes
"""What opens a store or a bundle: a passphrase, a key file (also as a path, such as ``pathlib.Path``), or 32 bytes."""
