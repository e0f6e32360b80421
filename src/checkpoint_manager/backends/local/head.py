"""Finding the newest version of a stage and opening it, with as few system calls as a safe look takes.

The mark is a second name of the newest version's file. Whoever reads it to learn that version's number has thereby opened the
version itself, which is told by comparing the files behind both names. Nothing here believes the mark: it only says where to
look first.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.backends.local import layout as tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from checkpoint_manager.backends.local.session import Folders

_OPENING_BYTES = 64 * 1024
"""How much of a mark is read at once: whoever asks for it mostly goes on to read the version."""
_FAR_BEHIND = 64
"""A mark this many versions behind was not left by a crash; then listing is quicker than looking one by one."""


class Finder:
    """Finds and opens versions below the folders of one store."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def mark(self, stage: str) -> bytes:
        """See :meth:`Backend.mark`."""
        try:
            file = files.OpenFile(self.mark_path(stage))
            visit = self._folders.visited(stage)
            if visit is None or visit.mark is not None:
                with file:
                    return file.read(_OPENING_BYTES)
            visit.mark = file
            return file.peek(_OPENING_BYTES)
        except (OSError, files.NotAFileError):
            return b""

    def mark_path(self, stage: str) -> str:
        """Return where a stage's mark is."""
        return f"{self._folders.root}{os.sep}{tree.mark_name(stage)}"

    def is_marked(self, stage: str, version: int) -> bool:
        """See :meth:`Backend.is_marked`."""
        with self._folders.reading(stage, version) as folder:
            try:
                mark = os.stat(self.mark_path(stage), follow_symlinks=False)
                return folder is not None and os.path.samestat(mark, self._look_at(stage, version, folder))
            except FileNotFoundError:
                return False

    def newest(self, stage: str, hint: int) -> int:
        """See :meth:`Backend.newest`."""
        with self._folders.reading(stage) as folder:
            if folder is None:
                return 0
            number = self._next_to(stage, hint, folder) if hint else None
            if number is None:
                number = max(numbers(folder), default=0)
            visit = self._folders.visited(stage)
            if visit is not None:
                visit.newest = number
            return number

    def _next_to(self, stage: str, hint: int, folder: int) -> int | None:
        """Return the newest version, looking forward from one that is there; None: it is not, or too far behind."""
        visit = self._folders.visited(stage)
        if visit is None or visit.found is None or visit.found[0] != hint:
            try:
                self._look_at(stage, hint, folder)
            except FileNotFoundError:
                return None
        for number in range(hint, hint + _FAR_BEHIND):
            if not files.exists(tree.version_name(number + 1), folder):
                return number
        return None

    def _look_at(self, stage: str, version: int, folder: int) -> os.stat_result:
        status = os.stat(tree.version_name(version), dir_fd=folder, follow_symlinks=False)
        visit = self._folders.visited(stage)
        if visit is not None:
            visit.found = (version, status)
        return status

    def follows(self, stage: str, version: int, folder: int) -> bool:
        """Return whether the version before this one is there."""
        visit = self._folders.visited(stage)
        if version > 1 and visit is not None and visit.newest == version - 1:
            return True
        return version > 1 and files.exists(tree.version_name(version - 1), folder)

    def open(self, stage: str, version: int) -> OpenVersion:
        """See :meth:`Backend.open`."""
        file = self._marked_file(stage, version)
        if file is None:
            with self._folders.reading(stage, version) as folder:
                if folder is None:
                    raise VersionAbsentError
                try:
                    file = files.OpenFile(tree.version_name(version), folder)
                except FileNotFoundError:
                    raise VersionAbsentError from None
        return OpenVersion(file, self._folders.history, stage, version)

    def _marked_file(self, stage: str, version: int) -> files.OpenFile | None:
        """Return the mark, opened in this visit, if the version is the same file: it need not be opened once more."""
        visit = self._folders.visited(stage)
        if visit is None or visit.mark is None or visit.found is None or visit.found[0] != version:
            return None
        if not os.path.samestat(visit.mark.status, visit.found[1]):
            return None
        file, visit.mark = visit.mark, None
        return file


class OpenVersion(as_our_errors):
    """A version for one block: closed at its end, and what the operating system refuses becomes our error."""

    __slots__ = ("_file",)

    def __init__(self, file: files.OpenFile, path: str, stage: str, version: int) -> None:
        super().__init__("read", path, stage, version)
        self._file = file

    def __enter__(self) -> files.OpenFile:  # type: ignore[override]  # what it gives is the point of it
        return self._file

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self._file.close()
        super().__exit__(kind, error, traceback)


def numbers(folder: int) -> Iterator[int]:
    """Yield the numbers of the versions in a folder, in no particular order."""
    with files.entries(folder) as entries:
        for entry in entries:
            number = tree.version_of(entry.name)
            if number is not None:
                yield number
