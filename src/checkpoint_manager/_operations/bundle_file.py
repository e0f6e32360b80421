"""The file of a bundle: written whole or not at all, and readable twice even if it comes through a pipe.

The file is outside of any store, wherever its user wants it; links in its path are followed. A stream is kept in a temporary
file as it is, encrypted: no plaintext reaches the disk. An export that is killed may leave a hidden file ``.….tmp`` beside the
bundle.
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
from checkpoint_manager._text import printable
from checkpoint_manager.errors import Hint, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from checkpoint_manager.models import Buffer

_OPENING_BYTES = 64

BundlePath: TypeAlias = "str | os.PathLike[str] | BinaryIO"
"""The path of a bundle, or an open binary file, such as a pipe."""


def name_of(place: BundlePath) -> str:
    """Return the name of a bundle for messages."""
    if isinstance(place, str | os.PathLike):
        return printable(os.fspath(place))
    return printable(str(getattr(place, "name", "") or "stream"))


def check_target(place: BundlePath, *, overwrite: bool) -> None:
    """Refuse a folder that can't be opened, or without ``overwrite`` a name that is taken, before any work is done.

    Raises:
        StorageError: As :func:`write`.
    """
    if isinstance(place, str | os.PathLike):
        with _folder_of(place) as (path, _):
            if not overwrite and os.path.lexists(path):
                raise _taken(path)


def write(place: BundlePath, pieces: Iterable[Buffer], *, overwrite: bool) -> int:
    """Write a bundle, and return its length.

    A file appears under its name whole and durable, with mode 0600, or not at all. A stream is written piece by piece: after an
    error it ends too early, and no import accepts it.

    Raises:
        StorageError: The name is taken, or the operating system refused.
    """
    counter = _Counter(pieces)
    try:
        _write(place, counter, overwrite=overwrite)
    except StorageError:
        if counter.error is None:
            raise
    else:
        return counter.total
    raise counter.error


def _write(place: BundlePath, counter: _Counter, *, overwrite: bool) -> None:
    if not isinstance(place, str | os.PathLike):
        with as_our_errors("write the bundle", name_of(place)):
            for piece in counter:
                view = memoryview(piece)
                while view:
                    view = view[place.write(view) :]  # a raw stream may take only a part
            place.flush()
        return
    with _folder_of(place) as (path, directory):
        name = os.path.basename(path)
        with files.temporary(directory) as temporary:
            files.write_new(temporary, directory, counter, durable=True)
            try:
                if overwrite:
                    os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
                else:
                    files.publish(temporary, name, directory)
            except FileExistsError:
                raise _taken(path) from None
        files.sync(directory)


@contextlib.contextmanager
def _folder_of(place: str | os.PathLike[str]) -> Iterator[tuple[str, int]]:
    """Open the folder of a bundle that is written, and yield the bundle's path and the folder's descriptor."""
    with as_our_errors("write the bundle", os.fspath(place)):  # the working directory may be gone
        path = os.path.abspath(os.fspath(place))
    folder = os.path.realpath(os.path.dirname(path))
    with as_our_errors("write the bundle", path), files.open_directory(folder) as directory:
        yield path, directory


def _taken(path: str) -> StorageError:
    message = f"{printable(path)} exists already, and nothing was written"
    return StorageError(message, hint=Hint.OVERWRITE, errno=errno.EEXIST, filename=path)


class _Counter:
    """The pieces of a bundle.

    Attributes:
        total: How many bytes they had so far.
        error: What they raised, such as an error of the caller's own from ``progress``: not one of writing.
    """

    def __init__(self, pieces: Iterable[Buffer]) -> None:
        self._pieces = pieces
        self.total = 0
        self.error: OSError | None = None

    def __iter__(self) -> Iterator[Buffer]:
        try:
            for piece in self._pieces:
                self.total += len(piece)
                yield piece
        except OSError as error:
            self.error = error
            raise


class BundleFile:
    """A bundle opened for reading; it stays the same file, whatever happens to its name.

    Args:
        descriptor: The descriptor of a regular file.
        name: The name for messages.
        size: The length in bytes.
    """

    def __init__(self, descriptor: int, name: str, size: int) -> None:
        self._descriptor = descriptor
        self.name = name
        self.size = size

    def opening(self, length: int) -> bytes:
        """Return the first ``length`` bytes."""
        with as_our_errors("read the bundle", self.name):
            return os.pread(self._descriptor, length, 0)

    def pieces(self, start: int, step: Callable[[int], None]) -> Iterator[bytes]:
        """Yield the content from a position on; ``step`` is called with the position that was reached."""
        while True:
            with as_our_errors("read the bundle", self.name):
                piece = os.pread(self._descriptor, SLICE_BYTES, start)
            if not piece:
                return
            start += len(piece)
            step(start)
            yield piece


@contextlib.contextmanager
def opened(place: BundlePath, may_be_bundle: Callable[[bytes], bool]) -> Iterator[BundleFile]:
    """Open a bundle for reading. A stream is first copied, still encrypted, to an unnamed temporary file.

    Args:
        place: Where the bundle is.
        may_be_bundle: Returns whether a stream that begins like this may be a bundle. If not, no more of it is read: an endless
            stream does not fill the disk.

    Raises:
        StorageError: The bundle can't be read.
    """
    name = name_of(place)
    if isinstance(place, str | os.PathLike):
        with as_our_errors("read the bundle", name):
            descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            with as_our_errors("read the bundle", name):
                status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                message = f"{name} is not a regular file"
                hint = "Give the path of one, or the bundle as a stream"
                raise StorageError(message, hint=hint, errno=errno.EINVAL, filename=os.fspath(place))
            yield BundleFile(descriptor, name, status.st_size)
        finally:
            files.close(descriptor)
        return
    with contextlib.ExitStack() as stack:
        with as_our_errors("keep the bundle until it is read", "the folder for temporary files"):
            spool = stack.enter_context(tempfile.TemporaryFile(buffering=0))
            size, opening = 0, b""
            while may_be_bundle(opening) and (piece := place.read(SLICE_BYTES)):
                opening = opening or bytes(piece[:_OPENING_BYTES])
                view = memoryview(piece)
                size += len(view)
                while view:
                    view = view[spool.write(view) :]
        yield BundleFile(spool.fileno(), name, size)
