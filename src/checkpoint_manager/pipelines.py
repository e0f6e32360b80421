"""Several pipelines together, each with a store of its own: their states in one list, and one plan to take all of them back."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

from checkpoint_manager import _operations
from checkpoint_manager._arguments import check, elements, wrong
from checkpoint_manager._log import get_logger
from checkpoint_manager._store.key_sources import conceal
from checkpoint_manager._text import counted, printable
from checkpoint_manager.backends.registry import open_backend, redacted, scheme_of
from checkpoint_manager.errors import ArgumentError, CheckpointError, LocationError, StorageError
from checkpoint_manager.manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from checkpoint_manager._operations.restore import RestoreStep
    from checkpoint_manager.models import Key, OnRollback, Version
    from checkpoint_manager.reports import StageStatus

_LOG = get_logger()
_KEYRING = "keyring.json"
_MAX_RECORD_BYTES = 1 << 24
_DEEPEST, _MOST_FOLDERS = 8, 100_000
_SQLITE = b"SQLite format 3\0"
_SQLITE_LOCKS = "-locks"
"""What the name of the folder ends with that stands beside an SQLite database of ours."""


@dataclass(frozen=True, slots=True)
class PipelineStatus:
    """The state of one pipeline.

    Attributes:
        location: Where its store is.
        stages: The state of each of its stages, by name.
        error: Why the store can't be read; None if it can.
    """

    location: str
    stages: tuple[StageStatus, ...] = ()
    error: CheckpointError | None = None


@dataclass(frozen=True, slots=True)
class PipelinePlan:
    """What a restore would do to one pipeline.

    Attributes:
        location: Where its store is.
        steps: A step for each of its stages.
        running: The stages that run now. What they compute is saved above what is restored.
        error: Why it can't be restored, and then no pipeline is; None if it can.
    """

    location: str
    steps: tuple[RestoreStep, ...] = ()
    running: tuple[str, ...] = ()
    error: CheckpointError | None = None

    @property
    def changes(self) -> tuple[RestoreStep, ...]:
        """The steps that append a version."""
        return tuple(step for step in self.steps if step.action in {"restore", "clear"})

    @property
    def refused(self) -> CheckpointError | None:
        """The first error, of the store or of a stage; None if all can be restored."""
        return next((each for each in (self.error, *(step.error for step in self.steps)) if each is not None), None)


class Pipelines:
    """Several pipelines, each with a store of its own.

    ::

        with Pipelines(["etl", "training", "sqlite:///serving.db"]) as pipelines:
            for pipeline in pipelines.status():
                print(pipeline.location, [stage.state for stage in pipeline.stages])
            pipelines.restore(at="1h")

    A store that can't be opened does not hide the others: its ``status`` has the error. No store is made.

    Args:
        stores: The stores: each a :class:`CheckpointManager`, which stays open, or a path or URL as it takes one.
        key: The key of the stores that are opened here, as for :class:`CheckpointManager`.
        lock_timeout: As for :class:`CheckpointManager`.
        on_rollback: As for :class:`CheckpointManager`.

    Attributes:
        locations: Where the stores are, in their order.
    """

    def __init__(
        self,
        stores: Iterable[CheckpointManager | str | os.PathLike[str]],
        *,
        key: Key | None = None,
        lock_timeout: float = 60.0,
        on_rollback: OnRollback = "raise",
    ) -> None:
        key = conceal(key)
        self._managers: dict[str, CheckpointManager | CheckpointError] = {}
        self._own: list[CheckpointManager] = []
        for store in elements("stores", stores, "a list of managers, paths and URLs"):
            if isinstance(store, CheckpointManager):
                self._managers[store._store.backend.location] = store  # noqa: SLF001  # of the same library
                continue
            if not isinstance(store, str | os.PathLike):
                raise wrong("stores", store, "a CheckpointManager, a path or a URL")
            location = redacted(os.fspath(store))
            try:
                _check_there(store)
                manager = CheckpointManager(store, key=key, lock_timeout=lock_timeout, on_rollback=on_rollback)
            except CheckpointError as error:
                self._managers[location] = error
            else:
                self._own.append(manager)
                self._managers[manager._store.backend.location] = manager  # noqa: SLF001

    @classmethod
    def scan(
        cls,
        folder: str | os.PathLike[str],
        *,
        key: Key | None = None,
        lock_timeout: float = 60.0,
        on_rollback: OnRollback = "raise",
    ) -> Self:
        """Return the pipelines whose stores are below a folder; see :func:`find_stores`.

        Raises:
            StorageError: The folder can't be read.
        """
        return cls(find_stores(folder), key=conceal(key), lock_timeout=lock_timeout, on_rollback=on_rollback)

    @property
    def locations(self) -> tuple[str, ...]:
        """Where the stores are, in their order."""
        return tuple(self._managers)

    def __iter__(self) -> Iterator[CheckpointManager]:
        """Yield the managers of the stores that could be opened."""
        return (each for each in self._managers.values() if isinstance(each, CheckpointManager))

    def __len__(self) -> int:
        return len(self._managers)

    def close(self) -> None:
        """Close the stores that were opened here."""
        for manager in self._own:
            manager.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self, prefix: str = "") -> list[PipelineStatus]:
        """Return the state of each pipeline, as :meth:`CheckpointManager.status` returns that of its stages.

        Args:
            prefix: Only the stages whose names begin with this.
        """
        check("prefix", prefix, str, "text")
        return [self._status(location, manager, prefix) for location, manager in self._managers.items()]

    @staticmethod
    def _status(location: str, manager: CheckpointManager | CheckpointError, prefix: str) -> PipelineStatus:
        if isinstance(manager, CheckpointError):
            return PipelineStatus(location, error=manager)
        try:
            return PipelineStatus(location, tuple(manager.status(prefix)))
        except CheckpointError as error:
            return PipelineStatus(location, error=error)

    def plan_restore(self, *, at: datetime | str | None = None, tag: str | None = None) -> list[PipelinePlan]:
        """Return what a restore would do to each pipeline, without changing anything.

        Everything that would be restored is read and verified. What can't be restored says why.

        Args:
            at: The moment, as for :meth:`CheckpointManager.restore_pipeline`.
            tag: The tag, instead of ``at``.
        """
        _operations.restore.goal(at, tag)  # refuses what is neither
        return [self._plan(location, manager, at, tag) for location, manager in self._managers.items()]

    @staticmethod
    def _plan(
        location: str, manager: CheckpointManager | CheckpointError, at: datetime | str | None, tag: str | None
    ) -> PipelinePlan:
        if isinstance(manager, CheckpointError):
            return PipelinePlan(location, error=manager)
        try:
            running = sorted({run.stage for run in manager.running()})
            return PipelinePlan(location, tuple(manager.plan_restore(at=at, tag=tag)), tuple(running))
        except CheckpointError as error:
            return PipelinePlan(location, error=error)

    def restore(
        self,
        plan: Sequence[PipelinePlan] | None = None,
        *,
        at: datetime | str | None = None,
        tag: str | None = None,
        metadata: Mapping[str, object] | None = None,
    ) -> dict[str, list[Version]]:
        """Take all pipelines back to a moment or a tag, and return the appended versions by location.

        First, all of it is planned, read and verified. If one stage of one pipeline can't be restored, nothing is changed. Each
        step demands that its stage is still as it was planned. If one fails, because another writer was faster or the storage
        refused, the stages that were changed before it are restored to what they were: each keeps the versions of both steps.
        **Stores have no common transaction:** if the process is killed in between, some pipelines are back and some are not.
        Then call this again: what is restored already is left alone.

        Args:
            plan: What :meth:`plan_restore` returned, instead of ``at`` and ``tag``.
            at: The moment, as for :meth:`CheckpointManager.restore_pipeline`.
            tag: The tag, instead of ``at``.
            metadata: Added to the metadata of the versions, such as a reason.

        Raises:
            CheckpointError: A store or a stage can't be restored. Nothing was changed.
            VersionConflictError: A stage has a newer version than in the plan. What was changed before is as it was.
            StorageError: The storage refused. What was changed before is as it was, unless a WARNING of the log names it.
        """
        if plan is not None and (at is not None or tag is not None):
            raise ArgumentError("a plan is given together with at= or tag=", hint="Give one of them", argument="plan")
        plans = self.plan_restore(at=at, tag=tag) if plan is None else list(plan)
        refused = next((each.refused for each in plans if each.refused is not None), None)
        if refused is not None:
            raise refused
        appended: dict[str, list[Version]] = {each.location: [] for each in plans}
        done: list[tuple[CheckpointManager, RestoreStep, Version]] = []
        try:
            for each in plans:
                manager = self._manager(each.location)
                for step in each.changes:
                    version = _carried_out(manager, step, metadata)
                    if version is not None:
                        done.append((manager, step, version))
                        appended[each.location].append(version)
        except BaseException:
            _undo(done)
            raise
        changed = sum(map(len, appended.values()))
        _LOG.info("Pipelines restored: %s changed in %s", counted(changed, "stage"), counted(len(plans), "store"))
        return appended

    def _manager(self, location: str) -> CheckpointManager:
        found = self._managers.get(location)
        if not isinstance(found, CheckpointManager):
            raise wrong("plan", location, "what plan_restore of these pipelines returned")
        return found

    def __repr__(self) -> str:
        return f"Pipelines({list(self.locations)!r})"


def _carried_out(manager: CheckpointManager, step: RestoreStep, metadata: Mapping[str, object] | None) -> Version | None:
    expected = None if step.newest is None else step.newest.number
    if step.target is None:
        return manager.clear_checkpoint(step.stage, metadata=metadata, expected_version=expected)
    return manager.restore_checkpoint(step.stage, step.target.number, metadata=metadata, expected_version=expected)


def _undo(done: list[tuple[CheckpointManager, RestoreStep, Version]]) -> None:
    """Restore what was the newest version of each stage before its step, the last step first."""
    for manager, step, appended in reversed(done):
        try:
            if step.newest is None:
                raise CheckpointError("its newest version was damaged")
            manager.restore_checkpoint(step.stage, step.newest.number, expected_version=appended.number)
        except CheckpointError as error:
            message = "Stage %s in %s was restored, and stays so although others could not be: %s"
            _LOG.warning(message, printable(step.stage), manager, error)


def find_stores(folder: str | os.PathLike[str]) -> list[str]:
    """Return the locations of the stores in a folder and below it, sorted: directories, and SQLite databases as URLs.

    Links are not followed, and neither hidden folders nor what is in a store is looked through. It ends eight folders deep, or
    after 100,000 folders, with a WARNING.

    Raises:
        StorageError: The folder can't be read.
    """
    found: list[str] = []
    waiting = deque([(os.path.abspath(os.path.expanduser(os.fspath(folder))), 0)])
    looked_through = 0
    while waiting:
        path, depth = waiting.popleft()
        looked_through += 1
        try:
            with os.scandir(path) as entries:
                inside = list(entries)
        except OSError as error:
            if depth == 0:
                message = f"the folder {printable(path)} can't be read: {error.strerror}"
                hint = "Name a folder that this user may read"
                raise StorageError(message, hint=hint, errno=error.errno, filename=path) from None
            _LOG.warning("Not looked through for stores: %s: %s", printable(path), error.strerror)
            continue
        if any(entry.name == _KEYRING and entry.is_file(follow_symlinks=False) for entry in inside):
            found.append(path)
            continue
        names = {entry.name for entry in inside}
        databases = [each for each in inside if f"{each.name}{_SQLITE_LOCKS}" in names and _is_database(each)]
        found += [f"sqlite:///{quote(os.fsencode(each.path))}" for each in databases]
        folders = [entry.path for entry in inside if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(".")]
        if folders and (depth == _DEEPEST or looked_through + len(waiting) + len(folders) > _MOST_FOLDERS):
            _LOG.warning(
                "Not looked through for stores, as it lies too deep, or there are too many folders: %s", printable(path)
            )
            continue
        waiting.extend((each, depth + 1) for each in folders)
    return sorted(found)


def _is_database(entry: os.DirEntry[str]) -> bool:
    """Return whether a file is an SQLite database."""
    if not entry.is_file(follow_symlinks=False):
        return False
    with contextlib.suppress(OSError):
        descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return os.read(descriptor, len(_SQLITE)) == _SQLITE
        finally:
            os.close(descriptor)
    return False


def _check_there(location: str | os.PathLike[str]) -> None:
    """Refuse a location without a store: none is made here.

    Raises:
        LocationError: There is none.
        CheckpointError: It can't be looked at.
    """
    if scheme_of(location):
        with contextlib.closing(open_backend(location)) as backend:
            is_there = backend.read_record("keyring", limit=_MAX_RECORD_BYTES) is not None or bool(backend.stages())
    else:
        path = os.path.expanduser(os.fspath(location))
        is_there = any(os.path.lexists(os.path.join(path, name)) for name in (_KEYRING, "history"))
    if not is_there:
        shown = printable(redacted(os.fspath(location)))
        raise LocationError(f"there is no checkpoint store at {shown}", hint="Name the directory or the URL of one")
