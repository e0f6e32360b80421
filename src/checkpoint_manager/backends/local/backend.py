"""The directory backend: the save protocol, step by step, and what reads it.

A version is written to a temporary file beside its place, synced, and then *linked* to its name. The link fails if the name is
taken, so it alone decides who owns a version; the lock only keeps writers from colliding. Then the directory is synced, and the
temporary name, a second link to the same file, is renamed over the mark. The mark can be derived from the history: it
needs no sync, and one that is stale or missing heals with the next save.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager.backends.base import (
    Backend,
    Purpose,
    Reader,
    Record,
    RecordChangedError,
    RecordName,
    StageRecord,
    Stray,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.backends.local import layout as tree
from checkpoint_manager.backends.local import maintenance as upkeep
from checkpoint_manager.backends.local.head import Finder, numbers
from checkpoint_manager.backends.local.lock import FileLock
from checkpoint_manager.backends.local.session import Folders
from checkpoint_manager.errors import CheckpointError, IntegrityError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from contextlib import AbstractContextManager

    from checkpoint_manager.models import Buffer, Durability

_LOG = logging.getLogger("checkpoint_manager")


class LocalBackend(Backend):
    """Versions and records in one directory.

    Args:
        directory: Made if it is not there, with its parents. The path itself may be a symbolic link: it is the user's own.
        durability: ``relaxed`` leaves out the syncs of each save; those of newly made directories are kept.

    Raises:
        StorageError: The directory can't be made or opened.
    """

    def __init__(self, directory: str | os.PathLike[str], durability: Durability = "full") -> None:
        self.location = os.path.realpath(os.fspath(directory))  # from here on, nothing may be a link
        self._durable = durability == "full"
        self._folders = Folders(self.location)
        self._finder = Finder(self._folders)
        self._keyring = os.path.join(self.location, tree.KEYRING)
        self._locks = os.path.join(self.location, tree.LOCKS)
        with as_our_errors("open the checkpoint directory", self.location):
            upkeep.make_store_directory(self.location)

    # Locks

    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> FileLock:
        file = tree.STORE_LOCK if stage is None else tree.lock_name(stage, purpose, name)
        clear_up = self._sweep_after_a_kill if purpose == "write" else None
        return FileLock(self._locks, file, stage, timeout, clear_up, is_removed=bool(name))

    def _sweep_after_a_kill(self, stage: str | None) -> None:
        """Remove what the last holder of a lock left, for it was killed. What fails here is left to ``repair``."""
        with contextlib.suppress(CheckpointError, OSError), self._directory_of(stage) as directory:
            if directory is not None:
                upkeep.sweep(directory)

    def _directory_of(self, stage: str | None) -> AbstractContextManager[int | None]:
        return files.open_directory(self.location) if stage is None else self._folders.reading(stage)

    # Versions

    def visit(self, stage: str) -> AbstractContextManager[object]:
        return self._folders.visit(stage)

    def stages(self) -> list[str]:
        with as_our_errors("list the stages", self._folders.history):
            return sorted(
                stage for _, stage in upkeep.stage_directories(self._folders.history) if stage and self._has_versions(stage)
            )

    def _has_versions(self, stage: str) -> bool:
        try:
            return bool(self.versions(stage))
        except IntegrityError:  # something else stands there: `strays` tells
            return False

    def versions(self, stage: str) -> list[int]:
        with self._folders.reading(stage) as directory:
            if directory is None:
                return []
            found = sorted(numbers(directory))
            if not found or len(found) == found[-1]:
                return found
            # There are holes. What is linked during a listing may be missed while what came after it is seen: of another
            # listing, all up to the newest one of the first is certain.
            return sorted(number for number in numbers(directory) if number <= found[-1])

    def mark(self, stage: str) -> bytes:
        return self._finder.mark(stage)

    def is_marked(self, stage: str, version: int) -> bool:
        return self._finder.is_marked(stage, version)

    def newest(self, stage: str, *, hint: int = 0) -> int:
        return self._finder.newest(stage, hint)

    def open(self, stage: str, version: int) -> AbstractContextManager[Reader]:
        return self._finder.open(stage, version)

    def append(self, stage: str, version: int, pieces: Iterable[Buffer]) -> None:
        with self._folders.writing(stage, version, "write") as directory:
            if not self._finder.follows(stage, version, directory):
                # before anything can be acknowledged below these names
                upkeep.name_stage_directory(stage, directory)
                upkeep.sync_stage_names(self.location)
            temporary = files.write_temporary(directory, pieces, durable=self._durable)
            try:
                files.publish(temporary, tree.version_name(version), directory)
                if self._durable:
                    files.sync(directory)
            except BaseException as error:
                files.remove(temporary, directory)
                if isinstance(error, FileExistsError):
                    raise VersionTakenError from None
                raise
            self._put_mark(temporary, stage, version, directory)

    def _put_mark(self, temporary: str, stage: str, version: int, directory: int) -> None:
        """Turn the temporary name of a version into the stage's mark. The version stands, whatever becomes of this."""
        mark = self._finder.mark_path(stage)
        try:
            os.rename(temporary, mark, src_dir_fd=directory)
        except FileNotFoundError:  # no hard links: the temporary file itself became the version
            with contextlib.suppress(OSError):
                upkeep.put_mark(self.location, stage, version, directory)
        except OSError as error:
            files.remove(temporary, directory)
            _LOG.warning("%s: the newest version can't be marked at %s: %s", display(stage), mark, error.strerror)

    def settle(self, stage: str) -> None:
        with self._folders.reading(stage) as directory:
            if self._durable and directory is not None:
                files.sync(directory)

    def replace(self, stage: str, version: int, pieces: Iterable[Buffer]) -> None:
        with self._folders.writing(stage, version, "replace") as directory:
            name = tree.version_name(version)
            if not files.exists(name, directory):
                raise VersionAbsentError
            temporary = files.write_temporary(directory, pieces, durable=self._durable)
            try:
                os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
            except BaseException:
                files.remove(temporary, directory)
                raise
            if self._durable:
                files.sync(directory)

    def delete(self, stage: str, versions: Iterable[int]) -> None:
        with self._folders.writing(stage, None, "delete versions of") as directory:
            for version in versions:
                files.remove(tree.version_name(version), directory)
            if self._durable:
                files.sync(directory)

    # Records

    def read_record(
        self, name: RecordName, stage: str | None = None, *, limit: int, known: Record | None = None
    ) -> Record | None:
        if known is not None and stage is None and self._is_unchanged(known):
            return known
        with self._place_of_record(name, stage) as (place, directory):
            if place is None:
                return None
            try:
                status = os.stat(place, dir_fd=directory, follow_symlinks=False)
                if known is not None and known.stamp == upkeep.stamp(status):
                    return known
                with files.OpenFile(place, directory) as file:
                    if file.size > limit:
                        message = f"{name} in {self.location} is {file.size} bytes long, and the limit is {limit}: "
                        raise IntegrityError(message + "restore it from a backup", stage=stage)
                    return Record(file.read(limit), upkeep.stamp(os.fstat(file.descriptor)))
            except FileNotFoundError:
                return None

    def _is_unchanged(self, keyring: Record) -> bool:
        """Whether the keyring is the file that was read before: each save asks, and it mostly is."""
        try:
            return keyring.stamp == upkeep.stamp(os.stat(self._keyring, follow_symlinks=False))
        except OSError:  # told where it is read
            return False

    def write_record(self, name: RecordName, stage: str | None = None, *, data: bytes, expected: Record | None) -> Record:
        file_name = tree.KEYRING if stage is None else name
        with self._directory_of_record(stage) as directory:
            temporary = files.write_temporary(directory, [data], durable=True)
            try:
                if not self._is_still(expected, file_name, directory):
                    raise RecordChangedError
                upkeep.put_record(temporary, file_name, directory, first=expected is None)
            finally:
                files.remove(temporary, directory)
            files.sync(directory)
            return Record(data, upkeep.stamp(os.stat(file_name, dir_fd=directory, follow_symlinks=False)))

    def _is_still(self, expected: Record | None, file_name: str, directory: int) -> bool:
        try:
            with files.OpenFile(file_name, directory) as file:
                return expected is not None and file.read(len(expected.data) + 1) == expected.data
        except FileNotFoundError:
            return expected is None

    @contextlib.contextmanager
    def _place_of_record(self, name: RecordName, stage: str | None) -> Iterator[tuple[str | None, int | None]]:
        if stage is None:
            with as_our_errors("read the keyring", self._keyring):
                yield self._keyring, None
        else:
            with self._folders.reading(stage) as directory:
                yield (None if directory is None else name), directory

    @contextlib.contextmanager
    def _directory_of_record(self, stage: str | None) -> Iterator[int]:
        if stage is not None:
            with self._folders.writing(stage, None, "write a record of") as directory:
                yield directory
        else:
            with as_our_errors("write the keyring", self.location), files.open_directory(self.location) as directory:
                yield directory

    # Upkeep

    def exposure(self) -> str:
        with as_our_errors("open the checkpoint directory", self.location):
            mode = stat.S_IMODE(os.stat(self.location).st_mode)
        if not mode & upkeep.OTHERS_MAY_WRITE:
            return ""
        return (
            f"Other users of this host may write to {self.location} (mode {mode:04o}): they can't read or forge "
            "checkpoints, but "
            "they can delete them. Take that away: chmod go-w"
        )

    def strays(self) -> list[Stray]:
        with as_our_errors("look through", self.location):
            return upkeep.find_strays(self)

    def sweep(self, stray: Stray) -> bool:
        name = os.path.basename(stray.path)
        with as_our_errors("remove", stray.path), files.open_directory(os.path.dirname(stray.path)) as directory:
            if not os.path.isdir(stray.path):
                return files.remove(name, directory)
            with FileLock(self._locks, name + tree.LOCK_SUFFIX, None, 0):
                return upkeep.sweep_directory(name, directory)

    def set_mark(self, stage: str, version: int) -> None:
        with self._folders.writing(stage, version, "mark") as directory:
            upkeep.put_mark(self.location, stage, version, directory)
            files.sync_directory(self.location)

    def drop_mark(self, stage: str) -> None:
        with self._folders.writing(stage, None, "mark"):
            files.remove(self._finder.mark_path(stage))
            files.sync_directory(self.location)

    def set_aside(self, stage: str, what: int | StageRecord) -> str:
        with self._folders.writing(stage, what if isinstance(what, int) else None, "set aside") as directory:
            name = tree.version_name(what) if isinstance(what, int) else what
            return upkeep.move_to_damaged(self.location, stage, name, directory)

    def wait_for_writers(self, timeout: float) -> None:
        with as_our_errors("list the locks", self._locks):
            held = sorted(os.listdir(self._locks)) if os.path.isdir(self._locks) else []
        for name in held:
            if name.endswith(tree.LOCK_SUFFIX):
                with FileLock(self._locks, name, name.removesuffix(tree.LOCK_SUFFIX), timeout):
                    pass
