"""The public class, :class:`CheckpointManager`.

Each method validates its arguments, calls the function that does the work, and logs the result. Operations that few programs
need are imported on first use, before anything is locked, by :mod:`checkpoint_manager._operations` and
:mod:`checkpoint_manager.stages`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Mapping
from logging import INFO
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, cast, overload

from checkpoint_manager import _loading, _operations, stages
from checkpoint_manager._arguments import (
    check,
    check_callback,
    check_choice,
    check_flags,
    check_seconds,
    check_wait,
    elements,
    wrong,
)
from checkpoint_manager._format import payload
from checkpoint_manager._format.codecs import checked as checked_codecs
from checkpoint_manager._lazy_log import get_logger
from checkpoint_manager._operations import load, save
from checkpoint_manager._store import listing
from checkpoint_manager._store.key_sources import conceal, find_secret, given_secret
from checkpoint_manager._store.store import open_store
from checkpoint_manager._text import counted
from checkpoint_manager.backends.registry import open_backend, redacted
from checkpoint_manager.backends.searchable import Searchable
from checkpoint_manager.backends.stage_names import checked, validate
from checkpoint_manager.credentials import KeyFile
from checkpoint_manager.errors import ArgumentError, CheckpointNotFoundError
from checkpoint_manager.models import Attachments, Checkpoint, Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime, timedelta
    from typing import BinaryIO

    from checkpoint_manager._operations.diff import Diff
    from checkpoint_manager._operations.load import Loaded
    from checkpoint_manager._operations.restore import RestoreStep
    from checkpoint_manager.backends.base import Backend
    from checkpoint_manager.credentials import Key
    from checkpoint_manager.keys import Keys
    from checkpoint_manager.models import Attachment, Codec, Durability, OnRollback, Reason
    from checkpoint_manager.reports import BundleSummary, OnProgress, RepairStep, Running, StageStatus, VerificationReport
    from checkpoint_manager.retention import PrunePlan, Retention
    from checkpoint_manager.stages.loop import Items, Loop
    from checkpoint_manager.stages.report import RunReport
    from checkpoint_manager.stages.runner import Runner

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
S = TypeVar("S")

_LOG = get_logger()


class _Default(str):
    """The location of the store if the caller gives none, and the environment names none."""

    __slots__ = ()


DEFAULT_LOCATION = _Default("checkpoints")
"""The default of ``checkpoint_dir``; told from the same text given by a caller."""


def _valid(stage_name: object) -> str:
    """Return the name of a stage as a plain str; a name that was checked before is only looked up."""
    try:
        return checked(stage_name)
    except TypeError:  # it is not hashable, so not text
        return validate(stage_name)


class CheckpointManager:
    """A secure, versioned store of a pipeline's checkpoints.

    Every save is encrypted, atomic, durable and kept as a version; every earlier version can be restored; any number of
    processes and threads may write at once. A manager may be shared by threads and used after a fork. It can be pickled if its
    key comes from a key file or the environment: the pickle holds the location of the store and the source of the key, never
    the key itself.

    ::

        cm = CheckpointManager("checkpoints")
        if not cm.has_checkpoint("train"):
            cm.save_checkpoint("train", {"epoch": 3})

    Three arguments have the same meaning in every method:

    * ``stage_name`` is any non-empty text of up to 255 characters.
    * ``version`` is a version's number, ``"latest"`` (the newest completed version), ``"prev"`` (the completed one before it),
      ``"failed"`` (the newest record of a failure) or a tag.
    * ``at`` is a moment: a ``datetime``, or text such as ``2026-11-20T14:00`` or ``1d`` (one day ago). **Without a time zone,
      it is local time**, in both forms and on the command line.

    Args:
        checkpoint_dir: The directory of the store, one for each pipeline, created if needed; or a URL, such as ``memory:`` for
            a store that lasts as long as the manager; or a :class:`~checkpoint_manager.backends.base.Backend`. If it is not
            given, it is that of the environment variable ``CHECKPOINT_MANAGER_STORE``, or else ``checkpoints``.
        key: A :class:`Passphrase`, a :class:`KeyFile` (or its path, as ``pathlib.Path``), or 32 bytes. If None, the key comes
            from the environment (``CHECKPOINT_MANAGER_KEY_FILE``, ``CHECKPOINT_MANAGER_PASSPHRASE``, ``…_PASSPHRASE_FILE`` or
            ``…_PASSPHRASE_COMMAND``) or else from a key file in the user's data directory, which is created on first use.
        lock_timeout: How long an operation waits for other writers, in seconds, over all the locks that it takes; and how long
            it waits for an answer of a server, which is at least 5 seconds.
        durability: ``full``, or ``relaxed`` to leave syncing to the operating system: a power cut may then lose the last saves.
        on_rollback: What to do when the store is older than what this user has seen: ``raise`` or ``warn``.
        retention: What to keep of each stage that this manager saves to; None keeps everything. After a save, a few versions
            are deleted, at a cost that does not depend on the length of the history.
        codecs: How values of types that the library does not know are saved and loaded: a :class:`Codec` for each.
        index: Which fields of the versions a PostgreSQL database keeps **in the clear**, in indexed columns for ``find`` and
            for SQL: ``{"status": True, "created_at": True, "metadata": ["run"]}``. The store remembers it, and every writer
            fills the columns. None leaves it as it is; ``{}`` removes all columns.

    Raises:
        KeyUnavailableError: No key was found, or more than one source names one.
        WrongKeyError: The key does not open this store.
        IntegrityError: The keyring is damaged or forged.
        RollbackError: The keyring is older than one that this user has seen, or another store is in its place.
        LocationError: The scheme of the URL is unknown, or the backend does not support ``durability``.
        StorageError: The directory can't be created or opened.
    """

    _made_runner: Runner | None = None

    def __init__(
        self,
        checkpoint_dir: str | os.PathLike[str] | Backend = DEFAULT_LOCATION,
        *,
        key: Key | None = None,
        lock_timeout: float = 60.0,
        durability: Durability = "full",
        on_rollback: OnRollback = "raise",
        retention: Retention | None = None,
        codecs: Iterable[Codec[Any]] = (),
        index: Mapping[str, object] | None = None,
    ) -> None:
        key = conceal(key)
        if checkpoint_dir is DEFAULT_LOCATION:
            checkpoint_dir = os.environ.get("CHECKPOINT_MANAGER_STORE") or str(DEFAULT_LOCATION)
        check_choice("durability", durability, "full", "relaxed")
        check_choice("on_rollback", on_rollback, "raise", "warn")
        check_seconds("lock_timeout", lock_timeout)
        if retention is not None:
            _operations.prune.check_policy(retention)
        known = checked_codecs(codecs)
        names = None if index is None else _loading.load("checkpoint_manager._format.index").names_of(index)
        secret = find_secret(key)  # all that may be wrong about the arguments is told before anything is made
        has_index = names is not None
        backend = open_backend(checkpoint_dir, durability=durability, patience=lock_timeout, has_index=has_index)
        backend.prepare_to_write()
        self._store = open_store(backend, secret, lock_timeout, on_rollback)
        self._store.codecs = known
        if isinstance(backend, Searchable):
            opened = _loading.load("checkpoint_manager._store.index").OpenIndex(backend, self._store.keyring)
            self._store.index = opened
            if names is not None:
                _operations.choose_index.choose_index(self._store, opened, names)
        if retention is not None:
            self._store.after_append = _operations.auto_prune.AutoPrune(self._store, retention).after
        self._retention = retention
        self._arguments: dict[str, Any] | None = None  # to open the store again, where that needs no secret
        is_found_again = backend is not checkpoint_dir and backend.capabilities.persistent
        has_password = isinstance(checkpoint_dir, str) and redacted(checkpoint_dir) != checkpoint_dir
        if is_found_again and not has_password and (key is None or isinstance(key, KeyFile | os.PathLike)):
            self._arguments = {
                "checkpoint_dir": backend.location,
                "key": key if key is None else _with_whole_path(key),
                "lock_timeout": lock_timeout,
                "durability": durability,
                "on_rollback": on_rollback,
                "retention": retention,
                "codecs": tuple(known.by_name.values()),
            }

    def close(self) -> None:
        """Close the backend, such as its connections. The manager can't be used afterwards.

        A ``with`` block does this at its end. A store in a directory need not be closed: it holds nothing but the folders and
        lock files of the stages used last, which keeps their file system from being unmounted while the manager exists.
        """
        self._store.close()

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
        attachments: Mapping[str, object] | None = None,
        progress: OnProgress | None = None,
    ) -> Version:
        """Save data as the newest version of a stage. When this returns, the version survives a power cut.

        Args:
            stage_name: The stage.
            data: None, a bool, int, float, complex, str, bytes, list, tuple, set, frozenset, dict, datetime, date, time,
                timedelta, Decimal, UUID, Path or scalar of numpy, an array of numpy, a frame of pandas or polars, a tensor of
                torch, or a value of a type with a codec; nested in any way. They come back as these very types, so subclasses
                are refused. An object that occurs twice comes back as two. No other thread may change it meanwhile. Arrays,
                frames and tensors are sealed 16 MiB at a time, before the stage is locked.
            metadata: A dict of JSON values that ``history`` shows without reading the data.
            expected_version: Save only if this is the number of the newest version (0: there is none).
            attachments: Contents of any length by name: bytes, a ``pathlib.Path`` or an open binary file, a numpy array, a
                frame of pandas or polars, a tensor of torch, or an attachment of an earlier version of this stage, which is not
                copied. They are sealed 16 MiB at a time, before the stage is locked. Names do not begin with ``@``.
            progress: Called with the bytes of the attachments that are written.

        Raises:
            PayloadError: The data would not load as it was saved; the error names the path of the value. Nothing was written.
            VersionConflictError: Another version is the newest. Nothing was written.
            LockTimeoutError: Another writer held the stage for longer than ``lock_timeout``. Nothing was written.
            RollbackError: The store is older than what this user has seen. Nothing was written, unless its keyring was
                replaced during the save.
            StorageError: The operating system refused. All older versions are unchanged.
        """
        if expected_version is not None and type(expected_version) is not int:
            raise wrong("expected_version", expected_version, "a number, or None")
        if progress is not None:
            check_callback("progress", progress)
        stage = _valid(stage_name)
        draft = save.draft(stage, data, metadata, codecs=self._store.codecs, ahead=attachments is None)
        if attachments is None and draft.embedded is None:
            return self._saved(save.save(self._store, stage, draft, expected_version))
        with _operations.attach.attached(
            self._store, stage, draft, {} if attachments is None else attachments, progress
        ) as whole:
            return self._saved(save.save(self._store, stage, whole, expected_version))

    def save_checkpoints(
        self,
        checkpoints: Mapping[str, object],
        *,
        metadata: Mapping[str, object] | None = None,
        expected_versions: Mapping[str, int] | None = None,
        atomic: bool = True,
    ) -> dict[str, Version]:
        """Save data as the newest versions of several stages, in one durable step: all of them, or none.

        SQLite, PostgreSQL and memory can do that. In a directory and in an object store, each version is a commit of its own.

        Args:
            checkpoints: The data by stage, as for ``save_checkpoint``.
            metadata: The metadata of each of the versions.
            expected_versions: For some stages or all of them, the number of the newest version (0: there is none): save only
                if it still is that.
            atomic: With False, save one stage after the other, in the order of the dict, where one step is not possible. An
                error then leaves saved what was saved before it.

        Raises:
            CheckpointError: The store can't do it in one step, and ``atomic`` is not False. Nothing was written.
            PayloadError, VersionConflictError, LockTimeoutError, RollbackError, StorageError: As for ``save_checkpoint``.
        """
        check("checkpoints", checkpoints, Mapping, "a dict of data by the names of stages")
        check(
            "expected_versions", expected_versions, (Mapping, type(None)), "a dict of numbers by the names of stages, or None"
        )
        check_flags(atomic=atomic)
        expected = {_valid(stage): _number(each) for stage, each in (expected_versions or {}).items()}
        if not expected.keys() <= checkpoints.keys():
            raise ArgumentError("expected_versions names a stage that is not saved", argument="expected_versions")
        codecs = self._store.codecs
        drafts = {_valid(stage): save.draft(stage, data, metadata, codecs=codecs) for stage, data in checkpoints.items()}
        if not self._store.backend.capabilities.appends_together and not atomic:
            return {stage: self._saved(self._save_whole(stage, draft, expected.get(stage))) for stage, draft in drafts.items()}
        _operations.save_together.check_possible(self._store)
        with contextlib.ExitStack() as uploads:
            for stage, draft in drafts.items():
                if draft.embedded is not None:
                    drafts[stage] = uploads.enter_context(_operations.attach.attached(self._store, stage, draft))
            versions = _operations.save_together.save_together(self._store, drafts, expected)
        return {stage: self._saved(version) for stage, version in versions.items()}

    def _save_whole(self, stage: str, draft: save.Draft, expected: int | None) -> Version:
        if draft.embedded is None:
            return save.save(self._store, stage, draft, expected)
        with _operations.attach.attached(self._store, stage, draft) as whole:
            return save.save(self._store, stage, whole, expected)

    def update_checkpoint(
        self,
        stage_name: str,
        function: Callable[[Any], object],
        *,
        metadata: Mapping[str, object] | None = None,
    ) -> Version:
        """Save what a function makes of a stage's data, with no other writer in between.

        Args:
            stage_name: The stage.
            function: Takes the newest completed data (None if there is none, or the stage is cleared) and returns the new data.
                It is called under the stage's lock: keep it short, and don't write to the same stage in it.
            metadata: As for ``save_checkpoint``.

        Raises:
            IntegrityError: The newest version is damaged, so an update would lose its content.
            Exception: What the function raises; nothing was written. Other errors as for ``save_checkpoint``.
        """
        if not callable(function):
            raise wrong("function", function, "a function of the newest data")
        stage = _valid(stage_name)
        return self._saved(save.update(self._store, stage, function, metadata))

    def _saved(self, version: Version) -> Version:
        if _LOG.isEnabledFor(INFO):
            _LOG.info("Checkpoint saved: %s (version %d)", version.stage, version.number)
        return version

    # Reading

    def has_checkpoint(self, stage_name: str) -> bool:
        """Return whether the newest version of the stage is whole, authentic and completed.

        Its attachments are there, with their lengths. They are not read: one that was exchanged is refused when it is loaded.
        For a damaged version the answer is False, with an ERROR log line: the pipeline computes the stage again, and the file
        is kept as evidence. While nothing of the stage has changed since this process read the version, it is not read again.

        Raises:
            IntegrityError: The keyring is damaged or gone.
            RollbackError: The store is older than what this user has seen.
            WrongKeyError: The key slot of this manager was removed from the store.
        """
        return load.is_completed(self._store, _valid(stage_name))

    def load_checkpoint(
        self,
        stage_name: str,
        version: int | str | None = None,
        *,
        at: datetime | str | None = None,
        arguments: Mapping[str, object] | None = None,
    ) -> Any:  # noqa: ANN401  # whatever was saved
        """Return a stage's data, equal to what was saved.

        A function's stage (``@cm.stage``) holds the results of all its calls. A call that reuses an older result saves nothing,
        so the newest version is that of the last call that *ran*. If this manager's last call reused an older one, a WARNING
        says so: name the ``arguments``, or call the function.

        Args:
            stage_name: The stage.
            version: A number, ``"latest"``, ``"prev"``, ``"failed"`` or a tag; None means the newest completed version,
                never the record of a failure or of an unfinished loop.
            at: A moment, instead of ``version``: the version that was the newest then, of those that still exist.
            arguments: Arguments of a function, by the names of its parameters, instead of ``version``: the newest result of a
                call with these, whatever its other arguments and the function's code and revision were.

        Raises:
            CheckpointNotFoundError: The version does not exist or was deleted, or the stage is cleared or not completed.
            IntegrityError: The version is damaged, forged or missing; or a later one is, which may hold newer data.
            RollbackError: The store is older than what this user has seen.
        """
        stage = _valid(stage_name)
        if version is None and at is None and arguments is None:
            loaded = self._newest(stage)
            try:
                return payload.decode(loaded.data, self._store.codecs, loaded.contents)
            except CheckpointNotFoundError:
                if self._newest(stage).version == loaded.version:
                    raise
                return self.load_checkpoint(stage)  # that one was deleted while its arrays were read
        return self.get_checkpoint(stage, version, at=at, arguments=arguments).data

    def _newest(self, stage: str) -> Loaded:
        loaded = load.load_newest(self._store, stage)
        used = None if self._made_runner is None else self._made_runner.used.get(stage)
        if used is not None and used < loaded.version:
            _LOG.warning(
                "Stage %s: version %d is the newest, and the last call reused version %d. "
                "To load that, pass arguments= or the number",
                stage,
                loaded.version,
                used,
            )
        return loaded

    def get_checkpoint(
        self,
        stage_name: str,
        version: int | str | None = None,
        *,
        at: datetime | str | None = None,
        arguments: Mapping[str, object] | None = None,
    ) -> Checkpoint:
        """Return a version with its data; arguments and errors as for ``load_checkpoint``."""

        def read(loaded: Loaded) -> Any:  # noqa: ANN401  # whatever was saved
            return payload.decode(loaded.data, self._store.codecs, loaded.contents)

        return self._checkpoint(stage_name, version, at, arguments, read)

    def get_json(self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None) -> Checkpoint:
        """Return a version with its data as JSON, as the command line shows it: no codec and no library is needed for it.

        A value that JSON does not have is an object with one key, such as ``{"!datetime": "2026-11-23T10:00:00"}``. Arrays,
        frames and tensors are not read: an object says what each of them is, and they are among the attachments, each by the
        JSON pointer to its object, such as ``/weights``. Arguments and errors are as for ``load_checkpoint``.
        """
        parts: dict[str, Attachment] = {}

        def read(loaded: Loaded) -> Any:  # noqa: ANN401  # JSON is what it is
            data = payload.form(loaded.data)
            if loaded.data.startswith(payload.WITH_CONTENTS):
                parts.update(_operations.read_attachments.parts_of(data, loaded.contents))
            return data

        found = self._checkpoint(stage_name, version, at, None, read)
        return found._replace(attachments=Attachments(found.version, {**parts, **found.attachments})) if parts else found

    def _checkpoint(
        self,
        stage_name: str,
        version: int | str | None,
        at: datetime | str | None,
        arguments: Mapping[str, object] | None,
        read: Callable[[Loaded], Any],
    ) -> Checkpoint:
        """Return a version with what ``read`` makes of its data."""
        stage = _valid(stage_name)
        if arguments is not None:
            check("arguments", arguments, Mapping, "a dict of arguments by name")
            if version is not None or at is not None:
                message = "arguments= is given together with version= or at="
                raise ArgumentError(message, hint="Give one of them", argument="arguments")
            loaded = load.load_version(self._store, stage, stages.version_of(self._store, stage, arguments))
        elif version is None and at is None:
            loaded = self._newest(stage)
        else:
            loaded = load.load_version(self._store, stage, _operations.select.named(self._store, stage, version, at))
        entry = loaded.entry
        attachments = _operations.read_attachments.of(self._store, stage, loaded.version, entry) if entry.attachments else {}
        found = entry.as_version(stage, loaded.version)
        try:
            return Checkpoint(found, read(loaded), Attachments(found, attachments))
        except CheckpointNotFoundError:
            is_newest = version is None and at is None and arguments is None
            if not is_newest or self._newest(stage).version == loaded.version:
                raise
            return self._checkpoint(stage, None, None, None, read)  # as in load_checkpoint

    def get_version(self, stage_name: str, version: int | str | None = None, *, at: datetime | str | None = None) -> Version:
        """Return a version without its data, whatever its status.

        Args:
            stage_name: The stage.
            version: A number, ``"latest"``, ``"prev"``, ``"failed"`` or a tag; None means the newest version.
            at: A moment, instead of ``version``, as for ``load_checkpoint``.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
        """
        stage = _valid(stage_name)
        number = _operations.select.chosen(self._store, stage, version, at)
        if number is None:
            number = _operations.select.newest(self._store, stage)
        return self._store.history.entry(stage, number).as_version(stage, number)

    def resolve(self, selector: str, *, at: datetime | str | None = None) -> Version:
        """Return the version that a selector of the command line names, such as ``train``, ``train@7`` or ``train@good``.

        A stage alone names its newest version, whatever its status.

        Args:
            selector: ``STAGE`` or ``STAGE@VERSION``. A stage whose own name looks like a selector, such as ``train@3``, is
                written ``train@3@latest``.
            at: As for ``load_checkpoint``, with a selector that names only the stage.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
            StageNameError, TagError: The selector is not valid, or is ambiguous.
        """
        stage, version = _operations.select.split(self._store, selector)
        return self.get_version(stage, version, at=at)

    def history(self, stage_name: str) -> list[Version]:
        """Return the versions of a stage, newest first, without reading their data; empty if there are none.

        A version that does not open is listed with the status ``damaged``, one that the operating system does not let be read
        with ``unreadable``, and one that is gone without a record of its deletion with ``missing``; their ``created_at``,
        ``origin`` and ``size`` are None. Deleted versions are not listed. To check the data, call ``verify``.

        Raises:
            IntegrityError: The record of deleted versions is damaged or forged.
            RollbackError: The stage, or that record, is older than what this user has seen.
        """
        return list(self.iter_history(stage_name))

    def iter_history(self, stage_name: str, *, below: int | None = None) -> Iterator[Version]:
        """Return the versions of ``history`` one by one: each is read when it is asked for, and a long history takes no memory.

        Args:
            stage_name: The stage.
            below: Begin with the newest version below this number; None: with the newest.

        Raises:
            IntegrityError, RollbackError: As for ``history``, when the first version is asked for.
        """
        if below is not None and type(below) is not int:
            raise wrong("below", below, "a number, or None")
        return listing.versions(self._store, _valid(stage_name), below)

    def stages(self, prefix: str = "", *, checked: bool = True) -> list[str]:
        """Return the names of the stages, sorted, including cleared ones and without deleted ones.

        A stage counts if it holds a version that opens, or if this user has seen it. So a planted folder is not listed, and a
        stage whose folder was removed still is.

        Args:
            prefix: Return only names that begin with this.
            checked: With False, no stage is looked into, which takes a fraction of the time: deleted and planted ones are
                listed, and those that were removed are not.
        """
        check("prefix", prefix, str, "text")
        check_flags(checked=checked)
        if not checked:
            return sorted(stage for stage in self._store.backend.stages() if stage.startswith(prefix))
        return self._store.stages(prefix)

    def running(self, stage_name: str | None = None) -> list[Running]:
        """Return the functions and loops of stages that run now, in whatever process, by stage.

        No version is read; in a bucket, all leases are listed. A backend of a third party may not be able to tell; then this is
        empty.

        Args:
            stage_name: One stage, or None for all of them.
        """
        stage = None if stage_name is None else _valid(stage_name)
        return [each for each in _operations.running.running(self._store) if stage in {None, each.stage}]

    def status(self, prefix: str = "", *, verified: bool = False, progress: OnProgress | None = None) -> list[StageStatus]:
        """Return the state of each stage: its newest version, what runs of it now, and whether it is stale or can't be read.

        A stage that runs for the first time is listed before it has a version. Stages that have never run are listed, too, as
        far as they are known: each active run and each newest version names the functions that its program has defined as
        stages, if there are no more than 50. If the program has changed, the newest run or version counts.

        Args:
            prefix: Return only stages whose names begin with this. The versions of other stages are not read, even if they name
                stages that have never run.
            verified: Read and verify the data of each newest version, too. ``verify`` does that with all versions.
            progress: Called with the stages that were looked at.
        """
        check("prefix", prefix, str, "text")
        check_flags(verified=verified)
        if progress is not None:
            check_callback("progress", progress)
        return _operations.status.status(self._store, prefix, progress, verified=verified)

    def find(
        self,
        *,
        stage_prefix: str = "",
        status: str | None = None,
        since: datetime | str | None = None,
        metadata: Mapping[str, object] | None = None,
        limit: int | None = None,
    ) -> Iterator[Version]:
        """Return the versions of all stages that meet the criteria, by stage, and newest first within a stage.

        Every version is read for that, without its data; with an index (see :class:`CheckpointManager`), only those that its
        columns name, and each of them is compared with what is sealed in it. So someone who can change the columns can hide a
        version, but not make this return a wrong one. Versions that can't be read are counted in an ERROR line of the log; with
        an index, those that are missing are not.

        Args:
            stage_prefix: What the name of the stage begins with.
            status: ``"completed"``, ``"progress"``, ``"failed"``, ``"cleared"``, ``"damaged"``, ``"unreadable"`` or
                ``"missing"``; None: any.
            since: A moment, as for ``at``: only what was saved since then, by the clock of its writer.
            metadata: Keys and values that the version's metadata must have.
            limit: How many to return at most; None: all.

        Raises:
            IntegrityError, RollbackError: As for ``history``, when a stage is reached.
        """
        check("stage_prefix", stage_prefix, str, "text")
        if status is not None:
            check_choice("status", status, "completed", "progress", "failed", "cleared", "damaged", "unreadable", "missing")
        if limit is not None and (type(limit) is not int or limit < 0):
            raise wrong("limit", limit, "a number, or None")
        moment = None if since is None else _operations.select.moment(since, "since")
        criteria = _operations.find.criteria(stage_prefix, status, moment, metadata)
        return itertools.islice(_operations.find.find(self._store, criteria), limit)

    def downstream(self, stage_name: str) -> list[str]:
        """Return the stages that were made of a stage's results, directly or not, the nearest first.

        This is known for functions and loops that were given the result of another stage, or called one
        (:mod:`checkpoint_manager.stages.results`). Cleared stages are not listed.

        Raises:
            IntegrityError, RollbackError: As for ``history``.
        """
        return _operations.lineage.downstream(self._store, _valid(stage_name))

    def stale_stages(self, stages: Iterable[str] | None = None) -> dict[str, str]:
        """Return the stages that were made of results which are out of date, each with the reason.

        A stage is stale if one of its results was made of a version of another stage, and since then that stage was cleared, or
        the same call of it gave other data. Calling its function with the new result brings it up to date
        (:mod:`checkpoint_manager._operations.lineage`). A stage that can't be read is not listed.

        Args:
            stages: The stages to look at; None: all of them.
        """
        named = None if stages is None else elements("stages", stages, "a list of names")
        return _operations.lineage.stale(self._store, self._store.stages() if named is None else map(_valid, named))

    def diff(
        self,
        stage_name: str,
        old: int | str | None = None,
        new: int | str | None = None,
        *,
        at: datetime | str | None = None,
    ) -> Diff:
        """Return what changed from one version of a stage to another.

        Args:
            stage_name: The stage.
            old: The earlier version, as for ``load_checkpoint``. None means the one before ``new``.
            new: The later version. None means the newest.
            at: A moment, instead of ``old``, as for ``load_checkpoint``.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``.
        """
        stage = _valid(stage_name)
        before = _operations.select.chosen(self._store, stage, old, at)
        after = _operations.select.chosen(self._store, stage, new, None)
        return _operations.diff.diff(self._store, stage, before, after)

    # Going back: each of these appends a version, and can be undone by another one

    def restore_checkpoint(
        self,
        stage_name: str,
        version: int | str | None = None,
        *,
        at: datetime | str | None = None,
        metadata: Mapping[str, object] | None = None,
        expected_version: int | None = None,
    ) -> Version:
        """Make an earlier version the newest by appending a copy of it, whose ``restored_from`` names the original.

        Nothing is removed, so a restore can be undone by another restore.

        Args:
            stage_name: The stage.
            version: A number, ``"prev"``, ``"latest"`` or a tag.
            at: A moment, instead of ``version``: the version that was the newest then.
            metadata: Added to the metadata of the copy, such as a reason; as for ``save_checkpoint``.
            expected_version: Restore only if this is the number of the newest version.

        Raises:
            CheckpointNotFoundError, IntegrityError, RollbackError: As for ``load_checkpoint``. Nothing was written.
            VersionConflictError: Another version is the newest. Nothing was written.
        """
        stage = _valid(stage_name)
        _check_expected(expected_version)
        added = {} if metadata is None else save.check_metadata(stage, metadata)
        if (version is None) == (at is None):
            raise ArgumentError("restore_checkpoint needs either version= or at=, and not both")
        if at is None:
            chosen = _operations.select.checked(version)
            restored = _operations.restore.restore(self._store, stage, chosen, added, expected_version)
        else:
            moment = _operations.select.moment(at)
            restored = _operations.restore.restore_at(self._store, stage, moment, added, expected_version)
        _LOG.info("Checkpoint restored: %s (version %d, from %s)", stage, restored.number, restored.restored_from)
        return restored

    def restore_pipeline(self, *, at: datetime | str | None = None, tag: str | None = None) -> list[Version]:
        """Restore every stage to its version at a moment, or to its version with a tag; return the appended versions.

        A stage that did not exist then, does not have the tag, or whose version was deleted is cleared; a stage that has not
        changed is left alone. Everything is read and verified before the first stage is changed. If the process is killed in
        between, run it again. ``plan_restore`` returns the steps in advance.

        Args:
            at: The moment, as for ``load_checkpoint``.
            tag: The tag, instead of ``at``, as ``tag_pipeline`` gives it to all stages.

        Raises:
            CheckpointNotFoundError: No stage has the tag. Nothing was written.
            IntegrityError, RollbackError: As for ``load_checkpoint``. Nothing was written.
        """
        goal = _operations.restore.goal(at, tag)
        appended = _operations.restore.restore_pipeline(self._store, goal)
        _LOG.info("Pipeline restored: %s changed, to %s", counted(len(appended), "stage"), goal.description)
        return appended

    def plan_restore(self, *, at: datetime | str | None = None, tag: str | None = None) -> list[RestoreStep]:
        """Return the steps of ``restore_pipeline``, one for each stage, without changing anything.

        Everything that would be restored is read and verified. If a stage can't be restored, its step says why, and the others
        are still returned.

        Raises:
            CheckpointNotFoundError: No stage has the tag.
        """
        return _operations.restore.plan(self._store, _operations.restore.goal(at, tag))

    def clear_checkpoint(
        self,
        stage_name: str,
        *,
        downstream: bool = False,
        metadata: Mapping[str, object] | None = None,
        expected_version: int | None = None,
    ) -> Version | None:
        """Mark a stage as not done by appending a ``cleared`` version. A restore undoes this.

        Args:
            stage_name: The stage.
            downstream: Clear the stages of ``downstream(stage_name)`` as well, the farthest first. If the process is killed in
                between, call it again.
            metadata: The metadata of the appended versions, such as a reason; as for ``save_checkpoint``.
            expected_version: Clear only if this is the number of the newest version of the stage itself.

        Returns:
            The version appended to the stage, or None if there was nothing to clear.

        Raises:
            VersionConflictError: Another version is the newest. The stage was not cleared. No other stage was either, unless
                that version was saved while this ran.
        """
        check_flags(downstream=downstream)
        _check_expected(expected_version)
        stage = _valid(stage_name)
        added = {} if metadata is None else save.check_metadata(stage, metadata)
        if downstream:
            save.expect(self._store, stage, self._store.history.look(stage).number, expected_version)
        for following in reversed(self.downstream(stage) if downstream else []):
            _operations.restore.clear(self._store, following, added)
            _LOG.info("Checkpoint cleared: %s", following)
        cleared = _operations.restore.clear(self._store, stage, added, expected_version)
        _LOG.info("Checkpoint cleared: %s", stage)
        return cleared

    def clear_checkpoints(self) -> list[Version]:
        """Mark all stages as not done by appending a ``cleared`` version to each. A restore undoes this.

        Returns:
            The appended versions; none for a stage that was cleared already.
        """
        cleared = _operations.restore.clear_all(self._store)
        _LOG.info("All checkpoints cleared.")
        return cleared

    # Tags and deletion

    def tag(
        self,
        stage_name: str,
        version: int | str,
        name: str,
        *,
        force: bool = False,
        expected_version: int | None = None,
        reason: str | None = None,
    ) -> Version:
        """Name a version. The tag can be used in place of the number, and protects the version from deletion.

        Tags are authenticated like everything else. Repeating a tag changes nothing.

        Args:
            stage_name: The stage.
            version: A number, ``"latest"``, ``"prev"``, ``"failed"`` or another tag.
            name: Up to 64 of ``A-Z a-z 0-9 _ . + -``, beginning with a letter or ``_``; not ``latest``, ``prev`` or ``failed``.
            force: Move the tag if it names another version.
            expected_version: Change the tag, and move it, only if it names this version now (0: none).
            reason: Why, in up to 500 characters: ``reasons`` returns it. It is sealed with the tags.

        Returns:
            The tagged version.

        Raises:
            TagError: The name is not valid, or names another version.
            VersionConflictError: The tag does not name the expected version. Nothing was changed.
            CheckpointNotFoundError, IntegrityError: The version does not exist, or is damaged.
            RollbackError: The tags are older than what this user has seen.
        """
        check_flags(force=force)
        _check_expected(expected_version)
        stage, wanted = _valid(stage_name), _operations.tag.validate(name)
        number = _operations.select.number(self._store, stage, _operations.select.checked(version))
        why = _operations.tag.check_reason(reason)
        entry = _operations.tag.tag_version(
            self._store, stage, number, wanted, force=force, expected=expected_version, reason=why
        )
        _LOG.info("Version tagged: %s (version %d is %s)", stage, number, wanted)
        return entry.as_version(stage, number)

    def tag_pipeline(self, name: str, *, force: bool = False, reason: str | None = None) -> list[Version]:
        """Tag the newest completed or cleared version of every stage, for ``restore_pipeline``.

        A stage that was never completed is skipped. All stages are checked before the first one is changed. If the process is
        killed in between, run it again.

        Args:
            name: As for ``tag``.
            force: Move the tag where it names another version.
            reason: Why, as for ``tag``.

        Returns:
            The tagged versions.

        Raises:
            TagError: The name is not valid, or names another version of a stage. Nothing was changed.
            IntegrityError, RollbackError: As for ``tag``. Nothing was changed.
        """
        check_flags(force=force)
        wanted = _operations.tag.validate(name)
        why = _operations.tag.check_reason(reason)
        tagged = _operations.tag.tag_pipeline(self._store, wanted, force=force, reason=why)
        _LOG.info("Pipeline tagged: %s of %s", wanted, counted(len(tagged), "stage"))
        return tagged

    def untag(self, stage_name: str, name: str, *, expected_version: int | None = None, reason: str | None = None) -> None:
        """Remove a tag, which then no longer protects its version.

        Args:
            stage_name: The stage.
            name: The tag.
            expected_version: Remove the tag only if it names this version now.
            reason: Why, as for ``tag``.

        Raises:
            CheckpointNotFoundError: There is no such tag.
            VersionConflictError: The tag does not name the expected version. Nothing was changed.
            RollbackError: The tags are older than what this user has seen.
        """
        _check_expected(expected_version)
        stage, unwanted = _valid(stage_name), _operations.tag.validate(name, existing=True)
        _operations.tag.untag(self._store, stage, unwanted, expected_version, _operations.tag.check_reason(reason))
        _LOG.info("Tag removed: %s %s", stage, unwanted)

    def tags(self, stage_name: str) -> dict[str, int]:
        """Return the tags of a stage, sorted by name, each with the number of its version.

        Raises:
            IntegrityError: The record of tags is damaged or forged.
            RollbackError: It is older than what this user has seen.
        """
        tags, _ = _operations.tag.read(self._store, _valid(stage_name))
        return {name: tagged.version for name, tagged in tags.named.items()}

    def reasons(self, stage_name: str) -> list[Reason]:
        """Return the reasons that were given for tags, for their removal and for deletions of versions, newest first.

        The newest hundred are kept, until the stage is deleted. Bundles and copies do not have them. The reason of a restore or
        a clear is in the metadata of the version that it appends.

        Raises:
            IntegrityError: The record of tags is damaged or forged.
            RollbackError: It is older than what this user has seen.
        """
        return _operations.tag.reasons(self._store, _valid(stage_name))

    def prune(
        self, policy: Retention, stage_name: str | None = None, *, dry_run: bool = False, reason: str | None = None
    ) -> PrunePlan:
        """Delete the versions that a policy does not keep, and return the plan: each version with the rules that keep it.

        Whatever the policy, a stage keeps its newest version, its newest completed and newest cleared ones, and the versions
        that do not open. Before anything is deleted, the newest completed version is read and verified.

        Args:
            policy: The rules; see :class:`Retention`.
            stage_name: One stage, or None for all of them.
            dry_run: Return the plan without deleting anything.
            reason: Why, as for ``tag``.

        Raises:
            CheckpointNotFoundError: The stage does not exist.
            IntegrityError, RollbackError: The record of tags or deletions can't be trusted. Nothing of that stage was deleted.
        """
        check_flags(dry_run=dry_run)
        _operations.prune.check_policy(policy)
        stage = None if stage_name is None else _valid(stage_name)
        why = _operations.tag.check_reason(reason)
        plan = _operations.prune.prune(self._store, policy, stage, dry_run=dry_run, reason=why)
        if not dry_run:
            _LOG.info("Versions pruned: %d deleted, %d kept", len(plan.dropped), len(plan.kept))
        return plan

    def delete_versions(
        self,
        stage_name: str,
        versions: Iterable[int],
        *,
        expected_version: int | None = None,
        reason: str | None = None,
    ) -> list[int]:
        """Delete versions permanently. An authenticated record of the deletion remains, so that ``verify`` can recognise it.

        Args:
            stage_name: The stage.
            versions: The numbers of the versions, which are never used again. The newest version can't be deleted.
            expected_version: Delete only if this is the number of the newest version.
            reason: Why, as for ``tag``. It is written after the versions are deleted.

        Returns:
            The numbers of the versions that were deleted, in order.

        Raises:
            VersionConflictError: Another version is the newest. Nothing was deleted.
            CheckpointNotFoundError: One of them does not exist. Nothing was deleted.
            CheckpointError: One of them is the newest, or has a tag. Nothing was deleted.
        """
        stage = _valid(stage_name)
        _check_expected(expected_version)
        numbers = elements("versions", versions, "a list of numbers")
        chosen = [_operations.select.checked_number(version) for version in numbers]
        why = _operations.tag.check_reason(reason)
        deleted = _operations.delete.delete_versions(self._store, stage, chosen, expected_version, why)
        _LOG.info("Versions deleted: %s %s", stage, deleted)
        return deleted

    def delete_stage(self, stage_name: str) -> list[int]:
        """Delete a stage permanently: all its versions, the newest included, and its tags.

        An authenticated *delete marker* without data takes their place, so that other users of the store can tell the deletion
        from a theft, and no number is used again: a later save continues above the marker. Until then the stage does not exist:
        ``stages`` does not list it and ``history`` is empty.

        Args:
            stage_name: The stage.

        Returns:
            The numbers of the versions that were deleted, in order.

        Raises:
            CheckpointNotFoundError: There is no such stage, or it is deleted already.
            IntegrityError, RollbackError: The record of tags or deletions can't be trusted. Nothing was deleted.
        """
        stage = _valid(stage_name)
        deleted = _operations.delete.delete_stage(self._store, stage)
        _LOG.info("Stage deleted: %s (%s)", stage, counted(len(deleted), "version"))
        return deleted

    # Upkeep

    def verify(
        self, stage_name: str | None = None, *, quick: bool = False, progress: OnProgress | None = None
    ) -> VerificationReport:
        """Read and check everything, and return the findings. A finding is never raised as an error.

        Args:
            stage_name: One stage, or None for the whole store.
            quick: Don't read the attachments: check only that they exist with their right lengths.
            progress: Called after each version.
        """
        stage = None if stage_name is None else _valid(stage_name)
        check_flags(quick=quick)
        check_callback("progress", progress)
        return _operations.verify.verify(self._store, stage, progress, quick=quick)

    def repair(self, *, dry_run: bool = False) -> list[RepairStep]:
        """Set damaged files aside, remove leftovers, rebuild stale heads, and return the steps.

        Args:
            dry_run: Return the steps without carrying them out.
        """
        check_flags(dry_run=dry_run)
        return _operations.repair.repair(self._store, dry_run=dry_run)

    def accept_rollback(self, stage_name: str | None = None) -> list[Version]:
        """Accept that the store is older than what this user has seen, because an older copy was restored on purpose.

        The missing versions are recorded as lost, their numbers stay used, and the present newest version is appended again
        above them. If the keyring is older, too, open the store with ``on_rollback="warn"`` first.

        Args:
            stage_name: One stage, or None for the whole store.

        Returns:
            The appended versions.
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
        """Write the histories and tags of stages into a bundle: one encrypted file that another store can import.

        Writers need not stop. The file appears whole or not at all. A bundle has its own key, unrelated to the store's: the
        ``key`` given here opens everything in it.

        Args:
            file: The path of the bundle, or an open binary stream.
            stages: The stages to export; None exports all.
            key: The key of the bundle: a passphrase, a key file, or 32 bytes. There is no default, because the recipient may
                not have the store's key.
            overwrite: Replace an existing file.
            progress: Called after each version.

        Raises:
            CheckpointNotFoundError: A stage does not exist. Nothing was written.
            IntegrityError: A stage is damaged or incomplete. Nothing was written.
            RollbackError: A stage or its tags are older than what this user has seen. Nothing was written.
            StorageError: The file exists already, or the operating system refused.
        """
        key = conceal(key)
        check_flags(overwrite=overwrite)
        check_callback("progress", progress)
        _check_file(file, "write")
        named = None if stages is None else elements("stages", stages, "a list of names")
        chosen = None if named is None else [_valid(stage) for stage in named]
        bundle = _operations.export_bundle.export_bundle(
            self._store, file, given_secret(key), chosen, overwrite=overwrite, progress=progress
        )
        _LOG.info(
            "Bundle exported: %s, %s, %d bytes",
            counted(len(bundle.stages), "stage"),
            counted(bundle.versions, "version"),
            bundle.size,
        )
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
        """Add the histories and tags of a bundle to this store, as far as it lacks them.

        The whole bundle is verified before anything is written. Numbers, times, metadata and origins are kept. A stage that
        exists here receives the newer versions, provided that both have the same history; so repeated imports keep a copy up to
        date. An interrupted import continues when it is run again.

        A tag that names another version here is not moved; ``tags_kept`` of its stage in the result lists it. What was deleted
        here is not brought back; a warning names the stages of which nothing is left, which can be imported under another name.

        Args:
            file: The path of the bundle, or an open binary stream, which is buffered, encrypted, in a temporary file.
            key: The key that the bundle was exported with.
            rename: New names for stages, by their names in the bundle.
            dry_run: Verify the bundle and return what would be added, without changing anything.
            progress: Called after each piece, in bytes; the bundle is read twice.

        Raises:
            WrongKeyError: The bundle was exported with another key. Nothing was imported.
            IntegrityError: The bundle is damaged, cut short or forged. Nothing was imported.
            FormatError: The bundle was made by a newer version of the library. Nothing was imported.
            VersionConflictError: A stage has another history here; nothing was imported. Or another writer saved a version
                meanwhile; import again.
            RollbackError: This store is older than what this user has seen of it. Nothing was imported.
            TagError: A stage would have too many tags. Nothing was imported.
            StorageError: The operating system refused, or a stage would have more deletions than can be recorded.
        """
        key = conceal(key)
        check_flags(dry_run=dry_run)
        check_callback("progress", progress)
        _check_file(file, "read")
        check("rename", rename, (Mapping, type(None)), "a dict of names by names, or None")
        names = {_valid(old): _valid(new) for old, new in (rename or {}).items()}
        bundle = _operations.import_bundle.import_bundle(
            self._store, file, given_secret(key), names, dry_run=dry_run, progress=progress
        )
        if not dry_run:
            _LOG.info("Bundle imported: %s, %s added", counted(len(bundle.stages), "stage"), counted(bundle.added, "version"))
        return bundle

    def copy_to(
        self, checkpoint_dir: str | os.PathLike[str], *, key: Key | None = None, progress: OnProgress | None = None
    ) -> BundleSummary:
        """Copy all histories, tags and attachments into a new store, which is independent of this one from then on.

        At the end, all that was copied is read back. If a copy is interrupted, call this again: it goes on where it was.
        A second call adds what is new since. It removes nothing there and moves no tag: ``tags_kept`` of each stage in the
        result names those that are elsewhere here.

        A directory that was copied in any other way is still the same store: once one of the two has newer versions, the other
        one counts as an older copy that was put in its place.

        Args:
            checkpoint_dir: Where the new store is made, as for :class:`CheckpointManager`.
            key: The key of the new store, as for :class:`CheckpointManager`.
            progress: Called after each piece.

        Raises:
            CheckpointError: There are other stages already. Nothing was copied.
            VersionConflictError: There is another history of a stage already, or a newer version. Nothing was copied.
            IntegrityError: A stage is damaged, or something is missing, and nothing was copied; or the copy can't be read back.
            RollbackError: A stage, or its tags, are older than what this user has seen. Nothing was copied.
        """
        key = conceal(key)
        check_callback("progress", progress)
        with CheckpointManager(checkpoint_dir, key=key, lock_timeout=self._store.lock_timeout) as other:
            copied = _operations.copy_store.copy_store(self._store, other._store, progress)
        _LOG.info("Store copied: %s, %s", counted(len(copied.stages), "stage"), counted(copied.versions, "version"))
        return copied

    # Functions and loops that resume

    @property
    def _runner(self) -> Runner:
        """The runner of this manager's stages: one for all threads, made on first use."""
        if self._made_runner is None:
            made = stages.Runner(self._store, None if self._arguments is None else (_open_runner, (self._arguments,)))
            self.__dict__.setdefault("_made_runner", made)  # if two threads race, the first one wins
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
        fingerprint: Mapping[type, Callable[[Any], object]] | None = None,
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], Any] | None = None,
        wait: bool | float = True,
        retries: int = 0,
        backoff: float = 1.0,
        timeout: float | None = None,
        expires: timedelta | str | None = None,
        validate: Callable[[Any], bool] | None = None,
    ) -> Callable[[Callable[P, R]], Callable[P, R]]: ...

    def stage(  # noqa: PLR0913  # all are choices with a default, by name
        self,
        name: Callable[..., Any] | str | None = None,
        /,
        *,
        revision: int | str | None = None,
        code: bool | None = None,
        key: Callable[..., object] | None = None,
        ignore: Sequence[str] = (),
        fingerprint: Mapping[type, Callable[[Any], object]] | None = None,
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], Any] | None = None,
        wait: bool | float = True,
        retries: int = 0,
        backoff: float = 1.0,
        timeout: float | None = None,
        expires: timedelta | str | None = None,
        validate: Callable[[Any], bool] | None = None,
    ) -> Any:
        """Make a function a stage: it runs once for the same arguments, and its result is saved and returned to later calls.

        An exception is saved as a ``failed`` version, and the function runs again on the next call. If several processes of one
        host make the same call, one of them runs it and the others wait for its result; if that one is killed, another takes
        over. Calls with other arguments run at the same time. Async functions work, too.

        A result belongs to the function's arguments, its name and its origin: a function of the same name in another script
        does not reuse it (:mod:`checkpoint_manager.stages.identity`). It also belongs to the code of the function and of the
        functions and classes of the same module that it uses; comments, docstrings and formatting make no difference
        (:mod:`checkpoint_manager.stages.code`). The constants that its file sets, such as ``RATE = 0.2``, are compared, too.
        When code or constants change, the function runs again, and the log names the change. Other global variables, other
        modules, and files that the function reads are **not compared**: pass them as arguments, or set ``revision`` and change
        it.

        Args:
            name: The stage's name; None means the function's.
            revision: A number or text that identifies what the function does. Changing it makes the function run again. With a
                ``revision``, the code is not compared unless ``code=True``.
            code: Whether to compare the code. None means yes, unless ``revision`` is given.
            key: A function of the same arguments; its result is compared in their place.
            ignore: The names of arguments that are not compared.
            fingerprint: For types that can't be compared: functions by type, each of which returns what stands for an object of
                that type, such as ``{Client: lambda client: client.url}``. These need none: JSON; the standard library's values
                (dates, paths, sets, named tuples, dataclasses, enums, …); arrays and scalars of numpy; frames of pandas and
                polars; a method's ``self``, of which all attributes are compared; and what another stage returned
                (:mod:`checkpoint_manager.stages.results`).
            encode: Turns a result that can't be saved into one that can.
            decode: Turns that back into the result. The first call returns that, too, so that all calls give the same.
            wait: How long to wait for another run with the same arguments, in seconds; True waits until it ends, False not at
                all. For a run that started this call, here or in a parent process, True waits no longer than ``lock_timeout``:
                that run may be waiting for this call.
            retries: How many more times to try after an exception. Each failed attempt is saved as a ``failed`` version, and a
                loop in the function continues. Ctrl-C, SIGTERM and the cancellation of a task end the call at once.
            backoff: How long to wait before the first retry, in seconds. Each further wait is twice as long, up to a minute.
            timeout: For an async function: after how many seconds an attempt is cancelled and counts as failed, with
                ``TimeoutError``. As with ``asyncio.timeout``, it ends at its next ``await``, and a thread that it waits for
                goes on. A function that is not async can't be stopped while it runs; a program can: ``checkpoint-manager run
                --timeout``.
            expires: The age from which a result is not reused: a ``timedelta``, or text such as ``"12h"`` or ``"1d"``. A result
                whose time lies in the future, because a clock was wrong, is not reused either.
            validate: Called with a saved result before it is reused. If it returns False, or raises an exception, the function
                runs again.

        Raises:
            PayloadError: By its annotation, the function returns what can't be saved, and there is no ``encode``.
            FingerprintError: On a call: an argument can't be compared with later calls.
            ResultNotSavedError: On a call: the function ran, and its result could not be saved; the error carries it.
            LockTimeoutError: On a call: another run was not done in the time that ``wait`` gives it.
            CheckpointError: On a call: the function is called by itself with the same arguments.
            ValueError: Another function of this manager is the stage of this name.
            TypeError: It is a generator function or has no name, ``ignore`` names an argument that it does not have, or
                ``timeout`` is given and it is not an async function.
        """
        if callable(name):
            return self.stage()(name)
        options = stages.Options(
            revision=revision,
            code=code,
            key=key,
            ignore=ignore,
            fingerprint=fingerprint,
            encode=encode,
            decode=decode,
            wait=wait,
            retries=retries,
            backoff=backoff,
            timeout=timeout,
            expires=expires,
            validate=validate,
        )
        return stages.make_stage(self._runner, name, options)

    @overload
    def loop(
        self,
        stage_name: str,
        items: Items[T],
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
        items: Items[T],
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
        items: Items[T],
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
        items: Items[Any],
        *,
        initial: Any,
        every_seconds: float = 30.0,
        every_items: int | None = None,
        revision: int | str = 1,
        key: object = None,
        wait: bool | float = True,
        bar: bool = True,
    ) -> Loop[Any, Any]:
        """Make a long loop a stage: its state is saved from time to time, and an interrupted loop continues from there.

        :class:`Loop` describes what is saved and compared, and how it works with ``@cm.stage``.

        Args:
            stage_name: Any non-empty text up to 255 characters.
            items: The items to loop over: a list, tuple or range; any other iterable with a fixed order needs ``key``.
            initial: The state before the first item: anything that can be saved. It is copied.
            every_seconds: The shortest time between two saves, in seconds. With 0, only the cost of saving limits them.
            every_items: Also save after every N items.
            revision: A number or text that identifies what the loop does. Changing it makes the loop start over.
            key: A value that is compared in place of the items.
            wait: How long to wait for another run of the same loop, in seconds; True waits until it ends, False not at all. In
                a coroutine, use ``async with``: ``with`` would block the event loop, and raises instead of waiting.
            bar: Show a progress bar if stderr is a terminal and ``rich`` is installed; otherwise log a line every ten seconds.

        Raises:
            FingerprintError: The items can't be compared with later runs.
            PayloadError: The state can't be saved; in the loop, as soon as that is noticed, usually after the first item.
            ResultNotSavedError: At the end of the block: the result could not be saved; the error carries it.
            LockTimeoutError: On entry: another run was not done in the time that ``wait`` gives it.
        """
        check_seconds("every_seconds", every_seconds)
        check("every_items", every_items, (int, type(None)), "a number of items, or None")
        check_wait(wait)
        check_flags(bar=bar)
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

    @property
    def run_id(self) -> str:
        """The id of the run that this process is a part of: ``CHECKPOINT_MANAGER_RUN``, which child processes inherit.

        It is set when this, or a stage, is first used, if it is not set yet.
        """
        return stages.current_run()

    def run_report(self, run: str | None = None) -> RunReport:
        """Return the outcome of each call of a stage since this manager was made: reused, ran, failed or stopped.

        It also says which of these stages are stale now, as ``stale_stages`` does.

        Args:
            run: The id of a run, such as ``cm.run_id``: return what all its processes saved instead, from the metadata of all
                versions. Calls that reused a result are not in that report, and neither is a failure that could not be saved.

        Raises:
            CheckpointNotFoundError: Nothing was saved by that run.
        """
        check("run", run, (str, type(None)), "the id of a run, or None")
        if run is not None:
            return stages.report_of(self._store, run)
        outcomes = tuple(self._runner.outcomes)
        called = sorted({outcome.stage for outcome in outcomes})
        return stages.RunReport(outcomes, _operations.lineage.stale(self._store, called))

    # The store

    @property
    def retention(self) -> Retention | None:
        """What this manager keeps of each stage that it saves to, as it was given; None if it keeps everything."""
        return self._retention

    @property
    def keys(self) -> Keys:
        """The key slots of the store, and the rotation of its key."""
        keys = _loading.load("checkpoint_manager.keys")
        return cast("Keys", keys.Keys(self._store))

    def __repr__(self) -> str:
        store = getattr(self, "_store", None)  # missing after an error in the constructor
        return f"CheckpointManager({store.backend.location!r})" if store is not None else "CheckpointManager(not open)"

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle the location of the store and the source of its key, from which it is opened again.

        Raises:
            TypeError: The manager was given the key itself, or a backend.
        """
        if self._arguments is None:
            raise TypeError(stages.NOT_PICKLED)
        return _open, (self._arguments,)


def _check_expected(number: object) -> None:
    if number is not None and type(number) is not int:
        raise wrong("expected_version", number, "a number, or None")


def _number(version: object) -> int:
    if type(version) is not int:
        raise wrong("expected_versions", version, "a dict of numbers by the names of stages")
    return version


def _check_file(file: object, method: str) -> None:
    if not isinstance(file, str | os.PathLike) and not hasattr(file, method):
        raise wrong("file", file, "a path, or an open binary stream")
    if isinstance(file, str | os.PathLike) and not _can_be_a_path(file):
        raise ArgumentError("file can't be a path: it holds a null character or is not valid Unicode", argument="file")


def _can_be_a_path(path: str | os.PathLike[str]) -> bool:
    try:
        return b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        return False


def _with_whole_path(key: KeyFile | os.PathLike[str]) -> KeyFile:
    """Return a key file by its absolute path, which means the same in another process."""
    return KeyFile(os.path.abspath(os.path.expanduser(os.fsdecode(key.path if isinstance(key, KeyFile) else key))))


def _open(arguments: dict[str, Any]) -> CheckpointManager:
    return CheckpointManager(**arguments)


def _open_runner(arguments: dict[str, Any]) -> Runner:
    return stages.reopened(arguments, lambda: _open(arguments)._runner)  # noqa: SLF001  # of this module
