"""Restore and clear stages. Each appends a version and removes nothing."""

from __future__ import annotations

import contextlib
import functools
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

import checkpoint_manager.attachment_info  # noqa: F401  # else it would be imported under the lock
from checkpoint_manager import times
from checkpoint_manager._operations import select, tag
from checkpoint_manager._operations.load import Loaded, load_version
from checkpoint_manager._operations.save import Draft, append, expect
from checkpoint_manager._operations.save_together import save_together
from checkpoint_manager._store import attachments, listing
from checkpoint_manager._store.waits import Waits
from checkpoint_manager._text import printable
from checkpoint_manager.errors import (
    ArgumentError,
    CheckpointError,
    CheckpointNotFoundError,
    Hint,
    IntegrityError,
    LockTimeoutError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Version

_LOG = logging.getLogger("checkpoint_manager")
_NOTHING: Mapping[str, Any] = {}
_MOST_TOGETHER, _MOST_BYTES_TOGETHER = 100, 64 * 1024 * 1024
"""How many stages, with how much data, are restored in one step: all are locked, and their data is in memory at once."""


def restore(
    store: Store, stage: str, version: int | str, added: Mapping[str, Any] = _NOTHING, expected: int | None = None
) -> Version:
    """Append a copy of a version; errors as in :func:`select.number`, :func:`load_version` and :func:`expect`.

    Args:
        store: The store.
        stage: The stage.
        version: The version.
        added: What is added to the metadata of the copy.
        expected: The number that the newest version must have, or None for any.
    """
    with store.lock(stage) as lock, store.session(stage, lock) as session:
        number = select.number(store, stage, version)
        return _append_copy(store, stage, load_version(store, stage, number, session), session, added, expected)


def restore_at(
    store: Store, stage: str, moment: datetime, added: Mapping[str, Any] = _NOTHING, expected: int | None = None
) -> Version:
    """Append a copy of the version that was the newest at a moment.

    Raises:
        CheckpointNotFoundError: The stage had no version then.
    """
    with store.lock(stage) as lock, store.session(stage, lock) as session:
        number = select.number_at(store, stage, moment)
        return _append_copy(store, stage, load_version(store, stage, number, session), session, added, expected)


@dataclass(frozen=True, slots=True)
class RestoreStep:
    """What ``restore_pipeline`` would do to one stage, as ``plan_restore`` returns it.

    Attributes:
        stage: The stage.
        action: ``restore``: append a copy of ``target``; ``clear``: append a cleared version, as the stage was not there then;
            ``keep``: leave it as it is; ``refuse``: it can't be restored, and then no stage is.
        newest: The newest version now; None if there is none, or it does not open.
        target: The version that is restored; None if there is none.
        error: Why it can't be restored; None if it can.
        newest_number: The number of the newest version, even if that does not open; 0 if there is none, or it can't be told.
    """

    stage: str
    action: Literal["restore", "clear", "keep", "refuse"]
    newest: Version | None = None
    target: Version | None = None
    error: CheckpointError | None = None
    newest_number: int = 0


@dataclass(frozen=True, slots=True)
class Goal:
    """The state to which a pipeline is restored.

    Attributes:
        description: What, in words.
        find: Returns a stage's version of then; None if it had none. Called with the store, the stage and a session on it.
        tag: The tag, if it is one.
    """

    description: str
    find: Callable[[Store, str, Session], int | None]
    tag: str | None = None


def goal(at: datetime | str | None, name: str | None) -> Goal:
    """Return the goal that a caller names: a moment, or a tag.

    Raises:
        TypeError: Both are given, or neither.
    """
    if (at is None) == (name is None):
        raise ArgumentError("either at= or tag= must be given, and not both")
    if name is not None:
        wanted = tag.validate(name, existing=True)
        return Goal(f"what is tagged {wanted}", functools.partial(_tagged, name=wanted), wanted)
    moment = select.moment(cast("datetime | str", at))
    return Goal(f"the state at {times.local(moment)}", functools.partial(_newest_at, moment=moment))


def plan(store: Store, goal: Goal) -> list[RestoreStep]:
    """Return what :func:`restore_pipeline` would do to each stage. If a stage can't be restored, its step holds the error.

    Raises:
        CheckpointNotFoundError: No stage has the tag.
    """
    steps = [_planned(store, stage, goal) for stage in store.stages()]
    if goal.tag is not None and not any(step.target is not None or step.error is not None for step in steps):
        message = f"no stage in {store.backend.location} has the tag {goal.tag}"
        raise CheckpointNotFoundError(message, hint=Hint.SEE_TAGS)
    return steps


def restore_pipeline(store: Store, goal: Goal) -> list[Version]:
    """Restore every stage; stages that did not exist then are cleared.

    What will be appended is read and verified for all stages before the first one is changed. Killed in between, it can be run
    again: stages that are already as they were are left alone.

    Raises:
        CheckpointNotFoundError: No stage has the tag.
        RollbackError: A stage that this user has seen is gone, or older. Nothing was changed.
        IntegrityError: A version that would be restored is damaged. Nothing was changed.
    """
    steps = plan(store, goal)
    for step in steps:
        if step.error is not None:
            raise step.error
    waits = Waits(store)
    appended = (_restore_state(store, step.stage, goal, waits) for step in steps)
    return [version for version in appended if version is not None]


def is_one_step(store: Store, steps: Sequence[RestoreStep]) -> bool:
    """Return whether the steps that append a version can be carried out in one durable step: all of them, or none."""
    size = sum(step.target.size or 0 for step in steps if step.target is not None)
    is_small = len(steps) <= _MOST_TOGETHER and size <= _MOST_BYTES_TOGETHER
    return len(steps) <= 1 or (store.backend.capabilities.appends_together and is_small)


def restore_together(store: Store, steps: Sequence[RestoreStep], added: Mapping[str, Any] = _NOTHING) -> dict[str, Version]:
    """Carry out steps that append a version in one durable step; errors as in :func:`load_version` and :func:`save_together`.

    Args:
        store: The store, which can do that.
        steps: The steps.
        added: What is added to the metadata of the versions.
    """
    drafts: dict[str, Draft] = {}
    for step in steps:
        if step.target is None:
            drafts[step.stage] = Draft(b"null", dict(added), "cleared")
        else:
            drafts[step.stage] = _copy(load_version(store, step.stage, step.target.number), added)
    return save_together(store, drafts, {step.stage: step.newest_number for step in steps})


def clear(store: Store, stage: str, metadata: Mapping[str, Any] = _NOTHING, expected: int | None = None) -> Version | None:
    """Append a version that marks the stage as not done; return None if it is cleared already or does not exist.

    Args:
        store: The store.
        stage: The stage.
        metadata: The metadata of that version.
        expected: The number that the newest version must have, or None for any.
    """
    with store.lock(stage) as lock, store.session(stage, lock) as session:
        return _clear_locked(store, stage, session, metadata, expected)


def clear_all(store: Store) -> list[Version]:
    """Clear every stage, and return the appended versions.

    Raises:
        RollbackError: A stage that this user has seen is gone, or older. Nothing was changed.
    """
    stages = store.stages()
    for stage in stages:
        store.history.look(stage)
    waits = Waits(store)
    cleared = (_clear(store, stage, waits) for stage in stages)
    return [version for version in cleared if version is not None]


def _tagged(store: Store, stage: str, session: Session, *, name: str) -> int | None:  # noqa: ARG001  # as _newest_at
    return tag.find(store, stage, name) if name in tag.read(store, stage)[0].named else None


def _newest_at(store: Store, stage: str, session: Session, *, moment: datetime) -> int | None:
    return select.newest_at(listing.entries(store, stage, session), moment)


def _planned(store: Store, stage: str, goal: Goal) -> RestoreStep:
    newest: Version | None = None
    try:
        with store.session(stage) as session:
            number = store.history.look(stage, session).number
            with contextlib.suppress(IntegrityError):  # a damaged one does not stop a restore
                newest = store.history.entry(stage, number, session).as_version(stage, number) if number else None
            then = goal.find(store, stage, session)
            if then is None:
                is_cleared = newest is not None and newest.status == "cleared"
                action: Literal["keep", "clear"] = "keep" if is_cleared or not number else "clear"
                return RestoreStep(stage, action, newest, newest_number=number)
            target = load_version(store, stage, then, session).entry.as_version(stage, then)
    except LockTimeoutError:
        raise
    except CheckpointError as error:
        return RestoreStep(stage, "refuse", newest, error=error)
    is_there = newest is not None and _is_already(newest, target)
    return RestoreStep(stage, "keep" if is_there else "restore", newest, target, newest_number=number)


def _is_already(newest: Version, target: Version) -> bool:
    return target.number in {newest.number, newest.restored_from} or newest.status == target.status == "cleared"


def _restore_state(store: Store, stage: str, goal: Goal, waits: Waits) -> Version | None:
    with waits.lock(stage) as lock, waits.session(stage, lock) as session:
        then = goal.find(store, stage, session)
        number = store.history.look(stage, session).number
        if then is None:
            if goal.tag is None and number > 1 and 1 in store.gaps(stage, session)[0]:
                _LOG.warning(
                    "Stage %s is cleared, because it had no version then, or that was deleted since. It was to go back to %s",
                    printable(stage),
                    goal.description,
                )
            return _clear_locked(store, stage, session)
        loaded = load_version(store, stage, then, session)
        with contextlib.suppress(IntegrityError):
            newest = store.history.entry(stage, number, session).as_version(stage, number)
            if _is_already(newest, loaded.entry.as_version(stage, then)):
                return None
        return _append_copy(store, stage, loaded, session)


def _clear(store: Store, stage: str, waits: Waits) -> Version | None:
    with waits.lock(stage) as lock, waits.session(stage, lock) as session:
        return _clear_locked(store, stage, session)


def _clear_locked(
    store: Store, stage: str, session: Session, metadata: Mapping[str, Any] = _NOTHING, expected: int | None = None
) -> Version | None:
    tip = store.history.tip(stage, session)
    expect(store, stage, tip.version, expected)
    if tip.version == 0 or _is_cleared(store, stage, tip.version, session):
        return None
    return append(store, stage, tip, Draft(b"null", dict(metadata), "cleared"), session, exactly=expected is not None)


def _append_copy(
    store: Store,
    stage: str,
    loaded: Loaded,
    session: Session,
    added: Mapping[str, Any] = _NOTHING,
    expected: int | None = None,
) -> Version:
    tip = store.history.tip(stage, session)
    expect(store, stage, tip.version, expected)
    attachments.check_there(store, stage, loaded.entry.attachments)
    return append(store, stage, tip, _copy(loaded, added), session, exactly=expected is not None)


def _copy(loaded: Loaded, added: Mapping[str, Any]) -> Draft:
    entry = loaded.entry
    metadata = {**entry.metadata, **added}
    return Draft(bytes(loaded.data), metadata, entry.status, restored_from=loaded.version, attachments=entry.attachments)


def _is_cleared(store: Store, stage: str, version: int, session: Session) -> bool:
    try:
        return store.entry(stage, version, session).status == "cleared"
    except IntegrityError:  # a cleared version on top is right in any case
        return False
