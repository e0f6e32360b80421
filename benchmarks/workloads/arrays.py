"""A large array and a large file, saved and loaded, beside ``cp`` and beside the fastest program that we know that seals them.

That program writes the same segments under the same cipher, several at once, and starts to write them out as early as the
library does: once with the digests that keep out former holders of a key, once without. It keeps no records and no versions.
When it reads, it compares no digests. A copy that is written out as early stands beside ``cp``, which leaves all to the sync.
"""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from blake3 import blake3
from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

from benchmarks.contenders.base import KEY
from benchmarks.contenders.lean import LEAN
from benchmarks.contenders.ours import OURS
from benchmarks.summary import Result, row
from benchmarks.timing import Entrant, interleave
from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.workloads.context import Context

IN_THE_DATA, A_FILE = f"{OURS}, in the data", f"{OURS}, a file"
COPIED, SYNCED, EARLY = "cp", "cp + fsync", "copy, written out early, + fsync"
WITHOUT_DIGESTS = f"{LEAN}, no digests"
_SEGMENT = 16 * 1024 * 1024
_SLICE = 256 * 1024
_OUT_AT_ONCE = 1024 * 1024
_AT_ONCE = 3
_UNITS = ((1024**3, "GiB"), (1024**2, "MiB"))
_ABOVE = 1024
"""More than a slice grows by being sealed."""


def run(context: Context) -> list[Result]:
    try:
        import numpy as np
    except ImportError:
        context.tell("arrays: left out, for numpy is not installed")
        return []
    size = context.scale.array
    title = next((f"{size // unit} {name}" for unit, name in _UNITS if size >= unit), f"{size} bytes")
    context.tell(f"arrays: {title}, saved and loaded")
    array = np.resize(np.frombuffer(os.urandom(min(size, 1024**2)), "u1"), size)
    with context.place(is_large=True) as place:
        manager, files = CheckpointManager(place / "store", key=KEY), _Files(place, array)
        kept = {"attached": {"epoch": 3}, "data": {"epoch": 3, "weights": array}}

        def forget(stage: str) -> None:
            if manager.has_checkpoint(stage):
                manager.delete_stage(stage)

        def attach(_: object) -> None:
            manager.save_checkpoint("attached", kept["attached"], attachments={"weights": array})

        def attach_file(_: object) -> None:
            manager.save_checkpoint("file", kept["attached"], attachments={"weights": files.source})

        def save(_: object) -> None:
            manager.save_checkpoint("data", kept["data"])

        saving = [
            Entrant(OURS, attach, lambda _: forget("attached")),
            Entrant(IN_THE_DATA, save, lambda _: forget("data")),
            Entrant(A_FILE, attach_file, lambda _: forget("file")),
            Entrant(EARLY, lambda _: files.copy_early(), files.remove),
            Entrant(SYNCED, lambda _: files.copy(durable=True), files.remove),
            Entrant(COPIED, lambda _: files.copy(durable=False), files.remove, leaves_dirt=True),
            Entrant(LEAN, lambda _: files.seal(digests=True), files.remove),
            Entrant(WITHOUT_DIGESTS, lambda _: files.seal(digests=False), files.remove),
        ]
        saved = interleave(saving, context.scale.arrays)
        files.remove(0)
        files.seal(digests=False)
        loading = [
            Entrant(OURS, lambda _: manager.get_checkpoint("attached").attachments["weights"].load()),
            Entrant(IN_THE_DATA, lambda _: manager.load_checkpoint("data")),
            Entrant(
                A_FILE, lambda _: manager.get_checkpoint("file").attachments["weights"].save_to(files.copied), files.remove_copy
            ),
            Entrant(SYNCED, lambda _: files.copy(durable=True), files.remove_copy),
            Entrant(COPIED, lambda _: files.copy(durable=False), files.remove_copy, leaves_dirt=True),
            Entrant(LEAN, lambda _: files.open(np.empty(size, "u1"))),
        ]
        loaded = interleave(loading, context.scale.arrays)
        manager.close()
    return [
        Result(f"arrays/{what}", f"{what} {title}", "s", tuple(row(name, samples) for name, samples in found.items()))
        for what, found in (("save", saved), ("load", loaded))
    ]


class _Files:
    """What is written without the library.

    Args:
        place: The folder.
        array: The array, as bytes.
    """

    def __init__(self, place: Path, array: Any) -> None:
        self.source, self.copied, self._sealed = place / "source", place / "copy", place / "sealed"
        self._view = memoryview(array)
        self._sealed.mkdir()
        self.source.write_bytes(self._view)
        os.sync()

    def remove(self, _: int) -> None:
        self.remove_copy(0)
        for path in self._sealed.iterdir():
            path.unlink()

    def remove_copy(self, _: int) -> None:
        self.copied.unlink(missing_ok=True)

    def copy(self, *, durable: bool) -> None:
        subprocess.run(["cp", "--reflink=never", self.source, self.copied], check=True)
        if durable:
            _sync(self.copied)
            _sync(self.copied.parent)

    def copy_early(self) -> None:
        memory = memoryview(bytearray(_OUT_AT_ONCE))
        with open(self.source, "rb", buffering=0) as source, open(self.copied, "wb", buffering=0) as copy:
            written = 0
            while length := source.readinto(memory):
                copy.write(memory[:length])
                _write_out(copy.fileno(), written, length)
                written += length
            os.fsync(copy.fileno())
        _sync(self.copied.parent)

    def seal(self, *, digests: bool) -> list[str]:
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(lambda start: self._seal(start, digests=digests), range(0, len(self._view), _SEGMENT)))
        _sync(self._sealed)
        return found

    def _seal(self, start: int, *, digests: bool) -> str:
        segment, digest, written, started = self._view[start : start + _SEGMENT], blake3(), 0, 0
        encryptor, output = (
            Cobblestone256Encryptor(KEY, b"a segment"),
            memoryview(bytearray(_SLICE + _SLICE // _ABOVE + _ABOVE * 32)),
        )
        descriptor = os.open(self._sealed / str(start), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        for at in range(0, len(segment), _SLICE):
            piece = output[: encryptor.update_into(segment[at : at + _SLICE], output)]
            if digests:
                digest.update(piece)
            written += os.write(descriptor, piece)
            if written - started >= _OUT_AT_ONCE:
                _write_out(descriptor, started, written - started)
                started = written
        os.write(descriptor, encryptor.finalize())
        os.fsync(descriptor)
        os.close(descriptor)
        return digest.hexdigest()

    def open(self, array: Any) -> Any:
        output = memoryview(array)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda start: self._open(start, output[start : start + _SEGMENT]), range(0, len(output), _SEGMENT)))
        return array

    def _open(self, start: int, output: memoryview) -> None:
        decryptor, filled = Cobblestone256Decryptor(KEY, b"a segment"), 0
        with open(self._sealed / str(start), "rb", buffering=0) as file:
            while piece := file.read(_SLICE):
                filled += decryptor.update_into(piece, output[filled:])
        output[filled:] = decryptor.finalize()


def _write_out(descriptor: int, start: int, length: int) -> None:
    if hasattr(os, "posix_fadvise"):
        os.posix_fadvise(descriptor, start, length, os.POSIX_FADV_DONTNEED)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
