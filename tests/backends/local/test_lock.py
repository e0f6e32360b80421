"""The lock: freed when its holder dies, not inherited by a child, not fooled by what stands at its name."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import LockTimeoutError, StorageError
from checkpoint_manager.backends.local.lock import FileLock
from tests import forking

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys, time
from checkpoint_manager.backends.local.lock import FileLock
with FileLock(sys.argv[1], "train.lock", "train", 5):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait()
    child.stdout.close()


def lock(folder: Path, timeout: float = 0.1) -> FileLock:
    return FileLock(str(folder), "train.lock", "train", timeout)


def test_a_stopped_holder_is_named(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    with pytest.raises(LockTimeoutError, match=rf"stage train is locked by process {holder.pid} on .* since 2") as caught:
        lock(tmp_path).__enter__()
    assert str(holder.pid) in str(caught.value.holder)
    os.kill(holder.pid, signal.SIGCONT)


def test_a_killed_holder_frees_the_lock_at_once(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    with lock(tmp_path, 0):
        pass


def test_a_waiting_writer_takes_over(tmp_path: Path) -> None:
    order: list[str] = []

    def wait() -> None:
        with lock(tmp_path, 10):
            order.append("second")

    thread = threading.Thread(target=wait)
    with lock(tmp_path):
        thread.start()
        time.sleep(0.05)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_a_forked_child_neither_holds_nor_frees_its_parents_lock(tmp_path: Path) -> None:
    with lock(tmp_path) as held:

        def leave() -> None:
            """Leave the block as the parent will: what is not its own must not be freed."""
            held.__exit__(None, None, None)
            with pytest.raises(LockTimeoutError):
                lock(tmp_path, 0).__enter__()

        assert forking.end(forking.start(leave)) == 0
        with pytest.raises(LockTimeoutError):
            lock(tmp_path, 0).__enter__()
    sleeper = forking.start(lambda: time.sleep(30))
    with lock(tmp_path, 0):
        pass
    with lock(tmp_path), pytest.raises(LockTimeoutError):
        lock(tmp_path, 0).__enter__()
    os.kill(sleeper, signal.SIGKILL)
    forking.end(sleeper)


def test_a_forked_child_leaves_alone_what_has_the_number_of_its_parents_descriptor_now(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"as it was")
    with lock(tmp_path) as held:

        def leave() -> bool:
            descriptor = os.dup2(os.open(mine, os.O_RDWR), held._descriptor)
            held.__exit__(None, None, None)
            return os.pread(descriptor, 20, 0) != b"as it was"

        assert forking.end(forking.start(leave)) == 0


def test_a_child_that_outlives_the_holder_does_not_keep_the_lock(tmp_path: Path) -> None:
    program = (
        "import os, sys, time\n"
        "from checkpoint_manager.backends.local.lock import FileLock\n"
        "FileLock(sys.argv[1], 'train.lock', 'train', 5).__enter__()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.close(1); os.close(2); time.sleep(60)\n"
        "print(child, flush=True)\n"
        "os._exit(0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    try:
        with lock(tmp_path, 0):
            pass
    finally:
        os.kill(int(done.stdout), signal.SIGKILL)


def test_a_lock_file_that_is_replaced_while_waited_for_is_taken_anew(tmp_path: Path) -> None:
    entered = threading.Event()

    def wait() -> None:
        with lock(tmp_path, 10):
            entered.set()

    with lock(tmp_path):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.05)
        (tmp_path / "train.lock").unlink()
        (tmp_path / "train.lock").write_bytes(b"")
    assert entered.wait(10)
    thread.join()
    with lock(tmp_path):
        (tmp_path / "train.lock").unlink()
    with lock(tmp_path):
        pass


def test_a_lock_on_a_file_that_was_replaced_shuts_nobody_out_and_does_not_count(tmp_path: Path) -> None:
    entered = threading.Event()

    def wait() -> None:
        with lock(tmp_path, 10):
            entered.set()

    replaced = lock(tmp_path)
    replaced.__enter__()
    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.05)
    (tmp_path / "train.lock").unlink()
    with lock(tmp_path):
        replaced.__exit__(None, None, None)
        assert not entered.wait(0.3)
    assert entered.wait(10)
    waiter.join()


def test_a_removed_lock_file_is_made_again(tmp_path: Path) -> None:
    first = lock(tmp_path)
    first.__enter__()
    assert first._named() is not None
    (tmp_path / "train.lock").unlink()
    assert first._named() is None
    first.__exit__(None, None, None)
    with lock(tmp_path):
        assert (tmp_path / "train.lock").exists()


@pytest.mark.parametrize("note", [b"", b"{}", b"[]", b'{"pid":"x","host":1,"since":"now"}', b"\xff" * 512])
def test_a_forged_note_does_not_hide_that_it_is_locked(tmp_path: Path, note: bytes) -> None:
    with lock(tmp_path):
        (tmp_path / "train.lock").write_bytes(note)
        with pytest.raises(LockTimeoutError, match="locked by another writer") as caught:
            lock(tmp_path, 0).__enter__()
    assert caught.value.holder is None


def test_a_lock_file_of_someone_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: refuse() if path == "train.lock" else real(path, *a, **k))
    with pytest.raises(LockTimeoutError, match=r"Permission denied.*who owns it"):
        lock(tmp_path).__enter__()


def test_a_full_table_of_files_is_an_error_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(errno.ENFILE, "Too many open files in system")

    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: refuse() if path == "train.lock" else real(path, *a, **k))
    with pytest.raises(StorageError, match="files that are open on this host"):
        lock(tmp_path).__enter__()


def test_an_interrupted_wait_leaves_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with lock(tmp_path):
        for _ in range(5):
            with pytest.raises(LockTimeoutError):
                lock(tmp_path, 0).__enter__()
    assert len(os.listdir("/proc/self/fd")) == before
