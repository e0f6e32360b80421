"""Whether there is a store at a location, without opening it: no key is needed, and nothing is made."""

from __future__ import annotations

import contextlib
import os

from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES
from checkpoint_manager._loading import load
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import Backend
from checkpoint_manager.backends.registry import expanded, open_backend, scheme_of
from checkpoint_manager.errors import StorageError


def has_keyring(location: str | os.PathLike[str], *, patience: float = Backend.patience) -> bool:
    """Return whether there is a keyring.

    Args:
        location: The path of a directory, or a URL.
        patience: How long a server is waited for, as :func:`checkpoint_manager.backends.registry.open_backend` takes it.

    Raises:
        LocationError: It can't name a store.
        StorageError: It can't be looked at.
    """
    if scheme_of(location):
        with contextlib.closing(open_backend(location, patience=patience)) as backend:
            return backend.read_record("keyring", limit=MAX_KEYRING_BYTES) is not None
    path = os.path.join(expanded(location), "keyring.json")
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        message = f"the store at {printable(os.fspath(location))} can't be looked at: {error.strerror}"
        hint = "Give this user access to the directory, or name another one"
        raise StorageError(message, hint=hint, errno=error.errno, filename=path) from None
    return True


def has_versions(location: str | os.PathLike[str], *, patience: float = Backend.patience) -> bool:
    """Return whether there is a version, even without a keyring: a folder ``history`` alone is not a store's.

    Arguments and errors are those of :func:`has_keyring`.
    """
    if scheme_of(location):
        with contextlib.closing(open_backend(location, patience=patience)) as backend:
            return any(backend.versions(stage) for stage in backend.stages())
    glob = load("glob")  # which takes long to import, and is needed only where the keyring is gone
    return any(glob.iglob(os.path.join(glob.escape(expanded(location)), "history", "*", "*.checkpoint")))
