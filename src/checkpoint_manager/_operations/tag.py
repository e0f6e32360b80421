"""Tags: names given to versions after the fact, which protect them from being deleted.

They stand in one sealed record for each stage, changed by compare-and-set under the stage's lock. Who may write to the
directory can't forge one, but he can put an older record back, or remove it: that would take a version's protection away.
So this user's witness remembers the serial of the newest record that was seen, as it does for versions, and an older one
raises :class:`RollbackError`. Beyond that, a tag whose version was deleted since shows that its record is older than the
deletion: no version is deleted that has a name.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from checkpoint_manager._format import tags as sealed_tags
from checkpoint_manager._format.checkpoint_file import MAX_VERSION
from checkpoint_manager._format.tags import MAX_TAG_CHARACTERS, MAX_TAGS, Tagged, Tags, is_name
from checkpoint_manager._store.last_seen import SeenRecord
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.errors import CheckpointNotFoundError, Hint, IntegrityError, RollbackError, TagError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from checkpoint_manager._format.checkpoint_file import Entry
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.backends.base import Record
    from checkpoint_manager.models import Version

FAILED = "failed"
"""Names the newest record of a failure. A new tag can't be called so; a store of an earlier release may have one."""
_LOG = logging.getLogger("checkpoint_manager")


def validate(name: object, *, existing: bool = False) -> str:
    """Return a tag's name if it can be one, or with ``existing`` one of an earlier release.

    Raises:
        TagError: It can't.
    """
    if isinstance(name, str) and is_name(name) and (existing or name.lower() != FAILED):
        return str(name)
    shown = ascii(name[: MAX_TAG_CHARACTERS + 1]) if isinstance(name, str) else f"a {type(name).__name__}"
    message = (
        f"{shown} can't be a tag: use up to {MAX_TAG_CHARACTERS} of the characters A-Z a-z 0-9 _ . + - that begin with a "
        'letter or _, and none of "latest", "prev" and "failed"'
    )
    raise TagError(message)


def stored(store: Store, stage: str) -> tuple[Tags, Record | None]:
    """Return a stage's tags, however old they are, and their record; errors as in :meth:`Store.record`."""
    remedy = (
        'Put the file "tags" of this stage back from a backup; or run "checkpoint-manager repair" to put it aside, and '
        'then "checkpoint-manager repair --accept-rollback" to go on without tags'
    )
    return store.record("tags", stage, sealed_tags.RECORD, sealed_tags.decode, remedy) or (Tags(), None)


def write(store: Store, stage: str, tags: Tags, expected: Record | None) -> None:
    """Write a stage's tags; the caller holds its lock."""
    store.write_record("tags", stage, sealed_tags.RECORD, sealed_tags.encode(tags), expected)


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
    """As :func:`read`, for those who delete what has no tag, or add tags: an older record raises in any case."""
    tags, _, turned_back = look(store, stage)
    if turned_back:
        raise RollbackError(turned_back, hint=Hint.ACCEPT_ROLLBACK, stage=stage)
    return tags


def look(store: Store, stage: str) -> tuple[Tags, Record | None, str]:
    """As :func:`read`, but an older record is told by a message, empty if it is not, and not by an error."""
    seen = store.last_seen.recall_record(stage, "tags")  # before the record is read: it must never be ahead of it
    tags, record = stored(store, stage)
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
        if store.history.look(stage).number == 0:
            raise store.history.absent(stage, 0, 0)
        message = f"stage {printable(stage)} in {store.backend.location} has no tag {name}"
        raise CheckpointNotFoundError(message, hint=Hint.SEE_TAGS, stage=stage)
    entry = store.history.entry(stage, tagged.version)
    if entry.id != tagged.id:
        message = (
            f"the tag {name} of stage {printable(stage)} in {store.backend.location} was given to another version "
            f"{tagged.version} than the one that is there: if you accepted a rollback, tag it anew; if not, run "
            '"checkpoint-manager verify"'
        )
        raise IntegrityError(message, stage=stage, version=tagged.version)
    return tagged.version


def tag_version(store: Store, stage: str, version: int, name: str, *, force: bool) -> Entry:
    """Give a version a name, and return its entry.

    Raises:
        TagError: The name names another version, and this is not ``force``; or the stage has too many.
        CheckpointNotFoundError, IntegrityError: The version can't be had.
    """
    with store.lock(stage) as lock, store.session(stage, lock):
        tags, record = read(store, stage)
        entry = store.history.entry(stage, version)
        wanted = Tagged(version, entry.id)
        if _is_new(store, stage, tags, name, wanted, force=force):
            _write(store, stage, tags, {**tags.named, name: wanted}, record)
        return entry


def tag_pipeline(store: Store, name: str, *, force: bool) -> list[Version]:
    """Give a name to the newest completed or cleared version of each stage that has one, and return these versions.

    Raises:
        TagError, IntegrityError, RollbackError: As for :func:`tag_version`. Nothing was changed.
    """
    chosen = {stage: version for stage in store.stages() if (version := _newest_state(store, stage)) is not None}
    for stage, version in chosen.items():
        wanted = Tagged(version, store.history.entry(stage, version).id)
        _is_new(store, stage, read(store, stage)[0], name, wanted, force=force)
    return [
        tag_version(store, stage, version, name, force=force).as_version(stage, version) for stage, version in chosen.items()
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
        message = f"the tag {name} of {where} names version {present.version} already, and protects it"
        raise TagError(message, hint=Hint.MOVE_TAG, stage=stage, version=present.version)
    if present is None and len(tags.named) >= MAX_TAGS:
        message = f"{where} has {MAX_TAGS} tags, and that is the most"
        raise TagError(message, hint=Hint.REMOVE_TAG, stage=stage)
    return present != wanted


def untag(store: Store, stage: str, names: Iterable[str]) -> None:
    """Take names away.

    Raises:
        CheckpointNotFoundError: There is no such tag. Nothing was changed.
    """
    with store.lock(stage) as lock, store.session(stage, lock):
        untag_locked(store, stage, names)


def untag_locked(store: Store, stage: str, names: Iterable[str]) -> None:
    """As :func:`untag`; the caller holds the lock."""
    tags, record = read(store, stage)
    unwanted = set(names)
    unknown = sorted(unwanted - tags.named.keys())
    if unknown:
        message = f"stage {printable(stage)} in {store.backend.location} has no tag {unknown[0]}"
        raise CheckpointNotFoundError(message, hint=Hint.SEE_TAGS, stage=stage)
    if unwanted:
        _write(store, stage, tags, {name: tag for name, tag in tags.named.items() if name not in unwanted}, record)


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
    if not brought:
        return {}, ()
    tags, record, turned_back = look(store, stage)
    if turned_back:
        raise RollbackError(turned_back, hint=Hint.ACCEPT_ROLLBACK, stage=stage)
    added, kept = _weigh(store, stage, tags, brought, MAX_VERSION)
    if added:
        _write(store, stage, tags, {**tags.named, **added}, record)
    return added, kept


def _weigh(
    store: Store, stage: str, tags: Tags, brought: Mapping[str, Tagged], tip: int
) -> tuple[dict[str, Tagged], tuple[str, ...]]:
    new = {name: tagged for name, tagged in brought.items() if name not in tags.named}
    added = {name: tagged for name, tagged in new.items() if tagged.version > tip or _is_here(store, stage, tagged)}
    if added and len(tags.named) + len(added) > MAX_TAGS:
        message = (
            f"stage {printable(stage)} in {store.backend.location} would have more than {MAX_TAGS} tags, and that is "
            "the most: remove some here with untag(), or import the stage under another name"
        )
        raise TagError(message, stage=stage)
    return added, tuple(name for name, tagged in brought.items() if tags.named.get(name, tagged) != tagged)


def _is_here(store: Store, stage: str, tagged: Tagged) -> bool:
    try:
        return tagged.version not in store.gaps(stage)[0] and store.entry(stage, tagged.version).id == tagged.id
    except (IntegrityError, VersionAbsentError):
        return False


def accept_rollback(store: Store, stage: str) -> bool:
    """Take the record as it is for the newest, if this user has seen another one; return whether that changed anything.

    It is written anew, with a number above all that was seen: nobody who saw the newer one takes it for a second rollback.
    """
    with store.lock(stage) as lock, store.session(stage, lock):
        seen = store.last_seen.recall_record(stage, "tags")
        tags, record = stored(store, stage)
        if tags.serial > seen[0] or (tags.serial, tags.id) == seen:
            return False
        _write(store, stage, tags, tags.named, record)
        _LOG.warning("Rollback accepted: the tags of stage %s are those that are there now", printable(stage))
        return True


def _write(store: Store, stage: str, tags: Tags, named: Mapping[str, Tagged], record: Record | None) -> None:
    store.flush(stage)  # a name must not outlive its version, which a relaxed store may lose
    changed = tags.changed(named, above=store.last_seen.recall_record(stage, "tags")[0])
    write(store, stage, changed, record)
    store.last_seen.remember_record(stage, "tags", SeenRecord(changed.serial, changed.id))
