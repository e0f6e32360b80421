"""The fastest program that we know for the library's protocol: it shows what an aim that is not met could reach at best.

It does in one place what the library does to save a version: it takes the stage's lock, compares the keyring, the folder, the
head, the record of deletions and what this user has seen with what it knows, seals metadata and data under their place, makes
both durable, links them exclusively, sets the head, looks at the keyring again, and notes what was seen. It keeps open all that
can be kept open.

It is not known to be correct: the simulated power cuts, which judge the library, were not run on it. It leaves out other
backends, rotation, rollbacks, deletion, the adoption of what killed writers left, file systems without hard links, and errors
that say what to do. Where it finds such a change, it fails.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import time
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

from benchmarks.contenders.base import KEY, Contender
from checkpoint_manager._format.payload import encode

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoint_manager._format.payload import Check

LEAN = "floor: lean program"
_MOST_OPEN = 64
"""How many stages are kept open."""
_SMALL = 256 * 1024
_SLICE = 256 * 1024
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class _Stage:
    """A stage that is kept open: its newest version's number and id, and what is compared before they are relied on."""

    def __init__(self, root: str, name: str) -> None:
        self.name = name.encode()
        file_name = name.replace(" ", "%20")
        self.path, self.head = f"{root}/history/{file_name}", f"{root}/{file_name}.checkpoint"
        os.makedirs(self.path, exist_ok=True)
        self.folder = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        self.lock = os.open(f"{root}/.locks/{file_name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        self.seen = os.open(f"{root}/seen/{hashlib.sha256(self.name).hexdigest()[:40]}", os.O_RDWR | os.O_CREAT, 0o600)
        self.line = b""
        self.number = 0
        self.id = ""
        self.head_file = 0
        self.pending = ""

    def look(self) -> None:
        """Make sure that the newest version is the one that is known, or find it."""
        if os.stat(self.path).st_ino != os.fstat(self.folder).st_ino:
            raise AssertionError("another folder is in place of the stage's")
        line = os.pread(self.seen, 200, 0)
        if line != self.line or (line and os.stat(self.head).st_ino != self.head_file):
            self.line = line
            self.number, self.id = (int(line[:12]), line[13:45].decode()) if line else (0, "")
            self.head_file = os.stat(self.head).st_ino if line else 0
        with contextlib.suppress(FileNotFoundError):
            os.stat("gaps", dir_fd=self.folder)
            raise AssertionError("versions were deleted")

    def close(self) -> None:
        for descriptor in (self.folder, self.lock, self.seen):
            os.close(descriptor)


class Lean(Contender):
    name = LEAN
    kind = "floor"

    def __init__(self, folder: Path, *, durable: bool = True) -> None:
        super().__init__(folder, durable=durable)
        self._root = str(folder)
        for name in ("history", ".locks", "seen"):
            (folder / name).mkdir(exist_ok=True)
        os.close(os.open(folder / "keyring.json", os.O_CREAT, 0o600))  # touch would change the times that others compare
        self._keyring = _stamp(f"{self._root}/keyring.json")
        self._stages: dict[str, _Stage] = {}
        self._origin = {"user": "root", "host": os.uname().nodename, "pid": os.getpid(), "python": "3", "library": "0"}

    @property
    def setting(self) -> str:
        return "as the library's" if self.durable else "without syncs"

    def save(self, stage: str, value: Any) -> int:
        data, _, check = encode(value, ahead=True)  # as the library does: nothing that is as thorough is faster
        at = self._stages.get(stage) or self._open(stage)
        fcntl.flock(at.lock, fcntl.LOCK_EX)
        try:
            if not os.fstat(at.lock).st_nlink or _stamp(f"{self._root}/keyring.json") != self._keyring:
                raise AssertionError("the lock or the keyring was exchanged")
            at.look()
            number, version_id = at.number + 1, os.urandom(16).hex()
            sealed = self._sealed(at, number, version_id, data)
            status = self._small(at, number, sealed[0]) if len(data) <= _SMALL else self._large(at, number, sealed, check)
            if _stamp(f"{self._root}/keyring.json") != self._keyring:
                raise AssertionError("the key was exchanged")
            at.line = f"{number:012d} {version_id} {stage}\n".encode()
            os.pwrite(at.seen, at.line, 0)
            at.number, at.id, at.head_file = number, version_id, status.st_ino
        finally:
            fcntl.flock(at.lock, fcntl.LOCK_UN)
        return number

    def _open(self, stage: str) -> _Stage:
        if len(self._stages) >= _MOST_OPEN:
            self._stages.pop(next(iter(self._stages))).close()
        self._stages[stage] = opened = _Stage(self._root, stage)
        return opened

    def _sealed(self, at: _Stage, number: int, version_id: str, data: bytes) -> list[bytes]:
        entry = {
            "id": version_id,
            "previous": at.id or None,
            "status": "completed",
            "created_at": time.time(),
            "metadata": {},
            "origin": self._origin,
            "size": len(data),
            "restored_from": None,
        }
        plain = orjson.dumps(entry)
        line = b'{"format":"lean/1","version":%d,"metadata":%d}\n' % (number, len(plain) + 72)
        where = line + at.name + b"/%d" % number
        metadata = Cobblestone256Encryptor(KEY, b"metadata" + where)
        opening = line + metadata.update(plain) + metadata.finalize()
        encryptor = Cobblestone256Encryptor(KEY, b"data" + where + version_id.encode())
        if len(data) <= _SMALL:
            return [opening + encryptor.update(data) + encryptor.finalize()]
        view = memoryview(data)
        slices = [encryptor.update(view[start : start + _SLICE]) for start in range(0, len(data), _SLICE)]
        return [opening, *slices, encryptor.finalize()]

    def _small(self, at: _Stage, number: int, content: bytes) -> os.stat_result:
        folder, temporary = at.folder, f".{number:016d}.tmp"
        pending = f"{number:012d}.{hashlib.sha256(content).hexdigest()}.pending"
        descriptor = os.open(temporary, _CREATE, 0o600, dir_fd=folder)
        os.write(descriptor, content)
        status = os.fstat(descriptor)
        os.link(temporary, pending, src_dir_fd=folder, dst_dir_fd=folder)
        if self.durable:
            os.fsync(descriptor)
        os.close(descriptor)
        if self.durable:
            os.fsync(folder)
        if at.pending:
            os.unlink(at.pending, dir_fd=folder)
        os.link(temporary, f"{number:012d}.checkpoint", src_dir_fd=folder, dst_dir_fd=folder)
        os.rename(temporary, at.head, src_dir_fd=folder)
        at.pending = pending
        return status

    def _large(self, at: _Stage, number: int, pieces: list[bytes], check: Check | None) -> os.stat_result:
        folder, temporary = at.folder, f".{number:016d}.tmp"
        descriptor = os.open(temporary, _CREATE, 0o600, dir_fd=folder)
        for piece in pieces:
            os.write(descriptor, piece)
        if check is not None:
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # starts to write out
            check()
        status = os.fstat(descriptor)
        if self.durable:
            os.fsync(descriptor)
        os.close(descriptor)
        os.link(temporary, f"{number:012d}.checkpoint", src_dir_fd=folder, dst_dir_fd=folder)
        if self.durable:
            os.fsync(folder)
        os.rename(temporary, at.head, src_dir_fd=folder)
        return status

    def load(self, stage: str, version: int | None = None) -> Any:
        if _stamp(f"{self._root}/keyring.json") != self._keyring:
            raise AssertionError("the keyring was exchanged")
        at = self._stages.get(stage) or self._open(stage)
        at.look()
        number = at.number if version is None else version
        if not number:
            return None
        if version is None:
            with contextlib.suppress(FileNotFoundError):
                os.stat(f"{number + 1:012d}.checkpoint", dir_fd=at.folder)
                raise AssertionError("another user has saved")
        descriptor = os.open(f"{number:012d}.checkpoint", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=at.folder)
        try:
            size = os.fstat(descriptor).st_size
            content = os.read(descriptor, size)
            while len(content) < size:
                content += os.read(descriptor, size - len(content))
        finally:
            os.close(descriptor)
        line, _, rest = content.partition(b"\n")
        line += b"\n"
        length = orjson.loads(line)["metadata"]
        where = line + at.name + b"/%d" % number
        metadata = Cobblestone256Decryptor(KEY, b"metadata" + where)
        entry = orjson.loads(metadata.update(rest[:length]) + metadata.finalize())
        if version is None and entry["id"] != at.id:
            raise AssertionError("it is another history")
        decryptor = Cobblestone256Decryptor(KEY, b"data" + where + entry["id"].encode())
        return orjson.loads(decryptor.update(memoryview(rest)[length:]) + decryptor.finalize())

    def history(self, stage: str) -> int:
        return sum(name.endswith(".checkpoint") for name in os.listdir(f"{self._root}/history/{stage.replace(' ', '%20')}"))

    def close(self) -> None:
        for stage in self._stages.values():
            stage.close()
        self._stages.clear()


def _stamp(path: str) -> tuple[int, int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_ctime_ns
