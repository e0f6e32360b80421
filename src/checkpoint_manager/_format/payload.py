r"""The data of a checkpoint: JSON that reads back as it was, with exactly the types of JSON, and finite floats.

orjson alone does not ensure that. It writes ``NaN`` and the infinities as ``null``, and it writes tuples, UUIDs, enum members
and ``orjson.Fragment`` as other types, without an option against it. So the value is checked a second time, in one of two ways:

*  With ``ormsgpack`` (the extra ``fast``), in compiled code: its options refuse every type that JSON does not have. Its output
   is thrown away after one search: a float that is not finite has all bits of its exponent set, so it starts with ``CB 7F Fx``
   or ``CB FF Fx``. Other values may contain these bytes; then the JSON decides, in which such a float is a ``null``.
*  In Python, block by block: a block of which all values are numbers and text needs no look at each of them. A float that is
   not finite shows as a ``null`` in the JSON that no ``None`` accounts for.

Each way is here for its gain. Records of 1.1 MB and 19 MB are written in 3.6 ms and 86 ms with the first way, in 6.6 ms and
120 ms with the second, and in 11.6 ms and 202 ms with the second if it did without ``gc.get_referents``.

Both ways expect what orjson accepts: no cycles, only text as keys, no integer beyond 64 bits.

Only where the value is refused, :mod:`checkpoint_manager._format.payload_faults` walks it to name the first one at fault.
"""

from __future__ import annotations

import functools
import gc
import re
from itertools import chain, islice
from math import isfinite
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager._format import payload_faults
from checkpoint_manager._format.payload_faults import MAX_DEPTH, TYPES
from checkpoint_manager._loading import load
from checkpoint_manager.errors import FormatError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_DATA_BYTES = 2_000_000_000
"""The longest JSON that a checkpoint may hold: orjson reads no document of 2**31 bytes, nor any of the last 2 % below that."""
_OPTIONS = orjson.OPT_PASSTHROUGH_SUBCLASS | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME
_BLOCK_VALUES = 1024
"""Values per block: few enough to stay in the CPU caches, enough to make the loop over blocks cheap."""
_MANY_VALUES = 32
"""From this length on, a block's lists and dicts are listed with one call: a shorter block may hold a list of any length."""
_FIRST_BLOCKS = 4
"""How many blocks are searched for a text that is too long, where ``ormsgpack`` is not there to tell it."""
_MAYBE_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")
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
        OverflowError: It holds a text of more than ``MAX_DATA_BYTES`` characters: orjson would crash over one of 2**31.
    """
    maybe_not_finite = _scan(value)  # before the JSON is made, so that the memory it needs is free again
    try:
        encoded = orjson.dumps(value, option=_OPTIONS)
    except orjson.JSONEncodeError:
        return None
    if maybe_not_finite is False or (maybe_not_finite is True and b"null" not in encoded):
        return encoded
    return encoded if _has_only_json_types(value, encoded) else None


def _scan(value: object) -> bool | None:
    """Return whether a float may be not finite, in compiled code; None if a type is at fault, or without ``ormsgpack``."""
    pack = _pack()
    if pack is None:
        _refuse_longer_text(value, _FIRST_BLOCKS)
        return None
    try:
        packed = pack(value)
    except TypeError:  # what ormsgpack raises; the caller finds the value at fault
        return None
    if len(packed) > MAX_DATA_BYTES:
        _refuse_longer_text(value, None)
    return _MAYBE_NOT_FINITE.search(packed) is not None


def _refuse_longer_text(value: object, blocks: int | None) -> None:
    for block in islice(_blocks(value), blocks):
        if any(len(each) > MAX_DATA_BYTES for each in block if type(each) is str):
            raise OverflowError(f"it holds a text of more than {MAX_DATA_BYTES} characters")


@functools.cache
def _pack() -> Callable[[object], bytes] | None:
    try:
        ormsgpack = load("ormsgpack")  # an extra, and only needed by programs that save

        options = (
            ormsgpack.OPT_PASSTHROUGH_TUPLE
            | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
            | ormsgpack.OPT_PASSTHROUGH_DATACLASS
            | ormsgpack.OPT_PASSTHROUGH_DATETIME
            | ormsgpack.OPT_PASSTHROUGH_ENUM
            | ormsgpack.OPT_PASSTHROUGH_UUID
        )
    except (ImportError, AttributeError):  # not installed, or too old
        return None
    except OSError as error:
        if error.errno is None:  # raised by the caller's signal handler
            raise
        return None  # unreadable at this moment
    return functools.partial(ormsgpack.packb, option=options)


def _has_only_json_types(value: object, encoded: bytes) -> bool:
    """Return whether ``encoded``, the output of orjson, preserves all of ``value``."""
    nones = 0
    for block in _blocks(value):
        types = set(map(type, block))
        if not types <= TYPES:
            return False
        if type(None) in types:
            nones += len([None for each in block if each is None])
    return nones == encoded.count(b"null") or _are_finite(value)


def _are_finite(value: object) -> bool:
    return all(isfinite(each) for block in _blocks(value) for each in block if type(each) is float)


def _blocks(value: object) -> Iterator[list[object]]:
    """Yield all values in blocks, depth first, with one iterator for each level: the depth bounds the memory.

    A value nested too deep ends the walk with a block that no caller accepts as JSON.
    """
    levels: list[Iterator[object]] = [iter((value,))]
    while levels:
        block = list(islice(levels[-1], _BLOCK_VALUES))
        if not block:
            levels.pop()
            continue
        yield block
        inner = _inside(block)
        if inner is not None:
            if len(levels) > MAX_DEPTH:
                yield [NotImplemented]
                return
            levels.append(inner)


def _inside(block: list[object]) -> Iterator[object] | None:
    """Return an iterator over what the lists and dicts of a block hold, or None if there are none.

    The garbage collector lists the contents of many containers in compiled code. It may include the keys of a dict, which are
    text. The few containers of a short block are not copied, because each may be as long as it likes.
    """
    if len(block) >= _MANY_VALUES:
        inner = gc.get_referents(*block)
        return iter(inner) if inner else None
    outer: list[Iterable[object]] = [
        each.values() if type(each) is dict else each for each in block if type(each) is dict or type(each) is list
    ]
    return chain.from_iterable(outer) if outer else None
