"""JSON as the command line writes it: always valid, and safe to show at a terminal."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import orjson

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
    except TypeError:
        text = orjson.dumps(_valid(value), option=options)
    if text.isascii() and b"\x7f" not in text:
        return text
    decoded = text.decode()
    acted_on = {each for each in set(decoded) if each != "\n" and unicodedata.category(each) in _ACTED_ON}
    return decoded.translate({ord(each): json.dumps(each)[1:-1] if each != "\x7f" else "\\u007f" for each in acted_on}).encode()


def _valid(value: Any) -> Any:  # noqa: ANN401  # JSON is what it is
    match value:
        case str():
            return value.encode(errors="backslashreplace").decode()
        case dict():
            return {_valid(key): _valid(each) for key, each in value.items()}
        case list() | tuple():
            return [_valid(each) for each in value]
        case _:
            return value
