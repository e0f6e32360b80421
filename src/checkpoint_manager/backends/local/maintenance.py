"""What surrounds the save protocol in a directory: making folders, writing records, finding leftovers, reserving space."""

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
from checkpoint_manager.backends.base import Leftover, RecordChangedError
from checkpoint_manager.backends.local import attachments, layout, pending
from checkpoint_manager.backends.stage_names import from_filename, is_hashed, to_filename

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator

    IsStale = Callable[[str, int | None], bool]

_OTHERS_MAY_WRITE = 0o022
_OTHERS_MAY_ANYTHING = 0o077
_TOP_LEVEL_NAMES = {layout.KEYRING, layout.HISTORY, layout.LOCKS, layout.DAMAGED, layout.RESERVE, layout.RESERVED_NAME}
_MOST_LISTED = 1000
"""How many leftovers of one kind are listed of a stage, and of what belongs to none."""
_RESERVE_BYTES = 64 * 1024
"""Larger than the record of a few thousand deletions, and small enough for a file system of 1 MiB."""


def make_store_directory(path: str) -> None:
    """Make the store's directory and its missing parents. Until it holds a keyring, make their names durable, too."""
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
        if os.access(parent, os.R_OK):  # an unreadable parent was there before
            files.sync_directory(parent)
        path = parent


def owner_of_new_files(path: str) -> int | None:
    """Return the user id that owns a new file in this directory, or None if no file can be made."""
    with passing_over_refusals(), files.open_directory(path) as folder, files.temporary(folder) as name:
        files.write_new(name, folder, [], durable=False)
        return os.stat(name, dir_fd=folder, follow_symlinks=False).st_uid
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


def put_record(temporary: str, name: str, directory: int, *, first: bool) -> None:
    """Rename a temporary file to a record's name; if it is the first such record, only if the name is free."""
    if not first:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
        return
    try:
        files.publish(temporary, name, directory)
    except FileExistsError:
        raise RecordChangedError from None


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


def remove_temporary_files(names: Iterable[str], directory: int) -> None:
    """Remove those of the names in a directory that are temporary files.

    The caller must hold the lock, so that no writer is using them.
    """
    for name in names:
        if layout.is_temporary(name) and not files.is_directory(name, directory):
            files.remove(name, directory)


def _is_temporary(entry: os.DirEntry[str]) -> bool:
    """Return whether this is a temporary file: a directory of such a name is not ours."""
    return layout.is_temporary(entry.name) and not entry.is_dir(follow_symlinks=False)


def find_leftovers(root: str, is_stale: IsStale) -> list[Leftover]:
    """Examine every name in the store; see :class:`Leftover` for what is reported.

    Each folder is opened once, without following links, and examined through its descriptor: replacing it with a link
    meanwhile has no effect.

    Args:
        root: The store's directory.
        is_stale: Returns whether the head of a stage needs to be set again. Gets the stage and its folder; None: it has none.
    """
    return sorted(_bounded(_find_leftovers(root, is_stale)), key=lambda leftover: leftover.path)


def _bounded(found: Iterable[Leftover]) -> Iterator[Leftover]:
    """Yield the first ``_MOST_LISTED`` files of each kind and stage, and how many more there are: anyone may plant them."""
    counts: dict[tuple[str, str | None], int] = {}
    beyond: dict[tuple[str, str | None], Leftover] = {}
    for each in found:
        folder, name = os.path.split(each.path)
        if each.kind == "leftover" and not layout.is_temporary(name):
            yield each  # a folder, which is removed by its name
            continue
        key = each.kind, each.stage
        counts[key] = count = counts.get(key, 0) + 1
        if count <= _MOST_LISTED:
            yield each
        else:
            path = os.path.join(folder, layout.ALL_TEMPORARY) if each.kind == "leftover" else folder
            beyond[key] = Leftover(each.kind, path, f"and {count - _MOST_LISTED} more, which are not listed", each.stage)
    yield from beyond.values()


def _find_leftovers(root: str, is_stale: IsStale) -> Iterator[Leftover]:
    stages: set[str] = set()
    with contextlib.suppress(FileNotFoundError), files.open_directory(os.path.join(root, layout.HISTORY)) as history:
        for name, stage in stage_directories(history):
            stages.add(name)
            yield from _leftovers_of_stage(root, name, history, stage, is_stale)
    with files.open_directory(root) as top:
        yield from _top_level_leftovers(root, top, stages, is_stale)


def _leftovers_of_stage(root: str, name: str, history: int, stage: str | None, is_stale: IsStale) -> Iterator[Leftover]:  # noqa: C901  # one branch for each kind of name
    path = os.path.join(root, layout.HISTORY, name)
    try:
        folder = files.directory_descriptor(name, history)
    except files.NotAFileError:
        yield Leftover("displaced", path, "stands where only the folders of stages belong", stage)
        return
    except FileNotFoundError:  # removed meanwhile
        return
    try:
        if stage is None:
            yield _unnamed(name, path, folder)
            return
        yield from exposed(path, os.fstat(folder), stage)
        with files.entries(folder) as entries:
            for entry in entries:
                inside = os.path.join(path, entry.name)
                number = None if entry.is_dir(follow_symlinks=False) else pending.version_pending(entry.name)
                if _is_temporary(entry) or (number and _is_torn(entry.name, number, folder)):
                    yield Leftover("leftover", inside, "was left by an interrupted write", stage)
                elif entry.name == layout.ATTACHMENTS and entry.is_dir(follow_symlinks=False):
                    for each, is_ours in attachments.names(folder):
                        if not is_ours:
                            yield Leftover("unknown", os.path.join(inside, each), "does not belong to this store", stage)
                elif layout.version_of(entry.name) is not None or entry.name in {layout.GAPS, layout.TAGS, layout.STAGE}:
                    with contextlib.suppress(FileNotFoundError):
                        yield from exposed(inside, entry.stat(follow_symlinks=False), stage)
                elif not number:  # not another name of a version, either
                    yield Leftover("unknown", inside, "does not belong to this store", stage)
        if is_stale(stage, folder):
            yield Leftover("stale head", os.path.join(root, layout.head_name(stage)), "is not the newest version", stage)
    finally:
        files.close(folder)


def _is_torn(name: str, version: int, folder: int) -> bool:
    """Return whether this pending file did not become a version, and can't."""
    return not files.exists(layout.version_name(version), folder) and not pending.is_whole(name, folder)


def _unnamed(name: str, path: str, folder: int) -> Leftover:
    with files.entries(folder) as entries:
        if is_hashed(name) and all(layout.is_temporary(entry.name) for entry in entries):
            return Leftover("leftover", path, "was left by an interrupted first save")
    return Leftover("unknown", path, "is not the folder of a stage")


def _top_level_leftovers(root: str, top: int, stages: set[str], is_stale: IsStale) -> Iterator[Leftover]:
    if stat.S_IMODE(os.fstat(top).st_mode) & _OTHERS_MAY_WRITE:
        yield Leftover("exposed", root, "can be written to by other users of this host: chmod go-w")
    with files.entries(top) as entries:
        for entry in entries:
            path = os.path.join(root, entry.name)
            if _is_temporary(entry):
                yield Leftover("leftover", path, "was left by an interrupted write")
            elif entry.name in _TOP_LEVEL_NAMES:
                with contextlib.suppress(FileNotFoundError):
                    yield from exposed(path, entry.stat(follow_symlinks=False), None)
            elif not entry.name.endswith(layout.SUFFIX):
                yield Leftover("unknown", path, "does not belong to this store")
            elif entry.name.removesuffix(layout.SUFFIX) not in stages:
                stage = from_filename(entry.name.removesuffix(layout.SUFFIX))
                is_head = stage is not None and entry.is_file(follow_symlinks=False) and is_stale(stage, None)
                yield Leftover("unknown", path, "does not belong to this store", stage if is_head else None)


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


# Space for deletions


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
