"""The file of a bundle: written whole or not at all, and read twice though it may come through a pipe.

It lies wherever its user wants it, outside of any store; a link on the way to it is followed. What is spooled here is still
encrypted: no plaintext ever touches a disk. An export that is killed may leave a hidden file beside the bundle, ``.….tmp``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from typing import TYPE_CHECKING, BinaryIO, TypeAlias

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager._format.seal import SLICE_BYTES
from checkpoint_manager.errors import StorageError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from checkpoint_manager.models import Buffer

BundlePath: TypeAlias = "str | os.PathLike[str] | BinaryIO"
"""Where a bundle is, or an open binary file to write it to or read it from: a pipe, say."""


def name_of(place: BundlePath) -> str:
    """Return what to call a bundle in messages."""
    if isinstance(place, str | os.PathLike):
        return display(os.fspath(place))
    return display(str(getattr(place, "name", "") or "stream"))


def refuse_if_there(place: BundlePath) -> None:
    """Refuse to write to a name that is taken, before any work is done.

    Raises:
        StorageError: It is taken.
    """
    if isinstance(place, str | os.PathLike) and os.path.lexists(place):
        raise _taken(os.fspath(place))


def write(place: BundlePath, pieces: Iterable[Buffer], *, overwrite: bool) -> int:
    """Write a bundle, and return its length.

    A file appears under its name whole and durable, with mode 0600, or not at all. To a stream it is written as it comes:
    what is left of it after an error ends before its end, and no import takes it.

    Raises:
        StorageError: The name is taken, or the operating system refused.
    """
    counter = _Counter(pieces)
    if not isinstance(place, str | os.PathLike):
        with as_our_errors("write the bundle", name_of(place)):
            for piece in counter:
                view = memoryview(piece)
                while view:
                    view = view[place.write(view) :]  # a raw stream may take a part of it only
            place.flush()
        return counter.total
    path = os.path.abspath(os.fspath(place))
    folder, name = os.path.realpath(os.path.dirname(path)), os.path.basename(path)
    with as_our_errors("write the bundle", path), files.open_directory(folder) as directory:
        temporary = files.write_temporary(directory, counter, durable=True)
        try:
            if overwrite:
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            else:
                files.publish(temporary, name, directory)
        except FileExistsError:
            raise _taken(path) from None
        finally:
            files.remove(temporary, directory)  # after a link, its second name; after a rename, gone already
        files.sync(directory)
    return counter.total


def _taken(path: str) -> StorageError:
    message = f"{display(path)} exists already, and nothing was written: choose another name, or say that it may be overwritten"
    return StorageError(message, errno=errno.EEXIST, filename=path)


class _Counter:
    def __init__(self, pieces: Iterable[Buffer]) -> None:
        self._pieces = pieces
        self.total = 0

    def __iter__(self) -> Iterator[Buffer]:
        for piece in self._pieces:
            self.total += len(piece)
            yield piece


class BundleFile:
    """A bundle, opened for reading; always the same file, whatever becomes of its name.

    Args:
        descriptor: A regular file's.
        name: What to call it in messages.
        size: How long it is, in bytes.
    """

    def __init__(self, descriptor: int, name: str, size: int) -> None:
        self._descriptor = descriptor
        self.name = name
        self.size = size

    def opening(self, length: int) -> bytes:
        """Return its first bytes."""
        with as_our_errors("read the bundle", self.name):
            return os.pread(self._descriptor, length, 0)

    def pieces(self, start: int, step: Callable[[int], None]) -> Iterator[bytes]:
        """Yield what it holds from a position on; ``step`` is told how far that is, each time."""
        while True:
            with as_our_errors("read the bundle", self.name):
                piece = os.pread(self._descriptor, SLICE_BYTES, start)
            if not piece:
                return
            start += len(piece)
            step(start)
            yield piece


@contextlib.contextmanager
def opened(place: BundlePath) -> Iterator[BundleFile]:
    """Open a bundle for reading. One that comes as a stream is kept in a nameless temporary file, as it is: encrypted.

    Raises:
        StorageError: It can't be read.
    """
    name = name_of(place)
    if isinstance(place, str | os.PathLike):
        with as_our_errors("read the bundle", name):
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with as_our_errors("read the bundle", name):
                status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                message = f"{name} is no regular file: give the path of one, or the bundle itself as a stream"
                raise StorageError(message, errno=errno.EINVAL, filename=os.fspath(place))
            yield BundleFile(descriptor, name, status.st_size)
        finally:
            files.close(descriptor)
        return
    with contextlib.ExitStack() as stack:
        with as_our_errors("keep the bundle until it is read", "the folder for temporary files"):
            spool = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            size = 0
            while piece := place.read(SLICE_BYTES):
                view = memoryview(piece)
                size += len(view)
                while view:
                    view = view[spool.write(view) :]
        yield BundleFile(spool.fileno(), name, size)
