"""A reader is overtaken by a writer that saves, and then deletes what is being read with all that this reader saw before.

That is what a retention that keeps one version does. It is neither damage nor a rollback.
"""

from __future__ import annotations

import io
import itertools
import shutil
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from checkpoint_manager import CheckpointManager, CheckpointNotFoundError, Retention
from checkpoint_manager._store import chains
from checkpoint_manager._store.sealed_store import SealedStore
from checkpoint_manager.backends.local import LocalBackend, head

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Read = Callable[[CheckpointManager], object]

KEY = bytes(range(32))


@pytest.fixture
def cm(tmp_path: Path) -> CheckpointManager:
    return CheckpointManager(tmp_path / "store", key=KEY)


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


@pytest.mark.parametrize("later", [[4], [4, 5]])
def test_versions_that_were_listed_just_now_are_deleted_beside_one_that_was_deleted_before(
    cm: CheckpointManager, later: list[int]
) -> None:
    for number in range(1, 8):
        cm.save_checkpoint("train", number)
    cm.delete_versions("train", [3])
    versions = cm.iter_history("train")
    listed = [next(versions).number for _ in range(4)]
    cm.delete_versions("train", later)
    assert (listed, [(version.number, version.status) for version in versions]) == (
        [7, 6, 5, 4],
        [(2, "completed"), (1, "completed")],
    )


def test_versions_to_which_a_history_was_followed_before_are_deleted(
    cm: CheckpointManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chains, "_STEPS", 0)
    for number in range(1, 8):
        cm.save_checkpoint("train", number)
    assert cm.load_checkpoint("train", 4) == 4
    cm.delete_versions("train", [3, 4])
    assert [cm.load_checkpoint("train", number) for number in (2, 1, 5)] == [2, 1, 5]


def test_a_version_is_deleted_while_a_reader_makes_it_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = CheckpointManager(tmp_path / "store", key=KEY, durability="relaxed")
    for number in range(1, 6):
        writer.save_checkpoint("train", number)
    reader = CheckpointManager(tmp_path / "store", key=KEY)
    sync, numbers = LocalBackend._sync_versions, head.numbers

    def overtaken(folder: int) -> list[int]:
        listed = [*numbers(folder)]
        monkeypatch.undo()
        writer.delete_versions("train", [3])
        return listed

    def sync_overtaken(*args: Any) -> None:
        monkeypatch.setattr(head, "numbers", overtaken)
        sync(*args)

    monkeypatch.setattr(LocalBackend, "_sync_versions", sync_overtaken)
    reader._store.flush("train")
    assert head.numbers is numbers
    assert reader.load_checkpoint("train") == 5
    assert reader.verify().problems == ()


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


def save(cm: CheckpointManager) -> None:
    number = len(cm.history("train")) + 1
    cm.save_checkpoint("train", np.full(999, number), attachments={"w": b"%d" % number})


def save_and_prune(cm: CheckpointManager) -> None:
    save(cm)
    cm.prune(Retention(keep_last=1))


@pytest.mark.parametrize("call", ["read_record", "open", "open_segment", "session"])
class TestAttachments:
    """A reader of the newest version, which is 3 or else 4, is overtaken at each call of the backend in turn.

    What is read has attachments, and arrays, which are deleted with it.
    """

    @pytest.fixture
    def answers(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> Callable[[Read, Callable[[CheckpointManager], object]], set[object]]:
        """Return what returns the answers, or the messages, that a reader gets who is overtaken."""

        places = map(tmp_path.joinpath, map(str, itertools.count()))

        def as_user(name: str, place: Path) -> CheckpointManager:
            monkeypatch.setenv("XDG_STATE_HOME", str(place / f"state of the {name}"))
            return CheckpointManager(place / "store", key=KEY)

        def turn(at: int, reads: Read, overtakes: Callable[[CheckpointManager], object]) -> tuple[object, bool]:
            place = next(places)
            writer = as_user("writer", place)
            writer.save_checkpoint("clean", 1)
            for _ in range(3):
                save(writer)
            reader = as_user("reader", place)
            calls, method = itertools.count(1), getattr(reader._store.backend, call)

            def called(*arguments: Any, **options: Any) -> Any:
                found = method(*arguments, **options)
                if next(calls) == at:
                    overtakes(writer)
                return found

            monkeypatch.setattr(reader._store.backend, call, called)
            try:
                return reads(reader), next(calls) > at
            except CheckpointNotFoundError as error:
                return error.message.replace(f" in {place / 'store'}", ""), True

        def answers(reads: Read, overtakes: Callable[[CheckpointManager], object]) -> set[object]:
            found = set[object]()
            for at in itertools.count(1):
                answer, was_overtaken = turn(at, reads, overtakes)
                found.add(answer)
                if not was_overtaken:
                    return found
            raise AssertionError

        return answers

    @pytest.mark.parametrize("stages", [None, ["train"]], ids=["all", "named"])
    def test_an_export_has_what_was_there_or_says_that_it_was_deleted(
        self, answers: Callable[..., set[object]], stages: list[str] | None
    ) -> None:
        def export(cm: CheckpointManager) -> bool:
            return bool(cm.export_bundle(io.BytesIO(), key=KEY, stages=stages).versions)

        gone = {f"version {number} of stage train was deleted while it was exported" for number in (1, 2, 3)}
        assert answers(export, save_and_prune) <= {True, *gone}
        named = set() if stages is None else {"stage train was deleted"}
        assert answers(export, lambda cm: cm.delete_stage("train")) <= {True, *gone, *named}

    def test_a_reader_gets_what_was_the_newest_or_what_is(
        self, answers: Callable[..., set[object]], caplog: pytest.LogCaptureFixture
    ) -> None:
        assert answers(lambda cm: int(cm.load_checkpoint("train")[0]), save_and_prune) <= {3, 4}
        assert answers(lambda cm: int(cm.get_checkpoint("train").data[0]), save_and_prune) <= {3, 4}
        assert answers(lambda cm: cm.has_checkpoint("train"), save_and_prune) == {True}
        assert answers(lambda cm: cm.status("train", verified=True)[0].newest.number, save_and_prune) <= {3, 4}
        assert not [record.message for record in caplog.records if record.levelname == "ERROR"]

    def test_a_reader_of_one_version_is_told_that_it_was_deleted(self, answers: Callable[..., set[object]]) -> None:
        gone = {"version 3 of stage train was deleted"}
        assert answers(lambda cm: int(cm.load_checkpoint("train", 3)[0]), save_and_prune) <= {3, *gone}
        assert answers(lambda cm: cm.get_checkpoint("train").attachments["w"].read(), save_and_prune) <= {b"3", b"4", *gone}


def test_a_result_that_is_deleted_while_it_is_read_is_computed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def double(number: int) -> np.ndarray:
        return np.full(999, 2 * number)

    writer, reader = CheckpointManager(tmp_path, key=KEY), CheckpointManager(tmp_path, key=KEY)
    writer.stage(double)(1)
    open_segment = reader._store.backend.open_segment

    def overtaken(*arguments: Any) -> Any:
        writer.delete_stage("double")
        return open_segment(*arguments)

    monkeypatch.setattr(reader._store.backend, "open_segment", overtaken)
    assert reader.stage(double)(1)[0] == 2
    assert [version.number for version in writer.history("double")] == [3, 2]


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


@pytest.mark.parametrize("has_looked", [False, True])
def test_a_first_version_that_is_saved_after_a_session_began_is_not_taken_for_one_that_is_gone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, *, has_looked: bool
) -> None:
    reader, writer = (CheckpointManager(tmp_path / "store", key=bytes(32)) for _ in range(2))
    if has_looked:
        assert not reader.has_checkpoint("train")
    with reader._store.session("train") as session:
        writer.save_checkpoint("train", 1)
        assert reader._store.history.look("train", session).number == 1
    assert "put back" not in caplog.text
