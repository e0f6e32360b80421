"""Bundles part by part, as someone makes or reads them who has the key and the specification, but not this library's writer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from checkpoint_manager._format import bundle, seal
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.key_slot import Secret

KEY = bytes(range(64, 96))
"""The bundles' key; a manager takes it as ``key=``."""
SECRET = Secret("key-file", Hidden(KEY))
_ORIGIN = {"user": "mallory", "host": "h", "pid": 1, "python": "3", "library": "1"}


def frame(kind: str, content: bytes, length: int | None = None) -> bytes:
    """Return a part; with a length that it only claims to have, if given."""
    return kind.encode() + (len(content) if length is None else length).to_bytes(8, "big") + content


def id_of(number: int, history: str = "a") -> str:
    """Return the id that :func:`version` gives a version."""
    return f"{history}{number:031x}"


def version(number: int | str, data: bytes = b"null", *, history: str = "a", **fields: Any) -> bytes:
    """Return the two parts of a version; by default, one that continues the version before it."""
    at = number if isinstance(number, int) else 1
    entry: dict[str, Any] = {
        "id": id_of(at, history),
        "previous": id_of(at - 1, history) if at > 1 else None,
        "status": "completed",
        "created_at": "2026-11-25T10:00:00.000000Z",
        "metadata": {},
        "origin": _ORIGIN,
        "size": len(data),
        "restored_from": None,
    } | fields
    return frame("V", f"{number}\n".encode() + orjson.dumps(entry)) + frame("D", data)


def gaps(*listed: list[Any]) -> bytes:
    """Return the part that ends a stage."""
    return frame("G", orjson.dumps(listed))


def end(stages: int, versions: int) -> bytes:
    """Return the last part."""
    return frame("E", orjson.dumps([stages, versions]))


def sealed(*frames: bytes) -> bytes:
    """Return the bundle of these parts."""
    header, key = bundle.create(SECRET, now=datetime.now(UTC))
    bound_to = seal.context("checkpoint-manager-bundle/1", "body", header.line)
    return header.line + b"".join(seal.seal_stream(key, frames, bound_to))


def frames_of(file: bytes) -> list[bytes]:
    """Return the parts of a bundle, as they are."""
    line = file[: file.index(b"\n") + 1]
    key = bundle.parse_header(line).unlock(SECRET)
    assert key is not None
    plain = seal.unseal(key, file[len(line) :], seal.context("checkpoint-manager-bundle/1", "body", line))
    frames: list[bytes] = []
    while plain:
        length = 9 + int.from_bytes(plain[1:9], "big")
        frames.append(plain[:length])
        plain = plain[length:]
    return frames
