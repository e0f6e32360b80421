r"""The data of a checkpoint: JSON where it is JSON, else JSON with forms (:mod:`checkpoint_manager._format.values`).

Data is JSON if it reads back as it was, with exactly the types of JSON, and finite floats. orjson alone does not ensure that.
It writes ``NaN`` and the infinities as ``null``, and it writes tuples, UUIDs, enum members and ``orjson.Fragment`` as other
types, without an option against it. So ``ormsgpack`` writes the value first: its options refuse every type that JSON does not
have, but for the bytes and extensions that orjson refuses. Its output is searched and thrown away: a float that is not finite
has all bits of its exponent set, so it starts with ``CB 7F Fx`` or ``CB FF Fx``. Other values may contain these bytes; if the
JSON then contains ``null``, too, the floats of the parts that contain them are checked.

That check takes as long as writing the JSON. A value of many rows may be *encoded ahead* of it: it is checked while the disk
takes the bytes, and the version becomes visible only if it passes (:class:`Check`).

A value that is not JSON is turned into JSON with forms, which is checked and written in the same way. Only where a value is
refused, :mod:`checkpoint_manager._format.payload_faults` walks it to name what is at fault.
"""

from __future__ import annotations

import functools
import re
import sys
import time
from math import ceil, isfinite
from typing import TYPE_CHECKING, Any

import orjson
import ormsgpack

from checkpoint_manager._format.codecs import NO_CODECS
from checkpoint_manager._loading import load
from checkpoint_manager.errors import FormatError, PayloadError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import ModuleType

    from checkpoint_manager._format.codecs import Codecs
    from checkpoint_manager._format.embedded import Embedded, OpenContents

VALUES = b"values/1\n"
"""What data that is not JSON begins with."""
_MARK = len(VALUES)
WITH_CONTENTS = (b"values/2\n", b"values/3\n")
"""What it begins with if it holds arrays, frames or tensors, see :mod:`~checkpoint_manager._format.embedded`."""
MARKS = (VALUES, *WITH_CONTENTS)
"""What data begins with that is not JSON: all are of one length."""
_NUMBERED = rb"(values/[1-9][0-9]{0,5})\n"
_LOOKS_LIKE_A_FORM = rb'\{\s*"(?:!|\\u0021)'
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
_FLOAT = 0xCB
_SHORT = 4096
"""Up to how many bytes a message is matched in any case."""
_RARE = 512
"""A byte is rare if it stands fewer than once in so many bytes."""
_SLICE = 1024
"""How many rows are written at once."""
_AHEAD_BYTES = 256 * 1024
"""Up to here, a value is checked first: a file of this size is written in one piece."""
_SOON = 0.05
"""After how many seconds a value that was encoded ahead is encoded again: its writer had to wait for the stage's lock."""
_FEW_BYTES = MAX_DATA_BYTES // 2
"""A process that never had more in memory holds no text over which orjson would crash, unless half of it is swapped out."""
_PARTS = 16
"""Into how many parts a long list is divided to find the suspect ones."""
_TOO_LONG = "Save it in several stages, or save the name of a file that holds it"


class InexactError(Exception):
    """A value was encoded ahead as JSON that would not be read as an equal value of equal types."""

    def __init__(self, check: Check) -> None:
        super().__init__()
        self.check = check


class Check:
    """The check of a value that was encoded ahead. Until it has passed, no reader may see the JSON.

    Another thread must not change the value in between. The longer that takes, the more likely one does: so the check follows
    soon, or the value is encoded again.
    """

    def __init__(self, value: object, codecs: Codecs, encoded: bytes) -> None:
        self._until = time.monotonic() + _SOON
        self._value = value
        self._codecs = codecs
        self._encoded = encoded

    def __call__(self) -> None:
        """Raise InexactError unless the JSON is exact."""
        if _dumps(self._value, self._encoded) is None:
            raise InexactError(self)

    def is_late(self) -> bool:
        """Return whether the value was encoded so long ago that it is to be encoded again."""
        return time.monotonic() >= self._until

    def encoded_again(self, stage: str) -> bytes:
        """Return the value as :func:`encode` does without going ahead; errors likewise."""
        encoded, embedded, _ = encode(self._value, self._codecs, stage=stage)
        if embedded is not None:  # there was no array when it was encoded first
            message = "the data can't be saved: it was changed while it was saved"
            raise PayloadError(message, hint="Save data that nothing else changes meanwhile, such as a copy", stage=stage)
        return encoded


def encode(
    value: object, codecs: Codecs = NO_CODECS, *, stage: str | None = None, what: str = "data", ahead: bool = False
) -> tuple[bytes, Embedded | None, Check | None]:
    """Return bytes that :func:`decode` turns into an equal value of equal types, and the contents that are not in them.

    If there are such contents, the bytes are those of ``Embedded.data()``, once the contents were read.
    The last item is the check that is left to the caller, if the value was encoded ahead; otherwise None.

    Args:
        value: What JSON has (None, a bool, an int of 64 bits, a finite float, a str without lone surrogates, and lists of such,
            and dicts of such with str keys), what :mod:`~checkpoint_manager._format.values` has a form for, arrays, frames and
            tensors, and what there are codecs for; nested in any way, in at most ``MAX_DEPTH`` levels of JSON. Exactly of these
            types: no subclass. No other thread may change it meanwhile.
        codecs: The codecs for other types.
        stage: The stage that an error is to name.
        what: What ``value`` is to the caller, for the message of an error.
        ahead: Whether many rows may be encoded ahead of their check.

    Raises:
        PayloadError: It would not come back equal, or is longer than ``MAX_DATA_BYTES``.
    """
    embedded = begun = None
    if ahead:
        for each in value.values() if type(value) is dict and len(value) <= _SLICE else (value,):
            if (type(each) is list or type(each) is dict) and len(each) > _SLICE:
                begun = _dumps_ahead(value)
                break
        if begun is not None and _AHEAD_BYTES < len(begun) <= MAX_DATA_BYTES:
            return begun, None, Check(value, codecs, begun)
    try:
        encoded = _dumps(value, begun)
        if encoded is None:
            encoded, embedded = _dumps_forms(value, codecs)
    except OverflowError as error:
        raise PayloadError(f"the {what} can't be saved: {error}", hint=_TOO_LONG, stage=stage) from None
    if encoded is None:
        raise _faults().refusal(value, codecs._replace(embedded=_embedded().Embedded()), stage=stage, what=what)
    if len(encoded) > MAX_DATA_BYTES:
        raise PayloadError(
            f"the {what} can't be saved: it is {len(encoded)} bytes long as JSON, and the limit is {MAX_DATA_BYTES}",
            hint=_TOO_LONG,
            stage=stage,
        )
    return encoded, embedded, None


def encode_json(value: object, *, stage: str | None = None, what: str = "data") -> bytes:
    """Return a value as JSON that :func:`decode` turns into an equal value of equal types.

    Raises:
        PayloadError: It is not JSON, or would not come back equal.
    """
    encoded = _dumps(value)
    if encoded is None:
        raise _faults().refusal(value, None, stage=stage, what=what)
    return encoded


def decode(data: bytes | bytearray | memoryview, codecs: Codecs = NO_CODECS, contents: OpenContents | None = None) -> Any:  # noqa: ANN401  # what was saved
    """Return the value that :func:`encode` encoded.

    Args:
        data: The bytes.
        codecs: The codecs for types that the library does not know.
        contents: Where the contents are that are not in the bytes; None if there are none.

    Raises:
        FormatError: :func:`encode` did not write it; or it needs a codec, or a library, that is not there.
        MemoryError: There is not enough memory to read it.
    """
    tree = _parse(data)
    if data[:1] != b"v":  # no JSON begins with it, and each mark does
        return tree
    mark = data[:_MARK]
    if mark == VALUES:
        return _values().value_of(tree, codecs)
    reader = _embedded().Reader(contents, mark)
    value = _values().value_of(tree, codecs._replace(contents=reader))
    reader.check_end()
    return value


def form(data: bytes | bytearray | memoryview) -> Any:  # noqa: ANN401  # JSON is what it is
    """Return data as JSON with forms, whichever codecs and libraries its values need: how it is shown to people and programs.

    Raises:
        FormatError: :func:`encode` did not write it.
        RecursionError: It is nested more deeply than what can be saved.
    """
    tree = _parse(data)
    mark = data[:_MARK]
    if mark in WITH_CONTENTS:
        for content in _embedded().stored_forms(tree):
            del content[3:]  # the digest, which only values/2 has
    looks_like_a_form = mark not in MARKS and re.search(_LOOKS_LIKE_A_FORM, data) is not None
    return _values().form_of(tree) if looks_like_a_form else tree


def _parse(data: bytes | bytearray | memoryview) -> Any:  # noqa: ANN401
    """Return JSON, or JSON with forms."""
    try:
        if data[:1] == b"v" and data[:_MARK] in MARKS:
            return _values().parse(memoryview(data)[_MARK:])
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        position, out_of_memory = error.pos, error.msg.startswith("Not enough memory")
    if out_of_memory and len(data) <= MAX_DATA_BYTES:
        raise MemoryError(f"there is not enough memory to read {len(data)} bytes of JSON")
    # Not raised inside the handler: orjson's error carries the whole document, and would be our error's __context__.
    later = re.match(_NUMBERED, data)
    if later is not None and later[0] not in MARKS:
        message = f"the content is encoded as {later[1].decode()}, and this version of the library reads values/1 to values/3"
        raise FormatError(message, hint="Use the version of checkpoint_manager that wrote it, or a newer one")
    raise FormatError(
        f"the content is not JSON (at character {position}), so this library did not write it", hint="Load another version"
    )


def _values() -> ModuleType:
    """Return the module for what is not JSON: programs that save JSON do not load it."""
    return load("checkpoint_manager._format.values")


def _faults() -> ModuleType:
    """Return the module that explains a refusal."""
    return load("checkpoint_manager._format.payload_faults")


def _embedded() -> ModuleType:
    """Return the module for arrays, frames and tensors, likewise."""
    return load("checkpoint_manager._format.embedded")


def _dumps_forms(value: object, codecs: Codecs) -> tuple[bytes | None, Embedded | None]:
    """Return ``value`` as JSON with forms, or None if it has none, and its contents; errors as in :func:`_dumps`.

    Raises:
        RecursionError: The caller is so deep that a value of this depth can't be walked.
    """
    values, embedded = _values(), _embedded().Embedded()
    codecs = codecs._replace(embedded=embedded)
    try:
        embedded.tree = values.form_of(value, codecs)
    except values.UnsavableError:
        return None, None
    except RecursionError:
        if _faults().find(value, codecs):
            return None, None
        raise
    encoded = _dumps(embedded.tree)
    if encoded is None:
        return None, None
    return (WITH_CONTENTS[0] if embedded.is_used else VALUES) + encoded, embedded or None


def _dumps_ahead(value: object) -> bytes | None:
    """Return a value as JSON that is still to be checked, or None if it has to be checked first."""
    memory = load("resource")
    used = memory.getrusage(memory.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    if used > _FEW_BYTES:
        return None
    try:
        return orjson.dumps(value, option=_OPTIONS)
    except orjson.JSONEncodeError:
        return None


def _dumps(value: object, encoded: bytes | None = None) -> bytes | None:
    """Return a value as JSON, or None if an equal value of equal types would not be read back.

    Args:
        value: The value.
        encoded: Its JSON, if it was encoded ahead.

    Raises:
        OverflowError: It is longer than ``MAX_DATA_BYTES``: orjson would crash over a text of 2**31 characters.
    """
    parts: Iterable[object] = (value,)
    for each in value.values() if type(value) is dict and len(value) <= _SLICE else (value,):
        if type(each) is list and len(each) > _SLICE:
            parts = _parts(value)
            break
    suspects = []
    try:
        for part in parts:
            packed = _pack(part)
            if _is_suspect(part, packed) if len(packed) > _SHORT else _MAYBE_NOT_FINITE.search(packed):
                suspects.append(part)
    except TypeError:
        return None
    packed = b""  # the JSON needs the memory
    try:
        encoded = encoded or orjson.dumps(value, option=_OPTIONS)
    except orjson.JSONEncodeError:
        return None
    if suspects and b"null" in encoded:
        floats = (each for each in _inside(suspects, _may_hold_not_finite) if type(each) is float)
        if not all(isfinite(each) for each in floats):
            return None
    return encoded


def _parts(value: object) -> Iterator[object]:
    """Yield all that a list or dict holds, but many rows in slices, which ormsgpack writes faster, and in less memory."""
    if type(value) is dict:
        yield [*value]
    for each in value.values() if type(value) is dict else (value,):
        if type(each) is list and len(each) > _SLICE and type(each[0]) in {dict, list}:
            yield from (each[start : start + _SLICE] for start in range(0, len(each), _SLICE))
        else:
            yield each


def _is_suspect(value: object, packed: bytes) -> bool:
    """Return whether a value that ormsgpack wrote as a long message may hold a float that is not finite.

    Raises:
        OverflowError: It holds a text that is too long for orjson.
    """
    if len(packed) > MAX_DATA_BYTES and any(
        len(each) > MAX_DATA_BYTES for each in _inside(value, _is_long) if type(each) is str
    ):
        raise OverflowError(f"it holds a text of more than {MAX_DATA_BYTES} characters")
    return _may_hold_not_finite(packed)


def _may_hold_not_finite(packed: bytes) -> bool:
    """Return whether a float may be not finite: to look at each byte that may begin an exponent is fast if there are few."""
    for exponent in (b"\x7f", b"\xff"):
        position = 0
        for _ in range(len(packed) // _RARE):
            position = packed.find(exponent, position + 1)
            if position < 0:
                break
            if packed[position - 1] == _FLOAT and packed[position + 1 : position + 2] >= b"\xf0":
                return True
        else:
            return _MAYBE_NOT_FINITE.search(packed) is not None
    return False


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
