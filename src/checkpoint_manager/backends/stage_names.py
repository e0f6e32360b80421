"""The file names of stages: one for each stage name, safe on every platform. Pure: no file system is touched.

A stage name is any text of 1 to ``MAX_STAGE_CHARACTERS`` code points. Its file name consists of ``a-z 0-9 _ . - %`` only:

*  Lower-case ASCII letters, digits, ``_``, ``-`` and ``.`` stand for themselves.
*  Every other character is percent-encoded: each byte of its UTF-8 as ``%`` and two lower-case hexadecimal digits. So are
   a leading ``.`` or ``-``, a trailing ``.``, and the first letter of a name that Windows reserves for a device (``con``,
   ``nul.json``).
*  If the result is longer than ``MAX_FILENAME_CHARACTERS``, as many whole encoded characters as fit are kept, followed by
   ``%%`` and the SHA-256 of the name's UTF-8 in hexadecimal. The full name is then stored in the stage's directory.

Two stage names never share a file name, even where the file system ignores case or normalises Unicode: the encoding leaves
nothing to fold. A file name that is not the canonical encoding of a stage name is not taken for a stage.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import accumulate

from checkpoint_manager._loading import load
from checkpoint_manager.errors import StageNameError

MAX_STAGE_CHARACTERS = 255
MAX_STAGE_BYTES = 4 * MAX_STAGE_CHARACTERS
"""In UTF-8."""
MAX_FILENAME_CHARACTERS = 150
"""Leaves room for suffixes below the 255 bytes that most file systems allow."""

_SHOWN_CHARACTERS = 40
_READABLE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
# The other devices (CONIN$, CONOUT$, CLOCK$, COM and LPT with a superscript digit) contain characters that are encoded.
_DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{digit}" for port in ("com", "lpt") for digit in range(10))})
_ENCODED = r"(?:[a-z0-9_.-]|%[0-9a-f]{2})+"
_BYTES = r"(?:%[0-9a-f]{2})+"
_UNCHANGED = re.compile(r"[a-z0-9_][a-z0-9_-]*")
_HASH_MARK = "%%"
_HASH = r"[0-9a-f]{64}"
_MAX_PREFIX_CHARACTERS = MAX_FILENAME_CHARACTERS - len(_HASH_MARK) - 64


def validate(stage: object) -> str:
    """Return ``stage`` as a plain str if it is a valid stage name.

    Raises:
        StageNameError: ``stage`` is not a str, is empty, is longer than ``MAX_STAGE_CHARACTERS``, or contains a lone surrogate.
    """
    if not isinstance(stage, str):
        raise StageNameError(f"a stage name must be a str, not {type(stage).__qualname__}", hint="Convert it to text")
    name = str.__str__(stage)  # a subclass may override __str__
    if not name:
        raise StageNameError("the stage name is empty", hint="Give the stage a name")
    if len(name) > MAX_STAGE_CHARACTERS:
        message = f"the stage name {_shown(name)} is longer than {MAX_STAGE_CHARACTERS} characters"
        raise StageNameError(message, hint="Shorten it")
    if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
        message = f"the stage name {_shown(name)} contains a lone surrogate, which is not valid Unicode"
        raise StageNameError(message, hint="Leave the surrogate out")
    return name


checked = lru_cache(maxsize=16_384, typed=True)(validate)
""":func:`validate` with a cache, for names that can be hashed: each operation asks."""


@lru_cache(maxsize=16_384)  # a save asks for it several times
def to_filename(stage: str) -> str:
    """Return the file name of a stage, as specified in the module's docstring.

    Raises:
        StageNameError: ``stage`` is not a valid stage name.
    """
    name = validate(stage)
    pieces = _encode(name)
    filename = "".join(pieces)
    if len(filename) <= MAX_FILENAME_CHARACTERS:
        return filename
    fitting = sum(end <= _MAX_PREFIX_CHARACTERS for end in accumulate(map(len, pieces)))
    return "".join(pieces[:fitting]) + _HASH_MARK + str(load("hashlib").sha256(name.encode()).hexdigest())


def decoded(stored: object) -> str | None:
    """Return the name of a stage as a database holds it, or None for what this library would not have stored."""
    try:
        return validate(bytes.decode(stored)) if isinstance(stored, bytes) else None
    except (UnicodeDecodeError, StageNameError):
        return None


def from_filename(name: str) -> str | None:
    """Return the stage that a file name encodes; None if it encodes none, or only a hash (see :func:`is_hashed`)."""
    if len(name) > MAX_FILENAME_CHARACTERS:
        return None
    if _UNCHANGED.fullmatch(name) is not None and name not in _DEVICES:  # as most are: it encodes itself
        return name
    stage = _decode(name)
    return stage if stage is not None and "".join(_encode(stage)) == name else None


def is_hashed(name: str) -> bool:
    """Return whether :func:`to_filename` could have made ``name`` from a stage name that is too long to encode."""
    prefix, mark, digest = name.partition(_HASH_MARK)
    if not mark or len(prefix) > _MAX_PREFIX_CHARACTERS or re.fullmatch(_HASH, digest) is None:
        return False
    start = _decode(prefix)
    if start is None:
        return False
    # A further character of at most four bytes did not fit behind the prefix.
    return "".join(_encode(start + "x")[:-1]) == prefix and len(prefix) + 4 * len("%xx") > _MAX_PREFIX_CHARACTERS


def _encode(name: str) -> list[str]:
    """Return the encoding of each character."""
    pieces = [*map(_PIECES.__getitem__, name)]
    if name[0] in ".-" or name.partition(".")[0] in _DEVICES:
        pieces[0] = _escape(name[0])
    if name[-1] == ".":
        pieces[-1] = _escape(".")
    return pieces


def _escape(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode())


class _Pieces(dict[str, str]):
    """The encoding of each character. Those of ASCII are kept, because thousands of names are decoded at once."""

    def __missing__(self, character: str) -> str:
        escaped = _escape(character)
        if character.isascii():
            self[character] = escaped
        return escaped


_PIECES = _Pieces(zip(_READABLE, _READABLE, strict=True))


def _decode(name: str) -> str | None:
    """Return the text that ``name`` encodes, canonically or not; None if it is not an encoding."""
    if re.fullmatch(_ENCODED, name) is None:
        return None
    try:
        return re.sub(_BYTES, _unescape, name)
    except UnicodeDecodeError:
        return None


def _unescape(escapes: re.Match[str]) -> str:
    return bytes.fromhex(escapes[0].replace("%", "")).decode()


def _shown(name: str) -> str:
    return ascii(name) if len(name) <= _SHOWN_CHARACTERS else ascii(name[: _SHOWN_CHARACTERS - 1]) + "…"
