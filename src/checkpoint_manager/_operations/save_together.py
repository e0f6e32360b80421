"""Save versions of several stages in one durable step: all of them, or none."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from checkpoint_manager._operations.save import conflict, expect, is_mine, place_after
from checkpoint_manager._store import attachments
from checkpoint_manager._store.history import Tip
from checkpoint_manager._store.waits import Waits
from checkpoint_manager.backends.base import OutOfOrderError, UnknownOutcomeError, VersionTakenError
from checkpoint_manager.errors import CheckpointError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checkpoint_manager._operations.save import Draft
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.errors import VersionConflictError
    from checkpoint_manager.models import Version

_ATTEMPTS = 5


def check_possible(store: Store) -> None:
    """Refuse a store that can't append versions of several stages in one step.

    Raises:
        CheckpointError: It can't.
    """
    if not store.backend.capabilities.appends_together:
        message = f"{store.backend.location} can't save several stages in one step; nothing was written"
        hint = "Give atomic=False to save one after the other, or keep the store in SQLite or PostgreSQL, which can"
        raise CheckpointError(message, hint=hint)


def save_together(store: Store, drafts: Mapping[str, Draft], expected: Mapping[str, int]) -> dict[str, Version]:
    """Append a version to each stage, and return them.

    Args:
        store: The store, which can do that.
        drafts: The versions by stage, with their attachments written.
        expected: The number that the newest version of a stage must have (0: none yet), for some or all of them.

    Raises:
        VersionConflictError: Another version of a stage is the newest. Nothing was written.
        LockTimeoutError, RollbackError: As for :func:`save.save`. Nothing was written.
        StorageError: They could not be written, or it is not known whether they were.
    """
    if not drafts:
        return {}
    waits = Waits(store)
    sessions: dict[str, Session] = {}
    with contextlib.ExitStack() as locks:
        for stage in sorted(drafts):  # in one order, so that no two writers wait for each other
            lock = locks.enter_context(waits.lock(stage))
            sessions[stage] = locks.enter_context(waits.session(stage, lock))
        tips = {stage: store.history.tip(stage, session) for stage, session in sessions.items()}
        for stage, draft in drafts.items():
            if expected.get(stage) != 0 or not store.history.is_deleted(stage, sessions[stage]):
                expect(store, stage, tips[stage].version, expected.get(stage))
            if draft.attachments:
                attachments.check_there(store, stage, draft.attachments)
        return _append(store, drafts, tips, sessions)


def _append(
    store: Store, drafts: Mapping[str, Draft], tips: Mapping[str, Tip], sessions: Mapping[str, Session]
) -> dict[str, Version]:
    placed = {stage: place_after(store, stage, tips[stage], draft) for stage, draft in drafts.items()}
    versions = [(stage, *placed[stage], draft.data) for stage, draft in drafts.items()]
    cause: BaseException | None = None
    for _ in range(_ATTEMPTS):
        try:
            store.append_together(versions)
        except (VersionTakenError, OutOfOrderError, UnknownOutcomeError) as error:
            if not all(is_mine(store, stage, number, entry) for stage, number, entry, _ in versions):
                if not isinstance(error, UnknownOutcomeError):
                    raise _taken(store, tips, sessions) from None
                cause = error.__cause__  # once more: should the first attempt arrive after all, it is found by its ids
                continue
            for version in versions:  # the answer was lost, and the key may have been given up meanwhile
                store.replace(*version)
        break
    else:
        message = f"it is not known whether {', '.join(drafts)} were saved in {store.backend.location}"
        raise StorageError(message, hint="Load their newest versions to see") from cause
    for stage, (number, entry) in placed.items():
        store.history.learn(stage, Tip(number, entry.id, entry.created_at, 0, entry.durable), sessions[stage], durable=True)
        if store.after_append is not None:
            store.after_append(stage, number, entry, sessions[stage])
    return {stage: entry.as_version(stage, number) for stage, (number, entry) in placed.items()}


def _taken(store: Store, tips: Mapping[str, Tip], sessions: Mapping[str, Session]) -> VersionConflictError:
    """Return the error for a number that another writer took without the lock."""
    newest = {stage: store.history.tip(stage, session, exact=True).version for stage, session in sessions.items()}
    stage = next((stage for stage, tip in tips.items() if newest[stage] != tip.version), next(iter(tips)))
    return conflict(store, stage, tips[stage].version, newest[stage])
