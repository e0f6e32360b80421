"""Whether a server heeds the conditions that the store stands on: put-if-absent, and compare-and-set.

A server that ignores one accepts every put, and of two writers the first would lose its save. So each is tried with an object
of its own when a store is opened, once in a process, and then noted in the bucket, with the server's address: a copy of the
bucket on another server is tried there.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
from functools import partial
from typing import TYPE_CHECKING

from obstore.exceptions import AlreadyExistsError

from checkpoint_manager.backends.object_store.objects import HAS_CHANGED
from checkpoint_manager.errors import StorageError

if TYPE_CHECKING:
    from checkpoint_manager.backends.object_store.objects import Objects

_KEY = "probed"
_MAX_BYTES = 4000
_known: dict[str, bool] = {}
"""Whether the entity tag of a condition is to be quoted, by location."""


def check(objects: Objects) -> bool:
    """Return whether the server wants the entity tag of a condition with its quotes.

    Raises:
        StorageError: It ignores a condition, or the bucket can't be reached or written to.
    """
    location = objects.location
    if location not in _known:
        noted = objects.read(_KEY, _MAX_BYTES)
        form = b"" if noted is None else noted.data.removesuffix(b" " + location.encode())
        if form in {b"quoted", b"unquoted"}:
            _known[location] = form == b"quoted"
        else:
            _known[location] = _try(objects)
            objects.write(_KEY, (b"quoted " if _known[location] else b"unquoted ") + location.encode())
    return _known[location]


def _try(objects: Objects) -> bool:
    name = secrets.token_hex(16)
    try:
        is_quoted = _is_quoted(objects, name)
    except StorageError as error:
        if error.errno != errno.EIO:  # the server answers
            with contextlib.suppress(StorageError):
                objects.remove(f"probes/{name}")
        raise
    objects.remove(f"probes/{name}")
    return is_quoted


def _is_quoted(objects: Objects, name: str) -> bool:
    """Try each condition with the object of this name, and return how its entity tag is to be written."""
    key, location = f"probes/{name}", objects.location
    put = partial(objects.store.put, key)  # the conditions as they are sent
    stamp = {field: value for field, value in objects.call(partial(put, b"1", mode="create"), "write to").items() if value}
    try:
        objects.call(partial(put, b"2", mode="create"), "write to", answers=(AlreadyExistsError,))
    except AlreadyExistsError:
        pass
    else:
        raise _refusal(location, "puts an object where there is one already (it ignores If-None-Match)")
    if [found for found, _ in objects.listed("probes", "list") if found == name] != [name]:
        raise _refusal(location, "does not list an object that was just put")
    for is_quoted in (True, False):
        now = stamp if is_quoted else stamp | {"e_tag": str(stamp.get("e_tag", "")).strip('"')}
        try:
            objects.call(partial(put, b"3", mode=now), "write to", answers=HAS_CHANGED)
        except HAS_CHANGED:
            continue
        try:
            objects.call(partial(put, b"4", mode=now), "write to", answers=HAS_CHANGED)
        except HAS_CHANGED:
            return is_quoted
        raise _refusal(location, "replaces an object that has changed (it ignores If-Match)")
    raise _refusal(location, "never replaces an object on condition (it does not know If-Match)")


def _refusal(location: str, why: str) -> StorageError:
    message = f"the server of {location} {why}, so saves would be lost there"
    return StorageError(message, hint="Use a server that heeds conditional writes, as S3, MinIO and Ceph do; or a database")
