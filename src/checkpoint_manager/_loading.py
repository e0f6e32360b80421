"""Lazy imports (PEP 562) that are safe to use beside a fork.

A module's ``__getattr__`` calls :func:`load`. If a process forks while one of its threads is importing a module, the child
inherits a half-imported module and the lock on it, and the next import there waits forever. So a fork waits until the imports
under way have finished; :mod:`checkpoint_manager._logger` registers that wait.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as in typing, which takes long to import
if TYPE_CHECKING:
    from types import ModuleType

_under_way: list[str] = []


def load(name: str) -> ModuleType:
    """Import a module if necessary, and return it."""
    _under_way.append(name)
    try:
        return import_module(name)
    finally:
        _under_way.remove(name)


def finish_loads() -> None:
    """Wait for the imports of other threads, and for those that follow them: importing a module again waits for its lock."""
    waited_for: set[str] = set()  # once each: this thread may be importing a module itself
    while names := set(_under_way) - waited_for:
        for name in names:
            try:  # noqa: SIM105  # contextlib takes long to import
                import_module(name)
            except Exception:  # noqa: BLE001, S110  # the importing thread gets the error
                pass
        waited_for |= names
