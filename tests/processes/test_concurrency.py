"""Many processes in one directory: nothing is lost, nothing forks, and a killed one harms nobody."""

from __future__ import annotations

import functools
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
from tests import forking

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
    assert [version.number for version in history] == list(range(200, 0, -1))
    assert [cm.load_checkpoint("count", number) for number in range(1, 201)] == list(range(1, 201))
    assert all(later.created_at >= earlier.created_at for later, earlier in pairwise(history))
    assert cm.verify().problems == ()


def test_of_writers_that_expect_the_same_version_one_wins(tmp_path: Path) -> None:
    CheckpointManager(tmp_path / "store", key=KEY).save_checkpoint("train", 0)
    program = (
        "from checkpoint_manager import VersionConflictError\n"
        "try: print(cm.save_checkpoint('train', sys.argv[2], expected_version=1).number)\n"
        "except VersionConflictError as error: print('conflict', error.expected)\n"
    )
    said = sorted(text.strip() for text in outputs([start(program, tmp_path / "store", number) for number in range(4)]))
    assert said == ["2", "conflict 1", "conflict 1", "conflict 1"]


def test_savers_killed_at_random_lose_nothing_acknowledged(tmp_path: Path) -> None:
    program = (
        "import itertools\n"
        "for number in itertools.count():\n"
        "    print(cm.save_checkpoint('train', [sys.argv[2], number]).number, number, flush=True)\n"
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
    newest = cm.history("train")[0].number
    assert [version.number for version in cm.history("train")] == list(range(newest, 0, -1))
    assert len(acknowledged) >= 12
    assert {version: cm.load_checkpoint("train", version) for version in acknowledged} == acknowledged
    assert cm.verify().ok
    assert cm.save_checkpoint("train").number == newest + 1
    cm.repair()
    assert cm.verify().problems == ()


def test_a_manager_is_used_on_after_a_fork(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", "parent")

    def save(who: int | str) -> None:
        for turn in range(10):
            cm.save_checkpoint("train", [who, turn])

    children = [forking.start(functools.partial(save, number)) for number in range(4)]
    save("parent")
    assert [forking.end(child) for child in children] == [0] * 4
    assert [version.number for version in cm.history("train")] == list(range(51, 0, -1))
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


WITH_RETENTION = (
    "from checkpoint_manager import Retention\n"
    "from checkpoint_manager._operations import auto_prune\n"
    "auto_prune._ENOUGH = 3\n"
    "cm = CheckpointManager(sys.argv[1], key=bytes(32), retention=Retention(keep_last=5))\n"
)


def test_processes_that_prune_after_each_save_lose_nothing_that_is_kept(tmp_path: Path) -> None:
    """Four writers, one that tags what is the newest just then, and one that reads."""
    CheckpointManager(tmp_path / "store", key=KEY).save_checkpoint("train", 0)
    saver = WITH_RETENTION + "for number in range(60): cm.save_checkpoint('train', number)\n"
    tagger = (
        "for number in range(20):\n"
        "    version = cm.resolve('train')\n"
        "    try: print(cm.tag('train', version.number, f't{number}').number)\n"
        "    except LookupError: pass  # it is pruned by now\n"
    )
    reader = "for _ in range(200):\n    cm.load_checkpoint('train')\n    cm.history('train')\n"
    children = [start(program, tmp_path / "store") for program in (saver, saver, saver, saver, tagger, reader)]
    tagged = {int(line) for line in outputs(children)[4].split()}
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    present = {version.number for version in cm.history("train")}
    assert present >= {237, 238, 239, 240, 241} | tagged
    assert len(present) <= 5 + len(tagged) + 4 * 3
    assert set(cm.tags("train").values()) == tagged
    assert cm.verify().problems == ()


def test_processes_killed_while_they_prune_leave_what_is_kept_and_nothing_else(tmp_path: Path) -> None:
    program = WITH_RETENTION + (
        "import itertools\nfor number in itertools.count(): print(cm.save_checkpoint('train', number).number, flush=True)\n"
    )
    dice = random.Random(8)
    newest = 0
    for _ in range(12):
        child = start(program, tmp_path / "store")
        assert child.stdout is not None
        lines = [child.stdout.readline()]
        time.sleep(dice.random() * 0.1)
        child.send_signal(signal.SIGKILL)
        lines += child.communicate()[0].splitlines(keepends=True)
        newest = max(newest, *(int(line) for line in lines if line.endswith("\n")))
        cm = CheckpointManager(tmp_path / "store", key=KEY)
        present = [version.number for version in cm.history("train")]
        assert present[0] in {newest, newest + 1}
        newest = present[0]
        assert present[:5] == list(range(newest, max(0, newest - 5), -1))
        assert cm.verify().ok
    outputs([start(WITH_RETENTION + "cm.save_checkpoint('train')\n", tmp_path / "store")])
    assert len(cm._store.backend.versions("train")) <= 5 + 3
    cm.repair()
    assert cm.verify().problems == ()
