"""SHA-256, by the OpenSSL of ``cryptography``, which is loaded anyway: ``hashlib`` loads another one beside it."""

from __future__ import annotations

from cryptography.hazmat.primitives.hashes import SHA256, Hash


def sha256(data: bytes) -> str:
    """Return the digest in hexadecimal."""
    digest = Hash(SHA256())
    digest.update(data)
    return digest.finalize().hex()
