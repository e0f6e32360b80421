"""Single file-system operations, each safe against an attacker who can write to the directory.

None of them follows a symbolic link in the last component, opens anything but regular files and directories, or can block on
what it opens. Where a link in the middle of a path could lead elsewhere, names are resolved below an open directory.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
from typing import TYPE_CHECKING

from checkpoint_manager._loading import load

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager
    from typing import Self

    from checkpoint_manager.models import Buffer


FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
TEMPORARY_SUFFIX = ".tmp"
_COPY_BYTES = 1024 * 1024
_WRITE_OUT_BYTES = 1024 * 1024
"""After how many bytes writing out is started: each start waits for the other processors, which does not pay for less."""
NO_HARD_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
NO_ATIME = getattr(os, "O_NOATIME", 0)
"""Leaves the time of access as it is: the first access after a change would write it. Only the owner may open a file so."""
CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
FSYNC_IS_ENOUGH = sys.platform != "darwin"
"""On macOS, fsync leaves the data in the drive's cache."""
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class NotAFileError(Exception):
    """A file of another kind stands where a regular file (or a directory) belongs."""


class OpenFile:
    """A regular file, opened once for reading."""

    __slots__ = ("descriptor", "size", "status")

    def __init__(self, path: str, directory: int | None = None) -> None:
        self.descriptor = -1
        try:
            self.descriptor = os.open(path, READ, dir_fd=directory)
            self.status = os.fstat(self.descriptor)
        except OSError as error:
            if error.errno in {errno.ELOOP, errno.ENXIO, errno.EMLINK}:  # a link, a socket; EMLINK: FreeBSD's ELOOP
                raise NotAFileError(what_stands_at(path, directory)) from None
            raise
        if not stat.S_ISREG(self.status.st_mode):
            self.__exit__()
            raise NotAFileError(_kind(self.status.st_mode))
        self.size = self.status.st_size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file. It was only read, so an error of the system loses nothing."""
        descriptor, self.descriptor = self.descriptor, -1
        if descriptor >= 0:
            try:
                os.close(descriptor)
            except OSError as error:
                if error.errno is None:
                    raise

    def read(self, length: int) -> bytes:
        """Return the next ``length`` bytes, fewer only at the end of the file."""
        piece = os.read(self.descriptor, length)
        return piece if len(piece) == length or not piece else piece + self.rest(length - len(piece))

    def rest(self, length: int) -> bytes:
        """Return the next ``length`` bytes with as many reads as it takes."""
        pieces = []
        while length and (piece := os.read(self.descriptor, length)):
            pieces.append(piece)
            length -= len(piece)
        return b"".join(pieces)


def close(descriptor: int) -> None:
    """Close a directory, or a file that was only read: an error of the system loses nothing."""
    try:
        os.close(descriptor)
    except OSError as error:
        if error.errno is None:  # raised by the caller's signal handler
            raise


@contextlib.contextmanager
def open_directory(path: str, parent: int | None = None) -> Iterator[int]:
    """Open a directory that is not a link, for use as ``dir_fd``."""
    descriptor = directory_descriptor(path, parent)
    try:
        yield descriptor
    finally:
        close(descriptor)


def directory_descriptor(path: str, parent: int | None = None) -> int:
    """Open a directory that is not a link. The caller closes it."""
    try:
        return os.open(path, DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENOTDIR, errno.EMLINK}:
            raise NotAFileError(what_stands_at(path, parent)) from None
        raise


def what_stands_at(path: str, directory: int | None = None) -> str:
    """Return the kind of file at a name, in words."""
    try:
        return _kind(os.lstat(path, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return "something that is not a file"


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a symbolic link",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFDIR: "a directory",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
        stat.S_IFREG: "a file",
    }
    return kinds.get(stat.S_IFMT(mode), "something that is not a file")


def sync(descriptor: int) -> None:
    """Make a file or directory durable. A failure is final, because the kernel may have dropped the data already."""
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fsync(descriptor)


def sync_file_system(descriptor: int) -> bool:
    """Make durable all that the file system of an open file or directory holds; return False where no single call does that."""
    if sys.platform != "linux":
        return False
    ctypes = load("ctypes")  # which takes time, and only a directory that was tampered with needs it
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None:
        return False
    if syncfs(descriptor):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return True


def temporary_name() -> str:
    """Return a random name. The caller removes the file of this name, whatever interrupts it."""
    return f".{os.urandom(8).hex()}{TEMPORARY_SUFFIX}"


@contextlib.contextmanager
def temporary(directory: int) -> Iterator[str]:
    """Provide a temporary name for one ``with`` block, which may make a file of it; at its end, the name is gone."""
    name = temporary_name()
    try:
        yield name
        remove(name, directory)
    except BaseException:
        remove(name, directory)  # a signal handler may have interrupted the first one
        raise


def write_new(name: str, directory: int, pieces: Iterable[Buffer], *, durable: bool) -> os.stat_result:
    """Write a new file in an open directory, and return its status. On failure, it is there in part: the caller removes it.

    An empty piece says that the next one takes a while: until then, the disk takes what was written.
    """
    descriptor = os.open(name, CREATE, FILE_MODE, dir_fd=directory)
    try:
        status = os.fstat(descriptor)
        if stat.S_IMODE(status.st_mode) != FILE_MODE:  # the umask has taken bits away
            os.fchmod(descriptor, FILE_MODE)
        written = started = 0
        for piece in pieces:
            length = len(piece)
            done = os.write(descriptor, piece)
            if done < length:
                write_rest(descriptor, memoryview(piece)[done:])
            written += length
            if durable and (written - started >= _WRITE_OUT_BYTES or not length):
                _start_writing_out(descriptor, started, written - started)
                started = written
        if durable:
            sync(descriptor)
        return status
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def new_file(name: str, directory: int) -> Iterator[int]:
    """Provide a new file in an open directory for a ``with`` block that writes it with :func:`write_at`, and sync it.

    On failure, it is there in part: the caller removes it.
    """
    descriptor = os.open(name, CREATE, FILE_MODE, dir_fd=directory)
    try:
        os.fchmod(descriptor, FILE_MODE)  # the umask may have taken bits away
        yield descriptor
        sync(descriptor)
    finally:
        os.close(descriptor)


def write_at(descriptor: int, offset: int, pieces: Iterable[Buffer]) -> None:
    """Write pieces into a file, one after the other, beginning at an offset."""
    end = started = offset
    for piece in pieces:
        view = memoryview(piece)
        while view:
            done = os.pwrite(descriptor, view, end)
            view, end = view[done:], end + done
        if end - started >= _WRITE_OUT_BYTES:
            _start_writing_out(descriptor, started, end - started)
            started = end


def write_rest(descriptor: int, view: memoryview) -> None:
    """Write with as many writes as it takes."""
    while view:
        view = view[os.write(descriptor, view) :]


def _start_writing_out(descriptor: int, offset: int, length: int) -> None:
    """Start writing out what was written while the next pieces are sealed, so that the sync has less to wait for.

    This is only a hint. On Linux, the advice starts to write dirty pages without waiting for them, and pages that are still
    being written stay in the cache.
    """
    if sys.platform == "linux":
        try:
            os.posix_fadvise(descriptor, offset, length, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            if error.errno is None:  # of the caller's signal handler
                raise


def link(name: str, other: str, directory: int) -> None:
    """Give a file in an open directory a second name, exclusively; errors as the operating system reports them."""
    os.link(name, other, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)


def publish(temporary: str, name: str, directory: int) -> None:
    """Give a temporary file its final name, exclusively.

    The temporary name remains as a second link, except on file systems without hard links (exFAT, some network ones): there
    the file is renamed, and only the lock that the caller holds keeps another writer from doing so at the same moment.

    Raises:
        FileExistsError: The name is taken.
    """
    try:
        link(temporary, name, directory)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        if exists(name, directory):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), name) from None
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)


def add_name(name: str, other: str, directory: int) -> None:
    """Give a file another name; without hard links, a copy. Not synced. On failure, the caller removes it."""
    try:
        link(name, other, directory)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        with OpenFile(name, directory) as file:
            write_new(other, directory, iter(lambda: file.read(_COPY_BYTES), b""), durable=False)


def remove(name: str, directory: int | None = None) -> bool:
    """Remove a name if it is there; return whether it was."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def exists(name: str, directory: int) -> bool:
    """Return whether anything exists at this name, including a dangling link."""
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def make_directory(path: str, parent: int | None = None) -> bool:
    """Make a private directory; return False if the name was taken.

    Its name is not durable yet: a power cut may lose the directory with all its content. Before something below it is
    acknowledged, the parent has to be synced, even if another process made the directory.
    """
    try:
        os.mkdir(path, DIRECTORY_MODE, dir_fd=parent)
    except FileExistsError:
        return False
    with open_directory(path, parent) as made:
        os.fchmod(made, DIRECTORY_MODE)
    return True


def entries(directory: int) -> AbstractContextManager[Iterator[os.DirEntry[str]]]:
    """List an open directory, in a ``with`` block. The descriptor is rewound first, because an earlier listing moved it."""
    os.lseek(directory, 0, os.SEEK_SET)
    return os.scandir(directory)


def names(directory: int) -> list[str]:
    """Return all names in an open directory. For many, this takes a fraction of the time that :func:`entries` takes."""
    os.lseek(directory, 0, os.SEEK_SET)
    return os.listdir(directory)


def is_directory(name: str, directory: int) -> bool:
    """Return whether a directory stands at this name."""
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False


def sync_directory(path: str) -> None:
    """Make the names in a directory durable. The path may be a link, because the user chose it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        sync(descriptor)
    finally:
        close(descriptor)
