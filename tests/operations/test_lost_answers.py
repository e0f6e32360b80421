"""The backend's answer to an append is lost: each version is written exactly once, and acknowledged once."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, LockTimeoutError, StorageError
from checkpoint_manager.backends.base import UnknownOutcomeError
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from checkpoint_manager.backends.base import Backend, MakePieces, NewVersion, Record, Session

KEY = bytes(range(32))


class Answers:
    """Says of the next appends that their outcome is not known.

    Attributes:
        lost: How many answers will be lost.
        written: Whether the version was written by then.
        rival: Called after an answer was lost.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.written = False
        self.rival: Callable[[], object] = lambda: None


def losing(kind: type[Any]) -> type[Any]:
    class Losing(kind):  # type: ignore[misc]
        answers = Answers()
        unreadable: Exception | None = None

        def append(self, stage: str, version: int, make_pieces: MakePieces, *, session: Session | None = None) -> None:
            if not self.answers.lost:
                super().append(stage, version, make_pieces, session=session)
                return
            self.answers.lost -= 1
            if self.answers.written:
                super().append(stage, version, make_pieces, session=session)
            self.answers.rival()
            raise UnknownOutcomeError from TimeoutError("no answer within 5 s")

        def session_after(self, *_: object) -> None:
            """Be a backend that can't tell: each save goes by ``append``."""

        def open(self, stage: str, version: int, *, session: Session | None = None) -> Any:
            if self.unreadable is not None:
                raise self.unreadable
            return super().open(stage, version, session=session)

    return Losing


@pytest.fixture(params=["local", "relaxed", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Return a backend whose answers can be lost."""
    if request.param == "memory":
        made = losing(MemoryBackend)()
    else:
        made = losing(LocalBackend)(tmp_path / "store", "relaxed" if request.param == "relaxed" else "full")
    made.answers = Answers()
    return made


def contents(cm: CheckpointManager, stage: str = "train") -> list[Any]:
    """Return what each version holds, from 1 on, after a look at whether all is in order."""
    assert cm.verify().problems == ()
    versions = cm.history(stage)[::-1]
    assert [version.number for version in versions] == list(range(1, len(versions) + 1))
    return [cm.load_checkpoint(stage, version.number) for version in versions]


def bundle_of_another_store() -> io.BytesIO:
    other = CheckpointManager(MemoryBackend(), key=KEY)
    for epoch in (1, 2, 3):
        other.save_checkpoint("train", epoch)
    file = io.BytesIO()
    other.export_bundle(file, key=KEY)
    file.seek(0)
    return file


OPERATIONS: dict[str, tuple[Callable[[CheckpointManager], object], list[Any]]] = {
    "save": (lambda cm: cm.save_checkpoint("train", 3), [1, 2, 3]),
    "save what was expected": (lambda cm: cm.save_checkpoint("train", 3, expected_version=2), [1, 2, 3]),
    "update": (lambda cm: cm.update_checkpoint("train", lambda epoch: epoch + 1), [1, 2, 3]),
    "restore": (lambda cm: cm.restore_checkpoint("train", 1), [1, 2, 1]),
    "clear": (lambda cm: cm.clear_checkpoint("train"), [1, 2, None]),
}


@pytest.mark.parametrize("written", [True, False], ids=["written", "not written"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_each_operation_appends_once(backend: Any, operation: str, written: bool) -> None:
    act, expected = OPERATIONS[operation]
    cm = CheckpointManager(backend, key=KEY)
    for epoch in (1, 2):
        cm.save_checkpoint("train", epoch)
    backend.answers.lost, backend.answers.written = 1, written
    acknowledged: Any = act(cm)
    assert backend.answers.lost == 0
    assert acknowledged.number == 3
    assert contents(cm) == expected
    assert contents(CheckpointManager(backend, key=KEY)) == expected
    assert cm.save_checkpoint("train", "next").number == 4


@pytest.mark.parametrize("written", [True, False], ids=["written", "not written"])
def test_an_import_appends_each_version_once(backend: Any, written: bool) -> None:
    cm = CheckpointManager(backend, key=KEY)
    backend.answers.lost, backend.answers.written = 2, written
    bundle = bundle_of_another_store()
    assert cm.import_bundle(bundle, key=KEY).added == 3
    assert backend.answers.lost == 0
    assert contents(cm) == [1, 2, 3]
    bundle.seek(0)
    assert cm.import_bundle(bundle, key=KEY).added == 0


@pytest.mark.parametrize("written", [True, False], ids=["written", "not written"])
def test_a_save_during_a_rotation_is_sealed_under_the_new_key(backend: Any, written: bool) -> None:
    """The answer is lost while another manager rotates the key: the version must not stay under the old one."""
    cm = CheckpointManager(backend, key=KEY)
    other = CheckpointManager(backend, key=KEY)
    cm.save_checkpoint("train", 1)
    lock = backend.lock

    def rotate_without_the_lock() -> None:
        backend.answers.rival = lambda: None
        backend.lock = lambda *_, **__: MemoryBackend().lock(None, 0)  # its lock file was removed
        backend.wait_for_writers = lambda _: None
        other.keys.rotate()
        backend.lock = lock

    backend.answers.lost, backend.answers.written, backend.answers.rival = 1, written, rotate_without_the_lock
    assert cm.save_checkpoint("train", 2).number == 2
    assert contents(CheckpointManager(backend, key=KEY)) == [1, 2]


@pytest.mark.parametrize("number_of_rivals", [1, 2])
def test_a_rival_that_took_the_number_meanwhile_keeps_it(backend: Any, number_of_rivals: int) -> None:
    cm = CheckpointManager(backend, key=KEY)
    cm.save_checkpoint("train", 1)
    lock = backend.lock

    def save_without_the_lock() -> None:
        backend.answers.rival = lambda: None
        backend.lock = lambda *_, **__: MemoryBackend().lock(None, 0)
        other = CheckpointManager(backend, key=KEY)
        for _ in range(number_of_rivals):
            other.save_checkpoint("train", "rival")
        backend.lock = lock

    backend.answers.lost, backend.answers.rival = 1, save_without_the_lock
    assert cm.save_checkpoint("train", "mine").number == 2 + number_of_rivals
    assert contents(cm) == [1, *["rival"] * number_of_rivals, "mine"]


@pytest.mark.parametrize("fault", [StorageError("the connection is gone"), LockTimeoutError("the lock is another's")])
def test_a_fault_while_looking_is_raised_and_never_taken_for_not_mine(backend: Any, fault: CheckpointError) -> None:
    cm = CheckpointManager(backend, key=KEY)
    cm.save_checkpoint("train", 1)

    def lose_the_connection() -> None:
        type(backend).unreadable = fault

    backend.answers.lost, backend.answers.written, backend.answers.rival = 1, True, lose_the_connection
    with pytest.raises(StorageError, match=f"not known whether version 2 of stage train in .* was written: {fault.message}"):
        cm.save_checkpoint("train", 2)
    type(backend).unreadable = None
    assert contents(cm) == [1, 2]


@pytest.mark.parametrize("kind", ["one stage", "several"])
def test_a_lock_that_is_lost_with_the_answer_does_not_say_that_nothing_was_written(kind: str) -> None:
    class Losing(MemoryBackend):
        """The first attempt is on its way, and the second one does not get the lock."""

        attempts = 0

        def append_together(self, versions: Sequence[NewVersion]) -> None:
            self.attempts += 1
            if self.attempts == 1:
                raise UnknownOutcomeError from TimeoutError("no answer within 5 s")
            raise LockTimeoutError("the lock is another's")

    backend = Losing()
    cm = CheckpointManager(backend, key=KEY)
    with pytest.raises(StorageError, match="it is not known whether") as caught:
        cm.save_checkpoint("train", 1) if kind == "one stage" else cm.save_checkpoints({"train": 1, "test": 1})
    assert isinstance(caught.value.__cause__, LockTimeoutError)
    with pytest.raises(LockTimeoutError):  # and nothing was begun
        cm.save_checkpoint("train", 1) if kind == "one stage" else cm.save_checkpoints({"train": 1, "test": 1})


@pytest.mark.parametrize("fault", [StorageError("the connection is gone"), LockTimeoutError("the lock is another's")])
@pytest.mark.parametrize("kind", ["one stage", "several"])
def test_a_fault_right_after_the_write_does_not_say_that_nothing_was_written(kind: str, fault: CheckpointError) -> None:
    class Failing(MemoryBackend):
        fault: CheckpointError | None = None
        is_written = False

        def append_together(self, versions: Sequence[NewVersion]) -> None:
            super().append_together(versions)
            self.is_written = True

        def read_record(self, *args: Any, **options: Any) -> Record | None:
            if self.is_written and self.fault is not None:
                raise self.fault
            return super().read_record(*args, **options)

    backend = Failing()
    cm = CheckpointManager(backend, key=KEY)
    backend.fault = fault
    with pytest.raises(StorageError, match=r"was written, and could not be checked afterwards"):
        cm.save_checkpoint("train", 1) if kind == "one stage" else cm.save_checkpoints({"train": 1, "test": 1})
    backend.fault = None
    assert contents(cm) == [1]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", ["one stage", "several"])
def test_a_write_without_an_answer_is_tried_again_no_longer_than_the_backend_is_patient(kind: str) -> None:
    class Silent(MemoryBackend):
        attempts = 0

        def append_together(self, versions: Sequence[NewVersion]) -> None:
            self.attempts += 1
            raise UnknownOutcomeError from TimeoutError("no answer within 5 s")

    backend = Silent()
    cm = CheckpointManager(backend, key=KEY, lock_timeout=0)
    with pytest.raises(StorageError, match="it is not known whether"):
        cm.save_checkpoint("train", 1) if kind == "one stage" else cm.save_checkpoints({"train": 1, "test": 1})
    assert backend.attempts == 1


@pytest.mark.parametrize("act", [OPERATIONS["save"][0], lambda cm: cm.import_bundle(bundle_of_another_store(), key=KEY)])
def test_a_backend_that_never_answers_ends_in_an_error(backend: Backend, act: Callable[[CheckpointManager], object]) -> None:
    cm = CheckpointManager(backend, key=KEY)
    backend.answers.lost = 10**6  # type: ignore[attr-defined]
    why = r"it is not known whether version 1 of stage train in .* was written: no answer within 5 s"
    with pytest.raises(StorageError, match=why) as caught:
        act(cm)
    assert isinstance(caught.value.__cause__, TimeoutError)
    assert not cm.has_checkpoint("train")
