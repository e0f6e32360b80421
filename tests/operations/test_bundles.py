"""Histories moved by a bundle: equal on the other side, again and again, whatever comes in between."""

from __future__ import annotations

import datetime as dt
import io
import itertools
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checkpoint_manager import (
    BundledStage,
    CheckpointManager,
    CheckpointNotFoundError,
    IntegrityError,
    LockTimeoutError,
    Passphrase,
    Progress,
    RollbackError,
    StageNameError,
    StorageError,
    VersionConflictError,
)
from checkpoint_manager._format.gaps import Gap
from checkpoint_manager._operations import tag as tagging
from checkpoint_manager._store import listing
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.memory import MemoryBackend
from checkpoint_manager.testing.strategies import json_values
from tests import forking
from tests.bundles import KEY, end, frame, gaps, id_of, sealed, version
from tests.strategies import same
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from checkpoint_manager._format.tags import Tagged


@pytest.fixture
def here(tmp_path: Path) -> CheckpointManager:
    """A store with a stage that has gaps at its beginning, in its middle and below its end, and a cleared one with a tag."""
    cm = CheckpointManager(tmp_path / "here", key=KEY)
    for number in range(1, 11):
        cm.save_checkpoint("train", {"number": number}, metadata={"run": f"r{number}"})
    cm.restore_checkpoint("train", 3)
    cm.delete_versions("train", [1, 2, 5, 6, 10])
    cm.save_checkpoint("clean", [1, 2.5, None])
    cm.clear_checkpoint("clean")
    cm.tag("clean", 1, "best")
    return cm


@pytest.fixture
def there(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "there", key=bytes(32), lock_timeout=0.2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "x.bundle"


def gaps_of(cm: CheckpointManager, stage: str) -> Any:
    return cm._store.gaps(stage)[0]


def ids_of(cm: CheckpointManager, stage: str) -> list[tuple[str, str | None]]:
    with cm._store.session(stage) as session:
        return [(entry.id, entry.previous) for _, entry in listing.entries(cm._store, stage, session)]


def named(cm: CheckpointManager, stage: str) -> dict[str, Tagged]:
    """The tags, with the ids of what they name."""
    return dict(tagging.stored(cm._store, stage)[0].named)


def assert_equal(here: CheckpointManager, there: CheckpointManager, stage: str, name: str | None = None) -> None:
    name = name or stage
    mine, other = here.history(stage), there.history(name)
    assert [(v.number, v.status, v.created_at, v.metadata, v.origin, v.size, v.restored_from) for v in mine] == [
        (v.number, v.status, v.created_at, v.metadata, v.origin, v.size, v.restored_from) for v in other
    ]
    assert ids_of(here, stage) == ids_of(there, name)
    assert gaps_of(here, stage) == gaps_of(there, name)
    assert named(here, stage) == named(there, name)
    for each in mine:
        data = [cm._store.load(at, each.number)[1] for cm, at in ((here, stage), (there, name))]
        assert data[0] == data[1]


def test_a_store_arrives_as_it_was(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    exported = here.export_bundle(path, key=KEY)
    assert exported.stages == (BundledStage("clean", 2, 2, 0, ("best",)), BundledStage("train", 6, 11))
    assert (exported.versions, exported.added, exported.size) == (8, 0, path.stat().st_size)
    assert path.stat().st_mode & 0o777 == 0o600
    imported = there.import_bundle(path, key=KEY)
    assert imported.stages == (BundledStage("clean", 2, 2, 2, ("best",)), BundledStage("train", 6, 11, 6))
    for stage in ("clean", "train"):
        assert_equal(here, there, stage)
    assert there.verify().problems == ()
    assert CheckpointManager(there._store.backend.location, key=bytes(32)).verify().problems == ()
    with pytest.raises(CheckpointNotFoundError, match="was deleted"):
        there.load_checkpoint("train", 5)
    assert there.save_checkpoint("train", "next").number == 12
    assert there.save_checkpoint("clean", "next").number == 3
    assert there.verify().problems == ()


def test_what_was_imported_is_remembered_as_seen(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    seen = there._store.last_seen.recall("train")
    assert seen is not None
    assert (seen.version, seen.id) == (11, ids_of(here, "train")[0][0])
    take_away(path.parent / "there" / "history" / "train" / "000000000011.checkpoint")
    with pytest.raises(RollbackError):
        there.load_checkpoint("train")


@settings(max_examples=settings().max_examples // 2)
@given(data=st.data())
def test_any_history_arrives_equal(data: st.DataObject) -> None:
    """Into an empty store, after random saves, clears, restores, deletions and tags; and once more after some further ones."""
    here, there = (CheckpointManager(MemoryBackend(), key=KEY) for _ in range(2))
    for _ in range(2):
        for _ in range(data.draw(st.integers(1, 8))):
            _change(here, data)
        stream = io.BytesIO()
        exported = here.export_bundle(stream, key=KEY)
        stream.seek(0)
        known = {stage: there.tags(stage) for stage in there.stages()}
        try:
            imported = there.import_bundle(stream, key=KEY)
        except VersionConflictError as error:  # only where nobody can tell: the newest here was deleted there, inside of a gap
            gap = gaps_of(here, str(error.stage)).find(there.history(str(error.stage))[0].number)
            assert gap is not None
            return
        assert [stage.versions for stage in exported.stages] == [stage.versions for stage in imported.stages]
        assert there.stages() == here.stages()
        for stage in here.stages():
            if stage not in known:
                assert_equal(here, there, stage)
            brought, before = here.tags(stage), known.get(stage, {})
            assert there.tags(stage) == brought | before
            told = next(each for each in imported.stages if each.stage == stage)
            assert told.tags == tuple(sorted(brought.keys() - before.keys()))
            assert told.tags_kept == tuple(name for name in sorted(brought) if before.get(name, brought[name]) != brought[name])
            mine = {v.number: v for v in here.history(stage)}
            other = {v.number: v for v in there.history(stage)}
            assert mine.items() <= other.items()
            for number in mine:
                assert same(here.get_checkpoint(stage, number).data, there.get_checkpoint(stage, number).data)
        assert there.verify().problems == ()


def _change(cm: CheckpointManager, data: st.DataObject) -> None:
    stage = data.draw(st.sampled_from(["a", "../b", "C"]))
    versions = [each.number for each in cm.history(stage)]
    what = data.draw(st.sampled_from(["save", "save", "save", "clear", "restore", "delete", "tag", "tag", "untag"]))
    tags = cm.tags(stage)
    free = [version for version in versions[1:] if version not in tags.values()]
    if what == "clear" and versions:
        cm.clear_checkpoint(stage)
    elif what == "restore" and versions:
        cm.restore_checkpoint(stage, data.draw(st.sampled_from(versions)))
    elif what == "delete" and free:
        cm.delete_versions(stage, data.draw(st.lists(st.sampled_from(free), min_size=1)))
    elif what == "tag" and versions:
        cm.tag(stage, data.draw(st.sampled_from(versions)), data.draw(st.sampled_from(["a", "B", "c-1"])), force=True)
    elif what == "untag" and tags:
        cm.untag(stage, data.draw(st.sampled_from(sorted(tags))))
    else:
        metadata = data.draw(
            st.dictionaries(
                st.text(max_size=3).filter(lambda key: not key.startswith("@")), json_values(max_leaves=3), max_size=2
            )
        )
        cm.save_checkpoint(stage, data.draw(json_values(max_leaves=5)), metadata=metadata)


def test_values_that_json_does_not_have_arrive_as_they_were(there: CheckpointManager, path: Path) -> None:
    cm = CheckpointManager(MemoryBackend(), key=KEY)
    value = {(1, "a"): {b"x", None}, "at": dt.datetime(2026, 11, 23, tzinfo=dt.UTC), "form": {"!tuple": [1]}}
    cm.save_checkpoint("odd", value)
    cm.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    assert there.load_checkpoint("odd") == value


def test_exported_and_imported_again_it_adds_what_is_new(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    assert there.import_bundle(path, key=KEY).added == 0
    here.save_checkpoint("train", "newer")
    here.delete_versions("train", [3])
    here.save_checkpoint("train", "newest")
    here.delete_versions("train", [12])
    here.save_checkpoint("new", 1)
    here.export_bundle(path, key=KEY, overwrite=True)
    assert [(s.stage, s.added) for s in there.import_bundle(path, key=KEY).stages] == [("clean", 0), ("new", 1), ("train", 1)]
    assert [each.number for each in there.history("train")] == [13, 11, 9, 8, 7, 4, 3]
    assert there.load_checkpoint("train", 3) == {"number": 3}  # what was deleted there stays here
    assert there.verify().problems == ()


def test_what_was_deleted_here_is_not_brought_back(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    there.delete_versions("train", [4, 7, 9])
    here.save_checkpoint("train", "newer")
    here.export_bundle(path, key=KEY, overwrite=True)
    assert there.import_bundle(path, key=KEY).added == 1
    assert [each.number for each in there.history("train")] == [12, 11, 8, 3]
    assert there.verify().problems == ()


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_stage_that_was_deleted_here_is_warned_of_and_can_be_imported_under_another_name(
    here: CheckpointManager, there: CheckpointManager, path: Path, caplog: pytest.LogCaptureFixture, *, dry_run: bool
) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    there.delete_stage("train")
    assert there.import_bundle(path, key=KEY, dry_run=dry_run).added == 0
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert [text for text in warnings if "Stage train was deleted" in text and "except under another name" in text]
    assert not [text for text in warnings if "clean" in text]
    assert there.import_bundle(path, key=KEY, rename={"train": "again"}).added == 6
    assert there.load_checkpoint("again") == here.load_checkpoint("train")


def test_the_newest_here_may_be_deleted_there_if_the_record_knows_it(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    here.save_checkpoint("train", "newer")
    here.delete_versions("train", [11])
    here.export_bundle(path, key=KEY, overwrite=True)
    assert there.import_bundle(path, key=KEY).added == 1
    assert there.verify().problems == ()
    here.save_checkpoint("train", "newest")
    here.save_checkpoint("train", "the very newest")
    here.delete_versions("train", [12, 13])
    here.export_bundle(path, key=KEY, overwrite=True)
    with pytest.raises(VersionConflictError, match=r"can't be shown .* train \(version 12 here, 14 there\)"):
        there.import_bundle(path, key=KEY)


def test_a_version_deleted_on_both_sides_still_tells_whose_history_it_is(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    there.save_checkpoint("train", "own")
    there.delete_versions("train", [11])
    assert there.import_bundle(path, key=KEY).added == 0  # this store is ahead, of the same history
    there.save_checkpoint("train", "own")
    there.delete_versions("train", [12])
    with pytest.raises(VersionConflictError, match="can't be shown"):
        there.import_bundle(path, key=KEY)  # 11 and 12 are one gap by now, and 11's id is lost


def test_a_version_stolen_here_tells_nothing(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    there.save_checkpoint("train", "own")
    take_away(path.parent / "there" / "history" / "train" / "000000000011.checkpoint")
    with pytest.raises(VersionConflictError, match="can't be shown"):
        there.import_bundle(path, key=KEY)


def test_histories_that_parted_are_refused_all_at_once_and_nothing_is_written(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    for stage in ("clean", "train", "train"):
        there.save_checkpoint(stage, "own")
    with pytest.raises(
        VersionConflictError, match=r"clean \(version 1 here, 2 there\), train \(version 2 here, 11 there\)"
    ) as e:
        there.import_bundle(path, key=KEY)
    assert (e.value.stage, e.value.expected, e.value.actual) == ("clean", 2, 1)
    assert [len(there.history(stage)) for stage in there.stages()] == [1, 2]
    imported = there.import_bundle(path, key=KEY, rename={"clean": "clean of alice", "train": "../train"})
    assert [(s.stage, s.added) for s in imported.stages] == [("clean of alice", 2), ("../train", 6)]
    assert_equal(here, there, "train", "../train")
    assert there.verify().problems == ()


def test_other_names_must_be_of_stages_that_are_there_and_differ(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    with pytest.raises(CheckpointNotFoundError, match="no stage trian; it has: clean, train"):
        there.import_bundle(path, key=KEY, rename={"trian": "x"})
    with pytest.raises(StageNameError, match="would become clean"):
        there.import_bundle(path, key=KEY, rename={"train": "clean"})
    with pytest.raises(StageNameError):
        there.import_bundle(path, key=KEY, rename={"train": ""})
    assert there.import_bundle(path, key=KEY, rename={"train": "clean", "clean": "train"}).added == 8


# Tags


def test_a_tag_that_names_another_version_here_stays_and_is_told(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    there.tag("clean", 2, "best", force=True)
    here.tag("train", 7, "new")
    here.tag("clean", 2, "second")
    here.export_bundle(path, key=KEY, overwrite=True)
    planned = there.import_bundle(path, key=KEY, dry_run=True)
    assert planned.stages == (
        BundledStage("clean", 2, 2, 0, ("second",), ("best",)),
        BundledStage("train", 6, 11, 0, ("new",)),
    )
    assert (there.tags("clean"), there.tags("train")) == ({"best": 2}, {})
    assert there.import_bundle(path, key=KEY) == planned
    assert (there.tags("clean"), there.tags("train")) == ({"best": 2, "second": 2}, {"new": 7})
    again = there.import_bundle(path, key=KEY)
    assert [(stage.tags, stage.tags_kept) for stage in again.stages] == [((), ("best",)), ((), ())]
    assert there.verify().problems == ()


def test_the_tag_of_a_version_that_is_deleted_or_damaged_here_is_left_out(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    there.delete_versions("train", [4])
    damaged = path.parent / "there" / "history" / "train" / "000000000007.checkpoint"
    whole = damaged.read_bytes()
    damaged.write_bytes(b"damaged")
    for number, name in ((4, "gone"), (7, "damaged"), (8, "good")):
        here.tag("train", number, name)
    here.export_bundle(path, key=KEY, overwrite=True)
    assert there.import_bundle(path, key=KEY).stages[1].tags == ("good",)
    damaged.write_bytes(whole)
    assert there.import_bundle(path, key=KEY).stages[1].tags == ("damaged",)
    assert there.tags("train") == {"damaged": 7, "good": 8}
    assert there.verify().problems == ()


def test_tags_come_to_a_stage_that_is_ahead(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    there.save_checkpoint("train", "own")
    there.tag("train", "latest", "mine")
    here.tag("train", 11, "theirs")
    here.export_bundle(path, key=KEY, overwrite=True)
    assert there.import_bundle(path, key=KEY).stages[1].tags == ("theirs",)
    assert there.tags("train") == {"mine": 12, "theirs": 11}


def test_the_record_of_tags_after_an_import_is_newer_than_any_that_was_seen(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    record = path.parent / "there" / "history" / "clean" / "tags"
    older, (serial, _) = record.read_bytes(), there._store.last_seen.recall_record("clean", "tags")
    here.tag("clean", 2, "more")
    here.export_bundle(path, key=KEY, overwrite=True)
    there.import_bundle(path, key=KEY)
    tags = tagging.stored(there._store, "clean")[0]
    assert there._store.last_seen.recall_record("clean", "tags") == (tags.serial, tags.id)
    assert tags.serial == serial + 1
    there.import_bundle(path, key=KEY)
    assert tagging.stored(there._store, "clean")[0] == tags  # nothing to add: not written again
    record.write_bytes(older)
    with pytest.raises(RollbackError, match="tags of stage clean"):
        there.load_checkpoint("clean", "more")


def test_only_tags_of_versions_in_the_bundle_are_exported(here: CheckpointManager, path: Path) -> None:
    """Not one of a version that came while it was written, or that was set aside and whose tag stayed."""
    damaged = path.parent / "here" / "history" / "train" / "000000000007.checkpoint"
    here.tag("train", 7, "aside")
    here.tag("train", 8, "good")
    damaged.write_bytes(b"damaged")
    here.repair()
    other = CheckpointManager(path.parent / "here", key=KEY)

    def change(progress: Progress) -> None:
        if progress.done == progress.total - 1:
            other.save_checkpoint("train", "late")
            other.tag("train", "latest", "late")

    exported = here.export_bundle(path, ["train"], key=KEY, progress=change)
    assert exported.stages == (BundledStage("train", 5, 11, 0, ("good",)),)
    assert set(here.tags("train")) == {"aside", "good", "late"}


def test_a_tag_set_between_plan_and_import_is_not_moved(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    here.export_bundle(path, ["clean"], key=KEY)
    there.import_bundle(path, key=KEY)
    there.untag("clean", "best")
    other = CheckpointManager(path.parent / "there", key=bytes(32))
    act = _at_the_second_reading(path, lambda: other.tag("clean", 2, "best"))
    imported = there.import_bundle(path, key=KEY, progress=act)
    assert imported.stages == (BundledStage("clean", 2, 2, 0, (), ("best",)),)
    assert there.tags("clean") == {"best": 2}


def test_a_dry_run_says_what_would_be_added(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    here.export_bundle(path, key=KEY)
    seen: list[Progress] = []
    planned = there.import_bundle(path, key=KEY, dry_run=True, progress=seen.append)
    assert seen[-1] == Progress(planned.size, planned.size, "bytes")
    assert there.stages() == []
    assert there.import_bundle(path, key=KEY, progress=seen.append) == planned
    assert seen[-1] == Progress(2 * planned.size, 2 * planned.size, "bytes")
    assert there.import_bundle(path, key=KEY, dry_run=True).added == 0


def test_only_the_stages_named_are_exported(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    seen: list[Progress] = []
    here.export_bundle(path, ["train", "train"], key=Passphrase("words"), progress=seen.append)
    assert seen == [Progress(number, 6, "versions", "train") for number in range(1, 7)]
    assert [s.stage for s in there.import_bundle(path, key=Passphrase("words")).stages] == ["train"]
    with pytest.raises(CheckpointNotFoundError):
        here.export_bundle(path, ["train", "trian"], key=KEY, overwrite=True)
    with pytest.raises(TypeError, match="stages must be a list of names, not a str"):
        here.export_bundle(path, "train", key=KEY)
    with pytest.raises(TypeError, match="key must be"):
        here.export_bundle(path, key=None)  # type: ignore[arg-type]
    assert here.export_bundle(path, [], key=KEY, overwrite=True).stages == ()
    assert there.import_bundle(path, key=KEY).stages == ()


def test_a_file_that_is_there_is_not_overwritten_unless_told(
    here: CheckpointManager, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_bytes(b"precious")
    with pytest.raises(StorageError, match="exists already, and nothing was written"):
        here.export_bundle(path, key=KEY)
    monkeypatch.setattr("checkpoint_manager._operations.bundle_file.check_target", lambda *_, **__: None)
    with pytest.raises(StorageError, match="exists already, and nothing was written"):  # it was made meanwhile
        here.export_bundle(path, key=KEY)
    assert path.read_bytes() == b"precious"
    here.export_bundle(path, key=KEY, overwrite=True)
    assert path.read_bytes().startswith(b'{"format":"checkpoint-manager-bundle/1"')
    assert [each.name for each in path.parent.iterdir() if each.name.endswith(".tmp")] == []


def test_a_failed_export_leaves_no_file(here: CheckpointManager, path: Path) -> None:
    version = path.parent / "here" / "history" / "train" / "000000000007.checkpoint"
    whole = version.read_bytes()
    version.write_bytes(whole[:-1])
    with pytest.raises(IntegrityError, match="version 7 of stage train"):
        here.export_bundle(path, key=KEY)
    version.unlink()
    with pytest.raises(IntegrityError, match="no record of what became of version 7, and is not exported") as missing:
        here.export_bundle(path, key=KEY)
    assert "accept_rollback()" in missing.value.hint  # repair() does nothing about a missing version
    assert [each.name for each in path.parent.iterdir()] == ["here"]
    assert here.export_bundle(path, ["clean"], key=KEY).versions == 2
    with pytest.raises(StorageError, match="can't write the bundle"):
        here.export_bundle(path.parent / "nowhere" / "bundle", ["clean"], key=KEY)


@pytest.mark.parametrize(
    "error", [TimeoutError("too slow"), FileNotFoundError(2, "No such file", "/elsewhere"), OSError(28, "full")]
)
def test_an_error_of_the_callers_progress_is_not_one_of_writing_the_bundle(
    here: CheckpointManager, path: Path, error: OSError
) -> None:
    def progress(_: object) -> None:
        raise error

    for place in (path, io.BytesIO()):
        with pytest.raises(OSError) as raised:
            here.export_bundle(place, key=KEY, progress=progress)
        assert raised.value is error
    assert not path.exists()


def test_a_bundle_where_the_working_directory_is_gone_is_an_error_of_ours(
    here: CheckpointManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(StorageError, match=r"can't write the bundle: all\.bundle: the working directory is gone"):
        here.export_bundle("all.bundle", key=KEY)
    with pytest.raises(StorageError, match=r"can't read the bundle: all\.bundle: the working directory is gone"):
        here.import_bundle("all.bundle", key=KEY)


def test_a_spliced_history_is_not_exported(here: CheckpointManager, path: Path) -> None:
    """Two histories from one point, or a version in the place of another one's: what verify would report."""
    store = here._store
    entry, data = store.load("train", 9)
    store.replace("train", 9, entry._replace(previous="0" * 32), bytes(data))
    with pytest.raises(IntegrityError, match="version 9 that does not continue the one before it, and is not exported"):
        here.export_bundle(path, key=KEY)


def test_what_does_not_fit_into_a_bundle_is_not_exported(
    here: CheckpointManager, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("checkpoint_manager._operations.export_bundle.MAX_GAPS_BYTES", 100)
    with pytest.raises(IntegrityError, match="more gaps than fit into the 100 bytes"):
        here.export_bundle(path, key=KEY)


def test_a_newest_version_that_counts_as_deleted_is_not_exported(here: CheckpointManager, path: Path) -> None:
    known, record = here._store.gaps("clean")
    here._store.write_gaps("clean", known.add(Gap(2, 2, None, None)), record)
    with pytest.raises(IntegrityError, match="newest version that counts as deleted"):
        here.export_bundle(path, key=KEY)


def test_a_stage_that_is_gone_is_not_left_out_silently(here: CheckpointManager, path: Path) -> None:
    import shutil

    shutil.rmtree(path.parent / "here" / "history" / "clean")
    (path.parent / "here" / "clean.checkpoint").unlink()
    with pytest.raises(RollbackError, match="clean"):
        here.export_bundle(path, key=KEY)
    assert not path.exists()


def test_a_leftover_of_a_deletion_is_not_exported(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    folder = path.parent / "here" / "history" / "train"
    kept = (folder / "000000000004.checkpoint").read_bytes()
    here.delete_versions("train", [4])
    (folder / "000000000004.checkpoint").write_bytes(kept)
    here.export_bundle(path, key=KEY)
    there.import_bundle(path, key=KEY)
    assert_equal(here, there, "train")


def test_through_a_pipe(here: CheckpointManager, there: CheckpointManager) -> None:
    read, write = os.pipe()

    def export() -> None:
        with open(write, "wb") as stream:
            here.export_bundle(stream, key=KEY)

    thread = threading.Thread(target=export)
    thread.start()
    with open(read, "rb") as stream:
        assert there.import_bundle(stream, key=KEY).added == 8
    thread.join()
    assert_equal(here, there, "train")


def test_through_a_raw_stream_that_takes_a_little_at_a_time(here: CheckpointManager, there: CheckpointManager) -> None:
    class Narrow(io.RawIOBase):
        taken = b""

        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            self.taken += bytes(data[:1000])
            return min(len(data), 1000)

    stream = Narrow()
    assert here.export_bundle(stream, key=KEY).size == len(stream.taken)  # type: ignore[arg-type]
    assert there.import_bundle(io.BytesIO(stream.taken), key=KEY).added == 8


def test_a_stream_that_can_not_be_written_to_says_so(here: CheckpointManager) -> None:
    with open("/dev/full", "wb", buffering=0) as stream, pytest.raises(StorageError, match="/dev/full: No space left"):
        here.export_bundle(stream, key=KEY)


def test_a_failed_part_is_known_in_a_bundle_from_elsewhere(there: CheckpointManager, path: Path) -> None:
    """Gaps of every kind, several of them side by side, and versions whose predecessor could not be read."""
    bundle = sealed(
        frame("S", b"train"),
        version(4, previous=None, status="failed"),
        version(9),
        gaps(
            [1, 1, None, id_of(1), "set aside"],
            [2, 3, id_of(1), None, "deleted"],
            [5, 6, id_of(4), id_of(6), "lost"],
            [7, 8, None, id_of(8), "deleted"],
        ),
        end(1, 2),
    )
    path.write_bytes(bundle)
    assert there.import_bundle(path, key=KEY).added == 2
    assert there.verify().problems == ()
    assert [gap.reason for gap in gaps_of(there, "train")] == ["set aside", "deleted", "lost", "deleted"]
    stream = io.BytesIO()
    there.export_bundle(stream, key=KEY)
    assert CheckpointManager(MemoryBackend(), key=KEY).import_bundle(io.BytesIO(stream.getvalue()), key=KEY).added == 2


# While others write


def test_writers_go_on_during_an_export(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    """What is exported is the history as it was at some moment, also of a stage that is written to and deleted from."""
    other = CheckpointManager(path.parent / "here", key=KEY)
    changes = iter(range(1, 5))

    def change(_: object) -> None:
        if (round_ := next(changes, 0)) != 0:
            other.save_checkpoint("train", f"during {round_}")
            other.delete_versions("train", [each.number for each in other.history("train")[2:4]])

    exported = here.export_bundle(path, ["train"], key=KEY, progress=change)
    assert exported.stages[0].newest >= 11
    there.import_bundle(path, key=KEY)
    assert there.verify().problems == ()
    mine = dict(enumerate(ids_of(there, "train")))
    assert len(mine) == exported.versions
    here.export_bundle(path, ["train"], key=KEY, overwrite=True)
    assert there.import_bundle(path, key=KEY, dry_run=True).versions == len(here.history("train"))


def test_a_deletion_between_listing_and_reading_is_a_gap(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    other = CheckpointManager(path.parent / "here", key=KEY)
    for _ in range(2):
        other.save_checkpoint("train", "more")
    once = iter([[8, 9, 11]])
    here.export_bundle(
        path, ["train"], key=KEY, progress=lambda progress: progress.done == 2 and other.delete_versions("train", next(once))
    )
    there.import_bundle(path, key=KEY)
    assert [each.number for each in there.history("train")] == [13, 12, 7, 4, 3]
    assert there.verify().problems == ()
    assert_equal(here, there, "train")


def test_the_newest_deleted_while_it_is_exported_is_followed_by_a_newer_one(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    other = CheckpointManager(path.parent / "here", key=KEY)

    def change(progress: Progress) -> None:
        if progress.done == 1:
            other.save_checkpoint("train", 12)
            other.save_checkpoint("train", 13)
            other.delete_versions("train", [4, 7, 8, 9, 11, 12])

    assert here.export_bundle(path, ["train"], key=KEY, progress=change).stages[0].newest == 13
    there.import_bundle(path, key=KEY)
    assert [each.number for each in there.history("train")] == [13, 3]
    assert there.verify().problems == ()


def test_the_key_may_be_rotated_during_export_and_import(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    def rotate(cm: CheckpointManager) -> Callable[[Progress], None]:
        once = iter([cm])
        return lambda _: next(once, None) is not None and cm.keys.rotate()  # type: ignore[return-value]

    here.export_bundle(path, key=KEY, progress=rotate(here))
    there.import_bundle(path, key=KEY, progress=rotate(there))
    assert_equal(here, there, "train")
    assert there.verify().problems == ()


def _at_the_second_reading(path: Path, act: Callable[[], object]) -> Callable[[Progress], None]:
    """Return a progress that does something once everything was compared, and before anything is written."""
    size, once = path.stat().st_size, iter([act])

    def act_once(progress: Progress) -> None:
        if progress.done > size and (chosen := next(once, None)) is not None:
            chosen()

    return act_once


def test_a_writer_between_plan_and_import_is_not_overtaken(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    other = CheckpointManager(path.parent / "there", key=bytes(32))
    with pytest.raises(VersionConflictError, match="another writer saved a version during the import"):
        there.import_bundle(path, key=KEY, progress=_at_the_second_reading(path, lambda: other.save_checkpoint("train", "own")))
    assert [v.number for v in there.history("train")] == [1]
    assert there.load_checkpoint("train") == "own"
    assert there.verify().problems == ()
    assert there.import_bundle(path, key=KEY, rename={"train": "other"}).added == 6


def test_two_imports_of_one_bundle_at_once_are_one(here: CheckpointManager, there: CheckpointManager, path: Path) -> None:
    here.export_bundle(path, key=KEY)
    other = CheckpointManager(path.parent / "there", key=bytes(32))
    imported = there.import_bundle(
        path, key=KEY, progress=_at_the_second_reading(path, lambda: other.import_bundle(path, key=KEY))
    )
    assert imported.added == 0
    assert_equal(here, there, "train")
    assert there.verify().problems == ()


def test_a_stage_that_is_locked_is_waited_for_in_bounded_time(
    here: CheckpointManager, there: CheckpointManager, path: Path
) -> None:
    here.export_bundle(path, key=KEY)
    with (
        CheckpointManager(path.parent / "there", key=bytes(32))._store.backend.lock("train", 1),
        ThreadPoolExecutor(1) as pool,
        pytest.raises(LockTimeoutError),
    ):
        pool.submit(there.import_bundle, path, key=KEY).result()
    assert there.import_bundle(path, key=KEY).added == 6  # the other stage was there already
    assert_equal(here, there, "train")


def test_a_writer_without_a_working_lock_is_not_overwritten(
    here: CheckpointManager, there: CheckpointManager, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.export_bundle(path, key=KEY)
    append = there._store.backend.append
    rival = LocalBackend(there._store.backend.location)

    def overtaken(stage: str, version: int, make_pieces: Any, *, session: Any = None) -> None:
        rival.append(stage, version, lambda: [b"another writer's"])
        append(stage, version, make_pieces, session=session)

    monkeypatch.setattr(there._store.backend, "append", overtaken)
    with pytest.raises(VersionConflictError):
        there.import_bundle(path, key=KEY)


def import_until_killed(where: Path, path: Path, at: int) -> int:
    """Import in a child that is killed before the ``at``-th step that changes the store; return how it ended."""

    def act() -> None:
        calls = itertools.count(1)

        def counted(method: Callable[..., Any]) -> Callable[..., Any]:
            def wrapped(*arguments: Any, **named: Any) -> Any:
                if next(calls) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return method(*arguments, **named)

            return wrapped

        cm = CheckpointManager(where, key=bytes(32))
        for name in ("append", "_prepare", "write_record"):
            setattr(cm._store.backend, name, counted(getattr(cm._store.backend, name)))
        cm.import_bundle(path, key=KEY)

    return forking.end(forking.start(act))


def test_killed_before_any_of_its_steps_the_next_import_finishes(here: CheckpointManager, tmp_path: Path, path: Path) -> None:
    """Between the steps; at each system call within them, see tests/faults."""
    here.tag("train", 7, "good")
    here.export_bundle(path, key=KEY)
    for at in range(1, 40):
        where = tmp_path / f"there {at}"
        code = import_until_killed(where, path, at)
        there = CheckpointManager(where, key=bytes(32))
        if code == 0:
            assert at > 12
            break
        assert code == -signal.SIGKILL
        states = {finding.state for finding in there.verify().problems}
        assert states <= {"missing", "leftover"}
        numbers = [version.number for version in there.history("train") if version.status == "completed"][::-1]
        assert numbers == [3, 4, 7, 8, 9, 11][: len(numbers)]
        planned = there.import_bundle(path, key=KEY, dry_run=True).added
        assert planned == 8 - len(numbers) - len(there.history("clean"))
        assert there.import_bundle(path, key=KEY).added == planned
        for stage in ("clean", "train"):
            assert_equal(here, there, stage)
        assert there.verify().problems == ()
    else:
        pytest.fail("it never came to its end")


def test_killed_beyond_a_gap_no_process_takes_an_older_version_for_the_newest(
    here: CheckpointManager, tmp_path: Path, path: Path
) -> None:
    """Also one that has been there all the time, and remembers the version below the gap."""
    here.export_bundle(path, ["train"], key=KEY)
    where = tmp_path / "there"
    there = CheckpointManager(where, key=bytes(32))
    there.import_bundle(io.BytesIO(path.read_bytes()), key=KEY)
    last_seen = CheckpointManager(where, key=bytes(32))
    assert last_seen.load_checkpoint("train")
    here.save_checkpoint("train", 12)
    here.save_checkpoint("train", 13)
    here.delete_versions("train", [12])
    here.export_bundle(path, ["train"], key=KEY, overwrite=True)

    def act() -> None:
        rename = os.rename

        def killed(name: str, other: str, **folders: int) -> None:
            if other.endswith("train.checkpoint"):
                os.kill(os.getpid(), signal.SIGKILL)
            rename(name, other, **folders)

        os.rename = killed  # type: ignore[assignment]
        CheckpointManager(where, key=bytes(32)).import_bundle(path, key=KEY)

    assert forking.end(forking.start(act)) == -signal.SIGKILL
    for cm in (last_seen, CheckpointManager(where, key=bytes(32))):
        assert cm.load_checkpoint("train") == 13
    assert last_seen.save_checkpoint("train", 14).number == 14
    assert last_seen.import_bundle(path, key=KEY).added == 0
    assert last_seen.verify().problems == ()
