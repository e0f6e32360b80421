"""Who may do what: links that work once, sessions, roles, and the token of each form.

A token has 256 random bits, and is exchanged once for a session, whose cookie has 256 bits of its own. Only their digests
are kept; a secret is compared with each of them, in constant time. Wrong tokens are limited. A link that a session makes ends
with that session, and so do the sessions that such links begin. Nothing here is written anywhere: when the process ends, all
links and sessions end.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TOKEN_BYTES = 32
LINK_SECONDS = 3600.0
"""How long a link works that nobody has used."""
IDLE_SECONDS, SESSION_SECONDS = 4 * 3600.0, 24 * 3600.0
"""How long a session lasts without a request, and at all."""
MOST_TRIES, TRIES_SECONDS = 10, 60.0
"""After so many wrong tokens in so many seconds, another wrong one is told to wait until the oldest is that old."""
_MOST_SESSIONS, _MOST_LINKS, _MOST_REVEALED = 100, 100, 1000


@dataclass(frozen=True, slots=True)
class Role:
    """What a session may do beyond seeing metadata.

    Attributes:
        read: Reveal data.
        change: Restore, clear, tag, prune and verify.
    """

    read: bool = False
    change: bool = False

    def __str__(self) -> str:
        more = [name for name, is_granted in (("read data", self.read), ("make changes", self.change)) if is_granted]
        return " and ".join(["see metadata", *more]) if len(more) < 2 else "see metadata, read data and make changes"

    def __and__(self, other: Role) -> Role:
        """Return what both may do."""
        return Role(self.read and other.read, self.change and other.change)


class TooManyTriesError(Exception):
    """The token is wrong, after too many wrong ones. ``seconds`` says how long to wait before the next one."""

    def __init__(self, seconds: float) -> None:
        super().__init__("too many tries")
        self.seconds = seconds


@dataclass(slots=True, eq=False)
class Session:
    """One browser that has logged in.

    Attributes:
        number: What the log calls it.
        role: What it may do.
        form_token: What each of its forms carries, so that no other site can send them.
        maker: The session that made its link, with which it ends; None if the dashboard did.
        has_ended: Whether it logged out.
        notice: What the next page says, once.
        revealed: The versions whose data it has asked for, by store, stage and number.
    """

    number: int
    role: Role
    form_token: str = field(repr=False)
    digest: bytes = field(repr=False)
    began: float
    seen: float
    maker: Session | None = None
    has_ended: bool = False
    notice: str = ""
    revealed: set[tuple[str, str, int]] = field(default_factory=set)

    def reveal(self, store: str, stage: str, version: int) -> None:
        """Note that the data of a version was asked for."""
        if len(self.revealed) >= _MOST_REVEALED:
            self.revealed.clear()
        self.revealed.add((store, stage, version))

    def is_over(self, now: float) -> bool:
        """Return whether it has ended, by itself or with the session that made its link."""
        is_old = self.seen + IDLE_SECONDS <= now or self.began + SESSION_SECONDS <= now
        return self.has_ended or is_old or (self.maker is not None and self.maker.is_over(now))

    def owns(self, form_token: str) -> bool:
        """Return whether a form is one of this session."""
        return hmac.compare_digest(self.form_token.encode(), form_token.encode())


@dataclass(frozen=True, slots=True)
class _Link:
    """A link that nobody has used.

    Attributes:
        role: What its session may do.
        until: When it ends.
        maker: The session that made it, with which it ends; None if the dashboard did.
    """

    role: Role
    until: float
    maker: Session | None

    def is_over(self, now: float) -> bool:
        return self.until <= now or (self.maker is not None and self.maker.is_over(now))


class Logins:
    """The links that were made, and the sessions that they began. Threads may share it.

    Args:
        clock: Returns seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._links: dict[bytes, _Link] = {}
        self._sessions: dict[bytes, Session] = {}
        self._refused: deque[float] = deque()
        self._number = 0

    def new_token(self, role: Role, maker: Session | None = None) -> str:
        """Return a token that begins one session, which ends with the one that made the token."""
        with self._lock:
            now = self._forget()
            if len(self._links) >= _MOST_LINKS:
                del self._links[next(iter(self._links))]
            token = secrets.token_urlsafe(_TOKEN_BYTES)
            self._links[_digest(token)] = _Link(role, now + LINK_SECONDS, maker)
            return token

    def log_in(self, token: str) -> tuple[Session, str] | None:
        """Return a new session and its cookie; None if the token is not known, was used or is too old.

        Raises:
            TooManyTriesError: The token is wrong, after too many wrong ones.
        """
        with self._lock:
            now = self._forget()
            found = _find(token, self._links)
            if found is None and len(self._refused) >= MOST_TRIES:
                raise TooManyTriesError(self._refused[0] + TRIES_SECONDS - now)
            if found is None:
                self._refused.append(now)
                return None
            link = self._links.pop(found)
            if len(self._sessions) >= _MOST_SESSIONS:
                oldest = min(self._sessions.values(), key=lambda each: each.seen)
                oldest.has_ended = True
                self._forget()
            cookie = secrets.token_urlsafe(_TOKEN_BYTES)
            self._number += 1
            form_token = secrets.token_urlsafe(_TOKEN_BYTES)
            session = Session(self._number, link.role, form_token, _digest(cookie), now, now, link.maker)
            self._sessions[session.digest] = session
            return session, cookie

    def session(self, cookie: str, *, is_used: bool = True) -> Session | None:
        """Return the session of a cookie, or None.

        Args:
            cookie: The cookie.
            is_used: Whether somebody uses it, and not only a page that was left open.
        """
        with self._lock:
            now = self._forget()
            found = _find(cookie, self._sessions)
            if found is None:
                return None
            session = self._sessions[found]
            if is_used:
                session.seen = now
            return session

    def log_out(self, session: Session) -> None:
        """End a session, its links, and the sessions that they began."""
        with self._lock:
            session.has_ended = True
            self._forget()

    def _forget(self) -> float:
        """Forget what has ended, and return the time."""
        now = self._clock()
        while self._refused and self._refused[0] + TRIES_SECONDS <= now:
            self._refused.popleft()
        self._links = {digest: link for digest, link in self._links.items() if not link.is_over(now)}
        self._sessions = {digest: each for digest, each in self._sessions.items() if not each.is_over(now)}
        return now


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _find(secret: str, known: Iterable[bytes]) -> bytes | None:
    """Return the digest of a secret if it is known. Each is compared, and in constant time."""
    digest, found = _digest(secret), None
    for each in known:
        if hmac.compare_digest(each, digest):
            found = each
    return found
