"""Several writers in a bucket while answers are lost: ``python -m benchmarks.buckets ENDPOINT --drop 0.05``.

Needs a running server, as ``.ci/ceph`` starts one, with its credentials in the environment and the bucket ``checkpoints``. A
proxy closes the connection in place of that share of the answers. Each save that was acknowledged must be there afterwards,
once.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import random
import secrets
import tempfile
import threading
import time
from urllib.parse import urlsplit

from checkpoint_manager import CheckpointError, CheckpointManager
from tests.proxy import Proxy

BUCKET = "checkpoints"


def endpoint(proxy: Proxy) -> str:
    """Return the endpoint of the server behind the proxy."""
    return f"http://127.0.0.1:{proxy.port}"


def url(proxy: Proxy) -> str:
    """Return a new place."""
    return f"s3://{BUCKET}/{secrets.token_hex(4)}?endpoint={endpoint(proxy)}"


def drop(proxy: Proxy, share: float, seconds: float) -> None:
    """Save from several writers while answers are lost, and compare what was acknowledged with what is there."""
    place = url(proxy)
    CheckpointManager(place, key=bytes(32), lock_timeout=30).save_checkpoint("train", "first")
    acknowledged: dict[int, str] = {1: "first"}
    failed = itertools.count()
    dropped: list[bytes] = []

    def loses(request: bytes) -> bool:
        if not request.startswith((b"GET", b"PUT", b"HEAD", b"DELETE")) or random.random() >= share:
            return False
        dropped.append(request[:4])
        return True

    proxy.loses, end = loses, time.monotonic() + seconds

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
    proxy.loses = lambda _: False
    cm = CheckpointManager(place, key=bytes(32))
    there = {version.number for version in cm.history("train")}
    lost = [number for number, data in acknowledged.items() if cm.load_checkpoint("train", version=number) != data]
    print(
        f"{len(acknowledged)} saves acknowledged, {next(failed)} refused, {len(dropped)} answers dropped; "
        f"versions 1 to {max(there)}, {max(there) - len(there)} missing; {len(lost)} of the acknowledged lost; "
        f"verify ok: {cm.verify().ok}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("endpoint", help="of a server on this host")
    parser.add_argument("--drop", type=float, default=0.05, metavar="SHARE")
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args()
    os.environ["XDG_STATE_HOME"] = tempfile.mkdtemp()
    logging.getLogger("checkpoint_manager").setLevel(logging.ERROR)
    with Proxy(urlsplit(given.endpoint).port or 80) as proxy:
        drop(proxy, given.drop, given.seconds)


if __name__ == "__main__":
    main()
