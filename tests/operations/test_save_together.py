"""Several stages in one step: all of them, or none."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoint_manager import (
    ArgumentError,
    AsyncCheckpointManager,
    CheckpointError,
    CheckpointManager,
    LockTimeoutError,
    PayloadError,
    Retention,
    StorageError,
    VersionConflictError,
)
from checkpoint_manager.backends.base import NewVersion, UnknownOutcomeError, VersionAbsentError
from checkpoint_manager.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

KEY = bytes(32)


@pytest.fixture(params=["memory", "sqlite"])
def cm(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointManager:
    where = "memory:" if request.param == "memory" else f"sqlite:///{tmp_path}/store.db"
    return CheckpointManager(where, key=KEY)


def test_each_stage_has_a_new_version(cm: CheckpointManager) -> None:
    cm.save_checkpoint("a", 0)
    saved = cm.save_checkpoints({"b": {1, 2}, "a": "x"}, metadata={"run": "a7"})
    assert [(stage, version.number, dict(version.metadata)) for stage, version in saved.items()] == [
        ("b", 1, {"run": "a7"}),
        ("a", 2, {"run": "a7"}),
    ]
    assert (cm.load_checkpoint("a"), cm.load_checkpoint("b")) == ("x", {1, 2})
    assert cm.verify().ok
    assert cm.save_checkpoints({}) == {}


def test_arrays_come_along(cm: CheckpointManager) -> None:
    cm.save_checkpoints({"weights": {"w": np.arange(3)}, "epoch": 1})
    assert cm.load_checkpoint("weights")["w"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"checkpoints": {"a": 1, "b": object()}}, PayloadError),
        ({"checkpoints": {"a": 1, "": 2}}, CheckpointError),
        ({"checkpoints": {"a": 1, "b": 2}, "expected_versions": {"b": 3}}, VersionConflictError),
        ({"checkpoints": {"a": 1}, "expected_versions": {"b": 0}}, ArgumentError),
        ({"checkpoints": {"a": 1}, "expected_versions": {"a": "1"}}, TypeError),
        ({"checkpoints": [("a", 1)]}, TypeError),
        ({"checkpoints": {"a": 1}, "atomic": None}, TypeError),
    ],
)
def test_what_cant_be_saved_leaves_all_as_they_were(
    cm: CheckpointManager, arguments: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        cm.save_checkpoints(**arguments)
    assert cm.stages() == []


def test_the_expected_versions_are_compared(cm: CheckpointManager) -> None:
    cm.save_checkpoint("gone", 1)
    cm.delete_stage("gone")
    saved = cm.save_checkpoints({"a": 1, "gone": 2}, expected_versions={"a": 0, "gone": 0})
    assert cm.save_checkpoints({"a": 2, "gone": 3}, expected_versions={"a": saved["a"].number})["a"].number == 2


def test_a_stage_that_is_locked_keeps_all_as_they_were(tmp_path: Path) -> None:
    cm = CheckpointManager(f"sqlite:///{tmp_path}/store.db", key=KEY, lock_timeout=0.1)
    with cm._store.backend.lock("b", 1), ThreadPoolExecutor(1) as pool, pytest.raises(LockTimeoutError):
        pool.submit(cm.save_checkpoints, {"a": 1, "b": 2}).result()
    assert cm.stages() == []


def test_writers_of_the_same_stages_never_mix(cm: CheckpointManager) -> None:
    with ThreadPoolExecutor(4) as pool:
        names = [["a", "b"], ["b", "a"]]
        list(pool.map(lambda each: cm.save_checkpoints(dict.fromkeys(names[each % 2], each)), range(24)))
    pairs = [[cm.load_checkpoint(stage, number) for stage in ("a", "b")] for number in range(1, 25)]
    assert sorted(one for one, _ in pairs) == list(range(24))
    assert all(one == other for one, other in pairs)


def test_a_directory_refuses_it_unless_one_after_the_other_is_enough(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    with pytest.raises(
        CheckpointError, match=r"can't save several stages in one step; nothing was written\. Give atomic=False"
    ):
        cm.save_checkpoints({"a": 1, "b": 2})
    assert cm.stages() == []
    cm.save_checkpoints({"a": 1, "b": np.arange(3)}, atomic=False)
    with pytest.raises(VersionConflictError):
        cm.save_checkpoints({"a": 2, "b": 3}, expected_versions={"b": 0}, atomic=False)
    assert (cm.load_checkpoint("a"), cm.load_checkpoint("b").tolist()) == (2, [0, 1, 2])


def test_the_retention_counts_them() -> None:
    cm = CheckpointManager("memory:", key=KEY, retention=Retention(keep_last=1))
    for number in range(17):  # 16 are deleted at a time
        cm.save_checkpoints({"a": number, "b": number})
    assert [len(cm.history(stage)) for stage in ("a", "b")] == [1, 1]


def test_it_is_awaited_too() -> None:
    async def work() -> int:
        async with AsyncCheckpointManager("memory:", key=KEY) as cm:
            return (await cm.save_checkpoints({"a": 1, "b": 2}))["b"].number

    assert asyncio.run(work()) == 1


def after(act: Callable[[MemoryBackend, Sequence[NewVersion]], None]) -> CheckpointManager:
    """Return a manager whose backend does something instead of appending together."""

    class Backend(MemoryBackend):
        def append_together(self, versions: Sequence[NewVersion]) -> None:
            if len(versions) > 1:
                act(self, versions)
            else:
                super().append_together(versions)

    return CheckpointManager(Backend(), key=KEY)


def test_a_lost_answer_is_no_second_save() -> None:
    def lose(backend: MemoryBackend, versions: Sequence[NewVersion]) -> None:
        MemoryBackend.append_together(backend, versions)
        raise UnknownOutcomeError from OSError("lost")

    cm = after(lose)
    assert [version.number for version in cm.save_checkpoints({"a": 1, "b": 2}).values()] == [1, 1]
    assert cm.verify().ok


def test_what_was_not_written_is_written_again() -> None:
    attempts: list[int] = []

    def fail_once(backend: MemoryBackend, versions: Sequence[NewVersion]) -> None:
        attempts.append(1)
        if len(attempts) == 1:
            raise UnknownOutcomeError from OSError("lost")
        MemoryBackend.append_together(backend, versions)

    assert after(fail_once).save_checkpoints({"a": 1, "b": 2})["a"].number == 1


def test_silence_is_an_error_that_names_the_stages() -> None:
    def lose(*_: object) -> None:
        raise UnknownOutcomeError from OSError("lost")

    with pytest.raises(StorageError, match="it is not known whether a, b were saved"):
        after(lose).save_checkpoints({"a": 1, "b": 2})


class Overtaken:
    """Another writer saves stage b before the first so many attempts to append, without the lock."""

    def __init__(self, times: int) -> None:
        self.left = times
        self.cm = after(self.append)

    def append(self, backend: MemoryBackend, versions: Sequence[NewVersion]) -> None:
        if self.left:
            self.left -= 1
            backend.append("b", versions[1].number, lambda: [b"of another"])
        MemoryBackend.append_together(backend, versions)


def test_a_writer_without_the_lock_is_followed() -> None:
    saved = Overtaken(1).cm.save_checkpoints({"a": 1, "b": 2})
    assert [(version.stage, version.number) for version in saved.values()] == [("a", 1), ("b", 2)]


def test_a_writer_without_the_lock_is_a_conflict_where_a_version_is_expected() -> None:
    overtaken = Overtaken(1)
    with pytest.raises(VersionConflictError) as caught:
        overtaken.cm.save_checkpoints({"a": 1, "b": 2}, expected_versions={"b": 0})
    assert (caught.value.stage, caught.value.expected, caught.value.actual) == ("b", 0, 1)


def test_a_writer_who_is_always_faster_is_an_error() -> None:
    with pytest.raises(StorageError, match="took each of 5 version numbers first"):
        Overtaken(9).cm.save_checkpoints({"a": 1, "b": 2})


@pytest.mark.parametrize(
    ("replace", "told"),
    [
        (VersionAbsentError(), "a, b were saved in .*, and one of these versions was deleted meanwhile"),
        (StorageError("no space"), "version 1 of stage a in .* was written, and could not be checked afterwards: no space"),
    ],
)
def test_what_goes_wrong_after_the_write_says_that_they_were_written(
    monkeypatch: pytest.MonkeyPatch, replace: Exception, told: str
) -> None:
    def lose(backend: MemoryBackend, versions: Sequence[NewVersion]) -> None:
        MemoryBackend.append_together(backend, versions)
        raise UnknownOutcomeError from OSError("lost")

    def fail(*_: object, **__: object) -> None:
        raise replace

    monkeypatch.setattr(MemoryBackend, "replace", fail)
    with pytest.raises(StorageError, match=told):
        after(lose).save_checkpoints({"a": 1, "b": 2})


def test_one_that_is_deleted_while_the_key_is_rotated_says_so() -> None:
    def fail(*_: object) -> None:  # as the store's replace does, when the key was given up meanwhile
        raise VersionAbsentError

    with pytest.raises(StorageError, match="one of these versions was deleted meanwhile"):
        after(fail).save_checkpoints({"a": 1, "b": 2})


def test_silence_while_looking_is_an_error_that_names_the_stages(monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: object) -> None:
        monkeypatch.setattr(MemoryBackend, "open", fail)
        raise UnknownOutcomeError from OSError("lost")

    def fail(*_: object, **__: object) -> None:
        raise StorageError("no answer")

    with pytest.raises(StorageError, match="it is not known whether a, b were saved"):
        after(lose).save_checkpoints({"a": 1, "b": 2})


def test_arrays_beside_the_data_are_saved_with_it(tmp_path: Path) -> None:
    """In one step where the place can, and else one stage after another."""
    for place in (f"sqlite:///{tmp_path / 'store.db'}", tmp_path / "store"):
        cm = CheckpointManager(place, key=KEY)
        cm.save_checkpoints({"weights": np.arange(5000.0), "epoch": 1}, atomic=False)
        assert (cm.load_checkpoint("weights") == np.arange(5000.0)).all()
        assert cm.load_checkpoint("epoch") == 1
        assert cm.verify().ok


def test_a_look_at_the_keyring_that_fails_after_the_write_loses_no_version(
    cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are found by their ids, and not written again."""
    refresh, fails = cm._store.refresh_keys, iter([True])

    def fail(*arguments: Any) -> object:
        if cm._store.backend.newest("a").number and next(fails, False):
            raise StorageError("Input/output error", errno=5)
        return refresh(*arguments)

    monkeypatch.setattr(cm._store, "refresh_keys", fail)
    assert [version.number for version in cm.save_checkpoints({"a": 1, "b": 2}).values()] == [1, 1]
    assert next(fails, None) is None
    assert [len(cm.history(stage)) for stage in ("a", "b")] == [1, 1]
