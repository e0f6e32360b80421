"""Around the save protocol: making directories, the record's own steps, and finding what lies about."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager.backends import stage_names as names
from checkpoint_manager.backends.base import RecordChangedError, Stray, VersionAbsentError
from checkpoint_manager.backends.local import layout as tree

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

    from checkpoint_manager.backends.base import Backend

OTHERS_MAY_WRITE = 0o022
_OTHERS_MAY_ANYTHING = 0o077
_OPENING_BYTES = 512
"""What lies in these first bytes is random in each version."""


def make_store_directory(path: str) -> None:
    """Make the store's directory and the parents it lacks, durably, as long as there is no keyring in it."""
    missing: list[str] = []
    here = path
    while not os.path.isdir(here):
        missing.append(here)
        here = os.path.dirname(here)
    for directory in reversed(missing):
        files.make_directory(directory)
    if not os.path.lexists(os.path.join(path, tree.KEYRING)):
        _sync_names_up_to(path)


def _sync_names_up_to(path: str) -> None:
    while path != (parent := os.path.dirname(path)):
        if os.access(parent, os.R_OK):  # one that can't be read was not made by us
            files.sync_directory(parent)
        path = parent


def make_stage_directory(root: str, stage: str) -> None:
    """Make the directory of a stage, with the history's if need be."""
    files.make_directory(os.path.join(root, tree.HISTORY))
    with files.open_directory(os.path.join(root, tree.HISTORY)) as history:
        files.make_directory(names.to_filename(stage), history)


def name_stage_directory(stage: str, directory: int) -> None:
    """Write a stage's name into its directory, durably, where it is too long for a file's name."""
    if names.is_hashed(names.to_filename(stage)) and not files.exists(tree.STAGE, directory):
        temporary = files.write_temporary(directory, [stage.encode()], durable=True)
        try:
            os.rename(temporary, tree.STAGE, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            files.remove(temporary, directory)  # still there if that failed
        files.sync(directory)


def sync_stage_names(root: str) -> None:
    """Make the names of the history and of each stage's directory durable, whoever made them."""
    files.sync_directory(root)
    files.sync_directory(os.path.join(root, tree.HISTORY))


def stage_directories(history: str) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each entry of the history with the stage it belongs to; None: to none that can be told."""
    try:
        descriptor = files.directory_descriptor(history)
    except FileNotFoundError:
        return
    try:
        for name in sorted(os.listdir(descriptor)):
            yield name, names.from_filename(name) or _hashed_stage(name, descriptor)
    finally:
        os.close(descriptor)


def _hashed_stage(name: str, history: int) -> str | None:
    if not names.is_hashed(name):
        return None
    try:
        with (
            files.open_directory(name, history) as directory,
            files.OpenFile(tree.STAGE, directory) as file,
        ):
            stage = file.read(tree.MAX_STAGE_NAME_BYTES).decode()
            return stage if names.to_filename(stage) == name else None
    except (OSError, ValueError, files.NotAFileError):
        return None


def stamp(status: os.stat_result) -> Hashable:
    """Return what changes when the file does: every record is a new file."""
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def put_record(temporary: str, name: str, directory: int, *, first: bool) -> None:
    """Give a record its name; the first one exclusively."""
    if not first:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    try:
        files.publish(temporary, name, directory)
    except FileExistsError:
        raise RecordChangedError from None


def put_mark(root: str, stage: str, version: int, directory: int) -> None:
    """Point a stage's mark at a version."""
    try:
        temporary = files.second_name(tree.version_name(version), directory)
    except FileNotFoundError:
        raise VersionAbsentError from None
    try:
        os.rename(temporary, os.path.join(root, tree.mark_name(stage)), src_dir_fd=directory)
    finally:
        files.remove(temporary, directory)  # still there if the mark was this very file: then rename does nothing


def move_to_damaged(root: str, stage: str, name: str, directory: int) -> str:
    """Move a version's or a record's file, or whatever stands in its place, to the folder of damaged files."""
    folder = os.path.join(root, tree.DAMAGED)
    files.make_directory(folder)
    files.sync_directory(root)
    aside = f"{names.to_filename(stage)}-{secrets.token_hex(4)}-{name}"
    with files.open_directory(folder) as damaged:
        try:
            os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=damaged)
        except FileNotFoundError:
            raise VersionAbsentError from None
        files.sync(damaged)
    files.sync(directory)
    return os.path.join(folder, aside)


def sweep(directory: int) -> None:
    """Remove all temporary files in a directory that nobody writes to."""
    with files.entries(directory) as entries:
        leftovers = [entry.name for entry in entries if tree.TEMPORARY.fullmatch(entry.name)]
    for name in leftovers:
        files.remove(name, directory)


def find_strays(backend: Backend) -> list[Stray]:
    """Look at every name in the store; see :class:`Stray` for what is reported."""
    root = backend.location
    history = os.path.join(root, tree.HISTORY)
    found = list(_strays_at_the_top(root))
    for name, stage in stage_directories(history):
        path = os.path.join(history, name)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            found.append(Stray("displaced", path, "stands where only folders of stages belong", stage))
            continue
        if stage is None:
            found.append(_nameless(name, path))
            continue
        found += _exposed(path, stage)
        found += _strays_of_a_stage(path, stage)
        newest = backend.newest(stage)
        if newest and not _is_mark_of(root, stage, newest):
            mark = os.path.join(root, tree.mark_name(stage))
            found.append(Stray("stale mark", mark, "is not the newest version", stage))
    return sorted(found, key=lambda stray: stray.path)


def _nameless(name: str, path: str) -> Stray:
    if names.is_hashed(name) and all(tree.TEMPORARY.fullmatch(inside) for inside in os.listdir(path)):
        return Stray("leftover", path, "was made by a first save that was interrupted")
    return Stray("unknown", path, "is no folder of a stage")


def sweep_directory(name: str, parent: int) -> bool:
    """Remove a stage's folder that has neither a name nor versions; the caller holds the stage's lock."""
    with files.open_directory(name, parent) as directory:
        sweep(directory)
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:  # it has something in it by now
        return False
    return True


def _is_mark_of(root: str, stage: str, version: int) -> bool:
    """Whether the mark is the version: one file with two names or, without hard links, a copy."""
    place = os.path.join(root, tree.HISTORY, names.to_filename(stage), tree.version_name(version))
    mark = os.path.join(root, tree.mark_name(stage))
    try:
        if os.path.samestat(os.lstat(place), os.lstat(mark)):
            return True
        with files.OpenFile(place) as version_file, files.OpenFile(mark) as mark_file:
            return version_file.size == mark_file.size and version_file.read(_OPENING_BYTES) == mark_file.read(_OPENING_BYTES)
    except (OSError, files.NotAFileError):
        return False


def _strays_at_the_top(root: str) -> Iterator[Stray]:
    if stat.S_IMODE(os.stat(root).st_mode) & OTHERS_MAY_WRITE:
        yield Stray("exposed", root, "may be written to by other users of this host: chmod go-w")
    for name in sorted(os.listdir(root)):
        path = os.path.join(root, name)
        if tree.TEMPORARY.fullmatch(name):
            yield Stray("leftover", path, "was left by an interrupted write")
        elif name in {tree.KEYRING, tree.HISTORY, tree.LOCKS, tree.DAMAGED}:
            yield from _exposed(path, None)
        elif not (name.endswith(tree.SUFFIX) and _has_history(root, name)):
            yield Stray("unknown", path, "is nothing of this store")


def _has_history(root: str, mark: str) -> bool:
    return os.path.isdir(os.path.join(root, tree.HISTORY, mark.removesuffix(tree.SUFFIX)))


def _strays_of_a_stage(path: str, stage: str) -> Iterator[Stray]:
    with os.scandir(path) as entries:
        for entry in entries:
            if tree.TEMPORARY.fullmatch(entry.name):
                yield Stray("leftover", entry.path, "was left by an interrupted write", stage)
            elif tree.version_of(entry.name) is not None or entry.name in {tree.GAPS, tree.TAGS, tree.STAGE}:
                yield from _exposed(entry.path, stage)
            else:
                yield Stray("unknown", entry.path, "is nothing of this store", stage)


def _exposed(path: str, stage: str | None) -> Iterator[Stray]:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISLNK(status.st_mode) and mode & _OTHERS_MAY_ANYTHING:
        yield Stray("exposed", path, f"has mode {mode:04o}, open to others: chmod go= ", stage)
