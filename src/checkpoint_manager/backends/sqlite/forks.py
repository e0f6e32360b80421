"""Keeps a fork from interrupting what other threads do in SQLite.

SQLite notes in the memory of the process which locks of a database its connections hold. A child that is forked while another
thread runs a statement inherits these notes, and never the thread: it would wait for ever for a lock that nobody holds. So each
connection has a guard, which is held while a statement runs, and a fork waits until it holds the guards of all. A statement
takes about as long as a flush, or waits for another process for a second.

The guards are re-entrant, because a signal handler may fork.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref


class Connection(sqlite3.Connection):
    """A connection with a guard, to be held while a statement of it runs."""

    guard: threading.RLock


class _Held(threading.local):
    """What a thread that forks holds."""

    def __init__(self) -> None:
        self.guards: list[threading.RLock] = []


_connecting = threading.RLock()
_known: set[weakref.ref[Connection]] = set()
_held = _Held()


def connect(path: str) -> Connection:
    """Open a connection; errors as for ``sqlite3.connect``."""
    with _connecting:
        connection = sqlite3.connect(path, timeout=1, isolation_level=None, check_same_thread=False, factory=Connection)
        connection.guard = threading.RLock()
        _known.add(weakref.ref(connection, _known.discard))
    return connection


def _take_all() -> None:
    _take(_connecting)
    for reference in tuple(_known):
        connection = reference()
        if connection is not None:
            _take(connection.guard)


def _take(guard: threading.RLock) -> None:
    _held.guards.append(guard)  # first: an interruption must not keep it
    guard.acquire()


def _let_go() -> None:
    while _held.guards:
        with contextlib.suppress(RuntimeError):  # an interruption came before it was taken
            _held.guards.pop().release()


def _let_go_in_child() -> None:
    _let_go()
    _known.clear()  # the parent's, which are not used here


os.register_at_fork(before=_take_all, after_in_parent=_let_go, after_in_child=_let_go_in_child)
