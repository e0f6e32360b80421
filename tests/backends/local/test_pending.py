"""The pending name of a small version: what a kill, a power cut or another process at any step leads to."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, RollbackError, StorageError
from checkpoint_manager.backends.base import VersionAbsentError, VersionTakenError
from checkpoint_manager.backends.local import LocalBackend, layout, pending
from tests import forking

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(32)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def folder(store: Path) -> Path:
    return store / "history" / "train"


def append(backend: LocalBackend, version: int, content: bytes = b"") -> None:
    with backend.lock("train", 5):
        backend.append("train", version, lambda: (content or b"%d" % version,))


def read(backend: LocalBackend, version: int) -> bytes:
    with backend.open("train", version) as file:
        return file.read(file.size)


def own(folder: Path, version: int) -> Path:
    return folder / f"{version:012d}.checkpoint"


def pending_names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.pending"))


def leave(folder: Path, version: int, content: bytes, digest_of: bytes | None = None) -> Path:
    """Leave a pending file as a killed writer does."""
    digest = hashlib.sha256(content if digest_of is None else digest_of).hexdigest()
    path = folder / f"{version:012d}.{digest}.pending"
    path.write_bytes(content)
    path.chmod(0o600)
    return path


def lose_the_name(store: Path, version: int) -> None:
    """Leave of the newest version what a power cut may leave: its pending name, and all else as it was before."""
    head, folder = store / "train.checkpoint", store / "history" / "train"
    head.rename(folder / pending.next_head(version))  # the rename is undone
    own(folder, version).unlink()
    os.link(own(folder, version - 1), head)


class TestSteps:
    """One save after another, and what they leave."""

    def test_a_save_leaves_the_pending_name_of_the_newest_version_alone(self, store: Path, folder: Path) -> None:
        backend = LocalBackend(store)
        for version in range(1, 5):
            append(backend, version)
        [name] = pending_names(folder)
        assert (folder / name).samefile(own(folder, 4))
        assert (store / "train.checkpoint").samefile(own(folder, 4))
        assert not list(folder.glob(".*.tmp"))
        assert backend.leftovers() == []

    def test_the_next_process_removes_it(self, store: Path, folder: Path) -> None:
        for version in range(1, 4):
            append(LocalBackend(store), version)
        assert [name[:12] for name in pending_names(folder)] == ["000000000003"]

    def test_two_syncs_make_a_version_durable_before_it_is_visible(
        self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = LocalBackend(store)
        append(backend, 1)
        synced: list[tuple[bool, bool]] = []
        fsync = os.fsync

        def note(descriptor: int) -> None:
            fsync(descriptor)
            synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), own(folder, 2).exists()))

        monkeypatch.setattr(os, "fsync", note)
        append(backend, 2)
        assert synced == [(False, False), (True, False)]

    @pytest.mark.parametrize("below", ["small", "large"])
    def test_a_large_version_is_visible_above_durable_names_and_its_own_name_is_durable_at_last(
        self, store: Path, folder: Path, below: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend = LocalBackend(store)
        large = bytes(pending.MAX_BYTES + 1)
        append(backend, 1, large)
        append(backend, 2, large if below == "large" else b"small")
        synced: list[tuple[bool, bool]] = []
        fsync = os.fsync

        def note(descriptor: int) -> None:
            fsync(descriptor)
            synced.append((stat.S_ISDIR(os.fstat(descriptor).st_mode), own(folder, 3).exists()))

        monkeypatch.setattr(os, "fsync", note)
        append(backend, 3, large)
        names_below = [(True, False)] if below == "small" else []
        assert synced == [(False, False), *names_below, (True, True)]

    @pytest.mark.parametrize("is_whole", [True, False])
    def test_what_a_killed_writer_left_is_found_by_one_that_only_appends(
        self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_whole: bool
    ) -> None:
        """In a long folder, which is not listed after each change."""
        monkeypatch.setattr("checkpoint_manager.backends.local.backend._BLOCK_BYTES", 0)
        backend = LocalBackend(store)
        append(backend, 1)
        append(backend, 2)
        (folder / "planted").touch()
        assert backend.newest("train").number == 2
        left = leave(folder, 3, b"of a killed writer", None if is_whole else b"more than was written")
        os.link(left, folder / pending.next_head(3))
        with backend.lock("train", 5) as lock, backend.session("train", lock) as session:
            session.only_append()
            assert backend.newest("train", session=session).number == 2  # from memory: the append decides
            taken = pytest.raises(VersionTakenError) if is_whole else contextlib.nullcontext()
            with taken:
                backend.append("train", 3, lambda: (b"mine",), session=session)
        assert backend.versions("train") == [1, 2, 3]
        assert read(backend, 3) == (b"of a killed writer" if is_whole else b"mine")

    @pytest.mark.usefixtures("followed")
    def test_a_version_beyond_a_gap_is_found_by_a_running_process_though_its_writer_was_killed_before_the_head(
        self, store: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Nothing follows the version that the process knows, so the head below the gap must be gone by then."""
        running = LocalBackend(store)
        append(running, 1)
        append(running, 2)

        def killed(*_: object, **__: object) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            append(LocalBackend(store), 5)
        assert running.newest("train").number == 5

    @pytest.mark.parametrize("length", [pending.MAX_BYTES, pending.MAX_BYTES + 1])
    def test_a_large_version_has_none(self, store: Path, folder: Path, length: int) -> None:
        backend = LocalBackend(store)
        append(backend, 1)
        append(backend, 2, bytes(length))
        names = [name[:12] for name in pending_names(folder)]
        assert names == (["000000000002"] if length == pending.MAX_BYTES else ["000000000001"])
        assert read(backend, 2) == bytes(length)

    @pytest.mark.parametrize("length", [1, pending.MAX_BYTES + 1])
    def test_its_mode_does_not_depend_on_the_umask(self, store: Path, folder: Path, length: int) -> None:
        before = os.umask(0o277)
        try:
            append(LocalBackend(store), 1, bytes(length))
        finally:
            os.umask(before)
        assert stat.S_IMODE(own(folder, 1).stat().st_mode) == 0o600

    @pytest.mark.parametrize("step", ["write", "fsync", "link"])
    @pytest.mark.parametrize("error", [OSError(errno.EIO, "broken"), KeyboardInterrupt()])
    def test_a_save_that_fails_leaves_no_pending_version(
        self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: BaseException
    ) -> None:
        backend = LocalBackend(store)
        append(backend, 1)

        def fail(*_: Any, **__: Any) -> int:
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(os, step, fail)
            with pytest.raises((StorageError, KeyboardInterrupt)):
                append(backend, 2)
        assert LocalBackend(store).newest("train").number == 1
        assert not [name for name in pending_names(folder) if name.startswith("000000000002")]
        append(backend, 2)

    def test_without_hard_links_a_version_is_renamed(self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
        backend = LocalBackend(store)
        for version in (1, 2):
            append(backend, version)
        assert pending_names(folder) == []
        assert [read(LocalBackend(store), version) for version in (1, 2)] == [b"1", b"2"]


class TestAdoption:
    """A whole pending version without its own name."""

    def test_a_new_reader_gives_it_its_name(self, store: Path, folder: Path) -> None:
        append(LocalBackend(store), 1)
        left = leave(folder, 2, b"two")
        backend = LocalBackend(store)
        assert backend.newest("train").number == 2
        assert read(backend, 2) == b"two"
        assert own(folder, 2).samefile(left)

    def test_a_new_writer_goes_on_after_it(self, store: Path, folder: Path) -> None:
        append(LocalBackend(store), 1)
        leave(folder, 2, b"two")
        append(LocalBackend(store), 3)
        assert LocalBackend(store).versions("train") == [1, 2, 3]
        assert [name[:12] for name in pending_names(folder)] == ["000000000003"]

    def test_the_first_version_of_a_stage_is_adopted(self, store: Path, folder: Path) -> None:
        LocalBackend(store)
        folder.mkdir(parents=True)
        leave(folder, 1, b"one")
        assert LocalBackend(store).stages() == ["train"]
        assert LocalBackend(store).newest("train").number == 1

    def test_two_are_adopted_in_their_order(self, store: Path, folder: Path) -> None:
        append(LocalBackend(store), 1)
        leave(folder, 3, b"three")
        leave(folder, 2, b"two")
        assert LocalBackend(store).versions("train") == [1, 2, 3]

    def test_a_torn_one_is_a_leftover(self, store: Path, folder: Path) -> None:
        append(LocalBackend(store), 1)
        left = leave(folder, 2, b"tw", digest_of=b"two")
        backend = LocalBackend(store)
        assert backend.newest("train").number == 1
        [leftover] = backend.leftovers()
        assert (leftover.kind, leftover.path) == ("leftover", str(left))
        append(backend, 2)
        assert not left.exists()
        left = leave(folder, 3, b"thr", digest_of=b"three")
        [leftover] = backend.leftovers()
        assert backend.remove(leftover)
        assert not left.exists()

    def test_a_whole_one_is_not_removed_as_a_leftover(self, store: Path, folder: Path) -> None:
        append(LocalBackend(store), 1)
        left = leave(folder, 2, b"tw", digest_of=b"two")
        backend = LocalBackend(store)
        [leftover] = backend.leftovers()
        left.write_bytes(b"two")  # its writer was only slow
        assert not backend.remove(leftover)
        assert left.exists()

    def test_one_at_or_below_the_newest_version_is_not_adopted(self, store: Path, folder: Path) -> None:
        backend = LocalBackend(store)
        for version in (1, 2, 3):
            append(backend, version)
        backend.delete("train", [2])
        leave(folder, 2, b"2")
        assert LocalBackend(store).versions("train") == [1, 3]
        with pytest.raises(VersionAbsentError):
            read(LocalBackend(store), 2)

    @pytest.mark.usefixtures("followed")
    def test_a_process_that_has_looked_before_adopts_it(self, store: Path, folder: Path) -> None:
        """The server of a network file system lost power; a client that read from it before goes on."""
        writer, reader, other_writer = LocalBackend(store), LocalBackend(store), LocalBackend(store)
        append(writer, 1)
        append(other_writer, 2)
        assert reader.newest("train").number == 2
        append(writer, 3)
        lose_the_name(store, 3)
        assert reader.newest("train").number == 3
        assert read(reader, 3) == b"3"
        own(folder, 3).unlink()
        append(other_writer, 4)
        assert LocalBackend(store).versions("train") == [1, 2, 3, 4]

    def test_it_is_durable_before_it_is_adopted(self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its writer may have been killed before its own sync; whoever reads it may act on it."""
        append(LocalBackend(store), 1)
        left, reader = leave(folder, 2, b"2").stat().st_ino, LocalBackend(store)
        synced: list[int] = []
        real = pending.files.sync
        monkeypatch.setattr(pending.files, "sync", lambda each: (synced.append(os.fstat(each).st_ino), real(each)))
        assert reader.newest("train").number == 2
        assert synced[:2] == [left, folder.stat().st_ino]

    def test_a_writer_recognises_its_version_that_a_reader_adopted(
        self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        backend, fsync, seen = LocalBackend(store), os.fsync, []
        append(backend, 1)

        def read_meanwhile(descriptor: int) -> None:
            fsync(descriptor)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) and not seen:
                seen.append(0)
                seen.append(LocalBackend(store).newest("train").number)

        monkeypatch.setattr(os, "fsync", read_meanwhile)
        append(backend, 2)
        assert seen == [0, 2]
        assert backend.newest("train") == (2, True)
        assert (store / "train.checkpoint").samefile(own(folder, 2))

    def test_a_writer_whose_number_was_taken_leaves_nothing(
        self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cm, fsync, taken = CheckpointManager(store, key=KEY), os.fsync, []
        cm.save_checkpoint("train", 1)

        def take(descriptor: int) -> None:
            fsync(descriptor)
            if stat.S_ISDIR(os.fstat(descriptor).st_mode) and not taken:
                taken.append(0)
                own(folder, 2).write_bytes(own(folder, 1).read_bytes())  # by a writer that has no lock

        monkeypatch.setattr(os, "fsync", take)
        assert cm.save_checkpoint("train", 3).number == 3
        assert [name[:12] for name in pending_names(folder)] == ["000000000003"]

    def test_one_that_cannot_be_linked_is_read_where_it_is(
        self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append(LocalBackend(store), 1)
        leave(folder, 2, b"two")

        def refuse(*_: Any, **__: Any) -> None:
            raise OSError(errno.EROFS, "read-only")

        monkeypatch.setattr(os, "link", refuse)
        backend = LocalBackend(store)
        assert backend.newest("train").number == 2
        assert backend.versions("train") == [1, 2]
        assert read(backend, 2) == b"two"
        assert not own(folder, 2).exists()

    @pytest.mark.parametrize("kind", ["link", "fifo", "directory", "unreadable name"])
    def test_what_is_not_a_file_is_not_adopted(self, store: Path, folder: Path, tmp_path: Path, kind: str) -> None:
        append(LocalBackend(store), 1)
        place = folder / leave(folder, 2, b"two").name
        place.unlink()
        match kind:
            case "link":
                (tmp_path / "outside").write_bytes(b"two")
                place.symlink_to(tmp_path / "outside")
            case "fifo":
                os.mkfifo(place)
            case "directory":
                place.mkdir()
            case _:
                leave(folder, 2, b"two").rename(folder / place.name.upper())
        assert LocalBackend(store).newest("train").number == 1
        assert LocalBackend(store).leftovers() != []

    def test_planted_ones_cost_little(self, store: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        append(LocalBackend(store), 1)
        for version in range(2, 500):
            leave(folder, version, b"planted")
        flushed: list[int] = []
        monkeypatch.setattr(os, "fsync", flushed.append)
        LocalBackend(store).newest("train")
        assert len(flushed) < 30

    def test_readers_race_the_writer(self, store: Path) -> None:
        """Each look of a new process lists the folder, and may adopt what the writer is about to link."""
        append(LocalBackend(store), 1)

        def look() -> None:
            newest = 1
            while newest < 150:
                number = LocalBackend(store).newest("train").number
                assert number >= newest
                newest = number

        def write() -> None:
            backend = LocalBackend(store)
            for version in range(2, 151):
                append(backend, version)

        children = [forking.start(each) for each in (look, look, write)]
        assert [forking.end(child) for child in children] == [0, 0, 0]
        backend = LocalBackend(store)
        assert backend.versions("train") == [*range(1, 151)]
        assert all(read(backend, version) == b"%d" % version for version in range(2, 151))


class TestRemoval:
    """What is changed or removed does not come back by its pending name."""

    def test_a_deleted_version_does_not_come_back(self, store: Path, folder: Path) -> None:
        first, second = LocalBackend(store), LocalBackend(store)
        for version in range(1, 7, 2):
            append(first, version)
            append(second, version + 1)
        assert len(pending_names(folder)) == 2  # one of each process
        first.delete("train", [5])
        assert LocalBackend(store).versions("train") == [1, 2, 3, 4, 6]

    def test_the_bytes_of_a_deleted_version_are_gone(self, store: Path, folder: Path) -> None:
        first, second = LocalBackend(store), LocalBackend(store)
        for version in range(1, 7, 2):
            append(first, version)
            append(second, version + 1)
        bytes_of_it = (folder / layout.version_name(5)).read_bytes()
        second.delete("train", [5])
        assert bytes_of_it not in [path.read_bytes() for path in folder.iterdir()]

    def test_the_bytes_under_a_key_that_was_given_up_are_gone(self, store: Path, folder: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        for number in range(3):
            cm.save_checkpoint("train", number)
        old = cm.keys.list()
        cm.keys.rotate()
        assert old
        keys = {path.read_bytes()[:120].split(b'"key":"')[1][:16] for path in folder.iterdir()}
        assert len(keys) == 1

    def test_a_newest_version_that_was_set_aside_stays_away(self, store: Path, folder: Path) -> None:
        backend = LocalBackend(store)
        for version in (1, 2):
            append(backend, version)
        assert backend.quarantine("train", [2])
        assert pending_names(folder) == []
        assert LocalBackend(store).versions("train") == [1]

    def test_a_version_whose_file_was_removed_is_read_by_its_pending_name(self, store: Path, folder: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        for number in (1, 2):
            cm.save_checkpoint("train", number)
        own(folder, 2).unlink()
        assert CheckpointManager(store, key=KEY).load_checkpoint("train") == 2
        assert own(folder, 2).exists()

    def test_a_version_that_was_removed_by_all_its_names_is_missed(self, store: Path, folder: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        for number in (1, 2):
            cm.save_checkpoint("train", number)
        own(folder, 2).unlink()
        (store / "train.checkpoint").unlink()
        for name in pending_names(folder):
            (folder / name).unlink()
        with pytest.raises(RollbackError):
            CheckpointManager(store, key=KEY).load_checkpoint("train")
