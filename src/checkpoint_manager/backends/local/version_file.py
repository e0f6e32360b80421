"""The file of a version: opened for reading, and what shows that neither it nor its stage has changed since."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.descriptors import Descriptor, make_room
from checkpoint_manager._filesystem.file_times import stamp
from checkpoint_manager._filesystem.os_errors import is_refusal, translate
from checkpoint_manager._named_tuple import NamedTuple

if TYPE_CHECKING:
    from checkpoint_manager._filesystem.descriptors import Kept
    from checkpoint_manager._filesystem.file_times import Stamp


_MOST_KEPT = 16
"""How many files are kept open: more would take the place of folders and lines, which each operation needs."""


class VersionFile(files.OpenFile):
    """A version, opened for reading."""

    __slots__ = ("place",)

    place: tuple[str, str, int | None]
    """Path, stage and version, for messages."""

    def read(self, length: int) -> bytes:
        """Return the next ``length`` bytes, fewer only at the end.

        Raises:
            StorageError: The operating system refused.
        """
        try:
            piece = os.read(self.descriptor, length)
            return piece if len(piece) == length or not piece else piece + self.rest(length - len(piece))
        except OSError as error:
            translate(error, "read", *self.place)
            raise


class KeptFile(Descriptor):
    """The file of a version that was read again, kept open.

    Args:
        path: Its path.

    Attributes:
        stamp: What it was when it was opened.

    Raises:
        OSError: As the operating system reports it.
    """

    def __init__(self, path: str) -> None:
        super().__init__(os.open(path, files.READ))
        self.stamp = stamp(os.fstat(self.number))
        make_room()


class FileMark(NamedTuple):
    """The times of a version's file, of its stage's folder and of the keyring.

    See :class:`~checkpoint_manager.backends.base.Mark`. A link in the middle of a path could only lead to the same file and
    the same folder, since these are compared. While the folder is the same, so is the file at the version's name: once it
    was read again, it is kept open.
    """

    taken: int
    keyring: str
    folder: str
    file: str
    keyring_stamp: Stamp
    folder_stamp: Stamp
    file_stamp: Stamp
    kept: Kept[KeptFile]
    """The files that were read again, by their stages' folders."""

    def holds(self) -> bool:
        try:
            return (
                stamp(os.lstat(self.keyring)) == self.keyring_stamp
                and stamp(os.lstat(self.folder)) == self.folder_stamp
                and stamp(os.lstat(self.file)) == self.file_stamp
            )
        except OSError as error:
            if not is_refusal(error):  # of the caller's signal handler
                raise
            return False

    def read(self, limit: int) -> bytes | None:
        size = self.file_stamp[2]
        try:
            if (
                size > limit
                or stamp(os.lstat(self.keyring)) != self.keyring_stamp
                or stamp(os.lstat(self.folder)) != self.folder_stamp
            ):
                return None
            file = self.kept.pop(self.folder, None)
            if file is None or file.stamp != self.file_stamp:  # that of another version
                file = KeptFile(self.file)
                if len(self.kept) >= _MOST_KEPT:
                    self.kept.close_one()
            content = os.pread(file.number, size + 1, 0)  # one more would show that something was appended
            self.kept[self.folder] = file
        except OSError as error:
            if not is_refusal(error):
                raise
            return None
        return content
