"""Where everything lies in a checkpoint directory, and how it is recognised there.

::

    checkpoints/
      keyring.json                                   record "keyring"
      data_ingestion.checkpoint                      the head: a hard link to the newest durable version
      history/data_ingestion/000000000001.checkpoint versions
      history/data_ingestion/000000000001.9f86….pending  until the next save: see :mod:`.pending`
      history/data_ingestion/gaps                    record "gaps", where versions were deleted
      history/data_ingestion/tags                    record "tags", where versions have names
      history/data_ingestion/attachments/5c0f…/000000.segment
      history/%%9f86…/stage                          the stage's name, where it is too long for a file's name
      damaged/                                       what a repair has moved away
      .reserve                                       room for a record of deletions when the disk is full
      .locks/data_ingestion.lock                     locks: never removed
      .locks/data_ingestion~5c0f….run                held while the stage's function runs; removed with the lock
      .locks/store.record
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

from checkpoint_manager.backends.stage_names import MAX_STAGE_CHARACTERS, to_filename

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from checkpoint_manager.backends.base import Purpose

KEYRING = "keyring.json"
HISTORY = "history"
DAMAGED = "damaged"
LOCKS = ".locks"
FOLDERS = {HISTORY, DAMAGED, LOCKS}
"""The folders of a store that are its own."""
RESERVE, RESERVED_NAME = ".reserve", ".reserve.name"
GAPS = "gaps"
TAGS = "tags"
ATTACHMENTS = "attachments"
STAGE = "stage"
STORE_LOCK = "store.record"
SUFFIX = ".checkpoint"
LOCK_SUFFIX = ".lock"
RUN_SUFFIX = ".run"

ALL_TEMPORARY = ".*.tmp"
"""Stands for all temporary files of a folder, where they are too many to be named."""
_TEMPORARY = r"\.[0-9a-f]{16}\.tmp"
_VERSION = r"([0-9]{12})\.checkpoint"
_VERSIONS = r"/([0-9]{12})\.checkpoint(?=/)"
"""Version names among others, each between slashes, which no name contains."""
_AT_ONCE = 4096
MAX_STAGE_NAME_BYTES = 4 * MAX_STAGE_CHARACTERS


version_name: Callable[[int], str] = ("{:012d}" + SUFFIX).format
"""Returns the name of a version's file."""


def version_of(name: str) -> int | None:
    """Return the number of the version that a file of this name holds; None if it is another name."""
    match = re.fullmatch(_VERSION, name)
    return int(match[1]) or None if match else None


def told_apart(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the digits of the versions among the names of a folder, and the other names, each in no particular order.

    This is faster than one by one. Some thousand are taken at a time, because their texts are held in memory meanwhile.
    """
    digits: list[str] = []
    others: list[str] = []
    for start in range(0, len(names), _AT_ONCE):
        pieces = re.split(_VERSIONS, f"/{'/'.join(names[start : start + _AT_ONCE])}/")  # other names, digits, other names, …
        digits += pieces[1::2]
        others += filter(None, "".join(pieces[::2]).split("/"))
    return digits, others


def is_temporary(name: str) -> bool:
    """Return whether a file of this name is temporary."""
    return name.endswith(".tmp") and re.fullmatch(_TEMPORARY, name) is not None


@lru_cache(maxsize=16_384)
def head_name(stage: str) -> str:
    """Return the name of a stage's head."""
    return to_filename(stage) + SUFFIX


@lru_cache(maxsize=16_384)
def lock_name(stage: str, purpose: Purpose = "write", name: str = "") -> str:
    """Return the file name of a stage's lock; that of a run has a ``~``, which no stage's file name has."""
    run = f"~{name}" if name else ""
    return to_filename(stage) + run + (LOCK_SUFFIX if purpose == "write" else RUN_SUFFIX)
