"""The head of a stage, and how the newest version is found.

The head is a second name of the newest version that is known to be durable. It is a hint: it saves running processes from
listing the folder again, and tells which versions may still have to be synced. The folder decides which version is the newest:

* The first look of a process lists the folder (:func:`listed`), unless a note tells that nothing in it has changed since
  another process of this user knew all of it (:mod:`.folder_note`).
* Later looks continue from the version that was found before (:func:`follow`). While the head is unchanged, or is one of the
  versions that follow without a gap, no other process has appended beyond a gap: a writer that finds no head, or leaves a gap,
  removes the head first, and without a head every look lists the folder. An attacker may put a head back, though: so a short
  folder is listed again each time that someone else has changed it, and a long one from time to time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from checkpoint_manager._filesystem import files
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager.backends.local import pending
from checkpoint_manager.backends.local.layout import GAPS, head_name, told_apart, version_name, version_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager._filesystem.file_times import Stamp

_FAR_BEHIND = 64
"""Beyond this many new versions, listing the folder is faster than probing one number after another."""
_OPENING_BYTES = 512
"""What lies in these first bytes is random in each version."""


class Found(NamedTuple):
    """What was found of a stage's newest version.

    Attributes:
        number: Its number; 0: the stage has none.
        durable: The newest version that is known to be durable; 0: none.
        head: Device and inode of the head, where it was seen to be one of the versions.
        changed: When the folder had been changed last, by its own clock. If it has been changed since by someone else, there
            may be versions that no other sign shows. 0: a change since might have the same time.
        named: The newest version whose own name is known to be durable: of those up to ``durable``, the newest may have its
            pending name only.
        state: The state of the folder when this process knew all names in it; None: it does not, or a change might not show.
    """

    number: int
    durable: int
    head: tuple[int, int] | None = None
    changed: int = 0
    named: int = 0
    state: Stamp | None = None


NOTHING = Found(0, 0)


def follow(root: str, stage: str, folder: int, known: Found, expected: int = 0) -> Found | None:
    """Find the newest version from what was found before; None: the folder has to be listed.

    Args:
        root: The store's directory.
        stage: The stage.
        folder: The descriptor of its folder.
        known: What this process found before.
        expected: Where to look first: a version that may be the head.
    """
    if not known.number:
        return None
    start, is_head = known.number, 0
    try:
        head = os.lstat(f"{root}{os.sep}{head_name(stage)}")
    except FileNotFoundError:
        return None
    if expected > start and _is_link(head, expected, folder):
        start = expected
    number = start
    try:
        version = os.lstat(version_name(number), dir_fd=folder)
        while number < start + _FAR_BEHIND:
            if version.st_ino == head.st_ino and version.st_dev == head.st_dev:
                is_head = number
            version = os.lstat(version_name(number + 1), dir_fd=folder)
            number += 1
    except FileNotFoundError:
        if files.exists(pending.next_head(number + 1), folder):
            return None
        if is_head:
            return known if is_head == number == known.durable else Found(number, max(is_head, known.durable), _identity(head))
        if known.head == _identity(head):
            return known if number == known.number else known._replace(number=number)
    return None


def listed(root: str, stage: str, folder: int) -> tuple[Found, list[str]]:
    """Find the newest version, and the one that the head is, by listing the folder; return also the other names in it."""
    path = f"{root}{os.sep}{head_name(stage)}"
    try:
        head = os.lstat(path)
    except FileNotFoundError:
        head = None
    newest, others = pending.newest(folder)
    if not newest or head is None:
        return Found(newest, 0), others
    if _is_link(head, newest, folder):
        return Found(newest, newest, (head.st_dev, head.st_ino)), others
    durable = _linked(head, folder)
    if not (durable and is_same(path, head, durable, folder)):
        durable = newest if is_same(path, head, newest, folder) else 0
    return Found(newest, durable, _identity(head) if durable else None), others


def is_newest(version: int, names: list[str]) -> bool:
    """Return whether a version is the newest one among the names of a folder, and they tell no more.

    They do if there is a record of gaps, or a pending version above.
    """
    if max(names, default="") < f"{version:012d}/":  # the version's own names go on with a dot, which is before a slash
        return version_name(version) in names
    digits, others = told_apart(names)
    number = max(digits, default="")
    is_plain = not any(each == GAPS or (each.endswith(pending.SUFFIX) and each[:12] > number) for each in others)
    return is_plain and number == f"{version:012d}"


def _linked(head: os.stat_result, folder: int) -> int:
    """Return the version that is the same file as the head, as far as a listing tells; 0: none."""
    with files.entries(folder) as entries:
        return max((version_of(entry.name) or 0 for entry in entries if entry.inode() == head.st_ino), default=0)


def _is_link(head: os.stat_result, version: int, folder: int) -> bool:
    """Return whether the head and a version are one file with two names."""
    try:
        return os.path.samestat(head, os.lstat(version_name(version), dir_fd=folder))
    except FileNotFoundError:  # deleted meanwhile, or it has its pending name only
        return False


def _identity(head: os.stat_result) -> tuple[int, int]:
    return head.st_dev, head.st_ino


def is_same(path: str, head: os.stat_result, version: int, folder: int) -> bool:
    """Return whether the head is a version: one file with two names or, without hard links, a copy."""
    try:
        if _is_link(head, version, folder):
            return True
        with files.OpenFile(version_name(version), folder) as file, files.OpenFile(path) as copy:
            return file.size == copy.size and file.read(_OPENING_BYTES) == copy.read(_OPENING_BYTES)
    except (FileNotFoundError, files.NotAFileError):
        return False


def put(root: str, stage: str, version: int, folder: int) -> None:
    """Make a version the head."""
    with files.temporary(folder) as temporary:  # it stays if the head is this very file: then rename does nothing
        files.add_name(version_name(version), temporary, folder)
        os.rename(temporary, os.path.join(root, head_name(stage)), src_dir_fd=folder)


def numbers(folder: int) -> Iterator[int]:
    """Yield the numbers of the versions in a folder, in no particular order."""
    with files.entries(folder) as entries:
        for entry in entries:
            number = version_of(entry.name)
            if number is not None:
                yield number
