"""Changes of a keyring: slots that come and go, and the two ends of a rotation. Each returns a new one, sealed anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from checkpoint_manager._format import seal
from checkpoint_manager._format.key_slot import MAX_LABEL_CHARACTERS, ArgonCost, Secret, Slot
from checkpoint_manager._format.keyring import MAX_SLOTS, OpenKeyring, new_key_id, new_slot, resealed, rewrapped
from checkpoint_manager.errors import CheckpointError, CheckpointNotFoundError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime


def add_slot(opened: OpenKeyring, secret: Secret, *, label: str, now: datetime, cost: ArgonCost | None = None) -> OpenKeyring:
    """Return the keyring with one more slot, as its last.

    Raises:
        CheckpointError: It is full, or the label is too long.
    """
    if len(opened.keyring.slots) >= MAX_SLOTS:
        message = f"the store has {MAX_SLOTS} key slots already, which is the most: remove one first"
        raise CheckpointError(message)
    if len(label) > MAX_LABEL_CHARACTERS or not label.isprintable():
        message = f"a label has at most {MAX_LABEL_CHARACTERS} printable characters: shorten it"
        raise CheckpointError(message)
    slot, _ = new_slot(opened.keyring.store, opened.keys, secret, label=label, now=now, cost=cost)
    return resealed(replace(opened, keyring=replace(opened.keyring, slots=(*opened.keyring.slots, slot))))


def remove_slot(opened: OpenKeyring, slot_id: str) -> OpenKeyring:
    """Return the keyring without a slot.

    Raises:
        CheckpointNotFoundError: It has no such slot.
        CheckpointError: It is the last one.
    """
    _check_known(opened, [slot_id])
    left = tuple(slot for slot in opened.keyring.slots if slot.slot != slot_id)
    if not left:
        message = f"slot {slot_id} is the last one: without it, nothing would open the store any more. Add another one first"
        raise CheckpointError(message)
    return resealed(replace(opened, keyring=replace(opened.keyring, slots=left)))


def begin_rotation(opened: OpenKeyring, *, also: Sequence[Secret] = (), drop: Sequence[str] = ()) -> OpenKeyring:
    """Return the keyring with a new active key beside the old one, for the slots that can get it.

    The new key is wrapped under what is derived from a slot's secret, so that secret is needed: the one that opened the
    keyring, or one of ``also``. Nothing of it is kept where the old key could reach it, for the old key may be what leaked.

    Raises:
        CheckpointNotFoundError: A slot to drop does not exist.
        CheckpointError: A slot's secret is not known and it is not dropped, or none would be left.
    """
    _check_known(opened, drop)
    kept = [slot for slot in opened.keyring.slots if slot.slot not in drop]
    known = {slot.slot: key for slot in kept if (key := _wrapping_key(opened, slot, also)) is not None}
    unknown = [slot for slot in kept if slot.slot not in known]
    if unknown:
        message = (
            f"the new key can't be given to these key slots without their secrets: {_listed(unknown)}. Give their "
            "secrets along, "
            "or drop these slots and add them again afterwards"
        )
        raise CheckpointError(message)
    if opened.slot not in known:
        message = f"slot {opened.slot} is the one this was opened with and can't be dropped: open the store with another one"
        raise CheckpointError(message)
    key_id = new_key_id()
    keys = {**opened.keys, key_id: seal.generate_key()}
    slots = tuple(rewrapped(slot, known[slot.slot], opened.keyring.store, keys) for slot in kept)
    keyring = replace(opened.keyring, keys=tuple(keys), slots=slots)
    return resealed(replace(opened, keyring=keyring, keys=keys))


def finish_rotation(opened: OpenKeyring) -> OpenKeyring:
    """Return the keyring with the active key alone."""
    active = opened.keyring.active
    slots = tuple(replace(slot, wrapped={active: slot.wrapped[active]}) for slot in opened.keyring.slots)
    keyring = replace(opened.keyring, keys=(active,), slots=slots)
    return resealed(replace(opened, keyring=keyring, keys={active: opened.keys[active]}))


def _wrapping_key(opened: OpenKeyring, slot: Slot, also: Iterable[Secret]) -> bytes | None:
    """Return what a slot wraps under, if its secret is among those given."""
    known = opened.wrapping_keys.get(slot.slot)
    if known is not None:
        return known
    for secret in also:
        if secret.kind == slot.kind:
            derived = slot.derive(secret)
            try:
                slot.unwrap(derived, opened.keyring.store)
            except seal.SealBrokenError:
                continue
            return derived
    return None


def _check_known(opened: OpenKeyring, slot_ids: Iterable[str]) -> None:
    known = {slot.slot for slot in opened.keyring.slots}
    for slot_id in slot_ids:
        if slot_id not in known:
            message = f"there is no key slot {display(slot_id)}: there are {_listed(opened.keyring.slots)}"
            raise CheckpointNotFoundError(message)


def _listed(slots: Iterable[Slot]) -> str:
    return ", ".join(f"{slot.slot} ({slot.kind}{', ' + slot.label if slot.label else ''})" for slot in slots)
