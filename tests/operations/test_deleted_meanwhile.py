"""A reader is overtaken by a writer that saves, and then deletes what is being read with all that this reader saw before.

That is what a retention that keeps one version does. It is neither damage nor a rollback.
"""

from __future__ import annotations

import io
import shutil
import threading
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, Retention
from checkpoint_manager._store.sealed_store import SealedStore
from checkpoint_manager.backends.local import LocalBackend

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Read = Callable[[CheckpointManager], object]

KEY = bytes(range(32))


@pytest.fixture
def overtaken(
    as_user: Callable[[str], CheckpointManager], monkeypatch: pytest.MonkeyPatch
) -> Callable[[Read, int], list[object]]:
    """Return what lets a reader read, who is overtaken when it has opened a version: version 6 is the newest, and it saw 1."""

    def read(reads: Read, at: int) -> list[object]:
        writer = as_user("writer")
        writer.save_checkpoint("train", 1)
        reader = as_user("reader")
        reader.load_checkpoint("train")
        for number in range(2, 7):
            writer.save_checkpoint("train", number)
        was_overtaken: list[object] = []

        def overtaking(name: str) -> Callable[..., Any]:
            method = getattr(SealedStore, name)

            def call(store: SealedStore, stage: str, version: int, *more: Any) -> Any:
                found = method(store, stage, version, *more)
                if store is reader._store and version == at and not was_overtaken:
                    was_overtaken.append(True)
                    if at == 6:
                        writer.save_checkpoint("train", 7)
                    writer.prune(Retention(keep_last=1))
                return found

            return call

        for name in ("entry", "load", "open"):
            monkeypatch.setattr(SealedStore, name, overtaking(name))
        try:
            return [reads(reader), *was_overtaken]
        except CheckpointNotFoundError as error:
            return [str(error).partition("was ")[2].partition(".")[0], *was_overtaken]

    return read


READS = [
    lambda cm: cm.load_checkpoint("train"),
    lambda cm: int(cm.has_checkpoint("train")),
    lambda cm: [version.number for version in cm.history("train")],
    lambda cm: cm.load_checkpoint("train", 6),
    lambda cm: cm.load_checkpoint("train", 4),
    lambda cm: cm.get_version("train", 6).number,
    lambda cm: [version.number for version in cm.find(status="completed")],
    lambda cm: cm.export_bundle(io.BytesIO(), key=bytes(32)).versions,
]
NAMES = ["load", "has", "history", "load the newest", "load another", "version", "find", "export"]


@pytest.mark.parametrize(
    ("reads", "found"), [*zip(READS, [7, 1, [7], "deleted", 4, "deleted", [7], 6], strict=True)], ids=NAMES
)
def test_the_newest_version_is_deleted_while_it_is_read_with_what_was_seen(
    overtaken: Callable[[Read, int], list[object]], reads: Read, found: object
) -> None:
    assert overtaken(reads, 6) == [found, True]


@pytest.mark.parametrize(("reads", "found"), [*zip(READS, [6, 1, [6], 6, 4, 6, [6], 6], strict=True)], ids=NAMES)
def test_versions_are_deleted_while_they_are_followed_to_what_was_seen(
    overtaken: Callable[[Read, int], list[object]], reads: Read, found: object
) -> None:
    assert overtaken(reads, 5) == [found, True]


class TestVerify:
    """The check is overtaken at each call of the backend in turn."""

    @pytest.mark.parametrize("quick", [False, True], ids=["whole", "quick"])
    @pytest.mark.parametrize("call", ["versions", "newest", "read_record", "open", "open_segment"])
    def test_what_is_deleted_during_a_check_is_neither_a_rollback_nor_incomplete(
        self, as_user: Callable[[str], CheckpointManager], monkeypatch: pytest.MonkeyPatch, call: str, quick: bool
    ) -> None:
        writer = as_user("writer")
        for number in range(3):
            writer.save_checkpoint("train", number, attachments={"w": b"w"})
        reader = as_user("reader")
        count = 0
        method = getattr(reader._store.backend, call)

        def overtaken(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            found = method(*arguments, **options)
            if count == at:
                writer.save_checkpoint("train", at, attachments={"w": b"w"})
                writer.prune(Retention(keep_last=1))
            return found

        monkeypatch.setattr(reader._store.backend, call, overtaken)
        at = 1
        while count + 1 >= at:
            count = 0
            assert [each for each in reader.verify(quick=quick).problems if each.state != "leftover"] == []
            at += 1
            for number in range(2):
                writer.save_checkpoint("train", number, attachments={"w": b"w"})
        assert at > 2 or (quick and call == "open_segment")


def test_a_version_that_was_saved_behind_the_lock_since_the_look_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cm = CheckpointManager(tmp_path / "store", key=KEY)
    cm.save_checkpoint("train", 1)
    versions = LocalBackend.versions

    def save_first(self: LocalBackend, stage: str, **options: Any) -> Any:
        monkeypatch.setattr(LocalBackend, "versions", versions)
        shutil.rmtree(tmp_path / "store" / ".locks")
        rival = CheckpointManager(tmp_path / "store", key=KEY)
        thread = threading.Thread(target=rival.save_checkpoint, args=("train", 2))
        thread.start()
        thread.join()
        return versions(self, stage, **options)

    monkeypatch.setattr(LocalBackend, "versions", save_first)
    with pytest.raises(CheckpointNotFoundError):
        cm.delete_versions("train", [2])
    assert CheckpointManager(tmp_path / "store", key=KEY).load_checkpoint("train") == 2
