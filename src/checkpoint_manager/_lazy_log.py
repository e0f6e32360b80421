"""The library's logger, ``checkpoint_manager``, loaded with the manager, or when there is something to say.

:mod:`logging` takes longer to import than a command takes to look at a stage, and then mostly says nothing.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from checkpoint_manager._loading import load

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

MOST_LOGGED = 100
"""How many things of a kind that anyone may plant are logged one by one, before the rest are counted."""

_notes: list[str] | None = None


class _Logger:
    """Stands for the logger, and loads it when it is used."""

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever a logger has
        return getattr(get_logger(), name) if _notes is None else partial(_note, _notes)


if TYPE_CHECKING:
    LOG: logging.Logger
else:
    LOG = _Logger()


def get_logger() -> logging.Logger:
    """Return the library's logger."""
    logger: logging.Logger = load("checkpoint_manager._logger").LOGGER
    return logger


@contextlib.contextmanager
def noted() -> Iterator[list[str]]:
    """Collect what :data:`LOG` is given in the block, and log nothing."""
    global _notes  # noqa: PLW0603  # one for the process, as the logger is
    _notes = notes = list[str]()
    try:
        yield notes
    finally:
        _notes = None


def _note(notes: list[str], message: str, *_: object, **__: object) -> None:
    notes.append(message)
