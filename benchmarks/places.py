"""Latency in each place, as ratios to the raw operation in the same run: ``python -m benchmarks.places``, about 2 minutes.

The raw operation moves the same bytes: a file that is written, renamed and synced, a row that is inserted and committed, an
object that is put if it is absent; and the read of one. A raw ``find`` reads all versions, one after the other where the place
has no query for them. Ours and the raw one take turns. Databases and buckets on another host are imitated by a proxy that adds
20 ms to each answer.

PostgreSQL needs Debian's ``postgresql``; its files are in memory. The buckets are on a server of moto's, in a process of its
own, and on the servers that ``--endpoint`` names, such as the one that ``.ci/ceph`` starts. moto and Ceph are slow themselves,
so their ratios are nearer to 1 than those of a fast server.
"""

from __future__ import annotations

import argparse
import itertools
import os
import secrets
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from benchmarks.timing import median_ms
from checkpoint_manager import CheckpointManager
from tests.postgres import Server, free_port
from tests.proxy import Proxy
from tests.s3 import BUCKET, CREDENTIALS

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(32)
DATA = {"rows": ["x" * 10] * 70}
SEALED_BYTES = 1300
STAGES, VERSIONS = 3, 10
DELAY = 0.02
INDEX = {"metadata": ["run"]}


class Raw(NamedTuple):
    """The raw operations of a place."""

    save: Callable[[], object]
    load: Callable[[], object]
    find: Callable[[], object]


def compare(name: str, url: str, raw: Raw, *, times: int, index: bool = False) -> None:
    """Print a row: what ours and the raw operations take in milliseconds, and their ratio."""
    with CheckpointManager(url, key=KEY, index=INDEX if index else None) as cm:
        for stage, number in itertools.product(range(STAGES), range(VERSIONS)):
            cm.save_checkpoint(f"stage {stage}", DATA, metadata={"run": f"{stage}.{number}"})
        cm.save_checkpoint("train", DATA)
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "save": (lambda: cm.save_checkpoint("train", DATA), raw.save),
            "load": (lambda: cm.load_checkpoint("train"), raw.load),
            "has": (lambda: cm.has_checkpoint("train"), raw.load),
            "find": (lambda: list(cm.find(stage_prefix="stage", metadata={"run": "1.9"})), raw.find),
        }
        cells = []
        for what, (ours, theirs) in pairs.items():
            for act in (ours, theirs):
                median_ms(act, 8 if what != "find" else 1)  # until statements are prepared, and connections open
            turns = max(1, times // 10) if what == "find" else times
            rounds = [(median_ms(ours, turns), median_ms(theirs, turns)) for _ in range(3)]
            mine, other = sorted(rounds, key=lambda pair: pair[0] / pair[1])[1]
            cells.append(f"{mine:.2f} / {other:.2f} = {mine / other:.2f}")
    print(f"| {name} | {' | '.join(cells)} |", flush=True)


def directory(folder: Path) -> Raw:
    """Return the raw operations of a directory."""
    content, numbers = os.urandom(SEALED_BYTES), itertools.count()
    folder.mkdir()

    def save() -> None:
        path = folder / f"{next(numbers)}"
        with open(f"{path}.new", "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{path}.new", path)
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)

    for _ in range(STAGES * VERSIONS):
        save()
    every = [folder / str(number) for number in range(STAGES * VERSIONS)]
    return Raw(save, every[0].read_bytes, lambda: [path.read_bytes() for path in every])


def sqlite(path: Path) -> Raw:
    """Return the raw operations of an SQLite database."""
    raw = sqlite3.connect(path, isolation_level=None)
    raw.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")
    raw.execute("CREATE TABLE raw (id INTEGER PRIMARY KEY, content)")
    content = os.urandom(SEALED_BYTES)
    for _ in range(STAGES * VERSIONS):
        raw.execute("INSERT INTO raw (content) VALUES (?)", (content,))
    return Raw(
        lambda: raw.execute("INSERT INTO raw (content) VALUES (?)", (content,)),
        lambda: raw.execute("SELECT content FROM raw ORDER BY id DESC LIMIT 1").fetchall(),
        lambda: raw.execute(f"SELECT content FROM raw LIMIT {STAGES * VERSIONS}").fetchall(),
    )


def postgres(url: str) -> Raw:
    """Return the raw operations of a PostgreSQL database."""
    import psycopg

    raw = psycopg.connect(url, autocommit=True)
    table = f"raw_{secrets.token_hex(4)}"
    raw.execute(f"CREATE TABLE {table} (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content bytea)")
    content, insert = os.urandom(SEALED_BYTES), f"INSERT INTO {table} (content) VALUES (%s)"
    for _ in range(STAGES * VERSIONS):
        raw.execute(insert, (content,))
    newest, every = (
        f"SELECT content FROM {table} ORDER BY id DESC LIMIT 1",
        f"SELECT content FROM {table} LIMIT {STAGES * VERSIONS}",
    )
    return Raw(
        lambda: raw.execute(insert, (content,)),
        lambda: raw.execute(newest, binary=True).fetchall(),
        lambda: raw.execute(every, binary=True).fetchall(),
    )


def bucket(endpoint: str) -> Raw:
    """Return the raw operations of a bucket."""
    from boto3 import client  # type: ignore[import-untyped]
    from obstore.store import S3Store

    client("s3", region_name="us-east-1", endpoint_url=endpoint).create_bucket(Bucket=BUCKET)
    store = S3Store(BUCKET, endpoint=endpoint, region="us-east-1", client_options={"allow_http": True})
    content, numbers, folder = os.urandom(SEALED_BYTES), itertools.count(), secrets.token_hex(4)

    def save() -> None:
        store.put(f"{folder}/{next(numbers)}", content, mode="create")

    for _ in range(STAGES * VERSIONS):
        save()
    return Raw(
        save,
        lambda: store.get(f"{folder}/0").bytes(),
        lambda: [store.get(f"{folder}/{number}").bytes() for number in range(STAGES * VERSIONS)],
    )


def start_moto(stack: ExitStack) -> str:
    """Start a server of moto's, and return its endpoint."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stack.callback(server.wait)
    stack.callback(server.kill)
    endpoint = f"http://127.0.0.1:{port}"
    for _ in range(200):
        try:
            urllib.request.urlopen(endpoint).close()
            break
        except OSError:
            time.sleep(0.05)
    return endpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--endpoint", action="append", default=[], help="http://HOST:PORT of a server like S3; may be repeated")
    given = parser.parse_args()
    os.environ.update(CREDENTIALS)
    began = time.monotonic()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd())))
        os.environ.update(HOME=str(home), **{f"XDG_{name}_HOME": str(home / name) for name in ("STATE", "DATA", "CACHE")})
        print("| ours / raw = ratio, in ms | save | load | has | find |\n|---|---|---|---|---|", flush=True)
        compare("directory", str(home / "store"), directory(home / "raw"), times=100)
        compare("sqlite", f"sqlite:///{home}/store.db", sqlite(home / "raw.db"), times=100)
        server = Server()
        server.start()
        stack.callback(server.stop)
        proxy = stack.enter_context(Proxy(server.port, delay=DELAY))
        for port, how, times in ((server.port, "", 100), (proxy.port, " + 20 ms", 10)):
            url = f"postgresql://checkpoints@127.0.0.1:{port}/postgres?sslmode=disable"
            for index in (False, True):
                raw = postgres(url)
                place = f"{url}&schema=s{secrets.token_hex(4)}"
                compare(f"postgresql{' with an index' if index else ''}{how}", place, raw, times=times, index=index)
        for endpoint in [start_moto(stack), *given.endpoint]:
            name = f"bucket on {'moto' if endpoint not in given.endpoint else endpoint}"
            server_at = urlsplit(endpoint)
            proxy = stack.enter_context(Proxy(server_at.port or 80, host=server_at.hostname or "127.0.0.1", delay=DELAY))
            for at, how, times in ((endpoint, "", 40), (f"http://127.0.0.1:{proxy.port}", " + 20 ms", 10)):
                place = f"s3://{BUCKET}/{secrets.token_hex(4)}?endpoint={at}"
                compare(f"{name}{how}", place, bucket(at), times=times)
    print(f"\n{time.monotonic() - began:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
