r"""What this user has seen of a store, kept outside of it: the only defence against an older copy put back.

A directory whose files are all from yesterday looks whole. So this user's state directory holds, for each store and stage,
the newest version's number and id, and the serial numbers of the keyring and of each stage's records::

    <state>/<store id>/<sha256 of the stage's name, 40 hex digits>   "000000000012 <id> <stage as JSON>\n"
    <state>/<store id>/<the same>.tags                               "000000000002 <id of the record of tags>\n"
    <state>/<store id>/<the same>.gaps                               "000000000002 <id of the record of gaps>\n"
    <state>/<store id>/keyring                                       "000000000003 <sha256 of its bytes>\n"

A line is written after what it describes is durable, and read before the store is, so it is never ahead of the store. It is not
synced: after a power cut it may be older than the store, which raises no false alarm. A damaged or unreadable line counts as
none; a failing medium, or too many open files, is an error.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import re
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import orjson
import platformdirs

from checkpoint_manager.errors import StorageError

if TYPE_CHECKING:
    from pathlib import Path

_LOG = logging.getLogger("checkpoint_manager")
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHANGE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_VERSION = re.compile(rb"([0-9]{12}) ([0-9a-f]{32}) (.+)\n", re.DOTALL)
_RECORD = re.compile(rb"([0-9]{12}) ([0-9a-f]{32})\n")
_KEYRING = re.compile(rb"([0-9]{12}) ([0-9a-f]{64})\n")
_MAX_BYTES = 8192
_NOTHING_TO_READ = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM}

SeenRecordName: TypeAlias = Literal["tags", "gaps"]


class SeenVersion(NamedTuple):
    """The newest version of a stage that this user has seen."""

    version: int
    id: str


class SeenRecord(NamedTuple):
    """The newest record of a stage, of tags or of gaps, that this user has seen. Serial 0: none."""

    serial: int
    id: str


class LastSeen:
    """What this user has seen of one store.

    Args:
        store_id: The store's id.
        state: The user's state directory for this library; found by ``platformdirs`` if None.
    """

    def __init__(self, store_id: str, state: Path | None = None) -> None:
        self._directory = str((state or state_directory()) / store_id)
        self._warned = False
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
        except OSError as error:
            self._warn(error)

    def recall(self, stage: str) -> SeenVersion | None:
        """Return the newest version of a stage that was seen, or None."""
        path = f"{self._directory}/{_file_of(stage)}"
        try:  # not shared with `_read`: each save asks this
            descriptor = os.open(path, _READ)
            try:
                line = os.read(descriptor, _MAX_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            line = _nothing_to_read(path, error)
        match = _VERSION.match(line)
        return SeenVersion(int(match[1]), match[2].decode()) if match else None

    def remember(self, stage: str, seen: SeenVersion) -> None:
        """Write down the newest version of a stage; it never replaces a newer one."""
        line = f"{seen.version:012d} {seen.id} ".encode()
        self._write(_file_of(stage), _VERSION, seen.version, line, orjson.dumps(stage) + b"\n")

    def forget(self, stage: str) -> None:
        """Drop what was seen of a stage, after its user has accepted a rollback."""
        with contextlib.suppress(OSError):
            os.unlink(f"{self._directory}/{_file_of(stage)}")

    def stages(self) -> list[str]:
        """Return the names of all stages that were ever seen."""
        try:
            files = sorted(os.listdir(self._directory))
        except OSError:
            return []
        matches = (_VERSION.match(self._read(name)) for name in files)
        return sorted(orjson.loads(match[3]) for match in matches if match)

    def recall_record(self, stage: str, name: SeenRecordName) -> SeenRecord:
        """Return the newest record of this name that was seen of a stage."""
        match = _RECORD.match(self._read(f"{_file_of(stage)}.{name}"))
        return SeenRecord(int(match[1]), match[2].decode()) if match else SeenRecord(0, "")

    def remember_record(self, stage: str, name: SeenRecordName, seen: SeenRecord) -> None:
        """Write down the newest record of this name of a stage; it never replaces a newer one."""
        self._write(f"{_file_of(stage)}.{name}", _RECORD, seen.serial, f"{seen.serial:012d} {seen.id}\n".encode())

    def recall_keyring(self) -> tuple[int, str] | None:
        """Return the serial number and the digest of the newest keyring that was seen, or None."""
        match = _KEYRING.match(self._read("keyring"))
        return (int(match[1]), match[2].decode()) if match else None

    def remember_keyring(self, serial: int, data: bytes, *, even_if_older: bool = False) -> None:
        """Write down which keyring was seen last."""
        self._write("keyring", _KEYRING, serial, f"{serial:012d} {digest(data)}\n".encode(), even_if_older=even_if_older)

    def _read(self, name: str) -> bytes:
        path = f"{self._directory}/{name}"
        try:
            descriptor = os.open(path, _READ)
            try:
                return os.read(descriptor, _MAX_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            return _nothing_to_read(path, error)

    def _write(
        self,
        name: str,
        pattern: re.Pattern[bytes],
        number: int,
        line: bytes,
        rest: bytes = b"",
        *,
        even_if_older: bool = False,
    ) -> None:
        """Write a line unless a newer one is there. What fails is warned of once, and never fails the operation.

        ``line`` replaces bytes of the same length within one sector, so the file holds the old line or the new one at any
        time. ``rest`` never changes and is written with the first line.
        """
        try:
            descriptor = os.open(f"{self._directory}/{name}", _CHANGE, 0o600)
            try:
                present = pattern.match(os.pread(descriptor, _MAX_BYTES, 0))
                if present is None:
                    os.ftruncate(descriptor, 0)
                    os.pwrite(descriptor, line + rest, 0)
                elif even_if_older or int(present[1]) < number:
                    os.pwrite(descriptor, line, 0)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._warn(error)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "What was seen of this store can't be remembered in %s (%s): "
                "an older copy of the directory put in its place would not be noticed. "
                "Give this user a writable home, or set XDG_STATE_HOME",
                self._directory,
                error.strerror,
            )


def state_directory() -> Path:
    """Return the user's state directory for this library."""
    return platformdirs.user_state_path("checkpoint_manager")


def digest(keyring: bytes) -> str:
    """Return what is written down of a keyring's bytes."""
    return hashlib.sha256(keyring).hexdigest()


@functools.lru_cache(maxsize=16_384)
def _file_of(stage: str) -> str:
    return hashlib.sha256(stage.encode()).hexdigest()[:40]


def _nothing_to_read(path: str, error: OSError) -> bytes:
    """Return nothing for a file that is missing or not this user's to read; raise for any other error."""
    if error.errno in _NOTHING_TO_READ:
        return b""
    message = f"can't read what was seen of this store: {path}: {error.strerror}; nothing was changed"
    raise StorageError(message, hint="Try again", errno=error.errno, filename=path) from error
