"""The contract can fail: each method and each capability is broken once, and the test that promises it notices."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager.backends.base import Capabilities, HeldRun, Newest, NewVersion, Record, Session
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.testing import BackendContract
from checkpoint_manager.testing.backend_contract import ATTACHMENT, STAGE, refused
from tests.backends.test_contract import MemoryBackDoor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from checkpoint_manager.backends.base import MakePieces, Purpose, Reader, RecordName
    from checkpoint_manager.models import Buffer

PROMISES: dict[type[MemoryBackend], str] = {}
"""Each broken backend, and the test of the contract that it must fail."""


def breaks(test: Callable[..., None]) -> Callable[[type[MemoryBackend]], type[MemoryBackend]]:
    def note(backend: type[MemoryBackend]) -> type[MemoryBackend]:
        PROMISES[backend] = test.__name__
        return backend

    return note


# lock


@breaks(BackendContract.test_a_lock_excludes_and_names_its_holder)
class LockThatExcludesNobody(MemoryBackend):
    def lock(self, *_: Any, **__: Any) -> Any:
        return contextlib.nullcontext()


@breaks(BackendContract.test_threads_exclude_one_another)
class LockOfARunThatExcludesNobody(MemoryBackend):
    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> Any:
        return super().lock(stage, timeout) if purpose == "write" else contextlib.nullcontext()


@breaks(BackendContract.test_locks_of_different_stages_purposes_and_names_do_not_meet)
class LockWithoutPurposes(MemoryBackend):
    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> Any:
        return super().lock(stage, timeout)


@breaks(BackendContract.test_locks_of_different_stages_purposes_and_names_do_not_meet)
class LockWithoutNames(MemoryBackend):
    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> Any:
        return super().lock(stage, timeout, purpose=purpose)


@breaks(BackendContract.test_a_lock_is_let_go_of_when_its_block_fails)
class LockThatAFailureKeeps(MemoryBackend):
    @contextlib.contextmanager
    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> Iterator[None]:  # type: ignore[override]
        lock = super().lock(stage, timeout, purpose=purpose, name=name)
        lock.__enter__()
        self.kept = lock
        yield
        lock.__exit__()


@breaks(BackendContract.test_a_thread_that_holds_a_lock_does_not_wait_for_itself)
class LockThatWaitsForItself(MemoryBackend):
    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> Any:
        lock = super().lock(stage, min(timeout, 0.01), purpose=purpose, name=name)
        lock._purpose = "run"
        return lock


@breaks(BackendContract.test_the_lock_of_the_records_excludes)
class NoLockOfTheRecords(MemoryBackend):
    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> Any:
        return contextlib.nullcontext() if stage is None else super().lock(stage, timeout, purpose=purpose, name=name)


@breaks(BackendContract.test_a_run_is_listed_with_its_notice_while_its_lock_is_held)
class HeldRunsWithoutNotices(MemoryBackend):
    def held_runs(self) -> list[HeldRun]:
        return [run._replace(notice=b"") for run in super().held_runs()]


@breaks(BackendContract.test_a_run_is_listed_with_its_notice_while_its_lock_is_held)
class HeldRunsThatStay(MemoryBackend):
    def held_runs(self) -> list[HeldRun]:
        self.seen = {run.stage: run for run in super().held_runs()} or getattr(self, "seen", {})
        return list(self.seen.values())


# session


@breaks(BackendContract.test_a_session_changes_nothing_in_what_is_returned)
class SessionThatHidesVersions(MemoryBackend):
    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:
        return [] if session is not None else super().versions(stage)


@breaks(BackendContract.test_a_lock_is_held_to_the_end_of_the_session_opened_under_it)
class SessionThatReleasesItsLockAtOnce(MemoryBackend):
    def lock(self, stage: str | None, timeout: float, *, purpose: Purpose = "write", name: str = "") -> Any:
        self.taken = super().lock(stage, timeout, purpose=purpose, name=name)
        return self.taken

    def session(self, stage: str | None, lock: object = None) -> Session:
        self.taken.__exit__()
        return Session()


# versions


@breaks(BackendContract.test_any_name_is_a_stage_of_its_own)
class StagesWithoutCase(MemoryBackend):
    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        super().append(stage.lower(), version, make_pieces)


@breaks(BackendContract.test_any_name_is_a_stage_of_its_own)
class StagesThatAreForgotten(MemoryBackend):
    def stages(self) -> list[str]:
        return super().stages()[:20]


@breaks(BackendContract.test_the_newest_is_found_over_missing_numbers)
class VersionsUpToTheFirstGap(MemoryBackend):
    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:
        return [number for at, number in enumerate(super().versions(stage), 1) if at == number]


@breaks(BackendContract.test_what_another_writer_stores_is_seen)
class NewestThatIsRemembered(MemoryBackend):
    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:
        self.seen = getattr(self, "seen", {})
        return self.seen.setdefault(stage, super().newest(stage))


@breaks(BackendContract.test_what_is_appended_is_the_newest_and_durable)
class NewestThatIsNeverDurable(MemoryBackend):
    def newest(self, stage: str, *, exact: bool = False, session: Session | None = None) -> Newest:
        return Newest(super().newest(stage).number, durable=False)


@breaks(BackendContract.test_a_version_is_written_once)
class AppendThatOverwrites(MemoryBackend):
    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        self._versions.setdefault(stage, {})[version] = b"".join(map(bytes, make_pieces()))


@breaks(BackendContract.test_versions_are_appended_together_or_not_at_all)
class AppendOneAfterTheOther(MemoryBackend):
    def append_together(self, versions: Sequence[NewVersion]) -> None:
        for each in versions:
            super().append_together([each])


@breaks(BackendContract.test_of_many_writers_of_one_number_exactly_one_succeeds)
class AppendThatSaysNothing(MemoryBackend):
    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        if version not in self.versions(stage):
            super().append(stage, version, make_pieces)


@breaks(BackendContract.test_nothing_is_appended_below_the_newest)
class AppendInAnyOrder(MemoryBackend):
    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        above = {number: self._versions[stage].pop(number) for number in self.versions(stage) if number > version}
        super().append(stage, version, make_pieces)
        self._versions[stage] |= above


@breaks(BackendContract.test_a_failing_source_leaves_nothing)
class AppendOfHalves(MemoryBackend):
    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        super().append(stage, version, list)
        for piece in make_pieces():
            self._versions[stage][version] += bytes(piece)


@breaks(BackendContract.test_a_buffer_may_be_used_again_for_the_next_piece)
class AppendThatKeepsBuffers(MemoryBackend):
    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        pieces = list(make_pieces())
        super().append(stage, version, lambda: pieces)


@breaks(BackendContract.test_what_is_appended_is_read_back)
class AppendThatStoresSomethingElse(MemoryBackend):
    """It answers from memory alone, which only the back door shows."""

    def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        super().append(stage, version, make_pieces)
        self.cache = {(stage, version): self._versions[stage][version]}
        self._versions[stage][version] = b""

    @contextlib.contextmanager
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:
        held = MemoryBackend()
        held._versions = {stage: {version: self.cache[stage, version]}}
        with held.open(stage, version) as file:
            yield file


@breaks(BackendContract.test_a_session_changes_nothing_in_what_is_returned)
class FlushThatFails(MemoryBackend):
    def flush(self, stage: str, *, session: Session | None = None) -> None:
        raise NotImplementedError


@breaks(BackendContract.test_opening_what_is_not_there)
class OpenOfNothing(MemoryBackend):
    @contextlib.contextmanager
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Iterator[Reader]:
        self._versions.setdefault(stage, {}).setdefault(version, b"")
        with super().open(stage, version) as file:
            yield file


@breaks(BackendContract.test_what_changed_behind_the_backend_is_read_as_it_is)
class OpenFromACache(MemoryBackend):
    def open(self, stage: str, version: int, *, session: Session | None = None) -> Any:
        self.cache: dict[Any, bytes] = getattr(self, "cache", {})
        held = MemoryBackend()
        held._versions = {stage: {version: self.cache.setdefault((stage, version), self._versions[stage][version])}}
        return held.open(stage, version)


@breaks(BackendContract.test_replacing_what_is_not_there)
class ReplaceThatAppends(MemoryBackend):
    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        self._versions.setdefault(stage, {})[version] = b"".join(map(bytes, make_pieces()))


@breaks(BackendContract.test_an_opened_version_stays_what_it_was)
class ReplaceThatChangesNothing(MemoryBackend):
    def replace(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
        pass


@breaks(BackendContract.test_deleted_versions_are_gone)
class DeleteThatOnlyHides(MemoryBackend):
    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:
        self.hidden = set(versions)

    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:
        return [number for number in super().versions(stage) if number not in getattr(self, "hidden", ())]


@breaks(BackendContract.test_the_newest_stays_where_others_are_deleted)
class DeleteThatLeavesNothing(MemoryBackend):
    def delete(self, stage: str, versions: Iterable[int], *, session: Session | None = None) -> None:
        self._versions[stage].clear()


# records


@breaks(BackendContract.test_a_record_beyond_the_limit_is_refused)
class ReadRecordWithoutALimit(MemoryBackend):
    def read_record(self, name: RecordName, stage: str | None = None, *, limit: int, **more: Any) -> Record | None:
        return super().read_record(name, stage, limit=10**9, **more)


@breaks(BackendContract.test_a_record_that_has_not_changed_is_given_back)
class ReadRecordThatNeverLooks(MemoryBackend):
    def read_record(self, *given: Any, known: Record | None = None, **more: Any) -> Record | None:
        return known or super().read_record(*given, **more)


@breaks(BackendContract.test_each_stage_has_its_own_records)
class RecordsOfTheWholeStore(MemoryBackend):
    def read_record(self, name: RecordName, stage: str | None = None, **more: Any) -> Record | None:
        return super().read_record(name, None, **more)

    def write_record(self, name: RecordName, stage: str | None = None, **more: Any) -> Record:
        return super().write_record(name, None, **more)


@breaks(BackendContract.test_records_are_compared_before_they_are_set)
class WriteRecordThatNeverCompares(MemoryBackend):
    def write_record(self, name: RecordName, stage: str | None = None, *, data: bytes, **more: Any) -> Record:
        return super().write_record(name, stage, data=data, expected=self._records.get((name, stage)))


# attachments


@breaks(BackendContract.test_segments_come_back_as_they_were_written)
class WriteSegmentThatForgets(MemoryBackend):
    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        super().write_segment(stage, attachment, 0, pieces)


@breaks(BackendContract.test_any_stage_has_attachments_of_its_own)
class WriteSegmentInOnePlace(MemoryBackend):
    def write_segment(self, stage: str, attachment: str, index: int, pieces: Iterable[Buffer]) -> None:
        super().write_segment(stage.lower(), attachment, index, pieces)

    def open_segment(self, stage: str, attachment: str, index: int) -> AbstractContextManager[Reader]:
        return super().open_segment(stage.lower(), attachment, index)


@breaks(BackendContract.test_a_segment_that_is_not_there)
class OpenSegmentOfAny(MemoryBackend):
    def open_segment(self, stage: str, attachment: str, index: int) -> AbstractContextManager[Reader]:
        return super().open_segment(STAGE, ATTACHMENT, 0)


@breaks(BackendContract.test_segments_end_at_the_first_that_is_missing)
class SegmentSizesOverGaps(MemoryBackend):
    def segment_sizes(self, stage: str, attachment: str) -> list[int]:
        return [len(data) for data in self._attachments.get(stage, {}).get(attachment, {}).values()]


@breaks(BackendContract.test_deleted_attachments_are_gone)
class AttachmentsOfAllStages(MemoryBackend):
    def attachments(self, stage: str) -> list[str]:
        return [each for attachments in self._attachments.values() for each in attachments]


@breaks(BackendContract.test_deleted_attachments_are_gone)
class DeleteAttachmentsOfNobody(MemoryBackend):
    def delete_attachments(self, stage: str, attachments: Iterable[str]) -> None:
        pass


# the whole store


@breaks(BackendContract.test_waiting_for_writers_waits_for_each_lock_to_write)
class WaitForNobody(MemoryBackend):
    def wait_for_writers(self, timeout: float) -> None:
        pass


@breaks(BackendContract.test_waiting_for_writers_waits_for_each_lock_to_write)
class WaitForRunsToo(MemoryBackend):
    def wait_for_writers(self, timeout: float) -> None:
        for stage, purpose, name in tuple(self._locks):
            error = refused(self, stage, 0.01, purpose=purpose, name=name)
            if isinstance(error, BaseException):
                raise error


@breaks(BackendContract.test_the_descriptors_of_locks_are_open_while_they_are_held)
class DescriptorsThatAreNotOpen(MemoryBackend):
    def lock_descriptors(self) -> tuple[int, ...]:
        return (10_000 + len(self._locks),)


@breaks(BackendContract.test_a_store_outlives_a_backend_that_is_closed)
class CloseThatEmpties(MemoryBackend):
    def close(self) -> None:
        self._versions.clear()


# capabilities that are claimed


class _Claiming(MemoryBackend):
    def __init__(self, **claims: bool) -> None:
        super().__init__()
        true = {"lock_excludes": True, "lists_over_gaps": True, "durability": False, "persistent": False}
        self.capabilities = Capabilities(**true | claims)


@breaks(BackendContract.test_a_store_that_is_persistent_is_there_for_another_process)
class ClaimsToBePersistent(_Claiming):
    def __init__(self) -> None:
        super().__init__(persistent=True)


@breaks(BackendContract.test_a_lock_that_excludes_excludes_another_process)
class ClaimsToExcludeOtherProcesses(_Claiming):
    def __init__(self) -> None:
        super().__init__(persistent=True, lock_excludes=True)


@breaks(BackendContract.test_durability_is_heeded_where_it_is_said_to_be_and_refused_elsewhere)
class ClaimsToHeedDurability(_Claiming):
    def __init__(self) -> None:
        super().__init__(durability=True)


@breaks(BackendContract.test_a_listing_that_sees_over_gaps_misses_nothing)
class ClaimsToListOverGaps(MemoryBackend):
    def versions(self, stage: str, *, session: Session | None = None) -> list[int]:
        return [number for number in super().versions(stage) if number < 64]


def cases_of(test: Callable[..., None]) -> list[dict[str, Any]]:
    """Return the arguments of each case of a test of the contract, besides the backend."""
    cases: list[dict[str, Any]] = [{}]
    for mark in getattr(test, "pytestmark", []):
        names = [mark.args[0]] if isinstance(mark.args[0], str) else mark.args[0]
        rows = [row if isinstance(row, tuple) else (row,) for row in mark.args[1]]
        cases = [case | dict(zip(names, row, strict=True)) for case in cases for row in rows]
    return cases


@pytest.mark.parametrize("broken", PROMISES, ids=lambda backend: backend.__name__)
def test_a_broken_backend_does_not_keep_the_contract(broken: type[MemoryBackend]) -> None:
    name = PROMISES[broken]
    test = getattr(MemoryBackDoor(), name)
    with pytest.raises((Exception, pytest.fail.Exception)):  # noqa: PT012  # whatever it fails with, in one of its cases
        for case in cases_of(getattr(BackendContract, name)):
            test(broken(), **case)


def test_every_method_of_a_backend_is_broken_once() -> None:
    methods = {name for name in vars(MemoryBackend) if not name.startswith("_")} | {"lock_descriptors", "close"}
    broken = {name for backend in PROMISES for name in vars(backend)}
    assert methods - broken == set()
    assert {backend.__name__ for backend in PROMISES if backend.__name__.startswith("Claims")} == {
        "ClaimsToBePersistent",
        "ClaimsToExcludeOtherProcesses",
        "ClaimsToHeedDurability",
        "ClaimsToListOverGaps",
    }
