"""Where the user's own files of this library belong: the state directory and the data directory.

``platformdirs`` knows that for each platform. On Linux it follows the XDG Base Directory Specification, which is
implemented here for an ordinary user: ``platformdirs`` takes longer to import than a command takes to look at a stage.
"""

from __future__ import annotations

import os
import sys
from typing import Any

from checkpoint_manager._loading import load

_NAME = "checkpoint_manager"


def state_directory() -> str | None:
    """Return the directory for what this user has seen; None: this user has no home directory."""
    return _xdg("XDG_STATE_HOME", ".local/state") or _of_platform("user_state_dir")


def data_directory() -> str | None:
    """Return the directory for this user's key file; None: this user has no home directory."""
    return _xdg("XDG_DATA_HOME", ".local/share") or _of_platform("user_data_dir")


def _xdg(variable: str, below_home: str) -> str | None:
    """Return a directory of the specification; None where something is out of the ordinary, such as a relative home."""
    named, home = os.environ.get(variable, ""), os.environ.get("HOME", "")
    if sys.platform != "linux" or "ANDROID_ROOT" in os.environ or not os.path.isabs(home):
        return None
    return os.path.join(named if os.path.isabs(named) else f"{home.rstrip('/')}/{below_home}", _NAME)


def _of_platform(function: str) -> str | None:
    platformdirs: Any = load("platformdirs")
    try:
        directory = str(getattr(platformdirs, function)(_NAME))
    except RuntimeError:
        return None
    return None if directory.startswith("~") else directory  # older versions leave it so
