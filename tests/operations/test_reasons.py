"""Restoring and clearing with a reason, and only if nobody was faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import ArgumentError, CheckpointManager, PayloadError, VersionConflictError

if TYPE_CHECKING:
    from pathlib import Path

WHY = {"reason": "the labels were wrong"}


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    cm = CheckpointManager(tmp_path / "store", key=bytes(range(32)))
    cm.save_checkpoint("train", 1, metadata={"run": "a7"})
    cm.save_checkpoint("train", 2)
    return cm


def test_a_restore_keeps_the_reason_beside_the_metadata_of_the_original(cm: CheckpointManager) -> None:
    restored = cm.restore_checkpoint("train", 1, metadata=WHY, expected_version=2)
    assert (restored.metadata, restored.restored_from) == ({"run": "a7", **WHY}, 1)
    moment = cm.get_version("train", 1).created_at
    assert cm.restore_checkpoint("train", at=moment, metadata=WHY).metadata == {"run": "a7", **WHY}


def test_a_cleared_version_keeps_the_reason(cm: CheckpointManager) -> None:
    cm.clear_checkpoint("train", metadata=WHY, expected_version=2)
    assert cm.get_version("train").metadata == WHY


@pytest.mark.parametrize("downstream", [True, False])
def test_nothing_is_restored_or_cleared_over_a_version_that_was_not_expected(cm: CheckpointManager, downstream: bool) -> None:
    with pytest.raises(VersionConflictError) as restored:
        cm.restore_checkpoint("train", 1, expected_version=1)
    with pytest.raises(VersionConflictError) as cleared:
        cm.clear_checkpoint("train", downstream=downstream, expected_version=1)
    assert [(each.value.expected, each.value.actual) for each in (restored, cleared)] == [(1, 2)] * 2
    assert cm.load_checkpoint("train") == 2


@pytest.mark.parametrize(
    ("arguments", "error"), [({"metadata": {"@run": 1}}, PayloadError), ({"expected_version": "2"}, ArgumentError)]
)
def test_reasons_and_expectations_are_checked(
    cm: CheckpointManager, arguments: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        cm.restore_checkpoint("train", 1, **arguments)
    with pytest.raises(error):
        cm.clear_checkpoint("train", **arguments)


class TestTheHistoryBelowAVersion:
    @pytest.fixture
    def long(self, cm: CheckpointManager) -> CheckpointManager:
        for number in range(3, 10):
            cm.save_checkpoint("train", number)
        cm.delete_versions("train", [4, 5])
        return cm

    @pytest.mark.parametrize("below", range(12))
    def test_it_is_the_end_of_the_whole_one(self, long: CheckpointManager, below: int) -> None:
        whole = long.history("train")
        assert list(long.iter_history("train", below=below)) == [each for each in whole if each.number < below]

    def test_damage_and_gaps_in_it_show(self, long: CheckpointManager, tmp_path: Path) -> None:
        folder = tmp_path / "store/history/train"
        (folder / f"{2:012}.checkpoint").unlink()
        with (folder / f"{3:012}.checkpoint").open("r+b") as file:
            file.write(b"x")
        found = [(each.number, each.status) for each in long.iter_history("train", below=6)]
        assert found == [(3, "damaged"), (2, "missing"), (1, "completed")]

    def test_a_version_of_another_history_is_damage(self, long: CheckpointManager, tmp_path: Path) -> None:
        folder = tmp_path / "store/history/train"
        (folder / f"{7:012}.checkpoint").write_bytes((folder / f"{6:012}.checkpoint").read_bytes())
        assert next(each.status for each in long.iter_history("train", below=8)) == "damaged"

    def test_the_number_is_one(self, long: CheckpointManager) -> None:
        with pytest.raises(ArgumentError, match="below"):
            long.iter_history("train", below="7")


def test_data_is_read_as_json_without_what_it_needs(cm: CheckpointManager) -> None:
    cm.save_checkpoint("sets", {"of": {1, 2}})
    assert cm.get_json("sets").data == {"of": {"!set": [1, 2]}}
