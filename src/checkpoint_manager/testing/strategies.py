"""What property tests of a backend, or of a program that saves checkpoints, draw with Hypothesis.

* :func:`json_values`: data that a checkpoint keeps exactly.
* :func:`stage_names`: every name that a stage may have, often one that trips up file systems.
"""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

_INTEGERS_OF_64_BITS = st.integers(-(2**63), 2**64 - 1)


def json_values(max_leaves: int = 25) -> st.SearchStrategy[Any]:
    """Return a strategy for every value that JSON can hold: types, limits and odd keys included."""
    numbers = _INTEGERS_OF_64_BITS | st.sampled_from([0, 1, -(2**63), 2**63 - 1, 2**63, 2**64 - 1])
    floats = st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 5e-324, 1e16, 2.0**64])
    text = st.text() | st.sampled_from(["", "null", "\0", "\x7f", "é", "e\u0301", "\u2028", "\U0001f600"])
    return st.recursive(
        st.none() | st.booleans() | numbers | floats | text,
        lambda inner: st.lists(inner, max_size=6) | st.dictionaries(text, inner, max_size=6),
        max_leaves=max_leaves,
    )


def stage_names() -> st.SearchStrategy[str]:
    """Return a strategy for valid stage names: ordinary, any Unicode, and what trips up file systems."""
    ordinary = st.from_regex(r"[a-z][a-z0-9_.-]{0,30}", fullmatch=True)
    any_text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=255)
    treacherous = st.text(
        st.sampled_from("aAcConNuUxX01.-_% /\\:~$éÉe\u0301\u202eß\u0131İ\U0001f600\0\n"), min_size=1, max_size=60
    )
    reserved = st.sampled_from(
        ["con", "CON", "nul.txt", "aux.", "com1.json", "COM0", "lpt9", "conin$", "..", ".", "-rf", "%2e"]
    )
    long = st.builds(
        lambda unit, times, tail: (unit * times)[: 255 - len(tail)] + tail,
        st.sampled_from(["a", "A", "é", "\u20ac", "\U0001f600", "a.", "aé"]),
        st.integers(40, 255),
        st.text(st.characters(codec="utf-8"), max_size=3),
    )
    return ordinary | any_text | treacherous | reserved | long
