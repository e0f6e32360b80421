"""A large version in chunks, which are stored under a random upload id.

The version's object, written last, names them. A killed writer leaves chunks that no version names. A writer of a large version
holds a lease of the upload's id, which tells them from those of a living one.
"""

from __future__ import annotations

import contextlib
import re
from collections import deque
from typing import TYPE_CHECKING

from checkpoint_manager.backends.object_store import calls, layout
from checkpoint_manager.backends.object_store.objects import AT_ONCE
from checkpoint_manager.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager.backends.object_store.objects import Objects, Stamped
    from checkpoint_manager.models import Buffer

CHUNK_BYTES = 8 * 1024 * 1024
"""A version that is longer is stored in chunks of this length."""
_BEGINNING_BYTES = 64 * 1024
_MAGIC = b"chunks 1 "
_MANIFEST = re.compile(rb"chunks 1 ([0-9a-f]{32}) ([0-9]{12}) ([0-9]{8})\n")
MANIFEST_BYTES = len(_MAGIC) + 32 + 1 + 12 + 1 + 8 + 1
"""The length of an object that names chunks."""


class Manifest:
    """What a version in chunks says in its object: the upload, how long it is, and how many chunks there are."""

    __slots__ = ("count", "size", "upload")

    def __init__(self, upload: str, size: int, count: int) -> None:
        self.upload = upload
        self.size = size
        self.count = count

    def encoded(self) -> bytes:
        """Return the content of the object."""
        return b"%b%b %012d %08d\n" % (_MAGIC, self.upload.encode(), self.size, self.count)

    @classmethod
    def parsed(cls, data: bytes | bytearray) -> Manifest | None:
        """Return what an object says; None: it is the version itself."""
        match = _MANIFEST.fullmatch(data)
        return None if match is None else cls(match[1].decode(), int(match[2]), int(match[3]))


class ChunkReader:
    """A version in chunks, opened for reading.

    At first, only its beginning is fetched, which is all that a listing needs. Then several chunks are fetched at once.
    """

    def __init__(self, objects: Objects, stage: str, manifest: Manifest) -> None:
        self.size = manifest.size
        self._objects = objects
        self._stage = stage
        self._calls = self._start(manifest)
        self._under_way = deque([next(self._calls)])
        self._at_once = 1
        self._rest = memoryview(b"")

    def _start(self, manifest: Manifest) -> Iterator[calls.Pending[Stamped]]:
        """Start to read one part after the other, each when it is asked for."""
        for number in range(manifest.count):
            key = layout.chunk_key(self._stage, manifest.upload, number)
            if number == 0:
                yield self._objects.start_get(key, CHUNK_BYTES, first=_BEGINNING_BYTES)
                if self.size > _BEGINNING_BYTES:
                    yield self._objects.start_get(key, CHUNK_BYTES, after=_BEGINNING_BYTES)
            else:
                yield self._objects.start_get(key, CHUNK_BYTES)

    def read(self, length: int) -> bytes:
        """Return the next ``length`` bytes; fewer only at the end."""
        pieces = []
        while length and (self._rest or self._next()):
            pieces.append(self._rest[:length])
            self._rest = self._rest[length:]
            length -= len(pieces[-1])
        return b"".join(pieces)

    def _next(self) -> bool:
        self._under_way.extend(call for _, call in zip(range(self._at_once - len(self._under_way)), self._calls, strict=False))
        if not self._under_way:
            return False
        try:
            found = self._objects.finish_get(self._under_way.popleft(), "read a version of", self._stage)
        except calls.TooLargeError:  # not of this backend: too short, then
            found = None
        self._at_once = AT_ONCE
        self._rest = memoryview(b"" if found is None else found.data)
        return bool(self._rest)


def put(objects: Objects, stage: str, upload: str, content: bytearray, source: Iterator[Buffer]) -> tuple[int, int]:
    """Write what was read so far and the rest as chunks, and return their total length and their number."""
    size = count = 0
    under_way: deque[calls.Pending[object]] = deque()
    is_ended = False
    while content or not is_ended:
        while len(content) < CHUNK_BYTES and not is_ended:
            try:
                piece = next(source, None)
            except Exception:
                with contextlib.suppress(StorageError):
                    for each in under_way:  # otherwise they arrive after their deletion
                        objects.finish(each, "write", stage)
                raise
            is_ended = piece is None
            content += piece or b""
        if not content:
            break
        part = bytes(content[:CHUNK_BYTES])
        del content[:CHUNK_BYTES]
        if len(under_way) == AT_ONCE:
            objects.finish(under_way.popleft(), "write", stage)
        key = layout.chunk_key(stage, upload, count)
        under_way.append(objects.start_put(key, part))
        size, count = size + len(part), count + 1
    for each in under_way:
        objects.finish(each, "write", stage)
    return size, count


def are_there(objects: Objects, stage: str, content: bytes) -> bool:
    """Return whether all chunks that the content of a version's object names are there.

    They are not if they were removed while their writer was suspended and had lost its lease.
    """
    manifest = Manifest.parsed(content)
    if manifest is None:
        return True
    prefix = layout.upload_folder(stage, manifest.upload)
    sizes = [size for _, size in objects.listed(prefix, "look at a version of", stage)]
    return len(sizes) == manifest.count and sum(sizes) == manifest.size


def delete_named(objects: Objects, stage: str, contents: Iterable[bytes]) -> None:
    """Delete the chunks that the contents of versions' objects name."""
    for manifest in map(Manifest.parsed, contents):
        if manifest is not None:
            delete_upload(objects, stage, manifest.upload)


def delete_upload(objects: Objects, stage: str, upload: str) -> None:
    """Delete the chunks of an upload."""
    prefix = layout.upload_folder(stage, upload)
    keys = [f"{prefix}/{name}" for name, _ in objects.listed(prefix, "delete chunks of", stage)]
    objects.delete_objects(keys, "delete chunks of", stage)
