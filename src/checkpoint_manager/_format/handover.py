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

from checkpoint_manager._named_tuple import NamedTuple

FORMAT = "checkpoint-manager-keyring/2"
PUBLIC_BYTES = 32
SIGNATURE_BYTES = 64
MAX_HANDOVERS = 128
"""How many a keyring keeps. A user who was away for more rotations than that is told of a rollback, and can accept it."""


class Handover(NamedTuple):
    """A statement, signed by a key, that another key succeeds it.

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
