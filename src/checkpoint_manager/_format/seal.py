"""Seal and unseal messages: Cobblestone-256 under a key, bound to a context that says what the message is.

This is the only module that touches a cipher. The cipher is pyca's Cobblestone-256 (C2SP chunked encryption: a random
192-bit salt per message, HKDF-SHA-512, AES-256-GCM in chunks of 16 KiB, a 32-byte key commitment). The algorithm is fixed
on purpose: a file cannot ask for a weaker one.

**Context.** The context is authenticated but not stored, so writer and reader must build the same bytes. It is the
concatenation of its fields, each as a 4-byte big-endian length and then the bytes; text is UTF-8, an integer is its decimal
digits. Two different lists of fields never give the same bytes.

**Length.** A message of n bytes is sealed into ``56 + n + 16 * (n // 16384 + 1)`` bytes. The writer knows the sealed length
in advance, and the reader can check it before decrypting.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from checkpoint_manager._format.hidden import Hidden

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from checkpoint_manager._format.hidden import SecretBytes
    from checkpoint_manager.models import Buffer


KEY_BYTES = 32
CHUNK_BYTES = 16 * 1024
"""The chunk size of the cipher."""
TAG_BYTES = 16
HEADER_BYTES = 56
"""The cipher's salt and key commitment in front of the first chunk."""
SLICE_BYTES = 256 * 1024
"""Input per call of the cipher: small enough for the CPU caches, large enough to hide the cost of the call."""
_OUTPUT_BYTES = HEADER_BYTES + SLICE_BYTES + CHUNK_BYTES + TAG_BYTES * (SLICE_BYTES // CHUNK_BYTES + 2)


class SealBrokenError(Exception):
    """The message does not open: it is damaged, cut short, or sealed under another key or context.

    The error carries no detail on purpose. The cipher cannot tell these cases apart; the caller may know enough to do so.
    """


def generate_key() -> SecretBytes:
    """Return a new random 256-bit key."""
    return Hidden(Cobblestone256Encryptor.generate_key())


def context(*fields: str | int | bytes) -> bytes:
    """Return the fields encoded as a context, as specified in the module's docstring."""
    joined = b""
    for value in fields:
        encoded = value if isinstance(value, bytes) else str(value).encode()
        joined += len(encoded).to_bytes(4, "big") + encoded
    return joined


def sealed_length(length: int) -> int:
    """Return the sealed length of a message of ``length`` bytes."""
    return HEADER_BYTES + length + TAG_BYTES * (length // CHUNK_BYTES + 1)


def seal(key: SecretBytes, message: Buffer, bound_to: bytes) -> bytes:
    """Return a small message sealed under ``key``, bound to the context ``bound_to``."""
    encryptor = Cobblestone256Encryptor(key.raw, bound_to)
    return encryptor.update(message) + encryptor.finalize()


def seal_key(key: SecretBytes, inner: SecretBytes, bound_to: bytes) -> bytes:
    """Return the key ``inner`` sealed under ``key``. Both stay wrapped, so that no traceback shows their bytes."""
    encryptor = Cobblestone256Encryptor(key.raw, bound_to)
    return encryptor.update(inner.raw) + encryptor.finalize()


def unseal_key(key: SecretBytes, sealed: bytes, bound_to: bytes) -> SecretBytes:
    """Return the key that :func:`seal_key` sealed.

    Raises:
        SealBrokenError: ``sealed`` does not open under this key and context.
    """
    return Hidden(unseal(key, sealed, bound_to))


def seal_slices(key: SecretBytes, message: Buffer, bound_to: bytes) -> Iterator[Buffer]:
    """Seal a message of known length, piece by piece.

    Yields:
        The pieces of the sealed message, in order. All share one buffer: use each piece before asking for the next.
    """
    if len(message) <= SLICE_BYTES:
        yield seal(key, message, bound_to)
        return
    yield from seal_cut(key, cut(message), bound_to)


def cut(message: Buffer) -> Iterator[memoryview]:
    """Yield a message in slices."""
    view = memoryview(message)
    return (view[start : start + SLICE_BYTES] for start in range(0, len(view), SLICE_BYTES))


def seal_cut(key: SecretBytes, slices: Iterable[Buffer], bound_to: bytes) -> Iterator[Buffer]:
    """Seal a message that comes in slices of ``SLICE_BYTES`` or less, and yield pieces as :func:`seal_slices` does."""
    encryptor, output = Cobblestone256Encryptor(key.raw, bound_to), memoryview(bytearray(_OUTPUT_BYTES))
    for each in slices:
        yield output[: encryptor.update_into(each, output)]
    yield encryptor.finalize()


def unseal(key: SecretBytes, sealed: bytes, bound_to: bytes) -> bytes:
    """Return a small message, unsealed.

    Raises:
        SealBrokenError: ``sealed`` does not open under this key and context.
    """
    try:
        decryptor = Cobblestone256Decryptor(key.raw, bound_to)
        return decryptor.update(sealed) + decryptor.finalize()
    except InvalidTag:
        raise SealBrokenError from None


def unseal_into(key: SecretBytes, slices: Iterable[Buffer], output: memoryview, bound_to: bytes) -> None:
    """Unseal a message into memory of its length, which holds nothing genuine until this returns.

    The caller must compare the sealed length with ``sealed_length(len(output))`` before it allocates the memory.

    Raises:
        SealBrokenError: The message does not open under this key and context, or has another length.
    """
    filled = 0
    try:
        decryptor = Cobblestone256Decryptor(key.raw, bound_to)
        for piece in slices:
            filled += decryptor.update_into(piece, output[filled:])
        rest = decryptor.finalize()
    except (InvalidTag, ValueError):  # ValueError: the message is longer than the memory
        raise SealBrokenError from None
    if filled + len(rest) != len(output):
        raise SealBrokenError
    output[filled:] = rest


def unseal_slices(key: SecretBytes, slices: Iterable[Buffer], length: int, bound_to: bytes) -> Iterator[Buffer]:
    """Unseal a message of known length that comes in slices of ``SLICE_BYTES`` or less.

    Yields:
        The pieces of the message, as :func:`unseal_stream` does. All share one buffer: use each before the next.

    Raises:
        SealBrokenError: The message does not open under this key and context, or has another length.
    """
    output, left = memoryview(bytearray(_OUTPUT_BYTES)), length
    try:
        decryptor = Cobblestone256Decryptor(key.raw, bound_to)
        for each in slices:
            piece = output[: decryptor.update_into(each, output)]
            left -= len(piece)
            yield piece
        rest = decryptor.finalize()
    except InvalidTag:
        raise SealBrokenError from None
    if left != len(rest):
        raise SealBrokenError
    yield rest


def seal_stream(key: SecretBytes, pieces: Iterable[Buffer], bound_to: bytes) -> Iterator[bytes]:
    """Seal a message of unknown length in constant memory.

    Yields:
        The pieces of the sealed message, in order.
    """
    encryptor = Cobblestone256Encryptor(key.raw, bound_to)
    for piece in pieces:
        view = memoryview(piece)
        for start in range(0, len(view), SLICE_BYTES):
            if sealed := encryptor.update(view[start : start + SLICE_BYTES]):
                yield sealed
    yield encryptor.finalize()


def unseal_stream(key: SecretBytes, pieces: Iterable[Buffer], bound_to: bytes) -> Iterator[bytes]:
    """Unseal a message of any length in constant memory.

    Each piece is authentic and in order, but the message may still be cut short: do nothing irreversible until the generator
    has finished.

    Yields:
        The pieces of the message, in order.

    Raises:
        SealBrokenError: The message does not open under this key and context, or ends early.
    """
    decryptor = Cobblestone256Decryptor(key.raw, bound_to)
    try:
        for piece in pieces:
            if plain := decryptor.update(piece):
                yield plain
        yield decryptor.finalize()
    except InvalidTag:
        raise SealBrokenError from None
