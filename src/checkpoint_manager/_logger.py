"""The library's logger as :mod:`logging` has it. Each of its records is one line without control characters."""

from __future__ import annotations

import logging
import os

from checkpoint_manager._loading import begin_child, begin_fork, end_fork
from checkpoint_manager._text import escaped


class _OneLine(logging.Filter):
    """A filter that escapes unprintable characters in a record before any handler sees it."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if not text.isprintable():
            record.msg, record.args = "%s", (escaped(text),)
        return True


LOGGER = logging.getLogger("checkpoint_manager")
LOGGER.addFilter(_OneLine())
# A module under import may call getLogger(), which takes logging's lock. Logging holds that lock across a fork, so the wait for
# imports has to come first: handlers run in the reverse order of their registration, and logging has registered its own.
os.register_at_fork(before=begin_fork, after_in_parent=end_fork, after_in_child=begin_child)
