"""A session on one stage: its folder, opened below the history without following a link.

A save or a load needs the folder several times, and so does the next one. So a session that has ended is kept with its folder
open, and is used again if the path still leads to that folder, by device and inode: a link in the middle of the path could only
lead to the folder that was opened step by step before. What it learns about the stage's files is valid until the session ends;
only the folder's state after an append is remembered, and counts as long as the folder has that state.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, cast

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.descriptors import Descriptor, make_room, refuse_a_copy
from checkpoint_manager._filesystem.file_times import stamp
from checkpoint_manager._filesystem.os_errors import is_refusal, passing_over_refusals, translate
from checkpoint_manager.backends.base import Session
from checkpoint_manager.backends.local.head import Found
from checkpoint_manager.backends.local.host_locks import let_go
from checkpoint_manager.backends.local.layout import HISTORY, KEYRING, version_name
from checkpoint_manager.backends.local.shared import ask_again
from checkpoint_manager.backends.local.version_file import FileMark
from checkpoint_manager.backends.stage_names import to_filename

if TYPE_CHECKING:
    from typing import NoReturn, Self

    from checkpoint_manager._filesystem.descriptors import Kept
    from checkpoint_manager._filesystem.file_times import FileTimes, Stamp
    from checkpoint_manager.backends.base import Record
    from checkpoint_manager.backends.local.version_file import KeptFile, VersionFile


_STATE = b"%d %d %d %d %d %d %d %d %d %d"


class LockSession(Session):
    """A session that does nothing but release a lock at its end.

    Args:
        lock: The lock, if the caller holds it.
    """

    __slots__ = ("_lock",)

    def __init__(self, lock: object = None) -> None:
        self._lock = lock

    def end(self) -> None:
        if self._lock is not None:
            let_go(self._lock)


class LocalSession(Session):
    """A session on a stage of a directory.

    Args:
        root: The store's directory.
        stage: The stage; empty: the store's records, which have no folder.
        kept: Where the session is kept after its end.
        kept_files: Where a version's file is kept once it was read again.
        times: Those of the file system.
        is_shared: Whether other hosts write to the directory (:mod:`.shared`): then nothing that is open is relied on.

    Attributes:
        stage: The stage.
        lock: The stage's lock, which the session releases at its end.
        folder: The descriptor of its folder; -1 if it has none.
        began: When it began, in nanoseconds since 1970.
        status: The folder's status when the session began; None if it has none.
        changed: The folder's time of change then, or after an append; 0: a later change might have the same time.
        read: The version that was opened last, by its name in the folder, and its file.
        found: The newest version, if it was looked up and is unchanged since.
        others: The names in the folder that are not versions, if the folder was listed.
        only_appends: See :meth:`only_append`.
        expected: See :meth:`expect`.
        all_known: All names in the folder were known before what is appended.
        path: That of its folder.
        appended: The state of the folder after the last append in it, and the version; None if a later change might not show,
            or the version is not durable.
    """

    def __init__(
        self,
        root: str,
        stage: str,
        kept: Kept[LocalSession],
        kept_files: Kept[KeptFile],
        times: FileTimes,
        *,
        is_shared: bool = False,
    ) -> None:
        self.stage = stage
        self.lock: object = None
        self.folder = -1
        self.began = 0
        self.status: os.stat_result | None = None
        self.changed = 0
        self.read: tuple[str, VersionFile] | None = None
        self.found: Found | None = None
        self.others: list[str] | None = None
        self.only_appends = False
        self.expected = 0
        self.all_known = False
        self.path = f"{root}{os.sep}{HISTORY}{os.sep}{to_filename(stage) if stage else ''}"
        self._kept = kept
        self._kept_files = kept_files
        self._times = times
        self._root = root
        self._is_shared = is_shared
        self._opened = Descriptor(-1)
        self._known: tuple[int, int] | None = None
        self.appended: tuple[Stamp, Found] | None = None

    def __enter__(self) -> Self:
        """Open the folder, or make sure that the one that is open still has its place.

        Raises:
            IntegrityError: Something else stands in its place.
            StorageError: The operating system refused.
        """
        if not self.stage:
            return self
        try:
            self.began = time.time_ns()
            if self._is_shared:
                self.close()
                ask_again(self._root)
            if self.folder >= 0:
                status = os.lstat(self.path)
                if (status.st_dev, status.st_ino) == self._known:
                    self.status = status
                    self.changed = status.st_ctime_ns
                    return self
                self.close()
            history, name = os.path.split(self.path)
            parent = files.directory_descriptor(history)
            try:
                self._open(name, parent)
            finally:
                files.close(parent)
        except FileNotFoundError:
            self.close()
        except BaseException as error:
            self.close()
            translate(error, "open the folder of", os.path.dirname(self.path), self.stage)
            raise
        return self

    def _open(self, name: str, parent: int) -> None:
        self._opened = Descriptor(files.directory_descriptor(name, parent))
        make_room()
        self.folder = self._opened.number
        self.status = status = os.fstat(self.folder)
        self._known = status.st_dev, status.st_ino
        self.changed = status.st_ctime_ns

    def only_append(self) -> None:
        self.only_appends = True

    def expect(self, version: int) -> None:
        self.expected = version

    def present_status(self) -> os.stat_result:
        """Return the folder's status: that of the session's beginning, if an append follows it at once."""
        return self.status if self.only_appends and self.status is not None else os.fstat(self.folder)

    def remember_append(
        self,
        number: int,
        durable: int,
        head: tuple[int, int] | None,
        *,
        named: int = 0,
        is_durable: bool = True,
    ) -> Found:
        """Remember the folder's state after a version was appended. While it is the same, that version is the newest.

        Args:
            number: The version's number.
            durable: As in :class:`~.head.Found`.
            head: Likewise.
            named: Likewise.
            is_durable: The version is durable, so that the next save may build on it.

        Returns:
            What a look would find now.
        """
        now = time.time_ns()
        try:
            status = os.fstat(self.folder)
            state = stamp(status) if self._times.is_settled(status, now) else None
        except OSError as error:  # as passing_over_refusals, without the calls: the version stands
            if not is_refusal(error):
                raise
            state = None
        self.changed = 0 if state is None else state[-1]
        found = Found._make((number, durable, head, self.changed, named, state if self.all_known else None))
        self.appended = (state, found) if is_durable and state is not None else None
        return found

    def state_left(self, version: int) -> bytes | None:
        """Return the state of the folder after the last append, and of the version's file; None if a change might not show."""
        if self.appended is None:
            return None
        (state, found), now = self.appended, time.time_ns()
        if found.number != version or found.state is None:
            return None
        with passing_over_refusals():
            status = os.lstat(version_name(version), dir_fd=self.folder)
            if (status.st_dev, status.st_ino) == found.head and self._times.is_settled(status, now):
                return _STATE % (*state, *stamp(status))
        return None

    def is_in(self, state: bytes, version: int) -> bool:
        """Return whether the folder and the version's file are in the state in which another process left them."""
        folder = stamp(os.lstat(self.path))
        if folder[:2] != self._known:
            return False
        return state == _STATE % (*folder, *stamp(os.lstat(version_name(version), dir_fd=self.folder)))

    def mark(self, version: int, keyring: Record) -> FileMark | None:
        if self.read is None or self.status is None:
            return None
        (name, file), settled = self.read, self._times.is_settled
        if file.place[2] != version or not settled(self.status, self.began) or not settled(file.status, self.began):
            return None
        paths = f"{self._root}{os.sep}{KEYRING}", self.path, f"{self.path}{os.sep}{name}"
        return FileMark(
            self.began, *paths, cast("Stamp", keyring.stamp), stamp(self.status), stamp(file.status), self._kept_files
        )

    def make(self) -> None:
        """Make the folder, and open it; errors as the operating system reports them."""
        history, name = os.path.split(self.path)
        files.make_directory(history)
        with files.open_directory(history) as parent:
            try:
                files.make_directory(name, parent)
                self._open(name, parent)
            except OSError as error:
                if is_refusal(error):
                    error.filename = self.path  # the name alone would be taken for one in the folder
                raise

    def close(self) -> None:
        """Close the folder."""
        self.folder = -1
        self.status = None
        self.appended = None  # that was in this folder, which may get its place back while another one is open
        self._opened.close()

    def __reduce__(self) -> NoReturn:
        refuse_a_copy()

    def end(self, *_: object) -> None:
        lock, self.lock = self.lock, None
        self.found, self.others, self.read, self.only_appends, self.expected = None, None, None, False, 0
        if self.folder >= 0:
            self._kept[self.stage] = self
        if lock is not None:
            let_go(lock)

    __exit__ = end  # without another call
