"""What a save, a load and a has cost in a bucket, beside a bare put and get: ``python -m benchmarks.buckets ENDPOINT``.

Needs a running server, as ``.ci/ceph`` starts one, with its credentials in the environment and the bucket ``checkpoints``. The
requests go through a proxy, which adds a delay to each answer. With ``--drop SHARE``, it instead closes the connection in place
of that share of the answers, while several writers save: each save that was acknowledged must be there afterwards, once.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import random
import secrets
import socket
import statistics
import tempfile
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from obstore.store import S3Store

from checkpoint_manager import CheckpointError, CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable

BUCKET = "checkpoints"
DATA = {"rows": ["x" * 10] * 70}
ROUNDS = 60


class Proxy:
    """Passes on what comes in to a server, and its answers after a delay, or not at all.

    Attributes:
        delay: How long an answer is held back, in seconds.
        share: The share of answers in place of which the connection is closed.
        dropped: How many those were.
    """

    def __init__(self, endpoint: str) -> None:
        host = urlsplit(endpoint)
        self._server = (host.hostname or "127.0.0.1", host.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.delay = self.share = 0.0
        self.dropped = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._listener.accept()
            server = socket.create_connection(self._server)
            for one, other, is_answer in ((client, server, False), (server, client, True)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self._pass_on, args=(one, other, is_answer), daemon=True).start()

    def _pass_on(self, one: socket.socket, other: socket.socket, is_answer: bool) -> None:  # noqa: FBT001  # an argument of a thread
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 20):
                if is_answer and data.startswith(b"HTTP/"):
                    if random.random() < self.share:
                        self.dropped += 1
                        break
                    time.sleep(self.delay)
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


def median_ms(act: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the median of several runs, in milliseconds."""
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        act()
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def url(endpoint: str) -> str:
    """Return a new place."""
    return f"s3://{BUCKET}/{secrets.token_hex(4)}?endpoint={endpoint}"


def compare(endpoint: str) -> None:
    """Print the cost of each operation as a ratio to the bare request."""
    proxy = Proxy(endpoint)
    bare = S3Store(BUCKET, endpoint=proxy.endpoint, region="us-east-1", client_options={"allow_http": True})
    content, numbers, folder = os.urandom(1300), itertools.count(), secrets.token_hex(4)
    with CheckpointManager(url(proxy.endpoint), key=bytes(32)) as cm:
        cm.save_checkpoint("train", DATA)
        print("| added delay | put | get | save | load | has |\n|---|---|---|---|---|---|")
        for proxy.delay in (0.0, 0.02):
            put = median_ms(lambda: bare.put(f"{folder}/{next(numbers)}", content, mode="create"))
            get = median_ms(lambda: bare.get(f"{folder}/0").bytes())
            save = median_ms(lambda: cm.save_checkpoint("train", DATA))
            load = median_ms(lambda: cm.load_checkpoint("train"))
            has = median_ms(lambda: cm.has_checkpoint("train"))
            print(
                f"| {1000 * proxy.delay:.0f} ms | {put:.1f} ms | {get:.1f} ms | {save:.1f} ms: {save / put:.1f} x put "
                f"| {load:.1f} ms: {load / get:.1f} x get | {has:.1f} ms: {has / get:.1f} x get |"
            )


def drop(endpoint: str, share: float, seconds: float) -> None:
    """Save from several writers while answers are lost, and compare what was acknowledged with what is there."""
    proxy = Proxy(endpoint)
    place = url(proxy.endpoint)
    CheckpointManager(place, key=bytes(32), lock_timeout=30).save_checkpoint("train", "first")
    acknowledged: dict[int, str] = {1: "first"}
    failed = itertools.count()
    proxy.share, end = share, time.monotonic() + seconds

    def write(writer: int) -> None:
        cm = CheckpointManager(place, key=bytes(32), lock_timeout=30)
        for number in itertools.count():
            if time.monotonic() > end:
                return
            try:
                saved = cm.save_checkpoint("train", f"{writer}.{number}").number
            except CheckpointError:
                next(failed)
            else:
                assert saved not in acknowledged
                acknowledged[saved] = f"{writer}.{number}"

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    proxy.share = 0.0
    cm = CheckpointManager(place, key=bytes(32))
    there = {version.number for version in cm.history("train")}
    lost = [number for number, data in acknowledged.items() if cm.load_checkpoint("train", version=number) != data]
    print(
        f"{len(acknowledged)} saves acknowledged, {next(failed)} refused, {proxy.dropped} answers dropped; "
        f"versions 1 to {max(there)}, {max(there) - len(there)} missing; {len(lost)} of the acknowledged lost; "
        f"verify ok: {cm.verify().ok}"
    )


def main() -> None:
    """Compare, or drop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint")
    parser.add_argument("--drop", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()
    logging.getLogger("checkpoint_manager").setLevel(logging.ERROR)
    if given.drop:
        drop(given.endpoint, given.drop, given.seconds)
    else:
        compare(given.endpoint)


if __name__ == "__main__":
    main()
