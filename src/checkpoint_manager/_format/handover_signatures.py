"""The signatures of handovers, as :mod:`checkpoint_manager._format.handover` specifies them.

A module of its own: :mod:`checkpoint_manager._format.keyring` loads it, and Ed25519 with it, when a store is opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA512
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from checkpoint_manager._format import seal
from checkpoint_manager._format.handover import FORMAT, PUBLIC_BYTES, Handover

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checkpoint_manager._format.hidden import SecretBytes


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
