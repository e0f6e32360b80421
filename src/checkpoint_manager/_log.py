"""The library's logger, ``checkpoint_manager``: each of its records is one safe line, whatever a file says."""

from __future__ import annotations

import logging
import os

from checkpoint_manager._loading import finish_loads
from checkpoint_manager._text import escaped


class _OneLine(logging.Filter):
    """Escapes what is not printable in a record, whatever handlers do with it afterwards."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if not text.isprintable():
            record.msg, record.args = "%s", (escaped(text),)
        return True


_LOGGER = logging.getLogger("checkpoint_manager")
_LOGGER.addFilter(_OneLine())
# What is registered last runs first. A module that is being loaded asks for this logger, which takes the lock of logging: to
# hold that across a fork, as logging's own function does, has to come after the wait for the module.
os.register_at_fork(before=finish_loads)


def get_logger() -> logging.Logger:
    """Return the library's logger."""
    return _LOGGER
