"""Attacks on the files of versions: flipped, cut, extended, exchanged, replayed, copied, removed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, FormatError, IntegrityError, RollbackError
from checkpoint_manager._format import seal
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable

    Opened = Callable[..., CheckpointManager]
    VersionFile = Callable[[str, int], Path]

KEY = bytes(range(32))


def put(path: Path, data: bytes) -> None:
    """Put a new file in a file's place, so that no other name of it changes."""
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(0o600)


def states(cm: CheckpointManager, stage: str = "train") -> dict[int | None, str]:
    return {finding.version: finding.state for finding in cm.verify(stage).problems if finding.version is not None}


def test_any_flipped_byte_of_a_version_is_refused(opened: Opened, version_file: VersionFile) -> None:
    cm, path = opened(), version_file("train", 3)
    whole = path.read_bytes()
    for position in range(len(whole)):
        for bit in (0x01, 0x80):
            put(path, whole[:position] + bytes([whole[position] ^ bit]) + whole[position + 1 :])
            with pytest.raises((IntegrityError, FormatError)) as caught:
                cm.load_checkpoint("train", 3)
            assert "number" not in str(caught.value)
    assert states(cm) == {3: "damaged"}
    put(path, whole)
    assert cm.load_checkpoint("train", 3) == {"stage": "train", "number": 3}


def test_any_flipped_byte_of_the_record_of_deletions_is_refused(opened: Opened, store: Path) -> None:
    cm, path = opened(), store / "history" / "train" / "gaps"
    whole = path.read_bytes()
    for position in range(len(whole)):
        put(path, whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(IntegrityError, match="record of deleted versions"):
            cm.history("train")
    assert (None, "damaged") in {(f.version, f.state) for f in cm.verify().problems}
    assert opened().load_checkpoint("train")["number"] == 4


def test_a_record_of_deletions_of_another_stage_is_refused(opened: Opened, store: Path) -> None:
    shutil.copy(store / "history" / "clean" / "gaps", store / "history" / "train" / "gaps")
    with pytest.raises(IntegrityError, match="another stage"):
        opened().history("train")


def test_a_removed_record_of_deletions_shows_as_a_missing_version(opened: Opened, store: Path) -> None:
    (store / "history" / "train" / "gaps").unlink()
    assert states(opened()) == {1: "missing"}


def test_truncated_at_every_length_is_refused(opened: Opened, version_file: VersionFile) -> None:
    cm, path = opened(), version_file("train", 4)
    whole = path.read_bytes()
    for length in range(len(whole)):
        put(path, whole[:length])
        with pytest.raises(IntegrityError, match="version 4 of stage train"):
            cm.load_checkpoint("train")
        assert not cm.has_checkpoint("train")


@pytest.mark.parametrize("tail", [b"\0", b"\n", b"x" * 100_000])
def test_appended_bytes_are_refused(opened: Opened, version_file: VersionFile, tail: bytes) -> None:
    path = version_file("train", 4)
    put(path, path.read_bytes() + tail)
    with pytest.raises(IntegrityError, match="appended"):
        opened().load_checkpoint("train")


def test_concatenated_files_are_refused(opened: Opened, version_file: VersionFile) -> None:
    path = version_file("train", 4)
    put(path, path.read_bytes() + version_file("train", 3).read_bytes())
    with pytest.raises(IntegrityError):
        opened().load_checkpoint("train")


def test_swapped_stages_are_refused(opened: Opened, version_file: VersionFile) -> None:
    clean, train = version_file("clean", 3), version_file("train", 3)
    of_clean, of_train = clean.read_bytes(), train.read_bytes()
    put(clean, of_train)
    put(train, of_clean)
    cm = opened()
    with pytest.raises(IntegrityError, match="version 3 of stage clean"):
        cm.load_checkpoint("clean", 3)
    assert states(cm, "clean") == {3: "foreign"}
    assert "belongs to stage train" in cm.verify("clean").problems[0].detail


def test_an_older_version_in_the_place_of_a_newer_one_is_refused(opened: Opened, version_file: VersionFile) -> None:
    put(version_file("train", 4), version_file("train", 2).read_bytes())
    cm = opened()
    with pytest.raises(IntegrityError, match="was written as version 2"):
        cm.load_checkpoint("train")
    assert states(cm) == {4: "foreign"}


def test_parts_of_two_versions_put_together_are_refused(opened: Opened, version_file: VersionFile) -> None:
    third, fourth = version_file("train", 3).read_bytes(), version_file("train", 4).read_bytes()
    cut = len(third) - seal.sealed_length(len(b'{"stage":"train","number":3}'))
    put(version_file("train", 4), fourth[:cut] + third[cut:])
    with pytest.raises(IntegrityError, match="data that does not open"):
        opened().load_checkpoint("train")


def test_chunks_reordered_dropped_or_doubled_are_refused(opened: Opened, version_file: VersionFile) -> None:
    cm = opened()
    cm.save_checkpoint("big", "x" * (5 * seal.CHUNK_BYTES))
    path = version_file("big", 1)
    whole = path.read_bytes()
    chunk = seal.CHUNK_BYTES + seal.TAG_BYTES
    start = len(whole) - seal.sealed_length(5 * seal.CHUNK_BYTES + 2) + seal.HEADER_BYTES
    chunks = [whole[at : at + chunk] for at in range(start, len(whole), chunk)]
    assert len(chunks) == 6
    reordered = [chunks[1], chunks[0], *chunks[2:]]
    for attacked in (reordered, chunks[1:], chunks[:-1], [chunks[0], *chunks], [chunks[0], chunks[0], *chunks[2:]]):
        put(path, whole[:start] + b"".join(attacked))
        with pytest.raises(IntegrityError):
            cm.load_checkpoint("big")


def test_a_head_replaced_by_an_older_one_changes_nothing(opened: Opened, store: Path, version_file: VersionFile) -> None:
    head = store / "train.checkpoint"
    for forgetful in (False, True):
        put(head, version_file("train", 2).read_bytes())
        cm = opened(forgetful=forgetful)
        assert cm.load_checkpoint("train")["number"] == 4
        assert "leftover" in {finding.state for finding in cm.verify("train").problems}
    assert cm.save_checkpoint("train", 5).number == 5
    assert os.path.samefile(head, version_file("train", 5))


@pytest.mark.parametrize("content", [b"", b"\0" * 300, b"{", b"[" * 5000])
def test_a_damaged_head_changes_nothing(opened: Opened, store: Path, content: bytes) -> None:
    put(store / "train.checkpoint", content)
    assert opened(forgetful=True).load_checkpoint("train")["number"] == 4


def test_a_head_that_claims_a_version_yet_to_come_changes_nothing(
    opened: Opened, store: Path, version_file: VersionFile
) -> None:
    put(store / "train.checkpoint", version_file("train", 4).read_bytes().replace(b'"version":4', b'"version":999999999999'))
    cm = opened()
    assert cm.load_checkpoint("train")["number"] == 4
    assert cm.save_checkpoint("train", 5).number == 5


def test_a_version_copied_from_another_store_under_the_same_key_file_is_refused(
    opened: Opened, tmp_path: Path, version_file: VersionFile
) -> None:
    other = CheckpointManager(tmp_path / "other", key=KEY)
    for _ in range(4):
        other.save_checkpoint("train", "from elsewhere")
    put(version_file("train", 4), (tmp_path / "other" / "history" / "train" / "000000000004.checkpoint").read_bytes())
    cm = opened()
    with pytest.raises(IntegrityError, match="belongs to another store"):
        cm.load_checkpoint("train")
    assert states(cm) == {4: "foreign"}


def test_a_removed_middle_version_is_missed(opened: Opened, version_file: VersionFile) -> None:
    take_away(version_file("train", 3))
    cm = opened()
    with pytest.raises(IntegrityError, match="no record that it was deleted"):
        cm.load_checkpoint("train", 3)
    assert states(cm) == {3: "missing"}
    assert cm.load_checkpoint("train")["number"] == 4


def test_a_removed_newest_version_is_a_rollback(opened: Opened, version_file: VersionFile) -> None:
    take_away(version_file("train", 4))
    cm = opened()
    for attempt in (
        lambda: cm.load_checkpoint("train"),
        lambda: cm.has_checkpoint("train"),
        lambda: cm.save_checkpoint("train", 5),
        lambda: cm.restore_checkpoint("train", 3),
        lambda: cm.history("train"),
    ):
        with pytest.raises(RollbackError, match="version 4 was already seen"):
            attempt()
    assert states(cm)[4] == "rolled-back"
    assert cm.load_checkpoint("clean")["number"] == 4


def test_a_removed_stage_is_a_rollback(opened: Opened, store: Path) -> None:
    shutil.rmtree(store / "history" / "train")
    (store / "train.checkpoint").unlink()
    cm = opened()
    with pytest.raises(RollbackError, match="is gone"):
        cm.has_checkpoint("train")
    assert states(cm)[4] == "rolled-back"


def test_an_older_copy_of_the_whole_directory_is_a_rollback(opened: Opened, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "copy")
    opened().save_checkpoint("train", 5)
    shutil.rmtree(store)
    shutil.copytree(tmp_path / "copy", store)
    with pytest.raises(RollbackError):
        opened().load_checkpoint("train")


@pytest.mark.parametrize("more", [1, 2, 3])
def test_another_history_from_an_older_copy_is_a_rollback(opened: Opened, store: Path, tmp_path: Path, more: int) -> None:
    """Yesterday's copy was written on, somewhere else, by someone who has the key, and is put back."""
    copy, kept = tmp_path / "copy", tmp_path / "kept"
    shutil.copytree(store, copy)
    opened().save_checkpoint("train", "seen here")
    state = Path(os.environ["HOME"]) / ".local" / "state"
    shutil.copytree(state, kept)
    fork = opened(forgetful=True, directory=copy)
    for _ in range(more):
        fork.save_checkpoint("train", "of the fork")
    shutil.rmtree(state)
    shutil.copytree(kept, state)
    shutil.rmtree(store)
    shutil.copytree(copy, store)
    cm = opened()
    with pytest.raises(RollbackError, match="do not lead back to version 5 as it was seen"):
        cm.load_checkpoint("train")
    assert states(cm)[5] == "rolled-back"
    cm.accept_rollback("train")
    assert cm.load_checkpoint("train") == "of the fork"
    assert cm.verify("train").ok


def test_two_histories_spliced_are_reported(opened: Opened, store: Path, tmp_path: Path, version_file: VersionFile) -> None:
    shutil.copytree(store, tmp_path / "copy")
    opened().save_checkpoint("train", "fifth here")
    cm = opened(forgetful=True, directory=tmp_path / "copy")
    cm.save_checkpoint("train", "fifth there")
    cm.save_checkpoint("train", "sixth there")
    put(version_file("train", 6), (tmp_path / "copy" / "history" / "train" / "000000000006.checkpoint").read_bytes())
    cm = opened(forgetful=True)
    assert states(cm) == {6: "foreign"}
    assert "another history" in cm.verify("train").problems[0].detail


def test_a_deleted_version_put_back_is_not_served(opened: Opened, tmp_path: Path, version_file: VersionFile) -> None:
    path = version_file("train", 2)
    kept = path.read_bytes()
    cm = opened()
    cm.delete_versions("train", [2])
    put(path, kept)
    with pytest.raises(LookupError, match="was deleted"):
        cm.load_checkpoint("train", 2)
    assert [version.number for version in cm.history("train")] == [4, 3]
    assert states(cm) == {2: "leftover"}
    assert [(step.action, step.version) for step in cm.repair()] == [("remove", 2)]
    assert not path.exists()


def test_a_planted_number_does_not_use_up_the_numbers(opened: Opened, version_file: VersionFile) -> None:
    put(version_file("train", 999_999_999_999), version_file("train", 4).read_bytes())
    cm = opened()
    assert cm.load_checkpoint("train", 4)["number"] == 4
    assert any(finding.version == 999_999_999_999 for finding in cm.verify("train").problems)
    cm.repair()
    assert cm.save_checkpoint("train", 5).number == 5
    assert cm.verify("train").ok


def test_a_file_of_a_newer_format_says_so(opened: Opened, version_file: VersionFile) -> None:
    path = version_file("train", 4)
    put(path, path.read_bytes().replace(b"checkpoint-manager/1", b"checkpoint-manager/2"))
    with pytest.raises(IntegrityError, match=r"checkpoint-manager/2"):
        opened().load_checkpoint("train")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"format":"checkpoint-manager/1"', b'"format":"checkpoint-manager/0"'),
        (b'"format":"checkpoint-manager/1"', b'"format":"none"'),
        (b'"metadata":', b'"metadata":0'),
        (b'"metadata":', b'"metadata":-'),
        (b'"metadata":', b'"metadata":9223372036854775808,"metadata":'),
        (b'"metadata":', b'"metadata":9999999'),
        (b'{"format"', b'{"format":"checkpoint-manager/1","format"'),
        (b'{"format"', b"[" * 100_000 + b'{"format"'),
        (b'{"format"', b' {"format"'),
        (b'"version":4', b'"version":04'),
        (b'"version":4', b'"version":4,"cipher":"none"'),
        (b"}\n", b"}\r\n"),
        (b"}\n", b"} \n"),
    ],
    ids=ascii,
)
def test_an_edited_header_is_refused(opened: Opened, version_file: VersionFile, old: bytes, new: bytes) -> None:
    path = version_file("train", 4)
    put(path, path.read_bytes().replace(old, new, 1))
    with pytest.raises(IntegrityError):
        opened().load_checkpoint("train")


def test_an_edited_key_id_is_refused(opened: Opened, version_file: VersionFile) -> None:
    path = version_file("train", 4)
    whole = path.read_bytes()
    at = whole.index(b'"key":"') + 7
    put(path, whole[:at] + b"0" * 16 + whole[at + 16 :])
    with pytest.raises(IntegrityError, match="key that the keyring does not have"):
        opened().load_checkpoint("train")


def test_a_huge_sparse_file_is_refused_without_reading_it(opened: Opened, version_file: VersionFile) -> None:
    path = version_file("train", 4)
    with path.open("r+b") as file:
        file.truncate(2**43)
    with pytest.raises(IntegrityError, match="appended"):
        opened().load_checkpoint("train")


@pytest.mark.parametrize("how", ["damaged", "removed", "put aside by a repair"])
def test_a_cleared_version_taken_away_brings_no_result_back(opened: Opened, version_file: VersionFile, how: str) -> None:
    """What was computed before a stage was cleared stays not done, whatever becomes of the file that says so."""
    cm, results = opened(), iter(range(10))

    def fit(_: int) -> int:
        return next(results)

    train = cm.stage("fit")(fit)
    assert train(1) == 0
    cm.clear_checkpoint("fit")
    assert train(2) == 1
    path = version_file("fit", 2)
    if how == "removed":
        path.unlink()
    else:
        put(path, path.read_bytes()[:100] + bytes(100))
    if how == "put aside by a repair":
        cm.repair()
    train = opened().stage("fit")(fit)
    assert (train(2), train(1)) == (1, 2)
