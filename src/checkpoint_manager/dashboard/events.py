"""Live pages: server-sent events that say which stage of which store changed, and nothing else.

While somebody watches, the stages on the page are looked at every second, and the others as often as a tenth of a processor
allows. A page that is hidden closes its stream, so that without readers nothing is looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, TypeAlias

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, StreamingResponse

from checkpoint_manager.dashboard.views.pipelines import stages_shown
from checkpoint_manager.errors import CheckpointError, CheckpointNotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from typing import Any

    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from checkpoint_manager.dashboard.auth import Session
    from checkpoint_manager.dashboard.cell import Cell
    from checkpoint_manager.dashboard.stores import ShownStore
    from checkpoint_manager.dashboard.views.call import Site

_Known: TypeAlias = "dict[tuple[str, str], Cell | None]"
_PAUSE_SECONDS, _SHARE = 1.0, 0.1
_BEAT_SECONDS = 15.0
_MOST_STREAMS = 50
_MOST_EVENTS = 100
"""How many changes are told one by one at once; the page is read again for all of them together."""


class _Stream(StreamingResponse):
    """An answer that counts as open from the moment that it is made until it ends."""

    open_now = 0

    def __init__(self, changes: AsyncIterator[bytes]) -> None:
        super().__init__(changes, media_type="text/event-stream")
        _Stream.open_now += 1

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            _Stream.open_now -= 1


def answering(
    site: Site, session_of: Callable[[Request], Session | None]
) -> Callable[[Request], Coroutine[Any, Any, Response]]:
    """Return what answers the requests for events."""

    async def answer(request: Request) -> Response:
        if session_of(request) is None:
            return PlainTextResponse("Log in first.\n", 401)
        if _Stream.open_now >= _MOST_STREAMS:
            return PlainTextResponse("Too many pages are watching.\n", 503)
        chosen = request.query_params.get("store")
        stores = [store for store in site.stores.values() if chosen in {None, store.id}]
        return _Stream(_changes(stores, request.query_params, lambda: session_of(request) is not None))

    return answer


async def _changes(
    stores: list[ShownStore], query: Mapping[str, str], is_logged_in: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield an event for each stage that changes."""
    yield b"retry: 3000\n\n"
    before = await run_in_threadpool(_look, stores, query)
    beat = time.monotonic()
    while is_logged_in():
        began = time.monotonic()
        after = await run_in_threadpool(_look, stores, query)
        changed = [key for key in after.keys() | before.keys() if _differs(key, before, after)]
        # The stages of a store that is being looked at for the first time are told together, at the end.
        told = [key for key in changed if not key[1] or key in before or (key[0], "") in before]
        for store, stage in told[:_MOST_EVENTS]:
            yield b"data: " + orjson.dumps({"store": store, "stage": stage}) + b"\n\n"
        if told or began - beat > _BEAT_SECONDS:
            beat = began
            yield b":\n\n"
        before = after
        await asyncio.sleep(max(_PAUSE_SECONDS, (time.monotonic() - began) / _SHARE))


def _differs(key: tuple[str, str], before: _Known, after: _Known) -> bool:
    old, new = before.get(key), after.get(key)
    return (key in before) != (key in after) or (old is not new and old != new)


def _look(stores: list[ShownStore], query: Mapping[str, str]) -> _Known:
    """Return what is known of each stage now; under the empty name, that a store was looked at as a whole."""
    found: _Known = {}
    for store in stores:
        try:
            for stage in [query["stage"]] if "stage" in query else stages_shown(store, query):
                with contextlib.suppress(CheckpointNotFoundError):  # it has no version yet
                    store.look_at_versions(stage)
            overview = store.overview(0)
            found |= {(store.id, stage): cell for stage, cell in overview.cells.items()}
            if overview.is_complete:
                found[store.id, ""] = None
        except CheckpointError:  # told by the page itself
            continue
    return found
