"""The backend contract as tests: subclass it, give it a backend, and run it with pytest.

::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend(self):
            return MyBackend(...)          # a new, empty store

        def read_behind(self, backend, stage, version):
            ...                            # the bytes as they are stored, or None, without the backend's own methods

        def write_behind(self, backend, stage, version, data):
            ...                            # store bytes as a version, as a writer on another host would

Each test states one promise of :mod:`checkpoint_manager.backends.base`. The two methods are a back door: a backend that only
answers from its own memory passes every test that asks the backend alone. A backend that implements ``Maintenance`` is tested
with :class:`MaintenanceContract` instead, which adds the promises of that interface.

A test opens a second backend at the same location, as another process does. It uses the location that the backend shows;
override :meth:`BackendContract.location` if that is not enough, for instance because a password was taken out of it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager.backends.base import (
    Backend,
    Newest,
    NewVersion,
    NoticeBoard,
    OutOfOrderError,
    RecordChangedError,
    VersionAbsentError,
    VersionTakenError,
)
from checkpoint_manager.backends.maintenance import Maintenance, maintenance_of
from checkpoint_manager.backends.registry import open_backend
from checkpoint_manager.errors import CheckpointError, IntegrityError, LocationError, LockTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.backends.base import Purpose, StageRecord
    from checkpoint_manager.models import Buffer

STAGE = "data_ingestion"
AWKWARD_STAGES = [
    "..",
    "../x",
    "/abs",
    "a/b",
    "a\\b",
    "nul\0byte",
    "new\nline",
    "-leading",
    ".hidden",
    "trailing.",
    "trailing ",
    "CON",
    "COM1.json",
    "a:b",
    "case",
    "Case",
    "CASE",
    unicodedata.normalize("NFC", "é"),
    unicodedata.normalize("NFD", "é"),
    "\u202eright-to-left",
    "\U0001f4be" * 255,
    "x" * 255,
    "x" * 254 + "y",
    "%41",
    "A",
    "keyring",
    "gaps",
    "tags",
    "store",
]


def read_all(backend: Backend, stage: str, version: int) -> bytes:
    """Return a whole version."""
    with backend.open(stage, version) as file:
        return file.read(file.size + 1)


ATTACHMENT = "5c0f" * 8
PURPOSES: list[tuple[Purpose, str]] = [("write", ""), ("run", ""), ("run", "1" * 32)]
"""What a lock of a stage is held for, and the name of the run."""
OTHER_PROCESS = """
import sys
from checkpoint_manager.backends.registry import open_backend
from checkpoint_manager.errors import LockTimeoutError
location, stage, purpose, name = sys.argv[1:]
try:
    with open_backend(location).lock(stage, 0.05, purpose=purpose, name=name):
        print("taken")
except LockTimeoutError:
    print("refused")
"""


def refused(backend: Backend, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> object:
    """Return what another thread gets that tries to take a lock: an exception, or None."""

    def take() -> None:
        with backend.lock(stage, timeout, purpose=purpose, name=name):
            pass

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).exception()


def refused_while_held(backend: Backend, stage: str) -> object:
    """Return what another thread gets that tries to take a lock while this one holds it."""
    with backend.lock(stage, 1):
        return refused(backend, stage, 0)


class BackendContract:
    """What every backend must do. Subclasses give a new, empty ``backend`` as a fixture, and the back door."""

    def location(self, backend: Backend) -> str:
        """Return the path or URL by which another process opens the same store."""
        return backend.location

    def read_behind(self, backend: Backend, stage: str, version: int) -> bytes | None:
        """Return the bytes of a version as they are stored, or None, without the backend's own methods."""
        raise NotImplementedError

    def write_behind(self, backend: Backend, stage: str, version: int, data: bytes) -> None:
        """Store bytes as a version of a stage that has one already, without the backend's own methods."""
        raise NotImplementedError

    def another(self, backend: Backend) -> Backend:
        """Return a second backend on the same store; where another process can't open it, the same one."""
        return open_backend(self.location(backend)) if backend.capabilities.persistent else backend

    # Versions

    def test_an_empty_backend_has_nothing(self, backend: Backend) -> None:
        assert backend.stages() == []
        assert backend.versions(STAGE) == []
        assert backend.newest(STAGE).number == 0

    def test_what_is_appended_is_read_back(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"one ", b"", b"two"])
        assert read_all(backend, STAGE, 1) == b"one two" == self.read_behind(backend, STAGE, 1)
        assert backend.stages() == [STAGE]
        assert backend.versions(STAGE) == [1]

    def test_what_is_appended_is_the_newest_and_durable(self, backend: Backend) -> None:
        for version in (1, 2, 3):
            backend.append(STAGE, version, lambda: [b"x"])
            assert backend.newest(STAGE).durable or backend.durability == "relaxed"
            backend.flush(STAGE)
            assert backend.newest(STAGE) == Newest(version, durable=True)
            assert backend.newest(STAGE, exact=True).number == version

    def test_a_version_can_be_read_in_pieces(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"abcdef"])
        with backend.open(STAGE, 1) as file:
            assert file.size == 6
            assert [file.read(4), file.read(4), file.read(4)] == [b"abcd", b"ef", b""]

    def test_a_buffer_may_be_used_again_for_the_next_piece(self, backend: Backend) -> None:
        buffer = bytearray(3)

        def pieces() -> Iterator[Buffer]:
            for text in (b"abc", b"def", b"ghi"):
                buffer[:] = text
                yield memoryview(buffer)
            yield b""

        backend.append(STAGE, 1, pieces)
        assert read_all(backend, STAGE, 1) == b"abcdefghi"

    def test_large_versions_come_back_whole(self, backend: Backend) -> None:
        piece = bytes(range(256)) * 4096
        backend.append(STAGE, 1, lambda: [piece] * 5)
        assert read_all(backend, STAGE, 1) == piece * 5

    def test_a_version_is_written_once(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"first"])
        with pytest.raises(VersionTakenError):
            backend.append(STAGE, 1, lambda: [b"second"])
        assert read_all(backend, STAGE, 1) == b"first" == self.read_behind(backend, STAGE, 1)

    def test_of_many_writers_of_one_number_exactly_one_succeeds(self, backend: Backend) -> None:
        start = threading.Barrier(8)

        def write(number: int) -> int:
            start.wait()
            try:
                backend.append(STAGE, 1, lambda: [b"%d" % number])
            except VersionTakenError:
                return -1
            return number

        with ThreadPoolExecutor(8) as pool:
            winners = [number for number in pool.map(write, range(8)) if number >= 0]
        assert len(winners) == 1
        assert read_all(backend, STAGE, 1) == b"%d" % winners[0]

    def test_a_failing_source_leaves_nothing(self, backend: Backend) -> None:
        def pieces() -> Iterator[Buffer]:
            yield b"half"
            yield b""
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            backend.append(STAGE, 1, pieces)
        assert backend.versions(STAGE) == []
        assert self.read_behind(backend, STAGE, 1) is None
        backend.append(STAGE, 1, lambda: [b"whole"])
        with pytest.raises(KeyboardInterrupt):
            backend.replace(STAGE, 1, pieces)
        assert read_all(backend, STAGE, 1) == b"whole" == self.read_behind(backend, STAGE, 1)

    def test_the_newest_is_found_over_missing_numbers(self, backend: Backend) -> None:
        for version in (1, 2, 7, 8, 20):
            backend.append(STAGE, version, lambda: [b"x"])
            assert backend.newest(STAGE).number == backend.newest(STAGE, exact=True).number == version
        assert backend.versions(STAGE) == [1, 2, 7, 8, 20]

    def test_nothing_is_appended_below_the_newest(self, backend: Backend) -> None:
        for version in (2, 5):
            backend.append(STAGE, version, lambda: [b"x"])
        for version in (1, 3, 4):
            with pytest.raises(OutOfOrderError):
                backend.append(STAGE, version, lambda: [b"y"])
        for version in (2, 5):
            with pytest.raises(VersionTakenError):
                backend.append(STAGE, version, lambda: [b"y"])
        assert backend.versions(STAGE) == [2, 5]

    def test_versions_are_appended_together_or_not_at_all(self, backend: Backend) -> None:
        if not backend.capabilities.appends_together:
            with pytest.raises(CheckpointError):
                backend.append_together([NewVersion("a", 1, lambda: [b"x"])])
            return

        def fail() -> Iterator[bytes]:
            yield b"x" * 3_000_000
            raise ZeroDivisionError

        large = b"x" * 3_000_000
        backend.append("b", 1, lambda: [b"1"])
        for error, number, pieces in ((VersionTakenError, 1, lambda: [b"2"]), (ZeroDivisionError, 2, fail)):
            with pytest.raises(error):
                backend.append_together([NewVersion("a", 1, lambda: [large]), NewVersion("b", number, pieces)])
            assert (backend.stages(), backend.versions("b")) == (["b"], [1])
        backend.append("b", 3, lambda: [b"3"])
        with pytest.raises(OutOfOrderError):
            backend.append_together([NewVersion("a", 1, lambda: [large]), NewVersion("b", 2, lambda: [b"2"])])
        assert backend.stages() == ["b"]
        backend.append_together([NewVersion("a", 1, lambda: [large]), NewVersion("b", 4, lambda: [b"4", b"4"])])
        assert (read_all(self.another(backend), "a", 1), read_all(backend, "b", 4)) == (large, b"44")
        assert (backend.newest("a").number, backend.newest("b").number) == (1, 4)
        assert not maintenance_of(backend).leftovers()

    def test_opening_what_is_not_there(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        for stage, version in ((STAGE, 2), ("other", 1)):
            with pytest.raises(VersionAbsentError), backend.open(stage, version):
                pass

    def test_an_opened_version_stays_what_it_was(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"old"])
        with backend.open(STAGE, 1) as file:
            backend.replace(STAGE, 1, lambda: [b"new"])
            assert file.read(3) == b"old"
        assert read_all(backend, STAGE, 1) == b"new" == self.read_behind(backend, STAGE, 1)

    def test_replacing_what_is_not_there(self, backend: Backend) -> None:
        with pytest.raises(VersionAbsentError):
            backend.replace(STAGE, 1, lambda: [b"x"])
        assert backend.versions(STAGE) == []

    def test_the_newest_stays_where_others_are_deleted(self, backend: Backend) -> None:
        for version in range(1, 5):
            backend.append(STAGE, version, lambda: [b"%d" % version])  # noqa: B023  # called at once
        backend.delete(STAGE, [1, 2, 3])
        assert backend.newest(STAGE, exact=True).number == 4
        assert read_all(backend, STAGE, 4) == b"4"
        with pytest.raises(OutOfOrderError):
            backend.append(STAGE, 3, lambda: [b"again"])

    def test_deleted_versions_are_gone(self, backend: Backend) -> None:
        for version in range(1, 5):
            backend.append(STAGE, version, lambda: [b"x"])
        backend.delete(STAGE, [1, 3, 3, 9])
        assert backend.versions(STAGE) == [2, 4]
        assert backend.newest(STAGE).number == 4
        assert self.read_behind(backend, STAGE, 1) is None
        with pytest.raises(VersionAbsentError), backend.open(STAGE, 3):
            pass

    def test_what_another_writer_stores_is_seen(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"mine"])
        assert backend.newest(STAGE).number == 1
        self.write_behind(backend, STAGE, 2, b"of another host")
        assert backend.newest(STAGE).number == 2
        assert backend.versions(STAGE) == [1, 2]
        assert read_all(backend, STAGE, 2) == b"of another host"
        with pytest.raises(VersionTakenError):
            backend.append(STAGE, 2, lambda: [b"mine"])
        assert self.read_behind(backend, STAGE, 2) == b"of another host"

    def test_what_changed_behind_the_backend_is_read_as_it_is(self, backend: Backend) -> None:
        """Bytes are not kept in memory: whether they are whole, the reader above decides."""
        backend.append(STAGE, 1, lambda: [b"whole"])
        assert read_all(backend, STAGE, 1) == b"whole"
        self.write_behind(backend, STAGE, 1, b"damaged")
        assert read_all(backend, STAGE, 1) == b"damaged"

    def test_a_session_changes_nothing_in_what_is_returned(self, backend: Backend) -> None:
        with backend.session(STAGE) as session:
            assert backend.versions(STAGE, session=session) == []
            assert backend.newest(STAGE, session=session).number == 0
            assert backend.read_record("gaps", STAGE, limit=99, session=session) is None
            for version in (1, 2):
                backend.append(STAGE, version, lambda: [b"old"], session=session)
            backend.flush(STAGE, session=session)
            backend.replace(STAGE, 1, lambda: [b"new"], session=session)
            with backend.open(STAGE, 1, session=session) as file:
                assert file.read(9) == b"new" == self.read_behind(backend, STAGE, 1)
            written = backend.write_record("gaps", STAGE, data=b"gap", expected=None, session=session)
            assert backend.read_record("gaps", STAGE, limit=99, known=written, session=session) is written
            backend.delete(STAGE, [1], session=session)
            assert backend.versions(STAGE, session=session) == backend.versions(STAGE) == [2]
            assert backend.newest(STAGE, session=session) == backend.newest(STAGE) == Newest(2, durable=True)
        with backend.session(STAGE) as session:
            assert backend.versions(STAGE, session=session) == [2]

    @pytest.mark.parametrize("stage", [STAGE, None])
    def test_a_lock_is_held_to_the_end_of_the_session_opened_under_it(self, backend: Backend, stage: str | None) -> None:
        with backend.lock(stage, 1) as lock, backend.session(stage, lock):
            assert isinstance(refused(backend, stage, 0), LockTimeoutError)
        assert refused(backend, stage, 0) is None

    def test_any_name_is_a_stage_of_its_own(self, backend: Backend) -> None:
        for stage in AWKWARD_STAGES:
            assert backend.versions(stage) == []
            backend.append(stage, 1, lambda: [stage.encode()])  # noqa: B023  # called at once
        assert sorted(backend.stages()) == sorted(AWKWARD_STAGES)
        for stage in AWKWARD_STAGES:
            assert read_all(backend, stage, 1) == stage.encode() == self.read_behind(backend, stage, 1)
            assert isinstance(refused_while_held(backend, stage), LockTimeoutError)

    # Attachments

    def test_segments_come_back_as_they_were_written(self, backend: Backend) -> None:
        assert backend.attachments(STAGE) == []
        assert backend.segment_sizes(STAGE, ATTACHMENT) == []
        large = bytes(range(256)) * 8192
        for index, content in enumerate((large, b"", b"last")):
            backend.write_segment(STAGE, ATTACHMENT, index, [content[:100], content[100:]])
        assert backend.attachments(STAGE) == [ATTACHMENT]
        assert backend.segment_sizes(STAGE, ATTACHMENT) == [len(large), 0, 4]
        other = self.another(backend)
        for index, content in enumerate((large, b"", b"last")):
            with other.open_segment(STAGE, ATTACHMENT, index) as file:
                assert file.size == len(content)
                assert file.read(10) + file.read(len(large)) == content
        assert backend.versions(STAGE) == []
        assert backend.stages() == []

    def test_several_threads_write_segments_at_once(self, backend: Backend) -> None:
        def write(index: int) -> None:
            backend.write_segment(STAGE, ATTACHMENT, index, [b"x" * index])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(write, reversed(range(12))))
        assert backend.segment_sizes(STAGE, ATTACHMENT) == list(range(12))

    def test_a_segment_that_is_not_there(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        with pytest.raises(VersionAbsentError), backend.open_segment(STAGE, ATTACHMENT, 0):
            pass
        backend.write_segment(STAGE, ATTACHMENT, 0, [b"x"])
        for stage, attachment, index in ((STAGE, ATTACHMENT, 1), (STAGE, "1" * 32, 0), ("other", ATTACHMENT, 0)):
            with pytest.raises(VersionAbsentError), backend.open_segment(stage, attachment, index):
                pass

    def test_segments_end_at_the_first_that_is_missing(self, backend: Backend) -> None:
        for index in (0, 1, 3):
            backend.write_segment(STAGE, ATTACHMENT, index, [b"x" * index])
        assert backend.segment_sizes(STAGE, ATTACHMENT) == [0, 1]

    def test_deleted_attachments_are_gone(self, backend: Backend) -> None:
        for attachment in (ATTACHMENT, "1" * 32, "2" * 32):
            backend.write_segment(STAGE, attachment, 0, [b"x"])
            backend.write_segment("other", attachment, 0, [b"x"])
        backend.delete_attachments(STAGE, [ATTACHMENT, "2" * 32, "9" * 32])
        assert backend.attachments(STAGE) == ["1" * 32]
        assert backend.segment_sizes(STAGE, ATTACHMENT) == []
        assert len(backend.attachments("other")) == 3

    def test_any_stage_has_attachments_of_its_own(self, backend: Backend) -> None:
        for stage in AWKWARD_STAGES:
            backend.write_segment(stage, ATTACHMENT, 0, [stage.encode()])
        for stage in AWKWARD_STAGES:
            with backend.open_segment(stage, ATTACHMENT, 0) as file:
                assert file.read(2000) == stage.encode()

    # Records

    def test_records_are_compared_before_they_are_set(self, backend: Backend) -> None:
        assert backend.read_record("keyring", limit=99) is None
        first = backend.write_record("keyring", data=b"first", expected=None)
        with pytest.raises(RecordChangedError):
            backend.write_record("keyring", data=b"rival", expected=None)
        second = backend.write_record("keyring", data=b"second", expected=first)
        with pytest.raises(RecordChangedError):
            backend.write_record("keyring", data=b"late", expected=first)
        read = backend.read_record("keyring", limit=99)
        assert read is not None
        assert read.data == second.data == b"second"

    def test_a_record_that_has_not_changed_is_given_back(self, backend: Backend) -> None:
        first = backend.write_record("keyring", data=b"first", expected=None)
        assert backend.read_record("keyring", limit=99, known=first) is first
        backend.write_record("keyring", data=b"other", expected=first)
        read = backend.read_record("keyring", limit=99, known=first)
        assert read is not None
        assert read.data == b"other"

    def test_of_many_first_records_exactly_one_is_kept(self, backend: Backend) -> None:
        start = threading.Barrier(8)

        def write(number: int) -> int:
            start.wait()
            try:
                backend.write_record("keyring", data=b"%d" % number, expected=None)
            except RecordChangedError:
                return -1
            return number

        with ThreadPoolExecutor(8) as pool:
            winners = [number for number in pool.map(write, range(8)) if number >= 0]
        assert len(winners) == 1

    def test_a_record_beyond_the_limit_is_refused(self, backend: Backend) -> None:
        backend.write_record("keyring", data=b"x" * 100, expected=None)
        with pytest.raises(IntegrityError):
            backend.read_record("keyring", limit=99)

    def test_each_stage_has_its_own_records(self, backend: Backend) -> None:
        backend.append("a", 1, lambda: [b"x"])
        backend.write_record("gaps", "a", data=b"of a", expected=None)
        assert backend.read_record("gaps", "b", limit=99) is None
        assert backend.read_record("tags", "a", limit=99) is None
        read = backend.read_record("gaps", "a", limit=99)
        assert read is not None
        assert read.data == b"of a"

    # Locks

    @pytest.mark.parametrize(("purpose", "name"), PURPOSES)
    def test_a_lock_excludes_and_names_its_holder(self, backend: Backend, purpose: Purpose, name: str) -> None:
        for _ in range(2):
            with backend.lock(STAGE, 1, purpose=purpose, name=name):
                error = refused(backend, STAGE, 0.05, purpose=purpose, name=name)
            assert isinstance(error, LockTimeoutError)
            assert error.stage == STAGE
            assert error.holder or not backend.capabilities.lock_excludes
            assert refused(backend, STAGE, 0, purpose=purpose, name=name) is None

    def test_the_lock_of_the_records_excludes(self, backend: Backend) -> None:
        with backend.lock(None, 1):
            assert isinstance(refused(backend, None, 0.05), LockTimeoutError)
        assert refused(backend, None, 0) is None

    @pytest.mark.parametrize(("purpose", "name"), PURPOSES)
    def test_a_lock_is_let_go_of_when_its_block_fails(self, backend: Backend, purpose: Purpose, name: str) -> None:
        with pytest.raises(KeyboardInterrupt), backend.lock(STAGE, 1, purpose=purpose, name=name):
            raise KeyboardInterrupt
        assert refused(backend, STAGE, 0, purpose=purpose, name=name) is None

    @pytest.mark.parametrize(("purpose", "name"), PURPOSES)
    def test_a_lock_that_excludes_excludes_another_process(self, backend: Backend, purpose: Purpose, name: str) -> None:
        if not (backend.capabilities.lock_excludes and backend.capabilities.persistent):
            return
        command = [sys.executable, "-P", "-c", OTHER_PROCESS, self.location(backend), STAGE, purpose, name]
        with backend.lock(STAGE, 1, purpose=purpose, name=name):
            done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # our own program
        assert done.stdout == "refused\n", done.stderr

    def test_a_thread_that_holds_a_lock_does_not_wait_for_itself(self, backend: Backend) -> None:
        with backend.lock(STAGE, 1), pytest.raises(CheckpointError) as caught, backend.lock(STAGE, 60):
            pass
        assert not isinstance(caught.value, LockTimeoutError)
        with backend.lock(STAGE, 0):
            pass

    @pytest.mark.parametrize("name", ["", "1" * 32])
    def test_the_lock_of_a_run_refuses_its_own_thread_only_after_the_wait(self, backend: Backend, name: str) -> None:
        """It may be held by a task while other tasks of its thread go on."""
        with (
            backend.lock(STAGE, 1, purpose="run", name=name),
            pytest.raises(LockTimeoutError),
            backend.lock(STAGE, 0.01, purpose="run", name=name),
        ):
            pass

    def test_locks_of_different_stages_purposes_and_names_do_not_meet(self, backend: Backend) -> None:
        with (
            backend.lock(STAGE, 0),
            backend.lock(STAGE.upper(), 0),
            backend.lock(None, 0),
            backend.lock(STAGE, 0, purpose="run"),
            backend.lock(STAGE, 0, purpose="run", name="0" * 32),
            backend.lock(STAGE, 0, purpose="run", name="1" * 32),
        ):
            pass

    @pytest.mark.parametrize(("purpose", "name"), PURPOSES)
    def test_threads_exclude_one_another(self, backend: Backend, purpose: Purpose, name: str) -> None:
        inside = 0
        most = 0

        def work(_: int) -> None:
            nonlocal inside, most
            with backend.lock(STAGE, 30, purpose=purpose, name=name):
                inside += 1
                most = max(most, inside)
                time.sleep(0.0002)  # another thread has its turn
                inside -= 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(100)))
        assert most == 1

    def test_a_run_is_listed_with_its_notice_while_its_lock_is_held(self, backend: Backend) -> None:
        """For those who watch from another process."""
        if type(backend).held_runs is Backend.held_runs:
            return
        name, long = "1" * 32, "x" * 255
        other = self.another(backend)
        assert other.held_runs() == []
        with (
            backend.lock(STAGE, 1),
            backend.lock(STAGE, 1, purpose="run", name=name) as first,
            backend.lock(long, 1, purpose="run", name=name) as second,
        ):
            assert isinstance(first, NoticeBoard)
            assert isinstance(second, NoticeBoard)
            first.write_notice(b"a long notice")
            first.write_notice(b"a later notice")
            second.write_notice(b"x" * 16_384)
            deadline = time.monotonic() + 10
            while len(found := other.held_runs()) < 2 and time.monotonic() < deadline:
                time.sleep(0.01)  # an object store writes it a moment later
            told = {run.stage: (run.name, run.notice) for run in found}
            assert told.pop(STAGE) in {(name, b"a later notice"), (name, b"a long notice")}
            assert list(told.values()) == [(name, b"x" * 16_384)]
            assert set(told) <= {long, ""}
        assert other.held_runs() == []

    def test_the_descriptors_of_locks_are_open_while_they_are_held(self, backend: Backend) -> None:
        before = set(backend.lock_descriptors())
        with backend.lock(STAGE, 1):
            held = set(backend.lock_descriptors()) - before
            assert all(os.fstat(descriptor) for descriptor in held)
        assert not held & set(backend.lock_descriptors())

    def test_waiting_for_writers_waits_for_each_lock_to_write(self, backend: Backend) -> None:
        backend.wait_for_writers(1)
        with backend.lock(STAGE, 1, purpose="run"), backend.lock(None, 1):
            backend.wait_for_writers(1)
        with backend.lock(STAGE, 1), ThreadPoolExecutor(1) as pool, pytest.raises(LockTimeoutError):
            pool.submit(backend.wait_for_writers, 0.05).result()
        backend.wait_for_writers(1)

    # Capabilities, and the end

    def test_a_store_that_is_persistent_is_there_for_another_process(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        backend.write_record("keyring", data=b"first", expected=None)
        other = self.another(backend)
        assert other.stages() == [STAGE]
        assert read_all(other, STAGE, 1) == b"x"
        known = other.read_record("keyring", limit=99)
        assert known is not None
        other.write_record("keyring", data=b"second", expected=known)
        with pytest.raises(RecordChangedError):
            backend.write_record("keyring", data=b"third", expected=known)
        other.append(STAGE, 2, lambda: [b"y"])
        assert backend.newest(STAGE).number == 2

    def test_a_listing_that_sees_over_gaps_misses_nothing(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        assert backend.newest(STAGE).number == 1
        self.write_behind(backend, STAGE, 90, b"y")
        if backend.capabilities.lists_over_gaps:
            assert backend.versions(STAGE) == [1, 90]
            assert backend.newest(STAGE, exact=True).number == 90
            with pytest.raises(OutOfOrderError):
                backend.append(STAGE, 2, lambda: [b"z"])

    def test_durability_is_heeded_where_it_is_said_to_be_and_refused_elsewhere(self, backend: Backend) -> None:
        if not backend.capabilities.durability:
            with pytest.raises(LocationError):
                open_backend(self.location(backend), durability="relaxed")
            return
        relaxed = open_backend(self.location(backend), durability="relaxed")
        assert relaxed.durability == "relaxed"
        for version in (1, 2, 3):
            relaxed.append(STAGE, version, lambda: [b"x"])
        assert relaxed.newest(STAGE).number == 3
        relaxed.flush(STAGE)
        assert relaxed.newest(STAGE) == Newest(3, durable=True)

    def test_a_store_outlives_a_backend_that_is_closed(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        other = self.another(backend)
        other.close()
        other.close()
        assert self.read_behind(backend, STAGE, 1) == b"x"
        assert read_all(backend, STAGE, 1) == b"x"


class MaintenanceContract(BackendContract):
    """What a backend must do that implements :class:`~checkpoint_manager.backends.maintenance.Maintenance`, too."""

    @pytest.fixture
    def maintenance(self, backend: Backend) -> Maintenance:
        """Return the backend as what it is besides."""
        assert isinstance(backend, Maintenance)
        return backend

    def leave_behind(self, backend: Backend, stage: str) -> None:
        """Leave in a stage what a writer leaves that is killed, without the backend's own methods."""
        raise NotImplementedError

    def test_what_is_written_leaves_nothing_else(self, backend: Backend, maintenance: Maintenance) -> None:
        assert maintenance.leftovers() == []
        for version in (1, 2):
            backend.append(STAGE, version, lambda: [b"x"])
        with pytest.raises(VersionTakenError):
            backend.append(STAGE, 2, lambda: [b"y"])
        with pytest.raises(ZeroDivisionError):
            backend.append(STAGE, 3, lambda: [bytes(1 // 0)])
        backend.replace(STAGE, 1, lambda: [b"z"])
        backend.delete(STAGE, [1])
        first = backend.write_record("keyring", data=b"first", expected=None)
        backend.write_record("keyring", data=b"second", expected=first)
        with pytest.raises(RecordChangedError):
            backend.write_record("keyring", data=b"third", expected=first)
        backend.flush(STAGE)
        assert maintenance.leftovers() == []

    def test_what_a_killed_writer_left_is_told_and_removed(self, backend: Backend, maintenance: Maintenance) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        backend.flush(STAGE)
        self.leave_behind(backend, STAGE)
        (leftover,) = maintenance.leftovers()
        assert (leftover.kind, leftover.stage) == ("leftover", STAGE)
        assert leftover.detail
        with backend.lock(STAGE, 1):
            assert maintenance.remove(leftover)
            assert maintenance.remove(leftover)
        assert maintenance.leftovers() == []
        assert self.read_behind(backend, STAGE, 1) == b"x"

    def test_what_is_quarantined_is_out_of_the_history(self, backend: Backend, maintenance: Maintenance) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        backend.append(STAGE, 2, lambda: [b"y"])
        backend.append(STAGE, 3, lambda: [b"z"])
        moved = maintenance.quarantine(STAGE, [1, 3])
        assert list(moved) == [1, 3]
        assert len(set(moved.values())) == len(moved)
        assert backend.versions(STAGE) == [2]
        assert self.read_behind(backend, STAGE, 1) is None
        assert maintenance.quarantine(STAGE, [1]) == {}

    def test_what_is_kept_of_a_version_is_not_its_only_copy(self, backend: Backend, maintenance: Maintenance) -> None:
        assert maintenance.only_copy(STAGE) is None
        for version in (1, 2):
            backend.append(STAGE, version, lambda: [b"x"])
        backend.newest(STAGE, exact=True)
        assert maintenance.only_copy(STAGE) is None

    @pytest.mark.parametrize("name", ["gaps", "tags"])
    def test_a_record_can_be_quarantined(self, backend: Backend, maintenance: Maintenance, name: StageRecord) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        assert maintenance.quarantine(STAGE, [name]) == {}
        backend.write_record(name, STAGE, data=b"damaged", expected=None)
        assert list(maintenance.quarantine(STAGE, [name])) == [name]
        assert backend.read_record(name, STAGE, limit=99) is None
        assert backend.versions(STAGE) == [1]

    def test_a_private_store_needs_no_warning(self, maintenance: Maintenance) -> None:
        assert maintenance.warnings() == []
