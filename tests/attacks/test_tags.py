"""Attacks on tags: forged, exchanged, put back, taken away, so that another version is served or a protection falls."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, IntegrityError, Retention, RollbackError
from checkpoint_manager._format import tags as sealed_tags
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Opened = Callable[..., CheckpointManager]
    VersionFile = Callable[[str, int], Path]

KEY = bytes(range(32))
ONE = Retention(keep_last=1)


@pytest.fixture(autouse=True)
def tagged(store: Path) -> None:
    cm = CheckpointManager(store, key=KEY)
    cm.tag("train", 2, "good")
    cm.tag("clean", 3, "good")


@pytest.fixture
def record(store: Path) -> Path:
    return store / "history" / "train" / "tags"


def put(path: Path, data: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)


def states(cm: CheckpointManager) -> set[str]:
    return {finding.state for finding in cm.verify().problems}


def test_any_flipped_byte_of_the_record_of_tags_is_refused(opened: Opened, record: Path) -> None:
    cm, whole = opened(), record.read_bytes()
    for position in range(len(whole)):
        put(record, whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(IntegrityError, match="record of tags"):
            cm.load_checkpoint("train", "good")
    assert states(cm) == {"damaged"}
    with pytest.raises(IntegrityError, match="record of tags"):
        cm.delete_versions("train", [2])


def test_a_record_of_tags_cut_or_extended_is_refused(opened: Opened, record: Path) -> None:
    cm, whole = opened(), record.read_bytes()
    for data in (*(whole[:length] for length in range(len(whole))), whole + b"\0", whole + whole):
        put(record, data)
        with pytest.raises(IntegrityError, match="record of tags"):
            cm.tags("train")


def test_the_tags_of_another_stage_are_refused(opened: Opened, store: Path, record: Path) -> None:
    put(record, (store / "history" / "clean" / "tags").read_bytes())
    with pytest.raises(IntegrityError, match="another stage"):
        opened().tags("train")


def test_the_record_of_deletions_in_the_place_of_tags_is_refused(opened: Opened, store: Path, record: Path) -> None:
    gaps = (store / "history" / "train" / "gaps").read_bytes()
    for data in (gaps, gaps.replace(b"manager-gaps/1", b"manager-tags/1")):
        put(record, data)
        with pytest.raises(IntegrityError, match="record of tags"):
            opened().tags("train")


def test_the_tags_of_another_store_are_refused(opened: Opened, tmp_path: Path, store: Path, record: Path) -> None:
    """Under the same key file, with the same names of stages; also if the store's id is edited to fit."""
    other = CheckpointManager(tmp_path / "other", key=KEY)
    other.save_checkpoint("train", 1)
    other.tag("train", 1, "good")
    foreign = (tmp_path / "other" / "history" / "train" / "tags").read_bytes()
    put(record, foreign)
    with pytest.raises(IntegrityError):
        opened().tags("train")
    header = record.read_bytes().index(b"\n")
    mine = opened()._store.keyring
    line = f'{{"format":"{sealed_tags.FORMAT}","store":"{mine.store_id}","key":"{mine.active[0]}"}}'.encode()
    put(record, line + foreign[header:])
    with pytest.raises(IntegrityError, match="does not open"):
        opened().tags("train")


def test_an_older_record_of_tags_is_a_rollback(opened: Opened, record: Path) -> None:
    """Yesterday's tags would free a version that was tagged today."""
    older = record.read_bytes()
    cm = opened()
    cm.tag("train", 3, "better")
    put(record, older)
    for seen in (cm, opened()):
        for call in (
            lambda cm=seen: cm.tags("train"),
            lambda cm=seen: cm.load_checkpoint("train", "good"),
            lambda cm=seen: cm.delete_versions("train", [3]),
            lambda cm=seen: cm.prune(ONE),
            lambda cm=seen: cm.prune(ONE, dry_run=True),
            lambda cm=seen: cm.untag("train", "good"),
        ):
            with pytest.raises(RollbackError, match="tags of stage train"):
                call()
        assert states(seen) == {"rolled-back"}
    assert [version.number for version in cm.history("train")] == [4, 3, 2]


def test_a_removed_record_of_tags_is_a_rollback(opened: Opened, record: Path) -> None:
    record.unlink()
    cm = opened()
    with pytest.raises(RollbackError, match="their record is gone"):
        cm.prune(ONE)
    assert states(cm) == {"rolled-back"}
    assert [version.number for version in cm.history("train")] == [4, 3, 2]


def test_another_record_of_the_same_number_is_a_rollback(opened: Opened, store: Path, record: Path) -> None:
    """Made from an older copy of the directory, by someone with the key."""
    copy = store.with_name("copy")
    shutil.copytree(store, copy)
    opened(forgetful=True, directory=copy).tag("train", 4, "other")
    opened(forgetful=True).tag("train", 3, "mine")
    put(record, (copy / "history" / "train" / "tags").read_bytes())
    cm = opened()
    with pytest.raises(RollbackError, match="their record is another one"):
        cm.tags("train")
    assert states(cm) == {"rolled-back"}


def test_an_older_record_of_tags_shows_by_a_deletion(opened: Opened, record: Path) -> None:
    """To a user who has never seen the newer one: no version is deleted that has a name."""
    older = record.read_bytes()
    cm = opened()
    cm.untag("train", "good")
    cm.delete_versions("train", [2])
    put(record, older)
    fresh = opened(forgetful=True)
    with pytest.raises(CheckpointNotFoundError, match="was deleted"):
        fresh.load_checkpoint("train", "good")
    assert states(fresh) == {"rolled-back"}
    assert "the record of tags is older than that" in fresh.verify().problems[0].detail


def test_a_tagged_version_that_was_removed_is_missed(opened: Opened, version_file: VersionFile) -> None:
    take_away(version_file("train", 2))
    cm = opened(forgetful=True)
    assert "the tag good names it" in " ".join(finding.detail for finding in cm.verify().problems)
    with pytest.raises(IntegrityError, match="is missing"):
        cm.load_checkpoint("train", "good")


def test_a_newest_version_that_was_removed_is_missed_if_it_has_a_tag(
    opened: Opened, store: Path, version_file: VersionFile
) -> None:
    """Even by a user who has never seen it: the tag has."""
    opened().tag("train", 4, "best")
    take_away(version_file("train", 4))
    cm = opened(forgetful=True)
    assert "missing" in states(cm)


def test_a_tag_does_not_follow_its_number_to_another_version(opened: Opened, store: Path, record: Path) -> None:
    """The same number in another history, made from an older copy by someone with the key: genuine, and not what was tagged."""
    copy = store.with_name("copy")
    shutil.copytree(store, copy)
    cm = opened()
    cm.save_checkpoint("train", "mine")
    cm.tag("train", 5, "best")
    other = opened(forgetful=True, directory=copy)
    other.save_checkpoint("train", "another one")
    for path in ("history/train/000000000005.checkpoint", "train.checkpoint"):
        put(store / path, (copy / path).read_bytes())
    fresh = opened(forgetful=True)
    with pytest.raises(IntegrityError, match="another version 5"):
        fresh.load_checkpoint("train", "best")
    assert "foreign" in states(fresh)


def test_a_huge_record_of_tags_is_refused_without_reading_it(opened: Opened, record: Path) -> None:
    with record.open("r+b") as file:
        file.truncate(2**43)
    with pytest.raises(IntegrityError, match="the limit is"):
        opened().tags("train")


def test_a_planted_record_of_tags_does_not_survive_a_rotation(opened: Opened, record: Path) -> None:
    """Of before the rotation, under the key that was given up because it leaked."""
    older = record.read_bytes()
    cm = opened()
    cm.keys.rotate()
    put(record, older)
    for fresh in (opened(), opened(forgetful=True)):
        with pytest.raises(IntegrityError, match="a key that the keyring does not have"):
            fresh.tags("train")


def test_tags_of_who_once_knew_the_key_are_not_believed_by_a_running_process(
    opened: Opened, store: Path, record: Path, become: Callable[[str], None], tmp_path: Path
) -> None:
    """It looks at the keyring after it has read the tags, whatever it was asked for last."""
    become("owner")
    running = opened()
    running.load_checkpoint("train", "good")
    become("former holder")
    shutil.copytree(store, tmp_path / "copy")
    former = opened(directory=tmp_path / "copy")
    former.tag("train", 3, "good", force=True)
    become("owner")
    opened().keys.rotate()
    put(record, (tmp_path / "copy" / "history" / "train" / "tags").read_bytes())
    for call in (lambda: running.tags("train"), lambda: running.load_checkpoint("train", "good")):
        with pytest.raises(IntegrityError, match="record of tags"):
            call()
