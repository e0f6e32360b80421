"""The result of a call is found by its arguments, and the newest one is not taken for that of the last call in silence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import ArgumentError, CheckpointManager, CheckpointNotFoundError, FingerprintError, IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(32)


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


def square(number: int, unit: str = "m") -> str:
    return f"{number * number} {unit}"


def test_a_reused_older_result_is_not_passed_over_in_silence(cm: CheckpointManager, caplog: pytest.LogCaptureFixture) -> None:
    stage = cm.stage(square)
    assert [stage(1), stage(2)] == ["1 m", "4 m"]
    assert cm.load_checkpoint("square") == "4 m"
    assert caplog.text == ""
    stage(1)
    assert cm.load_checkpoint("square") == "4 m"
    assert "version 2 is the newest, and the last call reused version 1" in caplog.text
    assert cm.load_checkpoint("square", arguments={"number": 1}) == "1 m"


def test_the_newest_result_of_some_arguments_is_found(cm: CheckpointManager, tmp_path: Path) -> None:
    stage = cm.stage(square)
    for number, unit in ((1, "m"), (1, "km"), (2, "m")):
        stage(number, unit)
    again = CheckpointManager(tmp_path / "store", key=KEY)
    assert again.load_checkpoint("square", arguments={"number": 1}) == "1 km"
    assert again.get_checkpoint("square", arguments={"number": 1, "unit": "m"}).version.number == 1
    for arguments in ({"number": 3}, {"count": 1}, {"number": True}):
        with pytest.raises(CheckpointNotFoundError, match="has no result of these arguments"):
            again.load_checkpoint("square", arguments=arguments)
    with pytest.raises(FingerprintError, match="argument number"):
        again.load_checkpoint("square", arguments={"number": object()})


def test_a_result_below_a_cleared_version_is_not_found(cm: CheckpointManager) -> None:
    cm.stage(square)(1)
    cm.clear_checkpoint("square")
    with pytest.raises(CheckpointNotFoundError):
        cm.load_checkpoint("square", arguments={"number": 1})


def test_a_damaged_version_above_it_is_an_error(cm: CheckpointManager, tmp_path: Path) -> None:
    stage = cm.stage(square)
    for number in (1, 2, 3):
        stage(number)
    (tmp_path / "store" / "history" / "square" / "000000000002.checkpoint").write_bytes(b"damaged")
    assert cm.load_checkpoint("square", arguments={"number": 3}) == "9 m"
    with pytest.raises(IntegrityError):
        cm.load_checkpoint("square", arguments={"number": 1})


@pytest.mark.parametrize("choice", [{"version": 1}, {"at": "1d"}])
def test_arguments_and_a_version_are_refused_together(cm: CheckpointManager, choice: dict[str, Any]) -> None:
    with pytest.raises(ArgumentError, match="arguments= is given together"):
        cm.load_checkpoint("square", arguments={}, **choice)
