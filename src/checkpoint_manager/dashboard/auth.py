"""Who may do what: links that work once, sessions, roles, and the token of each form.

A token has 256 random bits, and is exchanged once for a session, whose cookie has 256 bits of its own. Only their digests are
kept, all of which are compared each time, each in constant time. Tries are limited. Nothing here is written anywhere: when the
process ends, all links and sessions end.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_TOKEN_BYTES = 32
LINK_SECONDS = 3600.0
"""How long a link works that nobody has used."""
IDLE_SECONDS, SESSION_SECONDS = 4 * 3600.0, 24 * 3600.0
"""How long a session lasts without a request, and at all."""
MOST_TRIES, TRIES_SECONDS = 10, 60.0
"""After so many refused tokens in so many seconds, every token is refused until the oldest of them is that old."""
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
    """Too many tokens were refused of late. ``seconds`` says when the next one is looked at."""

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
        notice: What the next page says, once.
        revealed: The versions whose data it has asked for, by store, stage and number.
    """

    number: int
    role: Role
    form_token: str = field(repr=False)
    digest: bytes = field(repr=False)
    began: float
    seen: float
    notice: str = ""
    revealed: set[tuple[str, str, int]] = field(default_factory=set)

    def reveal(self, store: str, stage: str, version: int) -> None:
        """Note that the data of a version was asked for."""
        if len(self.revealed) >= _MOST_REVEALED:
            self.revealed.clear()
        self.revealed.add((store, stage, version))

    def owns(self, form_token: str) -> bool:
        """Return whether a form is one of this session."""
        return hmac.compare_digest(self.form_token.encode(), form_token.encode())


class Logins:
    """The links that were made, and the sessions that they began.

    Args:
        clock: Returns seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._links: dict[bytes, tuple[Role, float]] = {}
        self._sessions: dict[bytes, Session] = {}
        self._refused: deque[float] = deque()
        self._number = 0

    def new_token(self, role: Role) -> str:
        """Return a token that begins one session."""
        self._forget()
        if len(self._links) >= _MOST_LINKS:
            del self._links[next(iter(self._links))]
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        self._links[_digest(token)] = role, self._clock() + LINK_SECONDS
        return token

    def log_in(self, token: str) -> tuple[Session, str] | None:
        """Return a new session and its cookie; None if the token is not known, was used or is too old.

        Raises:
            TooManyTriesError: Nothing is looked at now.
        """
        self._forget()
        now = self._clock()
        if len(self._refused) >= MOST_TRIES:
            raise TooManyTriesError(self._refused[0] + TRIES_SECONDS - now)
        found = _find(token, self._links)
        if found is None:
            self._refused.append(now)
            return None
        role, _ = self._links.pop(found)
        if len(self._sessions) >= _MOST_SESSIONS:
            del self._sessions[min(self._sessions.values(), key=lambda each: each.seen).digest]
        cookie = secrets.token_urlsafe(_TOKEN_BYTES)
        self._number += 1
        session = Session(self._number, role, secrets.token_urlsafe(_TOKEN_BYTES), _digest(cookie), now, now)
        self._sessions[session.digest] = session
        return session, cookie

    def session(self, cookie: str) -> Session | None:
        """Return the session of a cookie, or None."""
        self._forget()
        found = _find(cookie, self._sessions)
        if found is None:
            return None
        session = self._sessions[found]
        session.seen = self._clock()
        return session

    def log_out(self, session: Session) -> None:
        """End a session."""
        self._sessions.pop(session.digest, None)

    def _forget(self) -> None:
        """Forget what is too old."""
        now = self._clock()
        while self._refused and self._refused[0] + TRIES_SECONDS <= now:
            self._refused.popleft()
        self._links = {digest: link for digest, link in self._links.items() if link[1] > now}
        self._sessions = {
            digest: each
            for digest, each in self._sessions.items()
            if each.seen + IDLE_SECONDS > now and each.began + SESSION_SECONDS > now
        }


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode(errors="surrogatepass")).digest()


def _find(secret: str, known: dict[bytes, object] | dict[bytes, tuple[Role, float]] | dict[bytes, Session]) -> bytes | None:
    """Return the digest of a secret if it is known. Each is compared, and in constant time."""
    digest, found = _digest(secret), None
    for each in known:
        if hmac.compare_digest(each, digest):
            found = each
    return found
