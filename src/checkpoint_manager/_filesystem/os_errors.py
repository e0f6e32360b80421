"""Translation of errors of the operating system into errors of this library."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem.files import NotAFileError
from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, IntegrityError, StorageError

if TYPE_CHECKING:
    from types import TracebackType

HINTS_BY_ERRNO = {
    errno.ENOSPC: "Free some space on this file system and try again",
    errno.EDQUOT: "Free some space within your quota and try again",
    errno.EROFS: "Mount the file system writable, or choose another directory",
    errno.EACCES: "Give this user access to it, or choose another directory",
    errno.EPERM: "Give this user access to it, or choose another directory",
    errno.EMFILE: "Close some of the files that this process has open, or raise the limit (ulimit -n)",
    errno.ENFILE: "Close some of the files that are open on this host, then try again",
    errno.EIO: "Check the system log, because the medium may be failing, and copy the directory to another one",
    errno.ENOTDIR: "Move away the file that is in the place of a directory, or choose another directory",
    errno.ENOENT: "Check that the path is right, and that its directory exists",
    errno.ENAMETOOLONG: "Choose a directory with a shorter path",
}


class as_our_errors:  # noqa: N801  # reads as a phrase; on the hot path, a class costs a third of a generator
    """A context manager that raises an ``OSError`` from its block as a ``StorageError`` with action, place and hint.

    Args:
        action: What was being done, as in "can't ``write`` …".
        path: Where, if the error itself does not name a path.
        stage: The stage concerned, or None.
        version: The version concerned, or None.
    """

    __slots__ = ("action", "path", "stage", "version")

    def __init__(self, action: str, path: str, stage: str | None = None, version: int | None = None) -> None:
        self.action = action
        self.path = path
        self.stage = stage
        self.version = version

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if error is not None:
            translate(error, self.action, self.path, self.stage, self.version)


class passing_over_refusals:  # noqa: N801  # likewise
    """A context manager that suppresses errors of the operating system, and nothing else.

    ``suppress(OSError)`` would also suppress a ``TimeoutError`` that the caller's signal handler raises to end a call.
    """

    __slots__ = ()

    def __enter__(self) -> None:
        pass

    def __exit__(self, _: object, error: BaseException | None, __: object) -> bool:
        return error is not None and is_refusal(error)


def is_refusal(error: BaseException) -> bool:
    """Return whether an error comes from the operating system: its errors carry an ``errno``, those of callers rarely do."""
    return isinstance(error, OSError) and error.errno is not None


def translate(error: BaseException, action: str, path: str, stage: str | None = None, version: int | None = None) -> None:
    """Raise an error of the operating system as one of this library; return for any other, which the caller re-raises.

    An ``OSError`` without an ``errno`` is not the system's: the caller's signal handler may have raised it to end a call.

    Args:
        error: The error that was raised.
        action: What was being done, as in "can't ``write`` …".
        path: Where, if the error itself does not name a path.
        stage: The stage concerned, or None.
        version: The version concerned, or None.

    Raises:
        StorageError: The operating system refused.
        IntegrityError: Something other than a file or folder stands in its place.
    """
    if isinstance(error, CheckpointError):
        return
    if isinstance(error, NotAFileError):
        message = f"{_what(action, stage, version)}: {error} stands where a file or folder of the store belongs, in {path}"
        raise IntegrityError(message, hint="Move away what stands there", stage=stage, version=version) from None
    if isinstance(error, OSError) and error.errno is not None:
        named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        where = named if os.path.isabs(named) else os.path.join(path, named) if named not in {"", path} else path
        reason = error.strerror or str(error)
        hint = HINTS_BY_ERRNO.get(error.errno, "Correct what the operating system reports, then try again")
        if error.errno == errno.ENOENT and not os.path.isabs(where) and _has_no_working_directory():
            reason, hint = "the working directory is gone", "Change to another one, or give the whole path"
        message = f"{_what(action, stage, version)}: {where}: {reason}"
        raise StorageError(message, hint=hint, errno=error.errno, filename=where, stage=stage, version=version) from error


def _has_no_working_directory() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _what(action: str, stage: str | None, version: int | None) -> str:
    if stage is None:
        return f"can't {action}"
    return f"can't {action}{'' if version is None else f' version {version} of'} stage {printable(stage)}"
