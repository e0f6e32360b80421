"""Locks of runs on disk: there may be very many of them, so a file is there only while one is held."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from checkpoint_manager.backends.base import HeldRun, NoticeBoard
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.local import lock as lock_module
from tests import forking

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

NAME = "5" * 32


def test_the_file_goes_with_the_lock(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    with backend.lock("a", 1, purpose="run", name=NAME):
        assert os.listdir(tmp_path / ".locks") == [f"a~{NAME}.run"]
    assert os.listdir(tmp_path / ".locks") == []


def test_what_waits_for_a_removed_file_excludes_those_that_make_it_again(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    inside, most, rounds = 0, 0, 40

    def work() -> None:
        nonlocal inside, most
        for _ in range(rounds):
            with backend.lock("a", 30, purpose="run", name=NAME):
                inside += 1
                most = max(most, inside)
                os.stat(tmp_path)  # lets the others run
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert os.listdir(tmp_path / ".locks") == []


def test_a_forked_child_does_not_remove_its_parents_file(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    lock = backend.lock("a", 1, purpose="run", name=NAME)
    with lock:
        child = forking.start(lambda: bool(lock.__exit__(None, None, None)))
        assert forking.end(child) == 0
        assert os.listdir(tmp_path / ".locks") == [f"a~{NAME}.run"]


def test_a_file_that_is_not_the_one_that_was_locked_stays(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    path = tmp_path / ".locks" / f"a~{NAME}.run"
    with backend.lock("a", 1, purpose="run", name=NAME):
        path.unlink()
        path.write_bytes(b"someone else's")
    assert path.read_bytes() == b"someone else's"


def test_a_run_is_seen_where_the_kernel_lists_no_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Linux lists them, and not those of a file server. A file that nobody holds is not a run."""
    monkeypatch.setattr(lock_module, "_listed_locks", dict)
    backend = LocalBackend(tmp_path)
    with backend.lock("train", 0, purpose="run", name=NAME) as held:
        assert isinstance(held, NoticeBoard)
        held.write_notice(b"told")
        file = next((tmp_path / ".locks").glob("*~*"))
        file.with_name(file.name.replace(NAME, "2" * 32)).write_bytes(b"left")
        assert LocalBackend(tmp_path).held_runs() == [HeldRun("train", NAME, b"told")]
