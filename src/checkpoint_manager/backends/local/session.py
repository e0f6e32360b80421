"""A session on one stage: its folder, opened below the history without following a link.

A save or a load needs the folder several times, so it is open from the beginning of the session to its end. The first session
opens it step by step. A later one opens the whole path, and compares the folder's identity: a link in the middle of the path
could only lead to the folder that was opened step by step before. What is learnt of the stage's files counts within the session
only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import is_refusal, translate
from checkpoint_manager.backends.base import Session
from checkpoint_manager.backends.local.layout import HISTORY
from checkpoint_manager.backends.local.lock import FileLock
from checkpoint_manager.backends.stage_names import to_filename

if TYPE_CHECKING:
    from typing import Self

    from checkpoint_manager.backends.local.head import Found


class LockSession(Session):
    """A session that only lets go of a lock at its end.

    Args:
        lock: The lock, if the caller holds it.
    """

    __slots__ = ("_lock",)

    def __init__(self, lock: object = None) -> None:
        self._lock = lock

    def __exit__(self, *_: object) -> None:
        if isinstance(self._lock, FileLock):
            self._lock.let_go()


class LocalSession(Session):
    """A session on a stage of a directory.

    Args:
        root: The store's directory.
        stage: The stage; empty: the store's records, which have no folder.
        known: Device and inode of the folder of each stage that was opened step by step before.
        lock: The stage's lock, which the session lets go of at its end.

    Attributes:
        stage: The stage.
        folder: The descriptor of its folder; -1: there is none.
        changed: When the folder had been changed last, by its own clock, as the session began.
        found: What was found of the newest version, if it was looked for and not changed since.
    """

    __slots__ = ("_known", "_lock", "_root", "changed", "folder", "found", "stage")

    def __init__(self, root: str, stage: str, known: dict[str, tuple[int, int]], lock: object = None) -> None:
        self._root = root
        self._known = known
        self._lock = lock
        self.stage = stage
        self.folder = -1
        self.changed = 0
        self.found: Found | None = None

    def __enter__(self) -> Self:
        """Open the folder.

        Raises:
            IntegrityError: Something else stands in its place.
            StorageError: The operating system refused.
        """
        if not self.stage:
            return self
        known = self._known.get(self.stage)
        try:
            if known is not None:
                self.folder = os.open(f"{self._root}{os.sep}{HISTORY}{os.sep}{to_filename(self.stage)}", files.DIRECTORY)
                status = os.fstat(self.folder)
                if (status.st_dev, status.st_ino) == known:
                    self.changed = status.st_mtime_ns
                    return self
                self._close()
            history = os.open(f"{self._root}{os.sep}{HISTORY}", files.DIRECTORY)
            try:
                self.folder = os.open(to_filename(self.stage), files.DIRECTORY, dir_fd=history)
            finally:
                try:
                    os.close(history)
                except OSError as error:  # raising it would hide that there is no folder
                    if error.errno is None:
                        raise
            status = os.fstat(self.folder)
            self._known[self.stage] = status.st_dev, status.st_ino
            self.changed = status.st_mtime_ns
        except FileNotFoundError:
            pass
        except BaseException as error:
            self._close()
            if isinstance(error, OSError) and is_refusal(error):
                self._explain(error)
            raise
        return self

    def _explain(self, error: OSError) -> None:
        """Open the folder again step by step, and raise an error that names what is in its place."""
        path = f"{self._root}{os.sep}{HISTORY}"
        try:
            with files.open_directory(path) as history, files.open_directory(to_filename(self.stage), history):
                pass
        except (OSError, files.NotAFileError) as again:
            translate(again, "open the folder of", path, self.stage)
        translate(error, "open the folder of", path, self.stage)

    def make(self) -> None:
        """Make the folder, and open it; errors as the operating system reports them."""
        files.make_directory(os.path.join(self._root, HISTORY))
        with files.open_directory(os.path.join(self._root, HISTORY)) as history:
            files.make_directory(to_filename(self.stage), history)
            self.folder = files.directory_descriptor(to_filename(self.stage), history)

    def _close(self) -> None:
        if self.folder >= 0:
            folder, self.folder = self.folder, -1
            files.close(folder)

    def __exit__(self, *_: object) -> None:
        if self.folder >= 0:  # as `_close`, without the call
            folder, self.folder = self.folder, -1
            try:
                os.close(folder)
            except OSError as error:
                if error.errno is None:
                    raise
        if isinstance(self._lock, FileLock):
            self._lock.let_go()
