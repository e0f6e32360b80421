"""What someone who may write to the store says about runs: held locks of any name, and notices put where they don't belong."""

from __future__ import annotations

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, LockTimeoutError
from checkpoint_manager.backends.object_store import backend as object_store
from checkpoint_manager.reports import Running
from tests.s3 import prefix_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.s3 import Server

KEY = bytes(range(32))
NAME = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Callable[[str, bytes], Path]]:
    """Plant the lock file of a run, with a notice in it, and hold its lock."""
    held = []

    def plant(name: str, notice: bytes) -> Path:
        path = tmp_path / "store" / ".locks" / name
        path.write_bytes(notice)
        held.append(os.open(path, os.O_RDWR))
        fcntl.flock(held[-1], fcntl.LOCK_EX)
        return path

    yield plant
    for descriptor in held:
        os.close(descriptor)


def notice_of(cm: CheckpointManager, stage: str) -> tuple[str, bytes]:
    """Return the name and the content of the lock file of a genuine run of a stage."""
    with cm.loop(stage, range(2), initial=0, bar=False) as loop:
        for item in loop:
            loop.state = item
        (path,) = (Path(cm._store.backend.location) / ".locks").glob(f"{stage}~*.run")
        return path.name, path.read_bytes()


def test_a_planted_lock_says_nothing_of_a_run(tmp_path: Path, hold: Callable[[str, bytes], Path]) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    _, notice = notice_of(cm, "train")
    _, of_another_store = notice_of(CheckpointManager(tmp_path / "other", key=KEY), "train")
    cm.save_checkpoint("clean", 1)
    for number, (stage, told) in enumerate(
        (
            ("clean", notice),
            ("train", of_another_store),
            ("train", notice[:-1]),
            ("train", b"\x1b[2Jjunk"),
            ("train", b""),
            ("planted", notice),
            ("planted", b"{" * 100_000),
        )
    ):
        hold(f"{stage}~{number:032x}.run", told)
        assert {each for each in cm.running() if each.started_at is not None} == set(), told[:20]
        assert {each.stage for each in cm.running()} <= {"clean", "train"}
        assert cm.stages() == ["clean", "train"]


def test_a_lock_file_of_another_kind_or_any_size_stops_no_look(tmp_path: Path, hold: Callable[[str, bytes], Path]) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", 1)
    locks = tmp_path / "store" / ".locks"
    os.mkfifo(locks / f"train~{NAME}.run")
    (locks / f"train~{'1' * 32}.run").symlink_to("/dev/zero")
    (locks / f"train~{'2' * 32}.run").mkdir()
    os.truncate(hold(f"train~{'3' * 32}.run", b""), 2**40)
    assert cm.running() == [Running("train")]


def test_an_older_notice_is_told_only_while_someone_holds_its_lock(tmp_path: Path, hold: Callable[[str, bytes], Path]) -> None:
    """It is genuine, and says when it was written; nothing else tells that it is put back."""
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    name, notice = notice_of(cm, "train")
    path = tmp_path / "store" / ".locks" / name
    path.write_bytes(notice)
    assert cm.running() == []
    hold(name, notice)
    (told,) = cm.running()
    assert told.updated_at is not None
    assert told.updated_at < datetime.now(UTC)


LEASES = [
    b'{"process": 1e999, "host": "node", "notice": ""}',
    b'{"process": "\\u001b[2J", "host": "node", "notice": 7}',
    b'{"process": 1, "host": "\\u001b]0;title\\u0007", "notice": "\\u00e9"}',
    b'{"notice": ' + b"[" * 30_000,
    b"[" * 30_000,
    b"null",
    b"\xff\xfe",
    b"",
]


@pytest.mark.parametrize("content", LEASES)
def test_a_lease_that_says_anything_is_one_of_another_process(s3: Server, content: bytes) -> None:
    url = s3.url()
    cm = CheckpointManager(url, key=KEY)
    cm.save_checkpoint("train", 1)
    s3.put(f"{prefix_of(url)}/leases/train/{NAME}", content)
    with (
        pytest.raises(LockTimeoutError, match="stage train is locked by") as caught,
        cm._store.backend.lock("train", 0.1, purpose="run", name=NAME),
    ):
        pass
    assert str(caught.value).isprintable()
    assert cm.running() in ([], [Running("train")])


@pytest.mark.parametrize("name", ["train", "train/a/b", "train/a/b/c", "%zz/a"])
def test_an_object_among_the_leases_that_is_no_lease_stops_no_repair(
    s3: Server, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(object_store, "LEASE_SECONDS", 0.0)
    url = s3.url()
    cm = CheckpointManager(url, key=KEY)
    cm.save_checkpoint("train", 1)
    s3.put(f"{prefix_of(url)}/leases/{name}", b"{}")
    assert cm.repair() == []
    assert cm.verify().ok
