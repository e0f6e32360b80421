r"""The record of a store's index: which fields of its versions stand in the clear, in columns of a database.

::

    header   {"format":"checkpoint-manager-index/1","store":"S","key":"K"}\n
    content  to the end: a sealed message, the JSON list [serial, id, names]

S, K and the sealing are as in :mod:`checkpoint_manager._format.records`, with the empty text for the stage. It is sealed so
that only who has a key decides what is shown. The serial is 1 for the first record and rises with each change. ``names`` is an
ascending list without duplicates of ``status``, ``created_at`` and ``metadata_KEY``, which are also the names of the columns:
at most 63 bytes of UTF-8, without the null character.

**Columns.** ``status`` is that of the version; ``created_at`` its time. ``metadata_KEY`` is the value of this key in the
metadata: text as it is, any other value as JSON with sorted keys; null if there is no such key. It is cut to 500 characters,
and a null character is replaced by U+FFFD, so that any value can be indexed.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager._arguments import elements, wrong
from checkpoint_manager._format.checkpoint_file import BrokenError, is_id, is_number
from checkpoint_manager._format.records import RecordFormat
from checkpoint_manager._named_tuple import NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from checkpoint_manager._format.checkpoint_file import Entry

RECORD = RecordFormat("checkpoint-manager-index/1", of="the index", max_bytes=64 * 1024)
MAX_NAMES = 100
STAGE = ""
"""In the place of a stage's name: no stage has it."""
_METADATA = "metadata_"
_MAX_NAME_BYTES = 63
_MAX_CHARACTERS = 500
_EXPECTED = 'a dict such as {"status": True, "created_at": True, "metadata": ["run", "owner"]}'


class Index(NamedTuple):
    """Which fields stand in columns; see the module's docstring. Serial 0: there is no record yet."""

    serial: int = 0
    id: str = ""
    names: tuple[str, ...] = ()

    def changed(self, names: tuple[str, ...], *, above: int) -> Index:
        """Return the record with other names that follows this one and the serial ``above``."""
        return Index(max(self.serial, above) + 1, secrets.token_hex(16), names)

    def values(self, entry: Entry) -> dict[str, str | datetime | None]:
        """Return what the columns of a version hold."""
        return {name: self._value(name, entry) for name in self.names}

    def _value(self, name: str, entry: Entry) -> str | datetime | None:
        if name == "status":
            return entry.status
        if name == "created_at":
            return entry.created_at
        key = name.removeprefix(_METADATA)
        return text_of(entry.metadata[key]) if key in entry.metadata else None


def column_of(key: str) -> str:
    """Return the name of the column for a key of the metadata."""
    return f"{_METADATA}{key}"


def text_of(value: object) -> str:
    """Return a value of the metadata as its column holds it."""
    text = value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return text[:_MAX_CHARACTERS].replace("\0", "\ufffd")


def names_of(index: object) -> tuple[str, ...]:
    """Return the names of the columns that a caller asks for.

    Raises:
        ArgumentError: It is not of the form that the message shows, or a key can't be the name of a column.
    """
    if not isinstance(index, Mapping) or not {*index} <= {"status", "created_at", "metadata"}:
        raise wrong("index", index, _EXPECTED)
    names = [name for name in ("created_at", "status") if index.get(name, False) is True]
    if any(not isinstance(index.get(name, False), bool) for name in ("created_at", "status")):
        raise wrong("index", index, _EXPECTED)
    keys = elements("index", index.get("metadata", ()), _EXPECTED)
    names += [column_of(key) if isinstance(key, str) else "" for key in keys]
    if len(names) > MAX_NAMES or not all(map(_is_name, names)):
        most = _MAX_NAME_BYTES - len(_METADATA)
        raise wrong("index", index, f"{_EXPECTED}, with at most {MAX_NAMES} keys of 1 to {most} bytes, without @ before them")
    return tuple(sorted(set(names)))


def encode(index: Index) -> bytes:
    """Return the content of the record."""
    return orjson.dumps([index.serial, index.id, list(index.names)])


def decode(plain: bytes) -> Index:
    """Return the index from the content, which is authenticated.

    Raises:
        BrokenError: It breaks a rule of the format.
    """
    try:
        serial, record_id, names = orjson.loads(plain)
        if (
            is_number(serial)
            and is_id(record_id)
            and type(names) is list
            and len(names) <= MAX_NAMES
            and all(map(_is_name, names))
            and names == sorted(set(names))
        ):
            return Index(serial, record_id, tuple(names))
    except (ValueError, TypeError):
        pass
    raise BrokenError("holds an index that is not of this format")


def _is_name(name: Any) -> bool:  # noqa: ANN401  # JSON is what it is
    if type(name) is not str or name in {"status", "created_at"}:
        return type(name) is str
    key = name.removeprefix(_METADATA)
    if key in {"", name} or key[0] == "@" or "\0" in key:
        return False
    try:
        return len(name.encode()) <= _MAX_NAME_BYTES
    except UnicodeEncodeError:  # a lone surrogate
        return False
