r"""What this user has already seen of a store, kept outside of it: the only defence against an older copy put back.

A directory can't tell from its own files that all of them are of yesterday. So for each store and stage the newest version's
number and id are remembered in the user's state directory, and so are the serial numbers of the keyring and of tags::

    <state>/<store id>/<sha256 of the stage's name, 40 hex digits>   "000000000012 <id> <stage as JSON>\n"
    <state>/<store id>/<the same>.tags                               "000000000002 <id of the record of tags>\n"
    <state>/<store id>/keyring                                       "000000000003 <sha256 of its bytes>\n"

A memory is written after what it speaks of is durable, and read before the store is looked at, so that it is never ahead of
the store. It is not synced: after a power cut it may be older than the truth, which never raises a false alarm. One that
is damaged, or not ours to read, counts as none; but a medium that fails, or too many open files, is no reason to go on without.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import logging
import os
import re
from typing import TYPE_CHECKING, NamedTuple

import orjson
import platformdirs

from checkpoint_manager.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_LOG = logging.getLogger("checkpoint_manager")
_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_STAGE = re.compile(rb"([0-9]{12}) ([0-9a-f]{32}) (.+)\n", re.DOTALL)
_TAGS = re.compile(rb"([0-9]{12}) ([0-9a-f]{32})\n")
_KEYRING = re.compile(rb"([0-9]{12}) ([0-9a-f]{64})\n")
_MAX_BYTES = 8192
_OF_TAGS = ".tags"
_NOTHING_TO_READ = {errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EPERM}


class SeenVersion(NamedTuple):
    """The newest version of a stage that this user has seen."""

    version: int
    id: str


class LastSeen:
    """The memory of one store.

    Args:
        store: The store's id.
        state: The user's state directory for this library; found by ``platformdirs`` if None.
    """

    def __init__(self, store: str, state: Path | None = None) -> None:
        self._directory = str((state or state_directory()) / store)
        self._mute = False
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
        except OSError as error:
            self._give_up(error)

    def recall(self, stage: str) -> SeenVersion | None:
        """Return what was seen of a stage, or None."""
        match = _STAGE.match(self._read(_file_of(stage)))
        return SeenVersion(int(match[1]), match[2].decode()) if match else None

    def remember(self, stage: str, seen: SeenVersion) -> None:
        """Keep what was seen of a stage; never an older version in the place of a newer one."""
        line = f"{seen.version:012d} {seen.id} ".encode()

        def write(descriptor: int) -> None:
            present = _STAGE.match(os.pread(descriptor, _MAX_BYTES, 0))
            if present is None:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, line + orjson.dumps(stage) + b"\n", 0)
            elif int(present[1]) < seen.version:
                os.pwrite(descriptor, line, 0)  # within one sector, at any time either the old or the new one

        self._change(_file_of(stage), write)

    def forget(self, stage: str) -> None:
        """Drop what was seen of a stage: its user has accepted a rollback."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._directory, _file_of(stage)))

    def stages(self) -> list[str]:
        """Return the names of all stages that were ever seen."""
        try:
            files = sorted(os.listdir(self._directory))
        except OSError:
            return []
        matches = (_STAGE.match(self._read(name)) for name in files)
        return sorted(orjson.loads(match[3]) for match in matches if match)

    def recall_tags(self, stage: str) -> tuple[int, str]:
        """Return the serial number and the id of the newest record of a stage's tags that was seen; (0, ""): none."""
        match = _TAGS.match(self._read(_file_of(stage) + _OF_TAGS))
        return (int(match[1]), match[2].decode()) if match else (0, "")

    def remember_tags(self, stage: str, serial: int, record_id: str) -> None:
        """Keep which record of a stage's tags was seen last; never an older one in the place of a newer one."""

        def write(descriptor: int) -> None:
            present = _TAGS.match(os.pread(descriptor, _MAX_BYTES, 0))
            if present is None or int(present[1]) < serial:
                os.pwrite(descriptor, f"{serial:012d} {record_id}\n".encode(), 0)

        self._change(_file_of(stage) + _OF_TAGS, write)

    def recall_keyring(self) -> tuple[int, str] | None:
        """Return the serial number and the digest of the newest keyring that was seen, or None."""
        match = _KEYRING.match(self._read("keyring"))
        return (int(match[1]), match[2].decode()) if match else None

    def remember_keyring(self, serial: int, data: bytes, *, even_if_older: bool = False) -> None:
        """Keep which keyring was seen last."""

        def write(descriptor: int) -> None:
            present = _KEYRING.match(os.pread(descriptor, _MAX_BYTES, 0))
            if present is None or int(present[1]) < serial or even_if_older:
                os.pwrite(descriptor, f"{serial:012d} {digest(data)}\n".encode(), 0)

        self._change("keyring", write)

    def _read(self, name: str) -> bytes:
        path = f"{self._directory}{os.sep}{name}"
        try:
            descriptor = os.open(path, os.O_RDONLY | _FLAGS)
            try:
                return os.read(descriptor, _MAX_BYTES)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in _NOTHING_TO_READ:
                return b""
            message = f"can't read what was seen of this store: {path}: {error.strerror}. Nothing was changed; try again"
            raise StorageError(message, errno=error.errno, filename=path) from error

    def _change(self, name: str, write: Callable[[int], None]) -> None:
        """Open a memory and write to it; what fails here is told once, and never fails the operation that called."""
        try:
            descriptor = os.open(f"{self._directory}{os.sep}{name}", os.O_RDWR | os.O_CREAT | _FLAGS, 0o600)
            try:
                write(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        if not self._mute:
            self._mute = True
            _LOG.warning(
                "What was seen of this store can't be remembered in %s (%s): an older copy of the directory put in its place "
                "would not be noticed. Give this user a writable home, or set XDG_STATE_HOME",
                self._directory,
                error.strerror,
            )


def state_directory() -> Path:
    """Return where this user's memories are kept."""
    return platformdirs.user_state_path("checkpoint_manager")


def digest(keyring: bytes) -> str:
    """Return what is remembered of a keyring's bytes."""
    return hashlib.sha256(keyring).hexdigest()


@functools.lru_cache(maxsize=16_384)
def _file_of(stage: str) -> str:
    return hashlib.sha256(stage.encode()).hexdigest()[:40]
