"""What a pipeline's author touches: one class, one directory."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, NoReturn

from checkpoint_manager.backends.base import Backend
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.names import validate
from checkpoint_manager.envelope import payload
from checkpoint_manager.keys import Keys
from checkpoint_manager.model import Checkpoint, Repair, Report, Version, display
from checkpoint_manager.stages.resuming import Resuming
from checkpoint_manager.stages.running import Runner
from checkpoint_manager.store import comparing, drafting
from checkpoint_manager.store.deleting import Deleter
from checkpoint_manager.store.diff import Diff
from checkpoint_manager.store.history import History
from checkpoint_manager.store.keychain import Keychain
from checkpoint_manager.store.reading import Library
from checkpoint_manager.store.repairing import Repairer
from checkpoint_manager.store.restoring import Restorer
from checkpoint_manager.store.rollback import Acceptance
from checkpoint_manager.store.vault import Vault
from checkpoint_manager.store.verifying import Verifier
from checkpoint_manager.store.writing import Draft, Writer

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from checkpoint_manager.model import Durability, KeyFile, OnRollback, Passphrase
    from checkpoint_manager.store.history import Tip

_LOG = logging.getLogger("checkpoint_manager")


class CheckpointManager(Resuming):
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
        environment says
            (``CHECKPOINT_MANAGER_KEY_FILE``, ``CHECKPOINT_MANAGER_PASSPHRASE``, ``…_PASSPHRASE_FILE``,
            ``…_PASSPHRASE_COMMAND``), and if it says nothing, a key file in the user's data directory, made on first use.
        lock_timeout: How long a writer waits for another one, in seconds.
        durability: ``full``, or ``relaxed`` to leave the syncing of saves to the operating system: a power cut may then cost
            the last ones.
        on_rollback: What to do when the directory is older than what this user has already seen: ``raise`` or ``warn``.

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
    ) -> None:
        if durability not in {"full", "relaxed"}:
            raise ValueError(f'durability must be "full" or "relaxed", not {durability!r}')
        if on_rollback not in {"raise", "warn"}:
            raise ValueError(f'on_rollback must be "raise" or "warn", not {on_rollback!r}')
        if not lock_timeout >= 0 or math.isinf(lock_timeout):
            raise ValueError(f"lock_timeout must be a number of seconds, 0 or more, not {lock_timeout!r}")
        backend = checkpoint_dir if isinstance(checkpoint_dir, Backend) else LocalBackend(checkpoint_dir, durability)
        if exposure := backend.exposure():
            _LOG.warning("%s", exposure)
        vault = Vault(backend, Keychain(backend, key, on_rollback), lock_timeout, on_rollback)
        self._backend = backend
        self._history = History(vault)
        self._library = Library(vault, self._history)
        self._writer = Writer(vault, self._history)
        self._restorer = Restorer(vault, self._history, self._library, self._writer)
        self._deleter = Deleter(vault, self._history)
        self._verifier = Verifier(vault)
        self._repairer = Repairer(vault, self._history, self._verifier, self._deleter, self._writer)
        self._acceptance = Acceptance(vault, self._history, self._writer)
        self._runner = Runner(vault, self._library, self._writer)
        self.keys = Keys(vault)

    # Saving

    def save_checkpoint(
        self,
        stage_name: str,
        data: object = None,
        *,
        metadata: Mapping[str, object] | None = None,
        expected_version: int | None = None,
    ) -> Version:
        """Save a stage's progress as its newest version. When this returns, the version survives a power cut.

        Args:
            stage_name: Any non-empty text up to 255 characters.
            data: Any JSON value; see :mod:`checkpoint_manager.envelope.payload` for what is refused.
            metadata: A dict of JSON values that ``history`` shows without reading the data.
            expected_version: Refuse unless this is the newest version now (0: none yet).

        Raises:
            PayloadError: The data would not come back equal; the error names the value's path. Nothing was written.
            VersionConflictError: Another version is the newest. Nothing was written.
            LockTimeoutError: Another writer held the stage for longer than ``lock_timeout``. Nothing was written.
            RollbackError: The directory is older than what this user has seen. Nothing was written.
            StorageError: The operating system refused. All older versions are as they were.
        """
        stage = validate(stage_name)
        draft = drafting.draft(stage, data, metadata)
        return self._saved(self._writer.save(stage, draft, expected_version))

    def update_checkpoint(
        self,
        stage_name: str,
        function: Callable[[Any], object],
        *,
        metadata: Mapping[str, object] | None = None,
    ) -> Version:
        """Replace a stage's data by what a function makes of it, with no other writer in between.

        Args:
            stage_name: The stage.
            function: Is called with the newest version's data (None if there is none, or the stage is cleared) under the
                stage's lock, and returns the new data. Keep it short, and don't write to the same stage in it.
            metadata: As for ``save_checkpoint``.

        Raises:
            IntegrityError: The newest version is damaged; an update of it would lose what it held.
            Exception: Whatever the function raises. Nothing was written then. And as ``save_checkpoint``.
        """
        stage = validate(stage_name)

        def make(_: Tip) -> Draft:
            loaded = self._library.newest_of_any_kind(stage)
            present = None if loaded is None or loaded.entry.status == "cleared" else payload.decode(loaded.data)
            return drafting.draft(stage, function(present), metadata)

        return self._saved(self._writer.update(stage, make))

    # Reading

    def has_checkpoint(self, stage_name: str) -> bool:
        """Return True only if the stage's newest version is whole, authentic and completed.

        A damaged one gives False and an ERROR log line: the stage is computed again, and the file is kept as evidence.

        Raises:
            RollbackError: The directory is older than what this user has seen.
            WrongKeyError: The key was removed from the store meanwhile.
        """
        return self._library.is_completed(validate(stage_name))

    def load_checkpoint(self, stage_name: str, version: int | None = None) -> Any:  # noqa: ANN401  # JSON is what it is
        """Return a stage's data, equal to what was saved.

        Args:
            stage_name: The stage.
            version: The version's number; None: the newest.

        Raises:
            CheckpointNotFoundError: There is no such version, or it was deleted, or the stage is cleared.
            IntegrityError: It is damaged, forged or missing.
            RollbackError: The directory is older than what this user has seen.
        """
        return self.get_checkpoint(stage_name, version).data

    def get_checkpoint(self, stage_name: str, version: int | None = None) -> Checkpoint:
        """Return a version with its data; arguments and errors as for ``load_checkpoint``."""
        stage = validate(stage_name)
        loaded = self._library.newest(stage) if version is None else self._library.version(stage, drafting.number(version))
        return Checkpoint(loaded.entry.as_version(stage, loaded.version), payload.decode(loaded.data))

    def history(self, stage_name: str) -> list[Version]:
        """Return the versions of a stage, newest first, without reading their data; empty if there are none.

        Versions whose metadata does not open are left out with an ERROR log line; ``verify`` lists them.
        """
        return self._history.versions(validate(stage_name))

    def stages(self) -> list[str]:
        """Return the names of all stages that have a history, sorted; cleared ones too."""
        return sorted(self._backend.stages())

    def diff(self, stage_name: str, old: int | None = None, new: int | None = None) -> Diff:
        """Return what changed from one version of a stage to another one.

        Args:
            stage_name: The stage.
            old: The earlier version's number; None: the one before ``new``.
            new: The later version's number; None: the newest.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
        """
        stage = validate(stage_name)
        pair = self._library.pair(stage, old and drafting.number(old), new and drafting.number(new))
        before, after = (each.entry.as_version(stage, each.version) for each in pair)
        return Diff(before, after, comparing.changes(*(payload.decode(each.data) for each in pair)))

    # Going back

    def restore_checkpoint(self, stage_name: str, version: int | None = None, *, at: datetime | None = None) -> Version:
        """Make an earlier version the newest, by appending a copy of it that says ``restored_from``.

        Nothing is removed, and restoring can itself be undone by restoring.

        Args:
            stage_name: The stage.
            version: The version's number; or
            at: an aware time: the version that was the newest then.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``. Nothing was written.
        """
        stage = validate(stage_name)
        if (version is None) == (at is None):
            raise TypeError("restore_checkpoint needs either version= or at=, and not both")
        if at is None:
            restored = self._restorer.restore(stage, drafting.number(version))
        else:
            restored = self._restorer.restore_at(stage, drafting.aware(at))
        _LOG.info("Checkpoint restored: %s (version %d, from %s)", display(stage), restored.version, restored.restored_from)
        return restored

    def restore_pipeline(self, *, at: datetime) -> list[Version]:
        """Bring every stage back to its state at a moment, and return the versions that this appended.

        Stages that did not exist then end up cleared; those that are as they were are left alone. All that is to be restored is
        read and verified before the first stage is touched; killed in between, run it again.

        Args:
            at: The moment, an aware time.
        """
        appended = self._restorer.restore_all(drafting.aware(at))
        _LOG.info("Pipeline restored: %d stages changed, to their state at %s", len(appended), at.isoformat())
        return appended

    # Clearing and deleting

    def clear_checkpoint(self, stage_name: str) -> Version | None:
        """Mark a stage as not done, by appending a ``cleared`` version: a restore undoes it.

        Returns:
            The version, or None if there was nothing to clear.
        """
        stage = validate(stage_name)
        cleared = self._restorer.clear(stage)
        _LOG.info("Checkpoint cleared: %s", display(stage))
        return cleared

    def clear_checkpoints(self) -> None:
        """Mark all stages as not done, by appending a ``cleared`` version to each: a restore undoes it."""
        self._restorer.clear_all()
        _LOG.info("All checkpoints cleared.")

    def delete_versions(self, stage_name: str, versions: Iterable[int]) -> None:
        """Delete versions for good. An authenticated record remains, so that ``verify`` can tell it from a theft.

        Args:
            stage_name: The stage.
            versions: The numbers, which are never used again. Not the newest one's.

        Raises:
            CheckpointNotFoundError: One of them does not exist. Nothing was deleted.
            CheckpointError: One of them is the newest. Nothing was deleted.
        """
        stage = validate(stage_name)
        deleted = self._deleter.delete(stage, [drafting.number(version) for version in versions])
        _LOG.info("Versions deleted: %s %s", display(stage), deleted)

    # Upkeep

    def verify(self, stage: str | None = None, *, progress: Callable[[int, int], None] | None = None) -> Report:
        """Read and check everything, and return what was found. Never raises for what it finds.

        Args:
            stage: One stage, or None for the whole store.
            progress: Called after each version with how many are done, and how many there are.
        """
        return self._verifier.verify(None if stage is None else validate(stage), progress)

    def repair(self, *, dry_run: bool = False) -> list[Repair]:
        """Move damaged files aside, set the marks of the newest versions again, remove leftovers; return what was done.

        Args:
            dry_run: Change nothing, and return what would be done.
        """
        return self._repairer.repair(dry_run=dry_run)

    def accept_rollback(self, stage: str | None = None) -> list[Version]:
        """Accept that the directory is older than what was seen, because an older copy was put back on purpose.

        The versions that are gone are recorded as lost, their numbers stay used, and what is the newest now is appended once
        more above them. If the keyring is older too, open the store with ``on_rollback="warn"`` to get here.

        Returns:
            The versions that this appended.
        """
        return self._acceptance.accept(None if stage is None else validate(stage))

    def __repr__(self) -> str:
        return f"CheckpointManager({self._backend.location!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: it holds keys."""
        raise TypeError(
            "a CheckpointManager can't be pickled or copied, for it holds the store's keys: pass the directory "
            "instead, and make a "
            "manager there"
        )

    def _saved(self, version: Version) -> Version:
        _LOG.info("Checkpoint saved: %s (version %d)", display(version.stage), version.version)
        return version
