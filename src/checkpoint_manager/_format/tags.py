r"""The record of a stage's tags: names given to versions after the fact, and why.

One file for each stage that ever had a tag::

    header  {"format":"checkpoint-manager-tags/2","store":"S","key":"K"}\n
    tags    to the end of the file: a sealed message, the JSON list [serial, id, tags, reasons]

S, K and the sealing are as in :mod:`checkpoint_manager._format.records`.

The serial is 1 for the first record and rises with each change. The id is 32 random hex digits, new with each change and kept
when only the key is exchanged: serial and id tell the record that was seen before from an older one that was put back. ``tags``
is a list of ``[name, version, id]`` in ascending order of the names, without duplicates. The id is that of the version, so that
a tag can't move to another version with the same number.

**Names** are 1 to 64 of the characters ``A-Z a-z 0-9 _ . + -`` and begin with a letter or ``_``, so that none looks like a
number, an age or an option. ``latest`` and ``prev``, in any case, are not names. A record holds at most 1000 tags and is at
most 1 MiB long. A reader MUST refuse whatever breaks these rules.

``reasons`` says why tags were given or removed and versions were deleted, as far as somebody said so: the newest 100, oldest
first, each a list ``[at, action, tag, first, last, count, by, text]``. ``at`` is a time as in
:mod:`checkpoint_manager._format.checkpoint_file`. ``action`` is ``tagged``, ``untagged`` or ``deleted``. ``tag`` is its name,
and empty where versions were deleted. ``first`` and ``last`` are the lowest and the highest number of the versions concerned,
``count`` says how many there are. ``by`` is the user and the host, up to 600 characters, and ``text`` the reason, 1 to 500.

**Format 1** differs in its name, ``checkpoint-manager-tags/1``, and in that there are no ``reasons``. A writer uses it as long
as there are none, so that a reader of format 1 alone can read the tags of a store in which nobody gave a reason.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager._format.checkpoint_file import BrokenError, decode_time, encode_time, is_id, is_number, is_time
from checkpoint_manager._format.records import RecordFormat
from checkpoint_manager.models import Reason

if TYPE_CHECKING:
    from collections.abc import Mapping

FORMAT, FORMAT_1 = "checkpoint-manager-tags/2", "checkpoint-manager-tags/1"
MAX_TAGS_BYTES = 1024 * 1024
MAX_TAGS = 1000
MAX_TAG_CHARACTERS = 64
RESERVED = frozenset(("latest", "prev"))
MAX_REASONS, MAX_REASON_CHARACTERS, MAX_BY_CHARACTERS = 100, 500, 600
RECORD = RecordFormat(FORMAT, of="tags", max_bytes=MAX_TAGS_BYTES, also_reads=FORMAT_1)
_RECORD_1 = RecordFormat(FORMAT_1, of="tags", max_bytes=MAX_TAGS_BYTES)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.+-]{0,63}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Tagged:
    """The version that a tag names, with its id."""

    version: int
    id: str


@dataclass(frozen=True, slots=True)
class Tags:
    """All tags of a stage; see the module's docstring. Serial 0: there is no record yet."""

    serial: int = 0
    id: str = ""
    named: Mapping[str, Tagged] = field(default_factory=dict)
    reasons: tuple[Reason, ...] = ()

    def changed(self, named: Mapping[str, Tagged], *, above: int = 0) -> Tags:
        """Return the record with other tags that follows this one and the serial ``above``."""
        return Tags(max(self.serial, above) + 1, secrets.token_hex(16), dict(sorted(named.items())), self.reasons)

    def with_reason(self, reason: Reason | None) -> Tags:
        """Return the record with one more reason, if it is not None."""
        return self if reason is None else replace(self, reasons=(*self.reasons, reason)[-MAX_REASONS:])

    @property
    def form(self) -> RecordFormat:
        """The format that the record is written in."""
        return RECORD if self.reasons else _RECORD_1

    def of(self, version: int) -> list[str]:
        """Return the names of a version."""
        return [name for name, tagged in self.named.items() if tagged.version == version]


def is_name(name: str) -> bool:
    """Return whether this can be the name of a tag."""
    return _NAME.fullmatch(name) is not None and name.lower() not in RESERVED


def encode(tags: Tags) -> bytes:
    """Return the content of the record."""
    reasons = [[encode_time(each.at), *each[1:]] for each in tags.reasons]
    return orjson.dumps([tags.serial, tags.id, rows_of(tags.named), *([reasons] if reasons else [])])


def decode(plain: bytes) -> Tags:
    """Return the tags from the content, which is authenticated.

    Raises:
        BrokenError: It breaks a rule of the format.
    """
    try:
        serial, record_id, rows, *more = orjson.loads(plain)
        reasons = tuple(_reason(*each) for each in more[0]) if more else ()
        if is_number(serial) and is_id(record_id) and len(more) <= 1 and len(reasons) <= MAX_REASONS:
            return Tags(serial, record_id, named_by(rows), reasons)
    except (ValueError, TypeError):
        pass
    raise BrokenError("holds tags that are not of this format")


def _reason(at: str, action: Any, tag: str, first: int, last: int, count: int, by: str, text: str) -> Reason:  # noqa: ANN401  # JSON is what it is
    """Return a row of the list ``reasons``.

    Raises:
        ValueError, TypeError: It breaks a rule of the format.
    """
    is_of_tag = action in {"tagged", "untagged"} and is_name(tag) and first == last and count == 1
    is_of_versions = action == "deleted" and tag == "" and 1 <= count <= last - first + 1
    numbers, texts = all(map(is_number, (first, last, count))), all(type(each) is str for each in (at, tag, by, text))
    lengths = len(by) <= MAX_BY_CHARACTERS and 1 <= len(text) <= MAX_REASON_CHARACTERS
    if numbers and texts and lengths and is_time(at) and (is_of_tag or is_of_versions):
        return Reason(decode_time(at), action, tag, first, last, count, by, text)
    raise ValueError


def rows_of(named: Mapping[str, Tagged]) -> list[list[object]]:
    """Return the list ``tags`` of the format."""
    return [[name, tagged.version, tagged.id] for name, tagged in sorted(named.items())]


def named_by(rows: Any) -> dict[str, Tagged]:  # noqa: ANN401  # JSON is what it is
    """Return what :func:`rows_of` was given.

    Raises:
        BrokenError: It breaks a rule of the format.
    """
    try:
        named = {name: Tagged(version, version_id) for name, version, version_id in rows}
        if (
            len(rows) <= MAX_TAGS
            and [name for name, *_ in rows] == sorted(named)
            and all(is_name(name) and is_number(tag.version) and is_id(tag.id) for name, tag in named.items())
        ):
            return named
    except (ValueError, TypeError):
        pass
    raise BrokenError("holds tags that are not of this format")
