"""Large rows are encoded ahead of their check: whether they come back equal is found out while the disk takes them."""

from __future__ import annotations

import enum
import io
import os
import sys
import uuid
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, PayloadError
from checkpoint_manager._format import payload
from checkpoint_manager._loading import load

if TYPE_CHECKING:
    from pathlib import Path

KEY = bytes(range(32))
PLACES = ["{}", "sqlite:///{}/store.sqlite", "memory:"]


class Colour(enum.Enum):
    RED = "red"


def rows(last: object = None, *, text: str = "x" * 300) -> dict[str, Any]:
    """Return rows of more than 256 KiB as JSON, with a value in the last one."""
    return {"rows": [{"text": text, "number": number, "last": None} for number in range(1500)] + [{"last": last}]}


def files(folder: Path) -> list[str]:
    return sorted(name for _, _, names in os.walk(folder) for name in names)


class Used:
    """What the process of the tests has used: a test before these may have needed much memory."""

    ru_maxrss = 2**26 if sys.platform == "darwin" else 2**16


@pytest.fixture(autouse=True)
def used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load("resource"), "getrusage", lambda _: Used)


@pytest.fixture(params=PLACES)
def cm(request: pytest.FixtureRequest, tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(request.param.format(tmp_path), key=KEY)


def test_what_is_json_is_checked_after_it_was_encoded(cm: CheckpointManager) -> None:
    encoded, _, check = payload.encode(rows(1.5), ahead=True)
    assert check is not None
    assert payload.decode(encoded) == rows(1.5)
    assert cm.save_checkpoint("train", rows(1.5)).number == 1
    assert cm.load_checkpoint("train") == rows(1.5)


@pytest.mark.parametrize("last", [(1, 2), uuid.UUID(int=7), float("inf"), [{"a": ((),)}]], ids=repr)
def test_what_is_not_json_is_saved_in_its_form_once_the_check_finds_it(cm: CheckpointManager, last: object) -> None:
    cm.save_checkpoint("train", rows(0))
    assert payload.encode(rows(last), ahead=True)[2] is not None
    assert cm.save_checkpoint("train", rows(last), expected_version=1).number == 2
    loaded = cm.load_checkpoint("train")["rows"][-1]["last"]
    assert (loaded, type(loaded)) == (last, type(last))
    assert [version.number for version in cm.history("train")] == [2, 1]
    assert {finding.state for finding in cm.verify().findings} == {"whole"}


def test_what_can_not_be_saved_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path, key=KEY)
    cm.save_checkpoint("train", 1)
    before = files(tmp_path)
    with pytest.raises(PayloadError) as caught:
        cm.save_checkpoint("train", rows(Colour.RED))
    assert (caught.value.path, caught.value.stage) == ("$.rows[1500].last", "train")
    with pytest.raises(PayloadError) as at_once:
        cm.save_checkpoint("train", [Colour.RED])
    assert str(caught.value).replace("$.rows[1500].last", "$[0]") == str(at_once.value)
    assert files(tmp_path) == before
    assert cm.load_checkpoint("train") == 1
    assert cm.save_checkpoint("train", rows()).number == 2


@pytest.mark.parametrize("stage", ["train", "x" * 255], ids=["short", "long"])
@pytest.mark.parametrize("attachments", [{}, {"first": b"w", "second": io.StringIO("text")}], ids=["data", "attachments"])
def test_a_first_save_that_is_refused_leaves_nothing_that_shows(
    cm: CheckpointManager, stage: str, attachments: dict[str, object]
) -> None:
    """What was made for it must not be removed: another process may be about to attach something to the same stage."""
    with pytest.raises(PayloadError):
        cm.save_checkpoint(stage, 1 if attachments else rows(Colour.RED), attachments=attachments or None)
    assert cm.stages() == [each.stage for each in cm.status()] == [*cm.verify().findings] == cm.repair() == []
    assert not cm.has_checkpoint(stage)
    assert cm.save_checkpoint(stage, rows()).number == 1
    assert [finding.state for finding in cm.verify().findings] == ["whole"]


@pytest.mark.parametrize("durability", ["full", "relaxed"])
def test_what_is_not_checked_is_not_visible_even_if_the_process_is_killed(
    tmp_path: Path, durability: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cm = CheckpointManager(tmp_path, key=KEY, durability=durability)
    cm.save_checkpoint("train", 1)
    if not (child := os.fork()):
        monkeypatch.setattr(payload, "_may_hold_not_finite", lambda _: os._exit(9))
        cm.save_checkpoint("train", rows())
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert any(name.endswith(".tmp") for name in files(tmp_path))
    for manager in (cm, CheckpointManager(tmp_path, key=KEY)):
        assert manager.load_checkpoint("train") == 1
        assert [version.number for version in manager.history("train")] == [1]
    assert CheckpointManager(tmp_path, key=KEY).save_checkpoint("train", 2).number == 2
    assert not any(name.endswith(".tmp") for name in files(tmp_path))


def test_an_interrupted_check_leaves_the_stage_as_it_was(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(_: object) -> bool:
        raise KeyboardInterrupt

    cm.save_checkpoint("train", 1)
    with monkeypatch.context() as patch:
        patch.setattr(payload, "_may_hold_not_finite", interrupt)
        with pytest.raises(KeyboardInterrupt):
            cm.save_checkpoint("train", rows())
    assert cm.load_checkpoint("train") == 1
    assert cm.save_checkpoint("train", rows()).number == 2


def changing(monkeypatch: pytest.MonkeyPatch, data: dict[str, Any], last: object) -> None:
    """Change the last row after the data was encoded ahead."""
    dumps_ahead = payload._dumps_ahead

    def dumps_and_change(value: object) -> bytes | None:
        encoded = dumps_ahead(value)
        data["rows"][-1]["last"] = last
        return encoded

    monkeypatch.setattr(payload, "_dumps_ahead", dumps_and_change)


def test_what_was_changed_while_a_lock_was_waited_for_is_saved_as_it_is_then(
    cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    changing(monkeypatch, data := rows(float("nan")), 1.5)
    monkeypatch.setattr(payload, "_SOON", 0)
    cm.save_checkpoint("train", data)
    assert cm.load_checkpoint("train")["rows"][-1]["last"] == 1.5


@pytest.mark.parametrize("soon", [0, 60])
def test_an_array_that_came_in_meanwhile_is_refused(cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch, soon: int) -> None:
    changing(monkeypatch, data := rows(), pytest.importorskip("numpy").zeros(100_000))
    monkeypatch.setattr(payload, "_SOON", soon)
    with pytest.raises(PayloadError, match="changed while it was saved"):
        cm.save_checkpoint("train", data)
    assert cm.history("train") == []


def test_attached_contents_go_with_rows_that_are_not_json(tmp_path: Path) -> None:
    cm = CheckpointManager(tmp_path, key=KEY)
    version = cm.save_checkpoint("train", rows((1,)), attachments={"notes": b"n"})
    assert cm.get_checkpoint("train").attachments["notes"].read() == b"n"
    assert cm.load_checkpoint("train", version.number)["rows"][-1]["last"] == (1,)


def test_a_process_that_may_hold_a_text_over_which_orjson_would_crash_checks_first(monkeypatch: pytest.MonkeyPatch) -> None:
    assert payload.encode(rows(), ahead=True)[2] is not None
    monkeypatch.setattr(Used, "ru_maxrss", 2**30)
    assert payload.encode(rows(), ahead=True)[2] is None


@pytest.mark.parametrize("value", [rows(), rows()["rows"], {str(number): [number] * 40 for number in range(2000)}])
def test_many_rows_are_encoded_ahead_wherever_they_stand_at_the_top(value: Any) -> None:
    encoded, _, check = payload.encode(value, ahead=True)
    assert check is not None
    check()
    assert payload.decode(encoded) == value
    (value if isinstance(value, list) else next(iter(value.values()))).append([()])
    with pytest.raises(payload.InexactError):
        check()


@pytest.mark.parametrize("value", [rows(text=""), rows(b"bytes"), {"rows": [1] * 2000}, [rows()], "x" * 300_000, [()] * 2000])
def test_what_is_short_or_is_not_rows_is_checked_first(value: object) -> None:
    encoded, embedded, check = payload.encode(value, ahead=True)
    assert check is None
    assert payload.encode(value) == (encoded, embedded, None)
