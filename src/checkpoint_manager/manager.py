"""The public class: what the author of a pipeline works with, on one page.

A method checks what its caller hands in, passes it to the function that does the work, and logs what was done. Operations that
few programs need are loaded by :mod:`checkpoint_manager._operations` and :mod:`checkpoint_manager.stages` when they are first
called, before anything is locked.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from checkpoint_manager import _operations, stages
from checkpoint_manager._format import payload
from checkpoint_manager._log import get_logger
from checkpoint_manager._operations import load, save
from checkpoint_manager._store.key_sources import conceal, given_secret
from checkpoint_manager._store.open_keyring import OpenKeyring
from checkpoint_manager._store.store import Store
from checkpoint_manager.backends.base import maintenance_of
from checkpoint_manager.backends.registry import open_backend, redacted, scheme_of
from checkpoint_manager.backends.stage_names import checked, validate
from checkpoint_manager.keys import Keys
from checkpoint_manager.models import Checkpoint, KeyFile, Version

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
    from datetime import datetime
    from typing import BinaryIO

    from checkpoint_manager._operations.diff import Diff
    from checkpoint_manager.backends.base import Backend
    from checkpoint_manager.models import (
        BundleSummary,
        Durability,
        Key,
        OnProgress,
        OnRollback,
        RepairStep,
        RestoreStep,
        VerificationReport,
    )
    from checkpoint_manager.retention import PrunePlan, Retention
    from checkpoint_manager.stages.loop import Loop
    from checkpoint_manager.stages.report import RunReport
    from checkpoint_manager.stages.runner import Runner

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S")

_LOG = get_logger()


def _valid(stage_name: object) -> str:
    """Return the name of a stage as a plain str; a name that was checked before is only looked up."""
    try:
        return checked(stage_name)
    except TypeError:  # it is not hashable, so not text
        return validate(stage_name)


class CheckpointManager:
    """A secure, versioned store of a pipeline's checkpoints.

    Every save is encrypted, atomic, durable and kept as a version; every earlier version can be restored; any number of
    processes and threads may write at once. A manager may be shared by threads and used after a fork. It can be pickled where
    its key comes from a key file or the environment: the store's location and the source of the key travel, never a key.

    ::

        cm = CheckpointManager("checkpoints")
        if not cm.has_checkpoint("train"):
            cm.save_checkpoint("train", {"epoch": 3})

    Three kinds of argument have the same meaning in every method:

    * ``stage_name`` is any non-empty text of up to 255 characters.
    * ``version`` is a version's number, ``"latest"`` (the newest completed version), ``"prev"`` (the completed one before it),
      ``"failed"`` (the newest record of a failure) or a tag.
    * ``at`` is a moment: a ``datetime``, or text such as ``2026-11-20T14:00`` or ``1d`` (one day ago). **Without a time zone,
      it is local time**, in both forms and on the command line.

    Args:
        checkpoint_dir: The directory, one for each pipeline, created if needed. Or a URL, such as ``memory:`` for a store that
            lasts as long as the manager; or a :class:`~checkpoint_manager.backends.base.Backend`.
        key: A :class:`Passphrase`, a :class:`KeyFile` (or its path, as ``pathlib.Path``), or 32 bytes. None: what the
            environment says (``CHECKPOINT_MANAGER_KEY_FILE``, ``CHECKPOINT_MANAGER_PASSPHRASE``, ``…_PASSPHRASE_FILE``,
            ``…_PASSPHRASE_COMMAND``), and if it says nothing, a key file in the user's data directory, made on first use.
        lock_timeout: How long a writer waits for another one, in seconds.
        durability: ``full``, or ``relaxed`` to leave the syncing of saves to the operating system: a power cut may then cost
            the last ones. A backend that can't heed it refuses it.
        on_rollback: What to do when the store is older than what this user has already seen: ``raise`` or ``warn``.
        retention: What is kept of each stage that this manager saves to: a little is deleted after a save, at a cost that does
            not depend on the length of the history; see :mod:`checkpoint_manager._operations.auto_prune`. None: everything.

    Raises:
        KeyUnavailableError: There is no key, or there are two.
        WrongKeyError: The key does not open this store.
        IntegrityError: The keyring is damaged or forged.
        RollbackError: The keyring is older than one this user has seen, or another store is in this one's place.
        LocationError: The scheme of the URL is not known, or the backend can't heed ``durability``.
        StorageError: The directory can't be created or opened.
    """

    _made_runner: Runner | None = None

    def __init__(
        self,
        checkpoint_dir: str | os.PathLike[str] | Backend = "checkpoints",
        *,
        key: Key | None = None,
        lock_timeout: float = 60.0,
        durability: Durability = "full",
        on_rollback: OnRollback = "raise",
        retention: Retention | None = None,
    ) -> None:
        key = conceal(key)
        if durability not in {"full", "relaxed"}:
            raise ValueError(f'durability must be "full" or "relaxed", not {durability!r}')
        if on_rollback not in {"raise", "warn"}:
            raise ValueError(f'on_rollback must be "raise" or "warn", not {on_rollback!r}')
        if not lock_timeout >= 0 or math.isinf(lock_timeout):
            raise ValueError(f"lock_timeout must be a number of seconds, 0 or more, not {lock_timeout!r}")
        if retention is not None:
            _operations.prune.check_policy(retention)
        backend = open_backend(checkpoint_dir, durability=durability)
        for warning in maintenance_of(backend).warnings():
            _LOG.warning("%s", warning)
        self._store = Store(backend, OpenKeyring(backend, key, on_rollback), lock_timeout, on_rollback)
        if retention is not None:
            self._store.after_append = _operations.auto_prune.AutoPrune(self._store, retention).after
        self._arguments: dict[str, Any] | None = None  # to open the store again, where that needs no secret
        is_found_again = backend is not checkpoint_dir and backend.capabilities.persistent
        has_password = isinstance(checkpoint_dir, str) and redacted(checkpoint_dir) != checkpoint_dir
        if is_found_again and not has_password and (key is None or isinstance(key, KeyFile | os.PathLike)):
            self._arguments = {
                "checkpoint_dir": checkpoint_dir if scheme_of(str(checkpoint_dir)) else backend.location,
                "key": key if key is None else _with_whole_path(key),
                "lock_timeout": lock_timeout,
                "durability": durability,
                "on_rollback": on_rollback,
                "retention": retention,
            }

    def close(self) -> None:
        """Free what the store's backend holds, such as connections. The manager is not used afterwards.

        A ``with`` block does this at its end. A directory holds nothing, and need not be closed.
        """
        self._store.backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

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
            stage_name: The stage.
            data: Any JSON value; see :mod:`checkpoint_manager._format.payload` for what is refused.
            metadata: A dict of JSON values that ``history`` shows without reading the data.
            expected_version: Refuse unless this is the newest version now (0: none yet).

        Raises:
            PayloadError: The data would not come back equal; the error names the value's path. Nothing was written.
            VersionConflictError: Another version is the newest. Nothing was written.
            LockTimeoutError: Another writer held the stage for longer than ``lock_timeout``. Nothing was written.
            RollbackError: The store is older than what this user has seen. Nothing was written.
            StorageError: The operating system refused. All older versions are as they were.
        """
        stage = _valid(stage_name)
        return self._saved(save.save(self._store, stage, save.draft(stage, data, metadata), expected_version))

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
        stage = _valid(stage_name)

        return self._saved(save.update(self._store, stage, function, metadata))

    def _saved(self, version: Version) -> Version:
        _LOG.info("Checkpoint saved: %s (version %d)", version.stage, version.number)
        return version

    # Reading

    def has_checkpoint(self, stage_name: str) -> bool:
        """Return True only if the stage's newest version is whole, authentic and completed.

        A damaged one gives False and an ERROR log line: the stage is computed again, and the file is kept as evidence.

        Raises:
            RollbackError: The store is older than what this user has seen.
            WrongKeyError: The key was removed from the store meanwhile.
        """
        return load.is_completed(self._store, _valid(stage_name))

    def load_checkpoint(self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None) -> Any:  # noqa: ANN401  # JSON is what it is
        """Return a stage's data, equal to what was saved.

        Args:
            stage_name: The stage.
            version: A number, ``"latest"``, ``"prev"``, ``"failed"`` or a tag; None: the newest completed version, never the
                record of a failure and never half a loop.
            at: Instead of ``version``, a moment: the version that was the newest then, of those that still exist.

        Raises:
            CheckpointNotFoundError: There is no such version, or it was deleted, or the stage is cleared or not completed.
            IntegrityError: The version is damaged, forged or missing; or one above it is, which may hold newer data.
            RollbackError: The store is older than what this user has seen.
        """
        stage = _valid(stage_name)
        if version is None and at is None:
            return payload.decode(load.load_newest(self._store, stage).data)
        return self.get_checkpoint(stage, version, at=at).data

    def get_checkpoint(
        self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None
    ) -> Checkpoint:
        """Return a version with its data; arguments and errors as for ``load_checkpoint``."""
        stage = _valid(stage_name)
        if version is None and at is None:
            loaded = load.load_newest(self._store, stage)
        else:
            loaded = load.load_version(self._store, stage, _operations.select.named(self._store, stage, version, at))
        return Checkpoint(loaded.entry.as_version(stage, loaded.version), payload.decode(loaded.data))

    def get_version(self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None) -> Version:
        """Return a version without its data, whatever its status: that of a cleared stage, too.

        Args:
            stage_name: The stage.
            version: A number, ``"latest"``, ``"prev"``, ``"failed"`` or a tag; None: the newest version, whatever its status.
            at: Instead of ``version``, a moment, as for ``load_checkpoint``.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
        """
        stage = _valid(stage_name)
        number = _operations.select.chosen(self._store, stage, version, at)
        if number is None:
            number = _operations.select.newest(self._store, stage)
        return self._store.history.entry(stage, number).as_version(stage, number)

    def resolve(self, selector: str, *, at: datetime | str | None = None) -> Version:
        """Return the version that ``STAGE``, ``STAGE@7``, ``STAGE@latest``, ``STAGE@prev`` or ``STAGE@TAG`` names.

        This is how the command line takes a stage and a version in one word; see also ``get_version``. A stage alone names its
        newest version, whatever its status.

        Args:
            selector: The stage and the version. A stage whose own name ends like that is written ``STAGE@3@latest``.
            at: As for ``load_checkpoint``, with a selector that names no version.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
            StageNameError, TagError: It can't be a selector, or could mean two things.
        """
        stage, version = _operations.select.split(self._store, selector)
        return self.get_version(stage, version, at=at)

    def history(self, stage_name: str) -> list[Version]:
        """Return the versions of a stage, newest first, without reading their data; empty if there are none.

        None is passed over: one that does not open has the status ``damaged``, and one that is gone without a record of its
        deletion has the status ``missing``. Their ``created_at``, ``origin`` and ``size`` are None. Versions that were deleted
        on purpose are not in the list. The data is not read: ``verify`` does that.

        Raises:
            IntegrityError: The record of deleted versions is damaged or forged.
            RollbackError: The stage, or that record, is older than what this user has seen.
        """
        return self._store.history.versions(_valid(stage_name))

    def stages(self, prefix: str = "") -> list[str]:
        """Return the names of the stages, sorted; cleared ones too.

        A stage counts if it holds a version that opens, or if this user has seen it: a folder that anyone may have made does
        not make a stage, and a stage whose folder vanished is still named.

        Args:
            prefix: Return only names that begin with this.
        """
        return [stage for stage in self._store.stages() if stage.startswith(prefix)]

    def diff(
        self,
        stage_name: str,
        old: int | str | None = None,
        new: int | str | None = None,
        *,
        at: datetime | str | None = None,
    ) -> Diff:
        """Return what changed from one version of a stage to another one.

        Args:
            stage_name: The stage.
            old: The earlier version, as for ``load_checkpoint``; None: the one before ``new``.
            new: The later version; None: the newest.
            at: Instead of ``old``, a moment, as for ``load_checkpoint``.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
        """
        stage = _valid(stage_name)
        before, after = (
            _operations.select.chosen(self._store, stage, old, at),
            _operations.select.chosen(self._store, stage, new, None),
        )
        return _operations.diff.diff(self._store, stage, before, after)

    # Going back: each of these appends a version, and can be undone by another one

    def restore_checkpoint(
        self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None
    ) -> Version:
        """Make an earlier version the newest, by appending a copy of it that says ``restored_from``.

        Nothing is removed, and a restore can itself be undone by a restore.

        Args:
            stage_name: The stage.
            version: The version's number, ``"prev"``, ``"latest"`` or a tag; or
            at: a moment, as for ``load_checkpoint``: the version that was the newest then.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``. Nothing was written.
        """
        stage = _valid(stage_name)
        if (version is None) == (at is None):
            raise TypeError("restore_checkpoint needs either version= or at=, and not both")
        if at is None:
            restored = _operations.restore.restore(self._store, stage, _operations.select.checked(version))
        else:
            restored = _operations.restore.restore_at(self._store, stage, _operations.select.moment(at))
        _LOG.info("Checkpoint restored: %s (version %d, from %s)", stage, restored.number, restored.restored_from)
        return restored

    def restore_pipeline(self, *, at: datetime | str | None = None, tag: str | None = None) -> list[Version]:
        """Bring every stage back to a moment, or to its version with a tag, and return the versions that this appended.

        Stages that did not exist then or have no such tag, or whose versions of that time are deleted, end up cleared; those
        that are as they were are left alone. Everything that is to be restored is read and verified before the first stage is
        touched; if it is killed in between, run it again. ``plan_restore`` says beforehand what this does.

        Args:
            at: The moment, as for ``load_checkpoint``; or
            tag: the tag, as ``tag_pipeline`` gives it to all stages.

        Raises:
            CheckpointNotFoundError: No stage has the tag. Nothing was written.
            IntegrityError, RollbackError: As for ``load_checkpoint``. Nothing was written.
        """
        goal = _operations.restore.goal(at, tag)
        appended = _operations.restore.restore_pipeline(self._store, goal)
        _LOG.info("Pipeline restored: %d stages changed, to %s", len(appended), goal.description)
        return appended

    def plan_restore(self, *, at: datetime | str | None = None, tag: str | None = None) -> list[RestoreStep]:
        """Return what ``restore_pipeline`` would do, a step for each stage, and change nothing.

        Everything that would be restored is read and verified. A stage that can't be restored does not hide the others: its
        step says why.

        Raises:
            CheckpointNotFoundError: No stage has the tag.
        """
        return _operations.restore.plan(self._store, _operations.restore.goal(at, tag))

    def clear_checkpoint(self, stage_name: str) -> Version | None:
        """Mark a stage as not done, by appending a ``cleared`` version, which a restore undoes.

        Returns:
            The version that was appended, or None if there was nothing to clear.
        """
        stage = _valid(stage_name)
        cleared = _operations.restore.clear(self._store, stage)
        _LOG.info("Checkpoint cleared: %s", stage)
        return cleared

    def clear_checkpoints(self) -> list[Version]:
        """Mark all stages as not done, by appending a ``cleared`` version to each, which a restore undoes.

        Returns:
            The versions that were appended; a stage that was cleared already has none.
        """
        cleared = _operations.restore.clear_all(self._store)
        _LOG.info("All checkpoints cleared.")
        return cleared

    # Tags and deletion

    def tag(self, stage_name: str, version: int | str, name: str, *, force: bool = False) -> Version:
        """Give a version a name, which stands for its number from then on and protects it from deletion.

        Tags are authenticated, like everything else. To give a version a tag that it has already changes nothing.

        Args:
            stage_name: The stage.
            version: A number, ``"latest"``, ``"prev"``, ``"failed"`` or another tag.
            name: Up to 64 of ``A-Z a-z 0-9 _ . + -``, beginning with a letter or ``_``; not ``latest``, ``prev`` or ``failed``.
            force: Move the name if another version has it.

        Returns:
            The version that has the name now.

        Raises:
            TagError: The name can't be one, or names another version.
            CheckpointNotFoundError, IntegrityError: The version is not there, or is damaged.
            RollbackError: The tags are older than what this user has seen.
        """
        stage, wanted = _valid(stage_name), _operations.tag.validate(name)
        number = _operations.select.number(self._store, stage, _operations.select.checked(version))
        entry = _operations.tag.tag_version(self._store, stage, number, wanted, force=force)
        _LOG.info("Version tagged: %s (version %d is %s)", stage, number, wanted)
        return entry.as_version(stage, number)

    def tag_pipeline(self, name: str, *, force: bool = False) -> list[Version]:
        """Give a tag to the state of every stage, for ``restore_pipeline``: to its newest completed or cleared version.

        A stage that was never completed gets none. All stages are looked at before the first one is changed; if it is killed in
        between, run it again.

        Args:
            name: As for ``tag``.
            force: Move the name where another version has it.

        Returns:
            The versions that have the name now.

        Raises:
            TagError: The name can't be a tag, or names another version of a stage. Nothing was changed.
            IntegrityError, RollbackError: As for ``tag``. Nothing was changed.
        """
        wanted = _operations.tag.validate(name)
        tagged = _operations.tag.tag_pipeline(self._store, wanted, force=force)
        _LOG.info("Pipeline tagged: %d stages are %s", len(tagged), wanted)
        return tagged

    def untag(self, stage_name: str, name: str) -> None:
        """Take a name away: it no longer protects its version.

        Raises:
            CheckpointNotFoundError: There is no such tag.
            RollbackError: The tags are older than what this user has seen.
        """
        stage, unwanted = _valid(stage_name), _operations.tag.validate(name, existing=True)
        _operations.tag.untag(self._store, stage, [unwanted])
        _LOG.info("Tag removed: %s %s", stage, unwanted)

    def tags(self, stage_name: str) -> dict[str, int]:
        """Return a stage's tags, sorted by name, with the numbers of the versions they name.

        Raises:
            IntegrityError: The record of tags is damaged or forged.
            RollbackError: It is older than what this user has seen.
        """
        tags, _ = _operations.tag.read(self._store, _valid(stage_name))
        return {name: tagged.version for name, tagged in tags.named.items()}

    def prune(self, policy: Retention, stage_name: str | None = None, *, dry_run: bool = False) -> PrunePlan:
        """Delete for good what a policy does not keep, and return the plan: each version, and which rule keeps it, or none.

        Whatever the policy says, the newest version of a stage is never deleted, nor the newest completed and the newest
        cleared one, nor versions that do not open. Before anything is deleted, the newest completed version is read as a whole.

        Args:
            policy: The rules; see :class:`Retention`.
            stage_name: One stage, or None for all of them.
            dry_run: Delete nothing, and return the plan that would be carried out.

        Raises:
            CheckpointNotFoundError: There is no such stage.
            IntegrityError, RollbackError: The record of tags or of deleted versions can't be trusted. Nothing of that stage was
                deleted.
        """
        _operations.prune.check_policy(policy)
        stage = None if stage_name is None else _valid(stage_name)
        plan = _operations.prune.prune(self._store, policy, stage, dry_run=dry_run)
        if not dry_run:
            _LOG.info("Versions pruned: %d deleted, %d kept", len(plan.dropped), len(plan.kept))
        return plan

    def delete_versions(self, stage_name: str, versions: Iterable[int]) -> list[int]:
        """Delete versions for good. An authenticated record remains, so that ``verify`` can tell a deletion from a theft.

        Args:
            stage_name: The stage.
            versions: Their numbers, which are never used again. The newest version can't be deleted.

        Returns:
            The numbers of the versions that were deleted, in order.

        Raises:
            CheckpointNotFoundError: One of them does not exist. Nothing was deleted.
            CheckpointError: One of them is the newest, or has a tag. Nothing was deleted.
        """
        stage = _valid(stage_name)
        chosen = [_operations.select.checked_number(version) for version in versions]
        deleted = _operations.delete.delete_versions(self._store, stage, chosen)
        _LOG.info("Versions deleted: %s %s", stage, deleted)
        return deleted

    # Upkeep

    def verify(self, stage_name: str | None = None, *, progress: OnProgress | None = None) -> VerificationReport:
        """Read and check everything, and return what was found. Findings are never raised.

        Args:
            stage_name: One stage, or None for the whole store.
            progress: Called after each version.
        """
        stage = None if stage_name is None else _valid(stage_name)
        return _operations.verify.verify(self._store, stage, progress)

    def repair(self, *, dry_run: bool = False) -> list[RepairStep]:
        """Move damaged files aside, remove leftovers, set the heads right, and return what was done.

        Args:
            dry_run: Change nothing, and return what would be done.
        """
        return _operations.repair.repair(self._store, dry_run=dry_run)

    def accept_rollback(self, stage_name: str | None = None) -> list[Version]:
        """Accept that the store is older than what was seen, because an older copy was put back on purpose.

        The versions that are gone are recorded as lost, their numbers stay used, and what is the newest now is appended once
        more above them. If the keyring is older too, open the store with ``on_rollback="warn"`` to get here.

        Args:
            stage_name: One stage, or None for the whole store.

        Returns:
            The versions that this appended.
        """
        stage = None if stage_name is None else _valid(stage_name)
        return _operations.accept_rollback.accept_rollback(self._store, stage)

    # Bundles

    def export_bundle(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        stages: Iterable[str] | None = None,
        *,
        key: Key,
        overwrite: bool = False,
        progress: OnProgress | None = None,
    ) -> BundleSummary:
        """Write the histories and tags of stages into a bundle: one file, encrypted as a whole, that another store can import.

        Writers need not stop. The file appears whole or not at all. A bundle has a key of its own, which says nothing about the
        store's; whoever knows the secret given here reads all that the bundle holds.

        Args:
            file: Where to; or an open binary stream.
            stages: Which stages; None: all of them.
            key: What is to open the bundle where it arrives: a passphrase, a key file, or 32 bytes. There is no default: the
                store's own secret may not be known there.
            overwrite: Replace a file that is there.
            progress: Called after each version.

        Raises:
            CheckpointNotFoundError: There is no such stage. Nothing was written.
            IntegrityError: A stage is damaged, or something is missing. Nothing was written.
            RollbackError: A stage, or its tags, are older than what this user has seen. Nothing was written.
            StorageError: The file exists already, or the operating system refused.
        """
        key = conceal(key)
        if isinstance(stages, str):
            raise TypeError(f'stages= is a list of names: write ["{stages}"]')
        chosen = None if stages is None else [_valid(stage) for stage in stages]
        bundle = _operations.export_bundle.export_bundle(
            self._store, file, given_secret(key), chosen, overwrite=overwrite, progress=progress
        )
        _LOG.info("Bundle exported: %d stages, %d versions, %d bytes", len(bundle.stages), bundle.versions, bundle.size)
        return bundle

    def import_bundle(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        key: Key,
        rename: Mapping[str, str] | None = None,
        dry_run: bool = False,
        progress: OnProgress | None = None,
    ) -> BundleSummary:
        """Take over the histories of a bundle: all that is not in this store yet.

        The whole bundle is verified before anything is written. Numbers, times, metadata and origins stay as they were. A stage
        that this store has already gets the newer versions, if both are one history; so doing this again and again keeps a copy
        up to date. Killed in the middle, run it again: it goes on where it stopped.

        So do the tags of versions that are here then. A name that another version has here already is not moved: ``tags_kept``
        of its stage in the result says so.

        Args:
            file: The bundle; or an open binary stream, which is kept, encrypted, in a temporary file.
            key: What the bundle was exported with.
            rename: Other names for stages, by their names in the bundle.
            dry_run: Verify the bundle and say what would be added, and change nothing.
            progress: Called after each piece, in bytes; the bundle is read twice.

        Raises:
            WrongKeyError: The bundle was made for another key. Nothing was imported.
            IntegrityError: It is damaged, cut short or forged. Nothing was imported.
            FormatError: It was made by a newer version of the library. Nothing was imported.
            VersionConflictError: A stage has another history here; they are named. Nothing was imported. Or another writer
                saved a version meanwhile: import it again.
            RollbackError: This store is older than what this user has seen of it. Nothing was imported.
            TagError: A stage would have too many tags. Nothing was imported.
            StorageError: The operating system refused, or a stage would have more deletions than can be recorded.
        """
        key = conceal(key)
        names = {_valid(old): _valid(new) for old, new in (rename or {}).items()}
        bundle = _operations.import_bundle.import_bundle(
            self._store, file, given_secret(key), names, dry_run=dry_run, progress=progress
        )
        if not dry_run:
            _LOG.info("Bundle imported: %d stages, %d versions added", len(bundle.stages), bundle.added)
        return bundle

    # Functions and loops that resume

    @property
    def _runner(self) -> Runner:
        """Runs the stages of this manager: one for all threads, made when it is first needed."""
        if self._made_runner is None:
            self.__dict__.setdefault("_made_runner", stages.Runner(self._store))  # of two threads, the first one's
        runner: Runner = self.__dict__["_made_runner"]
        return runner

    @overload
    def stage(self, function: Callable[P, R], /) -> Callable[P, R]: ...

    @overload
    def stage(
        self,
        name: str | None = None,
        /,
        *,
        revision: int | str | None = None,
        code: bool | None = None,
        key: Callable[..., object] | None = None,
        ignore: Sequence[str] = (),
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], Any] | None = None,
        wait: bool | float = True,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def stage(
        self,
        name: Callable[..., Any] | str | None = None,
        /,
        *,
        revision: int | str | None = None,
        code: bool | None = None,
        key: Callable[..., object] | None = None,
        ignore: Sequence[str] = (),
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], Any] | None = None,
        wait: bool | float = True,
    ) -> Any:
        """Make a function a stage: it runs once for the same arguments, and its result is saved and returned to later calls.

        An exception is saved as a ``failed`` version, and the function runs again the next time. Of several calls with the same
        arguments, in any processes of one host, one runs and the others wait for its result; if its process is killed,
        another one takes over. Calls with other arguments run at the same time. Async functions work, too.

        A result belongs to the function's arguments, its name and where it comes from: another script's function of the same
        name does not reuse it (:mod:`checkpoint_manager.stages.identity`). It also belongs to the function's code and that of
        the functions and classes of the same module that it uses; comments, docstrings and formatting make no difference
        (:mod:`checkpoint_manager.stages.code`). When they change, the function runs again, and the log says which one changed.
        **Not compared** are the values of global variables, other modules, and the files that it reads: make them arguments, or
        give a ``revision`` and change it.

        Args:
            name: The stage's name; None: the function's.
            revision: A number or text for what the function does: another one makes it run again. Then the code is not
                compared, unless you say ``code=True``.
            code: Whether the code is compared; None: yes, unless there is a ``revision``.
            key: A function of the same arguments, whose result stands for them when they are compared.
            ignore: Names of arguments that are not compared.
            encode: Turns a result that is not JSON into JSON.
            decode: Turns that JSON back into the result.
            wait: How long to wait for another run with the same arguments, in seconds; True: until it ends, False: not at all.

        Raises:
            PayloadError: By its annotation, the function returns what can't be saved, and there is no ``encode``.
            FingerprintError: On a call: an argument can't be compared with later calls.
            ResultNotSavedError: On a call: the function ran, and its result could not be saved; the error carries it.
            LockTimeoutError: On a call: another run was not done in the time that ``wait`` gives it.
            CheckpointError: On a call: the function is called by itself with the same arguments.
            ValueError: Another function of this manager is the stage of this name.
            TypeError: It is a generator function or has no name, or ``ignore`` names an argument that it does not have.
        """
        if callable(name):
            return self.stage()(name)
        return stages.make_stage(
            self._runner,
            name,
            revision=revision,
            code=code,
            key=key,
            ignore=ignore,
            encode=encode,
            decode=decode,
            wait=wait,
        )

    @overload
    def loop(
        self,
        stage_name: str,
        items: Iterable[T] | AsyncIterable[T],
        *,
        initial: dict[str, Any],
        every_seconds: float = 30.0,
        every_items: int | None = None,
        revision: int | str = 1,
        key: object = None,
        wait: bool | float = True,
        bar: bool = True,
    ) -> Loop[T, dict[str, Any]]: ...

    @overload
    def loop(
        self,
        stage_name: str,
        items: Iterable[T] | AsyncIterable[T],
        *,
        initial: list[Any],
        every_seconds: float = 30.0,
        every_items: int | None = None,
        revision: int | str = 1,
        key: object = None,
        wait: bool | float = True,
        bar: bool = True,
    ) -> Loop[T, list[Any]]: ...

    @overload
    def loop(
        self,
        stage_name: str,
        items: Iterable[T] | AsyncIterable[T],
        *,
        initial: S,
        every_seconds: float = 30.0,
        every_items: int | None = None,
        revision: int | str = 1,
        key: object = None,
        wait: bool | float = True,
        bar: bool = True,
    ) -> Loop[T, S]: ...

    def loop(  # noqa: PLR0913  # all but three are choices with a default, by name
        self,
        stage_name: str,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        initial: Any,
        every_seconds: float = 30.0,
        every_items: int | None = None,
        revision: int | str = 1,
        key: object = None,
        wait: bool | float = True,
        bar: bool = True,
    ) -> Loop[Any, Any]:
        """Make a long loop a stage: its state is saved now and then, and after a kill the loop goes on from there.

        What is saved, what it is compared by and how it works with ``@cm.stage``: see :class:`Loop`.

        Args:
            stage_name: Any non-empty text up to 255 characters.
            items: What to loop over: a list, tuple or range; anything else in a certain order needs ``key``.
            initial: The state before the first item: any JSON value. It is copied.
            every_seconds: The shortest time between two saves, in seconds; 0: what saving costs alone decides.
            every_items: Save after so many items in any case.
            revision: A number or text for what the loop does: another one makes it start from the beginning.
            key: A value that stands for the items when they are compared.
            wait: How long to wait for another run of the same loop, in seconds; True: until it ends, False: not at all. In a
                coroutine, use ``async with``: ``with`` would block the event loop, and is refused where it would have to wait.
            bar: Show a bar if stderr is a terminal and ``rich`` is installed; else a line in the log every ten seconds.

        Raises:
            FingerprintError: The items can't be compared with later runs.
            PayloadError: The state is not JSON; in the loop, as soon as that is seen, mostly after the first item.
            ResultNotSavedError: At the end of the block: the result could not be saved; the error carries it.
            LockTimeoutError: On entry: another run was not done in the time that ``wait`` gives it.
        """
        return stages.make_loop(
            self._runner,
            stage_name,
            items,
            initial=initial,
            every_seconds=every_seconds,
            every_items=every_items,
            revision=revision,
            key=key,
            wait=wait,
            bar=bar,
        )

    def run_report(self) -> RunReport:
        """Return what became of each run of a stage since this manager was made: reused, ran, failed or stopped."""
        return stages.RunReport(tuple(self._runner.outcomes))

    # Keys

    @property
    def keys(self) -> Keys:
        """The slots that open the store, and the change of its key."""
        return Keys(self._store)

    def __repr__(self) -> str:
        store = getattr(self, "_store", None)  # an error while it was opened leaves it without one
        return f"CheckpointManager({store.backend.location!r})" if store is not None else "CheckpointManager(not open)"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle what opens the store again: its location, and where its key is found.

        Raises:
            TypeError: The manager was given the key itself, or a backend.
        """
        if self._arguments is None:
            raise TypeError(
                "a CheckpointManager that was given a secret or a backend can't be pickled or copied: open the store where it "
                "is needed, or give the key as a key file or in the environment"
            )
        return _open, (self._arguments,)


def _with_whole_path(key: KeyFile | os.PathLike[str]) -> KeyFile:
    """Return a key file by its absolute path, which means the same in another process."""
    return KeyFile(os.path.abspath(os.fsdecode(key.path if isinstance(key, KeyFile) else key)))


def _open(arguments: dict[str, Any]) -> CheckpointManager:
    return CheckpointManager(**arguments)
