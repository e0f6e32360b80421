"""Lazy imports (PEP 562) that are safe to use beside a fork.

A module's ``__getattr__`` calls :func:`load`. If a process forks while one of its threads is importing a module, the child
inherits a half-imported module and the lock on it, and the next import there waits forever. So a fork waits until the imports
under way have finished, and an import that would begin after that waits for the fork; :mod:`checkpoint_manager._logger`
registers both.
"""

from __future__ import annotations

import time
from _thread import get_ident
from importlib import import_module

TYPE_CHECKING = False  # as in typing, which takes long to import
if TYPE_CHECKING:
    from types import ModuleType

_LONGEST_FORK = 5.0
"""How long an import waits for a fork, in seconds: what the fork waits for may itself wait for that import."""
_PAUSE = 0.001

_under_way: list[tuple[str, int]] = []
"""The name of each module that is being imported, or is about to be, and the thread that asked for it."""
_forking: list[int] = []
"""The threads that are forking, from before they look for imports until there is a child."""


def load(name: str) -> ModuleType:
    """Import a module if necessary, and return it."""
    asked = name, get_ident()
    _under_way.append(asked)
    try:
        if _forking:  # looked at after it was told that an import begins: a fork tells first, and looks afterwards
            _wait_for_forks(asked[1])
        return import_module(name)
    finally:
        _under_way.remove(asked)


def _wait_for_forks(thread: int) -> None:
    """Wait until no thread is forking, unless this one is, or a fork may be waiting for an import of it."""
    if thread in _forking or [each for _, each in [*_under_way]].count(thread) > 1:
        return
    end = time.monotonic() + _LONGEST_FORK
    while _forking and time.monotonic() < end:
        time.sleep(_PAUSE)


def begin_fork() -> None:
    """Wait for the imports of other threads, and for those that follow them: importing a module again waits for its lock."""
    _forking.append(get_ident())
    waited_for: set[str] = set()  # once each: this thread may be importing a module itself
    while names := {name for name, _ in [*_under_way]} - waited_for:
        for name in names:
            try:  # noqa: SIM105  # contextlib takes long to import
                import_module(name)
            except Exception:  # noqa: BLE001, S110  # the importing thread gets the error
                pass
        waited_for |= names


def end_fork() -> None:
    """Let imports begin again."""
    if get_ident() in _forking:  # it is not if this was registered while another thread forked
        _forking.remove(get_ident())


def begin_child() -> None:
    """Forget the threads of the parent."""
    _forking.clear()
    _under_way[:] = [each for each in _under_way if each[1] == get_ident()]
