"""JSON as the command line writes it: always valid, and safe to show at a terminal."""

from __future__ import annotations

import json
import math
import unicodedata
from datetime import datetime
from typing import Any

import orjson

from checkpoint_manager.errors import CheckpointError

_ACTED_ON = frozenset({"Cc", "Cf", "Zl", "Zp"})
"""Unicode's categories of what a terminal acts on or hides: control and format characters, line and paragraph separators."""


def encode(value: object, *, indented: bool = False) -> bytes:
    """Return a value as JSON text in UTF-8, with a line end.

    Control characters are escaped even where JSON need not, so that data can't act on the terminal that shows it. Text that is
    not valid Unicode, such as a file name in another encoding, is written with its odd characters spelled out.
    """
    options = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if indented else 0)
    try:
        text = orjson.dumps(value, option=options)
    except TypeError:  # rare: lone surrogates, integers beyond 64 bits, deep nesting
        text = _encode_odd(value, indented=indented)
    if text.isascii() and b"\x7f" not in text:
        return text
    decoded = text.decode()
    acted_on = {each for each in set(decoded) if each != "\n" and unicodedata.category(each) in _ACTED_ON}
    return decoded.translate({ord(each): _escape(each) for each in acted_on}).encode()


def _escape(character: str) -> str:
    return "".join(f"\\u{unit:04x}" for unit in memoryview(character.encode("utf-16-le")).cast("H"))


def _encode_odd(value: object, *, indented: bool) -> bytes:
    try:
        text = json.dumps(_valid(value), ensure_ascii=False, allow_nan=False, indent=2 if indented else None)
    except RecursionError:
        raise CheckpointError("it is nested too deeply to be shown") from None
    return f"{text}\n".encode()


def _valid(value: Any) -> Any:  # noqa: ANN401, PLR0911  # JSON is what it is
    """Return what JSON can say of a value."""
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_valid(str(key)): _valid(each) for key, each in value.items()}
        case list() | tuple():
            return [_valid(each) for each in value]
        case datetime():
            return value.isoformat()
        case float() if not math.isfinite(value):
            return None
        case None | bool() | int() | float():
            return value
        case _:
            return _valid(str(value))
