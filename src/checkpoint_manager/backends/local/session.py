"""A session on one stage: its folder, opened below the history without following a link.

Opening a folder safely takes three system calls, and a save or a load needs it several times. It is open from the beginning of
the session to its end. What is learnt of the stage's files counts within the session only.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import translate
from checkpoint_manager.backends.base import Session
from checkpoint_manager.backends.local.layout import HISTORY
from checkpoint_manager.backends.stage_names import to_filename

if TYPE_CHECKING:
    from typing import Self

    from checkpoint_manager.backends.local.head import Found


class LocalSession(Session):
    """A session on a stage of a directory.

    Attributes:
        stage: The stage.
        folder: The descriptor of its folder; -1: there is none.
        found: What was found of the newest version, if it was looked for and not changed since.
    """

    __slots__ = ("_root", "folder", "found", "stage")

    def __init__(self, root: str, stage: str) -> None:
        self._root = root
        self.stage = stage
        self.folder = -1
        self.found: Found | None = None

    def __enter__(self) -> Self:
        """Open the folder.

        Raises:
            IntegrityError: Something else stands in its place.
            StorageError: The operating system refused.
        """
        try:
            self.open()
        except (OSError, files.NotAFileError) as error:
            translate(error, "open the folder of", f"{self._root}{os.sep}{HISTORY}", self.stage)
            raise
        return self

    def open(self) -> None:
        """Open the folder, if there is one; errors as the operating system reports them."""
        try:
            history = files.directory_descriptor(f"{self._root}{os.sep}{HISTORY}")
            try:
                self.folder = files.directory_descriptor(to_filename(self.stage), history)
            finally:
                os.close(history)
        except FileNotFoundError:
            pass

    def make(self) -> int:
        """Open the folder, and make it first if there is none; errors as the operating system reports them."""
        if self.folder < 0:
            files.make_directory(os.path.join(self._root, HISTORY))
            with files.open_directory(os.path.join(self._root, HISTORY)) as history:
                files.make_directory(to_filename(self.stage), history)
            self.open()
        return self.folder

    def __exit__(self, *_: object) -> None:
        if self.folder >= 0:
            folder, self.folder = self.folder, -1
            files.close(folder)
