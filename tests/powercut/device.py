"""A block device that loses what it was not told to flush: a file whose every write and flush is written down.

The file is served by FUSE, a loop device stands on it, and a real file system is mounted from there. So the log holds what
that file system sent to its disk, in which order, and when it waited until the disk had it. What a power cut leaves is all
that was written before the last flush, and of what came since any part, in sectors.

Linux alone, as root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import random
    from collections.abc import Sequence
    from pathlib import Path

SECTOR_BYTES = 4096
"""Of today's disks; xfs can't recover a block of its own of which only a part was written."""
_MOST_AT_ONCE = 1024 * 1024
_REQUEST = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")
_ENTRY = struct.Struct("<cQQ")
_FORGET, _GETATTR, _SETATTR, _OPEN, _READ, _WRITE, _RELEASE, _FSYNC, _FLUSH, _INIT = 2, 3, 4, 14, 15, 16, 18, 20, 25, 26
_INTERRUPT, _DESTROY, _BATCH_FORGET = 36, 38, 42
_BIG_WRITES, _MAX_PAGES = 1 << 5, 1 << 22


@dataclass(frozen=True)
class Written:
    """Bytes that were sent to the device."""

    offset: int
    data: bytes


@dataclass(frozen=True)
class Flushed:
    """The device was told to keep all that it was sent before."""


@dataclass(frozen=True)
class Said:
    """A program said something, such as that a save was acknowledged."""

    text: bytes


Event: TypeAlias = Written | Flushed | Said


def note(log: int, event: Event) -> None:
    """Append an event to a log that is open for appending."""
    match event:
        case Written(offset, data):
            os.writev(log, [_ENTRY.pack(b"w", offset, len(data)), data])
        case Flushed():
            os.write(log, _ENTRY.pack(b"f", 0, 0))
        case Said(text):
            os.writev(log, [_ENTRY.pack(b"s", 0, len(text)), text])


def events(log: Path) -> list[Event]:
    """Return what a log holds."""
    content, at, found = log.read_bytes(), 0, list[Event]()
    while at < len(content):
        kind, offset, length = _ENTRY.unpack_from(content, at)
        at += _ENTRY.size
        data = content[at : at + length]
        at += length
        found.append(Written(offset, data) if kind == b"w" else Flushed() if kind == b"f" else Said(data))
    return found


def after_a_power_cut(before: Sequence[Event], dice: random.Random) -> list[Written]:
    """Return writes that a power cut leaves, of the events before it: all that were flushed, and a part of the others."""
    flushed = max((number for number, event in enumerate(before) if isinstance(event, Flushed)), default=0)
    kept = [event for event in before[:flushed] if isinstance(event, Written)]
    share = dice.choice((0.0, 0.5, 0.9, 1.0))
    for event in before[flushed:]:
        if isinstance(event, Written) and dice.random() < share:
            sectors = len(event.data) // SECTOR_BYTES
            whole = dice.random() < 0.8 or sectors < 2
            kept.append(event if whole else Written(event.offset, event.data[: dice.randrange(1, sectors) * SECTOR_BYTES]))
    return kept


class Device:
    """A file at ``place`` that holds what the image does, and keeps what is written to it in memory.

    Args:
        image: A file system's image, which is not changed.
        place: An empty file, which becomes the device's.
        log: Where each write and flush is appended.
    """

    def __init__(self, image: Path, place: Path, log: Path) -> None:
        self._content = bytearray(image.read_bytes())
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._channel = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self._channel},rootmode={stat.S_IFREG:o},user_id=0,group_id=0,allow_other"
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"device", os.fsencode(place), b"fuse.device", 0, options.encode()) != 0:
            raise OSError(ctypes.get_errno(), "a file can't be served here")

    def serve(self) -> None:
        """Answer until the file is unmounted."""
        while True:
            try:
                request = os.read(self._channel, _MOST_AT_ONCE + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:
                    return
                if error.errno in {errno.EINTR, errno.ENOENT}:
                    continue
                raise
            _, kind, unique, *_ = _REQUEST.unpack_from(request)
            if kind not in {_FORGET, _BATCH_FORGET, _INTERRUPT}:
                code, answer = self._answer(kind, memoryview(request)[_REQUEST.size :])
                os.writev(self._channel, [_ANSWER.pack(_ANSWER.size + len(answer), -code, unique), answer])

    def close(self) -> None:
        """Close the channel of this process; another one, which serves, keeps its own."""
        os.close(self._channel)
        os.close(self._log)

    def _answer(self, kind: int, request: memoryview) -> tuple[int, bytes]:
        if kind == _WRITE:
            _, offset, length = struct.unpack_from("<QQI", request)
            data = bytes(request[40 : 40 + length])
            note(self._log, Written(offset, data))
            self._content[offset : offset + length] = data
            return 0, struct.pack("<II", length, 0)
        if kind == _READ:
            _, offset, length = struct.unpack_from("<QQI", request)
            return 0, bytes(self._content[offset : offset + length])
        if kind == _FSYNC:
            note(self._log, Flushed())
            return 0, b""
        if kind == _INIT:
            _, _, ahead, offered = struct.unpack_from("<IIII", request)
            flags = offered & (_BIG_WRITES | _MAX_PAGES)
            pages = _MOST_AT_ONCE // 4096
            return 0, struct.pack("<IIIIHHIIHH32x", 7, 31, ahead, flags, 16, 12, _MOST_AT_ONCE, 1, pages, 0)
        if kind in {_GETATTR, _SETATTR}:
            size = len(self._content)
            numbers = (1, size, size // 512, 0, 0, 0, 0, 0, 0, stat.S_IFREG | 0o600, 1, 0, 0, 0, 4096, 0)
            return 0, struct.pack("<QII", 3600, 0, 0) + struct.pack("<6Q10I", *numbers)
        if kind == _OPEN:
            return 0, struct.pack("<QII", 1, 0, 0)
        return (0 if kind in {_RELEASE, _FLUSH, _DESTROY} else errno.ENOSYS), b""
