"""Tags: names that stand for versions and protect them, through rotation, repair and rollback."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import (
    ArgumentError,
    CheckpointError,
    CheckpointManager,
    CheckpointNotFoundError,
    IntegrityError,
    Retention,
    RollbackError,
    StorageError,
    TagError,
    VersionConflictError,
)
from checkpoint_manager._format import tags as sealed_tags
from checkpoint_manager._operations import tag as tagging
from checkpoint_manager.backends.memory import MemoryBackend

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture(params=["memory", "local"])
def cm(request: pytest.FixtureRequest, store: Path) -> CheckpointManager:
    cm = CheckpointManager(MemoryBackend() if request.param == "memory" else store, key=KEY)
    return filled(cm)


def filled(cm: CheckpointManager) -> CheckpointManager:
    for number in range(1, 5):
        cm.save_checkpoint("train", number)
    return cm


def again(cm: CheckpointManager, **options: Any) -> CheckpointManager:
    backend = cm._store.backend
    place: Any = backend if isinstance(backend, MemoryBackend) else backend.location
    return CheckpointManager(place, key=KEY, **options)


def problems(cm: CheckpointManager) -> list[tuple[str, int | None]]:
    return [(finding.state, finding.version) for finding in cm.verify().problems]


class TestTagging:
    def test_a_tag_stands_for_its_version(self, cm: CheckpointManager) -> None:
        assert cm.tags("train") == {}
        assert cm.tag("train", 2, "good") == cm.resolve("train@2")
        cm.tag("train", "latest", "best")
        cm.save_checkpoint("train", 5)
        assert again(cm).tags("train") == {"best": 4, "good": 2}
        assert again(cm).load_checkpoint("train", "good") == 2
        assert cm.load_checkpoint("train", "best") == 4
        assert cm.restore_checkpoint("train", "good").restored_from == 2
        assert cm.diff("train", "good", "best").new.number == 4
        assert cm.verify().problems == ()

    def test_it_is_changed_only_if_it_names_the_version_that_is_expected(self, cm: CheckpointManager) -> None:
        cm.tag("train", 1, "good", expected_version=0)
        cm.tag("train", 2, "good", expected_version=1)
        for change in (
            lambda: cm.tag("train", 3, "good", expected_version=0),
            lambda: cm.tag("train", 3, "good", expected_version=1, force=True),
            lambda: cm.untag("train", "good", expected_version=1),
            lambda: cm.untag("train", "none", expected_version=1),
        ):
            with pytest.raises(VersionConflictError, match="nothing was changed"):
                change()
        assert cm.tags("train") == {"good": 2}
        cm.untag("train", "good", expected_version=2)
        assert cm.tags("train") == {}

    def test_each_stage_has_its_own(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("clean", 1)
        cm.tag("train", 2, "good")
        assert cm.tags("clean") == {}
        cm.tag("clean", 1, "good")
        assert (cm.tags("train"), cm.tags("clean")) == ({"good": 2}, {"good": 1})

    def test_a_name_is_not_moved_unless_that_is_said(self, cm: CheckpointManager) -> None:
        cm.tag("train", 2, "good")
        cm.tag("train", 2, "good")  # the same again: nothing to do
        with pytest.raises(TagError, match="already names version 2") as caught:
            cm.tag("train", 3, "good")
        assert (caught.value.stage, caught.value.version) == ("train", 2)
        assert cm.tags("train") == {"good": 2}
        cm.tag("train", 3, "good", force=True)
        assert cm.tags("train") == {"good": 3}

    def test_a_tag_can_be_taken_away(self, cm: CheckpointManager) -> None:
        cm.tag("train", 2, "good")
        cm.untag("train", "good")
        assert cm.tags("train") == {}
        with pytest.raises(CheckpointNotFoundError, match="has no tag good"):
            cm.untag("train", "good")
        with pytest.raises(CheckpointNotFoundError, match="has no tag good"):
            cm.load_checkpoint("train", "good")

    @pytest.mark.parametrize("name", ["", "7", "latest", "prev", "a b", "x" * 65, None, 7])
    def test_a_name_is_checked(self, cm: CheckpointManager, name: Any) -> None:
        for call in (lambda: cm.tag("train", 2, name), lambda: cm.untag("train", name)):
            with pytest.raises(TagError, match="can't be a tag"):
                call()

    @pytest.mark.parametrize("version", [0, 5, -1, "nothing"])
    def test_what_is_not_there_is_not_tagged(self, cm: CheckpointManager, version: Any) -> None:
        with pytest.raises(CheckpointNotFoundError):
            cm.tag("train", version, "good")
        assert cm.tags("train") == {}

    def test_nor_what_was_deleted_or_no_stage(self, cm: CheckpointManager) -> None:
        cm.delete_versions("train", [1])
        with pytest.raises(CheckpointNotFoundError, match="was deleted"):
            cm.tag("train", 1, "good")
        with pytest.raises(CheckpointNotFoundError, match="no checkpoint of stage"):
            cm.tag("nothing", 1, "good")
        with pytest.raises(CheckpointNotFoundError, match="no checkpoint of stage"):
            cm.load_checkpoint("nothing", "good")
        assert "nothing" not in cm.stages()

    def test_there_is_an_end_to_them(self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(tagging, "MAX_TAGS", 2)
        cm.tag("train", 1, "a")
        cm.tag("train", 1, "b")
        with pytest.raises(TagError, match="which is the maximum"):
            cm.tag("train", 1, "c")
        cm.tag("train", 2, "b", force=True)
        assert cm.tags("train") == {"a": 1, "b": 2}


class TestProtection:
    def test_a_tagged_version_is_not_deleted(self, cm: CheckpointManager) -> None:
        cm.tag("train", 2, "good")
        cm.tag("train", 2, "best")
        with pytest.raises(CheckpointError, match=r"version 2 .* is tagged best and good.*untag\(\)"):
            cm.delete_versions("train", [1, 2])
        assert len(cm.history("train")) == 4
        cm.untag("train", "best")
        cm.untag("train", "good")
        cm.delete_versions("train", [1, 2])
        assert [version.number for version in cm.history("train")] == [4, 3]

    def test_what_can_not_be_read_protects_all(self, cm: CheckpointManager) -> None:
        cm.tag("train", 2, "good")
        record = damaged(cm)
        for call in (
            lambda: cm.delete_versions("train", [1]),
            lambda: cm.prune(Retention(keep_last=1)),
            lambda: cm.tags("train"),
            lambda: cm.tag("train", 1, "other"),
        ):
            with pytest.raises(IntegrityError, match="record of tags of stage train"):
                call()
        assert cm.load_checkpoint("train", 2) == 2
        assert [version.number for version in cm.history("train")] == [4, 3, 2, 1]
        assert cm.save_checkpoint("train", 5).number == 5
        put_back(cm, record)
        assert cm.tags("train") == {"good": 2}


def damaged(cm: CheckpointManager) -> bytes:
    backend = cm._store.backend
    record = backend.read_record("tags", "train", limit=10_000)
    assert record is not None
    backend.write_record("tags", "train", data=record.data[:-1] + bytes([record.data[-1] ^ 1]), expected=record)
    return record.data


def put_back(cm: CheckpointManager, data: bytes) -> None:
    backend = cm._store.backend
    backend.write_record("tags", "train", data=data, expected=backend.read_record("tags", "train", limit=10_000))


class TestKeys:
    def test_a_rotation_seals_them_anew(self, cm: CheckpointManager) -> None:
        cm.tag("train", 2, "good")
        cm.keys.rotate()
        fresh = again(cm)
        record = cm._store.backend.read_record("tags", "train", limit=10_000)
        assert record is not None
        assert sealed_tags.RECORD.key_of(record.data) == fresh._store.keyring.active[0]
        assert fresh.tags("train") == {"good": 2}
        assert fresh.verify().problems == ()

    def test_a_key_that_is_gone(self, cm: CheckpointManager) -> None:
        cm.tag("train", 2, "good")
        record = cm._store.backend.read_record("tags", "train", limit=10_000)
        assert record is not None
        cm.keys.rotate()
        put_back(cm, record.data)
        with pytest.raises(IntegrityError, match="a key that the keyring does not have"):
            cm.tags("train")


class TestVerifyAndRepair:
    def test_a_damaged_record_is_put_aside_and_goes_on_protecting(self, store: Path) -> None:
        """What it protected is not known any more: nothing is deleted until its owner says that this is as it should be."""
        cm = filled(CheckpointManager(store, key=KEY))
        cm.tag("train", 2, "good")
        damaged(cm)
        assert problems(cm) == [("damaged", None)]
        with pytest.raises(IntegrityError):
            cm.accept_rollback()
        assert [step.action for step in cm.repair(dry_run=True)] == ["set-aside"]
        assert problems(cm) == [("damaged", None)]
        assert [(step.action, step.stage, step.version) for step in cm.repair()] == [("set-aside", "train", None)]
        assert cm.repair() == []
        assert problems(cm) == [("rolled-back", None)]
        for call in (lambda: cm.delete_versions("train", [1]), lambda: cm.prune(Retention(keep_last=1))):
            with pytest.raises(RollbackError, match="their record is gone"):
                call()
        assert cm.accept_rollback() == []
        assert cm.verify().problems == ()
        assert cm.tags("train") == again(cm).tags("train") == {}
        cm.tag("train", 2, "good")
        assert again(cm).tags("train") == {"good": 2}

    def test_a_tagged_version_that_was_put_aside(self, store: Path) -> None:
        cm = filled(CheckpointManager(store, key=KEY))
        cm.tag("train", 2, "good")
        path = store / "history" / "train" / "000000000002.checkpoint"
        whole = path.read_bytes()
        path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        assert problems(cm) == [("damaged", 2)]
        cm.repair()
        assert cm.verify().problems == ()
        assert cm.tags("train") == {"good": 2}
        with pytest.raises(CheckpointNotFoundError, match="was set aside"):
            cm.load_checkpoint("train", "good")
        with pytest.raises(TagError):
            cm.tag("train", 3, "good")
        cm.tag("train", 3, "good", force=True)

    def test_a_tagged_version_that_is_gone(self, store: Path) -> None:
        cm = filled(CheckpointManager(store, key=KEY))
        cm.tag("train", 2, "good")
        (store / "history" / "train" / "000000000002.checkpoint").unlink()
        assert problems(cm) == [("missing", None), ("missing", 2)]
        assert "the tag good names it" in cm.verify().problems[0].detail
        with pytest.raises(IntegrityError, match="is missing"):
            cm.load_checkpoint("train", "good")

    def test_something_else_in_the_place_of_the_record(self, store: Path) -> None:
        cm = filled(CheckpointManager(store, key=KEY))
        (store / "history" / "train" / "tags").mkdir(mode=0o700)
        assert problems(cm) == [("damaged", None)]

    def test_a_record_that_the_system_refuses_is_left_alone(
        self, cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(*_: object) -> None:
            raise StorageError("can't read it", errno=5, filename="x")

        monkeypatch.setattr("checkpoint_manager._operations.tag.stored", refuse)
        assert problems(cm) == [("unreadable", None)]


class TestRollback:
    def test_an_accepted_one_gives_the_tags_a_number_above(self, store: Path, home: Path) -> None:
        cm = filled(CheckpointManager(store, key=KEY))
        cm.tag("train", 2, "good")
        older = (store / "history" / "train" / "tags").read_bytes()
        cm.tag("train", 3, "better")
        (store / "history" / "train" / "tags").write_bytes(older)
        fresh = CheckpointManager(store, key=KEY)
        with pytest.raises(RollbackError, match="tags of stage train"):
            fresh.tags("train")
        assert ("rolled-back", None) in problems(fresh)
        assert fresh.load_checkpoint("train") == 4
        assert fresh.accept_rollback() == []
        assert fresh.tags("train") == {"good": 2}
        assert fresh.verify().problems == ()
        assert tagging.read(fresh._store, "train")[0].serial == 3
        assert fresh.accept_rollback() == []
        assert tagging.read(fresh._store, "train")[0].serial == 3

    def test_a_warning_in_its_place(self, store: Path, caplog: pytest.LogCaptureFixture) -> None:
        cm = filled(CheckpointManager(store, key=KEY))
        cm.tag("train", 2, "good")
        (store / "history" / "train" / "tags").unlink()
        fresh = CheckpointManager(store, key=KEY, on_rollback="warn")
        assert fresh.tags("train") == {}
        assert "their record is gone" in caplog.text
        assert problems(fresh) == [("rolled-back", None)]
        for call in (lambda: fresh.delete_versions("train", [2]), lambda: fresh.prune(Retention(keep_last=1))):
            with pytest.raises(RollbackError):  # here, a warning would come too late
                call()
        pruning = CheckpointManager(store, key=KEY, on_rollback="warn", retention=Retention(keep_last=1))
        for number in range(5, 40):
            pruning.save_checkpoint("train", number)
        assert "could not be pruned: the tags of stage train" in caplog.text
        assert len(fresh.history("train")) == 39

    def test_a_tag_of_another_version_of_that_number(self, store: Path) -> None:
        cm = CheckpointManager(store, key=KEY)
        cm.save_checkpoint("train", 1)
        copy = store.with_name("copy")
        shutil.copytree(store, copy)
        cm.save_checkpoint("train", 2)
        cm.tag("train", 2, "good")
        (store / "history" / "train" / "tags").rename(copy / "history" / "train" / "tags")
        shutil.rmtree(store)
        copy.rename(store)
        shutil.rmtree(cm._store.last_seen._directory)
        other = CheckpointManager(store, key=KEY)
        assert problems(other) == [("missing", None)]
        other.save_checkpoint("train", "another second one")
        assert problems(other) == [("foreign", None)]
        with pytest.raises(IntegrityError, match="another version 2"):
            other.load_checkpoint("train", "good")


class TestReasons:
    """Why tags were given or removed and versions deleted: sealed with the tags."""

    def test_they_are_kept_newest_first(self, cm: CheckpointManager) -> None:
        cm.save_checkpoint("train", 5)
        assert cm.reasons("train") == []
        cm.tag("train", 5, "silent")
        cm.tag("train", 4, "good", reason="the best so far")
        cm.tag("train", 4, "good", reason="nothing changes, so nothing is kept")
        cm.delete_versions("train", [1, 3], reason="room")
        cm.untag("train", "good", reason="a better one is there")
        cm.prune(Retention(keep_last=1), "train", reason="the policy")
        found = [(each.action, each.tag, each.first, each.last, each.versions, each.text) for each in cm.reasons("train")]
        assert found == [
            ("deleted", "", 2, 4, 2, "the policy"),
            ("untagged", "good", 4, 4, 1, "a better one is there"),
            ("deleted", "", 1, 3, 2, "room"),
            ("tagged", "good", 4, 4, 1, "the best so far"),
        ]
        origin = cm.get_version("train").origin
        assert origin is not None
        assert {each.by for each in cm.reasons("train")} == {f"{origin.user}@{origin.host}"}
        cm.keys.rotate()
        assert len(cm.reasons("train")) == 4
        assert cm.tags("train") == {"silent": 5}

    def test_a_deletion_without_a_reason_or_of_nothing_keeps_none(self, cm: CheckpointManager) -> None:
        cm.delete_versions("train", [], reason="nothing")
        cm.delete_versions("train", [1])
        cm.prune(Retention(keep_last=10), reason="nothing")
        assert cm.reasons("train") == []

    def test_they_end_with_the_stage(self, cm: CheckpointManager) -> None:
        cm.tag("train", 1, "good", reason="it is")
        cm.untag("train", "good")
        cm.delete_stage("train")
        cm.save_checkpoint("train", 1)
        assert cm.reasons("train") == []

    @pytest.mark.parametrize("reason", ["", "x" * 501, "\ud800", 7, b"why"])
    def test_what_is_no_reason_is_refused(self, cm: CheckpointManager, reason: Any) -> None:
        with pytest.raises(ArgumentError, match="reason must be"):
            cm.tag("train", 1, "good", reason=reason)
        assert cm.tags("train") == {}
