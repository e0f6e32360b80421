"""The directory backend: the save protocol and its readers.

A version is written to a file beside its place, synced, and then *linked* to its name. The link fails if the name is taken, so
it alone decides who owns a version; the lock only keeps writers from colliding. Then a temporary name, another link to the same
file, is renamed over the head. The head can be derived from the history, so it is not synced; a stale or missing head is
corrected by the next save.

A small version is durable under its pending name before it is linked, see :mod:`.pending`. A large one has a temporary name
until then, and its directory is synced after the link.

In a relaxed store, neither the file nor the directory is synced, and the head stays at the newest version that is known to be
durable. A version that does not directly follow a durable history is always made durable.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files, permissions
from checkpoint_manager._filesystem.descriptors import Kept
from checkpoint_manager._filesystem.file_times import FileTimes, stamp
from checkpoint_manager._filesystem.os_errors import as_our_errors, is_refusal, passing_over_refusals, translate
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import (
    Capabilities,
    Newest,
    OutOfOrderError,
    Reader,
    Record,
    RecordChangedError,
    RecordName,
    Session,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.backends.local import attachments, folder_note, folders, head, layout, pending
from checkpoint_manager.backends.local.head import Found
from checkpoint_manager.backends.local.host_locks import HostLocks
from checkpoint_manager.backends.local.maintenance import LocalMaintenance
from checkpoint_manager.backends.local.session import LocalSession
from checkpoint_manager.backends.local.shared import ask_again, is_shared
from checkpoint_manager.backends.local.version_file import FileMark, KeptFile, VersionFile
from checkpoint_manager.backends.stage_names import from_filename, to_filename
from checkpoint_manager.errors import IntegrityError, LocationError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from checkpoint_manager._filesystem.file_times import Stamp
    from checkpoint_manager.backends.base import MakePieces
    from checkpoint_manager.backends.local.lock import LockFile
    from checkpoint_manager.models import Buffer, Durability

_BLOCK_BYTES = 4096
"""A folder of this size has a hundred names, which are listed as fast as a few of them are looked for."""
_LISTED_EVERY = 64
_SMALL_BYTES = 64 * 1024
"""Up to how many bytes a version is read at once with the look that finds it."""
_SYNC_EVERY = 100
"""In a relaxed store, each version with such a number is made durable with all before it, which bounds the work of a flush."""


class LocalBackend(HostLocks, LocalMaintenance):
    """Versions and records in one directory.

    Args:
        directory: Made if it is not there, with its parents. The path itself may be a symbolic link: it is the user's own.
        durability: ``relaxed`` leaves out the syncs of each save.

    Raises:
        LocationError: The path holds a character that no path can hold, or lies in a folder of another store.
        StorageError: The directory can't be made or opened.
    """

    capabilities = Capabilities(lock_excludes=True, lists_over_gaps=True, durability=True)
    moves_stages = True

    def __init__(self, directory: str | os.PathLike[str], durability: Durability = "full") -> None:
        try:
            with as_our_errors("open the checkpoint directory", os.fspath(directory)):  # the working directory may be gone
                self.location = os.path.realpath(os.fspath(directory))  # from here on, nothing may be a link
                named = os.path.abspath(os.fspath(directory))
                self.asked_for = "" if named == self.location else named
        except ValueError as error:
            message = f"{printable(os.fspath(directory))} can't be the path of a directory: {error}"
            raise LocationError(message, hint="Choose another directory") from None
        self.durability = durability
        self._durable = durability == "full"
        self._history = os.path.join(self.location, layout.HISTORY)
        self._keyring = os.path.join(self.location, layout.KEYRING)
        self._locks = os.path.join(self.location, layout.LOCKS)
        self._found: dict[str, Found] = {}
        self._sessions: Kept[LocalSession] = Kept()
        self._kept_locks: Kept[LockFile] = Kept()
        self._kept_files: Kept[KeptFile] = Kept()
        self._tidied: set[str | None] = set()  # without temporary files of a killed writer
        self._pending: dict[str, tuple[str, ...]] = {}  # the pending names to remove after the next sync of a stage's folder
        self._changes: dict[str, int] = {}  # how often someone else has changed the folder of a stage
        self._noted: dict[str, Stamp | None] = {}  # the states of folders of which a note was made
        self._in_turn: set[str] = set()  # stages in which other processes may have left pending names since they were listed
        self._retired: dict[str, int] = {}  # up to which version of a stage no pending name is left
        self._has_links = True
        with as_our_errors("open the checkpoint directory", self.location):
            folders.make_store_directory(self.location)
            self._is_shared = is_shared(self.location)
            self._times = FileTimes(self.location)
            self._refuse_another_owner()

    def _refuse_another_owner(self) -> None:
        """Refuse a store of another user: each could lock the other out, because files are closed to all but their owner.

        On a file system that gives all files to one user, a new file belongs to the same one as the keyring.
        """
        try:
            owner = os.lstat(self._keyring).st_uid
        except FileNotFoundError:
            return
        if owner == os.geteuid() or folders.owner_of_new_files(self.location) in {owner, None}:
            return
        me, other = permissions.user_name(os.geteuid()), permissions.user_name(owner)
        message = f"the store {self.location} belongs to {other}, and what {me} saved there, {other} could not read"
        hint = f"Run this as {other}, or give the whole directory to {me}"
        raise StorageError(message, hint=hint, errno=errno.EPERM, filename=self.location)

    def _remove_leftovers(self, stage: str | None, folder: int, newest: int, names: list[str] | None = None) -> None:
        """Remove the leftovers of killed writers, and reserve space for deletions, if this thread holds the lock.

        What the system refuses here is left to ``repair``. The names in the folder may be given, if the lock was held already
        when they were listed.
        """
        if self._holds(stage):
            with passing_over_refusals():
                names = files.names(folder) if names is None else names
                folders.remove_temporary_files(names, folder)
                if stage is not None:
                    self._pending[stage] = pending.remove_torn(names, folder, newest)
            folders.keep_reserve(self.location)
            self._tidied.add(stage)

    def session(self, stage: str | None, lock: object = None) -> LocalSession:
        session = self._sessions.pop(stage or "", None) or LocalSession(
            self.location, stage or "", self._sessions, self._kept_files, self._times, is_shared=self._is_shared
        )
        session.lock = lock
        return session

    # Versions

    def stages(self) -> list[str]:
        with as_our_errors("list the stages", self.location):
            heads = folders.head_names(self.location)
        named = {name: stage for name in heads if (stage := from_filename(name)) is not None}
        found = [*named.values()]
        with (
            as_our_errors("list the stages", self._history),
            contextlib.suppress(FileNotFoundError),
            files.open_directory(self._history) as history,
        ):
            for name, stage in folders.stage_directories(history, named):
                if stage is not None and (name in heads or self._has_versions(name, history)):
                    found.append(stage)
        return sorted(found)

    def _has_versions(self, name: str, history: int) -> bool:
        try:
            with files.open_directory(name, history) as folder:
                return bool(pending.numbers(folder))
        except (FileNotFoundError, files.NotAFileError):  # another kind of file is reported by `leftovers`
            return False

    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:
        if not isinstance(session, LocalSession):
            with self.session(stage) as own:
                return self.versions(stage, session=own)
        if session.folder < 0:
            return []
        with as_our_errors("list the versions of", session.path, stage):
            found = sorted(pending.numbers(session.folder))
            if not found or len(found) == found[-1]:
                return found
            # Numbers are missing. What is linked during a listing may be missed while what came after it is seen: of another
            # listing, all up to the newest one of the first is certain.
            newest = found[-1]
            del found  # there may be many planted names
            return sorted(number for number in pending.numbers(session.folder) if number <= newest)

    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:
        if not isinstance(session, LocalSession):
            with self.session(stage) as own:
                return self.newest(stage, exact=exact, session=own)
        if session.folder < 0 and exact:
            session.__enter__()  # another writer may have made the folder since
        if session.folder < 0:
            session.found = head.NOTHING
            return Newest(0, durable=True)
        found = None if exact else self._found.get(stage)
        if found is not None and found.changed != session.changed and not self._may_follow(stage, session):
            found = None
        try:
            if found is not None and not self._is_still_the_newest(found, stage, session):
                found = head.follow(self.location, stage, session.folder, found, session.expected)
            state = None
            if found is None:
                found, session.others = head.listed(self.location, stage, session.folder)
                self._in_turn.discard(stage)
                state = self._state(session.status, session.began)
            if state is not None or found.changed != session.changed:
                is_settled = session.status is not None and self._times.is_settled(session.status, session.began)
                changed, (number, durable, link, _, named, known) = session.changed if is_settled else 0, found
                found = Found._make((number, durable, link, changed, named, state or known))
        except OSError as error:
            translate(error, "find the newest version of", session.path, stage)
            raise
        session.found = self._found[stage] = found
        return Newest(found.number, found.durable == found.number)

    def _may_follow(self, stage: str, session: LocalSession) -> bool:
        """Count a change of the folder by someone else, and return whether to follow what was found before all the same.

        An attacker can hide a newer version from the processes that follow, until they list the folder: by removing the version
        below it and exchanging the head. A short folder is listed at each change. A long one, where that takes long, is listed
        at the first change and at each 64th one after it, because writers may take turns.
        """
        changes = self._changes[stage] = self._changes.get(stage, -1) + 1
        is_long = session.status is not None and session.status.st_size > _BLOCK_BYTES
        return is_long and changes % _LISTED_EVERY != 0

    def _is_still_the_newest(self, found: Found, stage: str, session: LocalSession) -> bool:
        """Return whether the finding is still valid.

        It is if the head is the same file, and no version follows without a gap, nor a pending one if the folder has changed.
        A durable save moves the head, unless it was killed before; a relaxed one does not.
        """
        try:
            status = os.lstat(f"{self.location}{os.sep}{layout.head_name(stage)}")
        except FileNotFoundError:
            return False
        is_head = (status.st_dev, status.st_ino) == found.head
        if not is_head or (session.only_appends and self._durable):
            return is_head  # the append looks: it fails where a writer that was killed, or is relaxed, had come that far
        try:
            os.lstat(layout.version_name(found.number + 1), dir_fd=session.folder)
        except FileNotFoundError:
            if found.changed == session.changed:
                return True
        else:
            return False
        try:
            os.lstat(pending.next_head(found.number + 1), dir_fd=session.folder)
        except FileNotFoundError:
            return True
        return False

    def _state(self, status: os.stat_result | None, now: int) -> Stamp | None:
        """Return the state of a folder all of whose names are known; None if a later change might not show.

        Args:
            status: The folder's status.
            now: The time before it was read, in nanoseconds since 1970.
        """
        if status is None or self._is_shared:
            return None
        return stamp(status) if self._times.is_settled(status, now) else None

    def folder_note(self, stage: str, session: Session | None = None) -> bytes | None:
        found = self._found.get(stage)
        if found is None or found.state is None or found.state == self._noted.get(stage):
            return None
        if found.state[2] < folder_note.LONG_BYTES or stage in self._in_turn:
            return None
        self._noted[stage] = found.state
        left: tuple[str, ...] | None = self._pending.get(stage, ())
        if stage not in self._tidied:
            if not isinstance(session, LocalSession) or session.others is None:
                return None
            with as_our_errors("look through", session.path, stage):
                left = pending.all_below(session.others, session.folder, found.number)
        return None if left is None else folder_note.encode(folder_note.Note(found, left))

    def resume(self, stage: str, recall: Callable[[], bytes], session: Session) -> bool:
        status = session.status if isinstance(session, LocalSession) else None
        if status is None or status.st_size < folder_note.LONG_BYTES or self._is_shared:
            return False
        note = folder_note.decode(recall(), status)
        if note is None:
            return False
        self._found[stage], self._pending[stage], self._noted[stage] = note.found, note.pending, note.found.state
        self._tidied.add(stage)
        return True

    def read_newest(self, stage: str, version: int, keyring: Record) -> tuple[bytes, FileMark | None] | None:
        folder_name, name, began = to_filename(stage), layout.version_name(version), time.time_ns()
        try:
            history = os.open(self._history, files.DIRECTORY)
            try:
                folder = os.open(folder_name, files.DIRECTORY | files.NO_ATIME, dir_fd=history)
            finally:
                os.close(history)
            try:
                status = os.fstat(folder)
                top = os.lstat(f"{self.location}{os.sep}{folder_name}{layout.SUFFIX}")
                names = os.listdir(folder)
                if self._is_shared or not head.is_newest(version, names):
                    return None
                file = os.open(name, files.READ | files.NO_ATIME, dir_fd=folder)
                try:
                    found = os.fstat(file)
                    is_head = found.st_ino == top.st_ino and found.st_dev == top.st_dev
                    if not is_head or not stat.S_ISREG(found.st_mode) or found.st_size > _SMALL_BYTES:
                        return None
                    content = os.read(file, found.st_size)
                finally:
                    os.close(file)
            finally:
                os.close(folder)
        except OSError as error:
            if not is_refusal(error):
                raise
            return None
        if status.st_size >= folder_note.LONG_BYTES or len(content) < found.st_size:
            return None
        is_settled = self._times.is_settled(status, began)
        changed = status.st_ctime_ns if is_settled else 0
        self._found[stage] = Found._make((version, version, (top.st_dev, top.st_ino), changed, 0, None))
        mark = None
        if is_settled and self._times.is_settled(found, began):
            path = f"{self._history}{os.sep}{folder_name}"
            stamps = keyring.stamp, stamp(status), stamp(found)
            mark = FileMark._make((began, self._keyring, path, f"{path}{os.sep}{name}", *stamps, self._kept_files))
        return content, mark

    def open(self, stage: str, version: int, *, session: Session | None = None) -> AbstractContextManager[Reader]:
        if not isinstance(session, LocalSession):
            with self.session(stage) as own:
                return self.open(stage, version, session=own)
        if session.folder < 0:
            raise VersionAbsentError
        try:
            try:
                file = VersionFile(name := layout.version_name(version), session.folder)
            except FileNotFoundError:
                found = pending.find(version, session.folder)
                if found is None:
                    raise VersionAbsentError from None
                file = VersionFile(name := found, session.folder)
        except (OSError, files.NotAFileError) as error:
            translate(error, "read", session.path, stage, version)
            raise
        file.place = (session.path, stage, version)
        session.read = name, file
        return file

    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        if not isinstance(session, LocalSession):
            with self.session(stage) as own:
                self.append(stage, version, make_pieces, session=own)
            return
        if session.found is None:
            self.newest(stage, session=session)
        found = session.found
        assert found is not None  # noqa: S101  # for the type checker
        try:
            if session.folder < 0:
                session.make()
            folder = session.folder
            if version <= found.number:
                raise VersionTakenError if files.exists(layout.version_name(version), folder) else OutOfOrderError
            session.all_known = found.state is not None and found.state == stamp(session.present_status())
            durable = self._prepare(stage, version, found, session)
            pieces = make_pieces()
            is_durable = durable and self._durable and self._has_links
            if not (is_durable and pending.fits(pieces) and self.append_next(stage, version, pieces[0], session)):
                large = self._append_large(stage, version, pieces, found, folder, durable=durable)
                session.found = self._found[stage] = session.remember_append(
                    *large[:3], named=large.named, is_durable=self._durable
                )
            self._tidied.add(stage)
        except FileExistsError:
            raise VersionTakenError from None
        except (OSError, files.NotAFileError) as error:
            translate(error, "write", session.path, stage, version)
            raise

    def session_after(
        self, stage: str, version: int, keyring: Record, lock: object, left: bytes | None = None
    ) -> LocalSession | None:
        session = self._sessions.pop(stage, None)
        if session is None:
            return None
        appended = session.appended
        try:
            if left is not None:
                is_unchanged, all_known = session.is_in(left, version), True
                self._in_turn.add(stage)
            else:
                is_unchanged = (
                    appended is not None and appended[1].number == version and stamp(os.lstat(session.path)) == appended[0]
                )
                all_known = appended is not None and appended[1].state is not None
            if is_unchanged and stamp(os.lstat(self._keyring)) == keyring.stamp and stage in self._tidied and self._has_links:
                session.lock, session.all_known = lock, all_known
                return session
        except OSError as error:
            if not is_refusal(error):
                raise
        self._sessions[stage] = session
        return None

    def state_left(self, stage: str, version: int, session: Session) -> bytes | None:  # noqa: ARG002  # the session's stage
        return session.state_left(version) if isinstance(session, LocalSession) else None

    def append_next(self, stage: str, version: int, content: Buffer, session: Session) -> bool:
        """Append a version by way of its pending name (:mod:`.pending`), and make it the head."""
        assert isinstance(session, LocalSession)  # noqa: S101  # for the type checker
        if len(content) > pending.MAX_BYTES:
            return False
        folder, temporary = session.folder, pending.next_head(version)
        self._tidied.discard(stage)  # until this version stands: a temporary file may be left
        try:
            name, status = pending.publish(version, content, temporary, folder, self._pending.get(stage, ()))
            self._pending[stage] = (name,)
            head_file: tuple[int, int] | None
            durable, head_file = version, (status.st_dev, status.st_ino)
            try:
                os.rename(temporary, f"{self.location}{os.sep}{layout.head_name(stage)}", src_dir_fd=folder)
            except OSError as error:
                if not is_refusal(error):
                    raise
                _, durable, head_file, *_ = self._put_head(temporary, status, stage, version, folder)
        except pending.LeftBehindError:
            with as_our_errors("write", session.path, stage, version):
                if pending.newest(folder)[0] < version:  # what a killed writer left was torn
                    with contextlib.suppress(IsADirectoryError):  # planted at a name that can be known before
                        files.remove(temporary, folder)
            return False
        except BaseException as error:  # a signal handler's, too, at any step
            files.remove(temporary, folder)
            if isinstance(error, FileExistsError):
                raise VersionTakenError from None
            if isinstance(error, OSError) and error.errno in files.NO_HARD_LINKS:
                self._has_links = False
                return False
            translate(error, "write", session.path, stage, version)
            raise
        session.found = self._found[stage] = session.remember_append(version, durable, head_file)
        self._tidied.add(stage)
        return True

    def _append_large(
        self, stage: str, version: int, pieces: Iterable[Buffer], found: Found, folder: int, *, durable: bool
    ) -> Found:
        """Append a version by way of a temporary name, or one that need not be durable."""
        temporary = files.temporary_name()
        try:
            status = files.write_new(temporary, folder, pieces, durable=durable)
            if found.named < found.durable:
                files.sync(folder)  # no version is visible before the own name of the one below it is durable
            files.publish(temporary, layout.version_name(version), folder)
            if durable:
                files.sync(folder)
                return self._put_head(temporary, status, stage, version, folder)._replace(named=version)
            files.remove(temporary, folder)
            return found._replace(number=version, named=found.durable)
        except BaseException:  # a signal handler's, too, at any step
            files.remove(temporary, folder)
            raise

    def _prepare(self, stage: str, version: int, found: Found, session: LocalSession) -> bool:
        """Make durable what a version builds on, and return whether the version itself has to be durable."""
        folder = session.folder
        if stage not in self._tidied:
            self._remove_leftovers(stage, folder, found.number, session.others if session.lock is not None else None)
        self._tidied.discard(stage)  # until this version stands: a temporary file may be left
        follows = version == found.number + 1 and found.durable > 0
        if not follows:  # before anything can be acknowledged below these names, or seen beyond a gap
            with contextlib.suppress(IsADirectoryError):  # that is not a version, either
                files.remove(self._head(stage))
            folders.name_stage_directory(stage, folder)
            folders.sync_stage_names(self.location)
        durable = self._durable or not follows or version % _SYNC_EVERY == 0
        if durable and found.durable < found.number:
            self._sync_versions(found, folder)
        return durable

    def _put_head(self, temporary: str, status: os.stat_result, stage: str, version: int, folder: int) -> Found:
        """Rename the temporary name of a version to the stage's head. If this fails, the version is still saved."""
        try:
            os.rename(temporary, f"{self.location}{os.sep}{layout.head_name(stage)}", src_dir_fd=folder)
        except FileNotFoundError:  # no hard links: the temporary file itself became the version
            with passing_over_refusals():
                head.put(self.location, stage, version, folder)
            return Found(version, version)
        except OSError as error:
            if not is_refusal(error):
                raise
            files.remove(temporary, folder)
            where = printable(self._head(stage))
            _LOG.warning("Stage %s is saved, but the head can't be set at %s: %s", printable(stage), where, error.strerror)
            return Found(version, 0)
        return Found(version, version, (status.st_dev, status.st_ino))

    def _sync_versions(self, found: Found, folder: int) -> None:
        """Make the versions above the head durable; the others are already.

        More than ``_SYNC_EVERY`` are not relaxed saves: the head is missing, or files were planted. Thousands of flushes would
        take minutes, under the lock, and the file system's own takes one.
        """
        numbers = [number for number in head.numbers(folder) if found.durable < number <= found.number]
        if len(numbers) <= _SYNC_EVERY or not files.sync_file_system(folder):
            for number in numbers:
                with (
                    contextlib.suppress(files.NotAFileError, FileNotFoundError),  # a reader holds no lock: deleted meanwhile
                    files.OpenFile(layout.version_name(number), folder) as file,
                ):
                    files.sync(file.descriptor)
        files.sync(folder)

    def flush(self, stage: str, *, session: Session | None = None) -> None:
        if not isinstance(session, LocalSession):
            with self.session(stage) as own:
                self.flush(stage, session=own)
            return
        if self.newest(stage, session=session).durable:
            return
        found = session.found
        assert found is not None  # noqa: S101  # for the type checker
        with as_our_errors("make durable", session.path, stage, found.number):
            self._sync_versions(found, session.folder)
        session.found = self._found[stage] = found._replace(durable=found.number, named=found.number)

    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        if not isinstance(session, LocalSession):
            with self.session(stage) as own:
                self.replace(stage, version, make_pieces, session=own)
            return
        self.newest(stage, session=session)
        found, folder, name = session.found, session.folder, layout.version_name(version)
        if folder < 0:
            raise VersionAbsentError
        with as_our_errors("replace", session.path, stage, version):
            if not files.exists(name, folder):
                raise VersionAbsentError
            if version > self._retired.get(stage, 0):
                pending.retire(folder)
                self._retired[stage] = 0 if found is None else found.number
            with files.temporary(folder) as temporary:
                files.write_new(temporary, folder, make_pieces(), durable=True)
                os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            files.sync(folder)
            if found is not None and version == found.durable:
                self._set_head(session, version)
                files.sync_directory(self.location)

    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:
        if not isinstance(session, LocalSession):
            with self.session(stage) as own:
                self.delete(stage, versions, session=own)
            return
        self.flush(stage, session=session)
        if session.folder < 0:
            return
        self._kept_files.pop(session.path, None)  # its bytes would stay as long as it is open
        with as_our_errors("delete versions of", session.path, stage):
            if session.found is not None and session.found.number and not self._is_head(session, session.found.number):
                with contextlib.suppress(IsADirectoryError):  # that is not a head, and nobody takes it for one
                    self._set_head(session, session.found.number)  # a process that remembers an older version sees the change
                files.sync_directory(self.location)
            names = [*map(layout.version_name, versions)]
            if any(pending.has_another_name(name, session.folder) for name in names):
                pending.retire(session.folder)  # else the bytes of a version would stay
            else:
                files.sync(session.folder)  # each version has its own name, and no pending one below the newest is adopted
            for name in names:
                files.remove(name, session.folder)
            files.sync(session.folder)
        folders.keep_reserve(self.location)  # it may have been used for the record of these deletions

    def _is_head(self, session: LocalSession, version: int) -> bool:
        try:
            status = os.lstat(self._head(session.stage))
        except FileNotFoundError:
            return False
        return head.is_same(self._head(session.stage), status, version, session.folder)

    # Attachments

    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        with self.session(stage) as session, as_our_errors("attach to", session.path, stage):
            if session.folder < 0:
                session.make()
            if index == 0:
                folders.name_stage_directory(stage, session.folder)
                folders.sync_stage_names(self.location)
            attachments.write_segment(session.folder, attachment, index, pieces)

    @contextlib.contextmanager
    def open_segment(self, stage: str, attachment: str, index: int) -> Iterator[Reader]:
        with self.session(stage) as session, as_our_errors("read an attachment of", session.path, stage):
            try:
                if session.folder < 0:
                    raise VersionAbsentError
                with attachments.opened(session.folder, attachment) as place:
                    file = VersionFile(attachments.segment_name(index), place)
            except FileNotFoundError:
                raise VersionAbsentError from None
        file.place = (session.path, stage, None)
        with file:
            yield file

    def segment_sizes(self, stage: str, attachment: str) -> list[int]:
        with self.session(stage) as session, as_our_errors("read an attachment of", session.path, stage):
            if session.folder < 0:
                return []
            with contextlib.suppress(FileNotFoundError), attachments.opened(session.folder, attachment) as place:
                return list(attachments.sizes(place))
            return []

    def attachments(self, stage: str) -> list[str]:
        with self.session(stage) as session, as_our_errors("list the attachments of", session.path, stage):
            if session.folder < 0:
                return []
            with contextlib.suppress(FileNotFoundError):
                return [name for name, is_ours in attachments.names(session.folder) if is_ours]
            return []

    def delete_attachments(self, stage: str, ids: Iterable[str]) -> None:
        with self.session(stage) as session, as_our_errors("delete attachments of", session.path, stage):
            if session.folder >= 0:
                with contextlib.suppress(FileNotFoundError):
                    attachments.delete(session.folder, ids)

    # Records

    def read_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        limit: int,
        known: Record | None = None,
        session: Session | None = None,
    ) -> Record | None:
        if stage is not None and not isinstance(session, LocalSession):
            with self.session(stage) as own:
                return self.read_record(name, stage, limit=limit, known=known, session=own)
        place, folder = (name, session.folder) if stage and isinstance(session, LocalSession) else (self._keyring, None)
        if folder == -1:
            return None
        try:
            if self._is_shared and folder is None:
                ask_again(self.location)
            status = os.lstat(place, dir_fd=folder)  # most stages have no such record, or an old one
            if known is not None and known.stamp == stamp(status):
                return known
            with files.OpenFile(place, folder) as file:
                if file.size > limit:
                    message = f"{name} in {self.location} is {file.size} bytes long, and the limit is {limit}"
                    raise IntegrityError(message, hint="Restore it from a backup", stage=stage)
                return Record(file.read(limit), stamp(file.status))
        except FileNotFoundError:
            return None
        except (OSError, files.NotAFileError) as error:
            if isinstance(session, LocalSession) and stage is not None:
                translate(error, f"read the {name} of", session.path, stage)
            translate(error, "read the keyring", self._keyring)
            raise

    def write_record(
        self,
        name: RecordName,
        stage: str | None = None,
        *,
        data: bytes,
        expected: Record | None,
        session: Session | None = None,
    ) -> Record:
        try:
            return self._write_record(name, stage, data, expected, session)
        except StorageError as error:
            is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            if not is_full or stage is None or not folders.free_reserve(self.location):
                raise
            refusal = error
        try:
            return self._write_record(name, stage, data, expected, session)
        except RecordChangedError:  # by the first try, which was refused something only after that
            raise refusal from None

    def _write_record(
        self, name: RecordName, stage: str | None, data: bytes, expected: Record | None, session: Session | None
    ) -> Record:
        file_name = layout.KEYRING if stage is None else name
        with self._folder_to_write(stage, session) as folder:
            if stage is None and stage not in self._tidied:
                self._remove_leftovers(stage, folder, 0)
            with files.temporary(folder) as temporary:
                files.write_new(temporary, folder, [data], durable=True)
                if not self._is_still(expected, file_name, folder):
                    raise RecordChangedError
                _put_record(temporary, file_name, folder, first=expected is None)
            files.sync(folder)
            return Record(data, stamp(os.lstat(file_name, dir_fd=folder)))

    def _is_still(self, expected: Record | None, file_name: str, folder: int) -> bool:
        try:
            with files.OpenFile(file_name, folder) as file:
                return expected is not None and file.read(len(expected.data) + 1) == expected.data
        except FileNotFoundError:
            return expected is None

    @contextlib.contextmanager
    def _folder_to_write(self, stage: str | None, session: Session | None) -> Iterator[int]:
        if stage is None:
            with as_our_errors("write the keyring", self.location), files.open_directory(self.location) as folder:
                yield folder
        elif isinstance(session, LocalSession):
            with as_our_errors("write a record of", session.path, stage):
                if session.folder < 0:
                    session.make()
                yield session.folder
        else:
            with self.session(stage) as own, self._folder_to_write(stage, own) as folder:
                yield folder

    def close(self) -> None:
        self._sessions.close()
        self._kept_locks.close()
        self._kept_files.close()


def _put_record(temporary: str, name: str, directory: int, *, first: bool) -> None:
    """Rename a temporary file to a record's name; if it is the first such record, only if the name is free."""
    if not first:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    try:
        files.publish(temporary, name, directory)
    except FileExistsError:
        raise RecordChangedError from None
