"""A disk that is really full, one without inodes, and one that is really read-only, each mounted for the test alone."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.strace import require

if TYPE_CHECKING:
    from pathlib import Path

OPEN = """
import errno, os, subprocess, sys
from pathlib import Path
from checkpoint_manager import CheckpointManager, StorageError

def opened():
    return CheckpointManager(store, key=bytes(32))

disk = Path(sys.argv[1])
store = disk / "store"
"""

FULL = """
cm = opened()
versions = []
filler = disk / "filler"
try:
    while True:
        versions.append(cm.save_checkpoint("train", ["%06d" % len(versions)] * 2000).number)
        if len(versions) == 5:
            with filler.open("wb") as file:
                file.write(bytes(100_000))
except StorageError as error:
    assert error.errno == errno.ENOSPC, error
    assert "Free some space" in error.hint
    assert Path(error.filename).is_relative_to(store)
for _ in range(3):
    try:
        cm.save_checkpoint("train", ["%06d" % len(versions)] * 2000)
    except StorageError as error:
        assert error.errno == errno.ENOSPC
    else:
        raise AssertionError("there was room")
cm = opened()
assert [version.number for version in cm.history("train")] == list(range(len(versions), 0, -1))
for number in versions:
    assert cm.load_checkpoint("train", number) == ["%06d" % (number - 1)] * 2000
assert cm.has_checkpoint("train")
assert cm.verify().problems == (), cm.verify().problems
filler.unlink()
assert cm.save_checkpoint("train", "room again").number == len(versions) + 1
assert opened().load_checkpoint("train") == "room again"
assert cm.verify().problems == ()
print(len(versions))
"""

DELETED_WHEN_FULL = f"""{FULL.partition("filler.unlink()")[0]}
assert cm.delete_stage("train") == versions
assert cm.stages() == []
assert cm.verify().problems == (), cm.verify().problems
assert cm.save_checkpoint("train", "room again").number == len(versions) + 2
print(len(versions))
"""

WITHOUT_INODES = """
cm = opened()
count = 0
try:
    while True:
        cm.save_checkpoint("train", count)
        count += 1
except StorageError as error:
    assert error.errno == errno.ENOSPC, error
assert opened().load_checkpoint("train") == count - 1
assert cm.verify().problems == (), cm.verify().problems
print(count)
"""

READ_ONLY = """
opened().save_checkpoint("train", 1)
opened().save_checkpoint("train", 2)
subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
cm = opened()
assert cm.load_checkpoint("train") == 2
assert cm.load_checkpoint("train", 1) == 1
assert cm.has_checkpoint("train") and not cm.has_checkpoint("new")
assert len(cm.history("train")) == 2
assert cm.verify().problems == ()
for write in (
    lambda: cm.save_checkpoint("train", 3),
    lambda: cm.save_checkpoint("new", 3),
    lambda: cm.restore_checkpoint("train", 1),
    lambda: cm.clear_checkpoints(),
    lambda: cm.delete_versions("train", [1]),
    lambda: cm.keys.rotate(),
):
    try:
        write()
    except StorageError as error:
        assert error.errno == errno.EROFS, error
        assert "Read-only" in error.message and "writable" in error.hint, error
    else:
        raise AssertionError("it was written to")
subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
assert cm.save_checkpoint("train", 3).number == 3
print(3)
"""


@pytest.mark.parametrize(
    ("options", "program", "least"),
    [
        ("size=512k", FULL, 5),
        ("size=512k", DELETED_WHEN_FULL, 5),
        ("size=10m,nr_inodes=40", WITHOUT_INODES, 5),
        ("size=1m", READ_ONLY, 3),
    ],
    ids=["full", "full and a stage is deleted", "without inodes", "read-only"],
)
def test_a_disk_that_takes_no_more(tmp_path: Path, options: str, program: str, least: int) -> None:
    require("unshare")
    namespace = ["unshare", "--mount", *(() if os.getuid() == 0 else ("--user", "--map-root-user"))]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", str(tmp_path)], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount anything")
    script = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3" "$1"'
    command = [*namespace, "sh", "-c", script, "sh", str(tmp_path), sys.executable, OPEN + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least
