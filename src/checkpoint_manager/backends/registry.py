"""From a location to its backend: a path, a URL, or a backend that the caller made.

This is the only module that knows the backends. A text with a scheme, such as ``memory:`` or ``sqlite:///x.db``, is a URL; any
other text is the path of a directory. Other packages add schemes by entry points of the group
``checkpoint_manager.backends``: the name of one is the scheme, its value a function that takes the URL and the keyword
``durability``, and returns a :class:`~checkpoint_manager.backends.base.Backend`.

A password in a URL is in no message, log line or ``repr``: each is made from :func:`redacted`.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Protocol, cast

from checkpoint_manager import _loading
from checkpoint_manager._arguments import wrong
from checkpoint_manager._text import printable
from checkpoint_manager.backends.base import Backend
from checkpoint_manager.backends.searchable import Searchable
from checkpoint_manager.errors import LocationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from checkpoint_manager.models import Durability

GROUP = "checkpoint_manager.backends"
"""The group of the entry points by which other packages add schemes."""

_FILES_AND_SERVERS = "sqlite|postgres|postgresql|s3|gs|az"
_URL = rf"(?a)([A-Za-z][A-Za-z0-9+.-]*)://|(memory|{_FILES_AND_SERVERS}):|({_FILES_AND_SERVERS})//"
"""A URL, or what is one but for a slip: its backend refuses that, and says how it is written."""
_USER = r"(?s)(://[^:@/?#]*):.*@"
_USER_WITHOUT_SLASHES = r"(?s)^([^:]*):.*@"
_TELLING_PARAMETER = r"(?is)([?&;#][^=&;#]*(?:pass|secret|token|key|sig|cred|auth)[^=&;#]*=)[^&;#]*"
_HIDDEN = "***"


class OpenBackend(Protocol):
    """Opens the backend that a URL names; what an entry point refers to."""

    def __call__(self, url: str, *, durability: Durability) -> Backend:
        """Open it."""


def open_backend(
    location: str | os.PathLike[str] | Backend,
    *,
    durability: Durability = "full",
    patience: float = Backend.patience,
    has_index: bool = False,
) -> Backend:
    """Return the backend at a location, opened.

    Args:
        location: The path of a directory, a URL, or a backend, which is returned.
        durability: What a save waits for, where the backend can heed it.
        patience: The backend's patience. It holds for this call, too.
        has_index: It must be able to keep an index.

    Raises:
        LocationError: The scheme is not known, or the backend can't heed ``durability`` or keep an index. Nothing was made.
        StorageError: The backend can't be opened.
    """
    if isinstance(location, Backend):
        if has_index and not isinstance(location, Searchable):
            raise _without_index(location.location)
        if durability != "full":
            message = f'durability="{durability}" is given with a backend that is open already, {location.location}'
            raise LocationError(message, hint="Give it where you make the backend")
        location.patience = patience
        return location
    if not isinstance(location, str | os.PathLike):
        raise wrong("checkpoint_dir", location, "a path, a URL or a Backend")
    scheme = scheme_of(location)
    if has_index:
        check_index(location)
    if not scheme:
        local = _loading.load("checkpoint_manager.backends.local")
        return cast("Backend", local.LocalBackend(expanded(location), durability))
    url = os.fspath(location)
    if scheme in _SCHEMES:
        backend = _SCHEMES[scheme](url, patience)
    else:
        backend = _opener(scheme, url)(url, durability=durability)
        backend.patience = patience
    backend.location = redacted(backend.location)
    if has_index and not isinstance(backend, Searchable):
        backend.close()
        raise _without_index(backend.location)
    if durability != "full" and not backend.capabilities.durability:
        backend.close()
        message = f'durability="{durability}" can\'t be heeded by {printable(redacted(url))}'
        raise LocationError(message, hint="Leave durability out")
    return backend


def check_index(location: str | os.PathLike[str]) -> None:
    """Raise if it is certain, without looking, that no index can be kept at a location.

    Raises:
        LocationError: It is.
    """
    scheme = scheme_of(location)
    if scheme in {"", *_SCHEMES} and scheme not in _SEARCHABLE:
        raise _without_index(redacted(os.fsdecode(location)))


def _without_index(location: str) -> LocationError:
    return LocationError(f"{printable(location)} can't keep an index", hint="Leave index out: find reads every version there")


def expanded(path: str | bytes | os.PathLike[str]) -> str:
    """Return the path of a directory, with ``~`` replaced by the home directory.

    Raises:
        LocationError: It is empty, or names no home directory that is known.
    """
    whole = os.path.expanduser(os.fsdecode(path))
    if not whole:
        raise LocationError("the name of the store's directory is empty", hint='Name a directory, or "." for this one')
    if whole.startswith("~"):
        message = f"the home directory in {printable(whole)} is not known"
        raise LocationError(message, hint=f"Write the whole path, or ./{printable(whole)} for a directory of this name")
    return whole


def scheme_of(location: str | os.PathLike[str]) -> str:
    """Return the scheme of a URL, in lower case; empty if the location is a path."""
    if not isinstance(location, str) or (":" not in location and "//" not in location):  # as most are
        return ""
    match = re.match(_URL, location)
    return (match[1] or match[2] or match[3]).lower() if match else ""


def redacted(location: str) -> str:
    """Return a location as it may be shown: a URL without its password and without parameters that may hold a secret.

    All between the first colon and the last ``@`` counts as the password: one that is not percent-encoded may hold anything.
    """
    if not scheme_of(location):
        return location
    user = _USER if "://" in location else _USER_WITHOUT_SLASHES
    return re.sub(_TELLING_PARAMETER, rf"\1{_HIDDEN}", re.sub(user, rf"\1:{_HIDDEN}@", location))


def _opener(scheme: str, url: str) -> OpenBackend:
    """Return what opens a scheme that another package adds."""
    metadata = _loading.load("importlib.metadata")
    others = {entry.name.lower(): entry for entry in metadata.entry_points(group=GROUP)}
    if scheme in others:
        return cast("OpenBackend", others[scheme].load())
    message = f"{printable(redacted(url))} has the scheme {printable(scheme)}, which is not known"
    known = ", ".join(f"{name}:" for name in sorted({*_SCHEMES, *others}))
    raise LocationError(message, hint=f"Give the path of a directory, or a URL with a known scheme: {known}")


def _memory(url: str, _: float) -> Backend:
    if url.partition(":")[2].strip("/"):
        raise LocationError(f"{printable(url)} names a place in memory", hint='Give "memory:", which is a new store each time')
    memory = _loading.load("checkpoint_manager.backends.memory")
    return cast("Backend", memory.MemoryBackend())


def _sqlite(url: str, patience: float) -> Backend:
    authority, slash, path = url.partition("://")[2].partition("/")
    if authority or not slash or any(mark in path for mark in "?#"):
        message = f"{printable(redacted(url))} is not the URL of a database file"
        hint = "Write sqlite:///store.db for a path below the working directory, or sqlite:////tmp/store.db for an absolute one"
        raise LocationError(message, hint=hint)
    urls = _loading.load("urllib.parse")
    sqlite = _loading.load("checkpoint_manager.backends.sqlite")
    return cast("Backend", sqlite.SqliteBackend(expanded(urls.unquote_to_bytes(path)), patience))


def _load_extra(module: str, url: str, *, needs: str, extra: str) -> Any:  # noqa: ANN401  # a module
    """Import the module of a backend whose library comes with an extra.

    Raises:
        LocationError: The library can't be imported.
    """
    try:
        return _loading.load(module)
    except ImportError as error:
        message = f"{printable(redacted(url))} needs {needs}, which can't be imported: {printable(str(error))}"
        raise LocationError(message, hint=f"Run pip install 'checkpoint-manager[{extra}]'") from None


def _postgres(url: str, patience: float) -> Backend:
    module = _load_extra("checkpoint_manager.backends.postgres", url, needs="psycopg", extra="postgres")
    return cast("Backend", module.PostgresBackend(url, patience))


def _object_store(url: str, patience: float) -> Backend:
    module = _load_extra("checkpoint_manager.backends.object_store", url, needs="obstore", extra="s3")
    if "://" not in url:
        scheme = scheme_of(url)
        raise LocationError(f"{printable(url)} names no bucket and prefix", hint=f"Write {scheme}://bucket/prefix")
    return cast("Backend", module.ObjectStoreBackend(url, patience))


_SCHEMES: Mapping[str, Callable[[str, float], Backend]] = {
    "az": _object_store,
    "gs": _object_store,
    "memory": _memory,
    "postgres": _postgres,
    "postgresql": _postgres,
    "s3": _object_store,
    "sqlite": _sqlite,
}
_SEARCHABLE = {"postgres", "postgresql"}
"""Those of them that keep an index."""
