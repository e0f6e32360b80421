"""The name of the file that a browser saves: made of outside text, and safe on every system.

A name never has a folder in it, does not hide the file, and shows its true ending: control characters, those that change the
direction of text, and those that have a meaning for a system are replaced. The header follows RFC 6266, and RFC 8187 for a name
that is not ASCII.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

_ENDINGS = {"numpy": ".npy", "pandas": ".arrows", "polars": ".arrows", "torch": ".safetensors"}
"""The endings of the formats that arrays, frames and tensors are stored in; see :mod:`checkpoint_manager._format.contents`."""
_MOST_CHARACTERS, _MOST_OF_AN_ENDING = 100, 12
_PLAIN = frozenset(" -_.+=,@()")
_DEVICE = re.compile(r"(?i)(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)")


def safe_name(name: str, kind: str) -> str:
    """Return a name for the file of an attachment.

    Args:
        name: The attachment's name, which may be a path, or anything else.
        kind: Its kind, which gives the ending if the name does not have it.
    """
    last = re.split(r"[/\\]", unicodedata.normalize("NFC", name).rstrip("/\\"))[-1]
    plain = "".join(each if each in _PLAIN or unicodedata.category(each)[0] in "LMN" else "_" for each in last).strip(" .")
    wanted = _ENDINGS.get(kind, "")
    plain = (plain or "attachment") + ("" if plain.lower().endswith(wanted) else wanted)
    if _DEVICE.match(plain):  # a device of Windows, with any ending
        plain = f"_{plain}"
    if len(plain) > _MOST_CHARACTERS:
        ending = plain[plain.rfind(".") :] if "." in plain[-_MOST_OF_AN_ENDING:] else ""
        plain = plain[: _MOST_CHARACTERS - len(ending)] + ending
    return plain


def disposition(name: str) -> str:
    """Return the value of ``Content-Disposition`` that lets a browser save a file under a safe name."""
    if name.isascii():
        return f'attachment; filename="{name}"'
    plain = "".join(each if each.isascii() else "_" for each in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"
