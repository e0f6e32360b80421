"""A server that accepts connections and does not answer: it is waited for as long as asked, and Ctrl-C ends the wait."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, StorageError
from checkpoint_manager.backends.postgres import connections
from checkpoint_manager.backends.registry import open_backend
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = bytes(32)
URLS = [
    "postgresql://me:pa55@{}/x",
    "s3://bucket/x?endpoint=http://{}",
    "gs://bucket/x?endpoint=http://{}",
    "az://container/x?account=lab&endpoint=http://{}/lab",
]


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return the listening socket of a server that does not answer."""
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", "token")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "a2V5")
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def address(server: socket.socket) -> str:
    return f"127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("url", URLS)
def test_a_server_that_never_answers_is_an_error_in_time(url: str, silent: socket.socket) -> None:
    with pytest.raises(
        StorageError, match=rf"^can't .*{address(silent)}.*: no answer in time\. Check that the server"
    ) as caught:
        CheckpointManager(url.format(address(silent)), key=KEY, lock_timeout=0.05)
    assert "pa55" not in str(caught.value)


@pytest.mark.parametrize("url", URLS)
def test_ctrl_c_ends_the_wait_for_the_first_answer(url: str, silent: socket.socket) -> None:
    def interrupt() -> None:
        with silent.accept()[0]:
            os.kill(os.getpid(), signal.SIGINT)
            ended.wait(10)

    ended = threading.Event()
    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        CheckpointManager(url.format(address(silent)), key=KEY)
    ended.set()


@pytest.mark.usefixtures("impatient")
def test_the_name_of_a_server_that_is_looked_up_for_long_is_an_error_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name server that does not answer is waited for in C, where no signal is heard."""
    found = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found.wait(10) and [])
    with pytest.raises(StorageError, match=r"can't open the database: .*@db:5432/x.*: no answer in time"):
        open_backend("postgresql://me@db/x", patience=0.05)
    found.set()


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_falls_silent_is_an_error_in_time(postgres_port: int, postgres_url: str) -> None:
    with Proxy(postgres_port) as proxy:
        cm = CheckpointManager(postgres_url.replace(f":{postgres_port}/", f":{proxy.port}/"), key=KEY, lock_timeout=0.1)
        with cm:
            cm.save_checkpoint("train", 1)
            proxy.is_silent = True
            for act in (lambda: cm.load_checkpoint("train"), lambda: cm.save_checkpoint("train", 2)):
                with pytest.raises(StorageError, match="no answer in time"):
                    act()


def test_ctrl_c_ends_the_wait_for_a_connection_that_fell_silent(
    postgres_port: int, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is asked to cancel the statement first, and does not answer that either."""
    monkeypatch.setattr(connections, "_CANCEL_SECONDS", 0.05)
    with Proxy(postgres_port) as proxy:
        cm = CheckpointManager(postgres_url.replace(f":{postgres_port}/", f":{proxy.port}/"), key=KEY)
        with cm:
            cm.save_checkpoint("train", 1)
            proxy.is_silent = True
            asked = proxy.round_trips

            def interrupt() -> None:
                while proxy.round_trips == asked:
                    time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGINT)

            threading.Thread(target=interrupt, daemon=True).start()
            with pytest.raises(KeyboardInterrupt):
                cm.load_checkpoint("train")
