"""``cm.keys``: the slots that open a store, and the change of its key."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from checkpoint_manager._format.keyring import add_slot, remove_slot
from checkpoint_manager._operations import rotate_key as rotating
from checkpoint_manager._store.key_sources import given_secret
from checkpoint_manager.models import KeySlot

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from checkpoint_manager._format.key_slot import Slot
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.models import KeyFile, OnProgress, Passphrase

_LOG = logging.getLogger("checkpoint_manager")


class Keys:
    """The key slots of one store. Each slot opens it by a key file or a passphrase of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self) -> list[KeySlot]:
        """Return the slots, oldest first. Nothing in them is secret."""
        self._store.keyring.refresh()
        opened = self._store.keyring.opened
        return [_shown(slot, current=slot.slot == opened.slot) for slot in opened.keyring.slots]

    def add(self, key: Passphrase | KeyFile | os.PathLike[str] | bytes, *, label: str = "") -> KeySlot:
        """Let another key file or passphrase open the store, and return its slot.

        Args:
            key: As the ``key=`` of a manager.
            label: What to call it in ``list``; visible to whoever can read the directory.
        """
        secret = given_secret(key)
        opened = self._store.keyring.change(
            lambda opened: add_slot(opened, secret, label=label, now=datetime.now(UTC)), self._store.lock_timeout
        )
        added = _shown(opened.keyring.slots[-1], current=False)
        _LOG.info("Key slot added: %s (%s)", added.slot, added.kind)
        return added

    def remove(self, slot: str) -> None:
        """Remove a slot. Who knows its secret and has an older copy of the directory still reads that copy: see ``rotate``.

        Args:
            slot: Its id, from ``list``.

        Raises:
            CheckpointError: There is no such slot, or it is the last one.
        """
        self._store.keyring.change(lambda opened: remove_slot(opened, slot), self._store.lock_timeout)
        _LOG.info("Key slot removed: %s", slot)

    def rotate(
        self,
        *,
        also: Sequence[Passphrase | KeyFile | os.PathLike[str] | bytes] = (),
        drop: Sequence[str] = (),
        progress: OnProgress | None = None,
    ) -> None:
        """Exchange the store's key and seal every version anew, while writers go on. Killed, it continues when run again.

        The new key can be given only to slots whose secret is known: the one this manager opened the store with, and
        ``also``. Nothing that the old key opens may lead to the new one.

        Args:
            also: The secrets of further slots to keep.
            drop: The ids of slots to give up.
            progress: Called after each version.

        Raises:
            CheckpointError: A slot is neither known nor dropped; it is named. Nothing was changed.
            IntegrityError: A version is damaged. The old key stays until it is repaired; then rotate again.
        """
        rotating.rotate(self._store, also=[given_secret(key) for key in also], drop=drop, progress=progress)
        _LOG.info("Key rotated: %s", self._store.backend.location)


def _shown(slot: Slot, *, current: bool) -> KeySlot:
    return KeySlot(slot.slot, slot.kind, slot.label, slot.created_at, current)
