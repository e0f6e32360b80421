"""Latency in PostgreSQL, as ratios to the raw operation in the same run: ``python -m benchmarks.postgres``.

A raw save is an INSERT of the same length that commits; a raw load, and a raw ``has``, a SELECT of the newest row; a raw find a
SELECT of all rows. Each is measured in turns with ours, directly and with 20 ms added to each answer by a proxy. The server's
files are in memory, so that the commit costs as little as it can: on a disk, the ratios are nearer to 1.
"""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import psycopg

from benchmarks.timing import median_ms
from checkpoint_manager import CheckpointManager
from tests.postgres import Server
from tests.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(32)
DATA = "x" * 1000
STAGES, VERSIONS = 10, 20


def measure(port: int, schema: str, times: int) -> dict[str, tuple[float, float]]:
    """Return what ours and the raw operation take, in milliseconds: the median of three rounds, by their ratio."""
    url = f"postgresql://checkpoints@127.0.0.1:{port}/postgres?sslmode=disable&schema={schema}"
    with CheckpointManager(url, key=KEY) as cm, psycopg.connect(url.partition("&schema")[0], autocommit=True) as raw:
        for stage in range(STAGES):
            for _ in range(VERSIONS):
                cm.save_checkpoint(f"stage {stage}", DATA, metadata={"run": "a7"})
        row = raw.execute(f"SELECT content FROM {schema}.version LIMIT 1", binary=True).fetchall()[0][0]
        raw.execute(f"CREATE TABLE {schema}.raw (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, content bytea)")
        insert = f"INSERT INTO {schema}.raw (content) VALUES (%s)"
        newest = f"SELECT content FROM {schema}.raw ORDER BY number DESC LIMIT 1"
        every = f"SELECT stage, number, content FROM {schema}.version"
        pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
            "save": (lambda: cm.save_checkpoint("train", DATA), lambda: raw.execute(insert, (row,))),
            "load": (lambda: cm.load_checkpoint("train"), lambda: raw.execute(newest, binary=True).fetchall()),
            "has": (lambda: cm.has_checkpoint("train"), lambda: raw.execute(newest, binary=True).fetchall()),
            "find": (lambda: list(cm.find(metadata={"run": "a7"})), lambda: raw.execute(every, binary=True).fetchall()),
        }
        found = {}
        for name, (ours, theirs) in pairs.items():
            for act in (ours, theirs):
                median_ms(act, 8)  # until the statements are prepared
            turns = max(1, times // 10) if name == "find" else times
            rounds = [(median_ms(ours, turns), median_ms(theirs, turns)) for _ in range(3)]
            found[name] = sorted(rounds, key=lambda pair: pair[0] / pair[1])[len(rounds) // 2]
        return found


def main() -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["HOME"] = home
        server = Server()
        server.start()
        try:
            direct = measure(server.port, "direct", 100)
            with Proxy(server.port, delay=0.02) as proxy:
                far = measure(proxy.port, "far", 10)
        finally:
            server.stop()
    print("         direct: ours, raw (ms), ratio    with 20 ms: ours, raw (ms), ratio")
    for name in direct:
        for ours, raw in (direct[name], far[name]):
            print(f"{name if ours == direct[name][0] else '':6}{ours:10.2f}{raw:10.2f}{ours / raw:8.1f}", end="    ")
        print()


if __name__ == "__main__":
    main()
