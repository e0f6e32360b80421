"""Modules that are loaded on demand: never under a lock, and not across a fork."""

from __future__ import annotations

import inspect
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from pathlib import Path

WATCHED = """
import contextlib, sys
from checkpoint_manager import CheckpointManager, Retention
from checkpoint_manager.backends.local import LocalBackend

held = 0

class Watched(LocalBackend):
    @contextlib.contextmanager
    def lock(self, *args, **kwargs):
        global held
        with super().lock(*args, **kwargs):
            held += 1
            try:
                yield
            finally:
                held -= 1

class Watch:
    @staticmethod
    def find_spec(name, *_):
        if held:
            print(name)

sys.meta_path.insert(0, Watch)
"""
"""Prints what is imported while a lock of a ``Watched`` backend is held."""


def run(program: str, folder: Path) -> list[str]:
    command = [sys.executable, "-c", inspect.cleandoc(program), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_nothing_is_imported_while_a_lock_is_held(tmp_path: Path) -> None:
    """The file of a module may be slow or unreadable just then, and a fork would leave the module half loaded in its child."""
    program = """
        folder, key, other = sys.argv[1], bytes(32), bytes([1] * 32)
        cm = CheckpointManager(Watched(folder + "/store"), key=key, retention=Retention(keep_last=5))
        for epoch in range(30):
            cm.save_checkpoint("train", {"epoch": epoch, "loss": 0.5, "note": "ü"}, metadata={"run": "a"})
        cm.has_checkpoint("train"), cm.load_checkpoint("train"), cm.history("train"), cm.load_checkpoint("train", at="0s")
        cm.update_checkpoint("train", lambda data: [data])
        cm.tag("train", "prev", "good"), cm.tags("train"), cm.diff("train"), cm.untag("train", "good")
        cm.clear_checkpoint("train"), cm.restore_checkpoint("train", "prev"), cm.restore_pipeline(at="0s")
        cm.delete_versions("train", [cm.get_version("train", "prev").number])
        cm.prune(Retention(keep_last=1)), cm.verify(), cm.repair(), cm.accept_rollback()
        cm.export_bundle(folder + "/bundle", key=other)
        CheckpointManager(Watched(folder + "/there"), key=key).import_bundle(folder + "/bundle", key=other)
        cm.copy_to(Watched(folder + "/copy"), key=key)
        slot = cm.keys.add(other)
        cm.keys.list(), cm.keys.rotate(drop=[slot.slot])

        @cm.stage
        def double(number):
            return 2 * number

        double(2), double(2)
        with cm.loop("sum", range(3), initial=0, every_items=1) as loop:
            for number in loop:
                loop.state += number
        cm.run_report()
    """
    assert run(WATCHED + inspect.cleandoc(program), tmp_path) == []


@pytest.mark.parametrize(
    "operation",
    ["prune(Retention(keep_last=1))", "restore_checkpoint('train', 1)", "save_checkpoint('train', attachments={'log': b'b'})"],
)
def test_nor_for_the_first_attachment_that_a_process_meets(operation: str, tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=bytes(32))
    cm.save_checkpoint("train", attachments={"log": b"a"})
    cm.save_checkpoint("train")
    program = f"""
        cm = CheckpointManager(Watched(sys.argv[1] + "/store"), key=bytes(32))
        cm.{operation}
    """
    assert run(WATCHED + inspect.cleandoc(program), tmp_path) == []


def test_a_fork_waits_for_what_another_thread_is_loading(tmp_path: Path) -> None:
    """Else a child that needs the same module would wait for it for ever. The module asks for a logger while the fork waits."""
    program = """
        import importlib.abc, os, signal, sys, threading, time
        from checkpoint_manager import CheckpointManager

        cm = CheckpointManager(sys.argv[1] + "/store", key=bytes(32))
        cm.save_checkpoint("train", 1)
        loading = threading.Event()

        class SlowDisk(importlib.abc.MetaPathFinder):
            def find_spec(self, name, *_):
                if name == "checkpoint_manager._operations.verify":
                    loading.set()
                    time.sleep(0.5)

        sys.meta_path.insert(0, SlowDisk())
        verifying = threading.Thread(target=cm.verify)
        verifying.start()
        assert loading.wait(30)
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(0 if cm.verify().ok else 1)
        verifying.join()
        print(os.waitpid(child, 0)[1])
    """
    assert run(program, tmp_path) == ["0"]


def test_a_fork_meets_no_import_that_begins_after_it_has_looked_for_those_under_way(tmp_path: Path) -> None:
    """What another library has registered runs after that look, if that library was loaded before this one."""
    program = """
        import importlib.abc, os, signal, sys, threading, time

        loading, verifying = threading.Event(), []

        def begin():
            if verifying and not verifying[0].is_alive():
                verifying[0].start()
                loading.wait(0.5)

        os.register_at_fork(before=begin)
        from checkpoint_manager import CheckpointManager

        cm = CheckpointManager(sys.argv[1] + "/store", key=bytes(32))
        cm.save_checkpoint("train", 1)

        class SlowDisk(importlib.abc.MetaPathFinder):
            def find_spec(self, name, *_):
                if name == "checkpoint_manager._operations.verify":
                    loading.set()
                    time.sleep(0.5)

        sys.meta_path.insert(0, SlowDisk())
        verifying.append(threading.Thread(target=cm.verify))
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            os._exit(0 if cm.verify().ok else 1)
        verifying[0].join()
        print(os.waitpid(child, 0)[1])
    """
    assert run(program, tmp_path) == ["0"]


def test_a_module_that_loads_others_does_not_keep_a_fork_waiting(tmp_path: Path) -> None:
    """Its import is under way, so the fork waits for it; what it loads itself must not wait for the fork."""
    slow = "import time; from checkpoint_manager import _loading; time.sleep(0.5); _loading.load('inner')"
    (tmp_path / "outer.py").write_text(slow)
    (tmp_path / "inner.py").write_text("")
    program = """
        import os, sys, threading, time
        from checkpoint_manager import CheckpointManager, _loading

        CheckpointManager("memory:", key=bytes(32))
        sys.path.insert(0, sys.argv[1])
        _loading._LONGEST_FORK = 1e9
        outer = threading.Thread(target=_loading.load, args=("outer",))
        outer.start()
        while not _loading._under_way:
            time.sleep(0.01)
        child = os.fork()
        if child == 0:
            os._exit(0 if _loading.load("inner") and _loading._forking == _loading._under_way == [] else 1)
        outer.join()
        print(os.waitpid(child, 0)[1])
    """
    assert run(program, tmp_path) == ["0"]
