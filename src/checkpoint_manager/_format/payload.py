r"""The data of a checkpoint: JSON that reads back as it was, with exactly the types of JSON, and finite floats.

orjson alone does not ensure that. It writes ``NaN`` and the infinities as ``null``, and it writes tuples, UUIDs, enum members
and ``orjson.Fragment`` as other types, without an option against it. So ``ormsgpack`` writes the value first: its options
refuse every type that JSON does not have, but for the bytes and extensions that orjson refuses. Its output is searched and
thrown away: a float that is not finite has all bits of its exponent set, so it starts with ``CB 7F Fx`` or ``CB FF Fx``. Other
values may contain these bytes; if the JSON then contains ``null``, too, the floats of the parts that contain them are checked.

Only where the value is refused, :mod:`checkpoint_manager._format.payload_faults` walks it to name the first one at fault.
"""

from __future__ import annotations

import functools
import re
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any

import orjson
import ormsgpack

from checkpoint_manager._format import payload_faults
from checkpoint_manager.errors import FormatError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MAX_DATA_BYTES = 2_000_000_000
"""The longest JSON that a checkpoint may hold: orjson reads no document of 2**31 bytes, nor any of the last 2 % below that."""
_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_pack = functools.partial(
    ormsgpack.packb,
    option=ormsgpack.OPT_PASSTHROUGH_TUPLE
    | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
    | ormsgpack.OPT_PASSTHROUGH_DATACLASS
    | ormsgpack.OPT_PASSTHROUGH_DATETIME
    | ormsgpack.OPT_PASSTHROUGH_ENUM
    | ormsgpack.OPT_PASSTHROUGH_UUID,
)
_MAYBE_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
_PARTS = 16
"""Into how many parts a long list is divided to find the suspect ones."""
_TOO_LONG = "Save it in several stages, or save the name of a file that holds it"


def encode(value: object, *, stage: str | None = None, what: str = "data") -> bytes:
    """Return ``value`` as JSON that :func:`decode` turns into an equal value of equal types.

    Args:
        value: None, a bool, an int of 64 bits (signed or unsigned), a finite float, a str without lone surrogates, or a
            list, or a dict with str keys, of such values, in at most ``MAX_DEPTH`` levels. Exactly of these types: no
            subclass. No other thread may change it meanwhile.
        stage: The stage that an error is to name.
        what: What ``value`` is to the caller, for the message of an error.

    Raises:
        PayloadError: It would not come back equal, or is longer than ``MAX_DATA_BYTES``.
    """
    try:
        encoded = _dumps(value)
    except OverflowError as error:
        raise PayloadError(f"the {what} can't be saved: {error}", hint=_TOO_LONG, stage=stage) from None
    if encoded is None:
        paths, faults, hint = payload_faults.explain(value)
        raise PayloadError(f"the {what} can't be saved: {faults}", hint=hint, path=paths[0], paths=paths, stage=stage)
    if len(encoded) > MAX_DATA_BYTES:
        raise PayloadError(
            f"the {what} can't be saved: it is {len(encoded)} bytes long as JSON, and the limit is {MAX_DATA_BYTES}",
            hint=_TOO_LONG,
            stage=stage,
        )
    return encoded


def decode(data: bytes | bytearray | memoryview) -> Any:  # noqa: ANN401  # JSON is what it is
    """Return the value that :func:`encode` encoded.

    Raises:
        FormatError: It is not JSON, so :func:`encode` did not write it.
        MemoryError: There is not enough memory to read it.
    """
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        position, out_of_memory = error.pos, error.msg.startswith("Not enough memory")
    if out_of_memory and len(data) <= MAX_DATA_BYTES:
        raise MemoryError(f"there is not enough memory to read {len(data)} bytes of JSON")
    # Not raised inside the handler: orjson's error carries the whole document, and would be our error's __context__.
    raise FormatError(
        f"the content is not JSON (at character {position}), so this library did not write it", hint="Load another version"
    )


def _dumps(value: object) -> bytes | None:
    """Return ``value`` as JSON, or None if an equal value of equal types would not be read back.

    Raises:
        OverflowError: It is longer than ``MAX_DATA_BYTES``: orjson would crash over a text of 2**31 characters.
    """
    try:
        packed = _pack(value)
    except TypeError:
        return None
    if len(packed) > MAX_DATA_BYTES and any(
        len(each) > MAX_DATA_BYTES for each in _inside(value, _is_long) if type(each) is str
    ):
        raise OverflowError(f"it holds a text of more than {MAX_DATA_BYTES} characters")
    maybe_not_finite = _MAYBE_NOT_FINITE.search(packed) is not None
    del packed  # the JSON needs the memory
    try:
        encoded = orjson.dumps(value, option=_OPTIONS)
    except orjson.JSONEncodeError:
        return None
    if maybe_not_finite and b"null" in encoded:
        suspects = _inside(value, lambda packed: _MAYBE_NOT_FINITE.search(packed) is not None)
        if not all(isfinite(each) for each in suspects if type(each) is float):
            return None
    return encoded


def _is_long(packed: bytes) -> bool:
    return len(packed) > MAX_DATA_BYTES


def _inside(value: object, is_suspect: Callable[[bytes], bool]) -> Iterator[object]:
    """Yield what JSON holds, keys included, but skip long parts of lists that are not suspect by what ormsgpack writes."""
    waiting = [[value]]
    while waiting:
        values = waiting.pop()
        if len(values) > _PARTS:
            length = ceil(len(values) / _PARTS)
            parts = (values[start : start + length] for start in range(0, len(values), length))
            waiting += [part for part in parts if is_suspect(_pack(part))]
            continue
        for each in values:
            if type(each) is dict:
                yield from each
                waiting.append([*each.values()])
            elif type(each) is list:
                waiting.append(each)
            else:
                yield each
