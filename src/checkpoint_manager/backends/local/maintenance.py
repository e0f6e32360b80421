"""Around the save protocol: making directories, the record's own steps, and finding what lies about."""

from __future__ import annotations

import os
import secrets
import stat
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import is_refusal
from checkpoint_manager.backends.base import Leftover, RecordChangedError, VersionAbsentError
from checkpoint_manager.backends.local import layout
from checkpoint_manager.backends.stage_names import from_filename, is_hashed, to_filename

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OTHERS_MAY_WRITE = 0o022
_OTHERS_MAY_ANYTHING = 0o077


def make_store_directory(path: str) -> None:
    """Make the store's directory and the parents it lacks, durably, as long as there is no keyring in it."""
    missing: list[str] = []
    here = path
    while not os.path.isdir(here):
        missing.append(here)
        here = os.path.dirname(here)
    for directory in reversed(missing):
        files.make_directory(directory)
    if not os.path.lexists(os.path.join(path, layout.KEYRING)):
        _sync_names_up_to(path)


def _sync_names_up_to(path: str) -> None:
    while path != (parent := os.path.dirname(path)):
        if os.access(parent, os.R_OK):  # one that can't be read was not made by us
            files.sync_directory(parent)
        path = parent


def name_stage_directory(stage: str, directory: int) -> None:
    """Write a stage's name into its directory, durably, where it is too long for a file's name."""
    if is_hashed(to_filename(stage)) and not files.exists(layout.STAGE, directory):
        temporary = files.write_temporary(directory, [stage.encode()], durable=True)
        try:
            os.rename(temporary, layout.STAGE, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            files.remove(temporary, directory)  # still there if that failed
        files.sync(directory)


def sync_stage_names(root: str) -> None:
    """Make the names of the history and of each stage's directory durable, whoever made them."""
    files.sync_directory(root)
    files.sync_directory(os.path.join(root, layout.HISTORY))


def stage_directories(history: str) -> Iterator[tuple[str, str | None]]:
    """Yield the name of each entry of the history with the stage it belongs to; None: to none that can be told."""
    try:
        descriptor = files.directory_descriptor(history)
    except FileNotFoundError:
        return
    try:
        for name in sorted(os.listdir(descriptor)):
            yield name, from_filename(name) or _hashed_stage(name, descriptor)
    finally:
        os.close(descriptor)


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


def put_record(temporary: str, name: str, directory: int, *, first: bool) -> None:
    """Give a record its name; the first one exclusively."""
    if not first:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    try:
        files.publish(temporary, name, directory)
    except FileExistsError:
        raise RecordChangedError from None


def move_to_damaged(root: str, stage: str, name: str, directory: int) -> str:
    """Move a version's or a record's file, or whatever stands in its place, to the folder of damaged files."""
    folder = os.path.join(root, layout.DAMAGED)
    files.make_directory(folder)
    files.sync_directory(root)
    aside = f"{to_filename(stage)}-{secrets.token_hex(4)}-{name}"
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
        leftovers = [entry.name for entry in entries if layout.TEMPORARY.fullmatch(entry.name)]
    for name in leftovers:
        files.remove(name, directory)


def find_leftovers(root: str, is_stale: Callable[[str], bool]) -> list[Leftover]:
    """Look at every name in the store; see :class:`Leftover` for what is reported.

    Args:
        root: The store's directory.
        is_stale: Says of a stage whether its head has to be set again.
    """
    history = os.path.join(root, layout.HISTORY)
    found = list(_leftovers_at_the_top(root))
    for name, stage in stage_directories(history):
        path = os.path.join(history, name)
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            found.append(Leftover("displaced", path, "stands where only folders of stages belong", stage))
            continue
        if stage is None:
            found.append(_nameless(name, path))
            continue
        found += _exposed(path, stage)
        found += _leftovers_of_a_stage(path, stage)
        if is_stale(stage):
            path = os.path.join(root, layout.head_name(stage))
            found.append(Leftover("stale head", path, "is not the newest version", stage))
    return sorted(found, key=lambda leftover: leftover.path)


def _nameless(name: str, path: str) -> Leftover:
    if is_hashed(name) and all(layout.TEMPORARY.fullmatch(inside) for inside in os.listdir(path)):
        return Leftover("leftover", path, "was made by a first save that was interrupted")
    return Leftover("unknown", path, "is not a folder of a stage")


def sweep_directory(name: str, parent: int) -> bool:
    """Remove a stage's folder that has neither a name nor versions; the caller holds the stage's lock."""
    with files.open_directory(name, parent) as directory:
        sweep(directory)
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError as error:  # it has something in it by now
        if not is_refusal(error):
            raise
        return False
    return True


def _leftovers_at_the_top(root: str) -> Iterator[Leftover]:
    if stat.S_IMODE(os.stat(root).st_mode) & OTHERS_MAY_WRITE:
        yield Leftover("exposed", root, "may be written to by other users of this host: chmod go-w")
    for name in sorted(os.listdir(root)):
        path = os.path.join(root, name)
        if layout.TEMPORARY.fullmatch(name):
            yield Leftover("leftover", path, "was left by an interrupted write")
        elif name in {layout.KEYRING, layout.HISTORY, layout.LOCKS, layout.DAMAGED}:
            yield from _exposed(path, None)
        elif not (name.endswith(layout.SUFFIX) and _has_history(root, name)):
            yield Leftover("unknown", path, "is not of this store")


def _has_history(root: str, head: str) -> bool:
    return os.path.isdir(os.path.join(root, layout.HISTORY, head.removesuffix(layout.SUFFIX)))


def _leftovers_of_a_stage(path: str, stage: str) -> Iterator[Leftover]:
    with os.scandir(path) as entries:
        for entry in entries:
            if layout.TEMPORARY.fullmatch(entry.name):
                yield Leftover("leftover", entry.path, "was left by an interrupted write", stage)
            elif layout.version_of(entry.name) is not None or entry.name in {layout.GAPS, layout.TAGS, layout.STAGE}:
                yield from _exposed(entry.path, stage)
            else:
                yield Leftover("unknown", entry.path, "is not of this store", stage)


def _exposed(path: str, stage: str | None) -> Iterator[Leftover]:
    status = os.lstat(path)
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISLNK(status.st_mode) and mode & _OTHERS_MAY_ANYTHING:
        yield Leftover("exposed", path, f"has mode {mode:04o}, open to others: chmod go= ", stage)
