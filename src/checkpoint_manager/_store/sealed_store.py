"""The sealed versions and records of an opened store: how they are written and read.

An entry and its data are sealed under the active key, and what is read is verified. Bytes that do not open become an
:class:`IntegrityError` here. :mod:`checkpoint_manager._store.history` decides which version is the newest, and the operations
decide when to write.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import pwd
import sys
from typing import TYPE_CHECKING, NoReturn, TypeVar

from checkpoint_manager._format import checkpoint_file as sealed_format
from checkpoint_manager._format import gaps as sealed_gaps
from checkpoint_manager._format.checkpoint_file import (
    READ_IT_WITH_ANOTHER,
    BrokenError,
    Entry,
    Header,
    Place,
    SealedData,
    Writer,
)
from checkpoint_manager._format.gaps import Gaps
from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES
from checkpoint_manager._format.seal import SLICE_BYTES
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._store.last_seen import Line, SeenRecord, file_of_record, seen_record
from checkpoint_manager._text import printable
from checkpoint_manager._version import __version__
from checkpoint_manager.backends.base import NewVersion, RecordChangedError, UnknownOutcomeError, VersionAbsentError
from checkpoint_manager.backends.maintenance import maintenance_of
from checkpoint_manager.errors import FormatError, Hint, IntegrityError, LockTimeoutError, RollbackError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager._format.records import RecordFormat
    from checkpoint_manager._store.index import OpenIndex
    from checkpoint_manager._store.open_keyring import Current, OpenKeyring
    from checkpoint_manager.backends.base import Backend, Fields, MakePieces, Reader, Record, Session, StageRecord
    from checkpoint_manager.models import Buffer, OnRollback

T = TypeVar("T")
_FIRST_READ = 64 * 1024
"""Enough for header, metadata and data of a small checkpoint in one read."""
_ENTRY_READ = 4 * 1024
"""Enough for header and metadata in most cases."""
_ATTEMPTS = 100
"""How many times a writer tries to change a record while others do."""
_MOST_CHARACTERS = 255
"""How much of the name of a user or host is stored."""
NO_GAPS: tuple[Gaps, Record | None] = (Gaps(), None)


class UnknownKeyError(BrokenError):
    """The keyring does not have the key that a version or record is sealed under."""

    def __init__(self) -> None:
        super().__init__("is sealed under a key that the keyring does not have")


class Opened(NamedTuple):
    """A version that was opened as a whole.

    Attributes:
        entry: Its metadata.
        data: Its data, as JSON.
        key: The key that it is sealed under.
        sealed: What opens its data again.
    """

    entry: Entry
    data: bytes | bytearray
    key: SecretBytes
    sealed: SealedData

    def __repr__(self) -> str:
        """Leave the data out: an error's traceback may show the variables of a function."""
        return "Opened(…)"


class SealedStore:
    """The sealed versions and records of one opened store.

    Args:
        backend: Where it is kept.
        keyring: Its keys.
        lock_timeout: How long a writer waits for another one, in seconds.
        on_rollback: What to do when the store is older than what was seen.

    Attributes:
        last_seen: What this user has seen of the store.
        index: What is indexed, in a place that can be searched; None: it can't.
        known_gaps: The gaps of each stage, and their record, as of this process's last look at it.
    """

    def __init__(self, backend: Backend, keyring: OpenKeyring, lock_timeout: float, on_rollback: OnRollback) -> None:
        self.backend = backend
        self.keyring = keyring
        self.last_seen = keyring.last_seen
        self.lock_timeout = lock_timeout
        self.on_rollback = on_rollback
        self.index: OpenIndex | None = None
        self.known_gaps: dict[str, tuple[Gaps, Record | None]] = {}
        self._seen_gaps: dict[str, Line] = {}  # what this user had seen when those that are known were compared with that
        self._store_id = keyring.store_id

    # Sessions

    def lock(self, stage: str) -> AbstractContextManager[object]:
        """Return the lock of a stage, for a ``with`` block, in which a session is opened next: ``session(stage, lock)``.

        Raises:
            LockTimeoutError: On entry, when another writer holds it.
            CheckpointError: On entry, when this thread holds it, or waits for it, further up.
        """
        return self.backend.lock(stage, self.lock_timeout)

    def session(self, stage: str, lock: object = None, *, only_appends: bool = False) -> Session:
        """Return a session on a stage, for a ``with`` block, with the keys as they are now.

        Args:
            stage: The stage.
            lock: Its lock, held by the caller that writes. The session lets go of it at its end.
            only_appends: See :meth:`Session.only_append`.
        """
        session = self.backend.session(stage, lock)
        if only_appends:
            session.only_append()
        self.refresh_keys(session)
        return session

    def refresh_keys(self, session: Session | None = None) -> Current:
        """Follow what others have changed in the keyring, and return it as it is now; errors as in :meth:`OpenKeyring.refresh`.

        Each operation asks: as a rule, nothing has changed, and one cheap call says so.
        """
        known = self.keyring.current
        record = self.backend.read_record("keyring", limit=MAX_KEYRING_BYTES, known=known.record, session=session)
        return known if record is known.record and self.keyring.is_compared() else self.keyring.refresh()

    # Versions

    def append(
        self,
        stage: str,
        version: int,
        entry: Entry,
        data: Buffer,
        session: Session | None = None,
        check: Callable[[], None] | None = None,
    ) -> None:
        """Write a version, under the key that is active when this returns; errors as in :meth:`Backend.append`.

        If there is a check, it is called while the disk takes the bytes; if it raises, no version was written.
        """
        key_id, key = self.keyring.current.active
        place = Place(self._store_id, stage, version)
        make_pieces: MakePieces = functools.partial(sealed_format.seal_version, key_id, key, place, entry, data)
        if check is not None:
            make_pieces = functools.partial(_checked, make_pieces, check)
        if self.index is None:
            self.backend.append(stage, version, make_pieces, session=session)
        else:
            append = functools.partial(self.index.backend.append, stage, version, make_pieces, session=session)
            self.index.append(lambda fields_of: append(fields=fields_of(entry)))
        try:
            if self.refresh_keys(session).active[0] != key_id:
                self.replace(stage, version, entry, data, session)  # a rotation that the lock did not hold up gave it up
        except (StorageError, LockTimeoutError) as error:  # after the write
            raise UnknownOutcomeError from error

    def append_together(self, versions: Sequence[tuple[str, int, Entry, Buffer]]) -> None:
        """Write versions of several stages in one step, as :meth:`append`; errors as in :meth:`Backend.append_together`."""
        key_id, key = self.keyring.current.active

        def new(stage: str, number: int, entry: Entry, data: Buffer, fields: Fields | None) -> NewVersion:
            place = Place(self._store_id, stage, number)
            return NewVersion(stage, number, lambda: sealed_format.seal_version(key_id, key, place, entry, data), fields)

        def append(fields_of: Callable[[Entry], Fields | None]) -> None:
            self.backend.append_together([new(*version, fields_of(version[2])) for version in versions])

        if self.index is None:
            append(lambda _: None)
        else:
            self.index.append(append)
        try:
            if self.refresh_keys().active[0] != key_id:
                for version in versions:
                    self.replace(*version)
        except (StorageError, LockTimeoutError) as error:  # after the write
            raise UnknownOutcomeError from error

    def replace(self, stage: str, version: int, entry: Entry, data: Buffer, session: Session | None = None) -> None:
        """Rewrite the same content of a version, under the key that is active when this returns."""
        while True:
            key_id = self.keyring.active[0]
            self.backend.replace(stage, version, lambda: self.sealed(stage, version, entry, data), session=session)
            if self.keyring.refresh().active[0] == key_id:
                return

    def sealed(self, stage: str, version: int, entry: Entry, data: Buffer) -> Iterable[Buffer]:
        """Return a version's file under the active key."""
        key_id, key = self.keyring.active
        return sealed_format.seal_version(key_id, key, Place(self._store_id, stage, version), entry, data)

    def key_of(self, stage: str, version: int, session: Session | None = None) -> str:
        """Return the id of the key that a version claims to be sealed under; errors as in :meth:`open`."""
        try:
            with self.backend.open(stage, version, session=session) as file:
                return sealed_format.parse_header(file.read(sealed_format.MAX_HEADER_BYTES)).key
        except (BrokenError, FormatError) as broken:
            self._refuse(stage, version, broken)

    def entry(self, stage: str, version: int, session: Session | None = None) -> Entry:
        """Return a version's authenticated metadata without reading its data; errors as in :meth:`open`."""
        try:
            return self._read(self._entry, stage, version, session)
        except (BrokenError, FormatError) as broken:
            self._refuse(stage, version, broken)

    def load(self, stage: str, version: int, session: Session | None = None) -> tuple[Entry, bytes | bytearray]:
        """Return a version's authenticated metadata and data (as JSON); errors as in :meth:`open`."""
        opened = self.open(stage, version, session)
        return opened.entry, opened.data

    def open(self, stage: str, version: int, session: Session | None = None) -> Opened:
        """Return a version, authenticated as a whole.

        Raises:
            VersionAbsentError: There is no such file; the caller knows whether there should be.
            IntegrityError: It is damaged, forged, of a format that this library does not read, or belongs elsewhere.
        """
        try:
            return self.examine(stage, version, session)
        except (BrokenError, FormatError) as broken:
            self._refuse(stage, version, broken)

    def examine(self, stage: str, version: int, session: Session | None = None) -> Opened:
        """Open as :meth:`open` does, but raise BrokenError or FormatError, for a caller that judges the fault itself."""
        return self._read(self._whole, stage, version, session)

    def open_whole(self, stage: str, version: int, content: bytes) -> Opened:
        """Open a version of which all bytes are there; errors as for :meth:`examine`."""
        header = sealed_format.parse_header(content)
        key = self.keyring.current.unlocked.keys.get(header.key)
        if key is None or header.store != self._store_id:
            raise BrokenError("belongs to another store, or is sealed under another key")
        where = sealed_format.context_of(header, stage, version)
        offset = header.data_offset
        opening = content[:offset]
        entry = sealed_format.open_entry(key, header, where, opening[len(header.line) :])
        sealed = sealed_format.sealed_data(opening, where, entry)
        if len(content) != offset + sealed.sealed_length:
            raise BrokenError("is cut short, or has something appended")
        return Opened._make((entry, sealed_format.open_data(key, sealed, content[offset:]), key, sealed))

    def only_copy(self, stage: str, newest: int) -> int | None:
        """Return the number of a version above the newest one of which only a copy outside the history is left, or None."""
        version = self.copied(stage, above=newest)
        with contextlib.suppress(FormatError, IntegrityError):
            if version is not None and version not in self.found_gaps(stage)[0]:
                return version
        return None

    def copied(self, stage: str, *, above: int = 0) -> int | None:
        """Return the number of a version above another one of which there is a copy outside the history that opens, or None."""
        copy = maintenance_of(self.backend).only_copy(stage)
        if copy is None:
            return None
        with copy as file:
            try:
                header = sealed_format.parse_header(file.read(sealed_format.MAX_HEADER_BYTES))
            except (BrokenError, FormatError):
                return None
        again = maintenance_of(self.backend).only_copy(stage) if header.version > above else None
        if again is None:
            return None
        with again as file, contextlib.suppress(BrokenError, FormatError, IntegrityError):
            entry = self._entry(file, stage, header.version)
            if file.size == sealed_format.file_length(header, entry):
                return header.version
        return None

    def belongs_to(self, stage: str, version: int, other: str) -> bool:
        """Return whether the file of this version was written for another stage."""
        try:
            with self.backend.open(stage, version) as file:
                self._entry(file, other, version)
        except (BrokenError, FormatError, VersionAbsentError):
            return False
        return True

    def _read(self, look: Callable[[Reader, str, int], T], stage: str, version: int, session: Session | None) -> T:
        """Return what a function makes of a version's file.

        A rotation may seal the version again, and drop the old key, after the file was read, or read ahead, and before it is
        opened. So a file under an unknown key is read once more.
        """
        try:
            with self.backend.open(stage, version, session=session) as file:
                return look(file, stage, version)
        except UnknownKeyError:
            with self.backend.open(stage, version) as file:
                return look(file, stage, version)

    def _whole(self, file: Reader, stage: str, version: int) -> Opened:
        header, key, read = self._open(file, _FIRST_READ)
        length = header.data_offset - len(header.line)
        where = sealed_format.context_of(header, stage, version)
        entry = sealed_format.open_entry(key, header, where, read[:length])
        if file.size != sealed_format.file_length(header, entry):
            raise BrokenError("is cut short, or has something appended")
        sealed = sealed_format.sealed_data(header.line + read[:length], where, entry)
        rest = _slices(file, sealed.sealed_length - (len(read) - length))
        return Opened(entry, sealed_format.open_data(key, sealed, read[length:], rest), key, sealed)

    def _entry(self, file: Reader, stage: str, version: int) -> Entry:
        header, key, read = self._open(file, _ENTRY_READ)
        where = sealed_format.context_of(header, stage, version)
        return sealed_format.open_entry(key, header, where, read[: header.data_offset - len(header.line)])

    def _open(self, file: Reader, first_read: int) -> tuple[Header, SecretBytes, bytes]:
        """Read a version to the end of its metadata at least; return its header, its key, and what follows the header."""
        opening = file.read(min(first_read, file.size))
        header = sealed_format.parse_header(opening)
        if header.store != self._store_id:
            raise BrokenError("belongs to another store", foreign=True)
        key = self.keyring.current.unlocked.keys.get(header.key) or self.keyring.key(header.key)
        if key is None:
            raise UnknownKeyError
        if header.data_offset > file.size:
            raise BrokenError("is cut short")
        if len(opening) < header.data_offset:
            opening += file.read(header.data_offset - len(opening))
        return header, key, opening[len(header.line) :]

    def _refuse(self, stage: str, version: int, broken: Exception) -> NoReturn:
        """Raise the error for bytes that do not open."""
        where = f"version {version} of stage {printable(stage)} in {self.backend.location}"
        if isinstance(broken, FormatError):
            error = IntegrityError(f"{where} can't be read: {broken.message}", hint=broken.hint, stage=stage, version=version)
            error.is_newer = True
            raise error from None
        raise IntegrityError(f"{where} {broken}", hint=Hint.LOAD_ANOTHER, stage=stage, version=version) from None

    # The records of a stage

    def gaps(self, stage: str, session: Session | None = None) -> tuple[Gaps, Record | None]:
        """Return a stage's gaps, and the record to compare with when they are written again.

        Raises:
            IntegrityError: The record is damaged or forged.
            RollbackError: It is older than the one that this user has seen.
        """
        known = self.known_gaps.get(stage, NO_GAPS)
        limit, record = sealed_gaps.RECORD.max_bytes, known[1]
        if (
            record is not None
            and self.has_compared_gaps(stage)
            and self.backend.read_record("gaps", stage, limit=limit, known=record, session=session) is record
        ):
            return known
        return self._gaps_newer_than(self.last_seen.line(file_of_record(stage, "gaps")), stage, session)

    def has_compared_gaps(self, stage: str) -> bool:
        """Return whether this user has seen no other record of deletions since the known one was compared with what was seen.

        Should an older one come back, its place may show nothing: see :meth:`OpenKeyring.is_compared`. Where no record is
        known, whoever asks for a version looks for it.
        """
        compared = self._seen_gaps.get(stage)
        return compared is None or self.last_seen.is_same(file_of_record(stage, "gaps"), compared)

    def has_compared(self, stage: str) -> bool:
        """Return whether this user has seen neither another keyring nor another record of deletions since the known ones."""
        return self.keyring.is_compared() and self.has_compared_gaps(stage)

    def found_gaps(self, stage: str, session: Session | None = None) -> tuple[Gaps, Record | None]:
        """Return the gaps that are there, however old their record is; errors as in :meth:`record`."""
        remedy = "Restore the record of deleted versions of this stage from a backup"
        found = self.record("gaps", stage, sealed_gaps.RECORD, sealed_gaps.decode, remedy, session)
        return found or NO_GAPS

    def _gaps_newer_than(self, before: Line, stage: str, session: Session | None) -> tuple[Gaps, Record | None]:
        """Read the record, after what was seen ``before``: so that it is never ahead of the store."""
        seen = seen_record(before.line)
        gaps, record = self.found_gaps(stage, session)
        if gaps.serial < seen.serial and session is not None:  # the session may have asked before that was seen
            gaps, record = self.found_gaps(stage)
        if gaps.serial > seen.serial:
            self.last_seen.remember_record(stage, "gaps", SeenRecord(gaps.serial, gaps.id))
        elif (gaps.serial, gaps.id) != seen:
            found = "gone" if record is None else f"number {gaps.serial}" if gaps.serial < seen.serial else "another one"
            message = (
                f"the record of deleted versions of stage {printable(stage)} in {self.backend.location} was rolled back: it is "
                f"{found}, and this user has already seen number {seen.serial}"
            )
            if self.on_rollback == "raise":
                raise RollbackError(message, hint=Hint.ACCEPT_ROLLBACK, stage=stage)
            _LOG.warning("%s", message)
        self._know(stage, gaps, record, before)
        return gaps, record

    def _know(self, stage: str, gaps: Gaps, record: Record | None, before: Line) -> None:
        self.known_gaps[stage] = gaps, record
        if record is None:  # most stages have none, and whoever asks for a version of such a stage looks for it
            self._seen_gaps.pop(stage, None)
        else:
            self._seen_gaps[stage] = before

    def change_record(self, stage: str, change: Callable[[], T]) -> T:
        """Call a function that reads a record of a stage and writes it, again while others are faster; return its result.

        Raises:
            StorageError: They were each of many times.
        """
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(RecordChangedError):
                return change()
        message = (
            f"a record of stage {printable(stage)} in {self.backend.location} was changed by other writers each of "
            f"{_ATTEMPTS} times that this one tried to; nothing was written"
        )
        raise StorageError(message, hint="Try again when fewer write", stage=stage)

    def write_gaps(self, stage: str, gaps: Gaps, expected: Record | None, session: Session | None = None) -> None:
        """Write a stage's gaps, in a function that is given to :meth:`change_record`.

        Raises:
            RecordChangedError: Another writer was faster.
            StorageError: The record would be longer than what is read back. Nothing was written.
        """
        if not gaps.serial:  # read from a record of format 1, or none
            gaps = gaps.renewed()
        self.check_gaps(stage, gaps)
        record = self.write_record("gaps", stage, sealed_gaps.RECORD, sealed_gaps.encode(gaps), expected, session)
        self.last_seen.remember_record(stage, "gaps", SeenRecord(gaps.serial, gaps.id))
        self._know(stage, gaps, record, self.last_seen.line(file_of_record(stage, "gaps")))

    def check_gaps(self, stage: str, gaps: Gaps) -> None:
        """Raise what :meth:`write_gaps` would raise about these gaps, before anything is done that needs them written."""
        length = len(self._sealed_record(stage, sealed_gaps.RECORD, sealed_gaps.encode(gaps)))
        if length > sealed_gaps.RECORD.max_bytes:
            message = (
                f"the record of deleted versions of stage {printable(stage)} in {self.backend.location} would be {length} "
                f"bytes long, and the limit is {sealed_gaps.RECORD.max_bytes}; nothing was deleted or imported"
            )
            hint = "Delete versions next to those that are gone, which makes it shorter, or save under another stage name"
            raise StorageError(message, hint=hint, errno=errno.EFBIG, stage=stage)

    def record(
        self,
        name: StageRecord,
        stage: str,
        form: RecordFormat,
        decode: Callable[[bytes], T],
        remedy: str,
        session: Session | None = None,
    ) -> tuple[T, Record] | None:
        """Return what a record of a stage says, and the record itself; None if there is none.

        Args:
            name: Which record.
            stage: Whose.
            form: How it is sealed.
            decode: Returns what its content says.
            remedy: What to do if it is damaged, as a hint.
            session: A session on the stage.

        Raises:
            IntegrityError: It is damaged or forged.
        """
        try:
            try:
                return self._record(name, stage, form, decode, session)
            except UnknownKeyError:  # as of a version
                return self._record(name, stage, form, decode, None)
        except BrokenError as broken:
            message = f"the record of {form.of} of stage {printable(stage)} in {self.backend.location} {broken}"
            error = IntegrityError(message, hint=READ_IT_WITH_ANOTHER if broken.newer else remedy, stage=stage)
            error.is_newer = broken.newer
            raise error from None

    def _record(
        self, name: StageRecord, stage: str, form: RecordFormat, decode: Callable[[bytes], T], session: Session | None
    ) -> tuple[T, Record] | None:
        record = self.backend.read_record(name, stage, limit=form.max_bytes, session=session)
        if record is None:
            return None
        if form.store_of(record.data) != self._store_id:
            raise BrokenError("belongs to another store")
        if session is None:  # a session has done so: whoever once knew the key may have written this after a rotation
            self.refresh_keys()
        key = self.keyring.key(form.key_of(record.data))
        if key is None:
            raise UnknownKeyError
        return decode(form.open(key, self._store_id, stage, record.data)), record

    def write_record(
        self,
        name: StageRecord,
        stage: str,
        form: RecordFormat,
        content: bytes,
        expected: Record | None,
        session: Session | None = None,
    ) -> Record:
        """Write a record of a stage, under the key that is active when this returns.

        Args:
            name: Which record.
            stage: Whose.
            form: How it is sealed.
            content: What it says.
            expected: The record as the caller knows it; None if there is none.
            session: A session on the stage.

        Raises:
            RecordChangedError: Another writer was faster.
            StorageError: The operating system refused.
        """
        while True:
            key_id = self.keyring.active[0]
            sealed = self._sealed_record(stage, form, content)
            expected = self.backend.write_record(name, stage, data=sealed, expected=expected, session=session)
            if self.keyring.refresh().active[0] == key_id:  # else it was given up by a rotation that the lock did not hold up
                return expected

    def _sealed_record(self, stage: str, form: RecordFormat, content: bytes) -> bytes:
        key_id, key = self.keyring.active
        return form.seal(key_id, key, self._store_id, stage, content)


def _checked(make_pieces: MakePieces, check: Callable[[], None]) -> Iterator[Buffer]:
    """Yield the pieces of a version, and check it while the disk takes them."""
    yield from make_pieces()
    yield b""
    check()


def _slices(file: Reader, missing: int) -> Iterator[bytes]:
    """Yield the bytes of a file that are still missing."""
    while missing > 0 and (piece := file.read(min(missing, SLICE_BYTES))):
        yield piece
        missing -= len(piece)


@functools.lru_cache(maxsize=1)
def origin(pid: int) -> Writer:
    """Return the origin that is stored in each version; a forked child has its own."""
    return Writer(_text(_user()), _text(os.uname().nodename), pid, sys.version.split()[0], __version__)


def _text(name: str) -> str:
    """Return a name of the system as it can be stored: it may be any bytes, and of any length."""
    return name.encode("utf-8", "backslashreplace").decode()[:_MOST_CHARACTERS]


def _user() -> str:
    """Return the user's name, found as :func:`getpass.getuser` does, whose module takes long to import."""
    named = next(filter(None, map(os.environ.get, ("LOGNAME", "USER", "LNAME", "USERNAME"))), None)
    try:
        return named or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # no name for this uid, as in many containers
        return str(os.getuid())
