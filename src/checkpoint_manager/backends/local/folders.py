"""The folders of a store: make, name and list them, reserve space, and tell whom they are open to."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import is_refusal, passing_over_refusals
from checkpoint_manager._filesystem.permissions import exposed_parent, is_foreign, others_may_write, user_name
from checkpoint_manager._loading import load
from checkpoint_manager._text import printable
from checkpoint_manager.backends.local import layout, pending
from checkpoint_manager.backends.maintenance import Leftover
from checkpoint_manager.backends.stage_names import from_filename, is_hashed, to_filename
from checkpoint_manager.errors import LocationError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator

OTHERS_MAY_WRITE = 0o022
_OTHERS_MAY_ANYTHING = 0o077
_RESERVE_BYTES = 64 * 1024
"""Larger than the record of a few thousand deletions, and small enough for a file system of 1 MiB."""


def make_store_directory(path: str) -> None:
    """Make the store's directory and its missing parents. Until it holds a keyring, make their names durable, too.

    Raises:
        LocationError: It holds no store, and lies in a folder of another store, where it would count as damage.
    """
    is_begun = os.path.lexists(os.path.join(path, layout.KEYRING))
    if not is_begun and not os.path.lexists(os.path.join(path, layout.HISTORY)):  # of a store whose keyring is gone
        _refuse_inside_of_a_store(path)
    missing: list[str] = []
    here = path
    while not os.path.isdir(here):
        missing.append(here)
        here = os.path.dirname(here)
    for directory in reversed(missing):
        files.make_directory(directory)
    if not is_begun:
        _sync_names_up_to(path)


def _refuse_inside_of_a_store(path: str) -> None:
    folder = path
    while folder != (above := os.path.dirname(folder)):
        if os.path.basename(folder) in layout.FOLDERS and os.path.lexists(os.path.join(above, layout.KEYRING)):
            message = f"no store can be made at {printable(path)}: {printable(folder)} belongs to the store {printable(above)}"
            raise LocationError(message, hint="Choose a directory outside of that store")
        folder = above


def _sync_names_up_to(path: str) -> None:
    while path != (parent := os.path.dirname(path)):
        if os.access(parent, os.R_OK):  # an unreadable parent was there before
            files.sync_directory(parent)
        path = parent


def owner_of_new_files(path: str) -> int | None:
    """Return the user id that owns a new file in this directory, or None if no file can be made."""
    with passing_over_refusals(), files.open_directory(path) as folder, files.temporary(folder) as name:
        files.write_new(name, folder, [], durable=False)
        return os.lstat(name, dir_fd=folder).st_uid
    return None


def name_stage_directory(stage: str, directory: int) -> None:
    """Write the stage's name into its directory, durably, if the name is too long to be a file name."""
    if is_hashed(to_filename(stage)) and not files.exists(layout.STAGE, directory):
        with files.temporary(directory) as temporary:
            files.write_new(temporary, directory, [stage.encode()], durable=True)
            os.rename(temporary, layout.STAGE, src_dir_fd=directory, dst_dir_fd=directory)
        files.sync(directory)


def sync_stage_names(root: str) -> None:
    """Make the names of the history and of all stage directories durable, including those another process made."""
    files.sync_directory(root)
    files.sync_directory(os.path.join(root, layout.HISTORY))


def stage_directories(history: int, known: Container[str] = ()) -> Iterator[tuple[str, str | None]]:
    """Yield each name in the history directory, but for those that are known, with its stage, or None if that is unknown."""
    with files.entries(history) as entries:
        for entry in entries:
            if entry.name not in known:
                yield entry.name, from_filename(entry.name) or _hashed_stage(entry.name, history)


def head_names(root: str) -> set[str]:
    """Return the file names of the stages that have a head. It may be the only name that is left of a version."""
    with files.open_directory(root) as top, files.entries(top) as entries:
        return {
            entry.name.removesuffix(layout.SUFFIX)
            for entry in entries
            if entry.name.endswith(layout.SUFFIX) and entry.is_file(follow_symlinks=False)
        }


def _hashed_stage(name: str, history: int) -> str | None:
    if not is_hashed(name):
        return None
    try:
        with (
            files.open_directory(name, history) as directory,
            files.OpenFile(layout.STAGE, directory) as file,
        ):
            stage = file.read(layout.MAX_STAGE_NAME_BYTES).decode()
            return stage if to_filename(stage) == name else None
    except (OSError, ValueError, files.NotAFileError) as error:
        if isinstance(error, OSError) and not is_refusal(error):
            raise
        return None


def find_nameless(root: str, known: set[str]) -> list[str]:
    """Return the paths of heads and folders whose names are hashes, and are not among the file names of known stages."""
    found = [f"{name}{layout.SUFFIX}" for name in head_names(root)]
    with contextlib.suppress(FileNotFoundError), files.open_directory(os.path.join(root, layout.HISTORY)) as history:
        found += [
            os.path.join(layout.HISTORY, name)
            for name, stage in stage_directories(history)
            if stage is None and _holds_versions(name, history)
        ]
    names = {path: os.path.basename(path).removesuffix(layout.SUFFIX) for path in found}
    return sorted(os.path.join(root, path) for path, name in names.items() if is_hashed(name) and name not in known)


def _holds_versions(name: str, history: int) -> bool:
    try:
        with files.open_directory(name, history) as folder:
            return any(pending.listed(folder))
    except (FileNotFoundError, files.NotAFileError):
        return False


def remove_temporary_files(names: Iterable[str], directory: int) -> None:
    """Remove those of the names in a directory that are temporary files.

    The caller must hold the lock, so that no writer is using them.
    """
    for name in names:
        if layout.is_temporary(name) and not files.is_directory(name, directory):
            files.remove(name, directory)


def exposed(path: str, status: os.stat_result, stage: str | None) -> Iterator[Leftover]:
    """Yield a file or folder of the store that another user owns, or could read or change."""
    mode = stat.S_IMODE(status.st_mode)
    if is_foreign(status):
        yield Leftover("exposed", path, f"belongs to {user_name(status.st_uid)}, who can change it", stage)
    elif not stat.S_ISLNK(status.st_mode) and mode & _OTHERS_MAY_ANYTHING:
        yield Leftover("exposed", path, f"is open to other users of this host (mode {mode:04o}): chmod go=", stage)


def remove_unused_folder(name: str, parent: int) -> bool:
    """Remove a stage's folder if only temporary files are in it. The caller must hold the stage's lock."""
    with files.open_directory(name, parent) as directory:
        remove_temporary_files(files.names(directory), directory)
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:  # a writer has used it meanwhile
        if not is_refusal(error):
            raise
        return False
    return True


def warnings_about(directory: str) -> list[str]:
    """Return how other users of this host could delete or replace what is in a directory, one sentence each."""
    status = os.stat(directory)
    exposed_above = exposed_parent(directory)
    where = printable(directory)
    found = []
    if is_foreign(status):
        found.append(f"{where} belongs to {user_name(status.st_uid)}, who may delete and replace what is in it")
    if others_may_write(status):
        mode = stat.S_IMODE(status.st_mode)
        found.append(
            f"Other users of this host may write to {where} (mode {mode:04o}): "
            f"they can't read or forge checkpoints, but they can delete them. "
            f"Take that away: chmod go-w {load('shlex').quote(where)}"
        )
    if exposed_above:
        found.append(f"Other users of this host may write to {printable(exposed_above)}: they can move {where} away")
    return found


def keep_reserve(root: str, size: int = _RESERVE_BYTES) -> None:
    """Reserve some space, if there is any: a deletion first writes a record, which would not fit on a full disk.

    The bytes are random, so that a compressing file system can't shrink them. The second name reserves an inode on file
    systems that count names, such as tmpfs.
    """
    if os.path.lexists(os.path.join(root, layout.RESERVE)):
        return
    with passing_over_refusals(), files.open_directory(root) as folder, files.temporary(folder) as temporary:
        files.write_new(temporary, folder, [os.urandom(size)], durable=False)
        os.rename(temporary, layout.RESERVE, src_dir_fd=folder, dst_dir_fd=folder)
        os.link(layout.RESERVE, layout.RESERVED_NAME, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)


def free_reserve(root: str) -> bool:
    """Free the reserved space; return whether there was any."""
    with passing_over_refusals(), files.open_directory(root) as folder:
        names = [name for name in (layout.RESERVED_NAME, layout.RESERVE) if files.remove(name, folder)]
        files.sync(folder)
        return bool(names)
    return False
