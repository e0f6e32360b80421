"""``cm.keys``: the slots that open a store, and the rotation of its key."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from checkpoint_manager import _operations
from checkpoint_manager._arguments import check, check_callback, elements
from checkpoint_manager._format.keyring import add_slot, find_slot, remove_slot
from checkpoint_manager._store.key_sources import conceal, given_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkpoint_manager._format.key_slot import Slot
    from checkpoint_manager._store.store import Store
    from checkpoint_manager.credentials import Key
    from checkpoint_manager.reports import OnProgress

_LOG = logging.getLogger("checkpoint_manager")


@dataclass(frozen=True, slots=True)
class KeySlot:
    """A key slot of the store, without secrets: one key or passphrase that opens it.

    Attributes:
        slot: The slot's id, as ``cm.keys.remove()`` takes it.
        kind: ``key-file`` or ``passphrase``.
        label: The label given by the user, or the empty string.
        created_at: When it was added, aware, in UTC.
        current: Whether this manager opened the store with it.
    """

    slot: str
    kind: Literal["key-file", "passphrase"]
    label: str
    created_at: datetime
    current: bool = False


class Keys:
    """The key slots of one store. Each slot opens it by a key file or a passphrase of its own."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def list(self) -> list[KeySlot]:
        """Return the slots, oldest first. Nothing in them is secret."""
        self._store.keyring.refresh()
        unlocked = self._store.keyring.unlocked
        return [_shown(slot, current=slot.slot == unlocked.slot) for slot in unlocked.keyring.slots]

    def is_rotating(self) -> bool:
        """Return whether a rotation is running, or was interrupted: the old key is still valid. Rotating again finishes it."""
        self._store.keyring.refresh()
        return len(self._store.keyring.unlocked.keyring.keys) > 1

    def find(self, slot: str) -> KeySlot:
        """Return one slot.

        Args:
            slot: Its id, or its label if no other slot has the same.

        Raises:
            CheckpointNotFoundError: There is no such slot.
            CheckpointError: The label belongs to several slots.
        """
        check("slot", slot, str, "the id of a slot")
        slots = {each.slot: each for each in self.list()}
        return slots[find_slot(self._store.keyring.unlocked, slot)]

    def add(self, key: Key, *, label: str = "") -> KeySlot:
        """Add a slot, so that another key file or passphrase opens the store, and return it.

        Args:
            key: As the ``key=`` of a manager.
            label: A name for the slot in ``list``; visible to anyone who can read the directory.

        Raises:
            CheckpointError: The store has the maximum number of slots, or this key opens one of them already.
            ArgumentError: The label can't be used.
        """
        key = conceal(key)
        check("label", label, str, "text")
        secret = given_secret(key)
        unlocked = self._store.keyring.change(
            lambda unlocked: add_slot(unlocked, secret, label=label, now=datetime.now(UTC)), self._store.lock_timeout
        )
        added = _shown(unlocked.keyring.slots[-1], current=False)
        _LOG.info("Key slot added: %s (%s)", added.slot, added.kind)
        return added

    def remove(self, slot: str) -> str:
        """Remove a slot: its key file or passphrase no longer opens the store.

        This does not revoke access. The store's key stays the same until :meth:`rotate`: someone who has opened the store with
        this slot, and kept a copy of the keyring, can still read and forge everything that is saved later.

        Args:
            slot: Its id, from ``list``, or its label, if no other slot has the same.

        Returns:
            The id of the slot that was removed.

        Raises:
            CheckpointError: There is no such slot, or it is the last one.
        """
        check("slot", slot, str, "the id of a slot")
        before = {each.slot for each in self.list()}
        unlocked = self._store.keyring.change(lambda unlocked: remove_slot(unlocked, slot), self._store.lock_timeout)
        (removed,) = before - {each.slot for each in unlocked.keyring.slots}
        _LOG.info("Key slot removed: %s", removed)
        return removed

    def rotate(
        self,
        *,
        also: Sequence[Key] = (),
        drop: Sequence[str] = (),
        progress: OnProgress | None = None,
    ) -> None:
        """Replace the store's key and encrypt every version again, while writers continue. If interrupted, run it again.

        The new key can be given only to slots whose secret is known: the slot this manager opened the store with, and those of
        ``also``. The old key leads to none of them.

        The holder of a dropped slot can't read or forge anything that is saved after the rotation. Versions that the holder
        wrote before remain, and are as authentic as all others, because a version does not record the slot of its writer. What
        was read or copied before can't be taken back.

        Args:
            also: The keys of further slots to keep.
            drop: The ids or labels of slots to drop.
            progress: Called after each version.

        Raises:
            CheckpointError: A slot is neither known nor dropped; it is named. Nothing was changed.
            IntegrityError: A version is damaged, or missing without a record. The old key stays until that is repaired; then
                rotate again.
            RollbackError: A stage is gone, or older than what this user has seen. The old key stays as well.
        """
        also = [conceal(key) for key in elements("also", also, "a list of keys")]
        check_callback("progress", progress)
        drop = [_slot_id(slot) for slot in elements("drop", drop, "a list of the ids of slots")]
        _operations.rotate_key.rotate(self._store, also=[given_secret(key) for key in also], drop=drop, progress=progress)
        _LOG.info("Key rotated: %s", self._store.backend.location)


def _slot_id(slot: object) -> str:
    check("drop", slot, str, "a list of the ids of slots")
    return str(slot)


def _shown(slot: Slot, *, current: bool) -> KeySlot:
    return KeySlot(slot.slot, slot.kind, slot.label, slot.created_at, current)
