"""The command ``python -m benchmarks.langgraph_savers``: our checkpointer beside LangGraph's encrypted SQLite saver.

It needs the extras ``langgraph`` and ``bench``. In each step, every saver in turn makes the same calls, so that all meet the
same noise of the machine; each number is the median, and each ratio that of the medians. All of them encrypt, and each call is
durable when it returns.
"""

from __future__ import annotations

import argparse
import os
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


STEPS = 60
READS = 40


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=5, help=f"how many threads of {STEPS} steps each")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_STATE_HOME"] = f"{folder}/state"
        times = measure(folder, options.threads)
    theirs = {call: statistics.median(found) for call, found in times["LangGraph, SQLite"].items()}
    for name, calls in times.items():
        for call, found in calls.items():
            median = statistics.median(found)
            print(f"{name:18} {call:40} {median * 1000:8.2f} ms {median / theirs[call]:6.2f}")


def measure(folder: str, threads: int) -> dict[str, dict[str, list[float]]]:
    from langgraph.checkpoint.serde.encrypted import EncryptedSerializer
    from langgraph.checkpoint.sqlite import SqliteSaver

    from checkpoint_manager import CheckpointManager
    from checkpoint_manager.integrations.langgraph import CheckpointSaver

    key = bytes(range(32))
    connection = sqlite3.connect(f"{folder}/theirs.db", check_same_thread=False)
    serializer = EncryptedSerializer.from_pycryptodome_aes(key=key)
    stores = {place: CheckpointManager(place.format(folder), key=key) for place in ("sqlite:///{}/ours.db", "{}/ours")}
    make: dict[str, Callable[[], Any]] = {
        "LangGraph, SQLite": lambda: SqliteSaver(connection, serde=serializer),
        "ours, SQLite": lambda: CheckpointSaver(stores["sqlite:///{}/ours.db"]),
        "ours, a directory": lambda: CheckpointSaver(stores["{}/ours"]),
    }
    savers = {name: each() for name, each in make.items()}
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for thread in range(threads):
        for step in range(STEPS):
            for name, saver in savers.items():
                times[name]["put + put_writes"].append(timed(run_step, saver, str(thread), step))
        for _ in range(READS):
            for name, saver in savers.items():
                config = {"configurable": {"thread_id": str(thread), "checkpoint_ns": ""}}
                times[name][f"get_tuple after {STEPS} steps"].append(timed(saver.get_tuple, config))
                new = make[name]()
                new.is_setup = True  # for LangGraph's, which would look at its tables
                times[name]["get_tuple, and the saver is new"].append(timed(new.get_tuple, config))
    connection.close()
    return times


def run_step(saver: Any, thread: str, step: int) -> None:
    """Save what a step of an agent does: a list of messages that grows, and what one task wrote."""
    from langgraph.checkpoint.base import empty_checkpoint

    values = {"messages": ["x" * 200] * (step + 1), "step": step}
    made = {**empty_checkpoint(), "channel_values": values, "channel_versions": dict.fromkeys(values, step + 1)}
    config = {"configurable": {"thread_id": thread, "checkpoint_ns": ""}}
    stored = saver.put(config, made, {"source": "loop", "step": step, "parents": {}}, made["channel_versions"])
    saver.put_writes(stored, [("messages", "y" * 200)], f"task {step}")


def timed(call: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
