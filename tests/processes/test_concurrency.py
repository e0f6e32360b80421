"""Many processes in one directory: nothing is lost, nothing forks, and a killed one harms nobody."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(32)
OPEN = "import sys\nfrom checkpoint_manager import CheckpointManager\ncm = CheckpointManager(sys.argv[1], key=bytes(32))\n"


def start(program: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", OPEN + program, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=dict(os.environ))


def outputs(children: list[subprocess.Popen[str]]) -> list[str]:
    said = [child.communicate(timeout=100)[0] for child in children]
    assert [child.returncode for child in children] == [0] * len(children)
    return said


def test_eight_processes_that_update_lose_no_increment(tmp_path: Path) -> None:
    program = "for _ in range(25): cm.update_checkpoint('count', lambda present: (present or 0) + 1)"
    outputs([start(program, tmp_path / "store") for _ in range(8)])
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    assert cm.load_checkpoint("count") == 200
    history = cm.history("count")
    assert [version.version for version in history] == list(range(200, 0, -1))
    assert [cm.load_checkpoint("count", number) for number in range(1, 201)] == list(range(1, 201))
    assert all(later.created_at >= earlier.created_at for later, earlier in pairwise(history))
    assert cm.verify().problems == ()


def test_of_writers_that_expect_the_same_version_one_wins(tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "store", key=KEY).save_checkpoint("train", 0)
    program = (
        "from checkpoint_manager import VersionConflictError\n"
        "try: print(cm.save_checkpoint('train', sys.argv[2], expected_version=1).version)\n"
        "except VersionConflictError as error: print('conflict', error.expected)\n"
    )
    said = sorted(text.strip() for text in outputs([start(program, tmp_path / "store", number) for number in range(4)]))
    assert said == ["2", "conflict 1", "conflict 1", "conflict 1"]


def test_savers_killed_at_random_lose_nothing_acknowledged(tmp_path: Path) -> None:
    program = (
        "import itertools\n"
        "for number in itertools.count():\n"
        "    print(cm.save_checkpoint('train', [sys.argv[2], number]).version, number, flush=True)\n"
    )
    dice = random.Random(7)
    acknowledged: dict[int, list[object]] = {}
    for name in range(12):
        child = start(program, tmp_path / "store", name)
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(dice.random() * 0.03)
        child.send_signal(signal.SIGKILL)
        lines += child.communicate()[0].splitlines()
        for line in lines:
            if len(line.split()) == 2:
                version, number = map(int, line.split())
                acknowledged[version] = [str(name), number]
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    newest = cm.history("train")[0].version
    assert [version.version for version in cm.history("train")] == list(range(newest, 0, -1))
    assert len(acknowledged) >= 12
    assert {version: cm.load_checkpoint("train", version) for version in acknowledged} == acknowledged
    assert cm.verify().ok
    assert cm.save_checkpoint("train").version == newest + 1
    cm.repair()
    assert cm.verify().problems == ()


def test_a_manager_is_used_on_after_a_fork(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", "parent")
    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                for turn in range(10):
                    cm.save_checkpoint("train", [number, turn])
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    for turn in range(10):
        cm.save_checkpoint("train", ["parent", turn])
    assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [0] * 4
    assert [version.version for version in cm.history("train")] == list(range(51, 0, -1))
    assert cm.verify().problems == ()


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_readers_see_whole_versions_that_never_go_back(tmp_path: Path, durability: str) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY, durability=durability)  # type: ignore[arg-type]
    cm.save_checkpoint("train", [0] * 1000)
    reader = (
        "last = -1\n"
        "for _ in range(400):\n"
        "    data = cm.load_checkpoint('train')\n"
        "    assert len(set(data)) == 1 and len(data) == 1000 and data[0] >= last\n"
        "    last = data[0]\n"
        "print(last)\n"
    )
    children = [start(reader, tmp_path / "store") for _ in range(2)]
    number = 0
    while any(child.poll() is None for child in children):
        number += 1
        cm.save_checkpoint("train", [number] * 1000)
    assert all(int(text) >= 0 for text in outputs(children))
