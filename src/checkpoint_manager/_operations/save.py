"""Save: a stage changes only by appending versions to it."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from checkpoint_manager import _operations
from checkpoint_manager._arguments import wrong
from checkpoint_manager._format import payload
from checkpoint_manager._format.checkpoint_file import (
    ID_BYTES,
    MAX_CALLER_METADATA_BYTES,
    MAX_VERSION,
    Entry,
    Place,
    seal_version,
)
from checkpoint_manager._format.codecs import NO_CODECS
from checkpoint_manager._format.gaps import MAX_GAPS_BYTES
from checkpoint_manager._format.keyring import MAX_KEYRING_BYTES
from checkpoint_manager._format.seal import SLICE_BYTES
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._operations.load import newest_completed
from checkpoint_manager._store import attachments
from checkpoint_manager._store.history import LONG, Tip
from checkpoint_manager._store.last_seen import seen_line
from checkpoint_manager._store.sealed_store import origin
from checkpoint_manager._text import printable
from checkpoint_manager.backends import base
from checkpoint_manager.backends.base import OutOfOrderError, UnknownOutcomeError, VersionAbsentError, VersionTakenError
from checkpoint_manager.errors import (
    Hint,
    IntegrityError,
    LockTimeoutError,
    PayloadError,
    StorageError,
    VersionConflictError,
)
from checkpoint_manager.times import CLOCK_TOLERANCE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from checkpoint_manager._format.attachment import AttachmentRecord
    from checkpoint_manager._format.codecs import Codecs
    from checkpoint_manager._format.embedded import Embedded
    from checkpoint_manager._store.last_seen import SeenLine
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Record, Session
    from checkpoint_manager.models import Buffer, Status, Version

_LOG = logging.getLogger("checkpoint_manager")
_ATTEMPTS = 100
"""How many times a writer tries the next number if others take numbers without the lock."""
_TURNS = 64
"""For how many more versions a process leaves its state for others after one of them has saved."""
_LOST_ANSWERS = 5
"""How often a version is written again while the backend does not say whether it was written."""


class Draft(NamedTuple):
    """A version to write: everything but its place in the history.

    Attributes:
        data: The data, encoded.
        metadata: The caller's metadata.
        status: The status of the stage.
        restored_from: The number of the version this is a copy of, or None.
        attachments: What is attached to it, all written already.
        embedded: The arrays, frames and tensors of the data that are not in it and not written yet: see
            :func:`checkpoint_manager._operations.attach.attached`.
        check: What the data has to pass before anyone may read it, if it was encoded ahead; otherwise None.
    """

    data: bytes
    metadata: dict[str, Any]
    status: Status = "completed"
    restored_from: int | None = None
    attachments: tuple[AttachmentRecord, ...] = ()
    embedded: Embedded | None = None
    check: payload.Check | None = None

    def __repr__(self) -> str:
        """Leave data and metadata out: an error's traceback may show the variables of a function."""
        return f"Draft(status={self.status!r}, restored_from={self.restored_from})"


def draft(
    stage: str,
    data: object,
    metadata: Mapping[str, object] | None,
    *,
    status: Status = "completed",
    notes: Mapping[str, Any] | None = None,
    codecs: Codecs = NO_CODECS,
    ahead: bool = False,
) -> Draft:
    """Return a draft of a version, validated before anything is locked, read or written, but for data that is encoded ahead.

    Args:
        stage: The stage.
        data: The data.
        metadata: The caller's metadata. Its keys must not begin with ``@``.
        status: The status of the stage.
        notes: What the library itself notes in the metadata, under keys that begin with ``@``.
        codecs: How values of types that the library does not know are saved.
        ahead: Whether large data may be encoded ahead of its check. Only :func:`save` takes such a draft.

    Raises:
        PayloadError: The data or the metadata would not load as it was saved, or a key of the metadata is reserved.
    """
    encoded, embedded, check = payload.encode(data, codecs, stage=stage, ahead=ahead)
    checked = {} if metadata is None else check_metadata(stage, metadata)
    noted = checked if notes is None else {**checked, **notes}
    return Draft._make((encoded, noted, status, None, (), embedded, check))


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
        RollbackError: The stage or the keyring is older than what this user has seen. Nothing was written, unless the keyring
            was replaced during the save.
        StorageError: The version could not be written. Nothing was acknowledged.
        PayloadError: The data was encoded ahead, and would not load as it was saved. No version was written.
    """
    try:
        with store.backend.lock(stage, store.lock_timeout) as lock:
            saved = _append_next(store, stage, draft, lock) if expected is None and draft.check is None else None
            return saved or _append_after_look(store, stage, draft, expected, lock)
    except payload.InexactError as error:
        check = error.check
    return save(store, stage, draft._replace(data=check.encoded_again(stage), check=None), expected)


def _append_next(store: Store, stage: str, draft: Draft, lock: object) -> Version | None:
    """Append a version if nothing has changed since this process appended the last one; otherwise return None.

    This is a fast path: pipelines save like this most of the time. What others could have changed is compared with what it was
    after the last save: the lines that this user keeps, the folder, the keyring and the record of deletions, and the keyring
    once more at the end. Any difference is left to :func:`_append_after_look`, which finds out what it means. Where another
    process of this user appended the last version and left the state of the stage with the line, it is compared with that
    state. So both must decide the same: ``tests/fast_paths`` compares them.

    If this raises, or returns None, the session is dropped with what it knows of the last save, and the lock stays held.
    """
    tip, keyring, backend = store.history.tips.get(stage), store.keyring.current, store.backend
    if tip is None or tip.id is None or draft.attachments or len(draft.data) > SLICE_BYTES or store.index is not None:
        return None
    known_gaps = store.known_gaps.get(stage)
    if known_gaps is None or not store.has_compared(stage):  # None: a look found their record damaged, which stops a writer
        return None
    left = None
    if not store.last_seen.is_still(stage, tip.version, tip.id):
        left = None if backend.durability == "relaxed" else store.last_seen.left(stage)  # it would wait for the disk
        if left is None or left.version <= tip.version:
            return None
        tip = Tip._make((left.version, left.id, datetime.fromtimestamp(left.microseconds / 1e6, UTC), 0, None))
        store.history.in_turn[stage] = left.version + _TURNS
    _, gaps = known_gaps
    session = backend.session_after(stage, tip.version, keyring.record, lock, None if left is None else left.state)
    if session is None or (
        (gaps is not None or left is not None)  # it may have been overwritten in its place, of which the folder shows nothing
        and gaps is not backend.read_record("gaps", stage, limit=MAX_GAPS_BYTES, known=gaps, session=session)
    ):
        return None
    number, entry = place_after(store, stage, tip, draft)
    # Made before the disk is waited for: afterwards, the processor has to fetch all code and data from memory again.
    saved, newest = entry.as_version(stage, number), Tip._make((number, entry.id, entry.created_at, 0, None))
    line = seen_line(stage, number, entry.id)
    place = Place._make((keyring.unlocked.keyring.store, stage, number))
    (content,) = seal_version(*keyring.active, place, entry, draft.data)
    if not _is_appended(store, stage, number, entry, draft.data, content, keyring.record, session):
        return None
    store.history.tips[stage] = newest
    if number <= store.history.in_turn.get(stage, 0):
        line = _with_state_left(store, stage, number, entry, line, session)
    store.last_seen.write(*line)
    if number >= LONG:
        store.history.note(stage, session)
    if store.after_append is not None:
        store.after_append(stage, number, entry, session)
    session.end()
    return saved


def _with_state_left(store: Store, stage: str, number: int, entry: Entry, line: SeenLine, session: Session) -> SeenLine:
    """Return the line about a version with the state in which its save leaves the stage, if that is known."""
    state = store.backend.state_left(stage, number, session)
    return line if state is None else line.with_state(entry.created_at.timestamp() * 1e6, state)


def _is_appended(
    store: Store, stage: str, number: int, entry: Entry, data: bytes, content: Buffer, keyring: Record, session: Session
) -> bool:
    """Append a version in a session after another append, and return whether it stands, under the active key.

    Args:
        store: The store.
        stage: The stage.
        number: The version's number.
        entry: Its metadata.
        data: Its data.
        content: Both, sealed.
        keyring: The keyring that they are sealed under.
        session: The session.
    """
    try:
        if not store.backend.append_next(stage, number, content, session):
            return False
    except VersionTakenError:
        pass  # perhaps by itself: a rotation behind the lock found it before it was linked, and sealed it again
    else:
        try:
            present = store.backend.read_record("keyring", limit=MAX_KEYRING_BYTES, known=keyring)
        except StorageError:
            present = None
        if present is keyring:
            return True
    try:
        append_entry(store, stage, number, entry, data, None)  # it finds it written, and seals it again
    except (VersionTakenError, OutOfOrderError):
        return False
    return True


def _append_after_look(store: Store, stage: str, draft: Draft, expected: int | None, lock: object) -> Version:
    """Append a version after a look at what is there; arguments and errors as for :func:`save`."""
    with store.session(stage, lock, only_appends=expected is None) as session:
        tip = store.history.tip(stage, session)
        if (
            expected is not None
            and tip.version != expected
            and not (expected == 0 and store.history.is_deleted(stage, session))
        ):
            expect(store, stage, tip.version, expected)
        if draft.attachments:
            attachments.check_there(store, stage, draft.attachments)
        if draft.check is not None and draft.check.is_late():
            draft = draft._replace(data=draft.check.encoded_again(stage), check=None)
        return append(store, stage, tip, draft, session, exactly=expected is not None)


def update(store: Store, stage: str, function: Callable[[Any], object], metadata: Mapping[str, object] | None) -> Version:
    """Append what a function makes of the newest completed data (None: there is none), with no other writer in between.

    The function is called again if another writer was faster, which a lock that excludes prevents.

    Raises:
        VersionConflictError: Others were faster each of many times. Nothing was written.
        IntegrityError: A version is damaged that may hold the newest data.
        Exception: What the function raises, and what :func:`save` raises. Nothing was written.
    """
    attempt = 0
    while True:
        attempt += 1
        with store.lock(stage) as lock, store.session(stage, lock) as session:
            tip = store.history.tip(stage, session)
            loaded = newest_completed(store, stage, session)
            present = None if loaded is None else payload.decode(loaded.data, store.codecs, loaded.contents)
            made = draft(stage, function(present), metadata, codecs=store.codecs)
            attached: AbstractContextManager[Draft] = nullcontext(made)
            if made.embedded is not None:
                attached = _operations.attach.attached(store, stage, made, session=session)
            try:
                with attached as whole:
                    return append(store, stage, tip, whole, session, exactly=True)
            except VersionConflictError:
                if attempt == _ATTEMPTS:
                    raise


def append(
    store: Store, stage: str, tip: Tip, draft: Draft, session: Session | None = None, *, exactly: bool = False
) -> Version:
    """Append a version after ``tip``; the caller holds the stage's lock.

    The writer that writes a number first owns it. If another writer took it without the lock, the next number is tried, unless
    the draft was made ``exactly`` from this tip.
    """
    number, entry = place_after(store, stage, tip, draft)
    for _ in range(_ATTEMPTS):
        # Made before the disk is waited for: afterwards, the processor has to fetch all code and data from memory again.
        saved, newest = entry.as_version(stage, number), Tip(number, entry.id, entry.created_at, 0, entry.durable)
        line = seen_line(stage, number, entry.id)
        try:
            durable = append_entry(store, stage, number, entry, draft.data, session, draft.check)
        except (VersionTakenError, OutOfOrderError):
            if exactly:
                raise conflict(store, stage, tip.version, number) from None
            tip = store.history.tip(stage, session, exact=True)
            number, entry = place_after(store, stage, tip, draft)
            continue
        if draft.attachments and not store.backend.capabilities.lock_excludes:
            attachments.check_there(store, stage, draft.attachments)  # a deletion may have removed them until just now
        if not durable and not tip.version:  # the first version is durable in a relaxed store, too
            with _after_the_write(store, stage, number):
                durable = store.backend.newest(stage, session=session).durable
        if session is not None:
            line = _with_state_left(store, stage, number, entry, line, session)
        store.history.learn(stage, newest, session, durable=durable, line=line)
        if store.after_append is not None:
            store.after_append(stage, number, entry, session)
        return saved
    raise always_taken(store, stage, _ATTEMPTS)


def always_taken(store: Store, stage: str, attempts: int) -> StorageError:
    """Return the error for a stage in which others were faster each time."""
    message = (
        f"stage {printable(stage)} in {store.backend.location}: other writers took each of {attempts} version numbers first, "
        "which a working lock prevents"
    )
    return StorageError(message, hint="Check that the file system supports locks", stage=stage)


def append_entry(
    store: Store,
    stage: str,
    number: int,
    entry: Entry,
    data: Buffer,
    session: Session | None,
    check: payload.Check | None = None,
) -> bool:
    """Append one version exactly once, even if an answer of the backend is lost, and return whether it is durable.

    Raises:
        VersionTakenError: Another writer has the number, or has deleted it meanwhile. Nothing of this version is left.
        OutOfOrderError: Another writer has a higher number. Nothing was written.
        StorageError: It was not written, or the backend never answered whether it was.
    """
    cause: BaseException | None = None
    for _ in attempts(store):
        try:
            with after_attempt(cause):
                store.append(stage, number, entry, data, session, check)
        except VersionAbsentError:  # deleted meanwhile
            raise VersionTakenError from None
        except (VersionTakenError, OutOfOrderError, UnknownOutcomeError) as error:
            try:
                is_own = is_mine(store, stage, number, entry)
            except (StorageError, LockTimeoutError) as silence:
                cause = silence
                break
            if is_own:
                finish(store, stage, number, entry, data, session)
                return False
            if not isinstance(error, UnknownOutcomeError):
                raise
            cause = error.__cause__  # once more: should the first attempt arrive after all, it is found by its id
        else:
            if not store.backend.capabilities.lock_excludes:
                with _after_the_write(store, stage, number):
                    _refuse_void(store, stage, number, session)
            return store.backend.durability == "full"
    where = f"version {number} of stage {printable(stage)} in {store.backend.location}"
    why = f": {printable(getattr(cause, 'message', str(cause)))}" if cause is not None else ""
    message = f"it is not known whether {where} was written{why}"
    raise StorageError(message, hint="Load the newest version to see, when the storage answers again", stage=stage) from cause


def attempts(store: Store) -> Iterator[None]:
    """Yield for each attempt at a write whose answer is lost: a few, and none after the storage was waited for long enough."""
    deadline = time.monotonic() + max(store.backend.patience, base.LEAST_ANSWER_SECONDS)
    for _ in range(_LOST_ANSWERS):
        yield
        if time.monotonic() > deadline:
            return


@contextmanager
def after_attempt(cause: BaseException | None) -> Iterator[None]:
    """Say of a lock that was lost that nothing is known, if an earlier attempt, whose answer was lost, may still arrive."""
    try:
        yield
    except LockTimeoutError as error:
        if cause is None:
            raise
        raise UnknownOutcomeError from error


def finish(store: Store, stage: str, number: int, entry: Entry, data: Buffer, session: Session | None) -> None:
    """Seal a version again whose answer was lost, as the key may have been given up meanwhile, unless its number was."""
    with _after_the_write(store, stage, number):
        try:
            store.replace(stage, number, entry, data, session)
        except VersionAbsentError:
            raise VersionTakenError from None
        _refuse_void(store, stage, number, session)


@contextmanager
def _after_the_write(store: Store, stage: str, number: int) -> Iterator[None]:
    """Say of a failure that the version was written, so that the caller does not save it again."""
    try:
        yield
    except (StorageError, LockTimeoutError) as error:
        where = f"version {number} of stage {printable(stage)} in {store.backend.location}"
        message = f"{where} was written, and could not be checked afterwards: {printable(error.message)}"
        hint = "Load the newest version before you save again"
        raise StorageError(message, hint=hint, errno=error.errno, stage=stage, version=number) from error


def _refuse_void(store: Store, stage: str, number: int, session: Session | None) -> None:
    """Remove a version whose number was given up, and raise VersionTakenError.

    Where the lock does not exclude, others may save under this number and a higher one, and delete this one, between the look
    at the stage and the append: which then succeeds, under a number that nobody looks at.
    """
    known = store.known_gaps.get(stage)
    if known is not None and known[1] is store.backend.read_record(
        "gaps", stage, limit=MAX_GAPS_BYTES, known=known[1], session=session
    ):
        return  # the same deletions as at the look before
    if number in store.gaps(stage, session)[0]:
        store.backend.delete(stage, [number], session=session)
        raise VersionTakenError


def place_after(store: Store, stage: str, tip: Tip, draft: Draft) -> tuple[int, Entry]:
    """Return the number and the metadata of the version that follows ``tip``. Its time is what the clock says."""
    number, now = max(tip.version, tip.used) + 1, datetime.now(UTC)
    if number > MAX_VERSION:
        where = f"stage {printable(stage)} in {store.backend.location}"
        message = f"{where} has no version numbers left, which only a planted file causes"
        raise StorageError(message, hint=Hint.VERIFY_AND_REPAIR, stage=stage)
    if tip.created_at is not None and tip.created_at - now > CLOCK_TOLERANCE:
        _warn_of_clock(stage, now, tip.created_at)
    by = origin(os.getpid())
    placed = (draft.status, now, draft.metadata, by, len(draft.data), draft.restored_from, draft.attachments, tip.durable)
    return number, Entry._make((os.urandom(ID_BYTES).hex(), tip.id, *placed))


def is_mine(store: Store, stage: str, number: int, entry: Entry) -> bool:
    """Return whether the version that has the number is this very one: the answer to the attempt was lost.

    What goes wrong while looking is raised: the version may have been written. One that does not open was not written here, as
    versions appear as a whole.
    """
    try:
        return store.entry(stage, number).id == entry.id
    except (IntegrityError, VersionAbsentError):
        return False


def _warn_of_clock(stage: str, now: datetime, before: datetime) -> None:
    _LOG.warning(
        "Stage %s: the clock says %s, and the version before this one was saved at %s: "
        "the clock was wrong then, or is wrong now. "
        "Check it: versions are ordered by number, but retention and choosing a version by time go by the clock",
        printable(stage),
        now.isoformat(timespec="seconds"),
        before.isoformat(timespec="seconds"),
    )


def check_metadata(stage: str, metadata: Mapping[str, object]) -> dict[str, Any]:
    """Return a copy of the caller's metadata.

    Raises:
        PayloadError: It would not load as it was saved, or a key is reserved.
    """
    if not isinstance(metadata, Mapping):
        raise wrong("metadata", metadata, "a dict, or None")
    reserved = next((place for place, key in enumerate(metadata, 1) if str(key).startswith("@")), None)
    if reserved is not None:
        message = f"key {reserved} of the metadata begins with @, and keys that begin with @ are reserved"
        raise PayloadError(message, hint="Choose another key", path=f"$[key {reserved}]", stage=stage)
    encoded = payload.encode_json(dict(metadata), stage=stage, what="metadata")
    if len(encoded) > MAX_CALLER_METADATA_BYTES:
        message = f"the metadata is {len(encoded)} bytes of JSON, and the limit is {MAX_CALLER_METADATA_BYTES}"
        raise PayloadError(message, hint="Move what a listing does not need to the data", stage=stage)
    decoded: dict[str, Any] = payload.decode(encoded)  # a copy: what the caller changes later is not in the version
    return decoded


def expect(store: Store, stage: str, actual: int, expected: int | None) -> None:
    """Check that the newest version is the one that the caller expects; None: any.

    Raises:
        VersionConflictError: It is another one.
    """
    if expected is not None and actual != expected:
        raise conflict(store, stage, expected, actual)


def conflict(store: Store, stage: str, expected: int, actual: int) -> VersionConflictError:
    """Return the error for a stage whose newest version is another one than expected."""
    message = (
        f"stage {printable(stage)} in {store.backend.location}: the newest version is {actual}, not {expected} as expected; "
        "nothing was written"
    )
    hint = "Load the newest version and decide again: another writer may have been faster"
    return VersionConflictError(message, hint=hint, stage=stage, expected=expected, actual=actual)
