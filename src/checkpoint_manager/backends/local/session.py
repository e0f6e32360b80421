"""The folders of the stages, opened below the history without following a link: for one call, or once for several.

Opening a folder safely takes three system calls, and a save or a load needs it more than once. So a thread that is about to
make several calls on one stage *visits* it: the first call opens the folder, and it stays open until the visit ends. What is
learnt of the stage's files in a visit counts within it only.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager.backends import stage_names as names
from checkpoint_manager.backends.local import layout as tree
from checkpoint_manager.backends.local import maintenance as upkeep

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Visit:
    """One thread's visit to one stage, for a ``with`` block.

    Attributes:
        folder: The descriptor of the stage's folder, or -1: not opened yet.
        mark: The stage's mark, opened, if it was asked for and nobody has taken it over.
        newest: The newest version that was found, or 0.
        found: The number and the status of a version that was looked at last.
    """

    __slots__ = ("_folders", "_outer", "folder", "found", "mark", "newest", "stage")

    def __init__(self, folders: Folders, stage: str) -> None:
        self.stage = stage
        self.folder = -1
        self.mark: files.OpenFile | None = None
        self.newest = 0
        self.found: tuple[int, os.stat_result] | None = None
        self._folders = folders
        self._outer: Visit | None = None

    def __enter__(self) -> Self:
        self._outer = self._folders.here.visit
        self._folders.here.visit = self
        return self

    def __exit__(self, *_: object) -> None:
        self._folders.here.visit = self._outer
        if self.folder >= 0:
            files.close(self.folder)
        self.forget()

    def forget(self) -> None:
        """Drop what was learnt of the stage's files: they are changed."""
        self.newest, self.found = 0, None
        if self.mark is not None:
            self.mark.close()
            self.mark = None


class _Here(threading.local):
    visit: Visit | None = None


class Folders:
    """Opens the folders of the stages of one store."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.history = os.path.join(root, tree.HISTORY)
        self.here = _Here()

    def visit(self, stage: str) -> Visit | Continued:
        """Visit a stage. A visit within one to the same stage goes on with that."""
        return Visit(self, stage) if self.visited(stage) is None else Continued()

    def visited(self, stage: str) -> Visit | None:
        """Return this thread's visit to the stage, if there is one."""
        visit = self.here.visit
        return visit if visit is not None and visit.stage == stage else None

    def reading(self, stage: str, version: int | None = None) -> ForReading:
        """Open a stage's folder, with ``with``; it gives None if there is none."""
        return ForReading("read", self, stage, version)

    def writing(self, stage: str, version: int | None, what: str) -> ForWriting:
        """Open a stage's folder, with ``with``; it is made first if need be."""
        return ForWriting(what, self, stage, version)

    def descriptor(self, stage: str) -> int:
        """Open a stage's folder; the caller closes it."""
        history = files.directory_descriptor(self.history)
        try:
            return files.directory_descriptor(names.to_filename(stage), history)
        finally:
            files.close(history)


class Continued:
    """A visit that another one around it goes on with."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


class _Opened(as_our_errors):
    """The folder of a stage for one block, whose errors become ours."""

    __slots__ = ("_folders", "_own", "_stage")

    def __init__(self, action: str, folders: Folders, stage: str, version: int | None) -> None:
        super().__init__(action, folders.history, stage, version)
        self._folders = folders
        self._stage = stage
        self._own = -1

    def _descriptor(self) -> int:
        visit = self._folders.visited(self._stage)
        if visit is None:
            self._own = self._folders.descriptor(self._stage)
            return self._own
        if visit.folder < 0:
            visit.folder = self._folders.descriptor(self._stage)
        return visit.folder

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self._own >= 0:
            files.close(self._own)
        if error is not None:
            self.explain(error)


class ForReading(_Opened):
    """See :meth:`Folders.reading`."""

    __slots__ = ()

    def __enter__(self) -> int | None:  # type: ignore[override]  # what it gives is the point of it
        try:
            return self._descriptor()
        except FileNotFoundError:
            return None
        except (OSError, files.NotAFileError) as error:
            self.explain(error)
            raise


class ForWriting(_Opened):
    """See :meth:`Folders.writing`."""

    __slots__ = ()

    def __enter__(self) -> int:  # type: ignore[override]  # likewise
        try:
            try:
                return self._descriptor()
            except FileNotFoundError:
                upkeep.make_stage_directory(self._folders.root, self._stage)
                return self._descriptor()
        except (OSError, files.NotAFileError) as error:
            self.explain(error)
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        visit = self._folders.visited(self._stage)
        if visit is not None:
            visit.forget()
        super().__exit__(kind, error, traceback)
