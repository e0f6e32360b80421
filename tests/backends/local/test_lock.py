"""The lock: freed when its holder dies, not inherited by a child, not fooled by what stands at its name."""

from __future__ import annotations

import contextlib
import errno
import gc
import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, LockTimeoutError, StorageError
from checkpoint_manager._filesystem.descriptors import Kept
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.local.lock import FileLock, LockFile, descriptors_held
from checkpoint_manager.backends.local.session import LockSession
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import FrameType

HOLDER = """
import sys, time
from checkpoint_manager.backends.local import LocalBackend
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


def lock(folder: Path, timeout: float = 0.1, *, kept: Kept[LockFile] | None = None) -> FileLock:
    return FileLock(str(folder), "train.lock", "train", timeout, kept=kept)


def refused(folder: Path, timeout: float = 0) -> LockTimeoutError:
    """Return what another thread is told that tries to take the lock."""
    with ThreadPoolExecutor(1) as pool:
        error = pool.submit(lambda: lock(folder, timeout).__enter__()).exception()
    assert isinstance(error, LockTimeoutError)
    return error


def test_a_stopped_holder_is_named_by_the_kernel(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    os.kill(holder.pid, signal.SIGSTOP)
    told = rf"stage train is locked, .* within 0\.1 s: the kernel says that it is held by process {holder.pid}\. Wait"
    with pytest.raises(LockTimeoutError, match=told) as caught:
        lock(tmp_path).__enter__()
    assert caught.value.holder == f"process {holder.pid}"
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


@pytest.mark.parametrize("kept", [None, Kept()])
def test_a_forked_child_neither_holds_nor_frees_its_parents_lock(tmp_path: Path, kept: Kept[LockFile] | None) -> None:
    with lock(tmp_path, kept=kept) as held:

        def leave() -> None:
            """Leave the block as the parent will: what is not its own must not be freed."""
            held.let_go()
            held.__exit__(None, None, None)
            refused(tmp_path)

        assert forking.end(forking.start(leave)) == 0
        refused(tmp_path)
    sleeper = forking.start(lambda: time.sleep(30))
    with lock(tmp_path, 0):
        pass
    with lock(tmp_path):
        refused(tmp_path)
    os.kill(sleeper, signal.SIGKILL)
    forking.end(sleeper)


def test_a_forked_child_leaves_alone_what_has_the_number_of_its_parents_descriptor_now(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_bytes(b"as it was")
    with lock(tmp_path) as held:
        number = held.fileno()

        def leave() -> bool:
            descriptor = os.dup2(os.open(mine, os.O_RDWR), number)
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
    with ThreadPoolExecutor(1) as pool:
        other = lock(tmp_path)
        pool.submit(other.__enter__).result()
        replaced.__exit__(None, None, None)
        assert not entered.wait(0.3)
        other.__exit__(None, None, None)
    assert entered.wait(10)
    waiter.join()


def test_a_strict_umask_does_not_lock_out_the_next_writer(tmp_path: Path) -> None:
    before = os.umask(0o777)
    try:
        with lock(tmp_path):
            assert stat.S_IMODE((tmp_path / "train.lock").stat().st_mode) == 0o600
    finally:
        os.umask(before)


def test_a_file_linked_to_a_locks_name_keeps_its_mode(tmp_path: Path) -> None:
    (tmp_path / "precious").touch(mode=0o400)
    (tmp_path / "train.lock").hardlink_to(tmp_path / "precious")
    with contextlib.suppress(LockTimeoutError), lock(tmp_path):
        pass
    assert stat.S_IMODE((tmp_path / "precious").stat().st_mode) == 0o400


def test_a_lock_file_is_kept_open_for_the_next_lock_and_not_locked(tmp_path: Path) -> None:
    kept: Kept[LockFile] = Kept()
    numbers = set()
    for _ in range(3):
        with lock(tmp_path, kept=kept) as held, LockSession(held):
            numbers.add(held.fileno())
            refused(tmp_path)
        with lock(tmp_path, 0):
            pass
    assert len(numbers) == 1
    assert not numbers & set(descriptors_held())
    assert forking.end(forking.start(lambda: bool(os.fstat(*numbers).st_size))) == forking.RAISED, "a child closes it"
    kept.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(*numbers)


def test_two_that_hold_a_lock_in_turn_keep_one_file(tmp_path: Path) -> None:
    kept: Kept[LockFile] = Kept()
    first, second = lock(tmp_path, kept=kept), lock(tmp_path, kept=kept)
    with first:
        with ThreadPoolExecutor(1) as pool:
            assert isinstance(pool.submit(second.__enter__).exception(), LockTimeoutError)
        first.let_go()
    assert len(kept) == 1
    kept.close()


@pytest.mark.parametrize("instead", [None, b"another"])
def test_a_kept_lock_file_that_lost_its_name_is_given_up(tmp_path: Path, instead: bytes | None) -> None:
    kept: Kept[LockFile] = Kept()
    with lock(tmp_path, kept=kept) as held, LockSession(held):
        pass
    (tmp_path / "train.lock").unlink()
    if instead is not None:
        (tmp_path / "train.lock").write_bytes(instead)
    with lock(tmp_path, kept=kept):
        refused(tmp_path)


def test_a_removed_lock_file_is_made_again(tmp_path: Path) -> None:
    first = lock(tmp_path)
    first.__enter__()
    assert first._named() is not None
    (tmp_path / "train.lock").unlink()
    assert first._named() is None
    first.__exit__(None, None, None)
    with lock(tmp_path):
        assert (tmp_path / "train.lock").exists()


def test_a_forged_lock_holder_is_refused(tmp_path: Path) -> None:
    """What stands in the file is not believed: only the kernel says who holds a lock."""
    with lock(tmp_path):
        (tmp_path / "train.lock").write_bytes(b'{"pid":1,"host":"here","since":"2026-01-01T00:00:00+00:00"}')
        error = refused(tmp_path)
    assert error.holder == f"process {os.getpid()}"
    assert "2026" not in str(error)
    assert "stop" not in str(error)


@pytest.mark.parametrize("answer", ["", "1: FLOCK", "1: FLOCK ADVISORY WRITE x 0:0:{inode} 0 EOF", "{line} -1 {place} 0 EOF"])
def test_a_kernel_that_does_not_name_the_holder_is_no_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    with lock(tmp_path):
        status = (tmp_path / "train.lock").stat()
        place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        text = answer.format(inode=status.st_ino, line="1: FLOCK ADVISORY WRITE", place=place)
        real = open
        monkeypatch.setattr(
            "builtins.open", lambda name, *a, **k: io.StringIO(text) if name == "/proc/locks" else real(name, *a, **k)
        )
        error = refused(tmp_path)
    assert error.holder is None
    assert "held by another writer" in str(error)


def test_a_lock_file_that_is_replaced_for_ever_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = FileLock._named

    def replace(self: FileLock) -> os.stat_result | None:
        (tmp_path / "other").write_bytes(b"")
        (tmp_path / "other").rename(tmp_path / "train.lock")
        return named(self)

    monkeypatch.setattr(FileLock, "_named", replace)
    started = time.monotonic()
    with pytest.raises(LockTimeoutError, match="another file keeps being put in the place"):
        lock(tmp_path, 0.3).__enter__()
    assert time.monotonic() - started < 20
    monkeypatch.undo()
    with lock(tmp_path, 0):
        pass


def test_a_thread_that_holds_the_lock_does_not_wait_for_itself(tmp_path: Path) -> None:
    with lock(tmp_path), pytest.raises(CheckpointError, match="already locked by this thread") as caught:
        lock(tmp_path, 60).__enter__()
    assert not isinstance(caught.value, LockTimeoutError)
    with lock(tmp_path, 0):
        pass


@pytest.mark.parametrize("is_kept", [True, False])
def test_nor_does_it_after_a_signal_handler_took_the_lock_just_before_it(tmp_path: Path, is_kept: bool) -> None:
    class Interrupted(Kept[LockFile]):
        def pop(self, name: str, default: Any = None) -> Any:
            file = super().pop(name, default)
            with lock(tmp_path):  # the handler comes at this step
                pass
            return file

    kept = Interrupted()
    if is_kept:
        with lock(tmp_path, kept=kept) as first, LockSession(first):
            pass
        assert kept
    with lock(tmp_path, kept=kept), pytest.raises(CheckpointError, match="already locked by this thread"):
        lock(tmp_path, 0).__enter__()


def test_a_lock_that_is_not_held_can_be_left(tmp_path: Path) -> None:
    never = lock(tmp_path)
    never.__exit__(None, None, None)
    with pytest.raises(ValueError, match="once"), never:
        pass
    with lock(tmp_path, 0):
        pass


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_a_lock_file_of_someone_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    with lock(tmp_path):
        pass
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *a, **k: refuse() if path == "train.lock" else real(path, *a, **k))
    with pytest.raises(StorageError, match=r"Permission denied\. Give this user access"):
        lock(tmp_path).__enter__()
    os.chown(lock(tmp_path)._path, 65_534, 65_534)
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
    gc.collect()  # the managers of other tests, with the folders that they keep open
    before = len(os.listdir("/proc/self/fd"))
    with lock(tmp_path):
        for _ in range(5):
            refused(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_planted_lock_name_blocks_nothing_and_is_not_printed(tmp_path: Path) -> None:
    """Names that no stage has, and what nobody can lock, are not waited for."""
    backend = LocalBackend(tmp_path / "store")
    with backend.lock("train", 1):
        pass
    locks = tmp_path / "store" / ".locks"
    for name in (b"\x1b]0;pwned\x07.lock", b"\xff\xfe.lock", b"..lock", b"CON.lock", b"x.lock", b"y.lock", b"%%.lock"):
        os.symlink("/nowhere", os.fsencode(locks) + b"/" + name)
    (locks / "z.lock").mkdir()
    os.mkfifo(locks / "fifo.lock")
    backend.wait_for_writers(5)


def test_all_writers_are_waited_for_with_one_deadline(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "store")
    with contextlib.ExitStack() as held, ThreadPoolExecutor(1) as pool:
        for number in range(20):
            held.enter_context(backend.lock(f"s{number}", 1))
        started = time.monotonic()
        with pytest.raises(LockTimeoutError):
            pool.submit(backend.wait_for_writers, 0.3).result()
        assert time.monotonic() - started < 20 * 0.3


def test_a_store_whose_lock_can_not_be_made_is_named(tmp_path: Path) -> None:
    with (
        pytest.raises(StorageError, match="can't take the lock of the store: "),
        FileLock(str(tmp_path / "no" / "locks"), "x", None, 1),
    ):
        pass


OPERATIONS: dict[str, Callable[[CheckpointManager], object]] = {
    "save": lambda cm: cm.save_checkpoint("train", 1),
    "repair": lambda cm: cm.repair(),
    "add": lambda cm: cm.keys.add(bytes(range(32)), label="other"),
}


@pytest.mark.parametrize(
    ("operation", "step"),
    [
        ("save", "LocalSession.end"),
        ("save", "FileLock.let_go"),
        ("repair", "LocalSession.end"),
        ("repair", "FileLock.let_go"),
        ("add", "LocalSession.end"),
        ("add", "FileLock.let_go"),
    ],
)
def test_an_interruption_at_the_end_of_an_operation_does_not_keep_its_lock(tmp_path: Path, operation: str, step: str) -> None:
    """Ctrl-C may come before the first step of any function; its traceback, which refers to what they hold, may live long."""

    def interrupt(frame: FrameType, _: str, __: object) -> None:
        if frame.f_code.co_qualname == step:
            sys.settrace(None)
            raise KeyboardInterrupt

    cm, other = (CheckpointManager(tmp_path / "store", key=bytes(32), lock_timeout=0) for _ in range(2))
    cm.save_checkpoint("train", 0)
    before = sys.gettrace()
    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            OPERATIONS[operation](cm)
    finally:
        sys.settrace(before)
    assert other.save_checkpoint("train", 2).number in {2, 3}
    other.keys.add(bytes(range(1, 33)), label="another")
    assert caught.tb is not None
