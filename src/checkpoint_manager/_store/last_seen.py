r"""What this user has seen of a store, kept outside the store: the only defence against a rollback to an older copy.

A directory whose files are all from yesterday looks intact. So this user's state directory holds, for each store and stage, the
number and id of the newest version, and the serial numbers of the keyring and of the stage's records; and for each location,
the id of the store that was there::

    <state>/<store id>/<sha256 of the stage's name, 40 hex digits>   "000000000012 <id> <stage as JSON>\n"
    <state>/<store id>/<the same>.tags                               "000000000002 <id of the record of tags>\n"
    <state>/<store id>/<the same>.gaps                               "000000000002 <id of the record of gaps>\n"
    <state>/<store id>/<the same>.folder                             see checkpoint_manager.backends.local.folder_note
    <state>/<store id>/<sha256 of nothing, 40 hex digits>.index      "000000000002 <id of the record of the index>\n"
    <state>/<store id>/keyring         "000000000003 <sha256 of its bytes> <id of its active key> <its public key in hex>\n"
    <state>/locations/<sha256 of the location, 40 hex digits>        "<store id> <location>\n"

A line is written after what it describes is durable, and read before the store is, so it is never ahead of the store. It is not
synced: after a power cut it may be behind the store, which causes no false alarm. A damaged or unreadable line counts as
missing; a failing medium, or too many open files, is an error.

Processes that save to one stage in turn leave more behind the line of the version: the state in which they leave the stage, in
the words of its backend. A process that finds the stage in that state goes on from there, as the one that left it would::

    <id of the version> <its time in microseconds since 1970, 16 digits> <state>;

Whoever only reads or replaces the line need not know of it: behind the line of another version, it counts for nothing.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import time
from typing import TYPE_CHECKING, Literal, TypeAlias

from checkpoint_manager._filesystem import user_directories
from checkpoint_manager._filesystem.descriptors import Descriptor, Kept, make_room
from checkpoint_manager._filesystem.file_times import FileTimes, stamp
from checkpoint_manager._filesystem.files import NO_ATIME
from checkpoint_manager._filesystem.os_errors import HINTS_BY_ERRNO, is_refusal, passing_over_refusals
from checkpoint_manager._filesystem.permissions import exposed_parent, is_foreign, make_private_directories
from checkpoint_manager._format import documents
from checkpoint_manager._format.digest import sha256
from checkpoint_manager._format.keyring import SeenKeyring
from checkpoint_manager._lazy_log import LOG as _LOG
from checkpoint_manager._loading import load
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    from pathlib import Path

    from checkpoint_manager._filesystem.file_times import Stamp

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_VERSION = re.compile(rb"([0-9]{12}) ([0-9a-f]{32}) (.+)\n", re.DOTALL)
_RECORD = rb"([0-9]{12,19}) ([0-9a-f]{32})\n"
"""Compiled on first use: few stages have records."""
_KEYRING = re.compile(rb"([0-9]{12,19}) ([0-9a-f]{64})(?: ([0-9a-f]{16}) ([0-9a-f]{64}))?\n")
KEYRING = "keyring"
"""The name of the file in which the newest keyring is remembered."""
_MOST_LOCATIONS = 1000
"""How many are looked at for copies of a store."""
_LOCATION = re.compile(rb"([0-9a-f]{32}) .+\n", re.DOTALL)
_MAX_BYTES = 8192
_MOST_AT_FIRST = 16
"""How many lines are kept open when each was read for the first time."""
_NOWHERE = "/dev/null/no state directory"
"""Nothing can be read or written there."""
_NOTHING_TO_READ = {
    errno.ENOENT,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENXIO,
    errno.ESPIPE,
    errno.EACCES,
    errno.EPERM,
}

SeenRecordName: TypeAlias = Literal["tags", "gaps", "index"]


class SeenVersion(NamedTuple):
    """The newest version of a stage that this user has seen."""

    version: int
    id: str


class SeenLine(NamedTuple):
    """The line about the newest version of a stage, as the arguments of :meth:`LastSeen.write`."""

    name: str
    pattern: re.Pattern[bytes]
    version: int
    line: bytes
    rest: bytes
    left: bytes = b""

    def with_state(self, microseconds: float, state: bytes) -> SeenLine:
        """Return the line of a version with the state in which its save has left the stage; arguments as in :class:`Left`."""
        return SeenLine._make((*self[:5], b"%b %016d %b;" % (self.line[13:45], microseconds, state)))


class Left(NamedTuple):
    """The newest version that this user has seen of a stage, and the state in which its save left the stage.

    Attributes:
        version: Its number.
        id: Its id.
        microseconds: Its time, since 1970.
        state: The state, in the words of the backend.
    """

    version: int
    id: str
    microseconds: int
    state: bytes


class SeenRecord(NamedTuple):
    """The newest record of a stage, of tags or of gaps, that this user has seen. Serial 0: none."""

    serial: int
    id: str


class Line(NamedTuple):
    """A line of this user's memory as it was read, to find out whether another one was written since.

    Attributes:
        line: The line; nothing if there was none.
        since: What changes when another one is written; None if it might not.
    """

    line: bytes
    since: Stamp | None


class _Folder:
    """A folder of lines in the user's state directory.

    Args:
        name: Its name.
        state: The user's state directory for this library; found if None.
    """

    def __init__(self, name: str, state: Path | None = None) -> None:
        self._directory = _NOWHERE
        self._times = FileTimes(_NOWHERE)
        self._warned = False
        self._kept: Kept[Descriptor] = Kept()
        try:
            directory = os.path.join(state or state_directory(), name)
            self._times = FileTimes(directory)
            _make_private(directory)
            self._directory = directory
        except CheckpointError as error:
            self._warn(str(error))
        except OSError as error:
            if not is_refusal(error):
                raise
            self._directory = directory
            self._warn(f"{directory}: {error.strerror}")

    def _read(self, name: str) -> bytes:
        return self._examine(name)[0]

    def _examine(self, name: str) -> tuple[bytes, os.stat_result | None]:
        """Return a line, and the status that its file had before; None if that is not known."""
        status = None
        try:
            file = self._kept.pop(name, None)
            if file is not None:
                status = os.fstat(file.number)
            if file is None or status is None or not status.st_nlink:  # it was removed: the name may lead to another one
                file, status = self._open(name, _OPEN)
            line = os.pread(file.number, _MAX_BYTES, 0)
        except FileNotFoundError:
            return b"", None
        except OSError as error:
            return self._read_only(name, error), None
        self._kept[name] = file
        return line, status

    def _glance(self, name: str) -> bytes:
        """Return a line as :meth:`_read` does, and keep no file open: there may be many, each of which is read once."""
        try:
            file = Descriptor(os.open(f"{self._directory}/{name}", _READ))
            _refuse_foreign(file)
            return os.pread(file.number, _MAX_BYTES, 0)
        except OSError as error:
            return self._read_only(name, error)

    def _read_only(self, name: str, refused: OSError) -> bytes:
        """Return a line that can't be opened to be changed as well; nothing if there is none, or it is not this user's."""
        path, error = f"{self._directory}/{name}", refused
        if refused.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            try:
                file = Descriptor(os.open(path, _READ))  # with a name, for it closes itself when nothing refers to it
                _refuse_foreign(file)
                return os.pread(file.number, _MAX_BYTES, 0)
            except OSError as again:
                error = again
        if error.errno in _NOTHING_TO_READ:
            return b""
        if not is_refusal(error):
            raise error
        message = f"can't read what was seen of this store: {path}: {error.strerror}; nothing was changed"
        hint = HINTS_BY_ERRNO.get(error.errno or 0, "Try again")
        raise StorageError(message, hint=hint, errno=error.errno, filename=path) from error

    def _open(self, name: str, flags: int) -> tuple[Descriptor, os.stat_result]:
        file = Descriptor(os.open(f"{self._directory}/{name}", flags, 0o600))
        status = _refuse_foreign(file)
        make_room()
        return file, status

    def write(
        self,
        name: str,
        pattern: re.Pattern[bytes] | bytes,
        number: int,
        line: bytes,
        rest: bytes = b"",
        left: bytes = b"",
        *,
        even_if_older: bool = False,
    ) -> None:
        """Write a line unless a newer one is there. What fails is warned of once, and never fails the operation.

        ``line`` replaces bytes within one sector, so the file holds the old line or the new one at any time. ``rest`` never
        changes and is written with the first line. ``left`` is written behind it, if there is any.
        """
        try:
            file = self._kept.pop(name, None)
            if file is None or not os.fstat(file.number).st_nlink:
                file = self._made(name)
            line_there = os.pread(file.number, _MAX_BYTES, 0)
            present = re.match(pattern, line_there) if isinstance(pattern, bytes) else pattern.match(line_there)
            if present is None:
                os.ftruncate(file.number, 0)
                os.pwrite(file.number, line + rest + left, 0)
            elif even_if_older or int(present[1]) < number:
                os.pwrite(file.number, line + rest + left if left else line, 0)
            self._kept[name] = file
        except CheckpointError as error:
            self._warn(str(error))
        except OSError as error:
            if not is_refusal(error):
                raise
            self._warn(f"{self._directory}: {error.strerror}")

    def _made(self, name: str) -> Descriptor:
        """Open a line to be changed, which is made if it is not there, and its folder, too.

        Raises:
            StorageError: The folder was removed, and is now that of another user.
        """
        try:
            return self._open(name, _OPEN | os.O_CREAT)[0]
        except FileNotFoundError:
            _make_private(self._directory)
            self._tell_of_removal()
            return self._open(name, _OPEN | os.O_CREAT)[0]

    def _tell_of_removal(self) -> None:
        _LOG.warning(
            "What was seen of this store was removed while it was in use (%s), and is remembered again from here on: "
            "an older copy of a stage is noticed once that was seen again",
            self._directory,
        )

    def _warn(self, why: str) -> None:
        if not self._warned:
            self._warned = True
            _LOG.warning(
                "What was seen of this store can't be remembered (%s): "
                "an older copy of the directory put in its place would not be noticed. "
                "Give this user a writable home, or set XDG_STATE_HOME",
                why,
            )


class SeenLocations(_Folder):
    """Which store this user has seen at each location."""

    def __init__(self, state: Path | None = None) -> None:
        super().__init__("locations", state)

    def recall(self, location: str) -> str | None:
        """Return the id of the store that was seen at a location, or None."""
        match = _LOCATION.match(self._read(_file_of_location(location)))
        return match[1].decode() if match else None

    def remember(self, location: str, store_id: str) -> None:
        """Write down which store is at a location."""
        rest = f"{location!a}\n".encode()
        self.write(_file_of_location(location), _LOCATION, 0, f"{store_id} ".encode(), rest, even_if_older=True)

    def others(self, store_id: str, location: str) -> list[str]:
        """Return the other locations at which this user has seen a store, sorted."""
        try:
            files = sorted(os.listdir(self._directory))[:_MOST_LOCATIONS]
        except OSError as error:
            if not is_refusal(error):
                raise
            return []
        found = set()
        for name in files:
            match = _LOCATION.match(self._read(name))
            if match is not None and match[1].decode() == store_id:
                with contextlib.suppress(ValueError, SyntaxError):
                    found.add(str(load("ast").literal_eval(match[0][33:-1].decode("ascii"))))
        return sorted(each for each in found - {location} if _file_of_location(each) in files)

    def _tell_of_removal(self) -> None:
        """Say nothing: what is removed here is removed for :class:`LastSeen`, too."""

    def _warn(self, why: str) -> None:
        """Say nothing: what fails here fails for :class:`LastSeen`, too."""


class LastSeen(_Folder):
    """What this user has seen of one store.

    Args:
        store_id: The store's id, which is the folder's name.
        state: The user's state directory for this library; found if None.
    """

    def recall(self, stage: str) -> SeenVersion | None:
        """Return the newest version of a stage that was seen, or None."""
        return self.recall_with_status(stage)[0]

    def recall_with_status(self, stage: str) -> tuple[SeenVersion | None, os.stat_result | None]:
        """Return the same, and the status of its file from before it was read, for :meth:`stamp`."""
        line, status = self._examine(_file_of(stage))
        match = _VERSION.match(line)
        return (SeenVersion(int(match[1]), match[2].decode()) if match else None), status

    def recall_at_first(self, stage: str) -> tuple[SeenVersion, os.stat_result] | None:
        """Return what :meth:`recall_with_status` returns, unless there is more to tell.

        There is if no version was seen, or a record of gaps, and if the line is open already or can't be opened.

        Only the first few are kept open: as a rule, the others are many that are asked about once.
        """
        name = _file_of(stage)
        path = f"{self._directory}/{name}"
        if name in self._kept:
            return None
        try:
            try:
                os.lstat(f"{path}.gaps")
            except FileNotFoundError:
                number = os.open(path, _OPEN | NO_ATIME)
            else:
                return None
            try:
                status = os.fstat(number)
                is_own = not is_foreign(status)
                line = os.pread(number, _MAX_BYTES, 0) if is_own else b""
            except BaseException:
                os.close(number)
                raise
            if is_own and len(self._kept) < _MOST_AT_FIRST:
                self._kept[name] = Descriptor(number)
                make_room()
            else:
                os.close(number)
        except OSError as error:
            if not is_refusal(error):
                raise
            return None
        match = _VERSION.match(line)
        return None if match is None else (SeenVersion._make((int(match[1]), match[2].decode())), status)

    def stamp(self, status: os.stat_result, now: int) -> Stamp | None:
        """Return what changes when another version is remembered; None if it might not.

        Args:
            status: What :meth:`recall_with_status` returned.
            now: The time before that, in nanoseconds since 1970.
        """
        return stamp(status) if self._times.is_settled(status, now) else None

    def is_unchanged(self, stage: str, since: Stamp) -> bool:
        """Return whether no other version of a stage was remembered; False if that is not certain."""
        return self._is_unchanged(_file_of(stage), since)

    def _is_unchanged(self, name: str, since: Stamp) -> bool:
        kept = self._kept.get(name)
        try:  # another thread may close what is kept; whatever file has its number then is another one
            status = os.lstat(f"{self._directory}/{name}") if kept is None else os.fstat(kept.number)
        except OSError as error:
            if not is_refusal(error):  # of the caller's signal handler
                raise
            return False
        return stamp(status) == since

    def is_same(self, name: str, before: Line) -> bool:
        """Return whether a line is still the one that was read before."""
        return (before.since is not None and self._is_unchanged(name, before.since)) or self._read(name) == before.line

    def line(self, name: str) -> Line:
        """Return a line by the name of its file."""
        now = time.time_ns()
        line, status = self._examine(name)
        return Line(line, None if status is None else self.stamp(status, now))

    def is_still(self, stage: str, version: int, version_id: str) -> bool:
        """Return whether this version is the newest one that was seen of a stage; False if that is not certain."""
        return self._kept_line(stage).startswith(b"%012d %b " % (version, version_id.encode()))

    def left(self, stage: str) -> Left | None:
        """Return the newest version that was seen of a stage, with the state in which its save left it, if both are there."""
        line, _, behind = self._kept_line(stage).rpartition(b"\n")
        left, end, _ = behind.partition(b";")
        version, version_id, microseconds, state = line[:12], line[13:45], left[33:49], left[50:]
        if not end or left[:32] != version_id or not (version.isdigit() and microseconds.isdigit()):
            return None
        return Left(int(version), version_id.decode(), int(microseconds), state)

    def _kept_line(self, stage: str) -> bytes:
        """Return the line of a stage if it is open and has its name; nothing if that is not certain."""
        name = _file_of(stage)
        file = self._kept.pop(name, None)
        if file is None:
            return b""
        try:
            line = os.pread(file.number, _MAX_BYTES, 0)
            is_there = os.fstat(file.number).st_nlink > 0
        except OSError as error:
            if not is_refusal(error):
                raise
            return b""
        self._kept[name] = file
        return line if is_there else b""

    def remember(self, stage: str, seen: SeenVersion) -> None:
        """Write down the newest version of a stage; it never replaces a newer one."""
        self.write(*seen_line(stage, seen.version, seen.id))

    def forget(self, stage: str) -> None:
        """Drop what was seen of a stage, after its user has accepted a rollback."""
        with passing_over_refusals():
            os.unlink(f"{self._directory}/{_file_of(stage)}")

    def recall_folder(self, stage: str) -> bytes:
        """Return the note of a stage's folder; nothing if there is none."""
        return self._read(f"{_file_of(stage)}.folder")

    def remember_folder(self, stage: str, note: bytes) -> None:
        """Write down a note of a stage's folder, a line, in place of the last one."""
        self.write(f"{_file_of(stage)}.folder", rb"", 0, note, even_if_older=True)

    def stages(self) -> list[str]:
        """Return the names of all stages that were ever seen."""
        try:
            files = sorted(os.listdir(self._directory))
        except OSError as error:
            if not is_refusal(error):
                raise
            return []
        return sorted(
            stage for name in files if (stage := _stage_in(self._glance(name))) is not None and _file_of(stage) == name
        )

    def recall_record(self, stage: str, name: SeenRecordName) -> SeenRecord:
        """Return the newest record of this name that was seen of a stage."""
        return seen_record(self._read(file_of_record(stage, name)))

    def remember_record(self, stage: str, name: SeenRecordName, seen: SeenRecord) -> None:
        """Write down the newest record of this name of a stage; it never replaces a newer one."""
        self.write(file_of_record(stage, name), _RECORD, seen.serial, f"{seen.serial:012d} {seen.id}\n".encode())

    def remember_keyring(self, seen: SeenKeyring, *, even_if_older: bool = False) -> None:
        """Write down the newest keyring; it never replaces a newer one unless its user accepts an older one."""
        line = f"{seen.serial:012d} {seen.digest} {seen.key_id} {seen.public}\n".encode()
        self.write(KEYRING, _KEYRING, seen.serial, line, even_if_older=even_if_older)


def file_of_record(stage: str, name: SeenRecordName) -> str:
    """Return the name of the file in which the newest record of this name of a stage is remembered."""
    return f"{_file_of(stage)}.{name}"


def seen_record(line: bytes) -> SeenRecord:
    """Return what such a file says."""
    match = re.match(_RECORD, line) if line else None
    return SeenRecord(int(match[1]), match[2].decode()) if match else SeenRecord(0, "")


def seen_keyring(line: bytes) -> SeenKeyring | None:
    """Return what the line about the newest keyring says; None if it says nothing."""
    match = _KEYRING.match(line)
    if match is None:
        return None
    digest, key_id, public = ((group or b"").decode() for group in match.groups()[1:])
    return SeenKeyring(int(match[1]), digest, key_id, public)


def seen_line(stage: str, version: int, version_id: str) -> SeenLine:
    """Return the line about a version, the newest of a stage."""
    name = documents.dumps(stage) + b"\n"
    return SeenLine(_file_of(stage), _VERSION, version, f"{version:012d} {version_id} ".encode(), name)


def state_directory() -> str:
    """Return the user's state directory for this library.

    Raises:
        CheckpointError: This user has no home directory, and XDG_STATE_HOME is not set.
    """
    directory = user_directories.state_directory()
    if directory is None:
        raise CheckpointError("this user has no home directory", hint="Set HOME or XDG_STATE_HOME")
    return directory


def _refuse_foreign(file: Descriptor) -> os.stat_result:
    """Return a file's status; raise an OSError if another user planted it while the folder was open to others.

    Earlier versions of the library left the folder's mode to the umask. The owner of the file can still change it by another
    name.
    """
    status = os.fstat(file.number)
    if is_foreign(status):
        raise PermissionError(errno.EPERM, "a file in it belongs to another user")
    return status


def _make_private(directory: str) -> None:
    """Make a folder of the state directory, and ensure that no other user can change its content.

    Raises:
        StorageError: It belongs to another user.
    """
    make_private_directories(directory)
    for place in (os.path.dirname(directory), directory):
        status = os.stat(place)
        if is_foreign(status):
            raise StorageError(f"{place} belongs to another user", hint="Move it away", filename=place)
        if status.st_mode & 0o077:
            os.chmod(place, 0o700)  # an earlier version of the library left it to the umask
    if exposed := exposed_parent(os.path.dirname(directory)):
        _LOG.warning(
            "Others may replace what was seen of this store, because they may write to %s: "
            "an older copy of the store could then pass unnoticed",
            exposed,
        )


@functools.lru_cache(maxsize=16_384)
def _file_of(stage: str) -> str:
    return sha256(stage.encode())[:40]


def _stage_in(line: bytes) -> str | None:
    """Return the name of the stage that a line speaks of; None if it is damaged, or speaks of something else."""
    match = _VERSION.match(line)
    try:
        stage = documents.loads(match[3]) if match else None
    except ValueError:
        return None
    return stage if isinstance(stage, str) and stage else None


def _file_of_location(location: str) -> str:
    return sha256(os.fsencode(location))[:40]
