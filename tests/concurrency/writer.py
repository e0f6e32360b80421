"""A writer of a program: makes its calls for real and tells when each began, when it ended, and what came of it."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import orjson

from checkpoint_manager import CheckpointError, CheckpointManager

if TYPE_CHECKING:
    from tests.concurrency.program import Op, Writer

KEY = bytes(32)
LOCK_TIMEOUT = 60.0


def run(writer: Writer, number: int, directory: str, channel: str, gate: str, cm: CheckpointManager | None) -> None:
    """Run one writer in this process.

    Args:
        writer: What to do.
        number: Which writer of its program this is.
        directory: The store.
        channel: A FIFO to tell events by, a line each; what was told survives a kill.
        gate: A FIFO that can be opened once all are ready.
        cm: An inherited manager, or None.
    """
    told = os.open(channel, os.O_WRONLY)

    def tell(**fields: object) -> None:
        os.write(told, orjson.dumps({"writer": number, **fields}) + b"\n")

    shared = cm if cm is not None or not writer.shared else opened(directory)
    tell(pid=os.getpid())
    os.close(os.open(gate, os.O_RDONLY))

    def work(thread: int, ops: tuple[Op, ...]) -> None:
        mine = shared
        for index, op in enumerate(ops):
            where = {"thread": thread, "index": index}
            tell(**where, invoked=time.monotonic_ns())
            try:
                mine = mine or opened(directory)
                result = call(mine, op, [number, thread, index])
            except CheckpointError as error:
                result = {"error": type(error).__name__, "version": error.version, "message": str(error)}
            except Exception as error:  # which none of them should raise: the checker says so
                result = {"error": type(error).__name__, "version": None, "message": str(error)}
            tell(**where, returned=time.monotonic_ns(), result=result)

    threads = [threading.Thread(target=work, args=each) for each in enumerate(writer.threads)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def opened(directory: str) -> CheckpointManager:
    """Open the store as each writer does."""
    return CheckpointManager(directory, key=KEY, lock_timeout=LOCK_TIMEOUT)


def call(cm: CheckpointManager, op: Op, by: list[int]) -> dict[str, Any]:
    """Make one call, and return what the checker has to know of its result."""
    stage = op.stage
    match op.kind:
        case "save":
            return {"version": cm.save_checkpoint(stage, content(by, op.argument)).number}
        case "expect":
            return {"version": cm.save_checkpoint(stage, content(by, 0), expected_version=op.argument).number}
        case "update":
            return {"version": cm.update_checkpoint(stage, lambda present: content(by, op.argument, present)).number}
        case "get":
            found = cm.get_checkpoint(stage)
            return {"version": found.version.number, "digest": digest(found.data)}
        case "load":
            return {"digest": digest(cm.load_checkpoint(stage, op.argument))}
        case "has":
            return {"has": cm.has_checkpoint(stage)}
        case "history":
            return {"versions": [version.number for version in cm.history(stage)]}
        case "restore":
            return {"version": cm.restore_checkpoint(stage, op.argument).number}
        case "clear":
            cleared = cm.clear_checkpoint(stage)
            return {"version": cleared and cleared.number}
        case "clear all":
            cm.clear_checkpoints()
        case "delete":
            cm.delete_versions(stage, [op.argument])
        case "rotate":
            cm.keys.rotate()
    return {}


def content(by: list[int], length: int, present: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return data that tells who wrote it and what its writer saw."""
    return {"by": by, "saw": present and present["by"], "fill": "x" * length}


def digest(data: object) -> str:
    """Return what stands for data in a record."""
    return hashlib.sha256(orjson.dumps(data)).hexdigest()[:16]
