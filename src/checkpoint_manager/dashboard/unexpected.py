"""Errors that nobody expected: their kind and the line of code are logged. Their text may hold data, and is not."""

from __future__ import annotations

import logging
import traceback

_LOG = logging.getLogger("checkpoint_manager.dashboard")
TOLD = "Something went wrong. The log of the dashboard says where."
"""What a page says of one."""


def log(what: str, error: Exception) -> None:
    """Log what an error ended, its kind, and where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    _LOG.error("%s ended with an error: %s%s", what, type(error).__name__, where)
