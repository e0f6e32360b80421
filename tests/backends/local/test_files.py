"""The steps on the file system where it refuses, falls short, or has no hard links."""

from __future__ import annotations

import errno
import io
import os
import resource
import subprocess
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, IntegrityError, StorageError
from checkpoint_manager._filesystem import files
from checkpoint_manager._filesystem.os_errors import as_our_errors
from checkpoint_manager._store.key_sources import make_durable
from checkpoint_manager.backends.base import VersionAbsentError
from checkpoint_manager.backends.local import LocalBackend, folders, head, maintenance, pending
from checkpoint_manager.testing import read_all
from tests.backends.test_contract import LocalBackDoor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checkpoint_manager.models import Durability

KEY = bytes(32)


@pytest.fixture
def without_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as exFAT does."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)


@pytest.mark.usefixtures("without_hard_links")
class TestWithoutHardLinks(LocalBackDoor):
    @pytest.fixture
    def backend(self, tmp_path: Path) -> LocalBackend:
        return LocalBackend(tmp_path / "store")

    # There the lock alone decides who owns a number, and these two take none.
    test_of_many_writers_of_one_number_exactly_one_succeeds = None  # type: ignore[assignment]
    test_of_many_first_records_exactly_one_is_kept = None  # type: ignore[assignment]

    def test_a_store_works(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("")
        cm = CheckpointManager(tmp_path / "other", key=KEY)
        for number in range(1, 4):
            assert cm.save_checkpoint("train", number).number == number
        cm.delete_versions("train", [1])
        assert CheckpointManager(tmp_path / "other", key=KEY).load_checkpoint("train") == 3
        assert cm.verify().problems == ()
        (tmp_path / "other" / "train.checkpoint").unlink()
        assert [step.action for step in cm.repair()] == ["rebuild-head"]
        assert cm.verify().problems == ()


class Failing:
    """Let a function of ``os`` fail from its n-th call on."""

    def __init__(self, name: str, code: int, after: int) -> None:
        self.real = getattr(os, name)
        self.code = code
        self.left = after

    def __call__(self, *arguments: object, **named: object) -> object:
        if self.left <= 0:
            raise OSError(self.code, os.strerror(self.code))
        self.left -= 1
        return self.real(*arguments, **named)


@pytest.mark.parametrize("name", ["fsync", "write", "open", "link", "rename", "fchmod"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.EACCES])
def test_whatever_fails_a_save_is_an_error_of_ours_or_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", 1)
    newest = 1
    for after in range(8):
        with monkeypatch.context() as patch:
            patch.setattr(os, name, Failing(name, code, after))
            try:
                saved, error = cm.save_checkpoint("train", after).number, None
            except CheckpointError as refused:
                saved, error = None, refused
        if error is not None:
            assert isinstance(error, OSError)
            assert "train" in str(error) or "store" in str(error)
            assert isinstance(error, TimeoutError) or error.errno == code
        fresh = CheckpointManager(tmp_path / "store", key=KEY)
        present = fresh.history("train")[0].number
        assert present >= (saved or newest)
        newest = present
        assert fresh.verify().ok
        assert [f for f in fresh.verify().problems if f.state == "leftover" and ".tmp" in f.path] == []
    assert cm.save_checkpoint("train", "after").number == newest + 1
    assert cm.load_checkpoint("train") == "after"


def test_a_failed_sync_is_never_acknowledged_and_never_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(tmp_path / "store")
    backend.append("train", 1, lambda: [b"first"])
    synced: list[int] = []

    def fsync(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_ino)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(StorageError, match="copy the directory to another one") as caught:
            backend.append("train", 2, lambda: [b"second"])
    assert caught.value.errno == errno.EIO
    assert len(synced) == len(set(synced)) == 1
    assert backend.versions("train") == [1]
    assert backend.leftovers() == []


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    """A real limit of the kernel: no file of this process may grow beyond it."""
    program = (
        "import resource, signal, sys\n"
        "from checkpoint_manager import CheckpointManager, StorageError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"cm = CheckpointManager({str(tmp_path / 'store')!r}, key=bytes(32))\n"
        "cm.save_checkpoint('train', 'small')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "try:\n"
        "    cm.save_checkpoint('train', 'x' * 1_000_000)\n"
        "except StorageError as error:\n"
        "    print(error.errno)\n"
        "cm.save_checkpoint('train', 'small again')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.split() == [str(errno.EFBIG)]
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    assert [version.number for version in cm.history("train")] == [2, 1]
    assert cm.verify().problems == ()


def test_too_many_open_files_is_an_error_of_ours(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.open(os.devnull, os.O_RDONLY)
    os.close(lowest)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        with pytest.raises(StorageError, match="Close some of the files that this process has open"):
            cm.save_checkpoint("train", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert cm.save_checkpoint("train", 2).number == 2


def test_short_writes_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data)[:7]))
    backend = LocalBackend(tmp_path / "store")
    backend.append("train", 1, lambda: [b"0123456789" * 9, memoryview(b"end")])
    monkeypatch.undo()
    assert read_all(backend, "train", 1) == b"0123456789" * 9 + b"end"


def test_short_reads_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    real = os.read
    monkeypatch.setattr(os, "read", lambda descriptor, length: real(descriptor, min(length, 3)))
    with files.OpenFile(str(tmp_path / "file")) as file:
        assert file.read(8) == b"01234567"
        assert file.read(8) == b"89"
        assert file.read(8) == b""


def test_a_head_that_cannot_be_set_does_not_fail_the_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    backend = LocalBackend(tmp_path / "store")
    monkeypatch.setattr(os, "rename", Failing("rename", errno.EACCES, 0))
    backend.append("train", 1, lambda: [b"first"])
    assert "the head can't be set" in caplog.text
    monkeypatch.undo()
    assert backend.newest("train").number == 1
    assert [leftover.kind for leftover in backend.leftovers()] == ["stale head"]
    backend.append("train", 2, lambda: [b"second"])
    assert backend.leftovers() == []


def test_an_interrupted_exchange_leaves_the_old_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = LocalBackend(tmp_path / "store")
    backend.append("train", 1, lambda: [b"old"])
    monkeypatch.setattr(os, "rename", Failing("rename", errno.EIO, 0))
    with pytest.raises(StorageError, match="can't replace version 1 of stage train"):
        backend.replace("train", 1, lambda: [b"new"])
    monkeypatch.undo()
    assert read_all(backend, "train", 1) == b"old"
    assert backend.leftovers() == []


@pytest.mark.usefixtures("followed")
def test_a_head_far_behind_is_caught_up_with(tmp_path: Path) -> None:
    early, late = LocalBackend(tmp_path / "store"), LocalBackend(tmp_path / "store")
    late.append("train", 1, lambda: [b"x"])
    assert early.newest("train") == (1, True)
    for version in range(2, 100):
        late.append("train", version, lambda: [b"x"])
        if version in {3, 5}:
            assert early.newest("train") == (version, True)
    assert early.newest("train") == (99, True)


def test_relaxed_leaves_out_the_syncs_of_a_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    counts = {}
    for durability in ("full", "relaxed"):
        cm = CheckpointManager(tmp_path / durability, key=KEY, durability=durability)  # type: ignore[arg-type]
        cm.save_checkpoint("train", 1)
        synced.clear()
        cm.save_checkpoint("train", 2)
        counts[durability] = len(synced)
        cm.delete_versions("train", [1])
        cm.keys.rotate()
    assert counts == {"full": 2, "relaxed": 0}


def test_a_directory_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"can't open the checkpoint directory: .*file") as caught:
        LocalBackend(tmp_path / "file" / "store")
    assert caught.value.errno == errno.ENOTDIR


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    CheckpointManager(tmp_path / "link" / "new" / "deep", key=KEY).save_checkpoint("train", 1)
    assert CheckpointManager(tmp_path / "real" / "new" / "deep", key=KEY).load_checkpoint("train") == 1


def test_special_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(files.NotAFileError, match="a device"):
        files.OpenFile("/dev/null")
    assert files._kind(0) == "something that is not a file"
    assert files.what_stands_at(str(tmp_path / "nothing")) == "something that is not a file"
    with pytest.raises(FileNotFoundError):
        files.directory_descriptor(str(tmp_path / "nothing"))


def test_errors_of_the_system_become_ours() -> None:
    told = r"can't read version 3 of stage train: /store/name: File name too long.*shorter"
    with pytest.raises(StorageError, match=told), as_our_errors("read", "/store", "train", 3):
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG), "name")
    with pytest.raises(StorageError, match="Correct what the operating system reports"), as_our_errors("read", "/store"):
        raise OSError(errno.EXDEV, "odd")
    with pytest.raises(io.UnsupportedOperation), as_our_errors("read", "/store"):
        raise io.UnsupportedOperation("without a number: not the system's")
    with pytest.raises(IntegrityError, match="a FIFO stands where"), as_our_errors("read", "/store", "train"):
        raise files.NotAFileError("a FIFO")
    with pytest.raises(KeyError), as_our_errors("read", "/store"):
        raise KeyError


def test_two_backends_that_make_one_directory_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = files.make_directory

    def overtaken(path: str, parent: int | None = None) -> bool:
        os.mkdir(path, 0o700, dir_fd=parent)
        return real(path, parent)

    monkeypatch.setattr(folders.files, "make_directory", overtaken)
    backend = LocalBackend(tmp_path / "a" / "store")
    monkeypatch.undo()
    backend.append("train", 1, lambda: [b"x"])
    assert LocalBackend(tmp_path / "a" / "store").versions("train") == [1]


def test_a_hashed_stage_whose_name_is_lost_is_reported(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "store")
    backend.append("x" * 255, 1, lambda: [b"x"])
    folder = next((tmp_path / "store" / "history").iterdir())
    (folder / "stage").write_bytes(b"y")
    assert backend.stages() == []
    (folder / "stage").unlink()
    assert backend.stages() == []
    assert [leftover.kind for leftover in backend.leftovers() if leftover.path == str(folder)] == ["unknown"]


def test_no_generator_is_left_open(tmp_path: Path) -> None:
    """A source of pieces that fails is closed, its temporary file removed, and the number is free."""
    backend = LocalBackend(tmp_path / "store")
    backend.append("train", 1, lambda: [b"x"])

    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise MemoryError

    with pytest.raises(MemoryError):
        backend.append("train", 2, pieces)
    with pytest.raises(MemoryError):
        backend.replace("train", 1, pieces)
    assert backend.versions("train") == [1]
    assert read_all(backend, "train", 1) == b"x"
    assert backend.leftovers() == []


def test_versions_written_during_a_listing_leave_no_holes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel may show a name that came up during a listing, and not the one that came up just before it."""
    backend = LocalBackend(tmp_path / "store")
    for version in range(1, 5):
        backend.append("train", version, lambda: [b"x"])
    numbers = head.numbers
    listings = iter([[1, 2, 4], [1, 2, 3, 4, 5]])
    monkeypatch.setattr(head, "numbers", lambda directory: iter(next(listings, list(numbers(directory)))))
    assert backend.versions("train") == [1, 2, 3, 4]


def test_a_session_forgets_what_it_knew_with_every_change(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "store")
    with backend.session("train") as session:
        for version in range(1, 4):
            backend.append("train", version, lambda: [b"x"], session=session)
        assert backend.newest("train", session=session) == (3, True)
        backend.quarantine("train", [3])
        assert backend.newest("train", session=session).number == 2
        with pytest.raises(VersionAbsentError), backend.open("train", 3, session=session):
            pass
        backend.append("train", 3, lambda: [b"another"], session=session)
        with backend.open("train", 3, session=session) as file:
            assert file.read(10) == b"another"


def test_a_head_that_is_another_file_hides_nothing(tmp_path: Path) -> None:
    early, late = LocalBackend(tmp_path / "store"), LocalBackend(tmp_path / "store")
    head = tmp_path / "store" / "train.checkpoint"
    late.append("train", 1, lambda: [b"old"])
    assert early.newest("train") == (1, True)
    late.append("train", 2, lambda: [b"new"])
    late.append("train", 7, lambda: [b"newest"])
    for plant in (
        lambda: head.write_bytes(b"planted"),
        lambda: head.hardlink_to(tmp_path / "store" / "history" / "train" / "000000000001.checkpoint"),
        lambda: head.symlink_to(tmp_path / "store" / "history" / "train" / "000000000002.checkpoint"),
        head.mkdir,
        lambda: None,
    ):
        head.unlink(missing_ok=True)
        plant()
        for backend in (LocalBackend(tmp_path / "store"), LocalBackend(tmp_path / "store", durability="relaxed")):
            assert backend.newest("train").number == 7
        if head.is_dir():
            head.rmdir()


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_two_writers_in_turn_write_each_version_once(
    tmp_path: Path, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither finds out by a refusal that the other was faster."""
    writers = [CheckpointManager(tmp_path / "store", key=KEY, durability=durability) for _ in range(2)]
    written: list[str] = []
    create = LocalBackend._append_large

    def note(backend: LocalBackend, stage: str, *rest: Any, **options: Any) -> Any:
        written.append(stage)
        return create(backend, stage, *rest, **options)

    monkeypatch.setattr(pending, "MAX_BYTES", 0)
    monkeypatch.setattr(LocalBackend, "_append_large", note)
    for number in range(10):
        writers[number % 2].save_checkpoint("train", number)
    assert len(written) == 10


@pytest.mark.usefixtures("followed")
def test_a_relaxed_store_keeps_its_head_at_what_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(os.fstat(descriptor).st_ino), real(descriptor)))
    relaxed, full = LocalBackend(tmp_path / "store", durability="relaxed"), LocalBackend(tmp_path / "store")
    relaxed.append("train", 1, lambda: [b"x"])
    assert relaxed.newest("train") == (1, True)
    synced.clear()
    for version in (2, 3):
        relaxed.append("train", version, lambda: [b"x"])
    assert synced == []
    assert relaxed.newest("train") == full.newest("train") == (3, False)
    assert relaxed.leftovers() == []
    relaxed.flush("train")
    folder = tmp_path / "store" / "history" / "train"
    inodes = [(folder / f"{version:012d}.checkpoint").stat().st_ino for version in (2, 3)]
    assert set(synced[:-1]) == set(inodes)
    assert synced[-1] == folder.stat().st_ino
    assert relaxed.newest("train") == (3, True)
    relaxed.append("train", 4, lambda: [b"x"])
    synced.clear()
    full.append("train", 5, lambda: [b"x"])
    assert (folder / "000000000004.checkpoint").stat().st_ino in synced


@pytest.mark.parametrize("step", ["delete", "replace"])
def test_what_is_deleted_or_replaced_builds_on_what_is_durable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    backend = LocalBackend(tmp_path / "store", durability="relaxed")
    for version in range(1, 4):
        backend.append("train", version, lambda version=version: [b"%d" % version])  # type: ignore[misc]
    events: list[object] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: events.append(os.fstat(descriptor).st_ino))
    newest = (tmp_path / "store" / "history" / "train" / "000000000003.checkpoint").stat().st_ino
    unlink = os.unlink
    monkeypatch.setattr(os, "unlink", lambda name, **named: (events.append(name), unlink(name, **named)))
    if step == "delete":
        backend.delete("train", [1])
        head = (tmp_path / "store").stat().st_ino  # its name
        assert max(events.index(newest), events.index(head)) < events.index("000000000001.checkpoint")
    else:
        backend.replace("train", 3, lambda: [b"y"])
        new = (tmp_path / "store" / "history" / "train" / "000000000003.checkpoint").stat().st_ino
        assert new in events


@pytest.mark.parametrize("step", ["make a store", "make a key", "save to a folder of another", "set aside"])
def test_the_names_of_directories_are_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    root, there = tmp_path / "some" / "store", tmp_path / "there"
    backend = LocalBackend(there)
    backend.append("train", 1, lambda: [b"x"])
    (there / "history" / "other").mkdir(mode=0o700)  # by a process that was killed then
    key = tmp_path / "keys" / "key"
    key.parent.mkdir()
    key.write_text("x")
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor).st_ino))
    if step == "make a store":
        CheckpointManager(root, key=KEY)
        expected = [tmp_path, tmp_path / "some", root]
    elif step == "make a key":
        make_durable(key)
        expected = [key, key.parent, tmp_path]
    elif step == "save to a folder of another":
        backend.append("other", 1, lambda: [b"x"])
        expected = [there, there / "history"]
    else:
        with files.open_directory(str(there / "history" / "train")) as folder:
            maintenance.move_to_damaged(str(there), "train", ["000000000001.checkpoint"], folder)
        expected = [there, there / "damaged", there / "history" / "train"]
    assert {place.stat().st_ino for place in expected} <= set(synced)


def test_a_head_that_is_another_file_than_its_version_is_not_durable(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "store")
    for version in range(1, 3):
        backend.append("train", version, lambda version=version: [b"%d" % version])  # type: ignore[misc]
    path = tmp_path / "store" / "train.checkpoint"
    path.unlink()
    path.write_bytes(b"0")
    assert LocalBackend(tmp_path / "store").newest("train") == (2, False)


@pytest.mark.usefixtures("followed")
def test_a_version_beyond_a_gap_is_seen_by_who_remembers_one_below(tmp_path: Path) -> None:
    early, late = LocalBackend(tmp_path / "store"), LocalBackend(tmp_path / "store")
    late.append("train", 1, lambda: [b"x"])
    assert early.newest("train").number == 1
    late.append("train", 9, lambda: [b"x"])
    assert early.newest("train").number == 9
    (tmp_path / "store" / "train.checkpoint").unlink()
    late.append("train", 30, lambda: [b"x"])
    assert early.newest("train").number == 30


@pytest.mark.parametrize("call", ["open", "close", "fsync", "write", "link", "rename", "fstat", "lstat", "fchmod"])
@pytest.mark.parametrize("first", [True, False], ids=["first save", "later save"])
def test_an_exception_of_the_callers_signal_handler_passes_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, *, first: bool
) -> None:
    """A TimeoutError that ends a call which takes too long is not an error of the disk, wherever it comes."""
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    if not first:
        cm.save_checkpoint("train", 1)
    real = getattr(os, call)
    for at in range(1, 40):
        calls = 0

        def interrupted(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            result = None
            try:
                result = real(*arguments, **named)
            finally:
                if calls == at:  # noqa: B023  # called in this round only
                    if call == "open" and result is not None:
                        os.close(result)  # a call that was interrupted has opened nothing
                    raise TimeoutError("time limit of the job") from None
            return result

        with monkeypatch.context() as patch:
            patch.setattr(os.path, "os", SimpleNamespace(**vars(os)))  # whose functions pass over any error
            patch.setattr(os, call, interrupted)
            try:
                cm.save_checkpoint("train", at)
                error = None
            except TimeoutError as raised:
                error = raised
        assert (str(error) == "time limit of the job") == (calls >= at)
        if calls < at:
            break
        cm.save_checkpoint("after", at)
    else:
        pytest.fail("it never came to its end")
    cm.save_checkpoint("train", "after")
    assert cm.load_checkpoint("train") == "after"


def test_a_head_that_is_no_version_is_put_back_as_one(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path / "store")
    for version in (1, 2):
        backend.append("train", version, lambda: [b"x"])
    for name in tmp_path.glob("store/history/train/000000000002.*"):
        name.unlink()
    fresh = LocalBackend(tmp_path / "store")
    copy = fresh.only_copy("train")
    assert copy is not None
    with copy as file:
        assert file.read(10) == b"x"
    assert fresh.newest("train").number == 1
    fresh.put_back("train", 2)
    fresh.put_back("train", 2)
    assert fresh.newest("train").number == 2
    assert (tmp_path / "store/train.checkpoint").samefile(tmp_path / "store/history/train/000000000002.checkpoint")
    assert fresh.only_copy("train") is None


@pytest.mark.usefixtures("without_hard_links")
def test_without_hard_links_a_name_that_is_taken_is_not_taken_over(tmp_path: Path) -> None:
    for name in ("temporary", "name"):
        (tmp_path / name).write_text(name)
    with files.open_directory(str(tmp_path)) as folder, pytest.raises(FileExistsError):
        files.publish("temporary", "name", folder)
    assert (tmp_path / "name").read_text() == "name"


def test_another_name_that_is_taken_is_not_taken_over(tmp_path: Path) -> None:
    for name in ("one", "other"):
        (tmp_path / name).write_text(name)
    with files.open_directory(str(tmp_path)) as folder, pytest.raises(FileExistsError):
        files.add_name("one", "other", folder)
    assert (tmp_path / "other").read_text() == "other"


def test_a_file_that_was_only_read_may_be_closed_with_an_error_and_twice(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with files.open_directory(str(tmp_path)) as folder, files.OpenFile("file", folder) as file:
        assert file.read(1) == b"x"
        os.close(file.descriptor)
        file.__exit__()


def test_what_can_not_be_made_durable_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        files.sync_file_system(-1)


def test_a_hint_to_write_out_that_is_refused_is_no_error() -> None:
    reading, writing = os.pipe()
    try:
        files._start_writing_out(writing, 0, 1)
    finally:
        os.close(reading)
        os.close(writing)
