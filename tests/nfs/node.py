"""A program on one of the two hosts: makes the calls that it is told, a line of JSON each, and tells what came of them."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import orjson

from checkpoint_manager import CheckpointError, CheckpointManager

KEY = bytes(32)
place = Path(sys.argv[1])
ran: list[str] = []


def opened() -> CheckpointManager:
    return CheckpointManager(place, key=KEY, lock_timeout=10)


def call(cm: CheckpointManager, name: str, *arguments: Any) -> object:
    match name:
        case "has":  # by a process that looked before, and one that did not
            return [cm.has_checkpoint(*arguments), opened().has_checkpoint(*arguments)]
        case "save":
            return cm.save_checkpoint(*arguments).number
        case "save for":
            until, saved = time.monotonic() + arguments[1], 0
            while time.monotonic() < until:
                cm.save_checkpoint(arguments[0], saved)
                saved += 1
            return saved
        case "save many":
            return [cm.save_checkpoint(arguments[0], number).number for number in range(arguments[1])]
        case "rotate":
            cm.keys.rotate()
        case "run":
            cm.stage(arguments[0], revision=1)(lambda: ran.append(arguments[0]))()
            return ran.count(arguments[0])
        case "verify":
            found = opened().verify()
            return [found.ok, len(found.findings)]
        case "hold":
            with cm._store.lock(arguments[0]):
                tell(None)
                time.sleep(60)
        case "files":
            return [os.path.join(folder, each) for folder, _, names in os.walk(place) for each in names]
    return None


def tell(answer: object) -> None:
    sys.stdout.buffer.write(orjson.dumps(answer) + b"\n")
    sys.stdout.flush()


def main() -> None:
    cm = None
    for line in sys.stdin:
        try:
            cm = cm or opened()
            tell(call(cm, *orjson.loads(line)))
        except CheckpointError as error:
            tell({"error": type(error).__name__, "message": str(error)})


if __name__ == "__main__":
    main()
