"""The SQLite backend beyond the contract: what only a database file can meet."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import pickle
import shutil
import signal
import sqlite3
import stat
import struct
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, IntegrityError, LocationError, RollbackError, StorageError
from checkpoint_manager._filesystem import files
from checkpoint_manager._store.scan import find_stores
from checkpoint_manager.backends.base import (
    NewVersion,
    OutOfOrderError,
    UnknownOutcomeError,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.backends.local import folders
from checkpoint_manager.backends.registry import open_backend
from checkpoint_manager.backends.sqlite import SqliteBackend
from tests import forking

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = bytes(32)
LARGE = bytes(range(256)) * 4096 * 3  # three chunks


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def backend(path: Path) -> Iterator[SqliteBackend]:
    backend = SqliteBackend(path)
    yield backend
    backend.close()


def behind(path: Path, *statements: str) -> list[tuple[object, ...]]:
    """Run statements on a connection of another program, and return the rows of the last."""
    rows: list[tuple[object, ...]] = []
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            rows = connection.execute(statement).fetchall()
    return rows


def opened(path: Path, **options: object) -> CheckpointManager:
    return CheckpointManager(f"sqlite:///{path}", key=KEY, **options)  # type: ignore[arg-type]


# The URL


def test_three_slashes_name_a_path_below_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with CheckpointManager("sqlite:///run/100%25 #1?.db".replace("#", "%23").replace("?", "%3f"), key=KEY) as cm:
        cm.save_checkpoint("train", 1)
    assert (tmp_path / "run" / "100% #1?.db").exists()


def test_the_location_that_is_shown_opens_the_same_database(tmp_path: Path) -> None:
    backend = SqliteBackend(tmp_path / "100% #1?.db")
    backend.append("train", 1, lambda: [b"x"])
    again = open_backend(backend.location)
    assert again.versions("train") == [1]
    backend.close()
    again.close()


def test_a_tilde_is_the_home_directory(home: Path) -> None:
    with CheckpointManager("sqlite:///~/store.db", key=KEY) as cm:
        cm.save_checkpoint("train", 1)
    assert (home / "store.db").exists()


@pytest.mark.parametrize("url", ["sqlite://x.db", "sqlite://", "sqlite:///", "sqlite:///x.db?mode=ro", "sqlite:///x.db#1"])
def test_a_url_that_names_no_file_is_refused(url: str) -> None:
    with pytest.raises(LocationError):
        open_backend(url)


def test_a_path_that_no_file_can_have_is_refused() -> None:
    with pytest.raises(LocationError, match="null"):
        open_backend("sqlite:///a%00b.db")


def test_a_link_to_another_store_in_the_place_of_the_directory_is_noticed(tmp_path: Path) -> None:
    for name in ("mine", "other"):
        with opened(tmp_path / name / "store.db") as cm:
            cm.save_checkpoint("train", name)
    (tmp_path / "mine").rename(tmp_path / "moved")
    (tmp_path / "mine").symlink_to(tmp_path / "other")
    with pytest.raises(RollbackError, match="has seen another store there"):
        opened(tmp_path / "mine" / "store.db")


def test_relaxed_durability_is_refused(path: Path) -> None:
    with pytest.raises(LocationError):
        opened(path, durability="relaxed")


def test_a_pickled_manager_opens_the_same_database_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with CheckpointManager("sqlite:///store.db") as cm:
        cm.save_checkpoint("train", 1)
        pickled = pickle.dumps(cm)
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    with pickle.loads(pickled) as again:
        assert again.load_checkpoint("train") == 1


# The file


def test_nothing_is_made_by_reading(path: Path) -> None:
    backend = SqliteBackend(path)
    assert backend.stages() == backend.versions("train") == backend.leftovers() == backend.warnings() == []
    assert backend.newest("train").number == 0
    assert backend.read_record("keyring", limit=9) is None
    assert not path.exists()


@pytest.mark.parametrize("umask", [0o000, 0o777])
def test_the_files_are_closed_to_other_users(path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        backend = SqliteBackend(path.parent / "new" / "store.db")
        backend.append("train", 1, lambda: [b"x"])
        with backend.lock("train", 1):
            files = [each for each in path.parent.rglob("*") if each.is_file()]
            assert len(files) >= 4  # the database, its log, its shared memory and a lock
            assert {stat.S_IMODE(each.stat().st_mode) for each in files} == {0o600}
            assert stat.S_IMODE((path.parent / "new").stat().st_mode) == 0o700
        assert backend.leftovers() == []
    finally:
        os.umask(before)
    backend.close()


def test_files_that_are_open_to_others_are_reported(backend: SqliteBackend, path: Path) -> None:
    backend.append("train", 1, lambda: [b"x"])
    path.chmod(0o644)
    assert [(each.kind, each.path) for each in backend.leftovers()] == [("exposed", str(path))]
    path.parent.chmod(0o777)
    assert "chmod go-w" in backend.warnings()[0]


def test_a_directory_that_can_not_be_looked_at_is_an_error_of_this_library(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(folders, "warnings_about", fail)
    with pytest.raises(StorageError, match="can't open the database"):
        opened(path)


@pytest.mark.parametrize("suffix", ["", "-wal", "-shm", "-journal"])
@pytest.mark.parametrize("what", ["link", "fifo", "directory"])
def test_another_kind_of_file_in_a_place_is_refused_and_not_touched(path: Path, suffix: str, what: str) -> None:
    victim = path.with_name("victim")
    victim.write_bytes(b"precious")
    place = path.with_name(path.name + suffix)
    if suffix:
        behind(path, "CREATE TABLE t (x)")
    elif what == "link":
        return  # the user's own: it is followed, as that to a directory is
    if what == "link":
        place.symlink_to(victim)
    elif what == "fifo":
        os.mkfifo(place)
    else:
        place.mkdir()
    with pytest.raises(IntegrityError, match="stands in place of"):
        opened(path)
    assert victim.read_bytes() == b"precious"


def test_a_journal_that_names_a_file_outside_deletes_nothing(path: Path) -> None:
    """SQLite plays a journal back that it finds, and then deletes the super-journal that it names, whatever file that is."""
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
    victim = path.with_name("victim")
    victim.write_bytes(b"precious")
    database, magic, name = path.read_bytes(), bytes.fromhex("d9d505f920a163d7"), os.fsencode(victim)
    page_bytes = int.from_bytes(database[16:18], "big")
    header = magic + struct.pack(">5I", 0, 0, len(database) // page_bytes, 512, page_bytes)
    names = struct.pack(">I", 2**30 // page_bytes + 1) + name + struct.pack(">2I", len(name), sum(name)) + magic
    journal = path.with_name(f"{path.name}-journal")
    journal.write_bytes(header.ljust(512, b"\0") + names)
    with pytest.raises(IntegrityError, match="names another file"):
        opened(path)
    assert victim.read_bytes() == b"precious"
    journal.write_bytes(header.ljust(512, b"\0"))  # one that a killed writer left
    with opened(path) as cm:
        assert cm.load_checkpoint("train") == 1
    assert not journal.exists()


@pytest.mark.parametrize("content", [b"precious", b"1", b""])
@pytest.mark.parametrize("suffix", ["-wal", "-shm", "-journal", ""])
def test_a_hard_link_beside_or_in_the_place_of_the_database_has_nothing_written_outside(
    path: Path, suffix: str, content: bytes
) -> None:
    if suffix:
        with opened(path) as cm:
            cm.save_checkpoint("train", 1)
    victim = path.with_name("victim")
    victim.write_bytes(content)
    planted = path.with_name(path.name + suffix)
    planted.unlink(missing_ok=True)
    os.link(victim, planted)
    with pytest.raises((IntegrityError, LocationError)):
        opened(path).save_checkpoint("train", 2)
    assert victim.read_bytes() == content
    planted.unlink()
    with opened(path) as cm:
        assert cm.save_checkpoint("train", 2).number == (2 if suffix else 1)


@pytest.mark.parametrize("call", ["stat", "lstat"])
def test_what_a_signal_handler_raises_while_the_file_is_looked_at_passes_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
        if call == "lstat":  # of a connection that is to be opened
            cm._store.backend.close()
        look = getattr(os, call)

        def interrupted(looked_at: Any, **options: Any) -> os.stat_result:
            if os.fspath(looked_at) == str(path):
                monkeypatch.undo()
                raise TimeoutError("the caller's")
            found: os.stat_result = look(looked_at, **options)
            return found

        monkeypatch.setattr(os, call, interrupted)
        with pytest.raises(TimeoutError, match="the caller's"):
            cm.load_checkpoint("train")
        assert cm.load_checkpoint("train") == 1


def test_a_log_that_a_snapshot_shares_is_kept_where_the_hint_is_followed(path: Path, tmp_path: Path) -> None:
    """A process that was killed leaves a log, which alone holds what was saved last."""
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
    left, log, snapshot = tmp_path / "left.db", tmp_path / "left.db-wal", tmp_path / "snapshot"
    with opened(path) as cm:
        cm.save_checkpoint("train", 2)
        shutil.copy(path, left)
        shutil.copy(f"{path}-wal", log)
    os.link(log, snapshot)
    kept = snapshot.read_bytes()
    with pytest.raises(IntegrityError, match="another name") as caught:
        opened(left)
    assert "Replace it with a copy" in str(caught.value.hint)
    shutil.copy(log, tmp_path / "copy")
    (tmp_path / "copy").replace(log)
    with opened(left) as cm:
        assert cm.load_checkpoint("train") == 2
        cm.save_checkpoint("train", 3)
    assert snapshot.read_bytes() == kept


def test_a_database_of_which_a_snapshot_shares_the_file_is_opened(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
    os.link(path, path.with_name("snapshot"))
    with opened(path) as cm:
        assert cm.load_checkpoint("train") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_database_of_another_user_is_refused(path: Path, suffix: str) -> None:
    opened(path).close()
    (path.with_name(path.name + suffix)).touch()
    os.chown(path.with_name(path.name + suffix), 4242, 4242)
    with pytest.raises(StorageError, match="belongs to user 4242"):
        opened(path)


def test_an_empty_file_is_left_as_it_is_until_something_is_saved(path: Path) -> None:
    path.touch(0o600)
    with closing(SqliteBackend(str(path))) as backend:
        assert (backend.read_record("keyring", limit=100), list(backend.stages())) == (None, [])
    assert path.stat().st_size == 0
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
        assert cm.load_checkpoint("train") == 1


def test_the_database_of_another_program_is_refused_and_left_as_it_is(path: Path) -> None:
    behind(path, "CREATE TABLE version (mine)")
    before = path.read_bytes()
    with pytest.raises(LocationError, match="another program"):
        opened(path)
    assert path.read_bytes() == before


def test_a_file_that_is_not_a_database_is_refused_and_left_as_it_is(path: Path) -> None:
    path.write_bytes(b"my notes" * 1000)
    with pytest.raises(IntegrityError, match=r"file is not a database\. Check the path in the URL; if the checkpoints were"):
        opened(path)
    assert path.read_bytes() == b"my notes" * 1000


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TRIGGER spy AFTER INSERT ON version BEGIN UPDATE version SET content = x'00' WHERE rowid = NEW.rowid; END",
        "CREATE VIEW extra AS SELECT 1",
        "DROP TRIGGER version_deleted",
        "CREATE INDEX extra ON version (size)",
        "ALTER TABLE version ADD COLUMN extra TEXT",
    ],
)
def test_a_changed_schema_is_refused(path: Path, statement: str) -> None:
    opened(path).close()
    behind(path, statement)
    with pytest.raises(IntegrityError, match="schema"):
        opened(path)


def test_a_newer_format_is_refused(path: Path) -> None:
    opened(path).close()
    behind(path, "PRAGMA user_version = 2")
    with pytest.raises(LocationError, match="format"):
        opened(path)


def test_an_old_sqlite_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 36, 0))
    with pytest.raises(StorageError, match=r"3\.37"):
        SqliteBackend(path)


def test_write_ahead_logging_that_is_not_granted_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system without shared memory. Here, a connection to memory alone answers like that."""
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda _, **options: connect(":memory:", **options))
    with pytest.raises(StorageError, match="write-ahead logging"):
        opened(path)


@pytest.mark.parametrize("place", range(0, 60_000, 3_001))
def test_a_damaged_page_is_an_error_of_this_library(path: Path, place: int) -> None:
    with opened(path) as cm:
        for number in range(5):
            cm.save_checkpoint("train", number)
    data = bytearray(path.read_bytes())
    data[place : place + 64] = bytes(byte ^ 0xFF for byte in data[place : place + 64])
    path.write_bytes(data)
    try:
        with opened(path) as cm:
            assert cm.load_checkpoint("train") == 4
            cm.verify()
    except CheckpointError:
        pass


# Versions in chunks


def test_a_chunk_that_is_missing_changed_or_too_large_is_found(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", "x" * 3_000_000)
        assert cm.verify().ok
        for change in (
            "UPDATE chunk SET content = zeroblob(1048576) WHERE part = 1",
            "UPDATE chunk SET content = zeroblob(99000000) WHERE part = 1",
            "DELETE FROM chunk WHERE part = 2",
            "DELETE FROM chunk",
        ):
            behind(path, change)
            assert [each.state for each in cm.verify().problems] == ["damaged"]
            with pytest.raises(IntegrityError):
                cm.load_checkpoint("train")


def test_a_size_below_zero_is_damage(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", "x" * 3_000_000)
        behind(path, "UPDATE version SET size = -1")
        with pytest.raises(IntegrityError):
            cm.load_checkpoint("train")


def test_a_stage_name_that_is_too_long_is_not_read(backend: SqliteBackend, path: Path) -> None:
    backend.append("train", 1, lambda: [b"x"])
    version = "INSERT INTO version (stage, number, size, content) VALUES (zeroblob(5000000), 1, 0, x'')"
    behind(path, version, "INSERT INTO chunk VALUES (zeroblob(5000000), x'00', 0, x'')")
    tracemalloc.start()
    assert backend.stages() == ["train"]
    assert [each.stage for each in backend.leftovers()] == [None]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


def test_inline_content_that_is_too_large_is_not_read(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
        behind(path, "UPDATE version SET content = zeroblob(99000000)")
        with pytest.raises(IntegrityError):
            cm.load_checkpoint("train")


def test_deleted_replaced_and_refused_versions_leave_no_chunks(backend: SqliteBackend, path: Path) -> None:
    def chunks() -> int:
        (count,) = behind(path, "SELECT count(*) FROM chunk")[0]
        assert isinstance(count, int)
        return count

    for version in (1, 2, 3):
        backend.append("train", version, lambda: [LARGE])
    assert chunks() == 9
    backend.delete("train", [1])
    assert chunks() == 6
    backend.replace("train", 2, lambda: [LARGE, b"more"])
    assert chunks() == 7
    with pytest.raises(VersionTakenError):
        backend.append("train", 3, lambda: [LARGE])
    with pytest.raises(OutOfOrderError):
        backend.append("train", 1, lambda: [LARGE])
    with pytest.raises(VersionAbsentError):
        backend.replace("train", 1, lambda: [LARGE])
    assert chunks() == 7
    backend.quarantine("train", [3])
    assert chunks() == 7
    assert backend.leftovers() == []


def test_versions_together_that_a_failing_disk_refuses_leave_no_chunks(backend: SqliteBackend) -> None:
    def pieces() -> Iterator[bytes]:
        yield LARGE
        raise StorageError("a chunk can't be written", errno=errno.EIO)

    with pytest.raises(UnknownOutcomeError):
        backend.append_together([NewVersion("a", 1, lambda: [LARGE]), NewVersion("b", 1, pieces)])
    assert backend.leftovers() == []


def test_a_version_is_read_as_it_was_when_it_was_opened(backend: SqliteBackend) -> None:
    for version in (1, 2):
        backend.append("train", version, lambda: [LARGE])
    with backend.open("train", 1) as file:
        start = file.read(100)
        backend.delete("train", [1])
        assert start + file.read(len(LARGE)) == LARGE


KILLED = """
    import os, signal, sys
    from checkpoint_manager.backends.sqlite import SqliteBackend
    backend = SqliteBackend(sys.argv[1])
    def pieces():
        for _ in range(3):
            yield bytes(1024 * 1024)
        os.kill(os.getpid(), signal.SIGKILL)
    with backend.lock("train", 1):
        backend.append("train", 2, pieces)
"""


def test_the_chunks_of_a_killed_writer_are_reported_and_removed_by_the_next(backend: SqliteBackend, path: Path) -> None:
    backend.append("train", 1, lambda: [LARGE])
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(KILLED), path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert backend.versions("train") == [1]
    (leftover,) = backend.leftovers()
    assert (leftover.kind, leftover.stage) == ("leftover", "train")
    with backend.lock("train", 1):
        backend.append("train", 2, lambda: [LARGE])
    assert backend.leftovers() == []


def test_a_writer_whose_chunks_were_swept_has_written_nothing(backend: SqliteBackend, path: Path) -> None:
    """As one without the lock would meet it: the version is not made of what is left."""

    def pieces() -> Iterator[bytes]:
        yield LARGE
        behind(path, "DELETE FROM chunk")

    with pytest.raises(UnknownOutcomeError):
        backend.append("train", 1, pieces)
    assert backend.versions("train") == []


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
def test_a_folder_of_locks_of_another_user_is_found(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
        os.chown(f"{path}-locks", 12345, 12345)
        found = [(finding.state, finding.path) for finding in cm.verify().problems]
        assert found == [("exposed", f"{path}-locks")]


# Connections


def test_a_child_process_uses_a_connection_of_its_own(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)

        def child() -> None:
            cm.save_checkpoint("train", 2)
            gc.collect()

        assert forking.end(forking.start(child)) == 0
        assert cm.load_checkpoint("train") == 2
        cm.save_checkpoint("train", 3)
        assert forking.end(forking.start(child)) == 0
        assert [each.number for each in cm.history("train")] == [4, 3, 2, 1]


def test_a_fork_waits_for_the_statements_of_other_threads(path: Path) -> None:
    """The child would inherit SQLite's note that the database is locked, and not the thread that unlocks it."""
    with opened(path) as cm:
        cm.save_checkpoint("train", 0)
        begun, is_over = threading.Event(), threading.Event()

        def take_long() -> None:
            connection = cm._store.backend._connections.of_this_thread(make=True)  # type: ignore[attr-defined]
            with connection.guard:
                connection.execute("BEGIN IMMEDIATE")
                begun.set()
                is_over.wait(0.05)  # which nothing ends but the time
                connection.execute("ROLLBACK")
                is_over.set()

        thread = threading.Thread(target=take_long)
        thread.start()
        begun.wait()
        child = forking.start(lambda: not is_over.is_set() or cm.save_checkpoint("train", 1).number != 2)
        thread.join()
        assert forking.end(child) == 0


def test_a_child_that_outlives_its_parent_loses_nothing(path: Path) -> None:
    """Without locks of its own, another process would remove the log that the child writes to."""
    with opened(path) as cm:
        cm.save_checkpoint("train", 0)
        (reading, writing), (told, tell) = os.pipe(), os.pipe()

        def daemon() -> None:
            cm.save_checkpoint("train", 1)
            os.write(writing, b"saved")
            os.read(told, 1)
            cm.save_checkpoint("train", 2)

        child = forking.start(daemon)
        os.read(reading, 5)
        cm.close()  # as the end of the parent does
        open_it = f"cm = CheckpointManager('sqlite:///{path}', key={KEY!r})"
        program = f"from checkpoint_manager import CheckpointManager; {open_it}; cm.save_checkpoint('other', 0)"
        subprocess.run([sys.executable, "-c", program], check=True)
        os.write(tell, b"!")
        assert forking.end(child) == 0
        for number in (reading, writing, told, tell):
            os.close(number)
    with opened(path) as again:
        assert again.load_checkpoint("train") == 2
        assert again.load_checkpoint("other") == 0


def test_a_child_that_is_forked_while_others_write_saves(path: Path) -> None:
    stop = threading.Event()
    with opened(path) as cm:

        def save(stage: str) -> None:
            while not stop.is_set():
                cm.save_checkpoint(stage, "x" * 10_000)

        threads = [threading.Thread(target=save, args=(f"thread {number}",)) for number in range(2)]
        for thread in threads:
            thread.start()
        ends = [forking.end(forking.start(lambda: cm.save_checkpoint("train", 1).number == 0)) for _ in range(10)]
        stop.set()
        for thread in threads:
            thread.join()
        assert ends == [0] * 10
        assert [each.number for each in cm.history("train")] == [*range(10, 0, -1)]


def test_a_process_ends_though_a_daemon_thread_was_stopped_in_a_statement(path: Path) -> None:
    program = """
import sys, threading
from checkpoint_manager import CheckpointManager
cm = CheckpointManager(f"sqlite:///{sys.argv[1]}", key=bytes(32))
in_statement = threading.Event()

def save():
    cm.save_checkpoint("train", 1)
    with cm._store.backend._connections.of_this_thread(make=True).guard:
        in_statement.set()
        threading.Event().wait()

threading.Thread(target=save, daemon=True).start()
in_statement.wait()
cm.close()
"""
    ended = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
    with opened(path) as cm:
        assert cm.save_checkpoint("train", 2).number == 2


# Locks that closing a file would free


def saved_elsewhere(path: Path) -> int:
    """Save in another process, which is the last one to close the database if it finds no lock on it; return the number."""
    program = (
        "import sys; from checkpoint_manager import CheckpointManager\n"
        "with CheckpointManager(f'sqlite:///{sys.argv[1]}', key=bytes(32)) as cm:\n"
        "    print(cm.save_checkpoint('train').number)"
    )
    return int(subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, check=True).stdout)


def test_a_search_for_stores_takes_no_lock_from_a_store_that_is_open(path: Path) -> None:
    cm = opened(path)
    assert cm.save_checkpoint("train").number == 1
    assert find_stores(path.parent) == [f"sqlite:///{path}"]
    assert saved_elsewhere(path) == 2
    assert cm.save_checkpoint("train").number == 3
    assert saved_elsewhere(path) == 4


def test_making_the_database_takes_no_lock_from_a_thread_that_opens_it_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, others = files.publish, list[CheckpointManager]()

    def publish_and_open(temporary: str, name: str, directory: int) -> None:
        publish(temporary, name, directory)
        others.append(opened(path))

    monkeypatch.setattr(files, "publish", publish_and_open)
    first = SqliteBackend(path)
    first.write_record("index", data=b"1", expected=None)
    first.close()
    (other,) = others
    assert other.save_checkpoint("train").number == 1
    assert saved_elsewhere(path) == 2
    assert other.save_checkpoint("train").number == 3
    assert saved_elsewhere(path) == 4


def test_the_connection_of_a_thread_passes_to_the_next(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    connect = sqlite3.connect
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
        monkeypatch.setattr(sqlite3, "connect", lambda *args, **kwargs: made.append(args) or connect(*args, **kwargs))
        for number in range(2, 10):
            thread = threading.Thread(target=cm.save_checkpoint, args=("train", number))
            thread.start()
            thread.join()
        assert len(made) == 1
        assert forking.answer(lambda: [cm.load_checkpoint("train"), len(made)]) == [9, 2]  # a child makes one of its own
    assert _target_count(path) == 0


def _target_count(path: Path) -> int:
    gc.collect()
    return len([each for each in os.listdir("/proc/self/fd") if _target(each) == str(path)])


def test_the_connection_of_a_thread_ends_with_it(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
        for number in range(2, 10):
            thread = threading.Thread(target=cm.save_checkpoint, args=("train", number))
            thread.start()
            thread.join()
        assert _target_count(path) <= 2  # SQLite keeps one for the next thread, while this one holds a lock
        assert cm.load_checkpoint("train") == 9


def _target(descriptor: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{descriptor}")
    return ""


def test_a_database_that_was_removed_is_not_written_to_any_more(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
        for each in path.parent.glob("store.db*"):
            if each.is_file():
                each.unlink()
        with pytest.raises(CheckpointError):
            cm.save_checkpoint("train", 2)


def test_a_database_put_back_is_a_rollback(path: Path) -> None:
    with opened(path) as cm:
        cm.save_checkpoint("train", 1)
    old = path.read_bytes()
    with opened(path) as cm:
        cm.save_checkpoint("train", 2)
    path.write_bytes(old)
    with opened(path) as cm, pytest.raises(RollbackError):
        cm.load_checkpoint("train")


def test_a_save_is_two_statements_and_a_load_one(path: Path) -> None:
    with CheckpointManager(f"sqlite:///{path}", key=KEY) as cm:
        cm.save_checkpoint("train", 1)
        statements: list[str] = []
        cm._store.backend._connections.of_this_thread(make=True).set_trace_callback(statements.append)  # type: ignore[attr-defined]
        cm.save_checkpoint("train", 2)
        assert len(statements) == 2
        assert cm.has_checkpoint("train")
        assert cm.load_checkpoint("train") == 2
        assert len(statements) == 4


def test_a_writer_waits_for_the_statement_of_another(backend: SqliteBackend, path: Path) -> None:
    backend.append("train", 1, lambda: [b"x"])
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        threading.Timer(0.3, lambda: other.execute("COMMIT")).start()
        backend.append("train", 2, lambda: [b"y"])
        assert not other.in_transaction


@pytest.mark.usefixtures("impatient")
def test_a_database_that_stays_locked_is_an_error_in_time(backend: SqliteBackend, path: Path) -> None:
    backend.append("train", 1, lambda: [b"x"])
    backend.patience = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked") as caught:
            backend.append("train", 2, lambda: [b"y"])
    assert caught.value.hint.startswith("End the program")
    assert backend.versions("train") == [1]


def test_an_interruption_between_chunks_leaves_none(backend: SqliteBackend) -> None:
    def pieces() -> Iterator[bytes]:
        yield LARGE
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        backend.append("train", 1, pieces)
    assert backend.leftovers() == []


def test_a_signal_handler_may_save_to_another_stage(path: Path) -> None:
    saved = []
    with opened(path) as cm:

        def handler(_: int, __: object) -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)  # not in itself
            saved.append(cm.save_checkpoint("other", len(saved)).number)
            signal.setitimer(signal.ITIMER_REAL, 0.005)

        before = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        try:
            deadline = time.monotonic() + 20
            while len(saved) < 20 and time.monotonic() < deadline:
                cm.save_checkpoint("train", 1)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        assert len(saved) >= 20
        assert [each.number for each in reversed(cm.history("other"))] == saved
        assert cm.verify().ok


# Full disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root mounts")
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=False).returncode:
        pytest.skip("nothing can be mounted here")
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_loses_nothing_and_lets_versions_be_deleted(small_disk: Path) -> None:
    with opened(small_disk / "store.db") as cm:
        saved = 0
        with pytest.raises(StorageError) as caught:  # noqa: PT012  # until it is full
            while True:
                cm.save_checkpoint("train", "x" * 200_000)
                saved += 1
        assert caught.value.errno == errno.ENOSPC
        assert [each.number for each in reversed(cm.history("train"))] == list(range(1, saved + 1))
        with contextlib.suppress(OSError), (small_disk / "junk").open("wb", buffering=0) as junk:
            while True:
                junk.write(b"j")
        cm.delete_versions("train", list(range(1, saved - 1)))
        assert cm.save_checkpoint("train", "y" * 200_000).number == saved + 1
        assert cm.verify().ok


def test_what_a_killed_writer_has_not_synced_is_made_durable_before_it_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first connection recovers the log, with what a writer wrote that was killed before its sync."""
    path = tmp_path / "store.db"
    writer = SqliteBackend(path)
    writer.append("train", 1, lambda: [b"x"])
    synced = []
    monkeypatch.setattr(files, "sync", lambda descriptor: synced.append(os.readlink(f"/proc/self/fd/{descriptor}")))
    reader = SqliteBackend(path)
    assert reader.newest("train").number == 1
    assert synced == [f"{path}-wal", str(tmp_path)]
    writer.append("train", 2, lambda: [LARGE])
    with reader.open("train", 2) as content:  # by a connection of its own
        assert content.read(len(LARGE)) == LARGE
    assert synced == [f"{path}-wal", str(tmp_path)]
    for each in (reader, writer):
        each.close()
