"""Save versions of several stages in one durable step: all of them, or none."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from checkpoint_manager._operations.save import after_attempt, always_taken, attempts, expect, finish, is_mine, place_after
from checkpoint_manager._store import attachments
from checkpoint_manager._store.history import Tip
from checkpoint_manager._store.waits import Waits
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import OutOfOrderError, UnknownOutcomeError, VersionAbsentError, VersionTakenError
from checkpoint_manager.errors import CheckpointError, LockTimeoutError, StorageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._operations.save import Draft
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Buffer, Version

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
        VersionConflictError: Another version of a stage is the newest than is expected. Nothing was written.
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
        for attempt in range(_ATTEMPTS):
            tips = {stage: store.history.tip(stage, session, exact=attempt > 0) for stage, session in sessions.items()}
            for stage, draft in drafts.items():
                if expected.get(stage) != 0 or not store.history.is_deleted(stage, sessions[stage]):
                    expect(store, stage, tips[stage].version, expected.get(stage))
                if draft.attachments:
                    attachments.check_there(store, stage, draft.attachments)
            placed = {stage: place_after(store, stage, tips[stage], draft) for stage, draft in drafts.items()}
            with contextlib.suppress(VersionTakenError, OutOfOrderError):  # by a writer without the lock: look again
                _write(store, [(stage, *placed[stage], draft.data) for stage, draft in drafts.items()], sessions)
                return _learned(store, placed, sessions)
        raise always_taken(store, next(iter(drafts)), _ATTEMPTS)


def _write(store: Store, versions: Sequence[tuple[str, int, Entry, Buffer]], sessions: Mapping[str, Session]) -> None:
    """Append versions exactly once, even if an answer of the backend is lost.

    Raises:
        VersionTakenError, OutOfOrderError: Another writer has one of the numbers, or a higher one. Nothing was written.
        StorageError: They were not written, or it is not known whether they were; or they were, and one of them was deleted
            since, or could not be checked.
    """
    names = ", ".join(printable(stage) for stage, *_ in versions)
    cause: BaseException | None = None
    for _ in attempts(store):
        try:
            with after_attempt(cause):
                store.append_together(versions)
        except VersionAbsentError:
            raise _deleted(store, names) from None
        except (VersionTakenError, OutOfOrderError, UnknownOutcomeError) as error:
            try:
                is_written = any(is_mine(store, stage, number, entry) for stage, number, entry, _ in versions)
            except (StorageError, LockTimeoutError) as silence:
                cause = silence
                break
            if not is_written and not isinstance(error, UnknownOutcomeError):
                raise
            if is_written:
                try:
                    for stage, number, entry, data in versions:
                        finish(store, stage, number, entry, data, sessions[stage])
                except VersionTakenError:
                    raise _deleted(store, names) from None
                return
            cause = error.__cause__  # once more: should the first attempt arrive after all, it is found by its ids
        else:
            return
    message = f"it is not known whether {names} were saved in {store.backend.location}"
    raise StorageError(message, hint="Load their newest versions to see") from cause


def _deleted(store: Store, names: str) -> StorageError:
    message = f"{names} were saved in {store.backend.location}, and one of these versions was deleted meanwhile"
    return StorageError(message, hint="Load their newest versions before you save again")


def _learned(store: Store, placed: Mapping[str, tuple[int, Entry]], sessions: Mapping[str, Session]) -> dict[str, Version]:
    for stage, (number, entry) in placed.items():
        store.history.learn(stage, Tip(number, entry.id, entry.created_at, 0, entry.durable), sessions[stage], durable=True)
        if store.after_append is not None:
            store.after_append(stage, number, entry, sessions[stage])
    return {stage: entry.as_version(stage, number) for stage, (number, entry) in placed.items()}
