"""Attacks between the saves of processes that take turns: each goes on from the state in which the last one left the stage."""

from __future__ import annotations

import os
import shutil
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, RollbackError
from checkpoint_manager._filesystem import file_times
from checkpoint_manager._operations import save
from checkpoint_manager.backends.local import LocalBackend, backend
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable

    Opened = Callable[..., CheckpointManager]
    VersionFile = Callable[[str, int], Path]
    Turns = tuple[CheckpointManager, CheckpointManager]


@pytest.fixture
def turns(opened: Opened, tmp_path: Path, become: Callable[[str], None]) -> Turns:
    """Two processes that have saved in turn: the second one has saved version 8, and the next turn is the first one's."""
    if not file_times.FileTimes(str(tmp_path)).is_settled(tmp_path.stat(), time.time_ns()):
        pytest.skip("a change of just now might not show here")
    become("owner")
    first, second = opened(), opened()
    for each, number in ((first, 5), (second, 6), (first, 7), (second, 8)):
        each.save_checkpoint("train", number)
    return first, second


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The stages that were looked at."""
    looked: list[str] = []
    newest = LocalBackend.newest

    def note(self: LocalBackend, stage: str, **options: Any) -> Any:
        looked.append(stage)
        return newest(self, stage, **options)

    monkeypatch.setattr(LocalBackend, "newest", note)
    return looked


def memory() -> Path:
    """Return the file in which this user remembers the newest version of the stage."""
    state = Path(os.environ["HOME"]) / ".local" / "state" / "checkpoint_manager"
    return next(file for file in state.rglob("*") if file.is_file() and b'"train"' in file.read_bytes())


def test_turns_are_taken_without_a_look(turns: Turns, looks: list[str], opened: Opened) -> None:
    for number in range(9, 15):
        assert turns[number % 2 == 0].save_checkpoint("train", number).number == number
    turns[0].save_checkpoint("train", 15)
    turns[0].save_checkpoint("train", 16)
    turns[1].save_checkpoint("train", 17)
    assert looks == []
    assert [version.number for version in opened().history("train")] == [*range(17, 1, -1)]
    assert opened().load_checkpoint("train") == 17
    assert opened().verify().problems == ()


def test_a_process_that_no_longer_meets_others_leaves_them_nothing(turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(save, "_TURNS", 2)
    for number in range(9, 12):
        turns[0].save_checkpoint("train", number)
    before = memory().read_bytes()
    turns[0].save_checkpoint("train", 12)
    assert memory().read_bytes().partition(b"\n")[2] == before.partition(b"\n")[2]
    assert turns[1].save_checkpoint("train", 13).number == 13


# Between two turns


def test_a_version_taken_away_between_turns_is_a_rollback(turns: Turns, version_file: VersionFile) -> None:
    take_away(version_file("train", 8))
    with pytest.raises(RollbackError, match="its newest version is 7, and version 8 was already seen"):
        turns[0].save_checkpoint("train", 9)


def test_an_older_folder_put_back_between_turns_is_a_rollback(turns: Turns, store: Path, tmp_path: Path) -> None:
    shutil.copytree(store, tmp_path / "older")
    turns[0].save_checkpoint("train", 9)
    shutil.move(store / "history" / "train", tmp_path / "newer")
    shutil.move(tmp_path / "older" / "history" / "train", store / "history" / "train")
    shutil.move(tmp_path / "older" / "train.checkpoint", store / "train.checkpoint")
    with pytest.raises(RollbackError, match="its newest version is 8, and version 9 was already seen"):
        turns[1].save_checkpoint("train", 10)


@pytest.mark.parametrize("how", ["exchanged", "overwritten", "overwritten with its times set back"])
def test_a_version_damaged_between_turns_is_not_built_on(
    turns: Turns, opened: Opened, version_file: VersionFile, tmp_path: Path, become: Callable[[str], None], how: str
) -> None:
    """Another user, who has seen the version below, could load nothing any more if the next one named the damaged one."""
    become("other")
    opened().load_checkpoint("train")
    become("owner")
    turns[0].save_checkpoint("train", 9)
    path = version_file("train", 9)
    status = path.stat()
    if how == "exchanged":
        shutil.copy(version_file("train", 8), tmp_path / "older")
        (tmp_path / "older").replace(path)
    else:
        with path.open("r+b") as file:
            file.write(bytes(status.st_size))
    if how == "overwritten with its times set back":
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    turns[1].save_checkpoint("train", 10)
    become("other")
    assert opened().load_checkpoint("train") == 10


def test_a_version_of_another_user_between_turns_is_built_on(
    turns: Turns, opened: Opened, become: Callable[[str], None]
) -> None:
    become("other")
    opened().save_checkpoint("train", "of another user")
    become("owner")
    assert turns[0].save_checkpoint("train", 10).number == 10
    assert opened().load_checkpoint("train", version=9) == "of another user"


def test_a_history_of_a_copy_between_turns_is_refused(turns: Turns, store: Path, opened: Opened, tmp_path: Path) -> None:
    """What a process leaves counts for the folder in which it has saved, and not for another one of the same store."""
    shutil.copytree(store, tmp_path / "copy")
    elsewhere = opened(directory=tmp_path / "copy"), opened(directory=tmp_path / "copy")
    for number in range(9, 12):
        elsewhere[number % 2].save_checkpoint("train", number)
    with pytest.raises(RollbackError, match="its newest version is 8, and version 11 was already seen"):
        turns[0].save_checkpoint("train", 9)


def test_a_key_given_up_between_turns_seals_nothing_more(turns: Turns, opened: Opened, store: Path) -> None:
    opened().keys.rotate()
    key = opened().keys.list()
    turns[0].save_checkpoint("train", 9)
    assert opened().keys.list() == key
    assert opened().load_checkpoint("train") == 9
    header = (store / "history" / "train" / f"{9:012d}.checkpoint").read_bytes().split(b"\n")[0]
    assert header.split(b'"key":')[1][:18] == (store / "train.checkpoint").read_bytes().split(b'"key":')[1][:18]


def test_a_deletion_between_turns_is_respected(turns: Turns, opened: Opened) -> None:
    opened().delete_versions("train", [6, 7])
    assert turns[0].save_checkpoint("train", 9).number == 9
    assert [version.number for version in opened().history("train")] == [9, 8, 5, 4, 3, 2]


def test_a_first_deletion_between_turns_is_read(turns: Turns, looks: list[str]) -> None:
    for number in range(1, 5):
        turns[number % 2].save_checkpoint("new", number)
    turns[0].delete_versions("new", [2])
    turns[0].save_checkpoint("new", 5)
    looks.clear()
    turns[1].save_checkpoint("new", 6)
    assert looks != []


@pytest.mark.parametrize("is_removed", [False, True])
def test_a_record_of_deletions_put_back_in_its_place_between_turns_is_a_rollback(
    turns: Turns, store: Path, is_removed: bool
) -> None:
    record = store / "history" / "train" / "gaps"
    older = record.read_bytes()
    turns[0].delete_versions("train", [5])
    for number in range(9, 13):
        turns[number % 2 == 0].save_checkpoint("train", number)
    if is_removed:
        record.unlink()
    else:
        with record.open("r+b") as file:
            file.truncate(len(older))
            file.write(older)
    with pytest.raises(RollbackError, match="the record of deleted versions"):
        turns[0].save_checkpoint("train", 13)


def test_a_version_that_was_hidden_before_the_turns_is_found_by_them(
    turns: Turns, opened: Opened, become: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, looks: list[str]
) -> None:
    """A process that does not know all names in a long folder leaves nothing that keeps others from listing it."""
    monkeypatch.setattr(backend, "_BLOCK_BYTES", 0)
    for number in (9, 11):  # listed at the first change by someone else, and followed at the second one
        become("other")
        opened().save_checkpoint("train", number)
        become("owner")
        turns[0].save_checkpoint("train", number + 1)
    looks.clear()
    turns[1].save_checkpoint("train", 13)
    assert looks != []


def test_a_clock_that_went_back_between_turns_is_told(
    turns: Turns, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Clock:
            return cls.fromtimestamp(time.time(), tz) + timedelta(hours=1)

    with monkeypatch.context() as patched:
        patched.setattr(save, "datetime", Clock)
        turns[0].save_checkpoint("train", 9)
    assert "clock" not in caplog.text
    turns[1].save_checkpoint("train", 10)
    assert "the clock says" in caplog.text


# What a process leaves for the others


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content[:-3],
        lambda content: content[:-3] + b";",
        lambda content: content[: content.index(b"\n") + 1] + b"\xff" * 60 + b";",
        lambda content: content[: content.index(b"\n") + 1] + content[13:45] + b" " + b"?" * 16 + content[-99:],
        lambda content: content[: content.index(b"\n") + 1],
        lambda content: content[:13] + bytes(reversed(content[13:45])) + content[45:],
    ],
    ids=["cut off", "another state", "garbage", "no time", "nothing", "another id"],
)
def test_what_is_damaged_behind_a_line_decides_nothing(
    turns: Turns, opened: Opened, looks: list[str], change: Callable[[bytes], bytes]
) -> None:
    content = memory().read_bytes()
    assert content.endswith(b";")
    changed = change(content)
    memory().write_bytes(changed)
    if changed[:45] == content[:45]:
        assert turns[0].save_checkpoint("train", 9).number == 9
        assert opened().load_checkpoint("train") == 9
    else:
        with pytest.raises(RollbackError):
            turns[0].save_checkpoint("train", 9)
    assert "train" in looks


def test_what_stands_behind_the_line_of_an_earlier_version_decides_nothing(turns: Turns, looks: list[str]) -> None:
    """Versions of the library that do not know what stands there replace the line alone."""
    behind = memory().read_bytes()[46:]
    turns[0].save_checkpoint("train", 9)
    assert looks == []
    with memory().open("r+b") as file:
        file.seek(46)
        file.write(behind)
    assert turns[1].save_checkpoint("train", 10).number == 10
    assert looks != []
