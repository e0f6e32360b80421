"""Open descriptors that are likely to be needed again: opening a file or folder costs more than all that is done with it.

Whoever takes one owns it until it is put back, so no other thread uses or closes it meanwhile. What is taken and never put
back, because an exception was raised, is closed as soon as nothing refers to it. The least recently used ones are closed when
there are many, and all of them in a forked child: parent and child would share the position in a folder that both list.

A name may lead to another file by the time a descriptor is taken. The caller finds out, and then opens the name again.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from typing import Any, NoReturn, Protocol, TypeVar

from checkpoint_manager._filesystem import files

MOST = 96
"""How many are kept in this process, however many managers it has: far below what it may have open."""
_BETWEEN = 16
"""They are counted each time that so many were opened, because counting takes longer than closing one."""
_READ_BYTES = 64 * 1024
_opened = itertools.count(1)
_close = os.close
"""For ``__del__``, which may be called when the interpreter has taken its modules apart."""


class Descriptor:
    """An open descriptor of a file or folder, closed with the object; -1: none."""

    number = -1  # of the class, because __del__ runs even if an interruption ends the constructor at once

    def __init__(self, number: int) -> None:
        self.number = number

    def close(self) -> None:
        """Close it; an error of the system is ignored."""
        number, self.number = self.number, -1
        if number >= 0:
            files.close(number)

    def __del__(self) -> None:
        if self.number >= 0:
            try:  # noqa: SIM105  # contextlib may be gone by now
                _close(self.number)
            except OSError:  # which Python would print
                pass

    def __reduce__(self) -> NoReturn:
        refuse_a_copy()


def contents_of(path: str) -> bytes:
    """Return what a file of the system says, such as one in ``/proc``. An interruption closes it without a warning.

    Raises:
        OSError: As the operating system reports it.
    """
    file, pieces = Descriptor(os.open(path, os.O_RDONLY | os.O_CLOEXEC)), []
    while piece := os.read(file.number, _READ_BYTES):
        pieces.append(piece)
    return b"".join(pieces)


def refuse_a_copy() -> NoReturn:
    """Refuse to copy or pickle what owns a descriptor: it would be closed twice, the second time as another file's."""
    raise TypeError("an open file can't be copied")


T = TypeVar("T", bound="Closable")


class Closable(Protocol):
    """What owns an open descriptor, which it also closes when nothing refers to it any more."""

    def close(self) -> None: ...


class Kept(dict[str, T]):
    """The owners of open descriptors that are not in use, by a name; to be used, one is popped, and then put back.

    So the least recently used one comes first.
    """

    def __init__(self) -> None:
        super().__init__()
        _all[id(self)] = self

    def close_one(self) -> None:
        """Close the least recently used one, if there is one."""
        with contextlib.suppress(StopIteration, KeyError, RuntimeError):  # none, or another thread takes or puts one back
            self.pop(next(iter(self))).close()

    def close(self) -> None:
        """Close them all."""
        while self:
            self.close_one()


_all: weakref.WeakValueDictionary[int, Kept[Any]] = weakref.WeakValueDictionary()


def make_room() -> None:
    """Make room for a descriptor that was opened to be kept: close the least recently used ones where most are kept."""
    if next(_opened) % _BETWEEN == 0:
        places = _places()
        for _ in range(sum(map(len, places)) + _BETWEEN - MOST):
            max(places, key=len).close_one()


def _places() -> list[Kept[Any]]:
    return [kept for reference in _all.valuerefs() if (kept := reference()) is not None]


def _close_all() -> None:
    for kept in _places():
        kept.close()


os.register_at_fork(after_in_child=_close_all)
