"""The JSON of the library's own small documents: the keyring, the metadata of a version, a line of what was seen.

What callers save is read and written by :mod:`orjson`, which loads :mod:`inspect`, :mod:`uuid` and more: that takes longer than
a look at a stage. So these documents are read by :mod:`json` until something else has loaded :mod:`orjson`. Where the two might
differ, as on numbers out of range and on text that is not JSON, :mod:`orjson` is loaded, and decides.
"""

from __future__ import annotations

import sys
from json import JSONDecoder, JSONEncoder
from typing import Any

from checkpoint_manager._loading import load

_MOST_DIGITS = 18
"""Of whole numbers that certainly have 64 bits; :mod:`orjson` reads longer ones as floats."""
_INFINITE = (float("inf"), float("-inf"))


def loads(text: bytes) -> Any:  # noqa: ANN401  # whatever it says
    """Return what a document says.

    Raises:
        ValueError: It is not JSON.
    """
    quick = getattr(sys.modules.get("orjson"), "loads", None)  # None also while another thread imports it
    if quick is None:
        try:
            if b"\\u" not in text:  # which may be half a character
                return _DECODER.decode(text.decode())
        except (ValueError, RecursionError):
            pass
        quick = load("orjson").loads
    return quick(text)


def dumps(value: object) -> bytes:
    """Return a document of text, whole numbers, lists and dictionaries, byte for byte as :mod:`orjson` writes it.

    Raises:
        ValueError, TypeError: A text can't be encoded.
    """
    quick = getattr(sys.modules.get("orjson"), "dumps", None)
    return _ENCODER.encode(value).encode() if quick is None else quick(value)


def _whole_number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise ValueError
    return int(digits)


def _real_number(digits: str) -> float:
    number = float(digits)
    if number in _INFINITE:
        raise ValueError
    return number


def _refuse(constant: str) -> None:
    raise ValueError(constant)


_DECODER = JSONDecoder(parse_int=_whole_number, parse_float=_real_number, parse_constant=_refuse)
_ENCODER = JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
