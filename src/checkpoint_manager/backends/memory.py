"""The reference backend: dictionaries. For tests, and to read what the contract means without a file system in the way."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checkpoint_manager.backends.base import (
    Backend,
    Purpose,
    Reader,
    Record,
    RecordChangedError,
    RecordName,
    StageRecord,
    Stray,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.errors import IntegrityError, LockTimeoutError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager.models import Buffer


@dataclass(slots=True)
class _Bytes:
    """A version opened for reading."""

    data: bytes
    position: int = 0

    @property
    def size(self) -> int:
        return len(self.data)

    def read(self, length: int) -> bytes:
        piece = self.data[self.position : self.position + length]
        self.position += len(piece)
        return piece


@dataclass(slots=True)
class _Lock:
    lock: threading.Lock = field(default_factory=threading.Lock)
    held_since: float = 0.0


class MemoryBackend(Backend):
    """Versions and records in this process, gone when it ends."""

    def __init__(self) -> None:
        self.location = "memory"
        self._versions: defaultdict[str, dict[int, bytes]] = defaultdict(dict)
        self._locks: defaultdict[tuple[str | None, Purpose, str], _Lock] = defaultdict(_Lock)
        self._records: dict[tuple[str, str | None], Record] = {}
        self._aside: dict[str, bytes] = {}
        self._changing = threading.Lock()

    @contextlib.contextmanager
    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> Iterator[None]:
        key, deadline = (stage, purpose, name), time.monotonic() + timeout
        entry, taken = self._locks[key], False
        while not taken:
            taken = entry.lock.acquire(timeout=-1 if math.isinf(timeout) else max(0, deadline - time.monotonic()))
            if not taken:
                break
            if self._locks.setdefault(key, entry) is not entry:  # removed while this waited, and there is another one now
                entry.lock.release()
                entry, taken = self._locks[key], False
        if not taken:
            whose = "the store" if stage is None else f"stage {display(stage)}"
            holder = f"a thread of this process for {time.monotonic() - entry.held_since:.1f} s"
            message = f"{whose} is locked by {holder}. Wait until it is done, or pass a longer lock_timeout"
            raise LockTimeoutError(message, stage=stage, holder=holder)
        entry.held_since = time.monotonic()
        try:
            yield
        finally:
            if name:
                self._locks.pop(key, None)
            entry.lock.release()

    def stages(self) -> list[str]:
        return [stage for stage, versions in list(self._versions.items()) if versions]

    def versions(self, stage: str) -> list[int]:
        return sorted(self._versions[stage])

    def mark(self, stage: str) -> bytes:  # noqa: ARG002  # a dictionary's maximum needs no hint
        return b""

    def newest(self, stage: str, *, hint: int = 0) -> int:  # noqa: ARG002  # likewise
        return max(self._versions[stage], default=0)

    def append(self, stage: str, version: int, pieces: Iterable[Buffer]) -> None:
        data = b"".join(bytes(piece) for piece in pieces)
        with self._changing:
            if version in self._versions[stage]:
                raise VersionTakenError
            self._versions[stage][version] = data

    def settle(self, stage: str) -> None:
        pass

    @contextlib.contextmanager
    def open(self, stage: str, version: int) -> Iterator[Reader]:
        try:
            yield _Bytes(self._versions[stage][version])
        except KeyError:
            raise VersionAbsentError from None

    def replace(self, stage: str, version: int, pieces: Iterable[Buffer]) -> None:
        data = b"".join(bytes(piece) for piece in pieces)
        with self._changing:
            if version not in self._versions[stage]:
                raise VersionAbsentError
            self._versions[stage][version] = data

    def delete(self, stage: str, versions: Iterable[int]) -> None:
        with self._changing:
            for version in versions:
                self._versions[stage].pop(version, None)

    def read_record(
        self, name: RecordName, stage: str | None = None, *, limit: int, known: Record | None = None
    ) -> Record | None:
        record = self._records.get((name, stage))
        if record is not None and len(record.data) > limit:
            message = f"{name} in {self.location} is {len(record.data)} bytes long, and the limit is {limit}"
            raise IntegrityError(message, stage=stage)
        return known if record is not None and known == record else record

    def write_record(self, name: RecordName, stage: str | None = None, *, data: bytes, expected: Record | None) -> Record:
        with self._changing:
            if self._records.get((name, stage)) != expected:
                raise RecordChangedError
            record = Record(data, object())
            self._records[name, stage] = record
            return record

    def strays(self) -> list[Stray]:
        return []

    def sweep(self, stray: Stray) -> bool:  # noqa: ARG002  # nothing is ever left over here
        return False

    def set_mark(self, stage: str, version: int) -> None:
        pass

    def set_aside(self, stage: str, what: int | StageRecord) -> str:
        with self._changing:
            if isinstance(what, int):
                data = self._versions[stage].pop(what, None)
            else:
                record = self._records.pop((what, stage), None)
                data = None if record is None else record.data
            if data is None:
                raise VersionAbsentError
            place = f"memory/damaged/{len(self._aside)}"
            self._aside[place] = data
            return place

    def wait_for_writers(self, timeout: float) -> None:
        for stage, purpose, _ in list(self._locks):
            if stage is not None and purpose == "write":
                with self.lock(stage, timeout):
                    pass
