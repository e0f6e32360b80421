"""The backend in a bucket of an object store: S3 and what speaks its protocol, Google Cloud Storage, Azure.

**Put-if-absent is the only commit.** A version is one object, whose name is its number. A put that demands that there be no
such object decides who owns the number, as ``link`` does in a directory. Records are changed by compare-and-set on the entity
tag. A server that ignores these conditions would lose saves without a word. So each is tried when a store is opened, and a
server that fails is refused (:mod:`.probe`).

:mod:`.layout` names where everything lies.

**The newest version** is found by listing, from the last number that this process knows, or from the hint: what lies above is
always listed. The hint is not authenticated. One that points too high leads to a listing of everything.

**A large version** is stored in chunks (:mod:`.chunks`).

**Locks.** The lock to write excludes the threads of this process; writers of different processes meet at the put. The lock of a
run is a lease (:mod:`.lease`).

Large listings, reads and writes are split into requests; several are under way at once.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, cast

from obstore.exceptions import NotModifiedError

from checkpoint_manager._text import printable
from checkpoint_manager.backends import base
from checkpoint_manager.backends.base import (
    Backend,
    Capabilities,
    HeldRun,
    Newest,
    OutOfOrderError,
    Purpose,
    Record,
    RecordChangedError,
    RecordName,
    Session,
    StageRecord,
    UnknownOutcomeError,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.backends.maintenance import Leftover, Maintenance
from checkpoint_manager.backends.memory import BytesReader
from checkpoint_manager.backends.object_store import calls, chunks, layout, objects, probe
from checkpoint_manager.backends.object_store.chunks import ChunkReader, Manifest
from checkpoint_manager.backends.object_store.lease import (
    LEASE_SECONDS,
    MAX_LEASE_BYTES,
    HeldLease,
    Watched,
    lease_key,
    notice_of,
    now,
    stage_file_of,
)
from checkpoint_manager.backends.object_store.look import Look, PendingRecord
from checkpoint_manager.backends.object_store.objects import Objects, Stamped
from checkpoint_manager.backends.object_store.place import place_of
from checkpoint_manager.backends.process_locks import ProcessLock, ProcessLocks
from checkpoint_manager.backends.stage_names import from_filename, is_hashed, to_filename
from checkpoint_manager.errors import IntegrityError, LockTimeoutError, StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager.backends.base import MakePieces, Reader
    from checkpoint_manager.models import Buffer


_MOST_RUNS = 1000
"""How many leases are read to list runs. Anyone who can write to the bucket can plant any number."""
_HINT_EVERY = 256
"""Every so many versions, the hint is moved: a listing is then of at most two pages."""
_UPLOAD = re.compile(r"[0-9a-f]{32}")
_MAX_NAME_BYTES = 4 * 255
_PREFETCHED_BYTES = 1024 * 1024
"""How much of a record is read before its reader says what it can bear."""
_MOST_SETS = 100


class ObjectStoreBackend(Backend, Maintenance):
    """Versions and records in a bucket.

    Args:
        url: The bucket, see :mod:`.place`.
        patience: For how many seconds an answer is waited for; may be changed.

    Raises:
        LocationError: The URL names no bucket.
        StorageError: The bucket can't be reached or written to, or the server ignores conditions.
    """

    capabilities = Capabilities(lock_excludes=False, lists_over_gaps=True, durability=False)

    def __init__(self, url: str, patience: float = Backend.patience) -> None:
        self._place = place_of(url, max(patience, base.LEAST_ANSWER_SECONDS))
        self.location = self._place.location
        self._process = os.getpid()
        self._locks = ProcessLocks()
        self._watched: dict[str, Watched] = {}
        self._known: dict[str, int] = {}  # the newest version that this process knows of, by stage
        self._remembered: dict[str, Record | None] = {}  # the records as last read, by the names of their objects
        self._named: set[str] = set()  # long names that are written
        self._objects = Objects(self._place, patience)
        self._objects.quotes_tags = probe.check(self._objects)

    @property
    def patience(self) -> float:
        """For how many seconds an answer is waited for."""
        return self._objects.patience

    @patience.setter
    def patience(self, seconds: float) -> None:
        self._objects.patience = seconds

    # Locks

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> ProcessLock | HeldLease:
        if os.getpid() != self._process:  # a child: what its parent's threads held would never be released here
            self._process, self._locks = os.getpid(), ProcessLocks()
        within = self._locks.lock(stage, timeout, purpose, name)
        if purpose == "write":
            return within
        return HeldLease(
            self._objects, lease_key(to_filename(stage or ""), purpose, name), within, stage, timeout, self._watched
        )

    def held_runs(self) -> list[HeldRun]:
        """Return the runs whose lease was renewed lately by this host's clock, which decides nothing but this list."""
        oldest = datetime.now(UTC) - timedelta(seconds=2 * LEASE_SECONDS)
        renewed = islice(
            (key for key, moment in self._objects.written("leases", "look for runs in") if moment > oldest), _MOST_RUNS
        )
        found = []
        while some := list(islice(renewed, objects.AT_ONCE)):
            for key, pending in [(key, self._objects.start_get(f"leases/{key}", MAX_LEASE_BYTES)) for key in some]:
                with contextlib.suppress(calls.TooLargeError):
                    lease = self._objects.finish_get(pending, "look for runs in")
                    notice = None if lease is None else notice_of(lease.data)
                    file, _, name = key.rpartition("/")
                    if notice is not None and (from_filename(file) is not None or is_hashed(file)):
                        found.append(HeldRun(from_filename(file) or "", name, notice))
        return found

    def wait_for_writers(self, timeout: float) -> None:
        """Wait for those of this process; the others look at the keyring after their append."""
        deadline = time.monotonic() + timeout
        for stage in self._locks.writers():
            with self.lock(stage, deadline - time.monotonic()):
                pass

    # One look

    def session(self, stage: str | None, lock: object = None) -> Session:
        """Begin to look at a stage: whoever holds no lock is going to read its newest version."""
        if stage is None:
            return Session()
        return Look(stage, partial(self._ask, reads=lock is None))

    def _ask(self, look: Look, *, reads: bool) -> None:
        """Ask what an operation asks as a rule."""
        stage = look.stage
        look.records = {"keyring": self._start_record("keyring", None), "gaps": self._start_record("gaps", stage)}
        look.newest = calls.start(partial(self._newest_from, stage, self._known.get(stage, 0)))
        if reads and (known := self._known.get(stage)):
            look.versions = {known: self._objects.start_get(layout.version_key(stage, known), chunks.CHUNK_BYTES)}

    def _trusts_memory(self, session: Session | None, stage: str) -> bool:
        """Return whether a session is answered from memory: this process has seen the stage before, and its records."""
        if not isinstance(session, Look) or session.stage != stage or not session.trusts_memory:
            return False
        keys = layout.record_key("keyring", None), layout.record_key("gaps", stage)
        session.trusts_memory = bool(self._known.get(stage)) and all(key in self._remembered for key in keys)
        return session.trusts_memory

    def _look_again(self, look: Look, version: int, known: int, gaps: Record | None) -> None:
        """Look at what may have changed before a version was appended.

        Args:
            look: The session.
            version: The version.
            known: The one that was believed to be the newest before; 0: it was looked up.
            gaps: The record of deletions that was remembered before.

        Raises:
            OutOfOrderError: That one is gone without a deletion, and no other one has followed it. The version is removed.
        """
        stage = look.stage
        look.forget()
        look.records = {"keyring": self._start_record("keyring", None), "gaps": self._start_record("gaps", stage)}
        if known and not any(number != version for number, _ in self._numbers(stage, known - 1)):
            look.records["gaps"] = again = self._start_record("gaps", stage)
            with contextlib.suppress(calls.TooLargeError):
                if self._finish_record(again, "read the gaps of", stage) == gaps:
                    self._known.pop(stage, None)
                    self.delete(stage, [version])
                    raise OutOfOrderError

    def _start_record(self, name: RecordName, stage: str | None) -> PendingRecord:
        key = layout.record_key(name, stage)
        remembered = self._remembered.get(key)
        unless = None if remembered is None else _stamp(remembered)
        return PendingRecord(self._objects.start_get(key, _PREFETCHED_BYTES, unless), remembered)

    # Versions

    def stages(self) -> list[str]:
        names = (self._stage_of(each) for each in self._objects.folders("history", "list the stages in"))
        return [name for name in names if name is not None]

    def _stage_of(self, file: str) -> str | None:
        """Return the stage that the name of a folder encodes, or None if it encodes none."""
        if not is_hashed(file):
            return from_filename(file)
        found = self._objects.read(layout.name_key(file), _MAX_NAME_BYTES)
        try:
            name = "" if found is None else found.data.decode()
            return name if name and to_filename(name) == file else None
        except (UnicodeDecodeError, ValueError):
            return None

    def _numbers(self, stage: str, after: int = 0) -> Iterator[tuple[int, int]]:
        """Yield the number and the size of the object of each version above one, ascending."""
        start = layout.version_name(after) if after else ""
        for name, size in self._objects.listed(layout.history_folder(stage), "list the versions of", stage, after=start):
            number = layout.version_of(name)
            if number is not None:
                yield number, size

    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:  # noqa: ARG002  # nothing to share
        return [number for number, _ in self._numbers(stage)]

    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:
        if not exact and self._trusts_memory(session, stage):
            return Newest(self._known[stage], durable=True)
        pending = _taken(session, stage)
        if pending is None:
            found = self._newest_from(stage, self._known.get(stage, 0))
        else:
            found = self._objects.finish(pending, "list the versions of", stage)
        self._known[stage] = found
        return Newest(found, durable=True)

    def _newest_from(self, stage: str, known: int) -> int:
        """Return the highest number, listed from one that was known."""
        found = max((number for number, _ in self._numbers(stage, known - 1)), default=0) if known > 1 else 0
        return found or self._newest_listed(stage)

    def _newest_listed(self, stage: str) -> int:
        """Return the highest number of all, listed from the hint if there is more than a page of them."""
        numbers = self._numbers(stage)
        newest = 0
        for count, (newest, _) in enumerate(numbers, 1):
            if count == objects.PAGE:
                hint = self._objects.read(layout.hint_key(stage), _MAX_NAME_BYTES)
                start = int(hint.data) if hint is not None and hint.data.isdigit() and len(hint.data) <= 12 else 0
                above = max((number for number, _ in self._numbers(stage, start - 1)), default=0) if start > newest else 0
                if above:
                    return above
        return newest

    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        before = self._known.get(stage, 0) if self._trusts_memory(session, stage) else 0
        gaps = self._remembered.get(layout.record_key("gaps", stage))
        if version <= self._known.get(stage, 0):
            number = next((number for number, _ in self._numbers(stage, version - 1)), 0)
            if number:
                raise VersionTakenError if number == version else OutOfOrderError
        self._name(stage)
        key = layout.version_key(stage, version)
        with self._content(stage, make_pieces()) as content:
            try:
                is_written = self._objects.create(key, content, stage) is not None
            except StorageError as error:
                if error.errno in {errno.EACCES, errno.ENOENT}:
                    raise
                raise UnknownOutcomeError from error
            self._known[stage] = max(version, self._known.get(stage, 0))
            if not is_written:
                _forget(session)
                raise VersionTakenError
            try:
                is_whole = chunks.are_there(self._objects, stage, content)
                if is_whole and isinstance(session, Look):
                    self._look_again(session, version, before, gaps)
            except StorageError as error:
                raise UnknownOutcomeError from error
            if not is_whole:
                raise self._lost_chunks(stage)
        if version % _HINT_EVERY == 0:
            with contextlib.suppress(StorageError):
                self._objects.write(layout.hint_key(stage), b"%d" % version, stage)

    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        _forget(session)
        key = layout.version_key(stage, version)
        with self._content(stage, make_pieces()) as content:
            for _ in range(_MOST_SETS):
                found = self._objects.read(key, chunks.CHUNK_BYTES)
                if found is None:
                    raise VersionAbsentError
                stamp = self._objects.change(key, content, found.stamp)
                if stamp is None:
                    continue
                if not chunks.are_there(self._objects, stage, content):
                    self._objects.change(key, found.data, stamp)  # what that names is still there
                    raise self._lost_chunks(stage)
                chunks.delete_named(self._objects, stage, [found.data])
                return
        message = f"version {version} of stage {printable(stage)} in {self.location} is replaced by others again and again"
        raise StorageError(message, hint="Try again", stage=stage, version=version)

    @contextlib.contextmanager
    def _content(self, stage: str, pieces: Iterable[Buffer]) -> Iterator[bytes]:
        """Provide the content of a version's object, for a block that writes it: the version, or what names its chunks."""
        content = bytearray()
        source = iter(pieces)
        for piece in source:
            content += piece
            if len(content) > chunks.CHUNK_BYTES:
                break
        if len(content) <= chunks.CHUNK_BYTES and Manifest.parsed(content) is None:
            yield bytes(content)
            return
        upload = secrets.token_hex(16)
        with self.lock(stage, self.patience, purpose="run", name=upload):
            may_be_named = False
            try:
                manifest = Manifest(upload, *chunks.put(self._objects, stage, upload, content, source))
                may_be_named = True
                yield manifest.encoded()
            except KeyboardInterrupt:  # the server may be what is waited for
                raise
            except BaseException as error:
                if may_be_named and not isinstance(error, (VersionTakenError, VersionAbsentError)):
                    raise  # a repair removes the chunks if no version names them
                with contextlib.suppress(StorageError):
                    chunks.delete_upload(self._objects, stage, upload)
                raise

    def _lost_chunks(self, stage: str) -> StorageError:
        message = f"a version of stage {printable(stage)} in {self.location} lost its chunks while it was written"
        return StorageError(message, hint="Save again", stage=stage)

    def flush(self, stage: str, *, session: Session | None = None) -> None:
        """Do nothing: what the server acknowledges is durable."""

    @contextlib.contextmanager
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:
        pending = None
        if isinstance(session, Look) and not session.trusts_memory:
            session.begin()
            pending = session.versions.pop(version, None) if session.is_fresh else None
        yield self._reader(pending or self._objects.start_get(layout.version_key(stage, version), chunks.CHUNK_BYTES), stage)

    def _reader(self, pending: calls.Pending[Stamped], stage: str) -> Reader:
        try:
            found = self._objects.finish_get(pending, "read a version of", stage)
        except calls.TooLargeError:  # not of this backend: too short, then
            found = Stamped(b"", {})
        if found is None:
            raise VersionAbsentError
        manifest = Manifest.parsed(found.data)
        return BytesReader(found.data) if manifest is None else ChunkReader(self._objects, stage, manifest)

    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:
        _forget(session)
        wanted = set(versions)
        if not wanted:
            return
        there = [(number, size) for number, size in self._numbers(stage, min(wanted) - 1) if number in wanted]
        in_chunks = [layout.version_key(stage, number) for number, size in there if size == chunks.MANIFEST_BYTES]
        found: list[Stamped | None] = []
        for first in range(0, len(in_chunks), objects.AT_ONCE):
            under_way = [self._objects.start_get(key, chunks.CHUNK_BYTES) for key in in_chunks[first : first + objects.AT_ONCE]]
            found += [self._objects.finish_get(each, "read a version of", stage) for each in under_way]
        self._objects.delete_objects([layout.version_key(stage, number) for number, _ in there], "delete versions of", stage)
        chunks.delete_named(self._objects, stage, [each.data for each in found if each is not None])

    def _name(self, stage: str) -> None:
        """Write down the name of a stage that is too long to be encoded."""
        file = to_filename(stage)
        if is_hashed(file) and stage not in self._named:
            self._objects.write(layout.name_key(file), stage.encode(), stage)
            self._named.add(stage)

    # Attachments

    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        self._objects.write(layout.segment_key(stage, attachment, index), b"".join(bytes(piece) for piece in pieces), stage)

    @contextlib.contextmanager
    def open_segment(self, stage: str, attachment: str, index: int) -> Iterator[Reader]:
        pending = self._objects.start_get(layout.segment_key(stage, attachment, index), _MAX_SEGMENT_BYTES)
        try:
            found = self._objects.finish_get(pending, "read an attachment of", stage)
        except calls.TooLargeError:  # not of this backend: too short, then
            found = Stamped(b"", {})
        if found is None:
            raise VersionAbsentError
        yield BytesReader(found.data)

    def segment_sizes(self, stage: str, attachment: str) -> list[int]:
        listed = self._objects.listed(layout.attachment_folder(stage, attachment), "look at an attachment of", stage)
        return [size for index, (name, size) in enumerate(listed) if name == layout.segment_name(index)]

    def attachments(self, stage: str) -> list[str]:
        found = self._objects.folders(f"attachments/{to_filename(stage)}", "list the attachments of", stage)
        return [each for each in found if _UPLOAD.fullmatch(each)]

    def delete_attachments(self, stage: str, attachments: Iterable[str]) -> None:
        for attachment in attachments:
            prefix = layout.attachment_folder(stage, attachment)
            keys = [f"{prefix}/{name}" for name, _ in self._objects.listed(prefix, "delete attachments of", stage)]
            self._objects.delete_objects(keys, "delete attachments of", stage)

    # Records

    def read_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        limit: int,
        known: Record | None = None,
        session: Session | None = None,
    ) -> Record | None:
        key, action, pending = layout.record_key(name, stage), f"read the {name} of", None
        if isinstance(session, Look) and stage in {None, session.stage}:
            if name in {"keyring", "gaps"} and self._trusts_memory(session, session.stage):
                remembered = self._remembered[key]
                return known if known == remembered else remembered
            session.begin()
            pending = session.records.pop(name, None) if session.is_fresh else None
        try:
            record, is_known = None, False
            with contextlib.suppress(calls.TooLargeError):
                record = None if pending is None else self._finish_record(pending, action, stage)
                is_known = pending is not None and (record is None or len(record.data) <= limit)
            if not is_known:
                unless = None if known is None else _stamp(known)
                record = self._finish_record(PendingRecord(self._objects.start_get(key, limit, unless), known), action, stage)
        except calls.TooLargeError as error:
            message = f"{name} in {self.location} is {error.size} bytes long, and the limit is {limit}"
            raise IntegrityError(message, hint="Restore it from a backup", stage=stage) from None
        self._remembered[key] = record = known if known == record else record
        return record

    def _finish_record(self, pending: PendingRecord, action: str, stage: str | None) -> Record | None:
        answers = () if pending.remembered is None else (NotModifiedError,)
        try:
            found = self._objects.finish_get(pending.answer, action, stage, answers=answers)
        except NotModifiedError:
            return pending.remembered
        return None if found is None else Record(found.data, tuple(found.stamp.items()))

    def write_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        data: bytes,
        expected: Record | None,
        session: Session | None = None,
    ) -> Record:
        _forget(session)
        key = layout.record_key(name, stage)
        stamp = self._objects.create(key, data) if expected is None else self._objects.change(key, data, _stamp(expected))
        if stamp is None:
            self._remembered.pop(key, None)
            raise RecordChangedError
        self._remembered[key] = record = Record(data, tuple(stamp.items()))
        return record

    # Maintenance

    def leftovers(self) -> list[Leftover]:
        found = []
        for file in self._objects.folders("chunks", "look through"):
            stage = self._stage_of(file)
            if stage is None:
                continue
            uploads = self._objects.folders(f"chunks/{file}", "look through")
            used = self._uploads_in_use(stage) if uploads else set()
            detail = "was left by an interrupted write"
            found += [Leftover("leftover", f"chunks/{file}/{each}", detail, stage) for each in uploads if each not in used]
        for key, _ in self._objects.listed("leases", "look through"):
            lock_of = stage_file_of(key)
            stage = None if lock_of is None else self._stage_of(lock_of)
            if stage is not None:
                self._watch(f"leases/{key}")
                found.append(Leftover("leftover", f"leases/{key}", "is the lock of a run that was killed, or goes on", stage))
        return sorted(found, key=lambda each: (not each.path.startswith("leases"), each.path))  # chunks are removed after those

    def _watch(self, key: str) -> None:
        """Begin to measure for how long a lease does not change."""
        found = self._objects.beginning(key, MAX_LEASE_BYTES)
        watched = self._watched.get(key)
        if found is not None and (watched is None or watched.stamp != found.stamp):
            self._watched[key] = Watched(found.stamp, now())

    def _end_lease(self, key: str) -> bool:
        """Take over and remove a lease that has not changed for long enough since it was watched; return whether it is gone."""
        while (found := self._objects.beginning(key, MAX_LEASE_BYTES)) is not None:
            watched = self._watched.get(key)
            if watched is None or watched.stamp != found.stamp:
                return False
            left = LEASE_SECONDS - (now() - watched.since)
            if left <= 0:
                if self._objects.change(key, b"{}", found.stamp) is None:
                    return False
                self._objects.remove(key)
            time.sleep(max(0.0, min(left, 1.0)))
        return True

    def _uploads_in_use(self, stage: str) -> set[str]:
        file = to_filename(stage)
        keys = [layout.version_key(stage, number) for number, size in self._numbers(stage) if size == chunks.MANIFEST_BYTES]
        aside = self._objects.listed(f"quarantine/{file}", "look through", stage)
        keys += [f"quarantine/{file}/{name}" for name, size in aside if size == chunks.MANIFEST_BYTES]
        found = (self._objects.read(key, chunks.CHUNK_BYTES) for key in keys)
        manifests = (Manifest.parsed(each.data) for each in found if each is not None)
        return {manifest.upload for manifest in manifests if manifest is not None}

    def remove(self, leftover: Leftover) -> bool:
        kind, _, name = leftover.path.split("/")
        stage = leftover.stage or ""
        if kind == "leases":
            return self._end_lease(leftover.path)
        try:
            with self.lock(stage, 0, purpose="run", name=name):
                if name not in self._uploads_in_use(stage):
                    chunks.delete_upload(self._objects, stage, name)
        except LockTimeoutError:
            return False
        return True

    def warnings(self) -> list[str]:
        if self._place.is_private:
            return []
        return [f"{self.location} is reached without TLS: whoever is on the way sees which stages are saved, and when."]

    def quarantine(self, stage: str, what: Iterable[int | StageRecord]) -> dict[int | StageRecord, str]:
        moved: dict[int | StageRecord, str] = {}
        for each in what:
            key = layout.version_key(stage, each) if isinstance(each, int) else layout.record_key(each, stage)
            aside = f"quarantine/{to_filename(stage)}/{key.rpartition('/')[2]}-{secrets.token_hex(4)}"
            with contextlib.suppress(FileNotFoundError):
                self._objects.copy(key, aside, "set aside a version of", stage)
                self._objects.remove(key)
                self._remembered.pop(key, None)
                moved[each] = f"{self.location}: {aside}"
        return moved


_MAX_SEGMENT_BYTES = 64 * 1024 * 1024


def _forget(session: Session | None) -> None:
    if isinstance(session, Look):
        session.forget()


def _taken(session: Session | None, stage: str) -> calls.Pending[int] | None:
    """Take the answer to a session's question for the newest version; None: it was not asked, or is not of now."""
    if not isinstance(session, Look) or session.stage != stage:
        return None
    session.begin()
    pending, session.newest = session.newest, None
    return pending if session.is_fresh else None


def _stamp(record: Record) -> dict[str, str]:
    """Return the stamp of a record's object, as :mod:`.objects` takes it."""
    return dict(cast("tuple[tuple[str, str], ...]", record.stamp))
