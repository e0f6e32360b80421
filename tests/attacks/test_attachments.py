"""What someone may do to attachments who can write to the store: nothing of it is ever read as genuine."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoint_manager import CheckpointManager, IntegrityError
from checkpoint_manager._format import attachment as attachment_format
from checkpoint_manager._format import seal
from checkpoint_manager._format.checkpoint_file import Place, seal_version
from checkpoint_manager._format.hidden import Hidden
from checkpoint_manager._format.keyring import begin_rotation
from tests import bundles

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(32)
SEGMENT = 65_536  # in place of 16 MiB
LARGE = bytes(range(256)) * 600  # three segments
SMALL = b"the weights of the first epoch"


@pytest.fixture
def cm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CheckpointManager:
    """A stage with two versions, each with two attachments, and another stage with the same."""
    monkeypatch.setattr(attachment_format, "SEGMENT_BYTES", SEGMENT)
    cm = CheckpointManager(tmp_path / "attached", key=KEY)
    cm.save_checkpoint("train", 1, attachments={"large": LARGE, "small": SMALL})
    cm.save_checkpoint("train", 2, attachments={"large": LARGE[::-1], "small": SMALL[::-1]})
    cm.save_checkpoint("other", 1, attachments={"large": LARGE, "small": SMALL})
    return cm


def segments(cm: CheckpointManager, stage: str, version: int, name: str) -> list[Path]:
    """Return the files of an attachment."""
    entry = cm._store.entry(stage, version)
    (record,) = (each for each in entry.attachments if each.name == name)
    folder = Path(cm._store.backend.location) / "history" / stage / "attachments" / record.id
    return [folder / f"{index:06d}.segment" for index in range(len(record.digests))]


def assert_refused(cm: CheckpointManager, name: str = "large", version: int = 2) -> None:
    """The attachment is not read, verify finds it, and the version's own data stays readable."""
    found = cm.get_checkpoint("train", version)
    assert found.data == version
    with pytest.raises(IntegrityError):
        found.attachments[name].load()
    assert [each.state for each in cm.verify("train").problems] == ["incomplete"]


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("place", [0, 24, 60, 20_000, -1])
def test_a_flipped_byte_of_a_segment_is_refused(cm: CheckpointManager, index: int, place: int) -> None:
    path = segments(cm, "train", 2, "large")[index]
    sealed = bytearray(path.read_bytes())
    sealed[place] ^= 1
    path.write_bytes(sealed)
    assert_refused(cm)


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize(
    "change",
    [lambda whole: whole[:-1], lambda whole: whole[:60], lambda _: b"", lambda whole: whole + b"x", lambda whole: whole * 2],
)
def test_a_segment_cut_short_or_extended_is_refused(
    cm: CheckpointManager, index: int, change: Callable[[bytes], bytes]
) -> None:
    path = segments(cm, "train", 2, "large")[index]
    path.write_bytes(change(path.read_bytes()))
    assert not cm.has_checkpoint("train")
    assert_refused(cm)


@pytest.mark.parametrize("index", range(3))
def test_a_missing_segment_is_refused(cm: CheckpointManager, index: int) -> None:
    segments(cm, "train", 2, "large")[index].unlink()
    assert not cm.has_checkpoint("train")
    assert_refused(cm)


def test_a_size_that_lies_is_refused_before_anything_is_allocated(cm: CheckpointManager) -> None:
    path = segments(cm, "train", 2, "large")[1]
    os.truncate(path, 2**42)  # takes no room on the disk
    assert not cm.has_checkpoint("train")
    assert_refused(cm)


def test_a_segment_added_at_the_end_is_refused(cm: CheckpointManager) -> None:
    last = segments(cm, "train", 2, "large")[-1]
    shutil.copy(last, last.with_name("000003.segment"))
    assert not cm.has_checkpoint("train")
    assert cm.get_checkpoint("train").attachments["large"].load() == LARGE[::-1]


def test_exchanged_segments_are_refused(cm: CheckpointManager) -> None:
    first, second, _ = segments(cm, "train", 2, "large")
    first_bytes, second_bytes = first.read_bytes(), second.read_bytes()
    first.write_bytes(second_bytes)
    second.write_bytes(first_bytes)
    assert_refused(cm)


@pytest.mark.parametrize(("stage", "version", "name"), [("train", 1, "large"), ("other", 1, "large")])
def test_another_attachment_in_its_place_is_refused(cm: CheckpointManager, stage: str, version: int, name: str) -> None:
    for mine, theirs in zip(segments(cm, "train", 2, "large"), segments(cm, stage, version, name), strict=True):
        mine.write_bytes(theirs.read_bytes())
    assert_refused(cm)


@pytest.mark.parametrize(("stage", "version"), [("arrays", 1), ("others", 1)])
def test_the_arrays_of_other_data_in_their_place_are_refused(cm: CheckpointManager, stage: str, version: int) -> None:
    """Another version's, or another stage's: an array comes back as it was saved, or not at all."""
    for each in ("arrays", "others"):
        for number in (1, 2):
            cm.save_checkpoint(each, [np.full(9000, number)])
    for mine, theirs in zip(
        segments(cm, "arrays", 2, attachment_format.CONTENTS),
        segments(cm, stage, version, attachment_format.CONTENTS),
        strict=True,
    ):
        mine.write_bytes(theirs.read_bytes())
    with pytest.raises(IntegrityError, match="the arrays in the data"):
        cm.load_checkpoint("arrays")
    assert [each.state for each in cm.verify("arrays").problems] == ["incomplete"]
    assert cm.load_checkpoint("arrays", 1)[0][0] == 1


def test_another_name_of_the_version_in_its_place_is_refused(cm: CheckpointManager) -> None:
    (mine,), (theirs, *_) = segments(cm, "train", 2, "small"), segments(cm, "train", 2, "large")
    mine.write_bytes(theirs.read_bytes())
    assert_refused(cm, "small")


@pytest.mark.parametrize("what", ["link", "fifo", "directory", "dangling"])
def test_another_kind_of_file_in_a_segments_place_is_refused(cm: CheckpointManager, what: str, tmp_path: Path) -> None:
    path = segments(cm, "train", 2, "large")[0]
    copy = tmp_path / "copy"
    shutil.move(path, copy)
    if what == "link":
        path.symlink_to(copy)
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "gone")
    assert_refused(cm)


def test_a_link_in_place_of_the_folder_of_attachments_is_refused(cm: CheckpointManager, tmp_path: Path) -> None:
    folder = segments(cm, "train", 2, "large")[0].parent
    shutil.move(folder, tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    found = cm.get_checkpoint("train").attachments["large"]
    with pytest.raises(IntegrityError):
        found.load()
    with pytest.raises(IntegrityError):
        cm.save_checkpoint("train", 3, attachments={"again": found})
    cm.delete_stage("train")
    assert len(list((tmp_path / "elsewhere").iterdir())) == 3


@pytest.mark.parametrize("is_old", [False, True], ids=["BLAKE3", "SHA-256"])
def test_who_once_knew_the_key_can_not_forge_a_content(cm: CheckpointManager, tmp_path: Path, *, is_old: bool) -> None:
    """The key of an attachment is known to whoever could read its version, also after a rotation that dropped them."""
    if is_old:
        write_as_format_2(cm, tmp_path / "attached" / "history" / "train" / "000000000002.checkpoint")
    entry = cm._store.entry("train", 2)
    assert {each.hashed_with for each in entry.attachments} == {"sha256" if is_old else "blake3"}
    cm.keys.rotate()
    assert cm.verify("train").ok
    (record,) = (each for each in entry.attachments if each.name == "small")
    context = attachment_format.bound_to(cm._store.keyring.store_id, "train", record.id, 0, last=True)
    (path,) = segments(cm, "train", 2, "small")
    path.write_bytes(seal.seal(record.key, b"x" * len(SMALL), context))
    assert_refused(cm, "small")


def write_as_format_2(cm: CheckpointManager, path: Path) -> None:
    """Write version 2 as it was written when the digests were made with SHA-256."""
    entry, data = cm._store.load("train", 2)
    key_id, key = cm._store.keyring.active
    old = tuple(
        each._replace(
            hashed_with="sha256",
            digests=tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in segments(cm, "train", 2, each.name)),
        )
        for each in entry.attachments
    )
    place = Place(cm._store.keyring.store_id, "train", 2)
    path.write_bytes(b"".join(seal_version(key_id, key, place, entry._replace(attachments=old), data)))


def test_a_reader_from_before_a_rotation_is_not_deceived_by_who_lost_the_key(cm: CheckpointManager, tmp_path: Path) -> None:
    """Under the active key, digests are not compared; this reader takes the old one for active until it looks again."""
    one, two, three = (
        CheckpointManager(tmp_path / "attached", key=KEY).get_checkpoint("train", 2).attachments for _ in range(3)
    )
    (record,) = (each for each in cm._store.entry("train", 2).attachments if each.name == "small")
    cm.keys.rotate()
    context = attachment_format.bound_to(cm._store.keyring.store_id, "train", record.id, 0, last=True)
    segments(cm, "train", 2, "small")[0].write_bytes(seal.seal(record.key, b"x" * len(SMALL), context))
    with pytest.raises(IntegrityError):
        one["small"].load()
    with pytest.raises(IntegrityError):
        two["small"].save_to(tmp_path / "forged")
    assert not (tmp_path / "forged").exists()
    three["large"].save_to(tmp_path / "genuine")  # which is read twice
    assert (tmp_path / "genuine").read_bytes() == LARGE[::-1]


def test_a_reader_whose_other_thread_follows_a_rotation_is_not_deceived_either(
    cm: CheckpointManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The threads share the keyring: it has not changed since this one began to read only because the other one looked."""
    reader = CheckpointManager(tmp_path / "attached", key=KEY)
    found = reader.get_checkpoint("train", 2)
    (record,) = (each for each in cm._store.entry("train", 2).attachments if each.name == "small")
    cm.keys.rotate()
    context = attachment_format.bound_to(cm._store.keyring.store_id, "train", record.id, 0, last=True)
    segments(cm, "train", 2, "small")[0].write_bytes(seal.seal(record.key, b"x" * len(SMALL), context))
    open_segment = attachment_format.open_segment

    def overtaken(*arguments: Any) -> None:
        open_segment(*arguments)
        reader.has_checkpoint("other")  # the other thread

    monkeypatch.setattr(attachment_format, "open_segment", overtaken)
    with pytest.raises(IntegrityError):
        found.attachments["small"].load()


def test_who_has_the_old_key_can_not_say_before_a_rotation_ends_that_an_attachment_is_of_the_new_one(
    cm: CheckpointManager, tmp_path: Path
) -> None:
    """The id of the new key is in the keyring, in the clear, and the rotation seals again what opens under the old key."""
    store = cm._store
    key_id, key = store.keyring.active
    store.keyring.change(begin_rotation, 10)  # interrupted
    entry, data = store.load("train", 2)
    claimed = tuple(each._replace(written_under=store.keyring.active[0]) for each in entry.attachments)
    place = Place(store.keyring.store_id, "train", 2)
    forged = b"".join(seal_version(key_id, key, place, entry._replace(attachments=claimed), data))
    (tmp_path / "attached" / "history" / "train" / "000000000002.checkpoint").write_bytes(forged)
    cm.keys.rotate()
    record = claimed[1]
    context = attachment_format.bound_to(store.keyring.store_id, "train", record.id, 0, last=True)
    segments(cm, "train", 2, "small")[0].write_bytes(seal.seal(record.key, b"x" * len(SMALL), context))
    assert_refused(CheckpointManager(tmp_path / "attached", key=KEY), "small")


def test_a_restored_attachment_is_compared_with_its_digest_after_a_rotation(cm: CheckpointManager) -> None:
    """The new version is sealed under the new key, and its attachment's key was sealed under the old one."""
    (record,) = (each for each in cm._store.entry("train", 2).attachments if each.name == "small")
    cm.keys.rotate()
    cm.restore_checkpoint("train", 2)
    context = attachment_format.bound_to(cm._store.keyring.store_id, "train", record.id, 0, last=True)
    segments(cm, "train", 3, "small")[0].write_bytes(seal.seal(record.key, b"x" * len(SMALL), context))
    with pytest.raises(IntegrityError):
        cm.get_checkpoint("train", 3).attachments["small"].load()


def test_an_older_version_put_back_does_not_bring_its_attachments(cm: CheckpointManager, tmp_path: Path) -> None:
    history = tmp_path / "attached" / "history" / "train"
    shutil.copy(history / "000000000001.checkpoint", history / "000000000002.checkpoint")
    with pytest.raises(IntegrityError):
        cm.get_checkpoint("train")


def test_planted_attachments_are_reported_and_removed(cm: CheckpointManager, tmp_path: Path) -> None:
    folder = tmp_path / "attached" / "history" / "train" / "attachments"
    (folder / ("5c" * 16)).mkdir()
    (folder / ("5c" * 16) / "000000.segment").write_bytes(b"planted")
    (folder / "notes").mkdir()
    assert sorted(each.state for each in cm.verify("train").problems) == ["leftover", "leftover"]
    cm.repair()
    assert [each.path for each in cm.verify("train").problems] == [str(folder / "notes")]
    assert len(cm._store.backend.attachments("train")) == 4


def test_no_key_or_content_of_an_attachment_is_shown(cm: CheckpointManager) -> None:
    version = cm.history("train")[0]
    found = cm.get_checkpoint("train")
    entry = cm._store.entry("train", 2)
    shown = repr([version, found, found.attachments, entry, cm.verify()]) + str(dict(version.metadata))
    for record in entry.attachments:
        assert record.key.raw.hex() not in shown
        assert repr(record.key.raw) not in shown
    assert SMALL[::-1].decode() not in shown


@pytest.mark.parametrize(
    "change",
    [
        {"size": 10**18},
        {"size": -1},
        {"size": True},
        {"size": 1.0},
        {"id": "../../../../etc"},
        {"id": "A" * 32},
        {"key": "00"},
        {"blake3": "00" * 32 + "0"},
        {"blake3": ""},
        {"segments": "00" * 32},
        {"kind": "../x"},
        {"kind": "x" * 40},
        {"detail": 3},
        {"more": 1},
        {"under": 1},
        {"under": "k"},
        {"under": "5c" * 16},
    ],
    ids=str,
)
def test_a_record_of_another_form_is_refused(change: dict[str, Any]) -> None:
    """Whoever has the key, or made a bundle, may have written it. If it counted as none, the attachments would be unused."""
    start = {"id": "5c" * 16, "key": "00" * 32, "size": 5, "kind": "bytes", "detail": ""}
    record, older = start | {"blake3": "00" * 32}, start | {"segments": "00" * 32}
    for each in (
        record,
        record | {"under": "5c" * 8},
        older,
        older | {"under": "5c" * 8},
        older | {"detail": "x" * 10_000},
    ):  # of formats 3, 1 and 2, and as once written
        good = {"@attachments": {"w": each}}
        assert attachment_format.encode_records(attachment_format.take_records(good)) == {"w": each}
        assert good == {}
    for name, fields in (("w", {**record, **change}), ("", record), ("w", None), ("w", [])):
        bad = {"@attachments": {"fine": record, name: fields}}
        with pytest.raises(ValueError, match="not of this format"):
            attachment_format.take_records(bad)


def test_an_exchanged_attachment_of_the_same_length_is_refused_when_it_is_read(cm: CheckpointManager) -> None:
    """Without reading it, nobody can tell; what only looks for lengths says so."""
    ours, theirs = (segments(cm, "train", version, "small")[0] for version in (2, 1))
    ours.write_bytes(theirs.read_bytes())
    assert cm.has_checkpoint("train")
    assert cm.verify("train", quick=True).ok
    assert_refused(cm, "small")


def test_who_was_given_a_bundle_can_not_forge_a_content_of_the_store_that_it_came_from(
    cm: CheckpointManager, tmp_path: Path
) -> None:
    """A segment under the active key is not compared with its digest: so no bundle tells the key of an attachment."""
    cm.export_bundle(tmp_path / "bundle", key=bundles.KEY)
    frames = bundles.frames_of((tmp_path / "bundle").read_bytes())
    place = segments(cm, "train", 2, "small")[0]
    bound_to = attachment_format.bound_to(cm._store.keyring.store_id, "train", place.parent.name, 0, last=True)
    told = {key for frame in frames if frame[:1] == b"V" for key in re.findall(rb'"key":"([0-9a-f]{64})"', frame)}
    assert told
    for key in told:
        forged = seal.seal(Hidden(bytes.fromhex(key.decode())), b"f" * len(SMALL), bound_to)
        place.unlink()
        place.write_bytes(forged)
        assert_refused(cm, "small")
