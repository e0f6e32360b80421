"""Saving: the one way in which a stage changes is that a version is added to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkpoint_manager._format import payload
from checkpoint_manager._format.checkpoint_file import MAX_CALLER_METADATA_BYTES, MAX_VERSION, Entry, new_id
from checkpoint_manager._store.history import Tip
from checkpoint_manager._store.store import origin
from checkpoint_manager.backends.base import OutOfOrderError, UnknownOutcomeError, VersionAbsentError, VersionTakenError
from checkpoint_manager.errors import FormatError, Hint, IntegrityError, PayloadError, StorageError, VersionConflictError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Session
    from checkpoint_manager.models import Status, Version

_ATTEMPTS = 100
"""How often a writer that is overtaken without a lock tries the next number."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A version to be written: everything but its place in the history.

    Attributes:
        data: The data as JSON.
        metadata: The caller's metadata.
        status: The status of the stage.
        restored_from: The number of the version this is a copy of, or None.
    """

    data: bytes = field(repr=False)
    metadata: dict[str, Any] = field(default_factory=dict, repr=False)
    status: Status = "completed"
    restored_from: int | None = None


def draft(stage: str, data: object, metadata: Mapping[str, object] | None, *, status: Status = "completed") -> Draft:
    """Return a draft of what a caller wants to save, checked before anything is locked, read or written.

    Raises:
        PayloadError: The data or the metadata would not come back equal.
    """
    encoded = payload.encode(data, stage=stage)
    return Draft(encoded, {} if metadata is None else _checked(stage, metadata), status)


def save(store: Store, stage: str, draft: Draft, expected: int | None = None) -> Version:
    """Append a version to a stage, and return it.

    Args:
        store: The store.
        stage: The stage.
        draft: The version's content.
        expected: The number that the newest version must have (0: none yet), or None for any.

    Raises:
        VersionConflictError: Another version is the newest. Nothing was written.
        LockTimeoutError: Another writer holds the stage. Nothing was written.
        RollbackError: The stage is older than what this user has seen. Nothing was written.
        StorageError: The version could not be written. Nothing was acknowledged.
    """
    with store.lock(stage) as session:
        tip = store.history.tip(stage, session)
        if expected is not None and tip.version != expected:
            raise _conflict(store, stage, expected, tip.version)
        return append(store, stage, tip, draft, session=session)


def update(store: Store, stage: str, make: Callable[[Tip], Draft]) -> Version:
    """Append what ``make`` makes of the newest version, with no other writer in between."""
    with store.lock(stage) as session:
        tip = store.history.tip(stage, session)
        return append(store, stage, tip, make(tip), exactly=True, session=session)


def append(
    store: Store, stage: str, tip: Tip, draft: Draft, *, exactly: bool = False, session: Session | None = None
) -> Version:
    """Append a version after ``tip``; the caller holds the stage's lock.

    The writer that links a number first owns it. If another writer took it without the lock, the next number is tried, unless
    the draft was made ``exactly`` from this tip.
    """
    for _ in range(_ATTEMPTS):
        number = tip.next_number
        if number > MAX_VERSION:
            raise _no_numbers_left(store, stage)
        entry = _entry_after(tip, draft)
        if not _append_entry(store, stage, number, entry, draft, session):
            if exactly:
                raise _conflict(store, stage, tip.version, number) from None
            tip = store.history.tip(stage, session)
            continue
        store.history.learn(stage, Tip(number, entry.id, entry.created_at))
        if store.after_append is not None:
            store.after_append(stage, number, entry)
        return entry.as_version(stage, number)
    message = (
        f"stage {display(stage)} in {store.backend.location}: other writers took each of {_ATTEMPTS} version numbers first, "
        "which a working lock prevents"
    )
    raise StorageError(message, hint="Check that the file system supports locks", stage=stage)


def _entry_after(tip: Tip, draft: Draft) -> Entry:
    now = datetime.now(UTC)
    return Entry(
        id=new_id(),
        previous=tip.id,
        status=draft.status,
        created_at=now if tip.created_at is None else max(now, tip.created_at),
        metadata=draft.metadata,
        origin=origin(),
        size=len(draft.data),
        restored_from=draft.restored_from,
    )


def _append_entry(store: Store, stage: str, number: int, entry: Entry, draft: Draft, session: Session | None) -> bool:
    """Append a version, and return False if another one took its number.

    Where the outcome of an attempt is unknown, the version that stands there is looked at: it is this one if it has its id. If
    there is none, the same bytes are appended again, which fails if the first attempt comes to its end meanwhile.

    Raises:
        StorageError: The version could not be written; or whether it was can't be told.
    """
    for attempt in range(_ATTEMPTS):
        try:
            store.append(stage, number, entry, draft.data, session)
        except UnknownOutcomeError as unknown:
            if attempt == _ATTEMPTS - 1:
                message = f"it can't be told whether version {number} of stage {display(stage)} was saved"
                hint = "Look at history() before you save it again"
                raise StorageError(message, hint=hint, stage=stage, version=number) from unknown
        except VersionTakenError:
            pass
        except OutOfOrderError:
            return False
        else:
            return True
        try:
            return store.entry(stage, number).id == entry.id
        except (IntegrityError, FormatError):  # it can't be read, so it is not what was written here
            return False
        except VersionAbsentError:  # nothing came of it, or it was deleted since
            continue
    return False


def _checked(stage: str, metadata: Mapping[str, object]) -> dict[str, Any]:
    encoded = payload.encode(dict(metadata), stage=stage, what="metadata")
    if len(encoded) > MAX_CALLER_METADATA_BYTES:
        message = f"the metadata is {len(encoded)} bytes of JSON, and the limit is {MAX_CALLER_METADATA_BYTES}"
        raise PayloadError(message, hint="Put what is not needed in a listing into the data", stage=stage)
    decoded: dict[str, Any] = payload.decode(encoded)  # a copy: what the caller changes later is not in the version
    return decoded


def _conflict(store: Store, stage: str, expected: int, actual: int) -> VersionConflictError:
    message = (
        f"stage {display(stage)} in {store.backend.location}: version {expected} was expected to be the newest, and it is "
        f"{actual}; nothing was written"
    )
    hint = "Another writer was faster. Load the newest version and decide again"
    return VersionConflictError(message, hint=hint, stage=stage, expected=expected, actual=actual)


def _no_numbers_left(store: Store, stage: str) -> StorageError:
    message = (
        f"stage {display(stage)} in {store.backend.location} has no version numbers left, which only a planted file causes"
    )
    return StorageError(message, hint=Hint.VERIFY_AND_REPAIR, stage=stage)
