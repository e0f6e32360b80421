"""The reference backend, in dictionaries: for tests, and to show what the contract means without a file system."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checkpoint_manager.backends.base import (
    Backend,
    Capabilities,
    HeldRun,
    Newest,
    NewVersion,
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
from checkpoint_manager.backends.process_locks import ProcessLock, ProcessLocks
from checkpoint_manager.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

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


class MemoryBackend(Backend):
    """Versions and records in this process, gone when it ends."""

    def __init__(self) -> None:
        self.location = "memory:"
        self.capabilities = Capabilities(
            lock_excludes=True, lists_over_gaps=True, durability=False, persistent=False, appends_together=True
        )
        self._versions: dict[str, dict[int, bytes]] = {}
        self._process = os.getpid()
        self._locks = ProcessLocks()
        self._attachments: dict[str, dict[str, dict[int, bytes]]] = {}
        self._records: dict[tuple[str, str | None], Record] = {}
        self._changing = threading.RLock()  # a signal handler of the thread that holds it may save, too

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> ProcessLock:
        if os.getpid() != self._process:  # a child: what its parent's threads held would never be released here
            self._process, self._changing, self._locks = os.getpid(), threading.RLock(), ProcessLocks()
        return self._locks.lock(stage, timeout, purpose, name)

    def held_runs(self) -> list[HeldRun]:
        return self._locks.held_runs()

    def stages(self) -> list[str]:
        return [stage for stage, versions in list(self._versions.items()) if versions]

    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:  # noqa: ARG002  # nothing to share
        return sorted(self._versions.get(stage, ()))

    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:  # noqa: ARG002  # as above
        return Newest(max(self._versions.get(stage, ()), default=0), durable=True)

    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:  # noqa: ARG002
        self.append_together([NewVersion(stage, version, make_pieces)])

    def append_together(self, versions: Sequence[NewVersion]) -> None:
        contents = [b"".join(bytes(piece) for piece in each.make_pieces()) for each in versions]
        with self._changing:
            for each in versions:
                there = self._versions.get(each.stage, {})
                if each.number in there:
                    raise VersionTakenError
                if each.number < max(there, default=0):
                    raise OutOfOrderError
            for each, data in zip(versions, contents, strict=True):
                self._versions.setdefault(each.stage, {})[each.number] = data

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
        for stage in self._locks.writers():
            with self.lock(stage, deadline - time.monotonic()):
                pass
