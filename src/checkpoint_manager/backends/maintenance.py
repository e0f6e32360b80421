"""What a backend offers in addition where something may be left behind: leftovers, copies, notes, a quarantine."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Literal

from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from checkpoint_manager.backends.base import Backend, Reader, Session, StageRecord


class Leftover(NamedTuple):
    """Something in the store that is neither a version nor a record: a file, a folder or chunks.

    Attributes:
        kind: ``leftover``: remains of an interrupted operation, safe to remove;
            ``unknown``: not of this library, never touched;
            ``displaced``: likewise, but in a place where it hides a stage;
            ``exposed``: of this library, but others on this host may read or write it;
            ``stale head``: the head is missing, is older than the newest version, or is not of this store; to remove it sets
            it again.
        path: Where.
        detail: What, in a clause.
        stage: The stage it belongs to, or None.
    """

    kind: Literal["leftover", "unknown", "displaced", "exposed", "stale head"]
    path: str
    detail: str
    stage: str | None = None


class Maintenance(ABC):
    """What a store needs in addition where crashes, administrators or other programs may leave something behind.

    Attributes:
        moves_stages: It has :meth:`quarantine_stage`.
    """

    moves_stages: ClassVar[bool] = False

    @abstractmethod
    def leftovers(self) -> list[Leftover]:
        """Return what is neither a version nor a record, sorted by path."""

    @abstractmethod
    def remove(self, leftover: Leftover) -> bool:
        """Remove a leftover if it still exists; return False if it is in use. The caller holds the lock of its stage."""

    @abstractmethod
    def warnings(self) -> list[str]:
        """Return warnings about the safety of the store for the user who opens it, one sentence each."""

    def only_copy(self, stage: str) -> AbstractContextManager[Reader] | None:  # noqa: ARG002  # most keep one name of a version
        """Open what is kept as the newest version of a stage and is not among its versions; None: there is no such thing.

        Anyone may have put it there, so the caller decides what it is.

        Raises:
            StorageError: The operating system refused.
        """
        return None

    def put_back(self, stage: str, version: int, *, session: Session | None = None) -> None:  # noqa: B027  # as only_copy
        """Make what :meth:`only_copy` opens the version of this number, durably. If the number is taken, nothing changes.

        Raises:
            StorageError: The operating system refused.
        """

    def folder_note(self, stage: str, session: Session | None = None) -> bytes | None:  # noqa: ARG002  # most find the newest version by one call
        """Return a note by which a later process of this user can :meth:`resume`, in a line; None: there is nothing to note.

        The caller keeps it where only this user can write, and asks at the first look at a stage, in its session, and once more
        when nothing more will be done.
        """
        return None

    def resume(self, stage: str, recall: Callable[[], bytes], session: Session) -> bool:  # noqa: ARG002  # as folder_note
        """Go on from a note if the stage is as it was then, and return whether it is: the first look then need not be exact.

        Args:
            stage: The stage.
            recall: Returns the note; nothing if there is none.
            session: A session on the stage.
        """
        return False

    def nameless(self, known: Iterable[str]) -> list[str]:  # noqa: ARG002  # most keep the name of a stage in one place
        """Return the paths of what may hold versions of stages whose names are lost; ``known`` are the names that are not."""
        return []

    @abstractmethod
    def quarantine(self, stage: str, what: Iterable[int | StageRecord]) -> dict[int | StageRecord, str]:
        """Move versions, or records of the stage, out of the history without deleting them, and return where each is now.

        What is not there is left out.
        """

    def quarantine_stage(self, stage: str) -> None:
        """Move all that is there of a stage out of the history. The caller holds its lock. A power cut may undo it."""
        raise NotImplementedError


class _NoMaintenance(Maintenance):
    def __init__(self, location: str) -> None:
        self._location = location

    def leftovers(self) -> list[Leftover]:
        return []

    def remove(self, leftover: Leftover) -> bool:  # noqa: ARG002  # there are none
        return False

    def warnings(self) -> list[str]:
        return []

    def quarantine(self, stage: str, what: Iterable[int | StageRecord]) -> dict[int | StageRecord, str]:
        which = ", ".join(f"version {each}" if isinstance(each, int) else f"the record of {each}" for each in what)
        message = f"{which} of stage {printable(stage)} can't be set aside in {self._location}, which has no quarantine"
        raise CheckpointError(message, hint="Restore it from a backup", stage=stage)


def maintenance_of(backend: Backend) -> Maintenance:
    """Return the maintenance of a backend; for a backend without any, one that finds nothing."""
    return backend if isinstance(backend, Maintenance) else _NoMaintenance(backend.location)
