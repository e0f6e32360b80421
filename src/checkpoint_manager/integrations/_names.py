"""Stage names from the names of a framework, which are any text, such as a session's id or a file's path.

Each part is written as it is, with ``%25`` for ``%`` and ``%2F`` for ``/``. A part that is then longer than 66 characters, or
that is not valid Unicode, becomes ``%#`` and the SHA-256 of its UTF-8 bytes in hexadecimal. The parts follow the prefix, with a
``/`` before each. So different parts never make the same stage name, and all stages with the same first part have the prefix
``stage_name(prefix, first) + "/"``.

The names of stages are not encrypted (SECURITY.md). To keep a name secret, use a keyed hash of it, or keep it in the data.
"""

from __future__ import annotations

from hashlib import sha256

_MAX_PART_CHARACTERS = 66
"""The length of a hashed part. A prefix of 50 characters leaves room for three parts."""


def stage_name(prefix: str, *parts: str) -> str:
    """Return the name of the stage for a name of the framework, which may have several parts."""
    return "/".join([prefix, *map(_part, parts)])


def _part(name: str) -> str:
    escaped = name.replace("%", "%25").replace("/", "%2F")
    if len(escaped) <= _MAX_PART_CHARACTERS and not any("\ud800" <= character <= "\udfff" for character in name):
        return escaped
    return f"%#{sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()}"
