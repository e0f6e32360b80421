"""Leases: locks between hosts, made of one object each that its holder renews.

Put-if-absent decides who takes a free one. A holder writes its object again every few seconds by compare-and-set. Whoever
waits watches the object, and takes it over if it has not changed for ``LEASE_SECONDS``. So the clocks of two hosts are never
compared: each host measures for how long *it* has seen nothing change. A holder that could not renew its lease says that it is
lost before another one can take it over.

A lease keeps work from being done twice. It does not protect data: a holder may be suspended at any moment, and go on when
another one has taken over.
"""

from __future__ import annotations

import _thread
import base64
import json
import os
import queue
import secrets
import time
import weakref
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from checkpoint_manager._text import printable
from checkpoint_manager.errors import CheckpointError, Hint, LockTimeoutError, StorageError

if TYPE_CHECKING:
    from typing import Self

    from checkpoint_manager.backends.base import Purpose
    from checkpoint_manager.backends.object_store.objects import Objects
    from checkpoint_manager.backends.process_locks import ProcessLock

LEASE_SECONDS = 30.0
"""How long a lease must not change before another one takes it over."""
_RENEW_SECONDS = 5.0
_SAFE_SECONDS = 20.0
"""For how long after a renewal began its holder counts on the lease; the rest is for what is on its way."""
_FIRST_PAUSE, _LONGEST_PAUSE, _SHARE_OF_WAIT = 0.02, 1.0, 0.1
MAX_LEASE_BYTES = 32 * 1024
"""How much of a lease is read. A planted one may be longer."""


def now() -> float:
    """Return seconds of a clock that nobody sets, and that goes on while the host is suspended where there is one."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class Watched(NamedTuple):
    """What this process has last seen of a lease, and since when."""

    stamp: dict[str, str]
    since: float


class HeldLease:
    """A lock of a run, for one ``with`` block; see :class:`~checkpoint_manager.backends.base.Lease`.

    Args:
        objects: Where it is kept.
        key: The name of its object.
        within: The lock between the threads of this process, taken first.
        stage: The stage.
        timeout: How long to wait, in seconds.
        watched: What this process has seen of leases, by key.
    """

    def __init__(
        self,
        objects: Objects,
        key: str,
        within: ProcessLock,
        stage: str | None,
        timeout: float,
        watched: dict[str, Watched],
    ) -> None:
        self._objects = objects
        self._key = key
        self._within = within
        self._stage = stage
        self._timeout = timeout
        self._watched = watched
        self._process = os.getpid()
        self._stamp: dict[str, str] | None = None
        self._renewed = 0.0
        self._lost = ""
        self._notice = b""
        self._unanswered: set[bytes] = set()
        self._orders: queue.SimpleQueue[Literal["renew", "end"]] = queue.SimpleQueue()

    @property
    def lost(self) -> str:
        """Why it is no longer held, as a clause; empty while it is."""
        if not self._lost and self._stamp is not None and now() - self._renewed > _SAFE_SECONDS:
            return f"its lease could not be renewed for {now() - self._renewed:.0f} s"
        return self._lost

    def __enter__(self) -> Self:
        """Wait for the lease, and renew it from then on.

        Raises:
            LockTimeoutError: Another one held it for so long.
        """
        began = now()
        deadline = began + self._timeout
        self._within.__enter__()
        try:
            while not self._take():
                waited = now() - began
                if now() >= deadline:
                    raise self._held_by_another()
                time.sleep(min(max(_FIRST_PAUSE, waited * _SHARE_OF_WAIT), _LONGEST_PAUSE, max(0.0, deadline - now())))
            reference: weakref.ref[HeldLease] = weakref.ref(self)
            _thread.start_new_thread(_renew, (reference, self._orders))
        except BaseException:
            self._within.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back. Trouble with that is passed over: the lease ends by itself."""
        stamp, self._stamp = self._stamp, None
        self._orders.put("end")
        try:
            is_mine = stamp is not None and self._process == os.getpid() and not self._lost
            if is_mine and (now() - self._renewed < _SAFE_SECONDS or self._objects.change(self._key, b"{}", stamp or {})):
                self._objects.remove(self._key)  # nobody has taken it over yet, or does so before this arrives
        except StorageError:
            pass
        finally:
            self._within.__exit__()

    def write_notice(self, notice: bytes) -> None:
        """Keep a notice for the next renewal to write. The renewal for the first one begins at once."""
        is_first, self._notice = not self._notice, notice
        if is_first:
            self._orders.put("renew")

    def renew(self) -> None:
        """Write the object again; note it if the lease is another's."""
        stamp, began, content = self._stamp, now(), _content(self._notice)
        if stamp is None:
            return
        try:
            changed = self._objects.change(self._key, content, stamp)
            if changed is None:
                found = self._objects.beginning(self._key, MAX_LEASE_BYTES)
                if found is not None and found.data in self._unanswered:  # the answer was lost
                    changed = self._objects.change(self._key, content, found.stamp)
        except CheckpointError:  # the next attempt may succeed
            self._unanswered.add(content)
            return
        if changed is not None:
            self._stamp, self._renewed = changed, began
            self._unanswered.clear()
        elif self._stamp is not None:
            self._lost = "its lease was taken over by another process"

    def _take(self) -> bool:
        """Take the lease if it is free, or if it has not changed for long enough."""
        began = now()
        stamp = self._objects.create(self._key, _content(b""))
        if stamp is None:
            found = self._objects.beginning(self._key, MAX_LEASE_BYTES)
            if found is None:
                return False  # it was given back just now
            watched = self._watched.get(self._key)
            if watched is None or watched.stamp != found.stamp:
                self._watched[self._key] = Watched(found.stamp, now())
                return False
            if now() - watched.since < LEASE_SECONDS:
                return False
            began = now()
            stamp = self._objects.change(self._key, _content(b""), found.stamp)
        if stamp is not None:
            self._watched.pop(self._key, None)
            self._stamp, self._renewed = stamp, began
        return stamp is not None

    def _held_by_another(self) -> LockTimeoutError:
        found = self._objects.beginning(self._key, MAX_LEASE_BYTES)
        holder = None if found is None else _holder(found.data)
        whose = "the store" if self._stage is None else f"stage {printable(self._stage)}"
        message = f"{whose} is locked by {holder or 'another process'}"
        return LockTimeoutError(message, hint=Hint.WAIT_FOR_LOCK, stage=self._stage, holder=holder)


def stage_file_of(key: str) -> str | None:
    """Return the name of the file of the stage whose lock has this name below ``leases``; None: it is no name of a lock."""
    file, _, name = key.partition("/")
    return file if name and "/" not in name else None


def lease_key(stage_file: str, purpose: Purpose, name: str) -> str:
    """Return the name of the object of a lock."""
    return f"leases/{stage_file}/{name or purpose}"


def _renew(reference: weakref.ref[HeldLease], orders: queue.SimpleQueue[Literal["renew", "end"]]) -> None:
    """Renew a lease until it ends, or nothing refers to it any more."""
    while True:
        try:
            if orders.get(timeout=_RENEW_SECONDS) == "end":
                return
        except queue.Empty:
            pass
        lease = reference()
        if lease is None or lease._lost:  # noqa: SLF001
            return
        lease.renew()
        del lease


def _content(notice: bytes) -> bytes:
    """Return the content of a lease: its holder, its notice, and a random number, so that each renewal changes it."""
    told = {"process": os.getpid(), "host": os.uname().nodename, "beat": secrets.token_hex(16)}
    return json.dumps({**told, "notice": base64.b64encode(notice).decode()} if notice else told).encode()


def notice_of(data: bytes) -> bytes | None:
    """Return the notice in the content of a lease; None if there is none."""
    notice = _fields(data).get("notice")
    try:
        return base64.b64decode(notice, validate=True) if type(notice) is str else None
    except ValueError:
        return None


def _holder(data: bytes) -> str | None:
    """Return the holder as an error names it: a process of this host as ``process N``."""
    fields = _fields(data)
    process, host = fields.get("process"), fields.get("host")
    if type(process) is not int or type(host) is not str:
        return None
    return f"process {process}" if host == os.uname().nodename else f"process {process} on {printable(host)}"


def _fields(data: bytes) -> dict[str, Any]:
    """Return what the content of a lease says. Anyone who can write to the bucket may have written it."""
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return fields if type(fields) is dict else {}
