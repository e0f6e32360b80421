"""A slot of the keyring: one secret that opens the store, and the store's keys wrapped under it.

A 256-bit wrapping key is derived from the secret and the slot's salt. It wraps each of the store's keys as a sealed message:

* The 32 random bytes of a key file by HKDF-SHA-512 (RFC 5869) with the slot's salt and the info
  ``checkpoint-manager-keyring/1``.
* A passphrase (Unicode form NFC, UTF-8) by Argon2id (RFC 9106) with the slot's salt and costs. New slots get the second
  recommended option of section 4: 64 MiB, 3 passes, 4 lanes.

Nothing read from a directory is trusted: costs that would exhaust the host, and costs so low that guessing is cheap, are
refused before a key is derived.
"""

from __future__ import annotations

import binascii
import re
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast

from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from checkpoint_manager._format import seal
from checkpoint_manager._format.checkpoint_file import BrokenError, decode_time, encode_time
from checkpoint_manager._format.hidden import Hidden, SecretBytes
from checkpoint_manager._loading import load
from checkpoint_manager._named_tuple import NamedTuple
from checkpoint_manager.errors import KeyUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

SLOT_FORMAT = "checkpoint-manager-keyring/1"
"""What every slot is bound to, whatever the format of the document that holds it."""
SALT_BYTES = 32
MAX_LABEL_CHARACTERS = 100
MIN_MEMORY_KIB, MAX_MEMORY_KIB = 19 * 1024, 1024 * 1024
"""Below 19 MiB is below what OWASP's password storage guide accepts; above 1 GiB, opening a store could exhaust a host."""
MIN_PASSES, MAX_PASSES = 2, 16
"""With 19 MiB, the same guide asks for two passes."""
MAX_LANES = 16
MAX_TOTAL_COST = 32 * 64 * 1024 * 3
"""The costs of all slots of a document together, each in KiB times passes: what 32 new slots cost."""

Kind: TypeAlias = Literal["key-file", "passphrase"]

_SLOT_ID = re.compile(r"[0-9a-f]{8}", re.ASCII)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", re.ASCII)
_WRAPPED_BYTES = seal.sealed_length(seal.KEY_BYTES)


class Secret(NamedTuple):
    """What opens a slot: the 32 bytes of a key file, or a passphrase; ``name`` is what messages call it."""

    kind: Kind
    material: SecretBytes
    name: str = "the key given"

    @classmethod
    def from_passphrase(cls, text: str, name: str = "the passphrase given") -> Secret:
        """Return the secret of a passphrase. Its Unicode form is normalised, so that it is the same however it was typed."""
        if not text.isascii():  # ASCII is in that form
            text = load("unicodedata").normalize("NFC", text)
        return cls("passphrase", Hidden(text.encode()), name)


class ArgonCost(NamedTuple):
    """The cost of deriving a key from a passphrase."""

    memory_kib: int = 64 * 1024
    passes: int = 3
    lanes: int = 4


class Slot(NamedTuple):
    """One slot of a keyring."""

    slot: str
    kind: Kind
    label: str
    created_at: datetime
    salt: bytes
    cost: ArgonCost | None
    wrapped: Mapping[str, bytes]

    def derive(self, secret: Secret) -> SecretBytes:
        """Return the slot's wrapping key. For a passphrase this is slow on purpose."""
        if self.cost is None:
            return Hidden(HKDF(SHA512(), seal.KEY_BYTES, self.salt, SLOT_FORMAT.encode()).derive(secret.material.raw))
        argon = Argon2id(
            salt=self.salt,
            length=seal.KEY_BYTES,
            iterations=self.cost.passes,
            lanes=self.cost.lanes,
            memory_cost=self.cost.memory_kib,
        )
        try:
            return Hidden(argon.derive(secret.material.raw))
        except MemoryError:  # not the caller's: the slot asks for that much
            message = f"key slot {self.slot} takes {self.cost.memory_kib // 1024} MiB of memory, which this process can't get"
        raise KeyUnavailableError(message, hint="Allow the process more memory, or open the store with another key")

    def unwrap(self, wrapping_key: SecretBytes, store: str) -> dict[str, SecretBytes]:
        """Return the store's keys by id.

        Raises:
            SealBrokenError: The secret was a different one, or the slot was changed.
        """
        return {
            key_id: seal.unseal_key(wrapping_key, wrapped, self._context(store, key_id))
            for key_id, wrapped in self.wrapped.items()
        }

    def wrap(self, wrapping_key: SecretBytes, store: str, key_id: str, key: SecretBytes) -> bytes:
        """Return one of the store's keys wrapped for this slot."""
        return seal.seal_key(wrapping_key, key, self._context(store, key_id))

    def _context(self, store: str, key_id: str) -> bytes:
        return seal.context(
            SLOT_FORMAT,
            "slot",
            store,
            key_id,
            self.slot,
            self.kind,
            self.label,
            encode_time(self.created_at),
            self.salt,
            *(self.cost or ()),
        )

    def as_fields(self) -> dict[str, Any]:
        """Return the slot as in the keyring's JSON."""
        fields: dict[str, Any] = {
            "slot": self.slot,
            "kind": self.kind,
            "label": self.label,
            "created_at": encode_time(self.created_at),
            "salt": encode_bytes(self.salt),
        }
        if self.cost is not None:
            fields |= self.cost._asdict()
        return fields | {"wrapped": {key_id: encode_bytes(wrapped) for key_id, wrapped in self.wrapped.items()}}

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any], keys: tuple[str, ...]) -> Slot:
        """Read a slot. The caller compares the whole document with its canonical form, which finds what is not checked here.

        Raises:
            BrokenError: A field is invalid, or a cost is out of bounds.
        """
        kind = cast("Kind", fields["kind"])
        _check(kind in {"key-file", "passphrase"}, "kind")
        _check(bool(_SLOT_ID.fullmatch(fields["slot"])), "slot")
        _check(isinstance(fields["label"], str) and len(fields["label"]) <= MAX_LABEL_CHARACTERS, "label")
        _check(fields["label"].isprintable(), "label")
        _check(bool(_TIME.fullmatch(fields["created_at"])), "created_at")
        cost = None
        if kind == "passphrase":
            cost = ArgonCost(fields["memory_kib"], fields["passes"], fields["lanes"])
            check_cost(cost)
        salt = decode_bytes(fields["salt"])
        _check(len(salt) == SALT_BYTES, "salt")
        wrapped = {str(key_id): decode_bytes(text) for key_id, text in fields["wrapped"].items()}
        _check(tuple(wrapped) == keys and all(len(w) == _WRAPPED_BYTES for w in wrapped.values()), "wrapped")
        return cls(fields["slot"], kind, fields["label"], decode_time(fields["created_at"]), salt, cost, wrapped)


def check_cost(cost: ArgonCost) -> None:
    """Raise if costs would exhaust the host or make guessing cheap.

    Raises:
        BrokenError: A cost is out of bounds, or not an integer.
    """
    bounds = (
        ("memory_kib", cost.memory_kib, MIN_MEMORY_KIB, MAX_MEMORY_KIB),
        ("passes", cost.passes, MIN_PASSES, MAX_PASSES),
        ("lanes", cost.lanes, 1, MAX_LANES),
    )
    for name, value, least, most in bounds:
        if type(value) is not int or not least <= value <= most:
            raise BrokenError(f"asks for an Argon2 cost outside of the bounds ({name}: {least} to {most})")
    check_costs([cost])


def check_costs(costs: Iterable[ArgonCost]) -> None:
    """Raise if trying all of these slots, one after the other, would keep the host busy for too long.

    Raises:
        BrokenError: Together they cost more than as many slots as a keyring may have.
    """
    if sum(cost.memory_kib * cost.passes for cost in costs) > MAX_TOTAL_COST:
        raise BrokenError("asks for more work than all of its slots may cost together")


def _check(condition: bool, name: str) -> None:  # noqa: FBT001  # an assertion that is always on
    if not condition:
        raise BrokenError(f'has a slot with an invalid field "{name}"')


def encode_bytes(data: bytes) -> str:
    """Return bytes as the keyring writes them: Base64 (RFC 4648, section 4)."""
    return binascii.b2a_base64(data, newline=False).decode()  # base64 itself takes long to import, with struct


def decode_bytes(text: str) -> bytes:
    """Return what ``encode_bytes`` wrote.

    Raises:
        BrokenError: It is not Base64.
    """
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except (binascii.Error, ValueError, TypeError):
        raise BrokenError("has a field that is not Base64") from None
