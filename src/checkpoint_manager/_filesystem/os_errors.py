"""What the operating system refuses, as the errors of this library."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem.files import NotAFileError
from checkpoint_manager.errors import CheckpointError, IntegrityError, StorageError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from types import TracebackType

_NEXT_STEP = {
    errno.ENOSPC: "free some space on this file system and save again",
    errno.EDQUOT: "free some space within your quota and save again",
    errno.EROFS: "the file system is read-only: mount it writable, or choose another directory",
    errno.EACCES: "give this user access to it, or choose another directory",
    errno.EPERM: "give this user access to it, or choose another directory",
    errno.EMFILE: "too many files are open in this process: close some, or raise the limit (ulimit -n)",
    errno.ENFILE: "too many files are open on this host: close some and try again",
    errno.EIO: "the medium may be failing: look at the system's log, and keep a copy of the directory elsewhere",
    errno.ENOTDIR: "something that is no directory stands there: move it away, or choose another directory",
    errno.ENAMETOOLONG: "choose a directory with a shorter path",
}


class as_our_errors:  # noqa: N801  # reads as the phrase it is; a class costs a third of a generator on the hot path
    """Turn an ``OSError`` inside the block into a ``StorageError`` that says what, where and what to do next.

    Args:
        action: What was being done, as in "can't ``write`` …".
        path: Where, if the error itself names no path.
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
            self.explain(error)

    def explain(self, error: BaseException) -> None:
        """Raise our error in place of one of the operating system; any other one is left alone."""
        if isinstance(error, CheckpointError):
            return
        if isinstance(error, NotAFileError):
            message = (
                f"{self._what()}: {error} stands where a file or folder of the store belongs, in {self.path}. "
                'Nothing was followed. Run "checkpoint-manager verify" to see where, then move it away'
            )
            raise IntegrityError(message, stage=self.stage, version=self.version) from None
        if isinstance(error, OSError):
            path = self._path_of(error)
            step = _NEXT_STEP.get(error.errno or 0, "see what the operating system says about it, then try again")
            message = f"{self._what()}: {path}: {error.strerror or error}. Nothing older was changed; {step}"
            raise StorageError(message, errno=error.errno, filename=path, stage=self.stage, version=self.version) from error

    def _what(self) -> str:
        if self.stage is None:
            return f"can't {self.action}"
        version = "" if self.version is None else f" version {self.version} of"
        return f"can't {self.action}{version} stage {display(self.stage)}"

    def _path_of(self, error: OSError) -> str:
        named = os.fsdecode(error.filename) if isinstance(error.filename, str | bytes) else ""
        return named if os.path.isabs(named) else os.path.join(self.path, named) if named else self.path
