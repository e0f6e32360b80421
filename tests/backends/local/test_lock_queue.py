"""Waiting for a lock: in turn, not for longer than agreed, and without leaving anything behind."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import LockTimeoutError
from checkpoint_manager.backends.local import lock_queue as queue
from checkpoint_manager.backends.local.lock import FileLock, open_into
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc/locks")


def lock(folder: Path, timeout: float = 30) -> FileLock:
    return FileLock(str(folder), "train.lock", "train", timeout)


def in_the_queue(folder: Path) -> int:
    """Return how many wait in the kernel for the lock of this very file."""
    number = (folder / "train.lock").stat().st_ino
    with open("/proc/locks") as locks:
        return sum("->" in line and f":{number} " in line for line in locks)


def held_here(folder: Path) -> int:
    """Return how many descriptors of the lock's file this process has; those of other tests' locks don't count."""
    path = os.path.realpath(folder / "train.lock")
    return sum(os.path.realpath(f"/proc/self/fd/{name}") == path for name in os.listdir("/proc/self/fd"))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def places() -> int:
    """Return how many threads stand in the queue."""
    return queue._MOST_THREADS - len(queue._seats)


def test_who_came_first_is_served_first(tmp_path: Path) -> None:
    order: list[int] = []

    def wait(number: int) -> None:
        with lock(tmp_path):
            order.append(number)

    waiters = [threading.Thread(target=wait, args=(number,)) for number in range(6)]
    with lock(tmp_path):
        for number, waiter in enumerate(waiters, 1):
            waiter.start()
            until(lambda number=number: in_the_queue(tmp_path) == number)
    for waiter in waiters:
        waiter.join()
    assert order == sorted(order)
    until(lambda: not places())


def test_who_gives_up_leaves_neither_a_lock_nor_a_thread_nor_a_descriptor(tmp_path: Path) -> None:
    gc.collect()  # the managers of other tests, with the folders that they keep open
    with lock(tmp_path):
        before = len(os.listdir("/proc/self/fd"))
        with ThreadPoolExecutor(1) as pool:
            assert isinstance(pool.submit(lambda: lock(tmp_path, 0.7).__enter__()).exception(), LockTimeoutError)
        assert in_the_queue(tmp_path) == 1  # its thread, which is served in its turn
    until(lambda: not places())
    with lock(tmp_path, 0):
        assert len(os.listdir("/proc/self/fd")) == before


def test_a_short_wait_takes_no_place(tmp_path: Path) -> None:
    with lock(tmp_path), ThreadPoolExecutor(1) as pool:
        assert isinstance(pool.submit(lambda: lock(tmp_path, 0.2).__enter__()).exception(), LockTimeoutError)
    assert not places()


def test_a_thread_stays_for_the_next_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[None] = []
    start = queue._thread.start_new_thread
    monkeypatch.setattr(queue._thread, "start_new_thread", lambda *given: (started.append(None), start(*given)))
    monkeypatch.setattr(queue, "_SECONDS_IDLE", 5)
    (tmp_path / "file").write_bytes(b"")

    for _ in range(3):
        until(lambda: len(queue._idle) == len(started))
        with (tmp_path / "file").open() as file:
            assert queue.wait_in_turn(file.fileno(), 5, open_into)

    assert len(started) == 1
    with (tmp_path / "file").open() as file:
        monkeypatch.setattr(queue, "_SECONDS_IDLE", 0)
        assert queue.wait_in_turn(file.fileno(), 5, open_into)
    until(lambda: not places())
    assert not queue._idle


def test_a_thread_that_a_caller_counts_on_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_SECONDS_IDLE", 0.02)
    (tmp_path / "file").write_bytes(b"")
    with (tmp_path / "file").open() as file:
        assert queue.wait_in_turn(file.fileno(), 5, open_into)
        until(lambda: bool(queue._idle))
        queue._idle.pop()
        time.sleep(0.05)
        place = queue._Place()
        open_into(place, os.dup, file.fileno())
        queue._next.put(place)
        assert place.wait(5)
    until(lambda: not places())


@pytest.mark.parametrize("why", ["no seat", "no thread"])
def test_who_finds_no_place_looks_for_himself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    until(lambda: not places())  # a thread of an earlier test would wait in the place of a new one, or end in this test
    if why == "no seat":
        monkeypatch.setattr(queue, "_seats", [])
    else:
        monkeypatch.setattr(queue._thread, "start_new_thread", lambda *_: refuse(None))
    taken = threading.Event()

    def wait() -> None:
        with lock(tmp_path):
            taken.set()

    waiter = threading.Thread(target=wait)
    with lock(tmp_path):
        waiter.start()
        assert not taken.wait(0.1)
        assert in_the_queue(tmp_path) == 0
    assert taken.wait(20)
    waiter.join()


def test_what_the_kernel_refuses_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    descriptor = os.open(tmp_path / "file", os.O_PATH)
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            queue.wait_in_turn(descriptor, 1, open_into)
    finally:
        os.close(descriptor)
    until(lambda: not places())


def test_a_forked_child_does_not_stand_in_its_parents_queue(tmp_path: Path) -> None:
    waiter = threading.Thread(target=lambda: lock(tmp_path).__enter__().__exit__(None, None, None))
    with lock(tmp_path):
        waiter.start()
        until(lambda: in_the_queue(tmp_path) == 1)
        assert held_here(tmp_path) > 1
        assert forking.end(forking.start(lambda: held_here(tmp_path) + places())) == 0
    waiter.join()


def test_a_child_that_is_forked_while_a_lock_is_let_go_does_not_keep_it(tmp_path: Path) -> None:
    """Another thread may be closing the descriptor at the moment of the fork: then no object knows of it any more."""
    stop = threading.Event()

    def hold() -> None:
        while not stop.is_set():
            with lock(tmp_path):
                pass

    holders = [threading.Thread(target=hold) for _ in range(2)]
    for holder in holders:
        holder.start()

    children = [forking.start(lambda: held_here(tmp_path)) for _ in range(150)]
    stop.set()
    assert {forking.end(child) for child in children} == {0}
    for holder in holders:
        holder.join()
