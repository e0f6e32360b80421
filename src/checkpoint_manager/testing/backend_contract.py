"""The backend contract as tests: subclass it, give it a backend, and run it with pytest.

::

    class TestMyBackend(BackendContract):
        @pytest.fixture
        def backend(self):
            return MyBackend(...)

Each test states one promise of :mod:`checkpoint_manager.backends.base`.
"""

from __future__ import annotations

import threading
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager.backends.base import (
    OutOfOrderError,
    RecordChangedError,
    VersionAbsentError,
    VersionTakenError,
    maintenance_of,
)
from checkpoint_manager.errors import CheckpointError, IntegrityError, LockTimeoutError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checkpoint_manager.backends.base import Backend, Purpose, StageRecord
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


def refused(backend: Backend, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> object:
    """Return what another thread gets that tries to take a lock: an exception, or None."""

    def take() -> None:
        with backend.lock(stage, timeout, purpose=purpose, name=name):
            pass

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(take).exception()


class BackendContract:
    """What every backend must do. Subclasses give a fresh, empty ``backend`` as a fixture."""

    # Versions

    def test_an_empty_backend_has_nothing(self, backend: Backend) -> None:
        assert backend.stages() == []
        assert backend.versions(STAGE) == []
        assert backend.newest(STAGE).number == 0
        assert maintenance_of(backend).leftovers() == []

    def test_what_is_appended_is_read_back(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"one ", b"", b"two"])
        assert read_all(backend, STAGE, 1) == b"one two"
        assert backend.stages() == [STAGE]
        assert backend.versions(STAGE) == [1]

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
        assert read_all(backend, STAGE, 1) == b"first"
        assert maintenance_of(backend).leftovers() == []

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
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            backend.append(STAGE, 1, pieces)
        assert backend.versions(STAGE) == []
        assert maintenance_of(backend).leftovers() == []
        backend.append(STAGE, 1, lambda: [b"whole"])

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
        assert read_all(backend, STAGE, 1) == b"new"

    def test_replacing_what_is_not_there(self, backend: Backend) -> None:
        with pytest.raises(VersionAbsentError):
            backend.replace(STAGE, 1, lambda: [b"x"])
        assert backend.versions(STAGE) == []

    def test_deleted_versions_are_gone(self, backend: Backend) -> None:
        for version in range(1, 5):
            backend.append(STAGE, version, lambda: [b"x"])
        backend.delete(STAGE, [1, 3, 3, 9])
        assert backend.versions(STAGE) == [2, 4]

    @pytest.mark.parametrize("stage", AWKWARD_STAGES, ids=ascii)
    def test_any_name_is_a_stage_of_its_own(self, backend: Backend, stage: str) -> None:
        for other in AWKWARD_STAGES:
            if other != stage:
                backend.append(other, 1, lambda: [b"other"])
        assert backend.versions(stage) == []
        backend.append(stage, 1, lambda: [b"mine"])
        assert read_all(backend, stage, 1) == b"mine"
        assert sorted(backend.stages()) == sorted(AWKWARD_STAGES)
        assert maintenance_of(backend).leftovers() == []

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
        assert maintenance_of(backend).leftovers() == []

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

    def test_a_lock_excludes_and_names_its_holder(self, backend: Backend) -> None:
        with backend.lock(STAGE, 1):
            error = refused(backend, STAGE, 0.05)
        assert isinstance(error, LockTimeoutError)
        assert error.stage == STAGE
        assert error.holder
        with backend.lock(STAGE, 0):
            pass

    def test_a_thread_that_holds_a_lock_does_not_wait_for_itself(self, backend: Backend) -> None:
        with backend.lock(STAGE, 1), pytest.raises(CheckpointError) as caught, backend.lock(STAGE, 60):
            pass
        assert not isinstance(caught.value, LockTimeoutError)
        with backend.lock(STAGE, 0):
            pass

    def test_locks_of_different_stages_do_not_meet(self, backend: Backend) -> None:
        with backend.lock(STAGE, 0), backend.lock("Data_ingestion", 0), backend.lock(None, 0):
            pass

    def test_locks_of_different_purposes_and_names_do_not_meet(self, backend: Backend) -> None:
        with (
            backend.lock(STAGE, 0),
            backend.lock(STAGE, 0, purpose="run"),
            backend.lock(STAGE, 0, purpose="run", name="0" * 32),
            backend.lock(STAGE, 0, purpose="run", name="1" * 32),
        ):
            pass

    def test_a_named_lock_excludes_and_may_be_taken_again(self, backend: Backend) -> None:
        for _ in range(2):
            with backend.lock(STAGE, 0, purpose="run", name="1" * 32):
                assert isinstance(refused(backend, STAGE, 0.05, purpose="run", name="1" * 32), LockTimeoutError)

    def test_threads_exclude_one_another_by_a_named_lock(self, backend: Backend) -> None:
        inside = 0
        most = 0

        def work(_: int) -> None:
            nonlocal inside, most
            with backend.lock(STAGE, 30, purpose="run", name="1" * 32):
                inside += 1
                most = max(most, inside)
                inside -= 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(100)))
        assert most == 1

    def test_threads_exclude_one_another(self, backend: Backend) -> None:
        inside = 0
        most = 0

        def work(_: int) -> None:
            nonlocal inside, most
            with backend.lock(STAGE, 30):
                inside += 1
                most = max(most, inside)
                inside -= 1

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(100)))
        assert most == 1

    def test_waiting_for_writers_waits_for_each_lock(self, backend: Backend) -> None:
        backend.wait_for_writers(1)
        with backend.lock(STAGE, 1), ThreadPoolExecutor(1) as pool, pytest.raises(LockTimeoutError):
            pool.submit(backend.wait_for_writers, 0.05).result()
        backend.wait_for_writers(1)

    # Upkeep

    def test_what_is_set_aside_is_out_of_the_history(self, backend: Backend) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        backend.append(STAGE, 2, lambda: [b"y"])
        assert maintenance_of(backend).quarantine(STAGE, 1)
        assert backend.versions(STAGE) == [2]
        with pytest.raises(VersionAbsentError):
            maintenance_of(backend).quarantine(STAGE, 1)

    @pytest.mark.parametrize("name", ["gaps", "tags"])
    def test_a_record_can_be_set_aside(self, backend: Backend, name: StageRecord) -> None:
        backend.append(STAGE, 1, lambda: [b"x"])
        with pytest.raises(VersionAbsentError):
            maintenance_of(backend).quarantine(STAGE, name)
        backend.write_record(name, STAGE, data=b"damaged", expected=None)
        assert maintenance_of(backend).quarantine(STAGE, name)
        assert backend.read_record(name, STAGE, limit=99) is None
        assert backend.versions(STAGE) == [1]
