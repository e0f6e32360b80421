"""The keyring: who can open the store, and the store's keys, none of them in the clear.

One line of JSON and a line feed, at most 262144 bytes::

    {"format":"checkpoint-manager-keyring/1","store":S,"serial":N,"active":K,"keys":[K],"slots":[…],"seal":B,"checksum":H}

=========  ===========================================================================================================
store      the store's id: 32 lower-case hex digits, random
serial     1, 2, 3, …: one more with each change
active     the id of the key that new versions are sealed under: the last of ``keys``
keys       the ids of the store's keys, 16 lower-case hex digits each: one, or two while a rotation is under way
slots      1 to 32 objects, see below
seal       Base64 of a sealed empty message, under the active key, with the context ``[format, "keyring", document]``, where
           ``document`` is the whole object without ``seal`` and ``checksum``, as JSON without white space
checksum   SHA-256 in lower-case hex of the whole object without ``checksum``, as JSON without white space
=========  ===========================================================================================================

A slot is ``{"slot":I,"kind":"key-file","label":L,"created_at":T,"salt":B,"wrapped":{K:B}}`` with I of 8 lower-case hex
digits, T as ``2026-11-23T10:00:00.000000Z``, a salt of 32 bytes, and for each key in ``keys`` that key (32 bytes) as a
sealed message in Base64; one of kind ``passphrase`` has ``"memory_kib":…,"passes":…,"lanes":…`` before ``wrapped``. The
key a slot wraps under is derived as in :mod:`checkpoint_manager._format.key_slot`; the context of a wrapped key is
``[format, "slot", store, key id, slot, kind, label, created_at, salt]`` and for a passphrase the three costs in
addition.

A reader MUST refuse whatever is not, byte for byte, what writing its content anew gives. That leaves no room for duplicate or
unknown fields, white space or other spellings of a number.

The **seal** is the security: slots can't be added, removed or exchanged without a key of the store. The **checksum** is
none: it only tells damage from a wrong passphrase, and anyone can make it anew.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

import orjson

from checkpoint_manager._format import seal
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.key_slot import (
    KEYRING_FORMAT,
    MAX_LABEL_CHARACTERS,
    SALT_BYTES,
    ArgonCost,
    Secret,
    Slot,
    decode_bytes,
    encode_bytes,
)
from checkpoint_manager.errors import CheckpointError, CheckpointNotFoundError, FormatError, IntegrityError, WrongKeyError
from checkpoint_manager.models import display

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

MAX_KEYRING_BYTES = 256 * 1024
MAX_SLOTS = 32
MAX_SERIAL = 2**53

_STORE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_OTHER_FORMAT = re.compile(rb'\{"format":"(checkpoint-manager-keyring/[1-9][0-9]{0,5})"')


@dataclass(frozen=True, slots=True)
class Keyring:
    """A keyring as read: checked for form, not yet authenticated."""

    store: str
    serial: int
    keys: tuple[str, ...]
    slots: tuple[Slot, ...]
    seal: bytes = b""

    @property
    def active(self) -> str:
        """The id of the key that new versions are sealed under."""
        return self.keys[-1]

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Keyring:
        """Read a keyring. Nothing in it is believed beyond its form, and nothing costly is done.

        Args:
            data: The whole file.
            where: What to call it in messages.

        Raises:
            FormatError: It is of another format version.
            IntegrityError: It is damaged, or was edited.
        """
        try:
            return cls._parse(data)
        except BrokenError as broken:
            _refuse(where, str(broken))
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
            other = _OTHER_FORMAT.match(data)
            if other is not None and other[1].decode() != KEYRING_FORMAT:
                message = f"{where} is of the format {other[1].decode()}: use the version of checkpoint_manager that wrote it"
                raise FormatError(message) from None
            _refuse(where, "is not of its format")

    @classmethod
    def _parse(cls, data: bytes) -> Keyring:
        if len(data) > MAX_KEYRING_BYTES:
            raise BrokenError("is too long")
        fields = orjson.loads(data)
        if fields["format"] != KEYRING_FORMAT:
            raise ValueError
        content = {name: value for name, value in fields.items() if name != "checksum"}
        if fields["checksum"] != _checksum(content):
            raise BrokenError("is damaged: its checksum does not match")
        keys = tuple(fields["keys"])
        if not (1 <= len(keys) <= 2 and all(_KEY_ID.fullmatch(key) for key in keys) and len({*keys}) == len(keys)):
            raise BrokenError('has a field "keys" that is not as it must be')
        if not (_STORE_ID.fullmatch(fields["store"]) and type(fields["serial"]) is int and 1 <= fields["serial"] <= MAX_SERIAL):
            raise BrokenError('has a field "store" or "serial" that is not as it must be')
        if not 1 <= len(fields["slots"]) <= MAX_SLOTS:
            raise BrokenError(f"must have 1 to {MAX_SLOTS} slots")
        slots = tuple(Slot.from_fields(slot, keys) for slot in fields["slots"])
        keyring = cls(fields["store"], fields["serial"], keys, slots, decode_bytes(fields["seal"]))
        if keyring.encode() != data or len({slot.slot for slot in slots}) != len(slots):
            raise BrokenError("is not written as it must be")
        return keyring

    def encode(self) -> bytes:
        """Return the keyring as it is stored."""
        content = self._document() | {"seal": encode_bytes(self.seal)}
        return orjson.dumps(content | {"checksum": _checksum(content)}) + b"\n"

    def context(self) -> bytes:
        """Return the context of the seal: all that it speaks for."""
        return seal.context(KEYRING_FORMAT, "keyring", orjson.dumps(self._document()))

    def _document(self) -> dict[str, Any]:
        return {
            "format": KEYRING_FORMAT,
            "store": self.store,
            "serial": self.serial,
            "active": self.active,
            "keys": list(self.keys),
            "slots": [slot.as_fields() for slot in self.slots],
        }


@dataclass(frozen=True, slots=True)
class OpenKeyring:
    """A keyring that one of its slots has opened, authenticated as a whole.

    Attributes:
        keyring: The document.
        keys: The store's keys by id.
        slot: The id of the slot that opened it.
        wrapping_keys: What is known to wrap under, by slot id: what lets a newer keyring be opened without the secret.
    """

    keyring: Keyring
    keys: Mapping[str, bytes] = field(repr=False)
    slot: str
    wrapping_keys: Mapping[str, bytes] = field(repr=False)

    @property
    def active_key(self) -> bytes:
        """The key that new versions are sealed under."""
        return self.keys[self.keyring.active]

    @property
    def rotating(self) -> bool:
        """Whether a rotation is under way: versions may be sealed under either of two keys."""
        return len(self.keyring.keys) > 1

    def reopen(self, newer: Keyring, *, where: str) -> OpenKeyring:
        """Open a keyring that was read later, without asking for the secret again.

        Raises:
            WrongKeyError: The slot is not in it any more.
            IntegrityError: It was not sealed by anyone who has the store's key.
        """
        slot = next((slot for slot in newer.slots if slot.slot == self.slot), None)
        if slot is None:
            message = f"the key slot {self.slot} that this process opened {where} with was removed: open it with another key"
            raise WrongKeyError(message)
        try:
            keys = slot.unwrap(self.wrapping_keys[self.slot], newer.store)
        except seal.SealBrokenError:
            _refuse(where, f"was changed without its key: slot {self.slot} does not open as it did before")
        return _authenticated(OpenKeyring(newer, keys, self.slot, self.wrapping_keys), where)


def create(secret: Secret, *, label: str, now: datetime, cost: ArgonCost | None = None) -> OpenKeyring:
    """Return the keyring of a new store, with one slot."""
    key_id, key = new_key_id(), seal.generate_key()
    empty = Keyring(secrets.token_hex(16), 0, (key_id,), ())
    slot, wrapping_key = new_slot(empty.store, {key_id: key}, secret, label=label, now=now, cost=cost)
    opened = OpenKeyring(replace(empty, slots=(slot,)), {key_id: key}, slot.slot, {slot.slot: wrapping_key})
    return resealed(opened)


def unlock(keyring: Keyring, secret: Secret, *, where: str) -> OpenKeyring:
    """Open a keyring with a secret.

    Raises:
        WrongKeyError: It opens none of the slots of its kind.
        IntegrityError: A slot opens, but the keyring as a whole was changed by someone without its key.
    """
    candidates = [slot for slot in keyring.slots if slot.kind == secret.kind]
    for slot in candidates:
        wrapping_key = slot.derive(secret)
        try:
            keys = slot.unwrap(wrapping_key, keyring.store)
        except seal.SealBrokenError:
            continue
        return _authenticated(OpenKeyring(keyring, keys, slot.slot, {slot.slot: wrapping_key}), where)
    what = "passphrase" if secret.kind == "passphrase" else "key file"
    slots = ", ".join(f"{slot.slot} ({slot.kind}{', ' + slot.label if slot.label else ''})" for slot in keyring.slots)
    message = f"the {what} given does not open {where}. It has these key slots: {slots}. Give the key of one of them"
    raise WrongKeyError(message)


def resealed(opened: OpenKeyring) -> OpenKeyring:
    """Return a changed keyring with its next serial number, sealed under its active key."""
    next_one = replace(opened.keyring, serial=opened.keyring.serial + 1, seal=b"")
    sealed = replace(next_one, seal=seal.seal(opened.active_key, b"", next_one.context()))
    return replace(opened, keyring=sealed)


def new_slot(
    store: str, keys: Mapping[str, bytes], secret: Secret, *, label: str, now: datetime, cost: ArgonCost | None = None
) -> tuple[Slot, bytes]:
    """Return a slot that wraps these keys under a secret, and the key it wraps under."""
    argon = (cost or ArgonCost()) if secret.kind == "passphrase" else None
    slot = Slot(secrets.token_hex(4), secret.kind, label, now, secrets.token_bytes(SALT_BYTES), argon, {})
    wrapping_key = slot.derive(secret)
    return rewrapped(slot, wrapping_key, store, keys), wrapping_key


def rewrapped(slot: Slot, wrapping_key: bytes, store: str, keys: Mapping[str, bytes]) -> Slot:
    """Return the slot with exactly these keys."""
    return replace(slot, wrapped={key_id: slot.wrap(wrapping_key, store, key_id, key) for key_id, key in keys.items()})


def new_key_id() -> str:
    """Return a random id for a key."""
    return secrets.token_hex(8)


# Changes: each returns a new keyring, sealed anew


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


def _authenticated(opened: OpenKeyring, where: str) -> OpenKeyring:
    try:
        seal.unseal(opened.active_key, opened.keyring.seal, opened.keyring.context())
    except seal.SealBrokenError:
        _refuse(where, "was changed by someone without its key: slots were added, removed or exchanged")
    return opened


def _checksum(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(orjson.dumps(content)).hexdigest()


def _refuse(where: str, what: str) -> NoReturn:
    message = f"{where} {what}. Put it back from a backup of the directory; the checkpoints themselves may well be whole"
    raise IntegrityError(message)


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
