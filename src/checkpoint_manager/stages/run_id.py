"""The run that this process is a part of, so that one report can cover all the processes of a pipeline.

The id of the run is in the environment variable ``CHECKPOINT_MANAGER_RUN``. The first manager with a stage sets it if it is not
set; child processes inherit it. A shell script that calls several programs sets it for all of them. Each version that a stage
saves notes it, in ``@run`` (:mod:`checkpoint_manager._format.notes`).
"""

from __future__ import annotations

import os
import secrets
from datetime import UTC, datetime

VARIABLE = "CHECKPOINT_MANAGER_RUN"
_MOST_CHARACTERS = 100


def current_run() -> str:
    """Return the id of the run, and set it for this process and its children if there is none."""
    if not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    return os.environ[VARIABLE].encode("utf-8", "backslashreplace").decode()[:_MOST_CHARACTERS]
