"""Descriptors of lock files, which no forked child keeps.

A child shares its parent's open file descriptions, and with one of them the lock on it: it would keep the lock alive after the
parent's death. So each descriptor is noted here, and a child closes at once what it inherited; nothing is freed for the parent.

A signal may interrupt any of this between two steps, and its handler may take a lock or fork itself. So a descriptor is opened
and put into a list in one step of the interpreter, and the lock that a fork waits for is re-entrant.
"""

from __future__ import annotations

import io
import os
import threading
import weakref
from typing import TYPE_CHECKING, TypeVar

from checkpoint_manager._filesystem.os_errors import passing_over_refusals

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_files: set[weakref.ref[io.FileIO]] = set()
_numbers: dict[int, tuple[int, int]] = {}
"""Device and inode of the file that each descriptor was opened for; it may be closed, and its number be another file's."""
_opening = threading.RLock()
"""Held while a descriptor is opened and noted, and during a fork: no child inherits one that it does not know of."""


def open_into(file: io.FileIO, open_it: Callable[[T], int], what: T) -> os.stat_result:
    """Open a descriptor for a file object, which is closed so far, note it, and return the file's status.

    Args:
        file: What owns the descriptor from now on.
        open_it: Opens it: a function of the interpreter's own, for one written in Python could be interrupted at its end.
        what: Its argument.
    """
    opened: list[int] = []
    with _opening:
        try:
            opened += map(open_it, (what,))
            status = os.fstat(opened[0])
            _numbers[opened[0]] = status.st_dev, status.st_ino
            _files.add(weakref.ref(file, _files.discard))
            io.FileIO.__init__(file, opened[0], "r+b")
        except BaseException:
            if opened and file.closed:  # the file object does not own it yet
                os.close(opened[0])
            with passing_over_refusals():
                file.close()
            raise
    return status


def held() -> tuple[int, ...]:
    """Return the descriptors that are open now."""
    with _opening:
        files = [reference() for reference in tuple(_files)]
        return tuple(file.fileno() for file in files if file is not None and not file.closed)


def _close_inherited() -> None:
    for reference in tuple(_files):
        file = reference()
        if file is not None:
            with passing_over_refusals():
                file.close()
    for number, file_id in _numbers.items():  # another thread was just closing it: its file object knows of it no more
        with passing_over_refusals():
            status = os.fstat(number)
            if (status.st_dev, status.st_ino) == file_id:
                os.close(number)
    _files.clear()
    _numbers.clear()
    _opening.release()


os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_close_inherited)
