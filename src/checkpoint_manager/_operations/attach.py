"""Attach contents of any length to a version.

An attachment is written and made durable before the version that refers to it is appended, so a version never lacks one. A save
holds one run lock while it writes its attachments, and their ids begin with the name of that lock. What killed writers leave is
found by it and removed in :mod:`checkpoint_manager._operations.unused_attachments`.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import blake3  # noqa: F401  # else it would be imported under the lock
import orjson

import checkpoint_manager.attachment_info  # noqa: F401  # likewise
from checkpoint_manager import _loading
from checkpoint_manager._arguments import wrong
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager._format import attachment as attachment_format
from checkpoint_manager._format import seal
from checkpoint_manager._format.attachment import MAX_ATTACHMENTS, MAX_NAME_CHARACTERS, AttachmentRecord
from checkpoint_manager._operations import unused_attachments
from checkpoint_manager._operations.read_attachments import StoredAttachment
from checkpoint_manager._operations.unused_attachments import LOCK_DIGITS
from checkpoint_manager._text import is_unicode, printable
from checkpoint_manager.errors import CheckpointError, PayloadError
from checkpoint_manager.reports import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future, ThreadPoolExecutor
    from types import TracebackType
    from typing import Self

    from checkpoint_manager._format.contents import Content
    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager._operations.save import Draft
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Buffer
    from checkpoint_manager.reports import OnProgress

_WRITTEN_AT_ONCE = 3
"""How many segments are written at once, each in a thread: while one waits for the disk, others are sealed."""
_IN_MEMORY = 3
"""How many segments are in memory: those that are being sealed, and the one that is being read."""
_READ_BYTES = 1024 * 1024
"""How much is read from a file at once."""
_UNCHANGED = "Attach it when nothing writes to it any more, or attach a copy"
_MAX_RECORDS_BYTES = 400 * 1024
"""The share of a version's metadata, 1 MiB in all, that is for attachments: enough for the digests of 100 GiB."""


class Sliced(NamedTuple):
    """The content of a segment, which can be read once.

    Attributes:
        length: Its length in bytes.
        slices: The content, in slices of ``seal.SLICE_BYTES`` or less. They may share a buffer: use each one before the next.
    """

    length: int
    slices: Iterable[Buffer]


class Source:
    """Content to attach.

    Attributes:
        kind: What it is read back as.
        detail: What it is, for people.
        size: Its length in bytes, or None if only its end will tell.
        written: Called with the length of each segment that was written.
    """

    def __init__(self, kind: str, pieces: Iterable[Buffer], detail: str = "", size: int | None = None) -> None:
        self.kind = kind
        self.detail = detail
        self.size = size
        self._pieces = pieces
        self.written: Callable[[int], None] = lambda _: None

    def segments(self) -> Iterator[tuple[Sliced, bool]]:
        """Yield the content in segments, each with whether it is the last one."""
        for segment, is_last in _cut(self._pieces, self.size):
            yield Sliced(len(segment), seal.cut(segment)), is_last
            del segment  # its memory is free once it is sealed, before the next one is read


def _tell(progress: OnProgress, stage: str, sources: list[Source]) -> None:
    done, total = 0, sum(source.size or 0 for source in sources)

    def written(length: int) -> None:
        nonlocal done
        done += length
        progress(Progress(done, max(total, done), "bytes", stage))

    for source in sources:
        source.written = written


def _cut(pieces: Iterable[Buffer], size: int | None) -> Iterator[tuple[Buffer, bool]]:
    """Yield segments of full length, but for the last one, each with whether it is the last.

    A full segment is held until there is a byte after it. What is long enough is cut without being copied.
    """
    full: Buffer | None = None
    memory: bytearray | memoryview = bytearray()
    filled, may_be_short = 0, size is None or size < attachment_format.SEGMENT_BYTES
    for piece in pieces:
        view = memoryview(piece).cast("B")
        while view:
            if full is not None:
                yield full, False
                full, memory, may_be_short = None, bytearray(), False
            length = attachment_format.SEGMENT_BYTES - filled
            if not filled and len(view) >= length:
                full = view[:length]
            else:
                if not filled:  # a short one grows, and is there twice while it is copied
                    memory = bytearray() if may_be_short else attachment_format.new_memory(attachment_format.SEGMENT_BYTES)
                part = view[:length]
                memory[filled : filled + len(part)] = part
                filled += len(part)
                if filled == attachment_format.SEGMENT_BYTES:
                    full, filled = memory, 0
            view = view[length:]
    yield (memoryview(memory)[:filled] if full is None else full), True


@contextlib.contextmanager
def attached(
    store: Store,
    stage: str,
    draft: Draft,
    contents: Mapping[str, object] = MappingProxyType({}),
    progress: OnProgress | None = None,
    *,
    session: Session | None = None,
) -> Iterator[Draft]:
    """Write the contents, and those of the data, and provide the whole draft for a ``with`` block that saves it.

    Args:
        store: The store.
        stage: The stage.
        draft: The version.
        contents: The contents by name; see :meth:`CheckpointManager.save_checkpoint` for what they may be.
        progress: Called with the bytes that are written.
        session: The session of a caller that holds the stage's lock.

    Raises:
        PayloadError: A content or a name can't be attached. Nothing was written.
        StorageError: A content can't be read or written. No version refers to what was written, and it is removed.
    """
    sources, inside = _sources(store, stage, contents), draft.embedded
    if inside is not None:
        sources[attachment_format.CONTENTS] = Source("contents", inside.pieces(), size=inside.size)
    if progress is not None:
        _tell(progress, stage, [source for source in sources.values() if isinstance(source, Source)])
    if session is None and stage not in store.swept:
        unused_attachments.sweep(store, stage)
    with Upload(store, stage) as upload:
        try:
            records = tuple(
                source._replace(name=name) if isinstance(source, AttachmentRecord) else upload.write(name, source)
                for name, source in sources.items()
            )
            _check_length(stage, records)
            data = draft.data if inside is None else inside.data()
            yield draft._replace(data=data, attachments=records, embedded=None)
        except BaseException:
            with contextlib.suppress(CheckpointError):  # what is left is removed by the next deletion or repair
                if session is not None:
                    upload.remove_unused(session)
                else:
                    with store.lock(stage) as lock, store.session(stage, lock) as own:
                        upload.remove_unused(own)
            raise


def _sources(store: Store, stage: str, contents: Mapping[str, object]) -> dict[str, Source | AttachmentRecord]:
    if not isinstance(contents, Mapping):
        raise wrong("attachments", contents, "a dict of contents by name")
    if len(contents) > MAX_ATTACHMENTS:
        message = f"{len(contents)} attachments are given for stage {printable(stage)}, and at most {MAX_ATTACHMENTS} can be"
        raise PayloadError(message, hint="Put several into one, as an archive", stage=stage)
    return {_checked_name(stage, name): _source(store, stage, name, content) for name, content in contents.items()}


def _checked_name(stage: str, name: object) -> str:
    if type(name) is not str or not 0 < len(name) <= MAX_NAME_CHARACTERS or name[0] == "@" or not is_unicode(name):
        message = f"an attachment of stage {printable(stage)} has no valid name"
        hint = f"Name it by a text of 1 to {MAX_NAME_CHARACTERS} characters that does not begin with @"
        raise PayloadError(message, hint=hint, stage=stage)
    return name


def _source(store: Store, stage: str, name: str, content: object) -> Source | AttachmentRecord:
    if isinstance(content, StoredAttachment):
        return content.record(store, stage) or Source(content.kind, _pieces_of(content.open()), content.detail, content.size)
    if isinstance(content, bytes | bytearray | memoryview):
        return Source("bytes", [content], size=memoryview(content).nbytes)
    what = f"the attachment {printable(name)} of stage {printable(stage)}"
    if isinstance(content, os.PathLike):
        return _file(content, what)
    if callable(getattr(content, "read", None)):
        return Source("file", _pieces_of(content))
    contents = _loading.load("checkpoint_manager._format.contents")
    try:
        found: Content | None = contents.content_of(content)
    except contents.UnsavableError as error:
        raise PayloadError(f"{what} {error.fault}", hint=error.remedy, stage=stage) from None
    if found is None:
        message = f"{what} is of the type {printable(type(content).__qualname__)}"
        hint = "Attach bytes, a pathlib.Path, an open binary file, a numpy array, a frame, a tensor, or text.encode()"
        raise PayloadError(message, hint=hint, stage=stage)
    return Source(found.kind, found.pieces, found.detail, found.size)


def _file(path: os.PathLike[str], what: str) -> Source:
    with as_our_errors(f"read the file of {what}", os.fspath(path)):
        status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        message = f"{what} is a directory: {printable(os.fspath(path))}"
        raise PayloadError(message, hint="Attach each of its files by a name, or an archive of them")
    if stat.S_ISREG(status.st_mode) and status.st_size > 0:  # files of /proc say 0
        return _FileSource(path, what, status)

    def pieces() -> Iterator[Buffer]:
        with as_our_errors(f"read the file of {what}", os.fspath(path)), open(path, "rb", buffering=0) as file:
            yield from _pieces_of(file)

    return Source("file", pieces())


class _FileSource(Source):
    """A file of known length. A segment is read slice by slice while it is sealed, and is never in memory as a whole.

    Args:
        path: Its path.
        what: What it is, for an error.
        status: Its status.
    """

    def __init__(self, path: os.PathLike[str], what: str, status: os.stat_result) -> None:
        super().__init__("file", (), size=status.st_size)
        self._path = path
        self._what = what
        self._status = status

    def segments(self) -> Iterator[tuple[Sliced, bool]]:
        size = self._status.st_size
        for start in range(0, size, attachment_format.SEGMENT_BYTES):
            length = min(attachment_format.SEGMENT_BYTES, size - start)
            yield Sliced(length, self._slices(start, length)), start + length == size

    def _slices(self, start: int, length: int) -> Iterator[Buffer]:
        memory, path = memoryview(bytearray(min(seal.SLICE_BYTES, length))), os.fspath(self._path)
        with as_our_errors(f"read the file of {self._what}", path), open(path, "rb", buffering=0) as file:
            file.seek(start)
            for at in range(0, length, seal.SLICE_BYTES):
                part = memory[: length - at]
                filled = 0
                while filled < len(part) and (count := file.readinto(part[filled:])):
                    filled += count
                self._check(os.fstat(file.fileno()), is_short=filled < len(part))
                yield part

    def _check(self, status: os.stat_result, *, is_short: bool) -> None:
        was = self._status
        if (status.st_dev, status.st_ino) != (was.st_dev, was.st_ino):
            change = "was replaced"
        elif status.st_size > was.st_size:
            change = "became longer"
        elif status.st_size < was.st_size or is_short:  # or its file system reports a wrong length
            change = "became shorter"
        else:
            return
        raise PayloadError(f"{self._what} {change} while it was read", hint=_UNCHANGED)


def _pieces_of(file: Any) -> Iterator[Buffer]:  # noqa: ANN401  # anything with read()
    while True:
        piece = file.read(_READ_BYTES)
        if not isinstance(piece, bytes | bytearray | memoryview):
            message = f"an attached file reads {printable(type(piece).__qualname__)}, and not bytes"
            raise PayloadError(message, hint='Open it in binary mode: open(path, "rb")')
        if not piece:
            return
        yield bytes(piece)  # the file may read the next one into the same memory


class Upload:
    """The attachments that one save writes. Until its ``with`` block ends, nobody removes them as unused.

    Args:
        store: The store.
        stage: The stage.
    """

    def __init__(self, store: Store, stage: str) -> None:
        self._store = store
        self._stage = stage
        self._name = secrets.token_hex(LOCK_DIGITS // 2)
        self._lock = contextlib.ExitStack()
        self._written: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._lock.close()

    def write(self, name: str, source: Source) -> AttachmentRecord:
        """Write an attachment, and return its record.

        Args:
            name: The attachment's name.
            source: Its content.
        """
        store, stage = self._store, self._stage
        if not self._written:
            self._lock.enter_context(store.backend.lock(stage, store.lock_timeout, purpose="run", name=self._name))
        new, key = f"{self._name}{len(self._written):0{32 - LOCK_DIGITS}x}", seal.generate_key()
        self._written.append(new)
        written_under = store.keyring.active[0]  # before anything is sealed
        size, digests = _Writer(store, stage, new, key).write(source)
        detail = attachment_format.shortened(source.detail)
        return AttachmentRecord(name, new, key, size, source.kind, detail, digests, written_under)

    def remove_unused(self, session: Session | None) -> None:
        """Remove what no version refers to. The caller holds the stage's lock."""
        unused = unused_attachments.find_among(self._store, self._stage, self._written, session)
        if unused:
            self._store.backend.delete_attachments(self._stage, unused)


class _Writer:
    """Seals and writes the segments of one attachment: several at once, each in a thread, if there are several.

    Args:
        store: The store.
        stage: The stage.
        attachment: The attachment's id.
        key: Its key.
    """

    def __init__(self, store: Store, stage: str, attachment: str, key: SecretBytes) -> None:
        self._store = store
        self._stage = stage
        self._attachment = attachment
        self._key = key
        self._room = threading.Semaphore(_IN_MEMORY)

    def write(self, source: Source) -> tuple[int, tuple[str, ...]]:
        """Write a whole content, and return its length and the digests of its segments."""
        size, index, digests = 0, 0, list[str]()
        under_way: deque[Future[str]] = deque()
        with contextlib.ExitStack() as stack:
            pool: ThreadPoolExecutor | None = None
            self._room.acquire()
            for content, is_last in source.segments():
                size, contents = size + content.length, [content]
                source.written(content.length)
                del content
                if pool is None and is_last:  # the only one
                    return size, (self._segment(index, contents, is_last),)
                pool = pool or stack.enter_context(_new_pool())
                under_way.append(pool.submit(self._segment, index, contents, is_last))
                while under_way and under_way[0].done():
                    digests.append(under_way.popleft().result())
                self._room.acquire()
                index += 1
            digests += (each.result() for each in under_way)
        return size, tuple(digests)

    def _segment(self, index: int, contents: list[Sliced], is_last: bool) -> str:  # noqa: FBT001  # as it comes
        """Write a segment, and return its digest. Its content leaves the list once it is sealed, which frees its memory."""
        digest: list[str] = []
        context = attachment_format.bound_to(self._store.keyring.store_id, self._stage, self._attachment, index, last=is_last)

        def sealed() -> Iterator[Buffer]:
            yield from attachment_format.seal_segment(self._key, contents[0].slices, context, digest)
            contents.clear()
            self._room.release()

        try:
            self._store.backend.write_segment(self._stage, self._attachment, index, sealed())
        finally:
            if contents:  # it was not sealed as a whole
                self._room.release()
        return digest[0]


def _new_pool() -> ThreadPoolExecutor:
    threads = _loading.load("concurrent.futures.thread")
    pool: ThreadPoolExecutor = threads.ThreadPoolExecutor(_WRITTEN_AT_ONCE, thread_name_prefix="checkpoint_manager")
    return pool


def _check_length(stage: str, records: Iterable[AttachmentRecord]) -> None:
    if len(orjson.dumps(attachment_format.encode_records(records))) > _MAX_RECORDS_BYTES:
        message = f"the attachments of stage {printable(stage)} are too many, or too large together, for one version"
        raise PayloadError(message, hint="Attach them to several stages", stage=stage)
