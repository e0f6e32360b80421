r"""Whether a value comes back from its JSON as it is: each type in it that of JSON, exactly, and each float finite.

orjson alone does not tell: it writes ``NaN`` and the infinities as ``null``, and tuples, UUIDs, enum members and
``orjson.Fragment`` as something else than they are, and has no option against that. So the value is looked at once more, in
one of two ways that say the same:

*  With ``ormsgpack`` (the extra ``fast``): its options refuse every type but those of JSON, as it goes through the value in
   compiled code. What it writes is thrown away, but for one look: a float that is not finite has all bits of its exponent set,
   so it stands there as ``CB 7F Fx`` or ``CB FF Fx``. Other values may hold these bytes, too; then the other way decides.
*  In Python, block by block: only blocks that hold lists and dicts, or ``None``, are looked at value by value. Each ``None``
   is a ``null`` of the output, so if there are more of these, they are text, or they were floats.

Both are given what orjson accepts: no cycles, no keys but text, no integer beyond 64 bits.
"""

from __future__ import annotations

import functools
import gc
import re
from itertools import chain, islice
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MAX_DEPTH = 254
"""How deep lists and dicts may be nested: as deep as orjson writes them."""
ATOMS = frozenset({str, int, float, bool})
TYPES = ATOMS | {dict, list, type(None)}
"""The types that come back as they are."""
_BLOCK_VALUES = 1024
"""How many values are looked at together: few enough to stay in the caches, enough to forget the loop around them."""
_MANY_VALUES = 32
"""From how many values on a block is not the outermost one: what its lists and dicts hold may be listed in one go."""
_MAYBE_NOT_FINITE = re.compile(rb"\xcb[\x7f\xff][\xf0-\xff]")


def is_surely_faithful(value: object) -> bool:
    """Return True if the quick way is there and finds nothing; False means: not known."""
    pack = _pack()
    if pack is None:
        return False
    try:
        packed = pack(value)
    except TypeError:  # the errors of ormsgpack are of this kind; what is at fault is found elsewhere
        return False
    return _MAYBE_NOT_FINITE.search(packed) is None


@functools.cache
def _pack() -> Callable[[object], bytes] | None:
    try:
        import ormsgpack  # noqa: PLC0415  # an extra, and only for those who save

        options = (
            ormsgpack.OPT_PASSTHROUGH_TUPLE
            | ormsgpack.OPT_PASSTHROUGH_SUBCLASS
            | ormsgpack.OPT_PASSTHROUGH_DATACLASS
            | ormsgpack.OPT_PASSTHROUGH_DATETIME
            | ormsgpack.OPT_PASSTHROUGH_ENUM
            | ormsgpack.OPT_PASSTHROUGH_UUID
        )
    except (ImportError, AttributeError, OSError):  # not there, too old, or not to be read just now
        return None
    return functools.partial(ormsgpack.packb, option=options)


def is_faithful(value: object, encoded: bytes) -> bool:
    """Return whether ``encoded``, which orjson made of ``value``, says all of it."""
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
    """Yield all values in blocks, depth first, with one iterator for each level: it is the depth that bounds the memory.

    What is nested too deep ends with a block that holds what no caller takes for a value of JSON.
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

    The garbage collector's own way of going through them is compiled: no value of the block is looked at here. It may name the
    keys of a dict, too, which are text. The few lists of a short block can be as long as they like, so these are not copied.
    """
    if len(block) >= _MANY_VALUES:
        inner = gc.get_referents(*block)
        return iter(inner) if inner else None
    outer: list[Iterable[object]] = [
        each.values() if type(each) is dict else each for each in block if type(each) is dict or type(each) is list
    ]
    return chain.from_iterable(outer) if outer else None
