"""A TCP proxy between a client and a server: it counts round trips, delays answers, and loses them."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Proxy:
    """A proxy on a free port of this host, for a ``with`` block.

    Args:
        port: The server's port.
        delay: How long each answer takes, in seconds: what a round trip costs more.
        host: The server's host.

    Attributes:
        port: Where to connect instead.
        delay: As given; may be changed.
        round_trips: How often a client sent something after it was answered.
        is_silent: Answers are kept back, for ever.
        loses: Called with what a client sent; if true, the answer to it is lost, and the connection with it.
    """

    def __init__(self, port: int, delay: float = 0.0, host: str = "127.0.0.1") -> None:
        self._server = host, port
        self.delay = delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._sockets: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])
        self.round_trips = 0
        self.is_silent = False
        self._is_away = False
        self.loses: Callable[[bytes], bool] = lambda _: False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Cut every connection."""
        for each in tuple(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def away(self, seconds: float) -> Iterator[None]:
        """Be away for so long, or until the ``with`` block ends, as a server that restarts."""
        self._is_away = True
        self.cut()
        back = threading.Timer(seconds, setattr, (self, "_is_away", False))
        back.start()
        yield
        back.cancel()
        self._is_away = False

    def _accept(self) -> None:
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            if self._is_away:
                client.close()
                continue
            try:
                server = socket.create_connection(self._server)
            except OSError:
                client.close()
                continue
            for each in (client, server):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.add(each)
            pair = _Pair(client, server)
            threading.Thread(target=self._ask, args=(pair,), daemon=True).start()
            threading.Thread(target=self._answer, args=(pair,), daemon=True).start()

    def _ask(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while sent := pair.client.recv(1 << 20):
                if pair.is_answered:
                    pair.is_answered = False
                    self.round_trips += 1
                pair.is_lost = pair.is_lost or self.loses(sent)
                pair.server.sendall(sent)
        self._end(pair)

    def _answer(self, pair: _Pair) -> None:
        with contextlib.suppress(OSError):
            while answer := pair.server.recv(1 << 20):
                if pair.is_lost:
                    break
                if self.is_silent:
                    continue
                if not pair.is_answered:
                    pair.is_answered = True
                    time.sleep(self.delay)
                pair.client.sendall(answer)
        self._end(pair)

    def _end(self, pair: _Pair) -> None:
        for each in (pair.client, pair.server):
            self._sockets.discard(each)
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class _Pair:
    """A client's connection, and the one to the server that stands for it."""

    is_answered = True
    is_lost = False

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
