"""Requests for the objects of a bucket, each bounded in time, with errors of this library.

The server gives each object a stamp. A change on condition that the object still has that stamp fails if another writer was
faster.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from checkpoint_manager.backends import base
from checkpoint_manager.backends.object_store import calls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from typing import TypeAlias

    from obstore import GetOptions

    from checkpoint_manager.backends.object_store.place import Place

    _Answers: TypeAlias = tuple[type[Exception], ...]

T = TypeVar("T")

PAGE = 1000
"""How many objects one request lists."""
AT_ONCE = 4
"""How many objects are read or written at once."""
HAS_CHANGED = (PreconditionError, FileNotFoundError)
"""How a server answers a change on condition that it refuses."""
_ANY_SIZE = 1 << 62


class Stamped(NamedTuple):
    """A small object as read.

    Attributes:
        data: Its content.
        stamp: What it is compared by when it is changed.
    """

    data: bytes
    stamp: dict[str, str]


class Objects:
    """The objects of a bucket.

    Args:
        place: The bucket.
        patience: The backend's.

    Attributes:
        store: The bucket, as obstore has it.
        location: Its URL.
        quotes_tags: The server wants the entity tag of a condition with its quotes.
        patience: The backend's.
    """

    def __init__(self, place: Place, patience: float) -> None:
        self.store = place.store
        self.location = place.location
        self.quotes_tags = True
        self.patience = patience

    def call(self, request: Callable[[], T], action: str, stage: str | None = None, *, answers: _Answers = ()) -> T:
        """Return what a request returns, or raise one of the answers or an error of this library.

        Args:
            request: Makes the request.
            action: What is done, for messages.
            stage: The stage, for messages.
            answers: The errors of obstore that are an answer to this request. Any other one says that something is wrong: a
                web server, for example, says of each object that it is not there.
        """
        return self.finish(calls.start(request), action, stage, answers=answers)

    def finish(self, pending: calls.Pending[T], action: str, stage: str | None = None, *, answers: _Answers = ()) -> T:
        """Wait for a request that was started; as :meth:`call`."""
        is_done, answer = pending.wait(max(self.patience, base.LEAST_ANSWER_SECONDS))
        if is_done:
            return cast("T", answer)
        if calls.is_answer(answer, answers):
            raise type(answer)(*answer.args)  # a new one: the traceback of the one that ``pending`` keeps would lead back to it
        if calls.is_to_be_translated(answer):
            calls.translate(answer, action, self.location, stage)
        raise answer

    def start_get(
        self, key: str, limit: int, unless: dict[str, str] | None = None, *, first: int = 0, after: int = 0
    ) -> calls.Pending[Stamped]:
        """Start to read an object of at most ``limit`` bytes.

        Args:
            key: Its name.
            limit: The largest that is read.
            unless: The stamp that it must not have.
            first: How many bytes are read; 0: all.
            after: How many are left out.
        """
        options: GetOptions = {}
        if unless is not None and "e_tag" in unless:
            options["if_none_match"] = unless["e_tag"]
        if first:
            options["range"] = (0, first)
        elif after:
            options["range"] = {"offset": after}

        def get() -> Stamped:
            try:
                result = self.store.get(key, options=options or None)
            except BaseError:
                if "range" in options and (meta := self.store.head(key))["size"] <= after:
                    return Stamped(b"", _stamp(meta))
                raise
            meta = result.meta
            if meta["size"] > limit:
                raise calls.TooLargeError(meta["size"])
            return Stamped(bytes(result.bytes()), _stamp(meta))

        return calls.start(get)

    def finish_get(
        self, pending: calls.Pending[Stamped], action: str, stage: str | None = None, *, answers: _Answers = ()
    ) -> Stamped | None:
        """Return the object, or None if there is none; raises a TooLargeError, or one of the further answers."""
        try:
            return self.finish(pending, action, stage, answers=(FileNotFoundError, calls.TooLargeError, *answers))
        except FileNotFoundError:
            return None

    def read(self, key: str, limit: int) -> Stamped | None:
        """Return an object; None if there is none, or if it is longer than ``limit``, and so not of this library."""
        try:
            return self.finish_get(self.start_get(key, limit), "read from")
        except calls.TooLargeError:
            return None

    def beginning(self, key: str, length: int) -> Stamped | None:
        """Return the first bytes and the stamp of an object of any length; None if there is none."""
        return self.finish_get(self.start_get(key, _ANY_SIZE, first=length), "read from")

    def start_put(self, key: str, data: bytes) -> calls.Pending[object]:
        """Start to write an object, whatever stands there."""
        return calls.start(partial(self.store.put, key, data, use_multipart=False))

    def write(self, key: str, data: bytes, stage: str | None = None) -> None:
        """Write an object, whatever stands there."""
        self.finish(self.start_put(key, data), "write to", stage)

    def create(self, key: str, data: bytes, stage: str | None = None) -> dict[str, str] | None:
        """Write an object unless there is one, and return its stamp; None: there is one."""
        try:
            return _stamp(
                self.call(partial(self.store.put, key, data, mode="create"), "write to", stage, answers=(AlreadyExistsError,))
            )
        except AlreadyExistsError:
            return self._stamp_of_own(key, data)

    def change(self, key: str, data: bytes, stamp: dict[str, str]) -> dict[str, str] | None:
        """Write an object that has not changed since, and return its stamp; None: it has, or is gone."""
        expected: Any = stamp if self.quotes_tags else stamp | {"e_tag": stamp.get("e_tag", "").strip('"')}
        try:
            return _stamp(self.call(partial(self.store.put, key, data, mode=expected), "write to", answers=HAS_CHANGED))
        except HAS_CHANGED:
            return self._stamp_of_own(key, data)

    def _stamp_of_own(self, key: str, data: bytes) -> dict[str, str] | None:
        """Return the stamp of an object that was refused, if it is what was to be written: the answer was lost."""
        found = self.read(key, len(data))
        return found.stamp if found is not None and found.data == data else None

    def copy(self, key: str, other: str, action: str, stage: str | None = None) -> None:
        """Copy an object; raises a FileNotFoundError if there is none."""
        self.call(partial(self.store.copy, key, other), action, stage, answers=(FileNotFoundError,))

    def remove(self, key: str) -> None:
        """Delete an object, if there is one."""
        self.delete_objects([key], "delete from")

    def delete_objects(self, keys: list[str], action: str, stage: str | None = None) -> None:
        """Delete objects, ignoring those that do not exist."""
        if not keys:
            return
        try:
            self.call(partial(self.store.delete, keys), action, stage, answers=(FileNotFoundError,))
        except FileNotFoundError:  # a server that tells of it stops at the first
            for key in keys:
                with contextlib.suppress(FileNotFoundError):
                    self.call(partial(self.store.delete, key), action, stage, answers=(FileNotFoundError,))

    def listed(self, prefix: str, action: str, stage: str | None = None, *, after: str = "") -> Iterator[tuple[str, int]]:
        """Yield the name, without the prefix, and the size of each object below a prefix, by name."""
        stream = self.store.list(prefix, offset=f"{prefix}/{after}" if after else None, chunk_size=PAGE)
        while True:
            page = self.call(partial(next, stream, None), action, stage)
            if page is None:
                return
            for meta in page:
                name = meta["path"].removeprefix(f"{prefix}/")
                if name > after:  # Azurite lists from the beginning, and others from ``after`` itself
                    yield name, meta["size"]

    def written(self, prefix: str, action: str) -> Iterator[tuple[str, datetime]]:
        """Yield the name, without the prefix, of each object below a prefix, and when it was written last."""
        stream = self.store.list(prefix, chunk_size=PAGE)
        while (page := self.call(partial(next, stream, None), action)) is not None:
            yield from ((meta["path"].removeprefix(f"{prefix}/"), meta["last_modified"]) for meta in page)

    def folders(self, prefix: str, action: str, stage: str | None = None) -> list[str]:
        """Return the names of the folders right below a prefix."""
        found = self.call(partial(self.store.list_with_delimiter, prefix), action, stage)
        return [each.removeprefix(f"{prefix}/") for each in found["common_prefixes"]]


def _stamp(meta: Any) -> dict[str, str]:  # noqa: ANN401  # of a put, or of an object
    """Return what an object is compared by when it is changed."""
    return {name: meta[name] for name in ("e_tag", "version") if meta.get(name)}
