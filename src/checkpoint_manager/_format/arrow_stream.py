"""A stream of Arrow's IPC format as it passes by: one that is compressed is refused before any of it is decompressed.

A few bytes of it may become any number, and claim any before they do. None of the streams of this library is compressed. The
messages are those of the specification "Serialization and Interprocess Communication (IPC)": four bytes FF, the length of the
metadata in four bytes, the metadata, and the body. The metadata is a FlatBuffer, of which only a few fields are read.
"""

from __future__ import annotations

import struct

_PREFIX_BYTES = 8
_CONTINUATION = 0xFFFFFFFF
_VERSION, _TYPE, _HEADER, _BODY_LENGTH, _CUSTOM_METADATA = range(5)
"""Fields of a Message."""
_VERSION_5 = 4
"""The version that is written since 2020. In the one before, the custom metadata of a message may tell of compression."""
_DICTIONARY_BATCH, _RECORD_BATCH = 2, 3
"""Types of messages."""
_BATCH_OF_DICTIONARY = 1
"""The field of a DictionaryBatch that is a RecordBatch."""
_COMPRESSION = 3
"""A field of a RecordBatch."""


class StreamCheck:
    """Checks a stream that is passed to it in pieces of any length.

    Args:
        size: The length of the stream in bytes.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._skip = 0
        self._held = bytearray()
        self._ended = False

    def feed(self, piece: bytes | memoryview) -> None:
        """Check the next piece.

        Raises:
            ValueError: It is compressed, or not a stream of this format.
        """
        while piece and not self._ended:
            if self._skip:
                passed = min(self._skip, len(piece))
                self._skip -= passed
            else:
                passed = min(self._wanted() - len(self._held), len(piece))
                self._held += piece[:passed]
                if len(self._held) == self._wanted():
                    self._take_message()
            piece = piece[passed:]

    def _wanted(self) -> int:
        """Return how many bytes the prefix has, or, if it is there, prefix and metadata."""
        if len(self._held) < _PREFIX_BYTES:
            return _PREFIX_BYTES
        continuation, length = struct.unpack_from("<II", self._held)
        if continuation != _CONTINUATION or length > self._size:
            raise ValueError("it is not a stream of Arrow's format")
        return _PREFIX_BYTES + int(length)

    def _take_message(self) -> None:
        if len(self._held) == _PREFIX_BYTES and self._wanted() == _PREFIX_BYTES:
            self._ended = True
        elif len(self._held) > _PREFIX_BYTES:
            try:
                self._skip = _body_length(memoryview(self._held)[_PREFIX_BYTES:])
            except struct.error:
                raise ValueError("it has a message that is cut short") from None
            self._held.clear()


def _body_length(metadata: memoryview) -> int:
    """Return the length of the body that follows a message; raise ValueError if that may be compressed, or is below zero."""
    message = struct.unpack_from("<I", metadata)[0]
    version, kind, header, length = (_field(metadata, message, each) for each in (_VERSION, _TYPE, _HEADER, _BODY_LENGTH))
    if not version or struct.unpack_from("<h", metadata, version)[0] != _VERSION_5:
        raise ValueError("it is of another version of Arrow's format than this library writes")
    if _field(metadata, message, _CUSTOM_METADATA):
        raise ValueError("it has a message with metadata of its own, and this library writes none")
    if header and kind and metadata[kind] in {_DICTIONARY_BATCH, _RECORD_BATCH}:
        batch = _table(metadata, header)
        if metadata[kind] == _DICTIONARY_BATCH:
            within = _field(metadata, batch, _BATCH_OF_DICTIONARY)
            batch = _table(metadata, within) if within else batch
        if _field(metadata, batch, _COMPRESSION):
            raise ValueError("it is compressed, which nothing is that this library writes")
    body: int = struct.unpack_from("<q", metadata, length)[0] if length else 0
    if body < 0:
        raise ValueError("it has a message of negative length")
    return body


def _table(metadata: memoryview, at: int) -> int:
    """Return where the table is that a field refers to."""
    return at + int(struct.unpack_from("<I", metadata, at)[0])


def _field(metadata: memoryview, table: int, number: int) -> int:
    """Return where a field of a table is; 0 if it has none of this number."""
    fields = table - int(struct.unpack_from("<i", metadata, table)[0])
    if fields < 0:
        raise struct.error
    size, place = struct.unpack_from("<H", metadata, fields)[0], 4 + 2 * number
    offset = struct.unpack_from("<H", metadata, fields + place)[0] if place < size else 0
    return table + int(offset) if offset else 0
