"""Where everything lies in a checkpoint directory, and how it is recognised there.

::

    checkpoints/
      keyring.json                                   record "keyring"
      data_ingestion.checkpoint                      mark: a hard link to the newest version
      history/data_ingestion/000000000001.checkpoint versions
      history/data_ingestion/gaps                    record "gaps", where versions were deleted
      history/data_ingestion/tags                    record "tags", where versions have names
      history/%%9f86…/stage                          the stage's name, where it is too long for a file's name
      damaged/                                       what a repair has moved away
      .locks/data_ingestion.lock                     locks: never removed
      .locks/data_ingestion~5c0f….run                held while the stage's function runs; removed with the lock
      .locks/store.record
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checkpoint_manager.backends import stage_names as names

if TYPE_CHECKING:
    from checkpoint_manager.backends.base import Purpose

KEYRING = "keyring.json"
HISTORY = "history"
DAMAGED = "damaged"
LOCKS = ".locks"
GAPS = "gaps"
TAGS = "tags"
STAGE = "stage"
STORE_LOCK = "store.record"
SUFFIX = ".checkpoint"
LOCK_SUFFIX = ".lock"
RUN_SUFFIX = ".run"

TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.tmp", re.ASCII)
_VERSION = re.compile(r"([0-9]{12})\.checkpoint", re.ASCII)
MAX_STAGE_NAME_BYTES = 4 * names.MAX_STAGE_CHARACTERS


def version_name(version: int) -> str:
    """Return the name of a version's file."""
    return f"{version:012d}{SUFFIX}"


def version_of(name: str) -> int | None:
    """Return the number of the version that a file of this name holds; None if it is no version's name."""
    match = _VERSION.fullmatch(name)
    return int(match[1]) or None if match else None


def mark_name(stage: str) -> str:
    """Return the name of a stage's mark."""
    return names.to_filename(stage) + SUFFIX


def lock_name(stage: str, purpose: Purpose = "write", name: str = "") -> str:
    """Return the file name of a stage's lock; that of a run has a ``~``, which no stage's file name has."""
    run = f"~{name}" if name else ""
    return names.to_filename(stage) + run + (LOCK_SUFFIX if purpose == "write" else RUN_SUFFIX)
