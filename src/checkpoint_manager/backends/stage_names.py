"""The name of a stage on disk: one file name for each stage name, safe on every platform.

A stage name is any text of 1 to ``MAX_STAGE_CHARACTERS`` code points. Its file name is made of ``a-z 0-9 _ . - %``
only:

*  Lower-case letters, digits, ``_``, ``-`` and ``.`` stand for themselves.
*  Everything else is written as the bytes of its UTF-8, each as ``%`` and two lower-case hexadecimal digits. So are a
   ``.`` or ``-`` in front, a ``.`` at the end, and the first letter of a name that Windows keeps for a device (``con``,
   ``nul.json``).
*  If that is longer than ``MAX_FILENAME_CHARACTERS``: as many whole characters of it as fit in front of ``%%`` and the
   64 hexadecimal digits of the SHA-256 of the name's UTF-8. Only a record inside the file can tell the name then.

Two stage names never share a file name, also where the file system folds case or Unicode forms: there is nothing to
fold. A file name that no stage name leads to is not taken for a stage. Nothing here touches a file system.
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from itertools import accumulate

from checkpoint_manager.errors import StageNameError

MAX_STAGE_CHARACTERS = 255
MAX_FILENAME_CHARACTERS = 150
"""Leaves room for suffixes: most file systems allow names of 255 bytes."""

_SHOWN_CHARACTERS = 40
_READABLE = frozenset("abcdefghijklmnopqrstuvwxyz0123456789_.-")
# The other devices (CONIN$, CONOUT$, CLOCK$, COM and LPT with a superscript digit) hold what is encoded anyway.
_DEVICE = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\.|\Z)")
_ENCODED = re.compile(r"(?:[a-z0-9_.-]|%[0-9a-f]{2})+")
_BYTE = re.compile(r"%([0-9a-f]{2})")
_HASH_MARK = "%%"
_HASH = re.compile(r"[0-9a-f]{64}")
_MAX_PREFIX_CHARACTERS = MAX_FILENAME_CHARACTERS - len(_HASH_MARK) - 64


def validate(stage: object) -> str:
    """Return ``stage`` as a plain str if it can be the name of a stage.

    Raises:
        StageNameError: It is not a str, empty, longer than ``MAX_STAGE_CHARACTERS``, or has a lone surrogate.
    """
    if not isinstance(stage, str):
        message = f"a stage name must be a str, not {type(stage).__qualname__}; use str(…) of it"
        raise StageNameError(message)
    name = str.__str__(stage)  # of a subclass too, whatever it makes of __str__
    if not name:
        message = "a stage name must not be empty; give the stage a name"
        raise StageNameError(message)
    if len(name) > MAX_STAGE_CHARACTERS:
        message = f"the stage name {_shown(name)} is longer than {MAX_STAGE_CHARACTERS} characters; shorten it"
        raise StageNameError(message)
    if not name.isascii() and any("\ud800" <= character <= "\udfff" for character in name):
        message = f"the stage name {_shown(name)} has a lone surrogate, which is not valid Unicode; leave it out"
        raise StageNameError(message)
    return name


@lru_cache(maxsize=16_384)  # each save asks several times
def to_filename(stage: str) -> str:
    """Return the file name of a stage, as specified in the module's docstring; no other stage has the same.

    Raises:
        StageNameError: ``stage`` can't be the name of a stage.
    """
    name = validate(stage)
    pieces = _encode(name)
    filename = "".join(pieces)
    if len(filename) <= MAX_FILENAME_CHARACTERS:
        return filename
    fitting = sum(end <= _MAX_PREFIX_CHARACTERS for end in accumulate(map(len, pieces)))
    return "".join(pieces[:fitting]) + _HASH_MARK + sha256(name.encode()).hexdigest()


def from_filename(name: str) -> str | None:
    """Return the stage of a file name; None if there is none, or only its hash is left (:func:`is_hashed`)."""
    if len(name) > MAX_FILENAME_CHARACTERS:
        return None
    stage = _decode(name)
    return stage if stage is not None and "".join(_encode(stage)) == name else None


def is_hashed(name: str) -> bool:
    """Return whether :func:`to_filename` may have made ``name`` for a stage whose encoded name is too long."""
    prefix, mark, digest = name.partition(_HASH_MARK)
    if not mark or len(prefix) > _MAX_PREFIX_CHARACTERS or _HASH.fullmatch(digest) is None:
        return False
    start = _decode(prefix)
    if start is None:
        return False
    # The name went on behind the prefix, with a character that had no more room: at most four bytes.
    return "".join(_encode(start + "x")[:-1]) == prefix and len(prefix) + 4 * len("%xx") > _MAX_PREFIX_CHARACTERS


def _encode(name: str) -> list[str]:
    """Return the encoding of each character."""
    pieces = [character if character in _READABLE else _escape(character) for character in name]
    if name[0] in ".-" or _DEVICE.match(name):
        pieces[0] = _escape(name[0])
    if name[-1] == ".":
        pieces[-1] = _escape(".")
    return pieces


def _escape(character: str) -> str:
    return "".join(f"%{byte:02x}" for byte in character.encode())


def _decode(name: str) -> str | None:
    """Return what the encoding stands for, canonical or not; None if it is none."""
    if _ENCODED.fullmatch(name) is None:
        return None
    try:
        return _BYTE.sub(lambda escape: chr(int(escape[1], 16)), name).encode("latin-1").decode()
    except UnicodeDecodeError:
        return None


def _shown(name: str) -> str:
    return ascii(name) if len(name) <= _SHOWN_CHARACTERS else ascii(name[: _SHOWN_CHARACTERS - 1]) + "…"
