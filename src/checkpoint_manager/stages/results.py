"""Recognise the results of stages where they are passed on: which version of which stage an object is.

An object is recognised if it is the very one that a stage returned, or that a loop had in the end, and if it has not been
changed since. A result that this process read from the store is recognised like one that it computed. It does not matter where
it lies in an argument: as the argument itself, or within a list, a dict or another value that is compared by its parts.

**What is not recognised**: a copy of a result, a part of it, and what was made of it; a result that came from another process
other than through the store; one that was changed; and None, True, False, the integers from -5 to 256 and texts of up to one
character, each of which is the same object wherever it comes from.

**Changes.** A result is encoded again and compared with what was saved. What a ``decode=`` returned is compared
with a snapshot that was taken when it was returned (:mod:`checkpoint_manager.stages.snapshots`); ``encode=`` is not called
again, because it may write files. An object of which no snapshot can be taken is not recognised.

Results are not kept alive: they are referred to weakly. Lists, dicts and the like can't be; of those, the address is kept, and
their content tells whether they are still there.
"""

from __future__ import annotations

import enum
import hashlib
import types
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

from checkpoint_manager import stages
from checkpoint_manager._format import payload
from checkpoint_manager.errors import PayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checkpoint_manager._format.codecs import Codecs
    from checkpoint_manager.models import Buffer

_MOST_ADDRESSES = 100_000
_SHARED_TYPES = (bool, type(None), enum.Enum, type, types.FunctionType, types.BuiltinFunctionType, types.ModuleType)


class Result(NamedTuple):
    """A version that is the result of a call.

    Attributes:
        store_id: The store.
        stage: The stage.
        function: Where its function comes from.
        version: The version.
        call: What tells its call from others of the stage.
        data: The digest of its data.
    """

    store_id: str
    stage: str
    function: str
    version: int
    call: str
    data: str


class _Known(NamedTuple):
    """An object that is a result.

    Attributes:
        result: The version.
        snapshot: What the object was when it was returned; empty if ``codecs`` encode it again.
        codecs: Those of the store.
        reference: The object; None if it can't be referred to weakly.
    """

    result: Result
    snapshot: str
    codecs: Codecs
    reference: weakref.ref[Any] | None


_objects: dict[int, _Known] = {}
_addresses: dict[int, _Known] = {}


def digest_of(data: Buffer) -> str:
    """Return the digest of a version's data."""
    return hashlib.sha256(data).hexdigest()[:32]


def remember(value: object, result: Result, codecs: Codecs, *, is_decoded: bool) -> None:
    """Take note that an object is a result.

    Args:
        value: The object.
        result: The version.
        codecs: Those of the store.
        is_decoded: Whether ``decode=`` returned it; otherwise it can be encoded as it is.
    """
    if _is_shared(value):
        return
    snapshot = stages.snapshot_of(value) if is_decoded else ""
    if snapshot is None:
        return
    key = id(value)
    try:
        reference = weakref.ref(value, lambda gone: _forget(key, gone))
    except TypeError:
        _addresses.pop(key, None)  # so that it stands behind all others
        _addresses[key] = _Known(result, snapshot, codecs, None)
        while len(_addresses) > _MOST_ADDRESSES:
            _addresses.pop(next(iter(_addresses)), None)
    else:
        _objects[key] = _Known(result, snapshot, codecs, reference)


def is_none_known() -> bool:
    """Return whether this process has no results of stages."""
    return not (_objects or _addresses)


def recognise(value: object) -> Result | None:
    """Return the version that an object is, or None."""
    known = _objects.get(id(value)) or _addresses.get(id(value))
    if known is None or (known.reference is not None and known.reference() is not value):
        return None
    return known.result if _is_unchanged(value, known) else None


def is_any_known(values: Iterable[object]) -> bool:
    """Return whether one of many numbers and texts has the address of a result."""
    return not _addresses.keys().isdisjoint(map(id, values))


def may_be_known(value: object) -> bool:
    """Return whether an object may be a result: it has the address of one."""
    return id(value) in _objects or id(value) in _addresses


def was_changed(value: object) -> bool:
    """Return whether an object is the result of a stage, and is no longer as it was returned."""
    known = _objects.get(id(value))
    return known is not None and known.reference is not None and known.reference() is value and not _is_unchanged(value, known)


def _is_unchanged(value: object, known: _Known) -> bool:
    if known.snapshot:
        return bool(stages.snapshot_of(value) == known.snapshot)
    try:
        data, embedded, _ = payload.encode(value, known.codecs)
        return digest_of(data if embedded is None else embedded.digest()) == known.result.data
    except PayloadError:
        return False


def _is_shared(value: object) -> bool:
    """Return whether Python keeps one such object, so that it may come from anywhere."""
    if isinstance(value, _SHARED_TYPES):
        return True
    if type(value) is int:
        return -5 <= value <= 256
    return type(value) in {str, bytes, tuple, frozenset} and len(value) < (2 if isinstance(value, str | bytes) else 1)  # type: ignore[arg-type]


def _forget(key: int, gone: weakref.ref[Any]) -> None:
    known = _objects.get(key)
    if known is not None and known.reference is gone:
        _objects.pop(key, None)
