"""The least that can be done: what no durable, atomic, exclusive save can leave out, and no verified load.

The bare protocol is the one of the library: write a file, sync it, link it to its name (which fails if the name is taken), sync
the directory, rename the second name over the head. There is no encryption and no lock, and the JSON is made before.
"""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

from benchmarks.contenders.base import KEY, Contender

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.contenders.base import Lack

BARE = "floor: bare protocol"
BARE_UNSYNCED = "floor: bare protocol, no syncs"
LINK_FIRST = "floor: bare, link before sync"
LIBRARY_LINKS_FIRST = False
"""Whether the library links a file to its name before it syncs it: the floors are to be of the same protocol."""
SAME_PROTOCOL = LINK_FIRST if LIBRARY_LINKS_FIRST else BARE
APPEND = "floor: one fdatasync append"
MEMORY = "floor: orjson + memcpy"
JSON_BARE = "floor: orjson + bare protocol"
SEALED = "floor: open, read, decrypt, parse"

_ALL: frozenset[Lack] = frozenset({"encrypt", "position", "sync", "exclude"})
_SYNC: frozenset[Lack] = frozenset({"sync"})
_VERSIONS: frozenset[Lack] = frozenset({"versions"})
_NUMBERS = itertools.count()


class Bare(Contender):
    name = BARE
    kind = "floor"
    lacks = _ALL - _SYNC
    link_first = False

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, durable=durable)
        self._newest: dict[str, int] = {}

    @property
    def setting(self) -> str:
        if not self.durable:
            return "write, link, rename"
        return "write, link, fsync, fsync, rename" if self.link_first else "write, fsync, link, fsync, rename"

    def prepare(self, value: dict[str, Any]) -> Any:
        return orjson.dumps(value)

    def save(self, stage: str, value: Any) -> int:
        directory = self._directory(stage)
        temporary = f"{directory}/.{os.getpid()}-{next(_NUMBERS)}"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        _write(descriptor, value)
        if self.durable and not self.link_first:
            os.fsync(descriptor)
        number = self._link(temporary, directory, self._newest[stage] + 1)
        if self.durable and self.link_first:
            os.fsync(descriptor)
        os.close(descriptor)
        if self.durable:
            parent = os.open(directory, os.O_RDONLY)
            os.fsync(parent)
            os.close(parent)
        os.rename(temporary, f"{self.folder}/{stage}.head")
        self._newest[stage] = number
        return number

    def _link(self, temporary: str, directory: str, number: int) -> int:
        while True:
            try:
                os.link(temporary, f"{directory}/{number:012d}")
            except FileExistsError:  # another process was faster
                number += 1
            else:
                return number

    def load(self, stage: str, version: int | None = None) -> Any:
        path = f"{self.folder}/{stage}.head" if version is None else f"{self.folder}/{stage}/{version:012d}"
        try:
            return self.read(path)
        except FileNotFoundError:
            return None

    def read(self, path: str) -> Any:
        return orjson.loads(_bytes_of(path))

    def history(self, stage: str) -> int:
        return len(os.listdir(self._directory(stage)))

    def _directory(self, stage: str) -> str:
        directory = f"{self.folder}/{stage}"
        if stage not in self._newest:
            os.makedirs(directory, exist_ok=True)
            self._newest[stage] = max((int(name) for name in os.listdir(directory) if name.isdecimal()), default=0)
        return directory


class LinkFirst(Bare):
    name = LINK_FIRST
    link_first = True


class Unsynced(Bare):
    name = BARE_UNSYNCED
    lacks = _ALL

    def __init__(self, folder: Path, *, durable: bool = False) -> None:  # noqa: ARG002  # it never is
        super().__init__(folder, durable=False)


class JsonBare(Bare):
    name = JSON_BARE
    link_first = LIBRARY_LINKS_FIRST

    def prepare(self, value: dict[str, Any]) -> Any:
        return value

    def save(self, stage: str, value: Any) -> int:
        return super().save(stage, orjson.dumps(value))


class Sealed(JsonBare):
    """Each file is one Cobblestone-256 message. To be read: the bare open-read-decrypt-parse."""

    name = SEALED
    lacks = frozenset({"position", "exclude"})

    def save(self, stage: str, value: Any) -> int:
        encryptor = Cobblestone256Encryptor(KEY, b"")
        return Bare.save(self, stage, encryptor.update(orjson.dumps(value)) + encryptor.finalize())

    def read(self, path: str) -> Any:
        decryptor = Cobblestone256Decryptor(KEY, b"")
        return orjson.loads(decryptor.update(_bytes_of(path)) + decryptor.finalize())


class Append(Contender):
    """One append and one ``fdatasync``: what a log would pay. It is never read but to check it."""

    name = APPEND
    kind = "floor"
    lacks = _ALL - _SYNC

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, durable=durable)
        self._path = folder / "log"
        self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    @property
    def setting(self) -> str:
        return "write, fdatasync"

    def prepare(self, value: dict[str, Any]) -> Any:
        return orjson.dumps(value) + b"\n"

    def save(self, stage: str, value: Any) -> int:  # noqa: ARG002  # one log for all stages
        _write(self._descriptor, value)
        os.fdatasync(self._descriptor)
        return os.lseek(self._descriptor, 0, os.SEEK_END) - len(value)

    def load(self, stage: str, version: int | None = None) -> Any:  # noqa: ARG002
        lines = self._path.read_bytes()[version or 0 :].splitlines()
        return orjson.loads(lines[-1 if version is None else 0]) if lines else None

    def close(self) -> None:
        os.close(self._descriptor)


class Memory(Contender):
    """JSON and one copy of it: what the processor alone needs, whatever the disk does."""

    name = MEMORY
    kind = "floor"
    lacks = _ALL | _VERSIONS

    @property
    def setting(self) -> str:
        return "memory only"

    def save(self, stage: str, value: Any) -> None:  # noqa: ARG002
        self._kept = bytearray(orjson.dumps(value))


def _write(descriptor: int, data: bytes) -> None:
    written = os.write(descriptor, data)
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])


def _bytes_of(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        length = os.fstat(descriptor).st_size
        data = os.read(descriptor, length)
        while len(data) < length:
            data += os.read(descriptor, length - len(data))
        return data
    finally:
        os.close(descriptor)
