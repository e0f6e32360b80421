"""What a pipeline's author touches: one class, one directory. Its methods stand by topic in the modules beside this one."""

from __future__ import annotations

import logging
import math
from functools import cached_property
from typing import TYPE_CHECKING, NoReturn

from checkpoint_manager._operations.services import Store
from checkpoint_manager._store.open_keyring import Keychain
from checkpoint_manager._store.store import Vault
from checkpoint_manager.backends.base import Backend
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.manager.going_back import GoingBack
from checkpoint_manager.manager.keeping import Keeping
from checkpoint_manager.manager.moving import Moving
from checkpoint_manager.manager.reading import Reading
from checkpoint_manager.manager.saving import Saving
from checkpoint_manager.manager.upkeep import Upkeep
from checkpoint_manager.stages.resuming import Resuming

if TYPE_CHECKING:
    import os

    from checkpoint_manager.keys import Keys
    from checkpoint_manager.models import Durability, KeyFile, OnRollback, Passphrase
    from checkpoint_manager.retention import Retention

_LOG = logging.getLogger("checkpoint_manager")


class CheckpointManager(Saving, Reading, GoingBack, Keeping, Upkeep, Moving, Resuming):
    """A secure, versioned store of a pipeline's checkpoints.

    Every save is encrypted, atomic, durable and kept as a version; every earlier version can be restored; any number of
    processes and threads may write at once. A manager may be shared by threads and used after a fork; it can't be pickled.

    ::

        cm = CheckpointManager("checkpoints")
        if not cm.has_checkpoint("train"):
            cm.save_checkpoint("train", {"epoch": 3})

    Args:
        checkpoint_dir: The directory, one for each pipeline; made if it is not there. Or a backend.
        key: A :class:`Passphrase`, a :class:`KeyFile` (or a path, as ``pathlib.Path``), or 32 bytes. None: what the
            environment says (``CHECKPOINT_MANAGER_KEY_FILE``, ``CHECKPOINT_MANAGER_PASSPHRASE``, ``…_PASSPHRASE_FILE``,
            ``…_PASSPHRASE_COMMAND``), and if it says nothing, a key file in the user's data directory, made on first use.
        lock_timeout: How long a writer waits for another one, in seconds.
        durability: ``full``, or ``relaxed`` to leave the syncing of saves to the operating system: a power cut may then cost
            the last ones.
        on_rollback: What to do when the directory is older than what this user has already seen: ``raise`` or ``warn``.
        retention: What is kept of each stage that this manager saves to: a little is deleted after a save, at a cost that does
            not depend on the length of the history; see :mod:`checkpoint_manager._operations.auto_prune`. None: all of it.

    Raises:
        KeyUnavailableError: There is no key, or there are two.
        WrongKeyError: The key does not open this store.
        IntegrityError: The keyring is damaged or forged.
        RollbackError: The keyring is older than one this user has seen.
        StorageError: The directory can't be made or opened.
    """

    def __init__(
        self,
        checkpoint_dir: str | os.PathLike[str] | Backend = "checkpoints",
        *,
        key: Passphrase | KeyFile | os.PathLike[str] | bytes | None = None,
        lock_timeout: float = 60.0,
        durability: Durability = "full",
        on_rollback: OnRollback = "raise",
        retention: Retention | None = None,
    ) -> None:
        if durability not in {"full", "relaxed"}:
            raise ValueError(f'durability must be "full" or "relaxed", not {durability!r}')
        if on_rollback not in {"raise", "warn"}:
            raise ValueError(f'on_rollback must be "raise" or "warn", not {on_rollback!r}')
        if not lock_timeout >= 0 or math.isinf(lock_timeout):
            raise ValueError(f"lock_timeout must be a number of seconds, 0 or more, not {lock_timeout!r}")
        if retention is not None:
            _check_policy(retention)
        backend = checkpoint_dir if isinstance(checkpoint_dir, Backend) else LocalBackend(checkpoint_dir, durability)
        if exposure := backend.exposure():
            _LOG.warning("%s", exposure)
        vault = Vault(backend, Keychain(backend, key, on_rollback), lock_timeout, on_rollback)
        self._store = Store(vault, retention)

    @cached_property
    def keys(self) -> Keys:
        """The slots that open the store, and the change of its key."""
        from checkpoint_manager.keys import Keys  # noqa: PLC0415  # for those who look at the keys, or change them

        return Keys(self._store.vault)

    def __repr__(self) -> str:
        return f"CheckpointManager({self._store.backend.location!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: it holds keys."""
        raise TypeError(
            "a CheckpointManager can't be pickled or copied, for it holds the store's keys: pass the directory instead, and "
            "make a manager there"
        )


def _check_policy(policy: object) -> None:
    from checkpoint_manager.retention import Retention  # noqa: PLC0415  # for those who give a policy

    if not isinstance(policy, Retention):
        raise TypeError(f"retention must be a Retention, such as Retention(keep_last=5), not {type(policy).__name__}")
