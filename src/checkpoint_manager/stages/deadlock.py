"""Deadlock detection: whether a run that is waited for is itself waiting for the caller.

This searches the wait-for graph of the process. It starts at the thread or task that is about to wait and follows those that
wait for it: a thread that joins another thread or asks for the result of a future; a task that awaits another one, directly or
through ``gather``, ``wait``, ``shield`` or a task group; an event loop whose thread is blocked; and the runs that wait for one
another. If it reaches the holder of the lock, neither would ever continue.

The search can't see which thread would set an event or fill a queue. So a positive answer is certain, and a negative one means
"unknown": the caller keeps waiting. :func:`standstill` covers events and queues: if every thread of the process waits for
another one without a timeout, only a signal handler or a thread of a C library could end that. Both functions read the stacks
of other threads, so they are called only from time to time, by a call that has to wait anyway.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import gc
import math
import operator
import sys
import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

_PACKAGE = "checkpoint_manager."


@dataclass(frozen=True, slots=True)
class Worker:
    """The thread, and the task if there is one, that a piece of code runs in.

    Attributes:
        thread: The thread's identifier.
        depth: How many frames of the caller's stand on its stack: whatever is called from there is deeper.
        task: The asyncio task, as a weak reference; None: there is none.
        is_blocking: It does not give an event loop back: all that it calls or waits for is deeper on this stack.
    """

    thread: int
    depth: int
    task: weakref.ref[Any] | None
    is_blocking: bool

    @classmethod
    def current(cls, *, is_blocking: bool) -> Worker:
        """Return the worker that calls this library."""
        frame: FrameType | None = sys._getframe()  # noqa: SLF001  # inspect.currentframe with another name
        while frame is not None and frame.f_globals.get("__name__", "").startswith(_PACKAGE):
            frame = frame.f_back
        task = current_task()
        return cls(threading.get_ident(), _depth(frame), None if task is None else weakref.ref(task), is_blocking)


def current_task() -> Any:  # noqa: ANN401  # an asyncio.Task, or None
    """Return the task that is running; None if there is none."""
    asyncio = sys.modules.get("asyncio")  # slow to import; a program that has tasks has imported it
    if asyncio is None:
        return None
    try:
        return asyncio.current_task()
    except RuntimeError:  # no event loop is running in this thread
        return None


def would_deadlock(waiter: Worker, holder: Worker, waits: Iterable[tuple[Worker, Worker]]) -> bool:
    """Return whether it is certain that the holder waits for the waiter.

    Args:
        waiter: Who is about to wait.
        holder: For whom.
        waits: The other waits that are known: each a waiter, and the holder that it waits for.
    """
    search = _Search()
    search.add_worker(waiter)
    pending = list(waits)
    while True:
        search.run()
        if search.has(holder):
            return True
        found = [wait for wait in pending if search.has(wait[1])]
        if not found:
            return False
        for wait in found:
            pending.remove(wait)
            search.add_worker(wait[0])


def standstill() -> tuple[object, ...]:
    """Return what each other thread waits for if none of them can continue by itself; otherwise nothing.

    The same answer twice, some time apart, means that nothing went on in between.
    """
    found: list[object] = []
    for thread, frame in _frames_of_threads().items():
        if thread == threading.get_ident() or _is_waiting_for_a_run(frame):
            continue
        if not _is_waiting_without_limit(frame):
            return ()
        found.append((thread, id(frame), frame.f_lasti))
    return tuple(found)


def _is_waiting_for_a_run(frame: FrameType | None) -> bool:
    """Return whether a thread waits for a run of this process; one that waits for another process may still continue."""
    while frame is not None and not (frame.f_globals.get("__name__") == _RUN_LOCK and frame.f_code.co_name in _ACQUIRING):
        frame = frame.f_back
    return frame is not None and frame.f_code.co_name == "acquire"


def _is_waiting_without_limit(frame: FrameType) -> bool:
    place = (frame.f_globals.get("__name__"), frame.f_code.co_qualname)
    if place == ("concurrent.futures.thread", "_worker"):  # an executor's thread that has nothing to do
        return True
    return place in _WAITS and frame.f_locals.get("timeout") in {None, -1}


_RUN_LOCK, _ACQUIRING = "checkpoint_manager.stages.run_lock", {"acquire", "_enter"}
_WAITS = {
    ("threading", "Condition.wait"),  # of an event, a queue, a semaphore, a barrier or a future
    ("threading", "Thread._wait_for_tstate_lock"),
    ("threading", "Thread.join"),
}


@dataclass
class _Search:
    """The threads and futures that wait for the caller.

    Attributes:
        threads: For each thread, by its identifier, how deep in its stack it waits: all frames above wait with it.
        futures: The futures and tasks, by their ids.
    """

    threads: dict[int, float] = field(default_factory=dict)
    futures: dict[int, Any] = field(default_factory=dict)
    _next: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stacks = {thread: list(_stack(frame)) for thread, frame in _frames_of_threads().items()}

    def add_worker(self, worker: Worker) -> None:
        task = None if worker.task is None else worker.task()
        if task is not None:
            self._add_future(task)
        if worker.is_blocking:
            self._add_thread(worker.thread, math.inf)

    def has(self, worker: Worker) -> bool:
        task = None if worker.task is None else worker.task()
        if task is not None and id(task) in self.futures:
            return True
        return worker.is_blocking and worker.depth < self.threads.get(worker.thread, -1)

    def run(self) -> None:
        """Follow the threads and futures that were added."""
        while self._next:
            found = self._next.pop()
            if isinstance(found, int):
                self._follow_thread(found)
            else:
                self._follow_future(found)

    def _add_thread(self, thread: int, depth: float) -> None:
        if depth > self.threads.get(thread, -1):
            self.threads[thread] = depth
            self._next.append(thread)

    def _add_future(self, future: Any) -> None:  # noqa: ANN401  # of asyncio or concurrent.futures
        if id(future) not in self.futures:
            self.futures[id(future)] = future
            self._next.append(future)

    def _follow_thread(self, thread: int) -> None:
        """Add what waits for a thread that waits."""
        blocked = self.threads[thread]
        for depth, frame in self._stacks.get(thread, ()):
            if depth >= blocked:
                continue
            if frame.f_code.co_qualname == "_WorkItem.run":  # an executor's thread: the future that it is to fulfil
                self._add_if_future(getattr(frame.f_locals.get("self"), "future", None))
            elif frame.f_code.co_qualname == "BaseEventLoop.run_forever":
                for task in _tasks(frame.f_locals.get("self")):
                    self._add_future(task)
            elif frame.f_code.co_qualname == "worker" and "job" in frame.f_locals:  # multiprocessing.pool.ThreadPool
                self._add_threads_in("ApplyResult.wait", lambda seen, job=frame.f_locals["job"]: _job_of(seen) == job)
        self._add_threads_in("Thread.join", lambda seen: getattr(seen.get("self"), "ident", None) == thread)

    def _follow_future(self, future: Any) -> None:  # noqa: ANN401
        """Add what waits for a future."""
        for found in _futures_of_callbacks(future):
            self._add_future(found)
        if hasattr(future, "get_loop"):
            for task in _tasks(future.get_loop()):
                if getattr(task, "_fut_waiter", None) is future:
                    self._add_future(task)
            self._add_threads_in("BaseEventLoop.run_until_complete", lambda seen: seen.get("future") is future)
        else:
            for name in ("Future.result", "Future.exception"):
                self._add_threads_in(name, lambda seen: seen.get("self") is future)
            for name in ("wait", "as_completed"):
                self._add_threads_in(name, lambda seen: any(each is future for each in _iterable(seen.get("fs"))))

    def _add_threads_in(self, name: str, is_the_one: Any) -> None:  # noqa: ANN401  # a predicate over a frame's variables
        """Add the threads that are in a function of this name, with variables that a predicate accepts."""
        for thread, stack in self._stacks.items():
            for depth, frame in stack:
                if frame.f_code.co_qualname == name and is_the_one(frame.f_locals):
                    self._add_thread(thread, depth)

    def _add_if_future(self, value: object) -> None:
        if isinstance(value, concurrent.futures.Future):
            self._add_future(value)


def _frames_of_threads() -> dict[int, FrameType]:
    """Return the innermost frame of each thread.

    Before Python 3.11.9, CPython makes the frame objects while it holds a lock of its own. If that starts a garbage collection
    which frees a ``threading.local``, or gives the GIL away, the process freezes (python/cpython#106883). So the collector is
    off meanwhile. The three calls are made in C, so that no other thread and no signal handler gets in between: otherwise, two
    searches at once could leave the collector off for good.
    """
    restore: Any = gc.enable if gc.isenabled() else gc.isenabled
    calls: tuple[Any, ...] = (gc.disable, sys._current_frames, restore)  # noqa: SLF001
    frames: dict[int, FrameType]
    try:
        _, frames, _ = map(operator.call, calls)
    finally:
        restore()
    return frames


def _stack(frame: FrameType | None) -> Iterator[tuple[int, FrameType]]:
    """Yield the frames of a thread from the innermost on, each with its depth."""
    for depth in range(_depth(frame), 0, -1):
        if frame is None:  # the thread has returned from some of them since
            return
        yield depth, frame
        frame = frame.f_back


def _depth(frame: FrameType | None) -> int:
    depth = 0
    while frame is not None:
        depth, frame = depth + 1, frame.f_back
    return depth


def _tasks(loop: Any) -> Iterable[Any]:  # noqa: ANN401  # an event loop
    with contextlib.suppress(RuntimeError):  # tasks come and go in another thread: then nothing is known this time
        return tuple(sys.modules["asyncio"].all_tasks(loop))
    return ()


def _futures_of_callbacks(future: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the futures that a future's callbacks fulfil: of ``gather``, ``wait``, ``shield``, task groups and executors."""
    callbacks = getattr(future, "_callbacks", None) or getattr(future, "_done_callbacks", None) or ()
    for callback in callbacks:
        function = callback[0] if isinstance(callback, tuple) else callback
        owner = getattr(function, "__self__", None)
        held = (getattr(owner, "_on_completed_fut", None), *_held_by(function))  # a task group's method, or a function
        yield from (each for each in held if hasattr(each, "add_done_callback"))


def _held_by(function: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield what a callback holds: the arguments of a partial, and the variables around a function."""
    yield from getattr(function, "args", ())
    for cell in getattr(getattr(function, "func", function), "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # not set yet
            yield cell.cell_contents


def _job_of(variables: dict[str, Any]) -> object:
    return getattr(variables.get("self"), "_job", None)


def _iterable(value: object) -> Iterable[Any]:
    return value if isinstance(value, list | tuple | set | frozenset) else ()
