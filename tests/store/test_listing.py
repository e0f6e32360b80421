"""A history in which the operating system does not let one version be read."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, Retention, StorageError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = bytes(range(32))


@pytest.fixture
def refusing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], CheckpointManager]:
    """Return what opens a store of three versions, one of which can't be opened."""

    def opened(version: int, number: int) -> CheckpointManager:
        cm = CheckpointManager(tmp_path / "store", key=KEY)
        for data in (1, 2, 3):
            cm.save_checkpoint("train", data, attachments={"w": b"w"})
        reader = CheckpointManager(tmp_path / "store", key=KEY)
        open_version = reader._store.backend.open

        def refuse(stage: str, asked: int, **options: Any) -> Any:
            if asked == version:
                raise StorageError("can't open", errno=number)
            return open_version(stage, asked, **options)

        monkeypatch.setattr(reader._store.backend, "open", refuse)
        return reader

    return opened


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
def test_it_is_listed_as_unreadable_among_the_others(
    refusing: Callable[[int, int], CheckpointManager], version: int, number: int
) -> None:
    cm = refusing(version, number)
    expected = {each: "unreadable" if each == version else "completed" for each in (3, 2, 1)}
    assert {each.number: each.status for each in cm.history("train")} == expected
    assert [each.number for each in cm.find(status="unreadable")] == [version]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, None])
def test_what_concerns_all_versions_is_an_error(refusing: Callable[[int, int | None], CheckpointManager], number: int) -> None:
    with pytest.raises(StorageError):
        refusing(2, number).history("train")


def test_nothing_is_decided_without_it(refusing: Callable[[int, int], CheckpointManager]) -> None:
    cm = refusing(2, errno.EACCES)
    for decide in (
        lambda: cm.prune(Retention(keep_last=1)),
        lambda: cm.restore_checkpoint("train", at="0s"),
        lambda: cm.load_checkpoint("train", 2),
    ):
        with pytest.raises(StorageError):
            decide()
    assert len(cm.history("train")) == 3
