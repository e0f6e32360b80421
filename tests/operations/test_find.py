"""Find, on every backend."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import ArgumentError, CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEY = bytes(32)


INDEX = {"status": True, "created_at": True, "metadata": ["run", "n", "deep", "missing"]}


@pytest.fixture(params=["local", "memory", "sqlite", "postgres", "postgres with an index"])
def cm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[CheckpointManager]:
    places = {"local": tmp_path / "store", "memory": "memory:", "sqlite": f"sqlite:///{tmp_path / 'store.db'}"}
    place = places.get(request.param) or request.getfixturevalue("postgres_url")
    with CheckpointManager(place, key=KEY, index=INDEX if "index" in request.param else None) as cm:
        for stage in ("train/a", "train/b", "parse"):
            for number in range(3):
                metadata = {"run": f"r{number}", "deep": {"a": [number], "b": None}, "n": number}
                cm.save_checkpoint(stage, number, metadata=metadata)
        cm.clear_checkpoint("train/b")
        yield cm


def numbers(found: Iterator[object]) -> list[tuple[str, int]]:
    return [(version.stage, version.number) for version in found]  # type: ignore[attr-defined]


def test_everything_is_found_by_stage_and_newest_first(cm: CheckpointManager) -> None:
    everything = [("parse", 3), ("parse", 2), ("parse", 1)] + [("train/a", number) for number in (3, 2, 1)]
    assert numbers(cm.find()) == everything + [("train/b", number) for number in (4, 3, 2, 1)]
    assert numbers(cm.find(limit=2)) == everything[:2]
    assert numbers(cm.find(limit=0)) == []


def test_each_field_chooses(cm: CheckpointManager) -> None:
    assert numbers(cm.find(stage_prefix="train/", status="cleared")) == [("train/b", 4)]
    assert numbers(cm.find(metadata={"run": "r1"})) == [("parse", 2), ("train/a", 2), ("train/b", 2)]
    assert numbers(cm.find(metadata={"deep": {"b": None, "a": [2]}, "n": 2}, stage_prefix="p")) == [("parse", 3)]
    assert numbers(cm.find(since=datetime.now(UTC) + timedelta(days=1))) == []
    assert len(numbers(cm.find(since="1d"))) == 10
    assert numbers(cm.find(status="failed")) == []
    assert numbers(cm.find(stage_prefix="\ud800", metadata={"run": "r1"})) == []


@pytest.mark.parametrize("metadata", [{"n": True}, {"n": 1.0}, {"n": "1"}, {"missing": None}, {"deep": {"a": [1]}}])
def test_values_are_compared_as_json_with_their_types(cm: CheckpointManager, metadata: dict[str, object]) -> None:
    assert numbers(cm.find(metadata=metadata)) == []


def test_deleted_versions_are_not_found(cm: CheckpointManager) -> None:
    cm.delete_versions("parse", [1, 2])
    assert numbers(cm.find(stage_prefix="parse")) == [("parse", 3)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"status": "done"},
        {"since": "yesterday"},
        {"limit": -1},
        {"limit": True},
        {"metadata": ""},
        {"metadata": []},
        {"metadata": {"a": {1}}},
        {"metadata": {"a": float("nan")}},
        {"metadata": {"a": [float("inf")]}},
        {"metadata": 3},
    ],
)
def test_what_makes_no_sense_is_refused_at_once(tmp_path: Path, arguments: dict[str, object]) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    with pytest.raises(ArgumentError):
        cm.find(**arguments)  # type: ignore[arg-type]


def test_what_can_not_be_read_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(3):
        cm.save_checkpoint("train", number, metadata={"run": "a7"})
    damaged = tmp_path / "store" / "history" / "train" / "000000000002.checkpoint"
    damaged.chmod(0o600)
    damaged.write_bytes(b"x")
    assert numbers(cm.find(metadata={"run": "a7"})) == [("train", 3), ("train", 1)]
    assert "1 version of stage train" in caplog.text
    caplog.clear()
    assert numbers(cm.find(status="damaged")) == [("train", 2)]
    assert not caplog.text


def test_what_was_saved_while_it_looks_does_not_disturb(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    for number in range(3):
        cm.save_checkpoint("train", number)
    found = cm.find()
    assert next(found).number == 3
    cm.save_checkpoint("train", 3)
    cm.delete_versions("train", [2])
    assert numbers(found) == [("train", 1)]
