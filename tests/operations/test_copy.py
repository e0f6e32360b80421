"""Copying a store from each place to each other one."""

from __future__ import annotations

import itertools
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from checkpoint_manager import CheckpointManager, IntegrityError, VersionConflictError
from checkpoint_manager._operations import bundle_file
from checkpoint_manager.backends.sqlite import SqliteBackend

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from checkpoint_manager.reports import Progress

KEY = bytes(range(32))
PLACES = ("directory", "sqlite", "postgresql", "bucket")
RING = zip(PLACES, PLACES[1:] + PLACES[:1], strict=True)
PAIRS = list(itertools.permutations(PLACES, 2) if os.environ.get("TESTS_LONG_RUNS") else RING)
"""All twelve, or each place once as the source and once as the target."""


@pytest.fixture
def filled(new_place: Callable[[str], str], request: pytest.FixtureRequest) -> Iterator[CheckpointManager]:
    with CheckpointManager(new_place(getattr(request, "param", "directory")), key=KEY) as cm:
        for number in range(5):
            cm.save_checkpoint("train", {"n": np.arange(number)}, metadata={"n": number}, attachments={"a": os.urandom(30_000)})
        cm.delete_versions("train", [1, 3])
        cm.tag("train", 4, "good")
        cm.save_checkpoint("größe/x", "x" * 100)
        cm.clear_checkpoint("größe/x")
        yield cm


def content(cm: CheckpointManager) -> list[object]:
    """Return all that a copy must have."""
    return [
        (version, cm.tags(stage), version.status == "completed" and repr(cm.get_checkpoint(stage, version.number).data))
        for stage in cm.stages()
        for version in cm.history(stage)
    ] + [cm.get_checkpoint("train", 2).attachments["a"].read()]


def interrupting(step: int) -> Callable[[Progress], None]:
    """Return a callback that interrupts a copy at a step of its second half."""
    steps = itertools.count(1)

    def interrupt(progress: Progress) -> None:
        if progress.total and progress.done > progress.total / 2 and next(steps) == step:
            raise KeyboardInterrupt

    return interrupt


@pytest.mark.parametrize(("filled", "to"), PAIRS, indirect=["filled"])
def test_a_copy_that_is_interrupted_goes_on_and_is_whole(
    filled: CheckpointManager, new_place: Callable[[str], str], to: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_file, "SLICE_BYTES", 16 * 1024)
    place = new_place(to)
    for step in (3, 5):  # of the second reading, which writes
        with pytest.raises(KeyboardInterrupt):
            filled.copy_to(place, key=KEY, progress=interrupting(step))
        with CheckpointManager(place, key=KEY) as there:
            assert 0 < sum(len(there.history(stage)) for stage in there.stages()) < 5
    copied = filled.copy_to(place, key=KEY)
    assert 0 < copied.added < 5
    assert (copied.versions, filled.copy_to(place, key=KEY).added) == (5, 0)
    with CheckpointManager(place, key=KEY) as there:
        assert content(there) == content(filled)
        assert there.save_checkpoint("train", 6).number == 6
        assert filled.save_checkpoint("train", 6).number == 6


def test_a_copy_that_was_saved_to_is_not_mixed_with_its_original(
    filled: CheckpointManager, new_place: Callable[[str], str]
) -> None:
    place = new_place("sqlite")
    filled.copy_to(place, key=KEY)
    filled.tag("train", 5, "good", force=True)
    filled.delete_versions("train", [2])
    (kept,) = [stage.tags_kept for stage in filled.copy_to(place, key=KEY).stages if stage.stage == "train"]
    with CheckpointManager(place, key=KEY) as there:
        assert (kept, there.tags("train")) == (("good",), {"good": 4})
        assert [version.number for version in there.history("train")] == [5, 4, 2]
        there.save_checkpoint("train", "there")
        with pytest.raises(VersionConflictError, match="has newer versions of stage train, and nothing was copied"):
            filled.copy_to(place, key=KEY)
        assert there.load_checkpoint("train") == "there"


def test_what_does_not_arrive_is_told(
    filled: CheckpointManager, new_place: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    append = SqliteBackend.append
    monkeypatch.setattr(
        SqliteBackend,
        "append",
        lambda self, stage, version, pieces, **more: append(
            self, stage, version, (lambda: [b"".join(pieces())[:-1]]) if version == 4 else pieces, **more
        ),
    )
    with pytest.raises(IntegrityError, match=r"the copy in sqlite.* is not whole: stage train"):
        filled.copy_to(new_place("sqlite"), key=KEY)
