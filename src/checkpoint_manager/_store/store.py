"""Versions in and out: where the backend's bytes meet the envelope's keys.

A store knows how to write *this* entry as *that* version and how to read it back, verified. It does not know which
version is the newest, what a history is, or when to write: that is told by the modules beside it.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pwd
import sys
import threading
from typing import TYPE_CHECKING, TypeVar

from checkpoint_manager._format import checkpoint_file as sealed_format
from checkpoint_manager._format import gaps as sealed_gaps
from checkpoint_manager._format.checkpoint_file import BrokenError, Entry, Header, Place
from checkpoint_manager._format.gaps import Gaps
from checkpoint_manager._format.seal import SLICE_BYTES
from checkpoint_manager._store.history import History
from checkpoint_manager._version import __version__
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointError, FormatError, IntegrityError, StorageError
from checkpoint_manager.models import Origin, display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager._format.records import RecordFormat
    from checkpoint_manager._store.last_seen import LastSeen
    from checkpoint_manager._store.open_keyring import OpenKeyring
    from checkpoint_manager.backends.base import Backend, Reader, Record, Session, StageRecord
    from checkpoint_manager.models import Buffer, OnRollback

T = TypeVar("T")
_FIRST_READ = 64 * 1024
"""Enough for header, metadata and data of a small checkpoint in one read."""
_ENTRY_READ = 4 * 1024
"""Enough for header and metadata in most cases."""


class Store:
    """One opened store.

    Args:
        backend: Where it is kept.
        keyring: Its keys.
        lock_timeout: How long a writer waits for another one, in seconds.
        on_rollback: What to do when the store is older than what was seen.
    """

    def __init__(self, backend: Backend, keyring: OpenKeyring, lock_timeout: float, on_rollback: OnRollback) -> None:
        self.backend = backend
        self.keyring = keyring
        self.lock_timeout = lock_timeout
        self.on_rollback = on_rollback
        self.history = History(self)
        self.after_append: Callable[[str, int, Entry], None] | None = None
        """Called with each version that was saved, while the stage's lock is held; must not raise."""
        self._locked = threading.local()
        self._gaps: dict[str, tuple[Gaps, Record]] = {}

    @property
    def last_seen(self) -> LastSeen:
        """What this user has seen of the store."""
        return self.keyring.last_seen

    @contextlib.contextmanager
    def lock(self, stage: str) -> Iterator[Session]:
        """Hold the stage's lock, with the keys as they are now, and give a session on it.

        Raises:
            LockTimeoutError: Another writer holds it.
            CheckpointError: This very thread holds it: an update's function tried to write to the stage it updates.
        """
        held: set[tuple[int, str]] = self._locked.__dict__.setdefault("stages", set())
        mine = (os.getpid(), stage)
        if mine in held:
            message = (
                f"stage {display(stage)} is already being written by this thread: the function given to "
                "update_checkpoint must not "
                "write to the same stage; return the new data instead"
            )
            raise CheckpointError(message, stage=stage)
        with self.backend.lock(stage, self.lock_timeout), self.backend.session(stage) as session:
            held.add(mine)
            try:
                self.keyring.refresh()
                yield session
            finally:
                held.discard(mine)

    # Versions

    def append(self, stage: str, version: int, entry: Entry, data: Buffer, session: Session | None = None) -> None:
        """Write a version; errors as in :meth:`Backend.append`."""
        self.backend.append(stage, version, lambda: self.sealed(stage, version, entry, data), session=session)

    def replace(self, stage: str, version: int, entry: Entry, data: bytes) -> None:
        """Write a version's same content anew, under the key that is active now."""
        self.backend.replace(stage, version, lambda: self.sealed(stage, version, entry, data))

    def sealed(self, stage: str, version: int, entry: Entry, data: Buffer) -> Iterator[Buffer]:
        """Return a version's file under the active key."""
        key_id, key = self.keyring.active
        return sealed_format.seal_version(key_id, key, self._place(stage, version), entry, data)

    def key_of(self, stage: str, version: int) -> str:
        """Return the id of the key that a version claims to be sealed under; errors as in :meth:`load`."""
        with self._explained(stage, version), self.backend.open(stage, version) as file:
            return sealed_format.parse_header(file.read(sealed_format.MAX_HEADER_BYTES)).key

    def entry(self, stage: str, version: int) -> Entry:
        """Return a version's authenticated metadata without reading its data; errors as in :meth:`load`."""
        with self._explained(stage, version), self.backend.open(stage, version) as file:
            return self._open_entry(file, self._place(stage, version), _ENTRY_READ)[0]

    def load(self, stage: str, version: int, session: Session | None = None) -> tuple[Entry, bytearray]:
        """Return a version's authenticated metadata and data (as JSON).

        Raises:
            VersionAbsentError: There is no such file; the caller knows whether there should be.
            IntegrityError: It is damaged, forged, or belongs elsewhere.
            FormatError: It was written by a newer version of the library.
        """
        with self._explained(stage, version):
            return self.examine(stage, version, session)

    def examine(self, stage: str, version: int, session: Session | None = None) -> tuple[Entry, bytearray]:
        """As :meth:`load`, but what is wrong comes as a BrokenError, for those who judge it themselves."""
        place = self._place(stage, version)
        with self.backend.open(stage, version, session=session) as file:
            entry, header, rest = self._open_entry(file, place, _FIRST_READ)
            if file.size != sealed_format.file_length(header, entry):
                raise BrokenError("is cut short, or has something appended")
            sealed = _slices(rest, file, file.size - header.data_offset)
            return entry, sealed_format.open_data(self._key(header), header, place, entry, sealed)

    def belongs_to(self, stage: str, version: int, other: str) -> bool:
        """Whether the file of this version was written for another stage."""
        try:
            with self.backend.open(stage, version) as file:
                self._open_entry(file, self._place(other, version), _ENTRY_READ)
        except (BrokenError, FormatError, VersionAbsentError):
            return False
        return True

    def _open_entry(self, file: Reader, place: Place, first_read: int) -> tuple[Entry, Header, bytes]:
        """Read an opened version up to the end of its metadata, and give back what was read beyond."""
        opening = file.read(min(first_read, file.size))
        header = sealed_format.parse_header(opening)
        if header.data_offset > file.size:
            raise BrokenError("is cut short")
        missing = header.data_offset - len(opening)
        if missing > 0:
            opening += file.read(missing)
        sealed = opening[len(header.line) : header.data_offset]
        entry = sealed_format.open_entry(self._key(header), header, place, sealed)
        return entry, header, opening[header.data_offset :]

    def _key(self, header: Header) -> SecretBytes:
        if header.store != self.keyring.store_id:
            raise BrokenError("belongs to another store", foreign=True)
        key = self.keyring.key(header.key)
        if key is None:
            raise BrokenError("is sealed under a key that the keyring does not have")
        return key

    def _place(self, stage: str, version: int) -> Place:
        return Place(self.keyring.store_id, stage, version)

    def _explained(self, stage: str, version: int) -> _Explained:
        return _Explained(self.backend.location, stage, version)

    # The records of a stage

    def gaps(self, stage: str, session: Session | None = None) -> tuple[Gaps, Record | None]:
        """Return a stage's gaps, and the record to compare with when they are written again; errors as in :meth:`record`."""
        known = self._gaps.get(stage)
        record = self.backend.read_record(
            "gaps", stage, limit=sealed_gaps.RECORD.max_bytes, known=known[1] if known else None, session=session
        )
        if record is None:
            return Gaps(), None
        if known is None or record is not known[1]:
            known = self._gaps[stage] = self._read_gaps(stage, record), record
        return known

    def _read_gaps(self, stage: str, record: Record) -> Gaps:
        remedy = 'Run "checkpoint-manager verify"; put the file "gaps" of this stage back from a backup'
        return self._decoded(record, stage, sealed_gaps.RECORD, sealed_gaps.decode, remedy)

    def write_gaps(self, stage: str, gaps: Gaps, expected: Record | None) -> None:
        """Write a stage's gaps; the caller holds its lock.

        Raises:
            StorageError: The record would be longer than what is read back. Nothing was written.
        """
        self.backend.write_record("gaps", stage, data=self._sealed_gaps(stage, gaps), expected=expected)

    def check_gaps(self, stage: str, gaps: Gaps) -> None:
        """Raise what :meth:`write_gaps` would raise about these gaps, before anything is done that needs them written."""
        self._sealed_gaps(stage, gaps)

    def _sealed_gaps(self, stage: str, gaps: Gaps) -> bytes:
        data = self.sealed_record(stage, sealed_gaps.RECORD, sealed_gaps.encode(gaps))
        if len(data) > sealed_gaps.RECORD.max_bytes:
            message = (
                f"the record of deleted versions of stage {display(stage)} in {self.backend.location} would be {len(data)} "
                f"bytes long, and the limit is {sealed_gaps.RECORD.max_bytes}; nothing was deleted or imported. Versions next "
                "to those that are gone can be deleted, which makes it shorter; or save under another stage name from now on"
            )
            raise StorageError(message, errno=errno.EFBIG, stage=stage)
        return data

    def record(
        self, name: StageRecord, stage: str, form: RecordFormat, decode: Callable[[bytes], T], remedy: str
    ) -> tuple[T, Record] | None:
        """Return what a record of a stage says, and the record itself; None if there is none.

        Args:
            name: Which record.
            stage: Whose.
            form: How it is sealed.
            decode: Makes of its content what it says.
            remedy: What to do if it is damaged, for the message.

        Raises:
            IntegrityError: It is damaged or forged.
        """
        record = self.backend.read_record(name, stage, limit=form.max_bytes)
        return None if record is None else (self._decoded(record, stage, form, decode, remedy), record)

    def _decoded(self, record: Record, stage: str, form: RecordFormat, decode: Callable[[bytes], T], remedy: str) -> T:
        try:
            key = self.keyring.key(form.key_of(record.data))
            if key is None:
                raise BrokenError("is sealed under a key that the keyring does not have")
            return decode(form.open(key, self.keyring.store_id, stage, record.data))
        except BrokenError as broken:
            message = f"the record of {form.of} of stage {display(stage)} in {self.backend.location} {broken}. {remedy}"
            raise IntegrityError(message, stage=stage) from None

    def sealed_record(self, stage: str, form: RecordFormat, content: bytes) -> bytes:
        """Return a record of a stage under the active key."""
        key_id, key = self.keyring.active
        return form.seal(key_id, key, self.keyring.store_id, stage, content)


class _Explained:
    """Turns what is broken inside the block into an error that says which version, and what to do."""

    __slots__ = ("_location", "_stage", "_version")

    def __init__(self, location: str, stage: str, version: int) -> None:
        self._location = location
        self._stage = stage
        self._version = version

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> None:
        if isinstance(error, BrokenError):
            message = (
                f"version {self._version} of stage {display(self._stage)} in {self._location} {error}. Load another version, "
                'or run "checkpoint-manager verify" to see what else is affected and "checkpoint-manager repair" to '
                "put it aside"
            )
            raise IntegrityError(message, stage=self._stage, version=self._version) from None


def _slices(first: bytes, file: Reader, length: int) -> Iterator[bytes]:
    """Yield what was read already, then the rest up to ``length`` bytes in all."""
    if first:
        yield first
    left = length - len(first)
    while left > 0 and (piece := file.read(min(left, SLICE_BYTES))):
        yield piece
        left -= len(piece)


def origin() -> Origin:
    """Return who writes, as it stands in each version."""
    return _origin(os.getpid())  # not the one before a fork


@functools.lru_cache(maxsize=1)
def _origin(pid: int) -> Origin:
    return Origin(_user(), os.uname().nodename, pid, sys.version.split()[0], __version__)


def _user() -> str:
    """Return the user's name, found as :func:`getpass.getuser` does: that module would be imported under a lock."""
    named = next(filter(None, map(os.environ.get, ("LOGNAME", "USER", "LNAME", "USERNAME"))), None)
    try:
        return named or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # no name for this uid, as in many containers
        return str(os.getuid())
