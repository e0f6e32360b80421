"""A disk that is really full, one without inodes, and one that is really read-only, each mounted for the test alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.strace import require
from tests.postgres import programs, require_program

OPEN = """
import errno, os, subprocess, sys
from pathlib import Path
from checkpoint_manager import CheckpointManager, StorageError

def opened():
    return CheckpointManager(store, key=bytes(32))

disk = Path(sys.argv[1])
store = disk / "store"
"""
SQLITE = """
store = f"sqlite:///{disk}/store.db"
"""
TABLESPACE = f"""
import atexit, logging, psycopg
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from tests.postgres import Server
logging.disable(logging.WARNING)
server = Server()
server.start()
atexit.register(server.stop)
disk = Path(server.folder, "small")
disk.mkdir()
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=9m", "none", str(disk)], check=True)
atexit.register(subprocess.run, ["umount", str(disk)])
owner = os.stat(server.data)
os.chown(disk, owner.st_uid, owner.st_gid)
with psycopg.connect(server.url().partition("?")[0], autocommit=True) as connection:
    connection.execute(f"CREATE TABLESPACE small LOCATION '{{disk}}'")
    connection.execute("CREATE DATABASE small TABLESPACE small")
store = f"postgresql://checkpoints@127.0.0.1:{{server.port}}/small"
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
    assert "Free " in error.hint
    assert error.filename is None or Path(error.filename).is_relative_to(disk)
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

ATTACHMENTS_WHEN_FULL = """
import numpy
from checkpoint_manager._format import attachment
from checkpoint_manager._store import listing

attachment.SEGMENT_BYTES = 65536  # in place of 16 MiB
cm = opened()
contents, filler, left = [], disk / "filler", store / "history" / "train" / "attachments"
filler.write_bytes(bytes(200_000))
data = {"array": numpy.zeros(3, "u1")}

def save(number):
    content = os.urandom(150_000)  # three segments
    kind = ("attached", "in the data", "updated")[number % 3]
    try:
        if kind == "attached":
            cm.save_checkpoint("train", number, attachments={"raw": content, "small": b"x"})
        elif kind == "in the data":
            cm.save_checkpoint("train", {"array": numpy.frombuffer(content, "u1")})
        else:
            cm.update_checkpoint("train", lambda _: {"array": numpy.frombuffer(content, "u1")})
    except StorageError as error:
        assert error.errno == errno.ENOSPC, error
        return False
    contents.append(content)
    return True

def whole(manager):
    found = []
    for number in range(1, len(contents) + 1):
        each = manager.get_checkpoint("train", number)
        found.append(each.attachments["raw"].read() if each.attachments else each.data["array"].tobytes())
    return found == contents

def nothing_left():
    referred = {each.id for _, entry in listing.entries(cm._store, "train", None) for each in entry.attachments}
    return {each.name for each in left.iterdir()} == referred

while save(len(contents)):
    pass
for kind in range(6):
    assert not save(kind), "there was room"
    assert nothing_left()
assert whole(opened()) and cm.verify().problems == ()
assert cm.has_checkpoint("train")
filler.unlink()
for kind in range(3):
    if not save(kind):
        break
    assert whole(opened()) and nothing_left() and cm.verify().problems == ()
assert kind > 0
print(len(contents))
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
        ("size=1m", ATTACHMENTS_WHEN_FULL, 4),
        ("size=10m,nr_inodes=40", WITHOUT_INODES, 5),
        ("size=1m", READ_ONLY, 3),
        ("size=6m", SQLITE + FULL, 5),
        ("size=6m", SQLITE + DELETED_WHEN_FULL, 5),
        ("size=1m", TABLESPACE + FULL, 5),
    ],
    ids=[
        "full",
        "full and a stage is deleted",
        "full of attachments",
        "without inodes",
        "read-only",
        "full with a database",
        "full with a database and a stage is deleted",
        "a full tablespace of a server",
    ],
)
def test_a_disk_that_takes_no_more(tmp_path: Path, options: str, program: str, least: int) -> None:
    require("unshare")
    if program.startswith(TABLESPACE):
        require_program("initdb", programs())
        if os.getuid() or not os.environ.get("TESTS_LONG_RUNS"):
            pytest.skip("a long run, in which only root may mount a file system for a server")
    namespace = ["unshare", "--mount", *(() if os.getuid() == 0 else ("--user", "--map-root-user"))]
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "none", str(tmp_path)], check=False, capture_output=True).returncode:
        pytest.skip("this user may not mount anything")
    script = f'mount -t tmpfs -o {options} none "$1" && exec "$2" -c "$3" "$1"'
    command = [*namespace, "sh", "-c", script, "sh", str(tmp_path), sys.executable, OPEN + program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= least
