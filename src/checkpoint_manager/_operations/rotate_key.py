"""Rotating the store's key: every version is encrypted again, while writers go on.

1. A new key is published in the keyring as the active one, beside the old one.
2. Every writer that may still hold the older keyring is waited for. From here on, all saves use the new key.
3. Stage by stage, under its lock, each version and record that is sealed under another key is sealed under the new one.
4. The old key is dropped from the keyring.

Interrupted at any point, the store opens, and the next ``rotate`` resumes: what is sealed under the new key already is left
alone. Several rotations at once share the work, and each drops only the key that its own new one replaced.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checkpoint_manager._format import gaps as sealed_gaps
from checkpoint_manager._format import tags as sealed_tags
from checkpoint_manager._format.keyring import begin_rotation, finish_rotation
from checkpoint_manager._operations import tag
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.models import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkpoint_manager._format.key_slot import Secret
    from checkpoint_manager._format.keyring import UnlockedKeyring
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import OnProgress


def rotate(store: Store, *, also: Sequence[Secret], drop: Sequence[str], progress: OnProgress | None) -> None:
    """Replace the store's key; see the module's docstring.

    Args:
        store: The store.
        also: The secrets of further slots that are to open the store afterwards.
        drop: The ids of slots that are not.
        progress: Called after each version.

    Raises:
        CheckpointError: A slot is neither in ``also`` nor in ``drop``. Nothing was changed.
        IntegrityError: A version is damaged and can't be encrypted again. The old key stays until it is repaired.
    """
    while _rotate_once(store, also, drop, progress):
        drop = [slot.slot for slot in store.keyring.unlocked.keyring.slots if slot.slot in drop]
        if not drop:  # the rotation that was under way has dropped them already
            return


def _rotate_once(store: Store, also: Sequence[Secret], drop: Sequence[str], progress: OnProgress | None) -> bool:
    """Rotate, and return whether this only finished a rotation that was begun before."""
    was_begun = False

    def begin(unlocked: UnlockedKeyring) -> UnlockedKeyring:
        nonlocal was_begun
        was_begun = unlocked.rotating
        return unlocked if was_begun else begin_rotation(unlocked, also=also, drop=drop)

    ours = store.keyring.change(begin, store.lock_timeout).keyring.active
    store.backend.wait_for_writers(store.lock_timeout)
    _reseal_all(store, progress)

    def finish(unlocked: UnlockedKeyring) -> UnlockedKeyring:
        # Another process may have finished this rotation and begun the next, which is not done yet.
        return finish_rotation(unlocked) if unlocked.rotating and unlocked.keyring.active == ours else unlocked

    store.keyring.change(finish, store.lock_timeout)
    return was_begun


def _reseal_all(store: Store, progress: OnProgress | None) -> None:
    stages = store.backend.stages()
    total = sum(len(store.backend.versions(stage)) for stage in stages)
    done = 0
    for stage in stages:
        with store.lock(stage):
            versions = store.backend.versions(stage)
            for version in versions:
                _reseal(store, stage, version)
                done += 1
                if progress is not None:
                    progress(Progress(done, max(total, done), "versions", stage))
            _reseal_records(store, stage)


def _reseal(store: Store, stage: str, version: int) -> None:
    try:
        if store.key_of(stage, version) == store.keyring.active[0]:
            return
        entry, data = store.load(stage, version)
        store.replace(stage, version, entry, bytes(data))
    except VersionAbsentError:  # deleted meanwhile
        return


def _reseal_records(store: Store, stage: str) -> None:
    active = store.keyring.active[0]
    gaps, record = store.gaps(stage)
    if record is not None and sealed_gaps.RECORD.key_of(record.data) != active:
        store.write_gaps(stage, gaps, record)
    tags, record = tag.stored(store, stage)
    if record is not None and sealed_tags.RECORD.key_of(record.data) != active:
        tag.write(store, stage, tags, record)
