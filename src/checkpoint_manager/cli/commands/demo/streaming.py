"""A consumer of a stream, whose sink receives each message once, however often the consumer is killed.

The position in the stream is a checkpoint. A kill between the sink and the checkpoint is the worst moment: then the messages
come again. So the sink knows a message by its offset, and takes it once. ``expected_version`` keeps out a consumer that was
only thought to be dead: when it wakes up, another one has saved, and its own save is refused.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from contextlib import closing
from pydoc_data.topics import topics

from checkpoint_manager import CheckpointManager, VersionConflictError

cm = CheckpointManager()  # the store that CHECKPOINT_MANAGER_STORE names
BATCH = 200
CRASHES = "--crash" in sys.argv


def stream() -> list[tuple[str, str]]:
    """Return the messages: the paragraphs of Python's own documentation, with the topic that they belong to."""
    return [(topic, text) for topic in sorted(topics) for text in topics[topic].split("\n\n") if text.strip()]


def consume(messages: list[tuple[str, str]], sink: sqlite3.Connection) -> int:
    """Pass the messages on to the sink, from where the last consumer was; return how many came."""
    version, offset = 0, 0
    if cm.has_checkpoint("offset"):
        saved = cm.get_checkpoint("offset")
        version, offset = saved.version.number, saved.data["next"]
        print(f"  consumer   begins at offset {offset:,}, which version {version} says", flush=True)
    came = 0
    while batch := messages[offset : offset + BATCH]:
        with sink:
            rows = [(offset + number, topic, len(text.split())) for number, (topic, text) in enumerate(batch)]
            sink.executemany("INSERT OR IGNORE INTO paragraph VALUES (?, ?, ?)", rows)
        came += len(batch)
        if CRASHES and offset > len(messages) // 3:
            print(
                f"  consumer   {came:,} messages so far; the last {len(batch)} are in the sink, their offset is not saved",
                flush=True,
            )
            os.kill(os.getpid(), signal.SIGKILL)
        offset += len(batch)
        version = cm.save_checkpoint("offset", {"next": offset}, expected_version=version).number
    print(f"  consumer   {came:,} messages came", flush=True)
    return came


def main() -> None:
    """Consume the stream, count what arrived, and let a consumer wake up that was thought to be dead."""
    messages = stream()
    with closing(sqlite3.connect("sink.db")) as sink:
        sink.execute("CREATE TABLE IF NOT EXISTS paragraph (offset INTEGER PRIMARY KEY, topic, words)")
        (before,) = sink.execute("SELECT count(*) FROM paragraph").fetchone()
        came = consume(messages, sink)
        there, words = sink.execute("SELECT count(*), sum(words) FROM paragraph").fetchone()
    again = before + came - there
    wanted = len(messages), sum(len(text.split()) for _, text in messages)
    print(f"  delivered  {again:,} messages came twice, and the sink took them once")
    verdict = "exactly once" if (there, words) == wanted else "NOT EXACTLY ONCE"
    print(f"  counted    {there:,} messages, {words:,} words; {verdict}")
    try:
        cm.save_checkpoint("offset", {"next": BATCH}, expected_version=1)
    except VersionConflictError as error:
        print(f"  a zombie   is refused: version {error.actual} is the newest, and it knows only {error.expected}")


if __name__ == "__main__":
    main()
