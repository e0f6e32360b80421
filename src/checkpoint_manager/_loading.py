"""Modules that are loaded when they are first asked for (PEP 562), safely beside a fork.

A module's ``__getattr__`` calls :func:`load`. A process that forks while one of its threads is in the middle of such a load
would leave the child with a module that nobody ever finishes: whoever asks for it there waits for ever. So a fork waits for
the loads that are under way: :mod:`checkpoint_manager._log` says so to the interpreter.
"""

import contextlib
from importlib import import_module
from types import ModuleType

_under_way: list[str] = []


def load(name: str) -> ModuleType:
    """Return a module, loaded if need be."""
    _under_way.append(name)
    try:
        return import_module(name)
    finally:
        _under_way.remove(name)


def finish_loads() -> None:
    """Wait for what other threads are loading; each module has a lock of its own in the import system."""
    for name in tuple(_under_way):
        with contextlib.suppress(Exception):  # the thread that began to load it sees the error
            import_module(name)
