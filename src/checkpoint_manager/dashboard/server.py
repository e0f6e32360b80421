"""Listening: on a loopback address or a unix socket, or elsewhere with TLS; and ending what is slow.

Uvicorn answers, and would wait for a slow client without end. This module ends a connection whose request is not whole after
``REQUEST_SECONDS``, and one whose client reads nothing of its answer for ``ANSWER_SECONDS``. It waits without waking up: while
nobody asks for anything, this process does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from checkpoint_manager._text import printable
from checkpoint_manager.errors import ArgumentError, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from starlette.types import ASGIApp

DEFAULT_PORT = 8710
REQUEST_SECONDS = 10.0
"""How long a request may take to arrive."""
ANSWER_SECONDS = 30.0
"""How long an answer may wait for its reader."""
_MAX_HEADER_BYTES = 16 * 1024
_MOST_CONNECTIONS = 200
_LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Certificate:
    """The files of a certificate and its key, for TLS."""

    certificate: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where the dashboard listens.

    Attributes:
        listener: The socket, bound.
        address: The start of its URLs, such as ``http://127.0.0.1:8710``; for a unix socket, that of a forwarded port.
        is_own: Returns whether a ``Host``, in lower case, is one of this server.
        certificate: For TLS.
    """

    listener: socket.socket
    address: str
    is_own: Callable[[str], bool]
    certificate: Certificate | None = None


def on_loopback(port: int | None) -> Place:
    """Listen on the loopback address.

    Args:
        port: The port; None: ``DEFAULT_PORT``, or any that is free if that one is taken.

    Raises:
        StorageError: The port is taken, or the operating system refused.
    """
    try:
        listener = _bound(_LOOPBACK, DEFAULT_PORT if port is None else port)
    except OSError as error:
        if port is not None or error.errno != errno.EADDRINUSE:
            raise _refused(f"port {port} of {_LOOPBACK}", error, "Choose another one with --port") from None
        listener = _bound(_LOOPBACK, 0)
    number = listener.getsockname()[1]
    hosts = frozenset({f"{_LOOPBACK}:{number}", f"localhost:{number}"})
    return Place(listener, f"http://{_LOOPBACK}:{number}", hosts.__contains__)


def elsewhere(address: str, port: int, names: tuple[str, ...], certificate: Certificate | None) -> Place:
    """Listen on an address that other hosts reach, with TLS.

    Args:
        address: The address to listen on, such as ``0.0.0.0``.
        port: The port.
        names: The names by which browsers ask for this server.
        certificate: For TLS.

    Raises:
        ArgumentError: There is no certificate, or no name.
        StorageError: The operating system refused.
    """
    if certificate is None:
        message = "an address that other hosts reach needs TLS"
        raise ArgumentError(
            message, hint="Give the certificate with --tls-cert and its key with --tls-key, or leave out --listen"
        )
    with contextlib.suppress(ValueError):
        if not ipaddress.ip_address(address).is_unspecified:
            names = (*names, address)
    if not names:
        message = "the name by which browsers ask for this server is not known"
        raise ArgumentError(message, hint="Give its name with --host-name", argument="names")
    try:
        listener = _bound(address, port)
    except OSError as error:
        raise _refused(f"port {port} of {printable(address)}", error, "Choose another one with --listen and --port") from None
    number = listener.getsockname()[1]
    shown = [f"[{name}]" if ":" in name else name.lower() for name in names]
    hosts = {f"{name}:{number}" for name in shown} | ({*shown} if number == 443 else set())
    return Place(listener, f"https://{shown[0]}:{number}", hosts.__contains__, certificate)


def on_unix_socket(path: str) -> Place:
    """Listen on a unix socket that only this user can open. A browser reaches it by a port that SSH forwards to it.

    Raises:
        StorageError: Something else is there, another process listens there, or the operating system refused.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)  # from its first moment on; nothing else runs yet
    try:
        _remove_stale(path)
        listener.bind(path)
    except OSError as error:
        listener.close()
        raise _refused(f"the socket {printable(path)}", error, "Choose another path with --unix") from None
    finally:
        os.umask(before)
    return Place(listener, "http://localhost", _is_loopback)


def _is_loopback(host: str) -> bool:
    """Return whether a host is the loopback address, with any port: which one is forwarded to a unix socket is not known."""
    name, _, port = host.partition(":")
    return name in {_LOOPBACK, "localhost"} and (not port or (port.isdecimal() and port.isascii()))


def _remove_stale(path: str) -> None:
    """Remove a socket of a process that has ended."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "a file is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _bound(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_MOST_CONNECTIONS)
    except BaseException:
        listener.close()
        raise
    return listener


def _refused(what: str, error: OSError, hint: str) -> StorageError:
    return StorageError(f"{what} can't be listened on: {error.strerror or error}", hint=hint, errno=error.errno)


class _Deadline:
    """Ends a connection, unless it is stopped in time."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport) -> None:
        """Begin to count, unless it has begun."""
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._seconds, _reset, transport)

    def stop(self) -> None:
        """Count no longer."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None


def _reset(transport: asyncio.Transport) -> None:
    """End a connection at once: the operating system, too, forgets what nobody has read."""
    connection = transport.get_extra_info("socket")
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class _Protocol(H11Protocol):
    """HTTP/1.1 with an end for what is slow."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        """Expect a request."""
        self._slow, self._unread = _Deadline(REQUEST_SECONDS), _Deadline(ANSWER_SECONDS)
        super().connection_made(transport)
        self._slow.start(transport)

    def data_received(self, data: bytes) -> None:
        """Go on counting until the request is whole."""
        super().data_received(data)
        if self.conn.their_state in {h11.IDLE, h11.SEND_BODY}:
            self._slow.start(self.transport)
        else:
            self._slow.stop()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count no longer."""
        self._slow.stop()
        self._unread.stop()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Expect that the answer is read on."""
        super().pause_writing()
        self._unread.start(self.transport)

    def resume_writing(self) -> None:
        """Count no longer."""
        self._unread.stop()
        super().resume_writing()


class _Server(uvicorn.Server):
    """Uvicorn's server, which waits for its end instead of looking for it ten times a second."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()
        self._tell = started
        self._loop: asyncio.AbstractEventLoop | None = None

    async def main_loop(self) -> None:
        """Wait for a signal."""
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        self._tell()
        if not self.should_exit:
            await self._ended.wait()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End."""
        super().handle_exit(sig, frame)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._ended.set)


def serve(app: ASGIApp, place: Place, started: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM, which end the process as they always do.

    Args:
        app: The application.
        place: Where.
        started: Called once requests are answered.
    """
    logging.getLogger("uvicorn").setLevel(logging.CRITICAL)  # the application logs what matters
    options: dict[str, Any] = {}
    if place.certificate is not None:
        options = {"ssl_certfile": place.certificate.certificate, "ssl_keyfile": place.certificate.key}
    config = uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        h11_max_incomplete_event_size=_MAX_HEADER_BYTES,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=int(REQUEST_SECONDS),
        timeout_graceful_shutdown=1,
        **options,
    )
    with _removed_at_the_end(place.listener):
        _Server(config, started).run(sockets=[place.listener])


@contextlib.contextmanager
def _removed_at_the_end(listener: socket.socket) -> Iterator[None]:
    """Remove the file of a unix socket."""
    path = listener.getsockname() if listener.family == socket.AF_UNIX else None
    try:
        yield
    finally:
        if isinstance(path, str):
            with contextlib.suppress(OSError):
                os.unlink(path)
