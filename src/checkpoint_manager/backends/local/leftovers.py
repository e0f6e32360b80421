"""Find what is in a store and does not belong there, or is open to other users of the host."""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager.backends.local import attachments, layout, pending
from checkpoint_manager.backends.local.folders import OTHERS_MAY_WRITE, exposed, stage_directories
from checkpoint_manager.backends.maintenance import Leftover
from checkpoint_manager.backends.stage_names import from_filename, is_hashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    IsStale = Callable[[str, int | None], bool]

_TOP_LEVEL_NAMES = {layout.KEYRING, layout.HISTORY, layout.LOCKS, layout.DAMAGED, layout.RESERVE, layout.RESERVED_NAME}
_MOST_LISTED = 1000
"""How many leftovers of one kind are listed of a stage, and of what belongs to none."""


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
    except (FileNotFoundError, PermissionError):  # removed meanwhile; or what the stage's own check tells
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
    if stat.S_IMODE(os.fstat(top).st_mode) & OTHERS_MAY_WRITE:
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


def _is_temporary(entry: os.DirEntry[str]) -> bool:
    """Return whether this is a temporary file: a directory of such a name is not ours."""
    return layout.is_temporary(entry.name) and not entry.is_dir(follow_symlinks=False)
