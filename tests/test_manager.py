"""The whole interface, on a directory and in memory."""

from __future__ import annotations

import copy
import datetime as dt
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from checkpoint_manager import (
    AsyncCheckpointManager,
    CheckpointError,
    CheckpointManager,
    CheckpointNotFoundError,
    IntegrityError,
    KeyFile,
    LockTimeoutError,
    PayloadError,
    Retention,
    StageNameError,
    VersionConflictError,
)
from checkpoint_manager._store.key_sources import create_key_file
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.testing.strategies import values
from tests.strategies import same

KEY = bytes(range(32))


@pytest.fixture(
    params=["local", "relaxed", "memory", "sqlite", "postgres", *(["s3"] if os.environ.get("TESTS_S3_ENDPOINT") else [])]
)
def cm(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointManager:
    if request.param == "memory":
        return CheckpointManager(MemoryBackend(), key=KEY)
    if request.param == "sqlite":
        return CheckpointManager(f"sqlite:///{tmp_path / 'store.db'}", key=KEY)
    if request.param == "postgres":
        return CheckpointManager(request.getfixturevalue("postgres_url"), key=KEY)
    if request.param == "s3":
        return CheckpointManager(request.getfixturevalue("s3").url(), key=KEY)
    durability = "relaxed" if request.param == "relaxed" else "full"
    return CheckpointManager(tmp_path / "store", key=KEY, durability=durability)


class TestSaving:
    def test_what_is_loaded_is_what_was_saved(self, cm: CheckpointManager) -> None:
        data = {"a": [1, 1.0, True, None, "x", {"deep": [[]]}], "big": 2**64 - 1, "small": -(2**63), "zero": -0.0}
        cm.save_checkpoint("train", data)
        assert repr(cm.load_checkpoint("train")) == repr(data)

    def test_versions_count_up_from_one(self, cm: CheckpointManager) -> None:
        assert [cm.save_checkpoint("train", number).number for number in range(3)] == [1, 2, 3]
        assert cm.save_checkpoint("other").number == 1

    def test_a_version_tells_where_it_comes_from(self, cm: CheckpointManager) -> None:
        before = datetime.now(UTC)
        version = cm.save_checkpoint("train", {"epoch": 3}, metadata={"run": "a7"})
        assert cm.get_checkpoint("train").version == version
        assert version.stage == "train"
        assert version.status == "completed"
        assert version.metadata == {"run": "a7"}
        assert version.size == len(b'{"epoch":3}')
        assert version.restored_from is None
        assert before <= version.created_at <= datetime.now(UTC)
        assert version.origin.pid > 0
        assert version.origin.library

    @given(value=values(max_leaves=8))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
    def test_what_is_loaded_equals_what_was_saved_type_for_type(self, cm: CheckpointManager, value: Any) -> None:
        cm.save_checkpoint("train", value)
        assert same(cm.load_checkpoint("train"), value)
        assert same(cm.get_checkpoint("train").data, value)
        cm.update_checkpoint("train", lambda present: (present, present))
        assert same(cm.load_checkpoint("train"), (value, value))

    def test_metadata_is_json(self, cm: CheckpointManager) -> None:
        with pytest.raises(PayloadError, match=r"the metadata can't be saved: \$.at is of type datetime.date"):
            cm.save_checkpoint("train", metadata={"at": dt.date(2026, 11, 23)})
        assert cm.history("train") == []

    def test_metadata_is_kept_as_it_was(self, cm: CheckpointManager) -> None:
        metadata = {"tags": ["a"]}
        version = cm.save_checkpoint("train", metadata=metadata)
        metadata["tags"].append("b")
        assert version.metadata == {"tags": ["a"]}

    @pytest.mark.parametrize("fault", [bytearray(), (object,), object()])
    @pytest.mark.parametrize("before", [0, 2])
    def test_large_data_with_a_fault_at_its_end_leaves_nothing(self, cm: CheckpointManager, fault: object, before: int) -> None:
        """The version never exists, and nothing is made for a stage that never was."""
        for number in range(before):
            cm.save_checkpoint("train", number)
        rows: list[object] = [{"id": number, "text": "x" * 90, "null": None} for number in range(2500)]
        with pytest.raises(PayloadError) as caught:
            cm.save_checkpoint("train", {"rows": [*rows, fault]})
        assert caught.value.path.startswith("$.rows[2500]")
        assert caught.value.stage == "train"
        assert caught.value.__context__ is None
        assert [version.number for version in cm.history("train")] == [2, 1][2 - before :]
        assert cm.verify().problems == ()
        assert cm.stages() == ["train"] * bool(before)
        assert cm.save_checkpoint("train", {"rows": rows}).number == before + 1
        assert cm.load_checkpoint("train") == {"rows": rows}

    @pytest.mark.parametrize("length", [0, 1, 65_000, 65_536, 262_144, 262_145, 3_000_000])
    def test_data_of_any_length(self, cm: CheckpointManager, length: int) -> None:
        cm.save_checkpoint("train", "x" * length)
        assert cm.load_checkpoint("train") == "x" * length

    def test_metadata_of_many_lengths(self, cm: CheckpointManager) -> None:
        for length in (0, 3_000, 4_000, 70_000, 500_000):
            cm.save_checkpoint("train", "data", metadata={"note": "x" * length})
            assert cm.has_checkpoint("train")
            assert len(cm.history("train")[0].metadata["note"]) == length

    def test_too_much_metadata_is_refused(self, cm: CheckpointManager) -> None:
        with pytest.raises(PayloadError, match="metadata"):
            cm.save_checkpoint("train", metadata={"note": "x" * 600_000})
        assert cm.history("train") == []

    def test_data_that_would_change_is_refused_before_anything_is_written(self, cm: CheckpointManager) -> None:
        with pytest.raises(PayloadError) as caught:
            cm.save_checkpoint("train", {"shape": [1, range(3)]})
        assert caught.value.path == "$.shape[1]"
        assert caught.value.stage == "train"
        assert cm.stages() == []

    def test_an_expected_version_that_is_not_the_newest_is_a_conflict(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", 1, expected_version=0)
        cm.save_checkpoint("train", 2, expected_version=1)
        with pytest.raises(VersionConflictError, match=r"newest version is 2, not 1 as expected") as caught:
            cm.save_checkpoint("train", 3, expected_version=1)
        assert (caught.value.expected, caught.value.actual) == (1, 2)
        assert cm.load_checkpoint("train") == 2

    @pytest.mark.parametrize("name", ["", "x" * 256, "\ud800", 7, None, b"train"])
    def test_a_bad_stage_name_is_refused(self, cm: CheckpointManager, name: Any) -> None:
        with pytest.raises(StageNameError):
            cm.save_checkpoint(name)
        with pytest.raises(StageNameError):
            cm.has_checkpoint(name)


class TestUpdating:
    def test_a_function_sees_the_newest_data(self, cm: CheckpointManager) -> None:
        assert cm.update_checkpoint("count", lambda n: (n or 0) + 1).number == 1
        assert cm.update_checkpoint("count", lambda n: n + 1, metadata={"by": "me"}).metadata == {"by": "me"}
        assert cm.load_checkpoint("count") == 2

    def test_threads_lose_no_increment(self, cm: CheckpointManager) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: cm.update_checkpoint("count", lambda n: (n or 0) + 1), range(40)))
        assert cm.load_checkpoint("count") == 40
        assert [version.number for version in cm.history("count")] == list(range(40, 0, -1))

    def test_a_cleared_stage_starts_from_none(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("count", 5)
        cm.clear_checkpoint("count")
        cm.update_checkpoint("count", lambda n: "none" if n is None else "some")
        assert cm.load_checkpoint("count") == "none"

    def test_a_failing_function_changes_nothing(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("count", 5)
        with pytest.raises(ZeroDivisionError):
            cm.update_checkpoint("count", lambda n: n / 0)
        assert cm.save_checkpoint("count", 6).number == 2

    def test_writing_to_the_same_stage_from_inside_is_refused_at_once(self, cm: CheckpointManager) -> None:
        with pytest.raises(CheckpointError, match="Return the new data"):
            cm.update_checkpoint("count", lambda _: cm.save_checkpoint("count", 1))
        cm.update_checkpoint("count", lambda _: cm.save_checkpoint("other", 1).number)
        assert cm.load_checkpoint("count") == 1


class TestReading:
    def test_each_version_can_be_loaded(self, cm: CheckpointManager) -> None:
        for number in range(1, 5):
            cm.save_checkpoint("train", {"epoch": number})
        assert [cm.load_checkpoint("train", number)["epoch"] for number in range(1, 5)] == [1, 2, 3, 4]
        assert cm.load_checkpoint("train", version=None) == {"epoch": 4}
        assert cm.get_checkpoint("train", 2).version.number == 2

    def test_what_is_not_there_says_so(self, cm: CheckpointManager) -> None:
        with pytest.raises(CheckpointNotFoundError, match="no checkpoint of stage train"):
            cm.load_checkpoint("train")
        cm.save_checkpoint("train")
        for number in (2, 0, -1):
            with pytest.raises(CheckpointNotFoundError, match=f"no version {number}"):
                cm.load_checkpoint("train", number)
        with pytest.raises(LookupError):
            cm.load_checkpoint("nothing", 1)

    @pytest.mark.parametrize("number", [b"1", 1.0, True])
    def test_a_version_is_a_number(self, cm: CheckpointManager, number: Any) -> None:
        with pytest.raises(TypeError):
            cm.load_checkpoint("train", number)

    def test_history_is_newest_first(self, cm: CheckpointManager) -> None:
        saved = [cm.save_checkpoint("train", number) for number in range(3)]
        assert cm.history("train") == saved[::-1]
        assert cm.history("nothing") == []

    def test_stages_are_sorted_and_keep_cleared_ones(self, cm: CheckpointManager) -> None:
        for name in ("b", "a", "Ä"):
            cm.save_checkpoint(name)
        cm.clear_checkpoints()
        assert cm.stages() == ["a", "b", "Ä"]


class TestGoingBack:
    def test_a_restore_appends_a_copy(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", "good", metadata={"run": 1})
        cm.save_checkpoint("train", "bad", metadata={"run": 2})
        restored = cm.restore_checkpoint("train", 1)
        assert (restored.number, restored.restored_from, restored.metadata) == (3, 1, {"run": 1})
        assert cm.load_checkpoint("train") == "good"
        assert cm.load_checkpoint("train", 2) == "bad"

    def test_a_restore_can_be_undone(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", "one")
        cm.save_checkpoint("train", "two")
        cm.restore_checkpoint("train", version=1)
        cm.restore_checkpoint("train", version=2)
        assert cm.load_checkpoint("train") == "two"

    def test_a_restore_by_time(self, cm: CheckpointManager) -> None:
        saved = [cm.save_checkpoint("train", number) for number in range(3)]
        assert cm.restore_checkpoint("train", at=saved[1].created_at).restored_from == 2
        with pytest.raises(CheckpointNotFoundError, match="no version at"):
            cm.restore_checkpoint("train", at=saved[0].created_at - timedelta(seconds=1))

    def test_a_time_without_a_zone_is_local_and_a_restore_has_one_target(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train")
        assert cm.restore_checkpoint("train", at=datetime.now()).restored_from == 1  # noqa: DTZ005
        with pytest.raises(TypeError):
            cm.restore_checkpoint("train")
        with pytest.raises(TypeError):
            cm.restore_checkpoint("train", 1, at=datetime.now(UTC))

    def test_a_cleared_stage_is_restored(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", "x")
        cleared = cm.clear_checkpoint("train")
        assert cleared is not None
        assert cleared.status == "cleared"
        assert cm.clear_checkpoint("train") is None
        assert cm.clear_checkpoint("nothing") is None
        with pytest.raises(CheckpointNotFoundError, match="cleared"):
            cm.load_checkpoint("train")
        assert cm.restore_checkpoint("train", 1).status == "completed"
        assert cm.has_checkpoint("train")

    def test_a_pipeline_goes_back_as_a_whole(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("a", "a1")
        cm.save_checkpoint("gone", "g1")
        cm.clear_checkpoint("gone")
        moment = cm.save_checkpoint("b", "b1").created_at
        cm.save_checkpoint("a", "a2")
        cm.save_checkpoint("late", "l1")
        cm.save_checkpoint("gone", "g2")
        changed = cm.restore_pipeline(at=moment)
        assert sorted(version.stage for version in changed) == ["a", "gone", "late"]
        assert cm.load_checkpoint("a") == "a1"
        assert cm.load_checkpoint("b") == "b1"
        assert not cm.has_checkpoint("late")
        assert not cm.has_checkpoint("gone")
        assert cm.restore_pipeline(at=moment) == [], "running it again, as after a kill, changes nothing"
        assert cm.load_checkpoint("late", 1) == "l1"

    def test_a_pipeline_is_read_as_a_whole_before_anything_is_restored(self, tmp_path: Path) -> None:
        cm = CheckpointManager(tmp_path, key=KEY)
        for stage in ("a", "b"):
            moment = cm.save_checkpoint(stage, 1).created_at
        for stage in ("a", "b"):
            cm.save_checkpoint(stage, 2)
        path = tmp_path / "history" / "b" / "000000000001.checkpoint"
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(IntegrityError):
            cm.restore_pipeline(at=moment)
        assert cm.load_checkpoint("a") == 2


class TestDeleting:
    def test_deleted_versions_are_gone_and_known_to_be(self, cm: CheckpointManager) -> None:
        for number in range(1, 7):
            cm.save_checkpoint("train", number)
        cm.delete_versions("train", [2, 1, 4])
        assert [version.number for version in cm.history("train")] == [6, 5, 3]
        for number in (1, 2, 4):
            with pytest.raises(CheckpointNotFoundError, match="deleted"):
                cm.load_checkpoint("train", number)
        assert cm.verify().ok
        assert {finding.state for finding in cm.verify("train").findings} == {"whole"}

    def test_numbers_are_never_used_again(self, cm: CheckpointManager) -> None:
        for number in range(1, 4):
            cm.save_checkpoint("train", number)
        cm.delete_versions("train", [1, 2])
        assert cm.save_checkpoint("train").number == 4

    def test_the_newest_is_not_deleted(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train")
        cm.save_checkpoint("train")
        with pytest.raises(CheckpointError, match="newest"):
            cm.delete_versions("train", [1, 2])
        assert len(cm.history("train")) == 2

    def test_deleting_when_another_is_the_newest_than_expected_deletes_nothing(self, cm: CheckpointManager) -> None:
        for _ in range(3):
            cm.save_checkpoint("train")
        with pytest.raises(VersionConflictError):
            cm.delete_versions("train", [1], expected_version=2)
        assert len(cm.history("train")) == 3
        assert cm.delete_versions("train", [1], expected_version=3) == [1]

    def test_deleting_what_is_not_there_deletes_nothing(self, cm: CheckpointManager) -> None:
        for _ in range(3):
            cm.save_checkpoint("train")
        with pytest.raises(CheckpointNotFoundError):
            cm.delete_versions("train", [1, 9])
        cm.delete_versions("train", [1])
        with pytest.raises(CheckpointNotFoundError):
            cm.delete_versions("train", [1])
        with pytest.raises(CheckpointNotFoundError):
            cm.delete_versions("nothing", [1])
        cm.delete_versions("train", [])
        assert len(cm.history("train")) == 2

    def test_deleting_bit_by_bit_keeps_one_gap(self, cm: CheckpointManager) -> None:
        for _ in range(10):
            cm.save_checkpoint("train")
        for number in (3, 1, 2, 5, 4, 9):
            cm.delete_versions("train", [number])
        assert [version.number for version in cm.history("train")] == [10, 8, 7, 6]
        assert cm.verify().problems == ()


class TestSharing:
    def test_a_manager_whose_key_can_be_found_again_is_pickled(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The location and the source of the key travel, and the key does not."""
        file = tmp_path / "key"
        create_key_file(file)
        monkeypatch.chdir(tmp_path)
        for source in (Path("key"), KeyFile(str(file)), None):
            cm = CheckpointManager(f"store of {source is None}", key=source, lock_timeout=7, retention=Retention(keep_last=3))
            cm.save_checkpoint("train", 1)
            pickled = pickle.dumps(cm)
            assert file.read_bytes().split()[-1] not in pickled
            monkeypatch.chdir("/")
            again = pickle.loads(pickled)
            assert again.load_checkpoint("train") == 1
            assert again._store.lock_timeout == 7
            assert again.retention == Retention(keep_last=3)
            assert copy.copy(cm).save_checkpoint("train", 2).number == cm.history("train")[0].number
            monkeypatch.chdir(tmp_path)

    def test_a_pickled_manager_works_in_another_process(self, tmp_path: Path) -> None:
        cm = CheckpointManager(tmp_path / "store")
        program = "import pickle, sys; print(pickle.load(sys.stdin.buffer).save_checkpoint('train', 1).number)"
        done = subprocess.run([sys.executable, "-c", program], input=pickle.dumps(cm), capture_output=True, check=True)
        assert int(done.stdout) == cm.history("train")[0].number == 1

    def test_a_manager_that_was_given_a_secret_is_not_pickled_or_copied(self, cm: CheckpointManager) -> None:
        with pytest.raises(TypeError, match="pickled or copied"):
            pickle.dumps(cm)
        with pytest.raises(TypeError, match="pickled or copied"):
            copy.copy(cm)
        with pytest.raises(TypeError, match="pickled or copied"):
            copy.deepcopy(cm)

    @pytest.mark.parametrize("place", ["memory:", MemoryBackend()])
    def test_a_manager_whose_store_is_not_found_again_is_not_pickled(self, place: str | MemoryBackend) -> None:
        with pytest.raises(TypeError, match="pickled or copied"):
            pickle.dumps(CheckpointManager(place))

    def test_threads_share_a_manager(self, cm: CheckpointManager) -> None:
        with ThreadPoolExecutor(4) as pool:
            saved = list(pool.map(lambda number: cm.save_checkpoint("train", number).number, range(40)))
        assert sorted(saved) == list(range(1, 41))
        assert cm.verify().ok

    def test_a_busy_stage_times_out_and_says_who(self, tmp_path: Path) -> None:
        cm = CheckpointManager(tmp_path, key=KEY, lock_timeout=0.05)
        inside, done = threading.Event(), threading.Event()

        def hold(_: object) -> int:
            inside.set()
            done.wait(10)
            return 1

        thread = threading.Thread(target=cm.update_checkpoint, args=("train", hold))
        thread.start()
        inside.wait(10)
        try:
            with pytest.raises(LockTimeoutError, match=r"process \d+") as caught:
                cm.save_checkpoint("train")
            assert isinstance(caught.value, TimeoutError)
            cm.save_checkpoint("other")
        finally:
            done.set()
            thread.join()

    def test_two_managers_see_each_other(self, tmp_path: Path) -> None:
        first, second = CheckpointManager(tmp_path, key=KEY), CheckpointManager(tmp_path, key=KEY)
        for number in range(1, 5):
            assert (first if number % 2 else second).save_checkpoint("train", number).number == number
        second.delete_versions("train", [2, 3])
        assert first.load_checkpoint("train") == 4
        for number in range(5, 9):
            first.save_checkpoint("train", number)
        first.delete_versions("train", list(range(4, 8)))
        assert second.save_checkpoint("train").number == 9, "a number below a deleted range is no start to look from"


@pytest.mark.parametrize(
    "arguments",
    [
        {"durability": "none"},
        {"on_rollback": "ignore"},
        {"lock_timeout": -1},
        {"lock_timeout": float("nan")},
        {"lock_timeout": float("inf")},
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        CheckpointManager(tmp_path / "store", key=KEY, **arguments)
    assert not (tmp_path / "store").exists()


def test_repr_names_the_directory_and_no_key(tmp_path: Path) -> None:
    assert repr(CheckpointManager(tmp_path, key=KEY)) == f"CheckpointManager({str(tmp_path)!r})"


class Closing(MemoryBackend):
    closed = 0

    def close(self) -> None:
        self.closed += 1


def test_a_with_block_closes_the_backend() -> None:
    backend = Closing()
    with CheckpointManager(backend, key=KEY) as cm:
        cm.save_checkpoint("train", 1)
        assert backend.closed == 0
    assert backend.closed == 1
    with pytest.raises(RuntimeError, match="over"), CheckpointManager(backend, key=KEY):
        raise RuntimeError("over")
    assert backend.closed == 2


def test_durability_is_not_asked_of_a_backend_that_has_its_own() -> None:
    with pytest.raises(ValueError, match="open already"):
        CheckpointManager(MemoryBackend(), key=KEY, durability="relaxed")


def test_the_environment_names_the_store_if_the_caller_does_not(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable, location, made in (
        ("", (), "checkpoints"),
        ("other", (), "other"),
        ("third", ("checkpoints",), "checkpoints"),
    ):
        monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", variable)
        assert repr(CheckpointManager(*location)) == f"CheckpointManager({str(tmp_path / made)!r})"
        assert AsyncCheckpointManager(*location)._open()._store.backend.location == str(tmp_path / made)
    monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", "sqlite:///x.db")
    CheckpointManager().save_checkpoint("train", 1)
    assert (tmp_path / "x.db").is_file()
