"""The dashboard on real sockets: where it listens, that slow and huge requests end, and that it rests when nobody asks."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import ssl
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import ArgumentError, CheckpointManager, StorageError
from checkpoint_manager.dashboard import server
from checkpoint_manager.dashboard.server import Certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IMPATIENT = """
import sys
from checkpoint_manager.dashboard import server
server.REQUEST_SECONDS, server.ANSWER_SECONDS = 0.4, 0.4
from checkpoint_manager.cli import main
sys.exit(main())
"""


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[subprocess.Popen[str], str]]]:
    """Return what starts the command, with less patience, and returns its process and its first link."""
    store = tmp_path / "store"
    CheckpointManager(store).save_checkpoint("train", "x" * 3_000_000)
    with contextlib.ExitStack() as stack:

        def start(*options: str) -> tuple[subprocess.Popen[str], str]:
            command = [sys.executable, "-c", IMPATIENT, "dashboard", "--store", str(store), "--no-browser", "--json", *options]
            log = stack.enter_context((tmp_path / "log").open("w"))
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
            stack.callback(process.wait, 20)
            stack.callback(process.kill)
            assert process.stdout is not None
            stack.callback(process.stdout.close)
            line = process.stdout.readline()
            assert line, (tmp_path / "log").read_text()
            return process, json.loads(line)["links"][0]["url"]

        yield start


def ended(connection: socket.socket) -> bool:
    """Return whether the other side ends a connection."""
    connection.settimeout(20)
    try:
        while connection.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


@pytest.mark.children_measured
def test_slow_and_huge_requests_end_and_it_rests(start: Callable[..., tuple[subprocess.Popen[str], str]]) -> None:
    process, link = start("--port", "0")
    port = int(link.partition("/login")[0].rpartition(":")[2])
    head = f"POST /login HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nsec-fetch-site: same-origin\r\n"
    form = "content-type: application/x-www-form-urlencoded\r\n"
    slow = {
        "nothing at all": "",
        "half a head": head[:20],
        "half a body": f"{head}{form}content-length: 1000\r\n\r\nto",
        "half a chunk": f"{head}{form}transfer-encoding: chunked\r\n\r\nff\r\nto",
        "a head without an end": head + "x-long: " + "y" * 100_000,
        "no request": "\0" * 100,
    }
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in slow]
        for connection, sent in zip(connections, slow.values(), strict=True):
            connection.sendall(sent.encode())
        assert {what: ended(connection) for what, connection in zip(slow, connections, strict=True)} == dict.fromkeys(
            slow, True
        )
    with socket.create_connection(("127.0.0.1", port)) as connection:  # one that sends letter by letter
        for letter in f"{head}x-long: {'y' * 1000}":
            try:
                connection.sendall(letter.encode())
                time.sleep(0.05)
            except OSError:
                break
        else:
            pytest.fail("the connection did not end")
    ask = f"GET /static/dashboard.css HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n".encode()
    with socket.socket() as connection:  # one that asks for much, and reads nothing
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", port))
        connection.sendall(ask * 1000)
        poll = select.poll()
        poll.register(connection, 0)  # for nothing but the end
        assert poll.poll(60_000)
    rests = False
    for _ in range(20):  # what was begun may have to end first
        before = wakes_of(process.pid)
        time.sleep(0.3)
        rests = wakes_of(process.pid) == before
        if rests:
            break
    assert rests
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) in {143, -signal.SIGTERM}


def wakes_of(process: int) -> list[str]:
    """Return how often each thread of a process has begun to wait: one that rests does not."""
    found = []
    for thread in sorted(os.listdir(f"/proc/{process}/task")):
        with open(f"/proc/{process}/task/{thread}/status") as file:
            found += [line for line in file if line.startswith("voluntary_ctxt_switches")]
    return found


@pytest.mark.children_measured
def test_a_unix_socket_is_for_this_user_alone(
    tmp_path: Path, start: Callable[..., tuple[subprocess.Popen[str], str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    process, _ = start("--unix", str(path))
    found = os.stat(path)
    assert (stat.S_ISSOCK(found.st_mode), stat.S_IMODE(found.st_mode)) == (True, 0o600)
    for host, status in (
        ("localhost:8000", b"200"),
        ("127.0.0.1:1", b"200"),
        ("evil.example", b"421"),
        ("localhost:x", b"421"),
    ):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(f"GET /login HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
            assert connection.recv(12) == b"HTTP/1.1 " + status
    with pytest.raises(StorageError, match="another process listens there"):
        server.on_unix_socket(str(path))
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert not path.exists()


def test_the_socket_of_a_process_that_was_killed_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    server.on_unix_socket(str(path)).listener.close()
    path.unlink()
    path.write_text("mine")
    with pytest.raises(StorageError, match="a file is there"):
        server.on_unix_socket(str(path))
    assert path.read_text() == "mine"


class TestListeningElsewhere:
    def test_it_needs_tls(self) -> None:
        with pytest.raises(ArgumentError, match="needs TLS"):
            server.elsewhere("0.0.0.0", 0, ("host.example",), None)

    def test_it_needs_a_name(self) -> None:
        with pytest.raises(ArgumentError, match="the name by which browsers ask"):
            server.elsewhere("0.0.0.0", 0, (), Certificate("cert.pem"))

    def test_its_names_are_allowed_and_no_others(self) -> None:
        place = server.elsewhere("127.0.0.1", 0, ("Host.example",), Certificate("cert.pem"))
        place.listener.close()
        port = place.listener.getsockname()[1] if place.listener.fileno() >= 0 else int(place.address.rpartition(":")[2])
        assert place.address == f"https://host.example:{port}"
        allowed = {host: place.is_own(host) for host in (f"host.example:{port}", f"127.0.0.1:{port}", "host.example", "x")}
        assert allowed == {f"host.example:{port}": True, f"127.0.0.1:{port}": True, "host.example": False, "x": False}

    @pytest.mark.children_measured
    def test_it_speaks_tls_only(self, tmp_path: Path, start: Callable[..., tuple[subprocess.Popen[str], str]]) -> None:
        certificate = made_certificate(tmp_path)
        options = ["--listen", "127.0.0.1", "--port", "0", "--host-name", "host.example", "--tls-cert", str(certificate)]
        _, link = start(*options)
        assert link.startswith("https://host.example:")
        port = int(link.partition("/login")[0].rpartition(":")[2])
        context = ssl.create_default_context(cafile=str(certificate))
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="host.example") as connection,
        ):
            connection.sendall(f"GET /login HTTP/1.1\r\nhost: host.example:{port}\r\n\r\n".encode())
            answer = connection.recv(65536).lower()
        assert answer.startswith(b"http/1.1 200")
        assert b"strict-transport-security" not in answer  # which would be for each port of the host
        with socket.create_connection(("127.0.0.1", port)) as plain:
            plain.sendall(f"GET /login HTTP/1.1\r\nhost: host.example:{port}\r\n\r\n".encode())
            plain.settimeout(20)
            with contextlib.suppress(OSError):
                assert not plain.recv(100).startswith(b"HTTP")


def made_certificate(folder: Path) -> Path:
    """Return a file with a certificate of host.example and its key."""
    import datetime as dt

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "host.example")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("host.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = folder / "tls.pem"
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + secret)
    return path


def test_a_port_that_is_taken_is_told_and_without_one_another_is_found() -> None:
    taken = server.on_loopback(0)
    port = taken.listener.getsockname()[1]
    with pytest.raises(StorageError, match=f"port {port} of 127.0.0.1 can't be listened on"):
        server.on_loopback(port)
    others = [server.on_loopback(None) for _ in range(2)]
    assert len({place.address for place in others}) == 2
    for place in (taken, *others):
        place.listener.close()


def test_a_port_that_is_taken_is_told_before_anything_is_served() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            StorageError, match=f"port {port} of 127.0.0.1 can't be listened on: Address already in use"
        ) as caught:
            server.elsewhere("127.0.0.1", port, (), Certificate("cert.pem", "key.pem"))
    assert caught.value.hint == "Choose another one with --listen and --port"
