"""Descriptors of lock files, which no forked child keeps.

A child shares its parent's open file descriptions, and with one of them the lock on it: it would keep the lock alive after the
parent's death. So each descriptor is noted here, and a child closes at once what it inherited; nothing is freed for the parent.
"""

from __future__ import annotations

import contextlib
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_open: set[int] = set()
_changing = threading.Lock()
"""Held while a descriptor is opened and noted, and during a fork: no child inherits one that it does not know of."""


def opened(open_it: Callable[[], int]) -> int:
    """Open a descriptor, and note it."""
    with _changing:
        descriptor = open_it()
        _open.add(descriptor)
        return descriptor


def close(descriptor: int) -> None:
    """Close a descriptor that :func:`opened` has given; nothing happens if it is closed already."""
    _open.discard(descriptor)
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _close_inherited() -> None:
    for descriptor in _open:
        os.close(descriptor)
    _open.clear()
    _changing.release()


os.register_at_fork(before=_changing.acquire, after_in_parent=_changing.release, after_in_child=_close_inherited)
