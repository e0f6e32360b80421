"""Values that no ``repr`` shows: keys, passphrases and what they are read from.

Error reporters and tracebacks with local variables show the ``repr`` of everything in a frame. So a secret is kept in a
:class:`Hidden` as soon as it exists, is handed on in it, and is taken out only at the call that needs its bytes, never into a
variable.
"""

from __future__ import annotations

from typing import Generic, NoReturn, TypeAlias, TypeVar

from checkpoint_manager._loading import load

T = TypeVar("T")


class Hidden(Generic[T]):
    """A value that is not shown, copied or pickled.

    Attributes:
        raw: The value itself.
    """

    __slots__ = ("raw",)

    def __init__(self, raw: T) -> None:
        self.raw = raw

    def __repr__(self) -> str:
        return "Hidden(…)"

    def __eq__(self, other: object) -> bool:
        """Compare bytes in constant time."""
        if not isinstance(other, Hidden):
            return NotImplemented
        if isinstance(self.raw, bytes) and isinstance(other.raw, bytes):
            return bool(load("hmac").compare_digest(self.raw, other.raw))
        return bool(self.raw == other.raw)

    __hash__ = None  # type: ignore[assignment]  # a secret is not a key of a dictionary

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret can't be copied or pickled")


SecretBytes: TypeAlias = Hidden[bytes]
"""Bytes that are secret: a key, a passphrase, the content of a key file."""
