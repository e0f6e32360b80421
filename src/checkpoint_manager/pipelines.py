"""Several pipelines together, each with a store of its own: their states in one list, and one plan to take all of them back."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, cast

from checkpoint_manager import _operations
from checkpoint_manager._arguments import check, elements, wrong
from checkpoint_manager._lazy_log import get_logger
from checkpoint_manager._operations import save
from checkpoint_manager._store.key_sources import conceal
from checkpoint_manager._store.presence import has_keyring, has_versions
from checkpoint_manager._store.scan import find_stores
from checkpoint_manager._text import counted, printable
from checkpoint_manager.backends.registry import redacted, scheme_of
from checkpoint_manager.errors import (
    ArgumentError,
    CheckpointError,
    IntegrityError,
    LocationError,
    PartlyRestoredError,
    VersionConflictError,
)
from checkpoint_manager.manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from checkpoint_manager._operations.restore import RestoreStep
    from checkpoint_manager.credentials import Key
    from checkpoint_manager.models import OnRollback, Version
    from checkpoint_manager.reports import StageStatus

_LOG = get_logger()
_MOST_NAMED = 10


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
        is_one_step: Whether its stages are restored in one durable step, so that not even a kill leaves some of them restored:
            in SQLite, PostgreSQL and memory, up to 100 stages with 64 MiB of data.
    """

    location: str
    steps: tuple[RestoreStep, ...] = ()
    running: tuple[str, ...] = ()
    error: CheckpointError | None = None
    is_one_step: bool = False

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
        given = elements("stores", stores, "a list of managers, paths and URLs")
        for store in given:
            if not isinstance(store, CheckpointManager | str | os.PathLike):
                raise wrong("stores", store, "a CheckpointManager, a path or a URL")
        try:
            for store in given:
                if isinstance(store, CheckpointManager):
                    self._managers.setdefault(_location(store), store)
                    continue
                path = cast("str | os.PathLike[str]", store)
                try:
                    _check_there(path)
                    manager = CheckpointManager(path, key=key, lock_timeout=lock_timeout, on_rollback=on_rollback)
                except CheckpointError as error:
                    self._managers.setdefault(_shown(path), error)
                    continue
                self._own.append(manager)
                if self._managers.setdefault(_location(manager), manager) is not manager:  # another path to the same store
                    self._own.pop().close()
        except BaseException:
            self.close()
            raise

    @classmethod
    def scan(
        cls,
        folder: str | os.PathLike[str],
        *,
        key: Key | None = None,
        lock_timeout: float = 60.0,
        on_rollback: OnRollback = "raise",
    ) -> Self:
        """Return the pipelines whose stores are in a folder or below it: directories and SQLite databases.

        Args:
            folder: Where to look, up to eight folders deep. Neither links nor hidden folders are followed.
            key: What opens the stores, as for ``CheckpointManager``.
            lock_timeout: How long a writer waits for another one, in seconds.
            on_rollback: What to do when a store is older than what this user has seen.

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
            plan = PipelinePlan(location, tuple(manager.plan_restore(at=at, tag=tag)), tuple(running))
            return replace(plan, is_one_step=_is_one_step(manager, plan))
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
        refused, the stages that were changed are restored to what they were, and keep the versions of both steps. The error
        and a WARNING of the log name the stages that can't be.

        The stages of a store that can do it are restored in one durable step (``PipelinePlan.is_one_step``).
        **Stores have no common transaction:** if the process is killed in between, some pipelines are back and some are not.
        Then call this again: what is restored already is left alone.

        Args:
            plan: What :meth:`plan_restore` returned, instead of ``at`` and ``tag``.
            at: The moment, as for :meth:`CheckpointManager.restore_pipeline`.
            tag: The tag, instead of ``at``.
            metadata: Added to the metadata of the versions, such as a reason.

        Raises:
            CheckpointError: A store or a stage can't be restored. Nothing was changed.
            VersionConflictError: A stage has a newer version than in the plan. What was changed is taken back.
            StorageError: The storage refused. What was changed is taken back.
            PartlyRestoredError: One of these two is its cause, and not all that was changed could be taken back.
        """
        if plan is not None and (at is not None or tag is not None):
            raise ArgumentError("a plan is given together with at= or tag=", hint="Give one of them", argument="plan")
        plans = self.plan_restore(at=at, tag=tag) if plan is None else _checked(plan)
        refused = next((each.refused for each in plans if each.refused is not None), None)
        if refused is not None:
            raise refused
        appended: dict[str, list[Version]] = {each.location: [] for each in plans}
        begun: list[_Begun] = []
        try:
            for each in plans:
                manager = self._manager(each.location)
                together = [each.changes] if _is_one_step(manager, each) else [(step,) for step in each.changes]
                for steps in filter(None, together):
                    group = [_Begun(manager, step) for step in steps]
                    begun += group
                    appended[each.location] += _carry_out(group, metadata)
        except CheckpointError as error:
            if left := _undo(begun):
                raise _partly(left) from error
            raise
        except BaseException:
            _undo(begun)
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


@dataclass(slots=True)
class _Begun:
    """A step of a plan, and the number of the version that it has appended.

    Until that is known, it is None: a step that fails may have written its version. 0: nothing was written.
    """

    manager: CheckpointManager
    step: RestoreStep
    number: int | None = None

    def carry_out(self, metadata: Mapping[str, object] | None) -> Version | None:
        """Append the version, if the stage is as it was planned."""
        stage, target, expected = self.step.stage, self.step.target, self.step.newest_number
        if target is None:
            return self.manager.clear_checkpoint(stage, metadata=metadata, expected_version=expected)
        return self.manager.restore_checkpoint(stage, target.number, metadata=metadata, expected_version=expected)

    def undo(self) -> None:
        """Restore what was the newest version before.

        Raises:
            CheckpointError: It can't be restored, or it can't be told whether the step has written its version.
        """
        number = self._found() if self.number is None else self.number
        if number:
            if self.step.newest is None:
                raise CheckpointError("its newest version was damaged")
            self.manager.restore_checkpoint(
                self.step.stage, self.step.newest.number, metadata={"reason": _UNDONE}, expected_version=number
            )

    def _found(self) -> int:
        """Return the number of the newest version if this step may have written it; otherwise 0."""
        newest = self.manager.get_version(self.step.stage)
        if newest.number <= self.step.newest_number:
            return 0
        target = self.step.target
        is_own = newest.status == "cleared" if target is None else newest.restored_from == target.number
        return newest.number if is_own else 0


_UNDONE = "another stage of the same restore failed"


def _is_one_step(manager: CheckpointManager, plan: PipelinePlan) -> bool:
    return _operations.restore.is_one_step(manager._store, plan.changes)  # noqa: SLF001  # of the same library


def _carry_out(group: list[_Begun], metadata: Mapping[str, object] | None) -> list[Version]:
    """Append the versions of some steps of one store: of several in one step, all of them or none."""
    try:
        if len(group) == 1:
            found = [(group[0], group[0].carry_out(metadata))]
        else:
            added = {} if metadata is None else save.check_metadata(group[0].step.stage, metadata)
            store = group[0].manager._store  # noqa: SLF001  # of the same library
            versions = _operations.restore.restore_together(store, [each.step for each in group], added)
            found = [(each, versions[each.step.stage]) for each in group]
    except VersionConflictError:
        for each in group:
            each.number = 0
        raise
    for each, version in found:
        each.number = 0 if version is None else version.number
    return [version for _, version in found if version is not None]


def _undo(begun: list[_Begun]) -> list[_Begun]:
    """Take back the steps, the last one first; return those that can't be taken back, which a WARNING names."""
    waiting, left = [each for each in begun if each.number != 0], list[_Begun]()
    try:
        while waiting:
            try:
                waiting[-1].undo()
            except CheckpointError as error:
                _warn(waiting[-1], str(error))
                left.append(waiting[-1])
            waiting.pop()
    finally:
        for each in reversed(waiting):  # what was interrupted, and the rest
            _warn(each, "taking back was interrupted")
    return left


def _partly(left: list[_Begun]) -> PartlyRestoredError:
    stages = tuple((_location(each.manager), each.step.stage) for each in left)
    named = ", ".join(f"{printable(stage)} in {printable(location)}" for location, stage in stages[:_MOST_NAMED])
    more = f" and {counted(len(stages) - _MOST_NAMED, 'more stage')}" if len(stages) > _MOST_NAMED else ""
    message = f"the restore failed, and could not be taken back for {named}{more}"
    return PartlyRestoredError(message, hint="Look at the newest versions there, and restore again", left=stages)


def _warn(begun: _Begun, why: str) -> None:
    was = "may have been" if begun.number is None else "was"
    message = "Stage %s in %s %s restored, and stays so although others could not be: %s"
    _LOG.warning(message, printable(begun.step.stage), begun.manager, was, why)


def _checked(plan: Sequence[PipelinePlan]) -> list[PipelinePlan]:
    plans = elements("plan", plan, "a list that plan_restore returned")
    for each in plans:
        check("plan", each, PipelinePlan, "a list that plan_restore returned")
    return cast("list[PipelinePlan]", plans)


def _location(manager: CheckpointManager) -> str:
    return manager._store.backend.location  # noqa: SLF001  # of the same library


def _shown(location: str | os.PathLike[str]) -> str:
    """Return a location that has no store, as that of one is given: an absolute path, or a URL without its password."""
    if scheme_of(location):
        return redacted(os.fspath(location))
    return os.path.realpath(os.path.expanduser(os.fspath(location)))


def _check_there(location: str | os.PathLike[str]) -> None:
    """Refuse a location without a whole store: neither a store nor a keyring is made here.

    Raises:
        LocationError: There is none.
        IntegrityError: Its keyring is gone.
        CheckpointError: It can't be looked at.
    """
    if has_keyring(location):
        return
    shown = printable(_shown(location))
    if has_versions(location):
        message = f"the keyring of {shown} is gone, but there are checkpoints"
        raise IntegrityError(message, hint="Restore it from a backup: without it, nothing opens")
    raise LocationError(f"there is no checkpoint store at {shown}", hint="Name the directory or the URL of one")
