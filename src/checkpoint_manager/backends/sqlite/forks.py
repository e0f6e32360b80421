"""Closes the connections of a process before it forks.

SQLite notes in the memory of the process which locks of a database its connections hold, and the system gives a forked child
none of them. A child that inherits these notes believes in locks that it does not have: once the parent has ended, another
process may remove the log that the child writes to, with all that it has saved there. And if another thread was running a
statement at the fork, the child would wait for ever for that thread's lock.

So each connection has a guard, which is held while a statement runs. A fork takes all guards, which takes about as long as a
flush, and closes the connections. Parent and child open new ones when they need them. A connection that is in the middle of
reading a large version stays open.

The guards are re-entrant, because a signal handler may fork.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref


class Connection(sqlite3.Connection):
    """A connection with its guard.

    Attributes:
        guard: Held while a statement of it runs.
        is_closed: It was closed, by a fork or its user.
    """

    guard: threading.RLock
    is_closed = False

    def close(self) -> None:
        """Close it."""
        self.is_closed = True
        super().close()


class _Held(threading.local):
    """The guards that a thread holds while it forks."""

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
            with contextlib.suppress(sqlite3.Error):  # it is closed already
                if not connection.in_transaction:
                    connection.close()


def _take(guard: threading.RLock) -> None:
    _held.guards.append(guard)  # first, so that it is let go even after an interruption
    guard.acquire()


def _let_go() -> None:
    while _held.guards:
        with contextlib.suppress(RuntimeError):  # an interruption came before it was taken
            _held.guards.pop().release()


def _let_go_in_child() -> None:
    _let_go()
    _known.clear()  # the parent's, which are not used here


os.register_at_fork(before=_take_all, after_in_parent=_let_go, after_in_child=_let_go_in_child)
