"""What property tests of a backend, or of a program that saves checkpoints, draw with Hypothesis.

* :func:`values`: data that a checkpoint keeps exactly, type for type.
* :func:`json_values`: those of it that are JSON.
* :func:`stage_names`: every name that a stage may have, often one that trips up file systems.
"""

from __future__ import annotations

import datetime as dt
import importlib.util
import pathlib
import struct
import uuid
from decimal import Decimal
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


def values(max_leaves: int = 25) -> st.SearchStrategy[Any]:
    """Return a strategy for all that is saved without a codec, nested in any way; scalars of numpy if it is installed."""
    simple = (
        json_values(max_leaves=1) | _ODD | _TIMES | (_numpy_scalars() if importlib.util.find_spec("numpy") else st.nothing())
    )
    hashable = st.recursive(
        simple.filter(_is_hashable),
        lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
        max_leaves=4,
    )
    looks_like_a_form = st.text(max_size=3).map("!{}".format) | st.sampled_from(["!tuple", "!dict", "!codec", "!int", "!"])
    return st.recursive(
        simple,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.dictionaries(st.text(max_size=3) | hashable, inner, max_size=4)
            | st.dictionaries(looks_like_a_form, inner, min_size=1, max_size=2)
            | st.sets(hashable, max_size=4)
            | st.frozensets(hashable, max_size=4)
        ),
        max_leaves=max_leaves,
    )


_NANS = st.integers(1, 2**52 - 1) | st.integers(2**63 + 1, 2**63 + 2**52 - 1)
_ODD = st.one_of(
    st.integers() | st.sampled_from([2**64, -(2**63) - 1, 2**2000, -(10**400)]),
    st.floats() | _NANS.map(lambda bits: struct.unpack(">d", (bits | 0x7FF << 52).to_bytes(8, "big"))[0]),
    st.complex_numbers(),
    st.binary(),
    st.decimals()
    | st.sampled_from([Decimal("1E+1000000000"), Decimal("-0E-9"), Decimal("NaN123"), Decimal("-sNaN"), Decimal("1.10")]),
    st.uuids() | st.builds(uuid.UUID, int=st.integers(0, 2**128 - 1), is_safe=st.sampled_from(uuid.SafeUUID)),
    st.sampled_from([pathlib.PosixPath, pathlib.PurePosixPath, pathlib.PureWindowsPath]).flatmap(
        lambda kind: st.builds(kind, st.text(max_size=8) | st.sampled_from(["a/b", "//a", "..", "/", "c:\\x", "con"]))
    ),
)
_OFFSETS = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
_FIXED = st.builds(dt.timezone, _OFFSETS) | st.builds(dt.timezone, _OFFSETS, st.text(max_size=3)) | st.just(dt.UTC)
_ZONES = st.none() | _FIXED | st.timezones()
_FOLDS = st.sampled_from([0, 1])
_TIMES = st.one_of(
    st.dates(),
    st.timedeltas(),
    st.builds(lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.datetimes(), _ZONES, _FOLDS),
    st.builds(lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.times(), _ZONES, _FOLDS),
)


def _is_hashable(value: object) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def _numpy_scalars() -> st.SearchStrategy[Any]:
    import numpy  # noqa: ICN001, PLC0415  # an extra of whoever draws

    def scalars(name: str) -> st.SearchStrategy[Any]:
        size = numpy.dtype(name).itemsize
        return st.binary(min_size=size, max_size=size).map(lambda raw: numpy.frombuffer(raw, name)[0]).filter(_keeps_its_bits)

    names = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    names += ["float16", "float32", "float64", "complex64", "complex128"]
    names += ["datetime64[D]", "datetime64[ns]", "timedelta64[25s]", "datetime64[Y]"]
    texts = st.text(max_size=4).map(lambda text: numpy.str_(text.strip("\0"))) | st.binary(max_size=4).map(
        lambda raw: numpy.bytes_(raw.strip(b"\0"))
    )
    return st.one_of(*map(scalars, names), texts, st.booleans().map(numpy.bool_))


def _keeps_its_bits(scalar: Any) -> bool:  # noqa: ANN401
    """Return whether a scalar survives being a float: a signalling NaN of less than 64 bits does not."""
    item = scalar.item()
    return not isinstance(item, float | complex) or item == item  # noqa: PLR0124  # NaN


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
