"""What only a directory has: leftovers, stale heads, copies that are put back, and what a repair sets aside."""

from __future__ import annotations

import contextlib
import os
from abc import abstractmethod
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors, translate
from checkpoint_manager._loading import load
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import Backend, Session, StageRecord
from checkpoint_manager.backends.local import folders, head, layout, pending
from checkpoint_manager.backends.local.host_locks import lock_of
from checkpoint_manager.backends.local.session import LocalSession, LockSession
from checkpoint_manager.backends.local.version_file import VersionFile
from checkpoint_manager.backends.maintenance import Leftover, Maintenance
from checkpoint_manager.backends.stage_names import to_filename

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager.backends.local.head import Found


class LocalMaintenance(Backend, Maintenance):
    """The part of the directory backend that repairs and sets aside.

    Attributes:
        _history: The folder of the stages.
        _locks: The folder of the locks.
        _durable: Whether each save is durable.
        _found: The newest version of each stage that was looked at.
    """

    _history: str
    _locks: str
    _durable: bool
    _found: dict[str, Found]

    @abstractmethod
    def session(self, stage: str | None, lock: object = None) -> LocalSession: ...

    def _head(self, stage: str) -> str:
        return f"{self.location}{os.sep}{layout.head_name(stage)}"

    def _set_head(self, session: LocalSession, version: int) -> None:
        head.put(self.location, session.stage, version, session.folder)
        if session.found is not None:
            session.found = self._found[session.stage] = session.found._replace(durable=version, head=None)

    def warnings(self) -> list[str]:
        with as_our_errors("open the checkpoint directory", self.location):
            return folders.warnings_about(self.location)

    def leftovers(self) -> list[Leftover]:
        leftovers = load("checkpoint_manager.backends.local.leftovers")  # few programs look for them
        with as_our_errors("look through", self.location):
            found: list[Leftover] = leftovers.find_leftovers(self.location, self._has_stale_head)
            return found

    def _has_stale_head(self, stage: str, folder: int | None) -> bool:
        """Return whether a stage's head is stale. In a relaxed store, it is behind until the stage is flushed."""
        found = head.NOTHING if folder is None else head.listed(self.location, stage, folder)[0]
        if found.number == 0:
            return os.path.lexists(self._head(stage))
        return found.durable < (found.number if self._durable else 1)

    def remove(self, leftover: Leftover) -> bool:
        if leftover.kind == "stale head":
            return leftover.stage is not None and self._mend_head(leftover.stage)
        with as_our_errors("remove", leftover.path), contextlib.ExitStack() as opened:
            folder = opened.enter_context(files.open_directory(self.location))
            *parents, name = os.path.relpath(leftover.path, self.location).split(os.sep)
            for parent in parents:
                folder = opened.enter_context(files.open_directory(parent, folder))
            if name == layout.ALL_TEMPORARY:
                folders.remove_temporary_files(files.names(folder), folder)
                return True
            if layout.is_temporary(name):
                files.remove(name, folder)  # gone, if its stage's next writer was faster
                return True
            if pending.version_pending(name):
                return not pending.is_whole(name, folder) and files.remove(name, folder)
            with lock_of(self._locks, name) as lock, LockSession(lock):
                return folders.remove_unused_folder(name, folder)

    def _mend_head(self, stage: str) -> bool:
        with self.session(stage) as session, as_our_errors("set the head of", self.location, stage):
            self.flush(stage, session=session)
            if session.found is None or session.found.number == 0:
                return files.remove(self._head(stage))
            with contextlib.suppress(IsADirectoryError):  # that is not a head, and not ours
                self._set_head(session, session.found.number)
                return True
            return False

    def only_copy(self, stage: str) -> VersionFile | None:
        found = self._found.get(stage)
        if found is not None and found.head is not None:  # it is one of the versions
            return None
        try:
            file = VersionFile(self._head(stage))
        except (FileNotFoundError, files.NotAFileError):
            return None
        except OSError as error:
            translate(error, "read the head of", self.location, stage)
            raise
        file.place = (self.location, stage, None)
        return file

    def put_back(self, stage: str, version: int, *, session: Session | None = None) -> None:
        if not isinstance(session, LocalSession):
            with self.session(stage) as own:
                self.put_back(stage, version, session=own)
            return
        head_file = self._head(stage)
        with as_our_errors(f"copy {printable(head_file)} to", session.path, stage, version):
            if session.folder < 0:
                session.make()
            folders.name_stage_directory(stage, session.folder)
            folders.sync_stage_names(self.location)
            with files.OpenFile(head_file) as file, contextlib.suppress(FileExistsError):
                files.sync(file.descriptor)
                files.link(head_file, layout.version_name(version), session.folder)
            files.sync(session.folder)
            self._found.pop(stage, None)

    def nameless(self, known: Iterable[str]) -> list[str]:
        with as_our_errors("look through", self.location):
            return folders.find_nameless(self.location, {to_filename(stage) for stage in known})

    def quarantine(self, stage: str, what: Iterable[int | StageRecord]) -> dict[int | StageRecord, str]:
        names = {layout.version_name(each) if isinstance(each, int) else str(each): each for each in what}
        self._found.pop(stage, None)
        with self.session(stage) as session, as_our_errors("set aside", session.path, stage):
            if session.folder < 0:
                return {}
            pending.retire(session.folder)
            moved = move_to_damaged(self.location, stage, names, session.folder)
            return {names[name]: path for name, path in moved.items()}

    def quarantine_stage(self, stage: str) -> None:
        self._found.pop(stage, None)
        with as_our_errors("set aside", self._history, stage):
            move_stage_to_damaged(self.location, stage)


def move_to_damaged(root: str, stage: str, names: Iterable[str], directory: int) -> dict[str, str]:
    """Move whatever stands at these names to the folder ``damaged``; return the new paths by the names that were there."""
    folder = os.path.join(root, layout.DAMAGED)
    files.make_directory(folder)
    files.sync_directory(root)
    moved: dict[str, str] = {}
    with files.open_directory(folder) as damaged:
        for name in names:
            aside = f"{to_filename(stage)}-{os.urandom(4).hex()}-{name}"
            with contextlib.suppress(FileNotFoundError):
                os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=damaged)
                moved[name] = os.path.join(folder, aside)
        files.sync(damaged)
    files.sync(directory)
    return moved


def move_stage_to_damaged(root: str, stage: str) -> None:
    """Move the folder and the head of a stage to the folder ``damaged``. A power cut may undo it."""
    files.make_directory(os.path.join(root, layout.DAMAGED))
    name, mark = to_filename(stage), os.urandom(4).hex()
    with files.open_directory(root) as top, files.open_directory(layout.DAMAGED, top) as damaged:
        for parent, there in ((layout.HISTORY, name), (".", layout.head_name(stage))):
            with contextlib.suppress(FileNotFoundError), files.open_directory(parent, top) as folder:
                os.rename(there, f"{name}-{mark}-{there}", src_dir_fd=folder, dst_dir_fd=damaged)
