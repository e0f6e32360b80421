"""Look whether a stage is done, for :mod:`.plain_has`. A module of its own, because it loads the cryptography."""

from __future__ import annotations

import contextlib
import os

from checkpoint_manager._lazy_log import noted
from checkpoint_manager._operations.load import is_completed
from checkpoint_manager._store.key_sources import find_secret
from checkpoint_manager._store.presence import has_keyring
from checkpoint_manager._store.store import open_store
from checkpoint_manager.backends.registry import open_backend, scheme_of
from checkpoint_manager.backends.stage_names import validate
from checkpoint_manager.credentials import KeyFile

_PATIENCE = 60.0
"""The default of ``--lock-timeout``, in seconds."""


def is_done(store: str, key_file: str | None, stage: str) -> bool | None:
    """Return whether a stage is done; None if there is something to say, such as an error or a warning.

    Args:
        store: The directory of the store.
        key_file: The key file; None: that of the environment, or the user's own.
        stage: The stage.

    Raises:
        CheckpointError: The store can't be opened, or the question has no answer.
    """
    if scheme_of(store):
        return None
    store, key = os.path.expanduser(store), None if key_file is None else KeyFile(os.path.expanduser(key_file))
    with noted() as notes, contextlib.ExitStack() as stack:
        if not has_keyring(store):  # no command but "init" makes a store
            return None
        backend = stack.enter_context(contextlib.closing(open_backend(store, patience=_PATIENCE)))
        done = is_completed(open_store(backend, find_secret(key), _PATIENCE, "raise"), validate(stage))
    return None if notes else done
