"""The pending name: how a small version becomes durable before it is visible, with one commit of the file system's journal.

A version may get its own name only when its bytes are durable: otherwise, after a power cut, a torn version that was never
acknowledged could not be told from an acknowledged one that was damaged. With a temporary name, that takes two syncs, with a
link in between, and each of them is a commit of the journal. So the bytes of a small version are first written to a *pending*
file, whose name says what they should be::

    000000000012.<SHA-256 of the bytes in 64 hex digits>.pending

File and folder are synced together, which is one commit, and only then does the file become ``000000000012.checkpoint``. The
save of version 12, and what a power cut leaves at each step, or a kill (without the losses of a power cut):

====================================================  ================================  ==================================
step                                                  in the folder, afterwards         recovery
====================================================  ================================  ==================================
1. create a file with a temporary name, write it      nothing, or any part of it        a leftover
2. link it to its pending name                        the pending file, or part of it   torn: a leftover; whole: adopted
3. sync the file, sync the folder                     the pending file, whole           adopted
4. remove the pending name of version 11              that name, or not                 none: 11's own name is durable (3)
5. link it to 12, exclusively                         the pending file; 12, or not      adopted, unless 12 is there
6. rename the temporary name over the head            the same; either head             the same: a head is a hint
7. acknowledge                                        the same                          the same
====================================================  ================================  ==================================

**Adoption.** A process that lists the folder adopts each whole pending file above the newest version: it syncs file
and folder, and links the file to its number. That needs no lock, because the link is exclusive, and the file's writer
recognises it. Where it can't be linked, as on a read-only mount, the version is read from the pending file. A process that
has listed the folder before looks for the temporary name of step 1 when the folder has changed. A writer need not look: the
name is fixed and exclusive, so it finds what a killed writer of the same number left in step 1, before anything is written.

**Removal.** The pending name of a version is removed once a later sync of the folder has made the version's own name durable:
by the next save, or before any version is deleted, replaced or set aside, so that it does not come back. A pending file at or
below the newest version is never adopted. So a version appears above another one only when the name of that one is durable.

The digest tells whole from torn. It protects against nothing else: what is inside is authenticated when it is opened.
"""

from __future__ import annotations

import errno
import functools
import os
import re
import stat
from typing import TYPE_CHECKING, Any, TypeGuard

from checkpoint_manager._filesystem import files
from checkpoint_manager._loading import load
from checkpoint_manager.backends.local.layout import is_temporary, told_apart, version_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from checkpoint_manager.models import Buffer

MAX_BYTES = 256 * 1024
"""Beyond this size, the digest takes longer than the sync that it saves."""
_MOST_ADOPTED = 8
"""A power cut leaves two at most; planted ones must not cost a sync each."""
_CANNOT_LINK = {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT}
SUFFIX = ".pending"
_NAME = r"([0-9]{12})\.([0-9a-f]{64})\.pending"


class LeftBehindError(Exception):
    """Something stands at the temporary name of a version: a writer of the same number was killed, or someone planted it."""


def fits(pieces: Iterable[Buffer]) -> TypeGuard[tuple[Buffer]]:
    """Return whether these pieces of a version are one small one."""
    return isinstance(pieces, tuple) and len(pieces) == 1 and len(pieces[0]) <= MAX_BYTES


def version_pending(name: str) -> int | None:
    """Return the number of the version whose pending name this is; None if it is not a pending name."""
    match = re.fullmatch(_NAME, name)
    return int(match[1]) or None if match else None


next_head: Callable[[int], str] = (".{:016d}" + files.TEMPORARY_SUFFIX).format
"""Returns the temporary name of a pending version, under which it becomes the head."""


def publish(version: int, content: Buffer, temporary: str, folder: int, durable: Iterable[str]) -> tuple[str, os.stat_result]:
    """Write a version by the steps 1 to 5.

    On another failure than the first one below, its temporary name may be left, which the caller removes.

    Args:
        version: The version's number.
        content: Its bytes.
        temporary: Its temporary name, which becomes the head.
        folder: The descriptor of the stage's folder.
        durable: The pending names of versions whose own names the sync of the folder makes durable.

    Returns:
        The pending name, and the status of the file.

    Raises:
        LeftBehindError: The temporary name is taken. Nothing was written.
        FileExistsError: Another writer has the number.
        OSError: As the operating system reports it; one of ``files.NO_HARD_LINKS`` if there are none.
    """
    name, own = f"{version:012d}.{_hashlib().sha256(content).hexdigest()}.pending", version_name(version)
    sync = os.fsync if files.FSYNC_IS_ENOUGH else files.sync  # without a call, where that can be
    try:
        descriptor = os.open(temporary, files.CREATE, files.FILE_MODE, dir_fd=folder)
    except FileExistsError:
        raise LeftBehindError from None
    try:
        try:
            status = os.fstat(descriptor)
            if stat.S_IMODE(status.st_mode) != files.FILE_MODE:  # the umask has taken bits away
                os.fchmod(descriptor, files.FILE_MODE)
            written = os.write(descriptor, content)
            if written < len(content):
                files.write_rest(descriptor, memoryview(content)[written:])
            os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
            sync(descriptor)
        finally:
            os.close(descriptor)
        sync(folder)
        for other in durable:
            try:  # noqa: SIM105  # without the calls
                os.unlink(other, dir_fd=folder)
            except FileNotFoundError:
                pass
        try:
            os.link(temporary, own, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:  # a reader may have adopted it
            if not os.path.samestat(status, os.lstat(own, dir_fd=folder)):
                raise
    except BaseException:
        files.remove(name, folder)
        raise
    return name, status


def adopt(names: Iterable[str], newest: int, folder: int) -> list[int]:
    """Give the whole pending versions above the newest one their own names, and return their numbers.

    The pending names stay, so that an own name which a power cut takes away is given again.

    Args:
        names: The pending names in the folder, in any order.
        newest: The newest version in the folder; 0: none.
        folder: The folder's descriptor.
    """
    above = sorted(name for name in names if (version_pending(name) or 0) > newest)
    return [int(name[:12]) for name in above[:_MOST_ADOPTED] if _take_over(name, folder)]


def _take_over(name: str, folder: int) -> bool:
    """Make a pending file durable, and link it to its number if that can be done; return False if it is not whole."""
    version = version_name(int(name[:12]))
    try:
        with files.OpenFile(name, folder) as file:
            if not _is_whole(name, file):
                return False
            files.sync(file.descriptor)
        files.sync(folder)  # the version below may have its pending name only
        files.link(name, version, folder)
    except FileExistsError:  # another reader, or its writer, was faster
        return True
    except FileNotFoundError:  # its writer has failed, and removed it
        return files.exists(version, folder)
    except files.NotAFileError:
        return False
    except OSError as error:  # it is read from here; a sync that fails is an error
        if error.errno not in _CANNOT_LINK:
            raise
    return True


def _is_whole(name: str, file: files.OpenFile) -> bool:
    match = re.fullmatch(_NAME, name)
    if match is None or file.size > MAX_BYTES:
        return False
    return bool(_hashlib().sha256(file.read(file.size)).hexdigest() == match[2])


@functools.cache
def _hashlib() -> Any:  # noqa: ANN401  # a module, which loads OpenSSL; readers hardly ever need it
    return load("hashlib")


def is_whole(name: str, folder: int) -> bool:
    """Return whether a pending file holds what its name says."""
    try:
        with files.OpenFile(name, folder) as file:
            return _is_whole(name, file)
    except (FileNotFoundError, files.NotAFileError):
        return False


def find(version: int, folder: int) -> str | None:
    """Return the name of a whole pending version that is above the newest one and could not be linked; None: there is none."""
    found, names = listed(folder)
    if version <= max(found, default=0):
        return None
    return next((name for name in names if version_pending(name) == version and is_whole(name, folder)), None)


def listed(folder: int) -> tuple[list[int], list[str]]:
    """Return the numbers of the versions in a folder, and the pending names, each in no particular order."""
    digits, others = told_apart(files.names(folder))
    return [number for number in map(int, digits) if number], _pending_files(others, folder)


def _pending_files(names: Iterable[str], folder: int) -> list[str]:
    return [name for name in _pending_names(names) if not files.is_directory(name, folder)]


def _pending_names(names: Iterable[str]) -> list[str]:
    """Return the pending names among the names of a folder; what stands there may be a directory."""
    return [name for name in names if name.endswith(SUFFIX) and version_pending(name)]


def numbers(folder: int) -> list[int]:
    """Return the numbers of the versions in a folder, after the adoption of pending ones, in no particular order."""
    digits, others = told_apart(files.names(folder))
    adopted = _adopt_among(others, _newest(digits), folder)
    found = [number for number in map(int, digits) if number]
    return [*{*found, *adopted}] if adopted else found


def newest(folder: int) -> tuple[int, list[str]]:
    """Return the newest version in a folder, after the adoption of pending ones (0: none), and the names of all other files."""
    digits, others = told_apart(files.names(folder))
    found = _newest(digits)
    return max([found, *_adopt_among(others, found, folder)]), others


def _newest(digits: Iterable[str]) -> int:
    return int(max(digits, default="0"))  # all of one length


def _adopt_among(names: Iterable[str], newest: int, folder: int) -> list[int]:
    waiting = _pending_names(names)
    return adopt(waiting, newest, folder) if waiting else []


def remove_torn(names: Iterable[str], folder: int, newest: int) -> tuple[str, ...]:
    """Remove the torn pending files above the newest version; return the pending names at or below it.

    The caller holds the stage's lock, and has listed the names of the folder. What is returned may be removed after the next
    sync of the folder.
    """
    below = []
    for name in _pending_files(names, folder):
        if (version_pending(name) or 0) <= newest:
            below.append(name)
        elif not is_whole(name, folder):
            files.remove(name, folder)
    return tuple(below)


def all_below(names: Iterable[str], folder: int, newest: int) -> tuple[str, ...] | None:
    """Return the pending names among these if all are at or below the newest version, and a writer has left nothing else."""
    left = [name for name in names if is_temporary(name) or (name.endswith(SUFFIX) and version_pending(name))]
    waiting = [name for name in left if not files.is_directory(name, folder)]
    return tuple(waiting) if all((version_pending(name) or newest + 1) <= newest for name in waiting) else None


def has_another_name(version: str, folder: int) -> bool:
    """Return whether the file of a version has more names than its own, as the one of a process that saved no more."""
    try:
        return os.lstat(version, dir_fd=folder).st_nlink > 1
    except FileNotFoundError:
        return False


def retire(folder: int) -> None:
    """Remove, durably, the pending names at and below the newest version, and the torn ones, before a version is changed.

    The caller holds the stage's lock. First, the folder is synced: each version then stands by its own name.
    """
    found, names = listed(folder)
    newest = max(found, default=0)
    names = [name for name in names if (version_pending(name) or 0) <= newest or not is_whole(name, folder)]
    files.sync(folder)  # also for a removal of a pending name that was not synced
    for name in names:
        files.remove(name, folder)
    if names:
        files.sync(folder)
