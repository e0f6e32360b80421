"""Connections to PostgreSQL: one for each thread, opened again when it was lost, never used by a child of the process.

A statement that met a lost connection, a restart or a failover is tried again on a new connection, for as long as the backend
is patient. The locks that the lost connection held are taken again first. A server that does not answer is waited for as long,
and Ctrl-C ends every wait.

A signal handler may save while its thread waits for the server. It finds the connection in use, and opens another one.
"""

from __future__ import annotations

import _thread
import contextlib
import os
import queue
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
from psycopg import waiting
from psycopg.pq import TransactionStatus

from checkpoint_manager.backends import base
from checkpoint_manager.backends.postgres import schema as tables
from checkpoint_manager.errors import LocationError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Protocol

    from psycopg.abc import PQGen

    from checkpoint_manager.backends.postgres.place import Place

    class Held(Protocol):
        """A lock that a connection holds."""

        def take_again(self, link: Link) -> None:
            """Take it on another connection."""


T = TypeVar("T")

ANSWER_SECONDS = 60.0
"""How long the server may take for one statement that does not wait for a lock, unless the backend is less patient."""
_CANCEL_SECONDS = 1.0
"""How long the server may take to cancel a statement after Ctrl-C, before its connection is closed."""
NO_TABLES = ("42P01", "3F000")
"""The codes for a missing table and a missing schema."""
_LATER = {"57P01", "57P02", "57P03", "25006", "40001", "40P01", "53300"}
"""The codes for a server that ends, starts or has become a standby, for a conflict, and for too many connections."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 1.0

_NO_PATH = "SELECT pg_catalog.set_config('search_path', '', false)"
_SETTINGS = """SELECT
    set_config('default_transaction_isolation', 'read committed', false),
    set_config('idle_session_timeout', '0', false),
    set_config('synchronous_commit', CASE current_setting('synchronous_commit') WHEN 'off' THEN 'on'
        ELSE current_setting('synchronous_commit') END, false),
    set_config('client_connection_check_interval', CASE WHEN version() LIKE '%linux%' THEN '5000' ELSE '0' END, false),
    pg_try_advisory_lock_shared($1),
    pg_backend_pid()"""
"""A session waits for a lock until it ends. With the check of its client, the server ends it when the client is gone."""

_inherited: list[psycopg.Connection[Any]] = []
"""Connections of this process's parent, kept so that nothing closes them."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection with a limit for each answer, which is closed without a warning when its thread has ended.

    Attributes:
        waits: How long the statement that it sends may wait for a lock, in seconds.
        answers: How long each other statement may take, in seconds, if that is less than ``ANSWER_SECONDS``.
        process: The process that opened it.
    """

    waits = 0.0
    answers = ANSWER_SECONDS
    process = 0

    def __del__(self, *_: object) -> None:
        """Close it, unless it is the parent's."""
        if self.process == os.getpid():
            self.close()

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for an answer. If it does not come in time, the connection is closed, as it may still come."""
        limit = min(ANSWER_SECONDS, self.answers) + self.waits if timeout is None else timeout
        began = time.monotonic()
        try:
            return waiting.wait(gen, self.pgconn.socket, interval, limit)
        except KeyboardInterrupt:
            self._cancel(gen)
            raise
        except psycopg.OperationalError:
            if time.monotonic() - began < limit:
                raise
            self.close()
            raise psycopg.errors.ConnectionTimeout("no answer in time") from None

    def _cancel(self, gen: PQGen[T]) -> None:
        """Have the server cancel a statement, which keeps the locks of the session; if it does not, close the connection."""
        try:
            if self.pgconn.transaction_status == TransactionStatus.ACTIVE:
                self.cancel_safe(timeout=_CANCEL_SECONDS)
                waiting.wait(gen, self.pgconn.socket, timeout=_CANCEL_SECONDS)
        except psycopg.errors.QueryCanceled:
            pass
        except BaseException as error:
            self.close()
            if not isinstance(error, psycopg.Error):
                raise


class Link:
    """A connection, the process that opened it, and the locks that it holds.

    Attributes:
        connection: The connection, of this library's process only.
        locks: The locks that it holds, by key.
        unlocks: The keys of the locks to release as soon as the connection is not in use.
        form: The form of the tables, as far as it is known; 0: they are not known to exist.
        keeps_form: This user may not bring the tables to the present form, and writes what the older one can hold.
        user: What uses it; none if that no longer exists.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.locks: dict[int, Held] = {}
        self.unlocks: deque[int] = deque()
        self.form = 0
        self.keeps_form = False
        self.user: weakref.ref[object] | None = None
        self._taking = threading.RLock()  # a signal handler of the thread that holds it may save, too
        connection.process = os.getpid()

    @property
    def has_tables(self) -> bool:
        """Whether the tables are known to exist."""
        return self.form > 0

    @property
    def is_inherited(self) -> bool:
        """Whether it was opened by this process's parent."""
        return self.connection.process != os.getpid()

    @property
    def is_usable(self) -> bool:
        """Whether statements can be sent, as far as this process knows."""
        return not self.is_inherited and self.connection.info.transaction_status == TransactionStatus.IDLE

    def take(self, user: object) -> bool:
        """Let ``user`` have it for as long as it lives, or until it is given back; return whether it was free."""
        with self._taking:
            if self.user is not None and self.user() is not None:
                return False
            self.user = weakref.ref(user)
            return True

    def end_use(self) -> None:
        """End the use, and close the connection if that is in the middle of something, which the server undoes."""
        if not self.is_usable and not self.is_inherited:
            self.connection.close()
        self.give_back()

    def give_back(self) -> None:
        """End the use."""
        self.user = None
        self.release()

    def release(self) -> None:
        """Release the locks that wait for it, unless someone uses the connection, who does it at the end."""
        while self.unlocks and self.is_usable:
            use = _Nobody()
            if not self.take(use):
                return
            try:
                with contextlib.suppress(psycopg.Error):  # a lost connection holds no lock
                    self.connection.execute("SELECT pg_advisory_unlock($1)", (self.unlocks[0],))
                self.unlocks.popleft()
            except BaseException:  # of a signal handler, and nobody may come to release it later
                self.connection.close()
                raise
            finally:
                self.user = None

    def close(self) -> None:
        """Close the connection, unless it is the parent's."""
        if self.is_inherited:
            _inherited.append(self.connection)
        else:
            self.connection.close()


class _Nobody:
    """One use of a connection."""


class Connections:
    """The connections of one backend.

    Args:
        place: Where the store is.
        member_key: The key of the lock that marks each connection of the store, shared by them all.
        patience: The backend's.

    Attributes:
        patience: The backend's. What is open already keeps to the one with which it was opened.
        is_proven: A connection was possible once, so that a refused one is worth another try.
    """

    def __init__(self, place: Place, member_key: int, patience: float) -> None:
        self.patience = patience
        self._place = place
        self._schema = place.schema
        self._member_key = member_key
        self._mine = threading.local()
        self._all: weakref.WeakSet[Link] = weakref.WeakSet()
        self.is_proven = False

    def use(self) -> Use:
        """Return a connection of this thread that nobody uses, for a ``with`` block."""
        return Use(self)

    def take(self, use: Use) -> Link:
        """Return a connection, opened if there is none that is free.

        One that was lost is kept until its locks are taken again, so that no later attempt goes on without them.
        """
        links: list[Link] = self._mine.__dict__.setdefault("links", [])
        lost: list[Link] = []
        found: Link | None = None
        for link in tuple(links):
            if link.is_inherited:
                links.remove(link)
                link.close()
            elif link.take(use):
                if link.is_usable:
                    found = link
                    break
                link.close()
                lost.append(link)
        try:
            if found is None:
                found = self._open()
                found.take(use)
                links.append(found)
            for link in lost:
                for key, lock in tuple(link.locks.items()):
                    lock.take_again(found)
                    del link.locks[key]
                links.remove(link)
        except BaseException:  # the error's traceback keeps ``use`` alive
            for link in lost if found is None else [*lost, found]:
                link.give_back()
            raise
        return found

    def used_by(self, use: Use) -> list[Link]:
        """Return the connections of this thread that this use has."""
        links: list[Link] = self._mine.__dict__.get("links", [])
        return [link for link in links if link.user is not None and link.user() is use]

    def _open(self) -> Link:
        link = Link(self._connect())
        self._all.add(link)
        connection = link.connection
        with connection.pipeline():
            connection.execute(_NO_PATH)
            settings = connection.execute(_SETTINGS, (self._member_key,))
        rows = settings.fetchall()
        if rows[0][-1] != connection.info.backend_pid:
            self._refuse_shared_sessions(connection)
        self.is_proven = True
        link.form = tables.form_of(connection, self._schema)
        return link

    def _connect(self) -> Connection:
        """Return a new connection, made in a thread of its own: Ctrl-C does not end the lookup of the server's name."""
        answer: queue.SimpleQueue[Connection | Exception] = queue.SimpleQueue()

        def connect() -> None:
            try:
                parameters: dict[str, Any] = dict(self._place.parameters)
                answer.put(Connection.connect(**parameters, autocommit=True, cursor_factory=psycopg.RawCursor))
            except Exception as error:  # noqa: BLE001  # whoever waits gets it
                answer.put(error)

        seconds = max(self.patience, base.LEAST_ANSWER_SECONDS)
        _thread.start_new_thread(connect, ())
        try:
            made = answer.get(timeout=min(seconds, threading.TIMEOUT_MAX))
        except queue.Empty:
            raise psycopg.errors.ConnectionTimeout("no answer in time") from None
        if isinstance(made, Exception):
            try:
                raise made
            finally:
                del made  # its traceback leads back here
        made.answers = seconds
        return made

    def _refuse_shared_sessions(self, connection: Connection) -> None:
        """Raise if a pooler, which stands in between, does not keep a server's session for this client."""
        pid = "SELECT pg_backend_pid()"
        with self._connect() as other:
            try:
                seen = {connection.execute(pid).fetchall()[0] for _ in range(3)}
                with other.transaction():
                    theirs = other.execute(pid).fetchall()[0]
                    seen |= {connection.execute(pid).fetchall()[0] for _ in range(3)}
                is_shared = len(seen) > 1 or theirs in seen
            except psycopg.Error:  # not even transactions are allowed
                is_shared = True
        if is_shared:
            message = (
                f"a pooler between this client and {self._place.location} hands its sessions to others, and locks with them"
            )
            hint = "Connect to the database directly, or set the pooler's pool_mode to session for this database"
            raise LocationError(message, hint=hint)

    def migrate(self, link: Link, key: int, *, must: bool = False) -> None:
        """Make the tables if they are not there, or bring them to the present form.

        Args:
            link: A connection.
            key: The key of the lock of migrations.
            must: The present form is needed, so that it is an error if this user may not make it.
        """
        if link.form == tables.FORM or (link.keeps_form and not must):
            return
        try:
            tables.migrate(link.connection, self._schema, key)
        except psycopg.errors.InsufficientPrivilege:
            if must or not link.has_tables:
                raise
            link.keeps_form = True
        else:
            link.form = tables.FORM

    def finds_tables(self, link: Link) -> bool:
        """Return whether the tables are there, asking if they were not."""
        if not link.has_tables:
            link.form = tables.form_of(link.connection, self._schema)
        return link.has_tables

    def forget_tables(self) -> bool:
        """Forget that the tables are there; return whether that was known of a connection of this thread."""
        known = [link for link in self._mine.links if link.has_tables]
        for link in known:
            link.form = 0
        return bool(known)

    def holding(self) -> list[Link]:
        """Return the connections that hold locks."""
        return [link for link in tuple(self._all) if link.locks and link.is_usable]

    def close(self) -> None:
        """Close every connection that nobody uses."""
        for link in tuple(self._all):
            if link.take(use := _Nobody()):
                link.close()
                del use


class Use:
    """A connection for one ``with`` block."""

    _link: Link | None = None

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    def __enter__(self) -> Link:
        self._link = self._connections.take(self)
        return self._link

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.end_use()

    def abandon(self) -> None:
        """Give back what an interruption kept the block from giving back: the error's traceback keeps this use alive."""
        for link in self._connections.used_by(self):
            link.end_use()


def is_passing(error: psycopg.Error) -> bool:
    """Return whether an error may be gone a moment later: the connection was lost, or the server restarts."""
    if error.sqlstate is None:
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    return error.sqlstate in _LATER or error.sqlstate.startswith("08")


class Patience:
    """The pauses between attempts, until a deadline."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._pause = _FIRST_PAUSE

    def pause(self) -> bool:
        """Sleep, and return True; return False if the deadline has passed."""
        left = self._deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(self._pause, left))
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        return True
