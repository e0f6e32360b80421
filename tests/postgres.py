"""A PostgreSQL server for the tests: one for all workers of a run, begun by the first that needs it, ended by the last.

It runs on a free port, in a temporary folder, as an unprivileged user, and is killed if the worker that began it is.
"""

from __future__ import annotations

import contextlib
import glob
import ipaddress
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from filelock import FileLock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTINGS = """
listen_addresses = '127.0.0.1'
max_connections = 100
shared_buffers = 32MB
max_wal_size = 256MB
fsync = off
full_page_writes = off
synchronous_commit = on
autovacuum = off
log_min_messages = fatal
ssl = on
"""
"""The tests kill clients and the server, and never cut the power."""
ACCESS = """
local all all trust
host all with_password 127.0.0.1/32 scram-sha-256
host all all 127.0.0.1/32 trust
"""


def programs() -> str:
    """Return the folder of the server's programs, as Debian has it, which it leaves out of the path."""
    found = glob.glob("/usr/lib/postgresql/*/bin")
    return max(found, key=lambda path: int(path.split("/")[4]), default="")


class Server:
    """A server in a folder of its own."""

    def __init__(self) -> None:
        memory = "/dev/shm"
        roomy = os.path.isdir(memory) and shutil.disk_usage(memory).free > 1_000_000_000
        self.folder = tempfile.mkdtemp(prefix="checkpoints-postgres-", dir=memory if roomy else None)
        self.data = f"{self.folder}/data"
        self._programs = os.path.dirname(os.path.realpath(require_program("initdb", programs())))
        self._process: subprocess.Popen[bytes] | None = None
        self._as_user = as_unprivileged(self.folder)
        self._in_namespace = self._with_readable_etc() if self._as_user and not os.stat("/etc").st_mode & 0o001 else []
        self._run("initdb", "--no-sync", "--auth=trust", "--username=checkpoints", "--encoding=UTF8", "--locale=C", self.data)
        Path(self.data, "postgresql.auto.conf").write_text(f"{SETTINGS}unix_socket_directories = '{self.folder}'\n")
        Path(self.data, "pg_hba.conf").write_text(ACCESS)
        self.certificate = self._make_certificate()
        self.port = free_port()

    def _with_readable_etc(self) -> list[str]:
        """Return what runs a program where other users may read /etc, which some containers close: initdb looks up its user."""
        etc = Path(self.folder, "etc")
        etc.mkdir(mode=0o755)
        for name in ("passwd", "group", "nsswitch.conf"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy(f"/etc/{name}", etc)
        return ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc && exec "$@"', str(etc)]

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._in_namespace, *self._as_user, f"{self._programs}/{program}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
        assert done.returncode == 0, done.stderr

    def _make_certificate(self) -> str:
        """Make a certificate of this host that has signed itself, for TLS, and return its path."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
        now = datetime.now(UTC)
        names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        serial, tomorrow = x509.random_serial_number(), now + timedelta(days=1)
        builder = x509.CertificateBuilder(name, name, key.public_key(), serial, now, tomorrow)
        certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
        form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        files = {
            "server.key": key.private_bytes(serialization.Encoding.PEM, *form),
            "server.crt": certificate.public_bytes(serialization.Encoding.PEM),
        }
        owner = os.stat(self.data)
        for file, content in files.items():
            path = f"{self.data}/{file}"
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
                opened.write(content)
            os.chown(path, owner.st_uid, owner.st_gid)
        return f"{self.data}/server.crt"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        killed_with_us = [*(self._as_user or ["setpriv"]), "--pdeathsig=KILL"]
        command = [*killed_with_us, f"{self._programs}/postgres", "-D", self.data, "-p", str(self.port)]
        log = f"{self.folder}/log"
        with open(log, "ab") as file:
            self._process = subprocess.Popen(command, stdout=file, stderr=file, cwd="/")
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if self._is_ready(self._process.pid):
                return
            assert self._process.poll() is None, Path(log).read_text()
            time.sleep(0.02)
        raise AssertionError(Path(log).read_text())

    def _is_ready(self, pid: int) -> bool:
        try:
            first, *_, last = Path(self.data, "postmaster.pid").read_text().splitlines() or ["", ""]
        except FileNotFoundError:
            return False
        return first == str(pid) and last.strip() == "ready"

    def kill(self) -> None:
        """End it and its children at once, without a word, as a crash does."""
        assert self._process is not None
        children = _children(self._process.pid)
        self._process.kill()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        self._process = None

    def stop(self) -> None:
        """End it, and remove its folder."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
        shutil.rmtree(self.folder)

    def url(self, schema: str = "", user: str = "checkpoints") -> str:
        """Return the URL of a store: a new one, unless the schema is named."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/postgres?schema={schema or f's{secrets.token_hex(8)}'}"


def require_program(name: str, folder: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    found = shutil.which(name, path=f"{folder}:{os.environ['PATH']}")
    if found is None:
        if os.environ.get("TESTS_REQUIRE_PROGRAMS"):
            pytest.fail(f"the program {name} is not installed")
        pytest.skip(f"needs the program {name}")
    return found


def as_unprivileged(folder: str | Path) -> list[str]:
    """Return what runs a program as the owner of a folder, which is given away if this runs as root."""
    if os.geteuid() != 0:
        return []
    user = next(user for user in pwd.getpwall() if user.pw_name in {"postgres", "nobody"})
    for path in (folder, *Path(folder).iterdir()):
        os.chown(path, user.pw_uid, user.pw_gid)
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]


@pytest.fixture(scope="session")
def postgres_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Return the port of the server that all workers share."""
    require_program("initdb", programs())
    pytest.importorskip("psycopg")
    shared = _shared(tmp_path_factory)
    place = shared / "postgres"  # the port, and how many workers use it
    server: Server | None = None
    with FileLock(f"{place}.lock"):
        port, users = map(int, place.read_text().split()) if place.exists() else (0, 0)
        if not users:
            server = Server()
            server.start()
            port = server.port
            (shared / "postgres.crt").write_bytes(Path(server.certificate).read_bytes())
        place.write_text(f"{port} {users + 1}")
    yield port
    left = 1 if server is not None else 0  # the worker that began it waits for the others
    with FileLock(f"{place}.lock"):
        port, users = map(int, place.read_text().split())
        place.write_text(f"{port} {users - 1}")
    deadline = time.monotonic() + 60
    while left and time.monotonic() < deadline:
        with FileLock(f"{place}.lock"):
            left = int(place.read_text().split()[1])
        time.sleep(0.05)
    if server is not None:
        server.stop()


@pytest.fixture
def postgres_certificate(postgres_port: int, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the path of the server's certificate."""
    return str(_shared(tmp_path_factory) / "postgres.crt")


@pytest.fixture
def new_postgres_url(postgres_port: int) -> Callable[[], str]:
    """Return what returns the URL of a new store."""
    return lambda: f"postgresql://checkpoints@127.0.0.1:{postgres_port}/postgres?schema=s{secrets.token_hex(8)}"


@pytest.fixture
def postgres_url(new_postgres_url: Callable[[], str]) -> str:
    """Return the URL of a new store."""
    return new_postgres_url()


def _shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that the workers of a run share."""
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
