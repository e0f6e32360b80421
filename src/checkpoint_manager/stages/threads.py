"""Blocking work beside an event loop: it is done in worker threads, and cancelled only before it begins.

The threads are the library's own, so that programs whose ``asyncio.to_thread`` calls take long don't delay a save.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")

_MOST_THREADS = 32
"""Most of them wait: for the disk, or for the lock of a stage."""


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_THREADS, "checkpoint_manager")


os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


async def in_thread(function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a worker thread, in a copy of this context, and return its result.

    If the task is cancelled, the call either never begins, or is waited for before the cancellation goes on: nothing of it
    happens later.
    """
    context = contextvars.copy_context()
    call = _pool().submit(context.run, functools.partial(function, *args, **kwargs))
    waiter = asyncio.wrap_future(call)
    cancelled: asyncio.CancelledError | None = None
    while not waiter.done():
        try:
            await asyncio.wait([waiter])  # does not cancel what it waits for
        except asyncio.CancelledError as error:
            if call.cancel():
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled from waiter.exception()
    return waiter.result()
