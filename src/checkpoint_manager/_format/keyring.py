"""The keyring: the key slots that open the store, and the wrapped keys of the store.

One line of JSON and a line feed, at most 262144 bytes::

    {"format":"checkpoint-manager-keyring/2","store":S,"serial":N,"active":K,"keys":[K],"handovers":[…],"slots":[…],
     "seal":B,"checksum":H}

=========  ===========================================================================================================
store      the store's id: 32 lower-case hex digits, random
serial     1, 2, 3, …: one more with each change
active     the id of the key that new versions are sealed under: the last of ``keys``
keys       the ids of the store's keys, 16 lower-case hex digits each: one, or two during a rotation
handovers  0 to 128 objects, see below; format 1 has no such field
slots      1 to 32 objects, see below
seal       Base64 of a sealed empty message, under the active key, with the context ``[format, "keyring", document]``, where
           ``document`` is the whole object without ``seal`` and ``checksum``, as JSON without white space
checksum   SHA-256 in lower-case hex of the whole object without ``checksum``, as JSON without white space
=========  ===========================================================================================================

A slot is ``{"slot":I,"kind":"key-file","label":L,"created_at":T,"salt":B,"wrapped":{K:B}}`` with I of 8 lower-case hex
digits, T as ``2026-11-23T10:00:00.000000Z``, a salt of 32 bytes, and for each key in ``keys`` that key (32 bytes) as a
sealed message in Base64; one of kind ``passphrase`` has ``"memory_kib":…,"passes":…,"lanes":…`` before ``wrapped``. The
key a slot wraps under is derived as in :mod:`checkpoint_manager._format.key_slot`; the context of a wrapped key is
``[format, "slot", store, key id, slot, kind, label, created_at, salt]``, followed by the three costs for a passphrase.

The format in a slot's derivation and contexts is ``checkpoint-manager-keyring/1`` in both formats, so that a store of format 1
becomes one of format 2 without the secrets of its slots.

A handover is ``{"serial":N,"from":K,"to":K,"public":B,"signature":B}``: the key ``from`` is succeeded by ``to`` since the
keyring of this serial number, see :mod:`checkpoint_manager._format.handover`. Oldest first, each one's ``to`` is the next one's
``from``, the last one's ``to`` is ``active``, and no key comes twice. The newest 128 are kept.

Format 1 is read for ever, and is no longer written: the next change of such a keyring makes it one of format 2, without
handovers.

The costs of all slots of kind ``passphrase`` together, each ``memory_kib * passes``, MUST NOT exceed 6291456, which is what 32
new slots cost.

A reader MUST refuse a file that differs in any byte from what encoding its content again gives. This rules out duplicate and
unknown fields, white space and other spellings of a number.

The **seal** is the protection: slots can't be added, removed or exchanged without a key of the store. The **checksum**
protects against nothing: it tells damage from a wrong passphrase, and anyone can compute it.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NoReturn

from checkpoint_manager._format import documents, handover, seal
from checkpoint_manager._format.checkpoint_file import BrokenError
from checkpoint_manager._format.digest import sha256
from checkpoint_manager._format.handover import MAX_HANDOVERS, PUBLIC_BYTES, SIGNATURE_BYTES, Handover
from checkpoint_manager._format.key_slot import (
    MAX_LABEL_CHARACTERS,
    SALT_BYTES,
    ArgonCost,
    Secret,
    Slot,
    check_costs,
    decode_bytes,
    encode_bytes,
)
from checkpoint_manager._loading import load
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager._text import did_you_mean, printable
from checkpoint_manager.errors import (
    ArgumentError,
    CheckpointError,
    CheckpointNotFoundError,
    FormatError,
    Hint,
    IntegrityError,
    WrongKeyError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime
    from types import ModuleType

    from checkpoint_manager._format.hidden import SecretBytes

MAX_KEYRING_BYTES = 256 * 1024
MAX_SLOTS = 32
MAX_SERIAL = 2**53
MAX_STEP = 2**40
"""How far a serial number may be above the one seen before. So a single keyring can't exhaust the numbers, and the rest of the
way takes more changes than anyone makes."""
FORMATS = ("checkpoint-manager-keyring/1", handover.FORMAT)

_STORE_ID = re.compile(r"[0-9a-f]{32}", re.ASCII)
_KEY_ID = re.compile(r"[0-9a-f]{16}", re.ASCII)
_OTHER_FORMAT = rb'\{"format":"(checkpoint-manager-keyring/[1-9][0-9]{0,5})"'
_PUT_IT_BACK = "Restore it from a backup of the directory; the checkpoints themselves may be whole"


class Keyring(NamedTuple):
    """A keyring as read: checked for form, not yet authenticated."""

    store: str
    serial: int
    keys: tuple[str, ...]
    slots: tuple[Slot, ...]
    handovers: tuple[Handover, ...] = ()
    seal: bytes = b""
    format: str = FORMATS[-1]

    @property
    def active(self) -> str:
        """The id of the key that new versions are sealed under."""
        return self.keys[-1]

    @classmethod
    def parse(cls, data: bytes, *, where: str) -> Keyring:
        """Parse a keyring. This checks its form only, trusts none of its content, and costs little.

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
        except (KeyError, TypeError, AttributeError, ValueError, RecursionError):
            other = re.match(_OTHER_FORMAT, data)
            if other is not None and other[1].decode() not in FORMATS:
                message = f"{where} is of the format {other[1].decode()}"
                raise FormatError(message, hint="Use the version of checkpoint_manager that wrote it") from None
            _refuse(where, "is damaged, or is not a keyring")

    @classmethod
    def _parse(cls, data: bytes) -> Keyring:
        if len(data) > MAX_KEYRING_BYTES:
            raise BrokenError("is too long")
        fields = documents.loads(data)
        if fields["format"] not in FORMATS:
            raise ValueError
        content = {name: value for name, value in fields.items() if name != "checksum"}
        if fields["checksum"] != _checksum(content):
            raise BrokenError("is damaged: its checksum does not match")
        keys = tuple(fields["keys"])
        if not (1 <= len(keys) <= 2 and all(_KEY_ID.fullmatch(key) for key in keys) and len({*keys}) == len(keys)):
            raise BrokenError('has an invalid field "keys"')
        if not (_STORE_ID.fullmatch(fields["store"]) and type(fields["serial"]) is int and 1 <= fields["serial"] <= MAX_SERIAL):
            raise BrokenError('has an invalid field "store" or "serial"')
        if not 1 <= len(fields["slots"]) <= MAX_SLOTS:
            raise BrokenError(f"must have 1 to {MAX_SLOTS} slots")
        slots = tuple(Slot.from_fields(slot, keys) for slot in fields["slots"])
        check_costs([slot.cost for slot in slots if slot.cost is not None])
        handovers = _handovers(fields["handovers"], keys[-1]) if fields["format"] == handover.FORMAT else ()
        sealed = decode_bytes(fields["seal"])
        keyring = cls(fields["store"], fields["serial"], keys, slots, handovers, sealed, fields["format"])
        if keyring.encode() != data or len({slot.slot for slot in slots}) != len(slots):
            raise BrokenError("is not in its canonical form")
        return keyring

    def encode(self) -> bytes:
        """Return the keyring as it is stored."""
        content = self._document() | {"seal": encode_bytes(self.seal)}
        return documents.dumps(content | {"checksum": _checksum(content)}) + b"\n"

    def context(self) -> bytes:
        """Return the context of the seal, which covers the whole document."""
        return seal.context(self.format, "keyring", documents.dumps(self._document()))

    def _document(self) -> dict[str, Any]:
        return {
            "format": self.format,
            "store": self.store,
            "serial": self.serial,
            "active": self.active,
            "keys": list(self.keys),
            **({} if self.format == FORMATS[0] else {"handovers": [_handover_fields(each) for each in self.handovers]}),
            "slots": [slot.as_fields() for slot in self.slots],
        }


class SeenKeyring(NamedTuple):
    """The part of a keyring that is remembered, to check whether another keyring succeeds it.

    Attributes:
        serial: Its serial number.
        digest: SHA-256 of its bytes, in hex.
        key_id: The id of its active key; empty: not known, because an earlier version of the library saw it.
        public: The public key of its active key, in hex; empty likewise.
    """

    serial: int
    digest: str
    key_id: str = ""
    public: str = ""


class UnlockedKeyring(NamedTuple):
    """A keyring that one of its slots has opened, authenticated as a whole.

    Attributes:
        keyring: The document.
        keys: The store's keys by id.
        slot: The id of the slot that opened it.
        wrapping_keys: The known wrapping keys by slot id: they open a newer keyring without the secret.
    """

    keyring: Keyring
    keys: Mapping[str, SecretBytes]
    slot: str
    wrapping_keys: Mapping[str, SecretBytes]

    @property
    def active_key(self) -> SecretBytes:
        """The key that new versions are sealed under."""
        return self.keys[self.keyring.active]

    @property
    def rotating(self) -> bool:
        """Whether a rotation is under way: versions may be sealed under either of two keys."""
        return len(self.keyring.keys) > 1

    def as_seen(self, digest: str) -> SeenKeyring:
        """Return the part of this keyring to remember; ``digest`` is that of its bytes."""
        public = _signatures().public_key(self.keyring.store, self.keyring.active, self.active_key)
        return SeenKeyring(self.keyring.serial, digest, self.keyring.active, public.hex())

    def why_it_does_not_succeed(self, seen: SeenKeyring | None, digest: str) -> str:
        """Return why this keyring does not succeed the one that was seen, or "" if it does or is the same.

        It succeeds a keyring if its serial number is above the other's by no more than ``MAX_STEP``, and if its active key is
        the other's or the end of a chain of handovers from it.
        """
        serial = self.keyring.serial
        if seen is not None and (serial, digest) == (seen.serial, seen.digest):
            return ""
        if problem := _problem_of_serial(serial, seen):
            return f"is number {serial}, {problem}"
        if seen is None or not seen.key_id:
            return ""
        fresh = self.as_seen(digest)
        before, now = ((each.key_id, bytes.fromhex(each.public)) for each in (seen, fresh))
        if _signatures().lead(self.keyring.handovers, self.keyring.store, before, now):
            return ""
        return (
            f"is sealed under key {fresh.key_id}, which does not succeed key {seen.key_id} that this user has seen: "
            "it may be a key that was given up"
        )

    def reopen(self, newer: Keyring, *, where: str) -> UnlockedKeyring:
        """Open a keyring that was read later, without asking for the secret again.

        Raises:
            WrongKeyError: It no longer has the slot.
            IntegrityError: It was not sealed under a key of the store.
        """
        slot = next((slot for slot in newer.slots if slot.slot == self.slot), None)
        if slot is None:
            message = f"the key slot {self.slot}, with which this process opened {where}, was removed"
            raise WrongKeyError(message, hint="Open the store with another key")
        try:
            keys = slot.unwrap(self.wrapping_keys[self.slot], newer.store)
        except seal.SealBrokenError:
            _refuse(where, f"was changed without its key: slot {self.slot} does not open as it did before")
        return _authenticated(UnlockedKeyring(newer, keys, self.slot, self.wrapping_keys), where)


def create(secret: Secret, *, label: str, now: datetime, cost: ArgonCost | None = None) -> UnlockedKeyring:
    """Return the keyring of a new store, with one slot."""
    key_id, key = new_key_id(), seal.generate_key()
    empty = Keyring(os.urandom(16).hex(), 0, (key_id,), ())
    slot, wrapping_key = new_slot(empty.store, {key_id: key}, secret, label=label, now=now, cost=cost)
    return _resealed(UnlockedKeyring(empty._replace(slots=(slot,)), {key_id: key}, slot.slot, {slot.slot: wrapping_key}))


def unlock(keyring: Keyring, secret: Secret, *, where: str) -> UnlockedKeyring:
    """Open a keyring with a secret.

    Raises:
        WrongKeyError: It opens none of the slots of its kind.
        IntegrityError: A slot opens, but the keyring as a whole was changed without its key.
    """
    candidates = [slot for slot in keyring.slots if slot.kind == secret.kind]
    for slot in sorted(candidates, key=_by_cost):
        wrapping_key = slot.derive(secret)
        try:
            keys = slot.unwrap(wrapping_key, keyring.store)
        except seal.SealBrokenError:
            continue
        return _authenticated(UnlockedKeyring(keyring, keys, slot.slot, {slot.slot: wrapping_key}), where)
    message = f"{secret.name} does not open {where}, which has these key slots: {_listed(keyring.slots)}"
    raise WrongKeyError(message, hint="Give the key of one of these slots")


def _by_cost(slot: Slot) -> int:
    """Return a sort key for the slots to try: the usual cost first, then the cheapest, so that a planted slot comes last."""
    return 0 if slot.cost in {None, ArgonCost()} else slot.cost.memory_kib * slot.cost.passes


def new_slot(
    store: str, keys: Mapping[str, SecretBytes], secret: Secret, *, label: str, now: datetime, cost: ArgonCost | None = None
) -> tuple[Slot, SecretBytes]:
    """Return a slot that wraps these keys under a secret, and its wrapping key."""
    argon = (cost or ArgonCost()) if secret.kind == "passphrase" else None
    slot = Slot(os.urandom(4).hex(), secret.kind, label, now, os.urandom(SALT_BYTES), argon, {})
    wrapping_key = slot.derive(secret)
    return _rewrapped(slot, wrapping_key, store, keys), wrapping_key


def new_key_id() -> str:
    """Return a random id for a key."""
    return os.urandom(8).hex()


# Changes: each returns a new keyring with the next serial, sealed


def add_slot(
    unlocked: UnlockedKeyring, secret: Secret, *, label: str, now: datetime, cost: ArgonCost | None = None
) -> UnlockedKeyring:
    """Return the keyring with one more slot, as its last.

    Raises:
        CheckpointError: It is full, or the secret opens one of its slots already.
        ArgumentError: The label is too long, or has control characters.
    """
    if len(unlocked.keyring.slots) >= MAX_SLOTS:
        raise CheckpointError(f"the store already has {MAX_SLOTS} key slots, which is the maximum", hint="Remove one first")
    check_label(label)
    # Each slot has a salt of its own: only the secret tells. This takes one Argon2 run for each passphrase slot.
    store, slots = unlocked.keyring.store, unlocked.keyring.slots
    there = next((slot for slot in slots if _opening_key(secret, slot, store) is not None), None)
    if there is not None:
        message = f"{secret.name} opens the store already, by key slot {_listed([there], labels=True)}"
        raise CheckpointError(message, hint="Add another key, or remove that slot first to give it another label")
    slot, _ = new_slot(store, unlocked.keys, secret, label=label, now=now, cost=cost)
    return _resealed(unlocked._replace(keyring=unlocked.keyring._replace(slots=(*slots, slot))))


def check_label(label: str) -> None:
    """Raise if a slot can't have this label.

    Raises:
        ArgumentError: It is too long, or has control characters.
    """
    if len(label) > MAX_LABEL_CHARACTERS or not label.isprintable():
        message = f"a label has at most {MAX_LABEL_CHARACTERS} printable characters"
        raise ArgumentError(message, hint="Choose a shorter label without control characters", argument="label")


def remove_slot(unlocked: UnlockedKeyring, slot_id: str) -> UnlockedKeyring:
    """Return the keyring without a slot.

    Raises:
        CheckpointNotFoundError: It has no such slot.
        CheckpointError: It is the last one.
    """
    slot_id = find_slot(unlocked, slot_id)
    left = tuple(slot for slot in unlocked.keyring.slots if slot.slot != slot_id)
    if not left:
        message = f"key slot {slot_id} is the last one: without it, nothing would open the store"
        raise CheckpointError(message, hint="Add another slot first")
    return _resealed(unlocked._replace(keyring=unlocked.keyring._replace(slots=left)))


def begin_rotation(unlocked: UnlockedKeyring, *, also: Sequence[Secret] = (), drop: Sequence[str] = ()) -> UnlockedKeyring:
    """Return the keyring with a new active key beside the old one, for the slots that can receive it.

    Wrapping the new key for a slot takes the slot's secret: the one that opened the keyring, or one of ``also``. It is never
    wrapped under the old key, which may be the one that leaked.

    Raises:
        CheckpointNotFoundError: A slot to drop does not exist.
        CheckpointError: A slot is not dropped and its secret is not known, or no slot would be left.
    """
    drop = [find_slot(unlocked, name) for name in drop]
    kept = [slot for slot in unlocked.keyring.slots if slot.slot not in drop]
    known = {slot.slot: key for slot in kept if (key := _wrapping_key(unlocked, slot, also)) is not None}
    unknown = [slot for slot in kept if slot.slot not in known]
    if unknown:
        message = f"the new key can't be given to these key slots without their secrets: {_listed(unknown, labels=True)}"
        raise CheckpointError(message, hint=Hint.GIVE_OR_DROP_SLOTS)
    if unlocked.slot not in known:
        message = f"key slot {unlocked.slot} can't be dropped, because the store was opened with it"
        raise CheckpointError(message, hint="Open the store with another key first")
    store, key_id = unlocked.keyring.store, new_key_id()
    keys = {**unlocked.keys, key_id: seal.generate_key()}
    slots = tuple(_rewrapped(slot, known[slot.slot], store, keys) for slot in kept)
    old = unlocked.keyring.active
    signed = _signatures().sign(store, unlocked.keyring.serial + 1, (old, unlocked.active_key), (key_id, keys[key_id]))
    handovers = (*unlocked.keyring.handovers, signed)[-MAX_HANDOVERS:]
    keyring = unlocked.keyring._replace(keys=tuple(keys), slots=slots, handovers=handovers)
    return _resealed(unlocked._replace(keyring=keyring, keys=keys))


def finish_rotation(unlocked: UnlockedKeyring) -> UnlockedKeyring:
    """Return the keyring with the active key alone."""
    active = unlocked.keyring.active
    slots = tuple(slot._replace(wrapped={active: slot.wrapped[active]}) for slot in unlocked.keyring.slots)
    keyring = unlocked.keyring._replace(keys=(active,), slots=slots)
    return _resealed(unlocked._replace(keyring=keyring, keys={active: unlocked.keys[active]}))


def _resealed(unlocked: UnlockedKeyring) -> UnlockedKeyring:
    """Return a changed keyring with its next serial number, in the newest format, sealed under its active key."""
    next_one = unlocked.keyring._replace(serial=unlocked.keyring.serial + 1, seal=b"", format=FORMATS[-1])
    sealed = next_one._replace(seal=seal.seal(unlocked.active_key, b"", next_one.context()))
    return unlocked._replace(keyring=sealed)


def _rewrapped(slot: Slot, wrapping_key: SecretBytes, store: str, keys: Mapping[str, SecretBytes]) -> Slot:
    """Return the slot with exactly these keys."""
    return slot._replace(wrapped={key_id: slot.wrap(wrapping_key, store, key_id, key) for key_id, key in keys.items()})


def _wrapping_key(unlocked: UnlockedKeyring, slot: Slot, also: Iterable[Secret]) -> SecretBytes | None:
    """Return a slot's wrapping key, if its secret is among those given."""
    known = unlocked.wrapping_keys.get(slot.slot)
    if known is not None:
        return known
    opening = (key for secret in also if (key := _opening_key(secret, slot, unlocked.keyring.store)) is not None)
    return next(opening, None)


def _opening_key(secret: Secret, slot: Slot, store: str) -> SecretBytes | None:
    """Return the wrapping key that a secret gives for a slot, if it opens the slot."""
    if secret.kind != slot.kind:
        return None
    derived = slot.derive(secret)
    try:
        slot.unwrap(derived, store)
    except seal.SealBrokenError:
        return None
    return derived


def find_slot(unlocked: UnlockedKeyring, name: str) -> str:
    """Return the id of the slot that has a name: its id, or a label that no other slot has.

    Raises:
        CheckpointNotFoundError: There is no such slot.
        CheckpointError: The label belongs to several.
    """
    slots = unlocked.keyring.slots
    found = [slot.slot for slot in slots if slot.slot == name] or [slot.slot for slot in slots if slot.label == name]
    if len(found) == 1:
        return found[0]
    if found:
        message = f"the label {printable(name)} belongs to several key slots: {', '.join(found)}"
        raise CheckpointError(message, hint="Name one of them by its id")
    known = [text for slot in slots for text in (slot.slot, slot.label) if text]
    message = f"there is no key slot {printable(name)}{did_you_mean(name, known)}"
    raise CheckpointNotFoundError(message, hint=f"The slots are {_listed(slots, labels=True)}")


def _listed(slots: Iterable[Slot], *, labels: bool = False) -> str:
    """Return slots for a message. Their labels may be shown only once the keyring is authenticated."""
    return ", ".join(f"{slot.slot} ({slot.kind}{', ' + slot.label if labels and slot.label else ''})" for slot in slots)


def _authenticated(unlocked: UnlockedKeyring, where: str) -> UnlockedKeyring:
    try:
        seal.unseal(unlocked.active_key, unlocked.keyring.seal, unlocked.keyring.context())
    except seal.SealBrokenError:
        _refuse(where, "was changed without its key: slots were added, removed or exchanged")
    return unlocked


def _problem_of_serial(serial: int, seen: SeenKeyring | None) -> str:
    if seen is None:
        return "which leaves no room for changes" if serial > MAX_SERIAL - MAX_STEP else ""
    if serial < seen.serial:
        return f"and this user has already seen number {seen.serial}"
    if serial == seen.serial:
        return "and this user has already seen another one of that number"
    return f"and the last one that this user has seen was number {seen.serial}" if serial - seen.serial > MAX_STEP else ""


def _handovers(fields: list[dict[str, Any]], active: str) -> tuple[Handover, ...]:
    found = tuple(
        Handover(each["serial"], each["from"], each["to"], decode_bytes(each["public"]), decode_bytes(each["signature"]))
        for each in fields
    )
    ids = [each.old for each in found[:1]] + [each.new for each in found]
    valid = (
        len(found) <= MAX_HANDOVERS
        and len({*ids}) == len(ids)
        and all(_KEY_ID.fullmatch(key_id) for key_id in ids)
        and all(earlier.new == later.old for earlier, later in pairwise(found))
        and ids[-1:] in ([], [active])
        and all(type(each.serial) is int and 1 <= each.serial <= MAX_SERIAL for each in found)
        and all(len(each.public) == PUBLIC_BYTES and len(each.signature) == SIGNATURE_BYTES for each in found)
    )
    if not valid:
        raise BrokenError('has an invalid field "handovers"')
    return found


def _handover_fields(each: Handover) -> dict[str, Any]:
    return {
        "serial": each.serial,
        "from": each.old,
        "to": each.new,
        "public": encode_bytes(each.public),
        "signature": encode_bytes(each.signature),
    }


def _signatures() -> ModuleType:
    """Return the module that makes and verifies the signatures of handovers."""
    return load("checkpoint_manager._format.handover_signatures")


def _checksum(content: Mapping[str, Any]) -> str:
    return sha256(documents.dumps(content))


def _refuse(where: str, what: str) -> NoReturn:
    raise IntegrityError(f"{where} {what}", hint=_PUT_IT_BACK)
