"""Locks of stages in PostgreSQL: session advisory locks, which the server releases when their connection ends.

Taking the lock and looking at the stage are two statements: one alone would see the stage as it was before the wait. They
travel together, so both cost one round trip.
"""

from __future__ import annotations

import contextlib
import logging
import math
import time
from typing import TYPE_CHECKING, Any

import psycopg

from checkpoint_manager._text import printable
from checkpoint_manager.backends.postgres import look, notices
from checkpoint_manager.backends.postgres.connections import NO_TABLES, Patience, is_passing
from checkpoint_manager.backends.postgres.errors import LOCK_NOT_AVAILABLE, translated
from checkpoint_manager.backends.postgres.lock_keys import Kind
from checkpoint_manager.errors import CheckpointError, Hint, LockTimeoutError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from typing import Self

    from checkpoint_manager.backends.postgres.connections import Link
    from checkpoint_manager.backends.postgres.statements import Statements

_LOG = logging.getLogger("checkpoint_manager")
_SLICE_SECONDS = 20.0
"""How long one statement waits. While it does, the server keeps every row that was deleted since it began."""
_CANCELED = "57014"


_HOLDER = """SELECT a.pid, a.application_name, host(a.client_addr) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.mode = 'ExclusiveLock'
    AND l.classid::bigint = $1 AND l.objid::bigint = $2"""


class AdvisoryLock:
    """A lock for one ``with`` block: between the threads of this process first, then between the sessions of the server.

    Args:
        statements: The store.
        key: The key.
        inner: The lock between the threads of this process.
        stage: The stage, or None.
        timeout: How long to wait, in seconds.
        name: Which run of the stage it is the lock of.

    Attributes:
        looked: What the stage was like when the lock was taken, as rows; None: not looked.
    """

    _link: Link | None = None
    _is_noted = False

    def __init__(
        self,
        statements: Statements,
        key: int,
        inner: AbstractContextManager[object],
        stage: str | None,
        timeout: float,
        name: str = "",
    ) -> None:
        self._statements = statements
        self._key = key
        self._kind = Kind(key & 3)
        self._inner = inner
        self._stage = stage
        self._timeout = timeout
        self._name = name
        self.looked: list[tuple[Any, ...]] | None = None

    def __enter__(self) -> Self:
        deadline = time.monotonic() + self._timeout
        self._inner.__enter__()
        try:
            self._acquire(deadline)
        except BaseException:
            self.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def __del__(self) -> None:
        """Release the lock if an interruption kept the block from doing so."""
        self.release()

    def _acquire(self, deadline: float) -> None:
        patience = Patience(deadline - time.monotonic())
        while True:
            left = deadline - time.monotonic()
            use = self._statements.connections.use()
            try:
                with use as link:
                    if link.locks.get(self._key, self) is not self:  # the server would let the same session in twice
                        raise self._timed_out("this thread would wait for itself")
                    self._link = link
                    link.locks[self._key] = self
                    if self._take(link, min(max(left, 0.0), _SLICE_SECONDS)):
                        return
            except psycopg.Error as error:
                failure = error
                if self._link is not None:  # the next attempt takes it, and not also who finds that the connection was lost
                    self._link.locks.pop(self._key, None)
                    self._link = None
            except BaseException:
                use.abandon()
                raise
            else:
                raise self._timed_out()
            self._go_on_after(failure, left, patience)

    def _go_on_after(self, failure: psycopg.Error, left: float, patience: Patience) -> None:
        """Return if another attempt makes sense, after a pause where the connection was lost; raise otherwise.

        Args:
            failure: What the attempt met.
            left: How long the lock might have been waited for when the attempt began, in seconds.
            patience: The pauses.
        """
        connections = self._statements.connections
        if failure.sqlstate in NO_TABLES and connections.forget_tables():
            return
        if failure.sqlstate == LOCK_NOT_AVAILABLE and left > _SLICE_SECONDS:
            return
        if failure.sqlstate == LOCK_NOT_AVAILABLE:
            raise self._timed_out()
        if failure.sqlstate == _CANCELED:
            raise self._timed_out("the server cancelled the wait, as statement_timeout or its administrator asks") from failure
        if not (is_passing(failure) and connections.is_proven and patience.pause()):
            raise translated(failure, "lock", self._statements.location, self._stage) from failure

    def _take(self, link: Link, seconds: float) -> bool:
        """Take the lock and look, in one round trip; return whether it was free."""
        connection = link.connection
        milliseconds = math.ceil(seconds * 1000)
        looks = self._kind == Kind.WRITE and self._stage is not None and link.has_tables
        connection.waits = seconds
        try:
            with connection.pipeline():
                if milliseconds:
                    connection.execute("SELECT set_config('lock_timeout', $1, true)", (str(milliseconds),))
                    taken = connection.execute("SELECT true FROM pg_advisory_lock($1)", (self._key,))
                else:
                    taken = connection.execute("SELECT pg_try_advisory_lock($1)", (self._key,))
                asked = look.send(self._statements, connection, self._stage) if looks else None
            if taken.fetchall() != [(True,)]:
                return False
            self.looked = None if asked is None else asked.fetchall()
        except psycopg.Error:
            if link.is_usable:  # the session may have the lock, for only the look failed
                with contextlib.suppress(psycopg.Error):
                    connection.execute("SELECT pg_advisory_unlock($1)", (self._key,))
            raise
        finally:
            connection.waits = 0.0
        return True

    def take_again(self, link: Link) -> None:
        """Take the lock on another connection, after its own was lost.

        Raises:
            LockTimeoutError, psycopg.Error: It is not possible in time.
        """
        try:
            is_taken = self._take(link, 0.0 if self._kind == Kind.RUN else min(self._timeout, _SLICE_SECONDS))
        except psycopg.errors.LockNotAvailable:
            is_taken = False
        if is_taken:
            self._link, self.looked = link, None
            link.locks[self._key] = self
        elif self._kind == Kind.RUN:  # what the run computes is saved all the same
            whose = printable(self._stage or "")
            _LOG.warning("The lock of the run of stage %s was lost with its connection, and another process has it", whose)
        else:
            raise self._timed_out("it was lost with its connection")

    def _timed_out(self, why: str = "") -> LockTimeoutError:
        nameless = "the store" if self._kind == Kind.STORE else "a stage"
        whose = nameless if self._stage is None else f"stage {printable(self._stage)}"
        holder = self._holder()
        message = f"{whose} in {self._statements.location} is locked by {holder}{f': {why}' if why else ''}"
        return LockTimeoutError(message, hint=Hint.WAIT_FOR_LOCK, stage=self._stage, holder=holder)

    def _holder(self) -> str:
        """Return who holds the lock, as far as the server tells."""
        unsigned = self._key % 2**64
        try:
            with self._statements.connections.use() as link:
                rows = link.connection.execute(_HOLDER, (unsigned >> 32, unsigned & 0xFFFFFFFF)).fetchall()
        except psycopg.Error:
            rows = []
        if not rows:
            return "another session of the database"
        pid, application, host = rows[0]
        return f"session {pid} of the database ({', '.join(printable(str(each)) for each in (application, host) if each)})"

    def write_notice(self, notice: bytes) -> None:
        """Note what its holder tells others."""
        self._is_noted = True
        notices.write(self._statements, self._stage or "", self._name, notice)

    def release(self) -> None:
        """Release the lock, if it is held. A connection that is lost released it."""
        link, self._link = self._link, None
        if self._is_noted and link is not None and not link.is_inherited:
            self._is_noted = False
            with contextlib.suppress(CheckpointError):  # one that is left is not shown, and the next run replaces it
                notices.remove(self._statements, self._stage or "", self._name)
        if link is not None and link.locks.pop(self._key, None) is not None and not link.is_inherited:
            if link.connection.closed and self._kind == Kind.RUN:
                _LOG.warning("The lock of the run of stage %s was lost with its connection", printable(self._stage or ""))
            link.unlocks.append(self._key)
            link.release()
        self._inner.__exit__(None, None, None)
