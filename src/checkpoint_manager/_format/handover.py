"""Handovers: each key of a store names its successor, so that nobody can bring back a key that was given up.

Whoever knows a key of the store can seal a keyring under it, also after a rotation has replaced the key. So a user who has seen
one key active follows another one only where an unbroken chain of handovers leads from the first to the second, each signed by
the key that hands over. Its holder alone can make such a signature, and verifying it takes a public key, not the key itself:
a user who was away during several rotations no longer has the keys in between.

The signatures are Ed25519 (RFC 8032). The private key of a store key K is derived by HKDF-SHA-512 (RFC 5869) without a salt,
from the 32 bytes of K, with the info ``["checkpoint-manager-keyring/2", "signing key", store, id of K]``. The signature of a
handover is over ``["checkpoint-manager-keyring/2", "handover", store, serial, from, to, public]``; both lists are encoded as in
:mod:`checkpoint_manager._format.seal`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from checkpoint_manager._format import seal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkpoint_manager._format.hidden import SecretBytes

FORMAT = "checkpoint-manager-keyring/2"
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
MAX_HANDOVERS = 128
"""How many a keyring keeps. A user who was away for more rotations than that is told of a rollback, and can accept it."""


@dataclass(frozen=True, slots=True)
class Handover:
    """One key's word that another one succeeds it.

    Attributes:
        serial: The serial number of the keyring that began it.
        old: The id of the key that hands over, and signs this.
        new: The id of its successor.
        public: The successor's public key, which verifies the handover after this one.
        signature: The signature.
    """

    serial: int
    old: str
    new: str
    public: bytes
    signature: bytes


def public_key(store: str, key_id: str, key: SecretBytes) -> bytes:
    """Return the public key that verifies the signatures of a store's key."""
    return _signing_key(store, key_id, key).public_key().public_bytes_raw()


def sign(store: str, serial: int, old: tuple[str, SecretBytes], new: tuple[str, SecretBytes]) -> Handover:
    """Return the handover from one key to another, each given by its id and itself."""
    public = public_key(store, *new)
    signature = _signing_key(store, *old).sign(_message(store, serial, old[0], new[0], public))
    return Handover(serial, old[0], new[0], public, signature)


def lead(handovers: Sequence[Handover], store: str, seen: tuple[str, bytes], active: tuple[str, bytes]) -> bool:
    """Return whether a chain of handovers leads from one key to another, each given by its id and public key."""
    key_id, public = seen
    for each in handovers:
        if each.old == key_id and key_id != active[0]:
            try:
                message = _message(store, each.serial, each.old, each.new, each.public)
                Ed25519PublicKey.from_public_bytes(public).verify(each.signature, message)
            except (InvalidSignature, ValueError):
                return False
            key_id, public = each.new, each.public
    return (key_id, public) == active


def _signing_key(store: str, key_id: str, key: SecretBytes) -> Ed25519PrivateKey:
    info = seal.context(FORMAT, "signing key", store, key_id)
    return Ed25519PrivateKey.from_private_bytes(HKDF(SHA512(), PUBLIC_BYTES, None, info).derive(key.raw))


def _message(store: str, serial: int, old: str, new: str, public: bytes) -> bytes:
    return seal.context(FORMAT, "handover", store, serial, old, new, public)
