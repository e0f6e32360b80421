"""Tags: names for versions, which protect them from deletion.

The tags of a stage are one sealed record, changed by compare-and-set under the stage's lock. An attacker who can write to the
directory can't forge a record, but can remove it or restore an older one, which would end the protection of a version. So the
last-seen state holds the serial of the newest record, as it does for versions, and an older record raises
:class:`RollbackError`. In addition, a tag of a deleted version shows that its record is older than the deletion, because a
tagged version is never deleted.
"""

from __future__ import annotations

import logging
import os
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from checkpoint_manager._arguments import check
from checkpoint_manager._format import tags as sealed_tags
from checkpoint_manager._format.checkpoint_file import MAX_VERSION
from checkpoint_manager._format.tags import (
    MAX_BY_CHARACTERS,
    MAX_REASON_CHARACTERS,
    MAX_TAG_CHARACTERS,
    MAX_TAGS,
    Tagged,
    Tags,
    is_name,
)
from checkpoint_manager._store.last_seen import SeenRecord
from checkpoint_manager._store.sealed_store import origin
from checkpoint_manager._store.waits import Waits
from checkpoint_manager._text import did_you_mean, is_unicode, printable, with_article
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import (
    ArgumentError,
    CheckpointNotFoundError,
    Hint,
    IntegrityError,
    RollbackError,
    TagError,
    VersionConflictError,
)
from checkpoint_manager.models import Reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Record, Session
    from checkpoint_manager.models import Version

FAILED = "failed"
"""The selector for the newest record of a failure. New tags can't use it, but a store of an earlier release may have one."""
_LOG = logging.getLogger("checkpoint_manager")


def validate(name: object, *, existing: bool = False) -> str:
    """Return a tag's name if it can be one, or with ``existing`` one of an earlier release.

    Raises:
        TagError: It can't.
    """
    if isinstance(name, str) and is_name(name) and (existing or name.lower() != FAILED):
        return str(name)
    shown = ascii(name[: MAX_TAG_CHARACTERS + 1]) if isinstance(name, str) else with_article(type(name).__name__)
    message = (
        f"{shown} can't be a tag: a tag begins with a letter or _, "
        f"has at most {MAX_TAG_CHARACTERS} of the characters A-Z a-z 0-9 _ . + -, "
        'and is not "latest", "prev" or "failed"'
    )
    raise TagError(message)


def stored(store: Store, stage: str, session: Session | None = None) -> tuple[Tags, Record | None]:
    """Return a stage's tags, however old they are, and their record; errors as in :meth:`Store.record`."""
    return store.record("tags", stage, sealed_tags.RECORD, sealed_tags.decode, Hint.RESTORE_TAGS, session) or (Tags(), None)


def write(store: Store, stage: str, tags: Tags, expected: Record | None) -> None:
    """Write a stage's tags; the caller holds its lock."""
    store.write_record("tags", stage, tags.form, sealed_tags.encode(tags), expected)


def read(store: Store, stage: str) -> tuple[Tags, Record | None]:
    """Return a stage's tags, and the record to compare with when they are written again.

    Raises:
        IntegrityError: The record is damaged or forged.
        RollbackError: This user has seen a newer one.
    """
    tags, record, turned_back = look(store, stage)
    if turned_back and store.on_rollback == "raise":
        raise RollbackError(turned_back, hint=Hint.ACCEPT_ROLLBACK, stage=stage)
    if turned_back:
        _LOG.warning("%s", turned_back)
    return tags, record


def certain(store: Store, stage: str) -> Tags:
    """Return as :func:`read`, for callers that delete untagged versions or add tags: an older record always raises."""
    tags, _, turned_back = look(store, stage)
    if turned_back:
        raise RollbackError(turned_back, hint=Hint.ACCEPT_ROLLBACK, stage=stage)
    return tags


def look(store: Store, stage: str, session: Session | None = None) -> tuple[Tags, Record | None, str]:
    """Return as :func:`read`, but report an older record by a message instead of an error; the message is empty otherwise."""
    seen = store.last_seen.recall_record(stage, "tags")  # before the record is read: it must never be ahead of it
    tags, record = stored(store, stage, session)
    if tags.serial > seen[0]:
        store.last_seen.remember_record(stage, "tags", SeenRecord(tags.serial, tags.id))
    if tags.serial > seen[0] or (tags.serial, tags.id) == seen:
        return tags, record, ""
    found = "gone" if record is None else f"number {tags.serial}" if tags.serial < seen[0] else "another one"
    turned_back = (
        f"the tags of stage {printable(stage)} in {store.backend.location} were rolled back: their record is {found}, "
        f"and this user has already seen number {seen[0]}"
    )
    return tags, record, turned_back


def find(store: Store, stage: str, name: str) -> int:
    """Return the version that a tag names.

    Raises:
        CheckpointNotFoundError: There is no such tag, or its version is gone.
        IntegrityError: Another version stands in its place, or it is damaged.
        RollbackError: As for :func:`read`.
    """
    tagged = read(store, stage)[0].named.get(name)
    if tagged is None:
        store.history.existing(stage)
        raise _no_tag(store, stage, name, read(store, stage)[0])
    entry = store.history.entry(stage, tagged.version)
    if entry.id != tagged.id:
        message = (
            f"the tag {name} of stage {printable(stage)} in {store.backend.location} was given to another version "
            f"{tagged.version} than the one that is there"
        )
        raise IntegrityError(message, hint=Hint.TAG_AGAIN, stage=stage, version=tagged.version)
    return tagged.version


def tag_version(
    store: Store, stage: str, version: int, name: str, *, force: bool, expected: int | None = None, reason: str | None = None
) -> Entry:
    """Tag a version, and return its entry.

    Args:
        store: The store.
        stage: The stage.
        version: The version.
        name: The tag.
        force: Move it if it names another version.
        expected: The version that it must name now (0: none), from which it is moved; or None for any.
        reason: Why, or None.

    Raises:
        TagError: The name names another version, and this is not ``force``; or the stage has too many.
        VersionConflictError: It does not name the expected version.
        CheckpointNotFoundError, IntegrityError: The version can't be had.
    """
    return _tag(store, stage, version, name, Waits(store), force=force, expected=expected, reason=reason)


def _tag(
    store: Store,
    stage: str,
    version: int,
    name: str,
    waits: Waits,
    *,
    force: bool,
    expected: int | None = None,
    reason: str | None = None,
) -> Entry:
    def change() -> Entry:
        tags, record = read(store, stage)
        _expect(store, stage, tags, name, expected)
        entry = store.history.entry(stage, version)
        wanted = Tagged(version, entry.id)
        if _is_new(store, stage, tags, name, wanted, force=force or expected is not None):
            why = _reason("tagged", [version], reason, name)
            _write(store, stage, tags.with_reason(why), {**tags.named, name: wanted}, record)
        return entry

    with waits.lock(stage) as lock, waits.session(stage, lock):
        entry = store.change_record(stage, change)
        if not store.backend.capabilities.lock_excludes and version in store.gaps(stage)[0]:  # deleted until just now
            untag_locked(store, stage, [name])
            raise store.history.absent(stage, version, version)
        return entry


def tag_pipeline(store: Store, name: str, *, force: bool, reason: str | None = None) -> list[Version]:
    """Give a name to the newest completed or cleared version of each stage that has one, and return these versions.

    Raises:
        TagError, IntegrityError, RollbackError: As for :func:`tag_version`. Nothing was changed.
    """
    chosen = {stage: version for stage in store.stages() if (version := _newest_state(store, stage)) is not None}
    for stage, version in chosen.items():
        wanted = Tagged(version, store.history.entry(stage, version).id)
        _is_new(store, stage, read(store, stage)[0], name, wanted, force=force)
    waits = Waits(store)
    return [
        _tag(store, stage, version, name, waits, force=force, reason=reason).as_version(stage, version)
        for stage, version in chosen.items()
    ]


def _newest_state(store: Store, stage: str) -> int | None:
    """Return the number of the newest completed or cleared version; a damaged one above it raises an IntegrityError."""
    version: int | None = store.history.look(stage).number or None
    while version is not None and store.history.entry(stage, version).status not in {"completed", "cleared"}:
        version = store.history.before(stage, version)
    return version


def _is_new(store: Store, stage: str, tags: Tags, name: str, wanted: Tagged, *, force: bool) -> bool:
    """Return whether a version gets a name that it does not have yet.

    Raises:
        TagError: The name names another version, and this is not ``force``; or the stage has too many.
    """
    present = tags.named.get(name)
    where = f"stage {printable(stage)} in {store.backend.location}"
    if present is not None and present != wanted and not force:
        message = f"the tag {name} of {where} already names version {present.version}, and protects it"
        raise TagError(message, hint=Hint.MOVE_TAG, stage=stage, version=present.version)
    if present is None and len(tags.named) >= MAX_TAGS:
        message = f"{where} already has {MAX_TAGS} tags, which is the maximum"
        raise TagError(message, hint=Hint.REMOVE_TAG, stage=stage, version=wanted.version)
    return present != wanted


def _expect(store: Store, stage: str, tags: Tags, name: str, expected: int | None) -> None:
    """Check that a tag names the version that the caller expects; 0: none; None: any.

    Raises:
        VersionConflictError: It does not.
    """
    present = tags.named.get(name)
    actual = 0 if present is None else present.version
    if expected is not None and actual != expected:
        now = f"names version {actual} now" if actual else "is not given now"
        message = f"the tag {name} of stage {printable(stage)} in {store.backend.location} {now}; nothing was changed"
        hint = "Look at the tags and decide again: another writer may have been faster"
        raise VersionConflictError(message, hint=hint, stage=stage, expected=expected, actual=actual)


def _no_tag(store: Store, stage: str, name: str, tags: Tags) -> CheckpointNotFoundError:
    message = f"stage {printable(stage)} in {store.backend.location} has no tag {name}{did_you_mean(name, tags.named)}"
    return CheckpointNotFoundError(message, hint=Hint.SEE_TAGS, stage=stage)


def untag(store: Store, stage: str, name: str, expected: int | None = None, reason: str | None = None) -> None:
    """Remove a tag; with ``expected``, only if it names that version; with ``reason``, keep why.

    Raises:
        CheckpointNotFoundError: There is no such tag. Nothing was changed.
        VersionConflictError: It does not name the expected version. Nothing was changed.
    """
    with store.lock(stage) as lock, store.session(stage, lock):
        untag_locked(store, stage, [name], expected, reason)


def untag_locked(
    store: Store, stage: str, names: Iterable[str], expected: int | None = None, reason: str | None = None
) -> None:
    """Remove tags, and raise as :func:`untag`; the caller holds the lock."""
    unwanted = set(names)

    def change() -> None:
        tags, record = read(store, stage)
        for name in unwanted:
            _expect(store, stage, tags, name, expected)
        unknown = sorted(unwanted - tags.named.keys())
        if unknown:
            raise _no_tag(store, stage, unknown[0], tags)
        for name in sorted(unwanted):
            tags = tags.with_reason(_reason("untagged", [tags.named[name].version], reason, name))
        if unwanted:
            _write(store, stage, tags, {name: tag for name, tag in tags.named.items() if name not in unwanted}, record)

    store.change_record(stage, change)


def untag_up_to_locked(store: Store, stage: str, last: int = MAX_VERSION) -> None:
    """Remove the tags of all versions up to one, if there are any; the caller holds the lock."""

    def change() -> None:
        tags, record = read(store, stage)
        kept = {name: tagged for name, tagged in tags.named.items() if tagged.version > last}
        if len(kept) < len(tags.named) or tags.reasons:  # of a stage that is deleted, the reasons go, too
            _write(store, stage, replace(tags, reasons=()), kept, record)

    store.change_record(stage, change)


def reasons(store: Store, stage: str) -> list[Reason]:
    """Return why tags were given or removed and versions were deleted, newest first; errors as in :func:`read`."""
    return [*reversed(read(store, stage)[0].reasons)]


def check_reason(reason: object) -> str | None:
    """Return a reason as a caller gives it: a text, or None."""
    if reason is None:
        return None
    check("reason", reason, str, "a text, or None")
    text = str(reason)
    if not 1 <= len(text) <= MAX_REASON_CHARACTERS or not is_unicode(text):
        message = f"reason must be valid Unicode of 1 to {MAX_REASON_CHARACTERS} characters"
        raise ArgumentError(message, hint="Say why in a sentence or two, or leave it out", argument="reason")
    return text


def note_deletion_locked(store: Store, stage: str, versions: Sequence[int], reason: str | None) -> None:
    """Keep why versions were deleted; the caller holds the lock."""

    def change() -> None:
        tags, record = read(store, stage)
        _write(store, stage, tags.with_reason(_reason("deleted", versions, reason)), tags.named, record)

    if reason is not None and versions:
        store.change_record(stage, change)


def _reason(
    action: Literal["tagged", "untagged", "deleted"], versions: Sequence[int], text: str | None, tag: str = ""
) -> Reason | None:
    if text is None:
        return None
    who = origin(os.getpid())
    by = f"{who.user}@{who.host}"[:MAX_BY_CHARACTERS]
    return Reason(datetime.now(UTC), action, tag, min(versions), max(versions), len(versions), by, text)


def weigh(store: Store, stage: str, brought: Mapping[str, Tagged], tip: int) -> tuple[dict[str, Tagged], tuple[str, ...]]:
    """Return which tags an import would add, and which names stay with another version that has them here.

    A tag of a version that is not here, or is another one, is neither.

    Args:
        store: The store.
        stage: The stage.
        brought: The tags.
        tip: What is above this version is yet to be imported, and counts as here.

    Raises:
        TagError: The stage would have too many.
        IntegrityError: The record of tags is damaged.
        RollbackError: This user has seen a newer one.
    """
    return _weigh(store, stage, certain(store, stage), brought, tip) if brought else ({}, ())


def add_locked(store: Store, stage: str, brought: Mapping[str, Tagged]) -> tuple[dict[str, Tagged], tuple[str, ...]]:
    """Add tags, of versions that are here by now, and return and raise as :func:`weigh`; the caller holds the lock."""

    def change() -> tuple[dict[str, Tagged], tuple[str, ...]]:
        tags, record, turned_back = look(store, stage)
        if turned_back:
            raise RollbackError(turned_back, hint=Hint.ACCEPT_ROLLBACK, stage=stage)
        added, kept = _weigh(store, stage, tags, brought, MAX_VERSION)
        if added:
            _write(store, stage, tags, {**tags.named, **added}, record)
        return added, kept

    return store.change_record(stage, change) if brought else ({}, ())


def _weigh(
    store: Store, stage: str, tags: Tags, brought: Mapping[str, Tagged], tip: int
) -> tuple[dict[str, Tagged], tuple[str, ...]]:
    new = {name: tagged for name, tagged in brought.items() if name not in tags.named}
    added = {name: tagged for name, tagged in new.items() if tagged.version > tip or _is_here(store, stage, tagged)}
    if added and len(tags.named) + len(added) > MAX_TAGS:
        message = f"stage {printable(stage)} in {store.backend.location} would have more than {MAX_TAGS} tags"
        raise TagError(message, hint=Hint.REMOVE_TAG, stage=stage, version=next(iter(added.values())).version)
    return added, tuple(name for name, tagged in brought.items() if tags.named.get(name, tagged) != tagged)


def _is_here(store: Store, stage: str, tagged: Tagged) -> bool:
    try:
        return tagged.version not in store.gaps(stage)[0] and store.entry(stage, tagged.version).id == tagged.id
    except (IntegrityError, VersionAbsentError):
        return False


def accept_rollback(store: Store, stage: str, waits: Waits) -> bool:
    """Accept the present record if this user has seen another one; return whether that changed anything.

    The record is rewritten with a serial above all that were seen, so that it does not count as another rollback.
    """

    def change() -> bool:
        seen = store.last_seen.recall_record(stage, "tags")
        tags, record = stored(store, stage)
        if tags.serial > seen[0] or (tags.serial, tags.id) == seen:
            return False
        _write(store, stage, tags, tags.named, record)
        return True

    with waits.lock(stage) as lock, waits.session(stage, lock):
        is_changed = store.change_record(stage, change)
    if is_changed:
        _LOG.warning("Rollback accepted: the tags of stage %s are those that are there now", printable(stage))
    return is_changed


def _write(store: Store, stage: str, tags: Tags, named: Mapping[str, Tagged], record: Record | None) -> None:
    store.flush(stage)  # a name must not outlive its version, which a relaxed store may lose
    changed = tags.changed(named, above=store.last_seen.recall_record(stage, "tags")[0])
    write(store, stage, changed, record)
    store.last_seen.remember_record(stage, "tags", SeenRecord(changed.serial, changed.id))
