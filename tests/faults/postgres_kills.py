"""Three writers while a PostgreSQL server is killed, a writer is killed, and a proxy loses and delays answers.

``python -m tests.faults.postgres_kills --seconds 60``. Prints what was acknowledged and what is there, and ends with 1 if they
differ.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from checkpoint_manager import CheckpointError, CheckpointManager, StorageError
from tests.postgres import Server
from tests.proxy import Proxy

KEY = bytes(32)
STAGES = ("train", "shared")
WRITERS = 3


def write(number: int, url: str, log: str, home: str) -> None:
    """Save for ever, to a stage that all share and one of its own, and write down what was acknowledged."""
    os.environ["HOME"] = home
    dice = random.Random(number + os.getpid())
    told = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    cm, turn = None, 0
    while cm is None:  # the first connection of a process is not tried again
        with contextlib.suppress(StorageError):
            cm = CheckpointManager(url, key=KEY, lock_timeout=30)
    while True:
        turn += 1
        stage = dice.choice(STAGES)
        data = {"writer": os.getpid(), "turn": turn, "filling": "x" * dice.choice((0, 1000, 1000, 1_500_000))}
        try:
            if dice.random() < 0.2:
                saved = cm.update_checkpoint(stage, lambda _, data=data: data)  # type: ignore[misc]
            else:
                saved = cm.save_checkpoint(stage, data)
        except CheckpointError as error:
            line = {"error": f"{type(error).__name__}: {error.message[:200]}"}
        else:
            line = {"stage": stage, "number": saved.number, "writer": os.getpid(), "turn": turn}
        os.write(told, json.dumps(line).encode() + b"\n")


def main(arguments: list[str]) -> int:
    """Run the writers, kill, and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--server-kills", type=int, default=4)
    options = parser.parse_args(arguments)
    dice = random.Random(1)
    place = Path(tempfile.mkdtemp())
    (place / "home").mkdir()
    os.environ["HOME"] = str(place / "home")
    server = Server()
    server.start()
    try:
        with Proxy(server.port, delay=0.002) as proxy:
            url = f"postgresql://checkpoints@127.0.0.1:{proxy.port}/postgres?sslmode=disable&schema=kills"
            CheckpointManager(url, key=KEY).close()
            context = multiprocessing.get_context("spawn")

            def begin(number: int) -> multiprocessing.process.BaseProcess:
                process = context.Process(target=write, args=(number, url, str(place / "log"), str(place / "home")))
                process.start()
                return process

            writers = [begin(number) for number in range(WRITERS)]
            kills = lost = 0
            next_kill = time.monotonic() + options.seconds / (options.server_kills + 1)
            end = time.monotonic() + options.seconds
            client_kills = 0
            while time.monotonic() < end:
                time.sleep(dice.uniform(0.2, 0.8))
                chance = dice.random()
                if time.monotonic() > next_kill and kills < options.server_kills:
                    server.kill()
                    time.sleep(dice.uniform(0, 0.5))
                    server.start()
                    kills += 1
                    next_kill += options.seconds / (options.server_kills + 1)
                elif chance < 0.15:
                    index = dice.randrange(WRITERS)
                    writers[index].kill()
                    writers[index].join()
                    writers[index] = begin(index)
                    client_kills += 1
                elif chance < 0.5:
                    budget = [1]
                    proxy.loses = lambda sent, budget=budget: bool(budget and b"INSERT" in sent and budget.pop())  # type: ignore[misc]
                    lost += 1
                elif chance < 0.6:
                    proxy.cut()
            for writer in writers:
                writer.kill()
                writer.join()
        direct = f"postgresql://checkpoints@127.0.0.1:{server.port}/postgres?schema=kills"
        lines = [json.loads(line) for line in (place / "log").read_text().splitlines()]
        return _compare(direct, lines, f"{kills} server kills, {client_kills} client kills, {lost} answers set to be lost")
    finally:
        server.stop()


def _compare(url: str, lines: list[dict[str, object]], what: str) -> int:
    acknowledged = [line for line in lines if "number" in line]
    errors = sorted({str(line["error"])[:100] for line in lines if "error" in line})
    problems: list[str] = []
    with CheckpointManager(url, key=KEY, on_rollback="warn") as cm:
        report = cm.verify()
        problems += [f"verify: {each}" for each in report.problems]
        stored = 0
        for stage in STAGES:
            history = cm.history(stage)
            stored += len(history)
            if [each.number for each in history] != list(range(len(history), 0, -1)):
                problems.append(f"{stage}: the numbers are not dense")
            mine = {line["number"]: line for line in acknowledged if line["stage"] == stage}
            if len(mine) != sum(line["stage"] == stage for line in acknowledged):
                problems.append(f"{stage}: a number was acknowledged twice")
            for number, line in mine.items():
                data = cm.load_checkpoint(stage, int(str(number)))
                if (data["writer"], data["turn"]) != (line["writer"], line["turn"]):
                    problems.append(f"{stage} {number}: is not what was acknowledged")
            loaded = (cm.load_checkpoint(stage, each.number) for each in history)
            if len({(each["writer"], each["turn"]) for each in loaded}) != len(history):
                problems.append(f"{stage}: a save was written twice")
    print(f"{what}; {len(acknowledged)} acknowledged, {stored} stored, {len(errors)} kinds of errors told")
    print(*(f"  told: {error}" for error in errors), *(f"PROBLEM {problem}" for problem in problems), sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
