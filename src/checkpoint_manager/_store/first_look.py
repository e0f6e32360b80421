"""The first look of a process at a stage: a fast path for an ordinary one.

A pipeline that starts again asks of each of its stages whether it is done. As a rule, the newest version of each is the one
that this user saw last, whole and durable; it is the head; and nothing was ever deleted. What
:class:`~checkpoint_manager._store.history.History` would find then is found here by the same looks in the same order: the
keyring, what this user has seen, the head, an exhaustive listing, and the version, which is opened as a whole. Where one of
them shows anything else, there is no answer here, and the history is asked, which begins anew. So both must decide the same:
``tests/fast_paths`` compares them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._store.history import LONG
from checkpoint_manager._store.sealed_store import NO_GAPS
from checkpoint_manager.errors import FormatError

if TYPE_CHECKING:
    from checkpoint_manager._store.sealed_store import Opened
    from checkpoint_manager._store.store import Store


def first_look(store: Store, stage: str) -> tuple[int, Opened] | None:
    """Return the newest version of a stage that this process has not looked at, verified as a whole; None: it is not ordinary.

    Raises:
        IntegrityError, WrongKeyError, StorageError: The keyring does not open any more.
    """
    if store.backend.durability == "relaxed":
        return None
    began, keyring = time.time_ns(), store.refresh_keys()
    recalled = store.last_seen.recall_at_first(stage)
    if recalled is None or recalled[0].version >= LONG:
        return None
    (version, version_id), status = recalled
    read = store.backend.read_newest(stage, version, keyring.record)
    if read is None:
        return None
    content, mark = read
    try:
        opened = store.open_whole(stage, version, content)
    except (BrokenError, FormatError):
        return None
    entry = opened.entry
    if entry.id != version_id:
        return None
    store.history.begin(stage, version, entry)
    store.known_gaps.setdefault(stage, NO_GAPS)
    if mark is not None and entry.status == "completed" and not entry.attachments:
        store.verified.keep_marked(stage, version, version_id, status, began, mark)
    return version, opened
