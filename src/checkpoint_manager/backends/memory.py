"""The reference backend, in dictionaries: for tests, and to show what the contract means without a file system."""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import (
    Backend,
    Capabilities,
    Newest,
    OutOfOrderError,
    Purpose,
    Reader,
    Record,
    RecordChangedError,
    RecordName,
    Session,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.errors import CheckpointError, Hint, IntegrityError, LockTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager.backends.base import MakePieces
    from checkpoint_manager.models import Buffer


@dataclass(slots=True)
class BytesReader:
    """A version opened for reading, whole in memory."""

    data: bytes
    position: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, length: int) -> bytes:
        piece = self.data[self.position : self.position + length]
        self.position += len(piece)
        return piece


class _Entry:
    """A lock with its holding thread and the time of acquisition. It exists while it is held or waited for."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.thread = 0
        self.since = 0.0


class _MemoryLock:
    """A lock for one ``with`` block."""

    _is_held = False  # of the class, because __del__ runs even if an interruption has ended the constructor at once

    def __init__(self, entry: _Entry, stage: str | None, timeout: float, purpose: Purpose) -> None:
        self._purpose = purpose
        self._entry = entry
        self._stage = stage
        self._timeout = timeout

    def __enter__(self) -> None:
        entry, stage = self._entry, self._stage
        whose = "the store" if stage is None else f"stage {printable(stage)}"
        if entry.thread == threading.get_ident() and self._purpose == "write":
            hint = "Return the new data from the function given to update_checkpoint instead of saving it there"
            raise CheckpointError(f"{whose} is already locked by this thread", hint=hint, stage=stage)
        if not entry.lock.acquire(timeout=-1 if math.isinf(self._timeout) else max(0, self._timeout)):
            holder = f"a thread of this process for {time.monotonic() - entry.since:.1f} s"
            raise LockTimeoutError(f"{whose} is locked by {holder}", hint=Hint.WAIT_FOR_LOCK, stage=stage, holder=holder)
        self._is_held, entry.thread, entry.since = True, threading.get_ident(), time.monotonic()

    def __exit__(self, *_: object) -> None:
        if self._is_held:
            self._is_held, self._entry.thread = False, 0
            self._entry.lock.release()

    def __del__(self) -> None:
        """Release the lock if an interruption kept the block from doing so."""
        self.__exit__()


class MemoryBackend(Backend):
    """Versions and records in this process, gone when it ends."""

    def __init__(self) -> None:
        self.location = "memory:"
        self.capabilities = Capabilities(lock_excludes=True, lists_over_gaps=True, durability=False, persistent=False)
        self._versions: dict[str, dict[int, bytes]] = {}
        self._process = os.getpid()
        self._locks: WeakValueDictionary[tuple[str | None, Purpose, str], _Entry] = WeakValueDictionary()
        self._attachments: dict[str, dict[str, dict[int, bytes]]] = {}
        self._records: dict[tuple[str, str | None], Record] = {}
        self._changing = threading.RLock()  # a signal handler of the thread that holds it may save, too

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> _MemoryLock:
        if os.getpid() != self._process:  # a child: locks of its parent's threads would never be released here
            self._process, self._locks, self._changing = os.getpid(), WeakValueDictionary(), threading.RLock()
        with self._changing:
            entry = self._locks.setdefault((stage, purpose, name), _Entry())
        return _MemoryLock(entry, stage, timeout, purpose)

    def stages(self) -> list[str]:
        return [stage for stage, versions in list(self._versions.items()) if versions]

    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:  # noqa: ARG002  # nothing to share
        return sorted(self._versions.get(stage, ()))

    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:  # noqa: ARG002  # as above
        return Newest(max(self._versions.get(stage, ()), default=0), durable=True)

    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:  # noqa: ARG002
        data = b"".join(bytes(piece) for piece in make_pieces())
        with self._changing:
            versions = self._versions.setdefault(stage, {})
            if version in versions:
                raise VersionTakenError
            if version < max(versions, default=0):
                raise OutOfOrderError
            versions[version] = data

    def flush(self, stage: str, *, session: Session | None = None) -> None:
        pass

    @contextlib.contextmanager
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:  # noqa: ARG002
        data = self._versions.get(stage, {}).get(version)
        if data is None:
            raise VersionAbsentError
        yield BytesReader(data)

    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:  # noqa: ARG002
        data = b"".join(bytes(piece) for piece in make_pieces())
        with self._changing:
            if version not in self._versions.get(stage, {}):
                raise VersionAbsentError
            self._versions[stage][version] = data

    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:  # noqa: ARG002
        with self._changing:
            for version in versions:
                self._versions.get(stage, {}).pop(version, None)

    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        data = b"".join(bytes(piece) for piece in pieces)
        with self._changing:
            self._attachments.setdefault(stage, {}).setdefault(attachment, {})[index] = data

    @contextlib.contextmanager
    def open_segment(self, stage: str, attachment: str, index: int) -> Iterator[Reader]:
        data = self._attachments.get(stage, {}).get(attachment, {}).get(index)
        if data is None:
            raise VersionAbsentError
        yield BytesReader(data)

    def segment_sizes(self, stage: str, attachment: str) -> list[int]:
        segments = self._attachments.get(stage, {}).get(attachment, {})
        there = itertools.takewhile(segments.__contains__, itertools.count())
        return [len(segments[index]) for index in there]

    def attachments(self, stage: str) -> list[str]:
        return list(self._attachments.get(stage, {}))

    def delete_attachments(self, stage: str, attachments: Iterable[str]) -> None:
        with self._changing:
            for attachment in attachments:
                self._attachments.get(stage, {}).pop(attachment, None)

    def read_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        limit: int,
        known: Record | None = None,
        session: Session | None = None,  # noqa: ARG002
    ) -> Record | None:
        record = self._records.get((name, stage))
        if record is not None and len(record.data) > limit:
            message = f"{name} in {self.location} is {len(record.data)} bytes long, and the limit is {limit}"
            raise IntegrityError(message, stage=stage)
        return known if record is not None and known == record else record

    def write_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        data: bytes,
        expected: Record | None,
        session: Session | None = None,  # noqa: ARG002
    ) -> Record:
        with self._changing:
            if self._records.get((name, stage)) != expected:
                raise RecordChangedError
            record = Record(data, object())
            self._records[name, stage] = record
            return record

    def wait_for_writers(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for stage, purpose, _ in tuple(self._locks):
            if stage is not None and purpose == "write":
                with self.lock(stage, deadline - time.monotonic()):
                    pass
