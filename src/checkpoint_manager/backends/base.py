"""The contract that every place to keep checkpoints fulfils.

A backend keeps *versions*, byte strings addressed by stage name and number, written once, and a few small *records* that are
changed by compare-and-set. It knows nothing of keys, JSON or history. What it must guarantee:

* **Exclusive:** of any number of writers that append the same version, exactly one succeeds; the others get
  :class:`VersionTakenError` and have changed nothing. This holds without the lock, which only keeps writers from colliding.
* **Whole:** a version is visible completely or not at all, whenever the writer is killed.
* **Durable:** when ``append`` or ``write_record`` returns, the bytes survive a power cut, unless opened as ``relaxed``.
* **Exact:** stage names are any text that :func:`checkpoint_manager.backends.stage_names.validate` accepts; two different
  names never meet in one place.

The contract is executable: :class:`checkpoint_manager.testing.BackendContract` runs against every backend.
"""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable
    from contextlib import AbstractContextManager

    from checkpoint_manager.models import Buffer


StageRecord: TypeAlias = Literal["gaps", "tags"]
"""A record that belongs to one stage: which versions are gone on purpose, and which have a name."""

RecordName: TypeAlias = Literal["keyring"] | StageRecord
"""``keyring`` belongs to the whole store (stage None), the others to one stage."""


class VersionTakenError(Exception):
    """Append: there is a version of this number already. Nothing was changed."""


class VersionAbsentError(Exception):
    """Open, replace, set aside: there is no version of this number, or no such record."""


class RecordChangedError(Exception):
    """Compare-and-set: the record is not what the caller took it for. Nothing was changed."""


class Reader(Protocol):
    """One version, opened once: what is read later is of the same bytes, whatever happens to the name."""

    @property
    def size(self) -> int:
        """Length of the whole version in bytes."""

    def read(self, length: int) -> bytes:
        """Return the next ``length`` bytes; fewer only at the end."""


class Record(NamedTuple):
    """A record as read.

    Attributes:
        data: Its bytes.
        stamp: Changes whenever the record does; lets a backend answer "still the same" without reading.
    """

    data: bytes
    stamp: Hashable = None


class Stray(NamedTuple):
    """Something in the store that is no version and no record.

    Attributes:
        kind: ``leftover``: remains of an interrupted operation, safe to sweep; ``unknown``: nothing of ours, never touched;
            ``displaced``: likewise, but in a place where it hides a stage;
            ``exposed``: ours, but others on this host may read or write it; ``stale mark``: the mark of the newest version is
            missing, old, or not ours, and can be set again.
        path: Where.
        detail: What, in a clause.
        stage: The stage it belongs to, or None.
    """

    kind: Literal["leftover", "unknown", "displaced", "exposed", "stale mark"]
    path: str
    detail: str
    stage: str | None = None


Purpose: TypeAlias = Literal["write", "run"]
"""What a stage's lock is held for: while it is written to, or for as long as the function runs whose result it will be."""


class Backend(ABC):
    """A place to keep checkpoints. See the module's docstring for what it must guarantee."""

    location: str
    """Where it is, for people: stands in messages."""

    # Locks

    @abstractmethod
    def lock(
        self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = ""
    ) -> AbstractContextManager[object]:
        """Return a lock of a stage, or the one of the store's records (None), to be entered with ``with``.

        Locks of different purposes or names have nothing to do with one another. With an infinite timeout, it waits for ever.

        Args:
            stage: The stage, or None.
            timeout: How long to wait, in seconds.
            purpose: What the lock is held for.
            name: Which run of the stage, as up to 32 hexadecimal digits; only for ``run``. There may be millions of them, so a
                backend keeps nothing of a lock that nobody holds.

        Raises:
            LockTimeoutError: On entry, when ``timeout`` seconds have passed; names the holder where that is known.
        """

    # Versions

    def visit(self, stage: str) -> AbstractContextManager[object]:  # noqa: ARG002  # most have nothing to share
        """Announce that this thread makes several calls on one stage, so that what they have in common is done once.

        To be entered with ``with``, for a moment. It changes nothing in what the calls return.
        """
        return contextlib.nullcontext()

    @abstractmethod
    def stages(self) -> list[str]:
        """Return the names of all stages that ever had a version, in no particular order."""

    @abstractmethod
    def versions(self, stage: str) -> list[int]:
        """Return the numbers of all versions of a stage, ascending; empty if it has none."""

    @abstractmethod
    def mark(self, stage: str) -> bytes:
        """Return the opening bytes of the version last marked as the newest; empty if there is no such mark.

        A hint that makes ``newest`` quick; never to be trusted. Backends that find the newest version without it return
        nothing.
        """

    def is_marked(self, stage: str, version: int) -> bool:  # noqa: ARG002  # most have no marks
        """Return whether the mark is this very version. False where that can't be told with less work than :meth:`mark`."""
        return False

    @abstractmethod
    def newest(self, stage: str, *, hint: int = 0) -> int:
        """Return the number of the newest version, 0 if there is none.

        Args:
            stage: The stage.
            hint: A number below which the newest version can't be. With a hint, the time taken must not depend on how
                many versions there are. With 0, the answer is exhaustive: no version has a higher number.
        """

    @abstractmethod
    def append(self, stage: str, version: int, pieces: Iterable[Buffer]) -> None:
        """Write a version exclusively, whole and durably, and mark it as the newest.

        Each piece is used up before the next one is asked for.

        Raises:
            VersionTakenError: The number is taken. The caller finds out by whom: an earlier answer may have been lost.
            StorageError: It could not be written, or could not be made durable.
        """

    @abstractmethod
    def settle(self, stage: str) -> None:
        """Make durable whatever can be read of a stage. Only a backend where a version can be read before that has work to do.

        Raises:
            StorageError: It could not be made durable.
        """

    @abstractmethod
    def open(self, stage: str, version: int) -> AbstractContextManager[Reader]:
        """Open a version for reading.

        Raises:
            VersionAbsentError: There is none.
            IntegrityError: Something that is no version stands in its place.
        """

    @abstractmethod
    def replace(self, stage: str, version: int, pieces: Iterable[Buffer]) -> None:
        """Exchange the bytes of an existing version, whole and durably; only for the same content under another key.

        Raises:
            VersionAbsentError: There is none.
        """

    @abstractmethod
    def delete(self, stage: str, versions: Iterable[int]) -> None:
        """Remove versions durably; those that are not there are passed over. Never the newest one."""

    # Records

    @abstractmethod
    def read_record(
        self, name: RecordName, stage: str | None = None, *, limit: int, known: Record | None = None
    ) -> Record | None:
        """Return a record, or None if there is none.

        Args:
            name: Which.
            stage: Whose, or None for the store's.
            limit: The largest number of bytes that is read.
            known: What the caller has; returned as it is when the record has not changed since.

        Raises:
            IntegrityError: It is larger than ``limit``, or no record stands in its place.
        """

    @abstractmethod
    def write_record(self, name: RecordName, stage: str | None = None, *, data: bytes, expected: Record | None) -> Record:
        """Write a record durably if it is still ``expected`` (None: if there is none), and return it as it is now.

        Raises:
            RecordChangedError: Someone else wrote it first.
        """

    # Upkeep

    def exposure(self) -> str:
        """Return a warning for the user who opens the store, if others may write to it; empty if not."""
        return ""

    @abstractmethod
    def strays(self) -> list[Stray]:
        """Return what lies about in the store that is no version and no record, sorted by path."""

    @abstractmethod
    def sweep(self, stray: Stray) -> bool:
        """Remove a leftover; return False if it was gone or is in use. The caller holds the lock of its stage."""

    @abstractmethod
    def set_mark(self, stage: str, version: int) -> None:
        """Mark a version as the newest, durably. The caller holds the lock of the stage."""

    def drop_mark(self, stage: str) -> None:  # noqa: B027  # most have no marks
        """Remove the mark of the newest version, durably, so that it is looked for by listing until the next one is set.

        To be called before a version is appended that does not follow the newest one: from an older mark, it could not be seen.
        The caller holds the lock of the stage.
        """

    @abstractmethod
    def set_aside(self, stage: str, what: int | StageRecord) -> str:
        """Move a version, or a record of the stage, out of the history without deleting it, and say where it is now.

        Raises:
            VersionAbsentError: There is none.
        """

    @abstractmethod
    def wait_for_writers(self, timeout: float) -> None:
        """Return when every writer that holds a stage's lock at this moment has let go of it.

        Raises:
            LockTimeoutError: One did not within ``timeout`` seconds.
        """
