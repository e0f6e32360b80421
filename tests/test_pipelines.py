"""Several stores together."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoint_manager import (
    ArgumentError,
    CheckpointError,
    CheckpointManager,
    IntegrityError,
    LocationError,
    PartlyRestoredError,
    Pipelines,
    StorageError,
    VersionConflictError,
)
from checkpoint_manager._store.scan import find_stores

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(32)
NAMES = ["etl", "sqlite", "training"]


@pytest.fixture
def stores(tmp_path: Path) -> list[CheckpointManager]:
    """Three stores with two stages each, of which both have a version tagged good and a newer one."""
    places = [tmp_path / "etl", f"sqlite:///{tmp_path}/serving.db", tmp_path / "training"]
    managers = [CheckpointManager(place, key=KEY) for place in places]
    for cm in managers:
        for stage in ("a", "b"):
            cm.save_checkpoint(stage, 1)
            cm.tag(stage, 1, "good")
            cm.save_checkpoint(stage, 2)
    return managers


def contents(managers: list[CheckpointManager]) -> list[list[Any]]:
    return [[cm.load_checkpoint(stage) for stage in ("a", "b")] for cm in managers]


def test_their_states_stand_in_one_list(stores: list[CheckpointManager], tmp_path: Path) -> None:
    stores[0].clear_checkpoint("b")
    with Pipelines([stores[0], f"sqlite:///{tmp_path}/serving.db", tmp_path / "training"], key=KEY) as pipelines:
        told = pipelines.status()
        assert [[stage.state for stage in each.stages] for each in told] == [["completed", "cleared"], *[["completed"] * 2] * 2]
        assert [each.location for each in told] == list(pipelines.locations) == [cm._store.backend.location for cm in stores]
        assert [len(each.stages) for each in pipelines.status("a")] == [1, 1, 1]
        assert len(pipelines) == len(list(pipelines)) == 3
        with stores[0].loop("new", range(3), initial=0, bar=False) as loop:
            next(iter(loop))
            assert [stage.state for stage in pipelines.status()[0].stages] == ["completed", "cleared", "running"]
            assert pipelines.plan_restore(tag="good")[0].running == ("new",)
    assert stores[0].has_checkpoint("a")  # it was not opened there, and stays open


def test_one_that_cant_be_opened_hides_no_other_and_none_is_made(stores: list[CheckpointManager], tmp_path: Path) -> None:
    (tmp_path / "training" / "keyring.json").write_bytes(b"{}")
    pipelines = Pipelines([tmp_path / "etl", tmp_path / "nowhere", tmp_path / "training", "sqlite:///x.db"], key=KEY)
    errors = [type(each.error) for each in pipelines.status()]
    assert errors == [type(None), LocationError, IntegrityError, LocationError]
    assert not (tmp_path / "nowhere").exists()
    assert len(list(pipelines)) == 1
    with pytest.raises(LocationError):
        pipelines.restore(tag="good")
    assert contents(stores[:1]) == [[2, 2]]


def test_all_of_them_go_back_together(stores: list[CheckpointManager]) -> None:
    pipelines = Pipelines(stores)
    plan = pipelines.plan_restore(tag="good")
    assert [[step.action for step in each.steps] for each in plan] == [["restore", "restore"]] * 3
    assert contents(stores) == [[2, 2]] * 3
    restored = pipelines.restore(plan, metadata={"reason": "release 7"})
    assert contents(stores) == [[1, 1]] * 3
    assert [version.number for versions in restored.values() for version in versions] == [3] * 6
    assert stores[0].get_version("a").metadata["reason"] == "release 7"
    assert not any(pipelines.restore(tag="good").values())  # they are there already
    assert not any(each.changes for each in pipelines.plan_restore(tag="good"))


def test_a_stage_that_cant_go_back_keeps_all_where_they_are(stores: list[CheckpointManager], tmp_path: Path) -> None:
    path = tmp_path / "training" / "history" / "b" / "000000000001.checkpoint"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(damaged)
    pipelines = Pipelines(stores)
    assert [each.refused is None for each in pipelines.plan_restore(tag="good")] == [True, True, False]
    with pytest.raises(IntegrityError):
        pipelines.restore(tag="good")
    assert [cm.get_version(stage).number for cm in stores for stage in ("a", "b")] == [2] * 6


def test_a_store_without_the_tag_keeps_all_where_they_are(stores: list[CheckpointManager]) -> None:
    for stage in ("a", "b"):
        stores[2].untag(stage, "good")
    with pytest.raises(CheckpointError, match="has the tag good"):
        Pipelines(stores).restore(tag="good")
    assert contents(stores) == [[2, 2]] * 3


def test_a_writer_who_was_quicker_takes_back_what_was_done(stores: list[CheckpointManager]) -> None:
    pipelines = Pipelines(stores)
    plan = pipelines.plan_restore(tag="good")
    stores[2].save_checkpoint("a", "newer")
    with pytest.raises(VersionConflictError):
        pipelines.restore(plan)
    assert contents(stores) == [[2, 2], [2, 2], ["newer", 2]]
    assert stores[0].get_version("a").restored_from == 2


def test_what_cant_be_taken_back_is_named(
    stores: list[CheckpointManager], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pipelines = Pipelines(stores)
    plan = pipelines.plan_restore(tag="good")
    stores[1].save_checkpoint("b", "newer")
    restore, count = CheckpointManager.restore_checkpoint, iter(range(99))

    def refuse_later(*args: Any, **kwargs: Any) -> Any:
        if next(count) == 3:
            raise StorageError("the disk is full")
        return restore(*args, **kwargs)

    monkeypatch.setattr(CheckpointManager, "restore_checkpoint", refuse_later)
    place = pipelines.locations[0]
    with pytest.raises(PartlyRestoredError, match=f"could not be taken back for a in {place}. Look at the newest") as caught:
        pipelines.restore(plan)
    assert isinstance(caught.value.__cause__, VersionConflictError)
    assert caught.value.left == ((place, "a"),)
    assert contents(stores) == [[1, 2], [2, "newer"], [2, 2]]
    assert [record.message for record in caplog.records if record.levelname == "WARNING"] == [
        f"Stage a in {stores[0]!r} was restored, and stays so although others could not be: the disk is full"
    ]


def test_a_database_goes_back_in_one_step_or_not_at_all(stores: list[CheckpointManager]) -> None:
    database = stores[1]
    database.save_checkpoint("late", 1)
    database.save_checkpoint("b", {"w": np.arange(3)}, attachments={"log": b"x"})
    database.tag("b", 3, "good", force=True)
    database.save_checkpoint("b", 4)
    pipelines = Pipelines(stores)
    plan = pipelines.plan_restore(tag="good")
    assert [each.is_one_step for each in plan] == [False, True, False]
    writer = CheckpointManager(database._store.backend.location, key=KEY)
    writer.save_checkpoint("late", 2)
    with pytest.raises(VersionConflictError):
        pipelines.restore(plan)
    assert [database.get_version(stage).number for stage in ("a", "b", "late")] == [2, 4, 2]  # none was, not even for a moment
    restored = pipelines.restore(tag="good", metadata={"reason": "release 7"})[database._store.backend.location]
    assert [(each.stage, each.restored_from, each.status, each.metadata) for each in restored] == [
        ("a", 1, "completed", {"reason": "release 7"}),
        ("b", 3, "completed", {"reason": "release 7"}),
        ("late", None, "cleared", {"reason": "release 7"}),
    ]
    assert database.load_checkpoint("b")["w"].tolist() == [0, 1, 2]
    assert database.verify().ok


def test_what_is_too_large_for_one_step_goes_back_one_by_one(
    stores: list[CheckpointManager], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkpoint_manager._operations.restore._MOST_TOGETHER", 1)
    pipelines = Pipelines(stores[1:2])
    assert [each.is_one_step for each in pipelines.plan_restore(tag="good")] == [False]
    pipelines.restore(tag="good")
    assert contents(stores[1:2]) == [[1, 1]]


def failing_after_the_write(monkeypatch: pytest.MonkeyPatch, cm: CheckpointManager, error: BaseException) -> None:
    restore = CheckpointManager.restore_checkpoint

    def fail(manager: CheckpointManager, *args: Any, **kwargs: Any) -> Any:
        version = restore(manager, *args, **kwargs)
        if manager is cm and version.restored_from == 1:
            raise error
        return version

    monkeypatch.setattr(CheckpointManager, "restore_checkpoint", fail)


@pytest.mark.parametrize("error", [StorageError("the answer was lost"), KeyboardInterrupt()])
def test_a_step_that_failed_after_its_version_was_written_is_taken_back_too(
    stores: list[CheckpointManager], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    failing_after_the_write(monkeypatch, stores[2], error)
    with pytest.raises(type(error)):
        Pipelines(stores).restore(tag="good")
    assert contents(stores) == [[2, 2]] * 3
    assert [cm.get_version(stage).number for cm in stores for stage in ("a", "b")] == [4, 4, 4, 4, 4, 2]
    assert stores[2].get_version("a").metadata["reason"] == "another stage of the same restore failed"


def test_a_step_that_failed_before_its_version_was_written_leaves_nothing_to_take_back(
    stores: list[CheckpointManager], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise StorageError("the disk is full")

    stores[0].save_checkpoint("c", 3)  # cleared last, and that fails
    monkeypatch.setattr(CheckpointManager, "clear_checkpoint", fail)
    with pytest.raises(StorageError):
        Pipelines(stores[:1]).restore(tag="good")
    assert stores[0].load_checkpoint("c") == 3
    assert contents(stores[:1]) == [[2, 2]]
    assert "WARNING" not in {record.levelname for record in caplog.records}


def test_a_second_interrupt_names_what_is_left(
    stores: list[CheckpointManager], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    restore, count = CheckpointManager.restore_checkpoint, iter(range(99))

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        if next(count) >= 3:
            raise KeyboardInterrupt
        return restore(*args, **kwargs)

    monkeypatch.setattr(CheckpointManager, "restore_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Pipelines(stores).restore(tag="good")
    named = [record.message.split(" in ")[0] for record in caplog.records if record.levelname == "WARNING"]
    assert named == ["Stage a", "Stage b", "Stage a", "Stage b", "Stage a"]


def test_a_writer_after_a_damaged_version_is_not_passed_over(stores: list[CheckpointManager], tmp_path: Path) -> None:
    path = tmp_path / "training" / "history" / "b" / "000000000002.checkpoint"
    path.chmod(0o600)
    path.write_bytes(bytes(300))
    pipelines = Pipelines([CheckpointManager(tmp_path / "training", key=KEY)])
    plan = pipelines.plan_restore(tag="good")
    assert [(step.newest is None, step.newest_number) for step in plan[0].steps] == [(False, 2), (True, 2)]
    stores[2].save_checkpoint("b", "of another")
    with pytest.raises(VersionConflictError):
        pipelines.restore(plan)
    assert stores[2].load_checkpoint("b") == "of another"
    assert [version.restored_from for version in pipelines.restore(tag="good")[str(tmp_path / "training")]] == [1, 1]


def test_looking_makes_no_keyring(stores: list[CheckpointManager], tmp_path: Path) -> None:
    (tmp_path / "project" / "history").mkdir(parents=True)
    (tmp_path / "training" / "keyring.json").unlink()
    with sqlite3.connect(tmp_path / "serving.db") as database:
        database.execute("DELETE FROM record WHERE name = 'keyring'")
    places = ["project", "training", "nowhere"]
    pipelines = Pipelines([*(tmp_path / place for place in places), f"sqlite:///{tmp_path}/serving.db"], key=KEY)
    assert [type(each.error) for each in pipelines.status()] == [LocationError, IntegrityError, LocationError, IntegrityError]
    assert find_stores(tmp_path / "project") == find_stores(tmp_path / "training") == []
    assert pipelines.locations[:3] == tuple(str(tmp_path / place) for place in places)


def test_a_store_that_is_named_twice_is_opened_once(
    stores: list[CheckpointManager], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pipelines = Pipelines(["etl", "./etl", tmp_path / "etl", stores[0], "nowhere", tmp_path / "nowhere"], key=KEY)
    assert pipelines.locations == (str(tmp_path / "etl"), str(tmp_path / "nowhere"))


def test_stores_that_were_opened_are_closed_if_another_one_fails(
    stores: list[CheckpointManager], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[int] = []
    monkeypatch.setattr(CheckpointManager, "close", lambda manager: closed.append(id(manager)))
    with pytest.raises(TypeError):
        Pipelines([tmp_path / "etl", 1], key=KEY)  # type: ignore[list-item]
    assert closed == []  # it was not opened
    monkeypatch.setattr("checkpoint_manager.pipelines._check_there", lambda path: None if "etl" in str(path) else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        Pipelines([tmp_path / "etl", tmp_path / "training"], key=KEY)
    assert len(closed) == 1


def test_a_stage_that_was_not_there_then_is_cleared_and_comes_back(stores: list[CheckpointManager]) -> None:
    stores[0].save_checkpoint("c", 3)
    stores[0].tag("a", 1, "early")
    pipelines = Pipelines(stores[:1])
    pipelines.restore(tag="early")
    assert [stage.state for stage in pipelines.status()[0].stages] == ["completed", "cleared", "cleared"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({}, ArgumentError), ({"at": "1h", "tag": "x"}, ArgumentError), ({"plan": [], "tag": "x"}, ArgumentError)],
)
def test_what_is_meant_has_to_be_clear(stores: list[CheckpointManager], arguments: dict[str, Any], error: type) -> None:
    with pytest.raises(error):
        Pipelines(stores).restore(**arguments)


def test_what_is_no_store_or_plan_is_refused(stores: list[CheckpointManager]) -> None:
    with pytest.raises(TypeError):
        Pipelines([1])  # type: ignore[list-item]
    with pytest.raises(TypeError):
        Pipelines("etl")
    with pytest.raises(TypeError):
        Pipelines(stores[:1]).restore(Pipelines(stores).plan_restore(tag="good"))
    with pytest.raises(TypeError):
        Pipelines(stores).restore([1])  # type: ignore[list-item]
    assert "serving.db" in repr(Pipelines(stores))


class TestScanning:
    def test_it_finds_directories_and_databases(self, stores: list[CheckpointManager], tmp_path: Path) -> None:
        assert find_stores(tmp_path) == sorted(cm._store.backend.location for cm in stores)
        with Pipelines.scan(tmp_path, key=KEY) as pipelines:
            assert [len(each.stages) for each in pipelines.status()] == [2, 2, 2]

    def test_it_follows_no_link_and_looks_into_no_hidden_folder(self, tmp_path: Path) -> None:
        for name in ("elsewhere", "folder/.hidden"):
            CheckpointManager(tmp_path / name, key=KEY).save_checkpoint("a")
        (tmp_path / "folder" / "link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "folder" / "loop").symlink_to(tmp_path / "folder")
        os.mkfifo(tmp_path / "folder" / "pipe.db")
        (tmp_path / "folder" / "pipe.db-locks").mkdir()
        assert find_stores(tmp_path / "folder") == []

    def test_it_ends(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        deep = tmp_path.joinpath(*"abcdefghij")
        CheckpointManager(deep, key=KEY).save_checkpoint("a")
        assert find_stores(tmp_path) == []
        assert "lies too deep" in caplog.text
        assert find_stores(deep.parent.parent) == [str(deep)]
        for number in range(10):
            (tmp_path / "wide" / str(number)).mkdir(parents=True)
        monkeypatch.setattr("checkpoint_manager._store.scan._MOST_FOLDERS", 5)
        caplog.clear()
        assert find_stores(tmp_path / "wide") == []
        assert "lies too deep" in caplog.text

    def test_a_folder_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(StorageError):
            Pipelines.scan(tmp_path / "nowhere")

    def test_one_that_vanishes_meanwhile_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        (tmp_path / "gone").mkdir()
        scandir = os.scandir

        def late(path: str) -> Any:
            if str(path).endswith("gone"):
                (tmp_path / "gone").rmdir()
            return scandir(path)

        monkeypatch.setattr(os, "scandir", late)
        assert find_stores(tmp_path) == []
        monkeypatch.undo()
        assert "gone: No such file or directory" in caplog.text


def test_one_whose_state_cant_be_read_hides_no_other(stores: list[CheckpointManager], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: str) -> None:
        raise StorageError("the server went away")

    monkeypatch.setattr(stores[1], "status", refuse)
    told = Pipelines(stores).status()
    assert [str(each.error or "") for each in told] == ["", "the server went away", ""]
    assert [len(each.stages) for each in told] == [2, 0, 2]
