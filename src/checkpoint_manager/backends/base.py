"""The contract of a backend, a place where versions and records are stored.

A backend keeps *versions*, byte strings addressed by stage name and number, written once; *attachments*, byte strings of any
length in segments, addressed by a random id; and a few small *records* that are changed by compare-and-set. It knows nothing of
keys, JSON or history. It guarantees:

* **Exclusive:** of any number of writers that append the same version, exactly one succeeds. The others get
  :class:`VersionTakenError` and have changed nothing. This holds without the lock, which only keeps writers from colliding.
* **Whole:** a version is visible completely or not at all, whenever the writer is killed.
* **Durable:** when ``append``, ``replace``, ``delete``, ``write_segment`` or ``write_record`` returns, the change survives a
  power cut. In a store that was opened as ``relaxed``, an appended version may be lost to one until :meth:`Backend.flush`
  returns.
* **Ordered:** a version is appended only above all others that were there when the call began.
* **Exact:** stage names are any text that :func:`checkpoint_manager.backends.stage_names.validate` accepts. Two different
  names never meet in one place.

Its :class:`Capabilities` declare what a backend can do without help. The contract is executable:
:class:`checkpoint_manager.testing.BackendContract` runs against every backend.

Two interfaces are optional: :mod:`checkpoint_manager.backends.maintenance`, where something may be left behind, and
:mod:`checkpoint_manager.backends.searchable`, where versions can be found by chosen fields.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, runtime_checkable

from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from typing import Self

    from checkpoint_manager.models import Buffer, Durability

    MakePieces: TypeAlias = Callable[[], Iterable[Buffer]]
    """Returns the pieces of a version from its beginning. Each piece is used up before the next one is asked for.

    An empty piece says that it takes a while to ask for the next one: a disk may write meanwhile. If asking raises an
    exception, also after the last piece, no version is written.
    """


StageRecord: TypeAlias = Literal["gaps", "tags"]
"""A record that belongs to one stage: which versions are gone on purpose, and which have a name."""

RecordName: TypeAlias = Literal["keyring", "index"] | StageRecord
"""``keyring`` and ``index`` belong to the whole store (stage None), the others to one stage."""

Purpose: TypeAlias = Literal["write", "run"]
"""What a stage's lock is held for: while it is written to, or for as long as the function runs whose result it will be."""


LEAST_ANSWER_SECONDS = 5.0
"""A server has at least this long for an answer, even if the caller does not wait for other writers."""


class VersionTakenError(Exception):
    """Raised by append: a version with this number exists. Nothing was changed."""


class OutOfOrderError(Exception):
    """Raised by append: a version with a higher number exists. Nothing was changed."""


class UnknownOutcomeError(Exception):
    """Raised by append: the version may have been written, or may yet be. The cause says what went wrong.

    The caller looks whether the version that stands at the number has the random id that it gave out, and appends the same
    content again if there is none. The other methods change nothing when they are called a second time, so they need no such
    answer: when theirs is lost, they raise a StorageError.
    """


class VersionAbsentError(Exception):
    """Raised by open, replace and quarantine: the version or record does not exist."""


class RecordChangedError(Exception):
    """Raised by compare-and-set: the record is not the expected one. Nothing was changed."""


class Reader(Protocol):
    """A version, opened once: later reads return the same bytes, whatever happens to its name."""

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


class Newest(NamedTuple):
    """The newest version of a stage.

    Attributes:
        number: Its number; 0 if the stage has none.
        durable: Whether it is known to survive a power cut, with all below it. If not, call :meth:`Backend.flush` before
            anything is built on it or remembered of it.
    """

    number: int
    durable: bool


class Fields(NamedTuple):
    """The values of a version in the columns of a searchable backend.

    Attributes:
        serial: Which choice of columns they are of: 1, 2, 3, ….
        values: The value of each column: text, a time or nothing.
    """

    serial: int
    values: Mapping[str, str | datetime | None]


class NewVersion(NamedTuple):
    """A version to append, with the arguments of :meth:`Backend.append`, and of :meth:`.Searchable.append`."""

    stage: str
    number: int
    make_pieces: MakePieces
    fields: Fields | None = None


class Capabilities(NamedTuple):
    """What a backend can do without help.

    Attributes:
        lock_excludes: Its lock excludes every writer that can reach the store, on whatever host. If not, the lock to write
            excludes only those of this process, a writer looks again after it has appended, and the lock of a run is a
            :class:`Lease`.
        lists_over_gaps: ``versions`` and ``newest`` see every version, even where numbers between them are missing.
        durability: It heeds the ``durability`` that a store is opened with.
        persistent: Its location names the same store in another process.
        appends_together: It can append versions of several stages in one step, with :meth:`Backend.append_together`.
    """

    lock_excludes: bool
    lists_over_gaps: bool
    durability: bool
    persistent: bool = True
    appends_together: bool = False


class HeldRun(NamedTuple):
    """A run whose lock is held now, by whatever process.

    Attributes:
        stage: The stage; empty if only the notice can tell it.
        name: Which run of it, as :meth:`Backend.lock` was given it.
        notice: What its holder wrote last with ``write_notice``; empty if that is unknown. Whoever may write to the store may
            have put it there.
    """

    stage: str
    name: str
    notice: bytes


@runtime_checkable
class NoticeBoard(Protocol):
    """A lock of a run beside which its holder can write a notice, for :meth:`Backend.held_runs`."""

    def write_notice(self, notice: bytes) -> None:
        """Write a notice of up to 16 KiB in place of the one before. It need not be durable, and is gone with the lock.

        Raises:
            CheckpointError, OSError: It was not written. The lock is held all the same.
        """


@runtime_checkable
class Lease(Protocol):
    """A lock that its holder renews, and loses if it can't for some time, as while its process is suspended."""

    @property
    def lost(self) -> str:
        """Why the lock is no longer held, as a clause; empty while it is."""


class Mark(Protocol):
    """A version as it was read, and what shows whether its stage or the keyring has changed since.

    A change is a version, a record of the stage or a keyring that was added, removed or replaced, and another byte in this
    version. What someone overwrites in place in older versions or in the records need not show.
    """

    @property
    def taken(self) -> int:
        """When the session began in which it was taken, in nanoseconds since 1970."""

    def holds(self) -> bool:
        """Return whether nothing has changed; False if that is not certain."""

    def read(self, limit: int) -> bytes | None:
        """Return what stands in the version's place, as far as the byte after its end; None if there is more than ``limit``.

        The caller compares it with the version. None also if it is not certain that nothing else has changed.
        """


class Session:
    """State that several calls on one stage share, such as an open folder. Its content is private to the backend.

    A session is used by one thread, for a moment, in a ``with`` block, or until :meth:`end`.
    """

    __slots__ = ()

    def only_append(self) -> None:
        """Prepare for a caller that only appends a version, and looks at the stage and the keyring afterwards.

        Where the stage is known, the looks before that may be answered from memory: the append decides, and what is looked at
        afterwards is what is there.
        """

    def expect(self, version: int) -> None:
        """Note the newest version that the caller knows of, as a place to look first; it decides nothing."""

    def mark(self, version: int, keyring: Record) -> Mark | None:  # noqa: ARG002  # most can't tell
        """Return a mark of the version that was opened last in this session, as of the session's beginning.

        Args:
            version: The version's number.
            keyring: The keyring, as it was read last.

        Returns:
            The mark; None if another version was opened last, or a later change of the stage might not show.
        """
        return None

    def __enter__(self) -> Self:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End."""
        self.end()

    def end(self) -> None:
        """Free what is held, and let go of the lock that the session was given."""


class Backend(ABC):
    """A place to keep checkpoints. See the module's docstring for what it must guarantee.

    Attributes:
        location: Where it is, for people: stands in messages. Holds no password.
        capabilities: What it can do without help.
        durability: How it was opened.
        asked_for: What the caller named, if that leads to ``location`` by a link; otherwise the empty string.
        patience: For how many seconds a call is tried again while a server does not answer. One answer is waited for as long,
            and at least ``LEAST_ANSWER_SECONDS``. A manager sets it to its ``lock_timeout``.
    """

    location: str
    capabilities: Capabilities
    durability: Durability = "full"
    asked_for: str = ""
    patience: float = 60.0

    def prepare_to_write(self) -> None:  # noqa: B027  # most have put nothing off
        """Load what a program that will write needs, where that was put off: later, a lock is held, or a save has begun."""

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
            CheckpointError: On entry, when this thread holds the lock, to write: it would wait for itself. (The lock of a run
                may be held by a task while others of its thread go on.)
        """

    def held_runs(self) -> list[HeldRun]:
        """Return the runs whose lock is held, on whatever host, in no particular order; empty where a backend can't tell.

        The locks that it returns for a run are then each a :class:`NoticeBoard`.
        """
        return []

    def session(self, stage: str | None, lock: object = None) -> Session:  # noqa: ARG002  # most have nothing to share
        """Return a session on a stage, to be entered with ``with`` and passed to several calls.

        It makes the calls cheaper and changes nothing in what they return. The store's keyring may be read with it before it is
        entered: so a backend on another host can look at everything that a save or load needs in one round trip.

        Args:
            stage: The stage; None: the store's records.
            lock: What its lock returned on entry, if the caller holds it. The session may release it at its end, and then
                ignores errors of the system.
        """
        return Session()

    # Versions

    def read_newest(self, stage: str, version: int, keyring: Record) -> tuple[bytes, Mark | None] | None:  # noqa: ARG002  # most can't tell for less
        """Return a small version, and its mark, if an exhaustive look finds that it is the newest, and nothing else to tell.

        It takes the place of a session with :meth:`newest`, :meth:`read_record` and :meth:`open`, for less.

        Args:
            stage: The stage.
            version: The version's number.
            keyring: The keyring, as it was read last.

        Returns:
            The version's bytes and what :meth:`Session.mark` returns; None if the stage has another newest version, or a record
            of gaps, or the version is not known to be durable, or the calls named above are to find out what is the matter.
        """
        return None

    @abstractmethod
    def stages(self) -> list[str]:
        """Return the names of all stages that have a version, or what :meth:`.Maintenance.only_copy` opens, in any order."""

    @abstractmethod
    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:
        """Return the numbers of all versions of a stage, ascending; empty if it has none."""

    @abstractmethod
    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:
        """Return the newest version of a stage.

        The first answer of a process about a stage is exhaustive: no version has a higher number. Later answers take the same
        time however many versions there are, and are checked against what other processes have appended since.

        Args:
            stage: The stage.
            exact: Look at all versions, as the first time.
            session: A session on the stage.
        """

    @abstractmethod
    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        """Write a version exclusively, whole and durably.

        Args:
            stage: The stage.
            version: The number; above all others.
            make_pieces: Returns the version's bytes; called once for each attempt.
            session: A session on the stage.

        Raises:
            VersionTakenError: The number is taken. The caller finds out by whom: an earlier answer may have been lost.
            OutOfOrderError: A higher number is taken.
            UnknownOutcomeError: The version may have been written.
            StorageError: It was not written, or could not be made durable.
        """

    def session_after(
        self,
        stage: str,  # noqa: ARG002  # most can't tell
        version: int,  # noqa: ARG002  # likewise
        keyring: Record,  # noqa: ARG002  # likewise
        lock: object,  # noqa: ARG002  # likewise
        left: bytes | None = None,  # noqa: ARG002  # likewise
    ) -> Session | None:
        """Return a session for :meth:`append_next`, if neither the stage nor the keyring has changed since an append.

        It is begun. The caller ends it by :meth:`Session.end`, or drops it, and then the lock stays with the caller.

        Args:
            stage: The stage.
            version: The version that was appended last.
            keyring: The keyring, as it was read last.
            lock: The stage's lock, which the caller holds. The session lets go of it at its end.
            left: If another process of this user appended that version: what :meth:`state_left` returned to it.

        Returns:
            The session; None if it is not certain that nothing has changed.
        """
        return None

    def state_left(self, stage: str, version: int, session: Session) -> bytes | None:  # noqa: ARG002  # most can't tell
        """Return the state in which an append leaves a stage, by which another process knows that nothing has changed since.

        Args:
            stage: The stage.
            version: The version that was appended last in the session.
            session: The session.

        Returns:
            The state, as printable ASCII without a semicolon; None if a later change might not show, or if this process does
            not know all that is in the stage.
        """
        return None

    def append_next(self, stage: str, version: int, content: Buffer, session: Session) -> bool:
        """Append the next version in a session of :meth:`session_after`, whole and durably; return whether that could be done.

        If not, nothing was written, and :meth:`append` finds out why.

        Raises:
            VersionTakenError: As in :meth:`append`.
            StorageError: It was not written, or could not be made durable.
        """
        raise NotImplementedError

    def append_together(self, versions: Sequence[NewVersion]) -> None:
        """Write versions of different stages in one step, durably: all of them, or none, whenever the writer is killed.

        Called only where ``capabilities`` say that this is possible.

        Raises:
            VersionTakenError: A number is taken. Nothing was changed.
            OutOfOrderError: A higher number is taken. Nothing was changed.
            UnknownOutcomeError: All of them may have been written, or none.
            StorageError: None was written.
        """
        raise CheckpointError(
            f"{self.location} can't append versions of several stages in one step ({len(versions)} are given)"
        )

    @abstractmethod
    def flush(self, stage: str, *, session: Session | None = None) -> None:
        """Make every version of a stage that can be read durable, also in a store that was opened as ``relaxed``.

        Raises:
            StorageError: It could not be made durable.
        """

    @abstractmethod
    def open(self, stage: str, version: int, *, session: Session | None = None) -> AbstractContextManager[Reader]:
        """Open a version for reading.

        Raises:
            VersionAbsentError: There is none.
            IntegrityError: Something that is not a version stands in its place.
        """

    @abstractmethod
    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        """Exchange the bytes of an existing version, whole and durably; only for the same content under another key.

        Raises:
            VersionAbsentError: There is none.
        """

    @abstractmethod
    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:
        """Remove versions durably, ignoring those that do not exist. The newest one is never among them.

        What remains is made durable first.
        """

    # Attachments: contents of any length beside the versions of a stage, in segments

    @abstractmethod
    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        """Write one segment of an attachment, durably. The caller writes each once, before a version refers to it.

        Several threads may write segments of one attachment at once, in any order.

        Args:
            stage: The stage, which need not have a version.
            attachment: A random id, 32 hexadecimal digits.
            index: Which segment: 0, 1, 2, ….
            pieces: Its bytes; each piece is used up before the next one is asked for.

        Raises:
            StorageError: It could not be written. What was written of it may be left.
        """

    @abstractmethod
    def open_segment(self, stage: str, attachment: str, index: int) -> AbstractContextManager[Reader]:
        """Open a segment for reading.

        Raises:
            VersionAbsentError: There is none.
            IntegrityError: Something that is not a segment stands in its place.
        """

    @abstractmethod
    def segment_sizes(self, stage: str, attachment: str) -> list[int]:
        """Return the lengths of an attachment's segments in bytes, up to the first that is missing."""

    @abstractmethod
    def attachments(self, stage: str) -> list[str]:
        """Return the ids of all attachments of a stage, those that are being written among them."""

    @abstractmethod
    def delete_attachments(self, stage: str, attachments: Iterable[str]) -> None:
        """Remove attachments, ignoring those that do not exist."""

    # Records

    @abstractmethod
    def read_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        limit: int,
        known: Record | None = None,
        session: Session | None = None,
    ) -> Record | None:
        """Return a record, or None if there is none.

        Args:
            name: Which.
            stage: Whose, or None for the store's.
            limit: The largest number of bytes that is read.
            known: What the caller has; returned as it is when the record has not changed since.
            session: A session on the stage.

        Raises:
            IntegrityError: It is larger than ``limit``, or no record stands in its place.
        """

    @abstractmethod
    def write_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        data: bytes,
        expected: Record | None,
        session: Session | None = None,
    ) -> Record:
        """Write a record durably if it is still ``expected`` (None: if it does not exist), and return the new record.

        Raises:
            RecordChangedError: Someone else wrote it first.
        """

    # The whole store

    @abstractmethod
    def wait_for_writers(self, timeout: float) -> None:
        """Wait until every writer that now holds a stage's lock has released it.

        Raises:
            LockTimeoutError: Not all of them did within ``timeout`` seconds, all together.
        """

    def lock_descriptors(self) -> tuple[int, ...]:
        """Return the descriptors by which this process holds locks here; empty where a lock is not a descriptor.

        A child process that inherits them holds the locks, too.
        """
        return ()

    def close(self) -> None:  # noqa: B027  # most hold nothing
        """Free connections and threads. The backend is not used afterwards."""
