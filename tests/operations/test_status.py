"""The state of all stages at once: which are listed, and how far each is read."""

from __future__ import annotations

import shutil
from fractions import Fraction
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, Codec, IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(32)


@pytest.mark.parametrize("verified", [False, True])
def test_what_was_seen_and_is_gone_is_an_error_and_what_was_deleted_or_planted_is_not_listed(
    tmp_path: Path, *, verified: bool
) -> None:
    store = tmp_path / "store"
    cm = CheckpointManager(store, key=KEY, on_rollback="warn")
    for stage in ("deleted", "gone", "train"):
        cm.save_checkpoint(stage, 1)
    cm.delete_stage("deleted")
    (store / "gone.checkpoint").unlink()
    shutil.rmtree(store / "history" / "gone")
    (store / "history" / "planted").mkdir(mode=0o700)
    (store / "history" / "planted" / "000000000001.checkpoint").write_bytes(b"planted")
    (store / "notes.checkpoint").write_bytes(b"of another program")
    gone, train = CheckpointManager(store, key=KEY, on_rollback="warn").status(verified=verified)
    assert (gone.stage, type(gone.error)) == ("gone", CheckpointNotFoundError)
    assert (train.stage, train.state) == ("train", "completed")


def test_damaged_data_shows_when_it_is_read(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", 1)
    file = tmp_path / "store" / "history" / "train" / "000000000001.checkpoint"
    *content, last = file.read_bytes()
    file.write_bytes(bytes([*content, last ^ 1]))
    assert [each.state for each in cm.status()] == ["completed"]
    steps: list[int] = []
    [train] = cm.status(verified=True, progress=lambda step: steps.append(step.done))
    assert isinstance(train.error, IntegrityError)
    assert train.error.__traceback__ is None
    assert steps == [1]


def test_data_of_another_programs_codec_is_whole_and_a_lost_attachment_shows(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY, codecs=[Codec(Fraction, "fraction", str, Fraction)])
    cm.save_checkpoint("prices", Fraction(1, 3))
    cm.save_checkpoint("weights", attachments={"log": b"epoch 3"})
    reader = CheckpointManager(tmp_path / "store", key=KEY)
    assert [each.state for each in reader.status(verified=True)] == ["completed", "completed"]
    shutil.rmtree(tmp_path / "store" / "history" / "weights" / "attachments")
    for each in (reader, CheckpointManager(tmp_path / "store", key=KEY)):  # one has looked at them before
        prices, weights = each.status(verified=True)
        assert (prices.state, weights.state, each.has_checkpoint("weights")) == ("completed", "damaged", False)
        assert "has lost the attachment log" in str(weights.error)
