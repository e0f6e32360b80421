"""Whether bytes are JSON, found out in bounded memory.

Objects that are read from JSON take up to 33 times its length, as those of ``{"":0}`` do. Data that is only checked is
therefore read in slices. Each slice ends before a comma outside of strings, and is completed by the brackets around it.
"""

from __future__ import annotations

import re

import orjson

from checkpoint_manager._format.payload import MARKS, VALUES

_SLICE_BYTES = 256 * 1024
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
"""A string, or the beginning of one that ends beyond the slice."""
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SPACE = b" \t\r\n"
_PASSES = 8
"""How often pairs of brackets are removed in compiled code, before those that are left are counted one by one."""


def is_payload(data: bytes | bytearray) -> bool:
    """Return whether this is the data of a checkpoint: JSON, or JSON after ``values/1``, ``values/2`` or ``values/3``."""
    return is_json(data[len(VALUES) :] if data.startswith(MARKS) else data)


def is_json(data: bytes | bytearray) -> bool:
    """Return whether ``orjson`` reads this as JSON. Only the objects of one slice are in memory, or one long string."""
    around = b""  # the brackets that are open where the slice begins, outermost first
    start, length = 0, _SLICE_BYTES
    while start + length < len(data):
        cut = _last_comma(data, start, start + length)
        if cut <= start:  # within a long string
            length *= 2
            continue
        within = _open_after(around, data, start, cut)
        if not within or not _reads(around, data, start, cut, within):  # empty: a comma after the outermost value
            return False
        around, start, length = within, cut, _SLICE_BYTES
    return _open_after(around, data, start, len(data)) == b"" and _reads(around, data, start, len(data), b"")


def _last_comma(data: bytes | bytearray, start: int, end: int) -> int:
    """Return the position of the last comma outside of strings, or -1."""
    spans = [match.span() for match in _STRING.finditer(data, start, end)]
    for string_start, string_end in reversed(spans):
        comma = data.rfind(b",", string_end, end)
        if comma >= 0:
            return comma
        end = string_start
    return data.rfind(b",", start, end)


def _open_after(around: bytes, data: bytes | bytearray, start: int, end: int) -> bytes | None:
    """Return the brackets that are open after a slice; None if one closes what is not open."""
    with memoryview(data) as view, view[start:end] as piece:
        brackets = _STRING.sub(b"", piece).translate(None, _NOT_BRACKETS)
    for _ in range(_PASSES):
        brackets = brackets.replace(b"[]", b"").replace(b"{}", b"")
    stack = bytearray(around)
    for bracket in brackets:
        if bracket in b"[{":
            stack.append(bracket)
        elif not stack or stack.pop() + 2 != bracket:
            return None
    return bytes(stack)


def _reads(around: bytes, data: bytes | bytearray, start: int, end: int, within: bytes) -> bool:
    """Return whether a slice is JSON between these brackets: the first slice begins a value, each other one follows a value."""
    if end < len(data) and _last_byte(data, start, end) in b"[{":  # a comma follows
        return False
    opening = b"".join(b"[" if bracket == ord("[") else b'{"":' for bracket in around)
    closing = bytes(bracket + 2 for bracket in reversed(within))
    with memoryview(data) as view, view[start:end] as piece:
        whole = b"".join((opening, b"0" if start else b"", piece, closing))
    try:
        orjson.loads(whole)
    except orjson.JSONDecodeError:
        return False
    return True


def _last_byte(data: bytes | bytearray, start: int, end: int) -> bytes:
    """Return the last byte of a slice that is not white space; empty if there is none."""
    while end > start and data[end - 1] in _SPACE:
        end -= 1
    return bytes(data[max(start, end - 1) : end])
