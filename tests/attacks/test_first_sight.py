"""What a user who never saw the store can notice, and what not: the table in SECURITY.md, line by line.

Each attack is made on a store that has grown since "yesterday", of which the attacker kept a copy. Whoever saw the store as it
is today notices every one of them.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager
from tests.taking_away import take_away

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = bytes(range(32))
OTHER = bytes([7] * 32)


class Scene(NamedTuple):
    """The store of today, and a copy of it as it was yesterday."""

    today: Path
    yesterday: Path

    def history(self, stage: str, *, of_yesterday: bool = False) -> Path:
        return (self.yesterday if of_yesterday else self.today) / "history" / stage

    def version(self, stage: str, number: int) -> Path:
        return self.history(stage) / f"{number:012d}.checkpoint"

    def put_back(self, name: str) -> None:
        """Put a file or folder of yesterday in the place of today's."""
        new, old = self.today / name, self.yesterday / name
        if new.is_dir():
            shutil.rmtree(new)
        else:
            new.unlink(missing_ok=True)
        if old.is_dir():
            shutil.copytree(old, new)
        elif old.exists():
            shutil.copy(old, new)


def _forget() -> None:
    shutil.rmtree(Path(os.environ["HOME"]) / ".local" / "state", ignore_errors=True)


def open_store(path: Path) -> CheckpointManager:
    return CheckpointManager(path, key=KEY, lock_timeout=1)


@pytest.fixture
def scene(tmp_path: Path, request: pytest.FixtureRequest) -> Scene:
    """Versions 1 to 4 of two stages yesterday; today version 2 is deleted, 5 and 6 are saved, and the key may be rotated."""
    store = tmp_path / "store"
    cm = open_store(store)
    for number in range(1, 5):
        for stage in ("clean", "train"):
            cm.save_checkpoint(stage, number)
    cm.tag("train", 1, "yesterday")
    shutil.copytree(store, tmp_path / "yesterday")
    for stage in ("clean", "train"):
        cm.save_checkpoint(stage, 5)
        cm.save_checkpoint(stage, 6)
        cm.delete_versions(stage, [2])
    cm.tag("train", 3, "today")
    if getattr(request, "param", "") == "rotated":
        cm.keys.rotate()
    for stage in ("clean", "train"):
        cm.load_checkpoint(stage)
        cm.tags(stage)
    return Scene(store, tmp_path / "yesterday")


def notices(path: Path) -> bool:
    """Whether a user of the store is told that something is wrong with it, by an error or by ``verify``."""
    try:
        cm = open_store(path)
        for stage in {*cm.stages(), "train", "clean"}:
            cm.has_checkpoint(stage)
            if any(version.status in {"damaged", "missing"} for version in cm.history(stage)):
                return True
        return not cm.verify().ok
    except CheckpointError:
        return True


def _whole_copy(scene: Scene) -> None:
    shutil.rmtree(scene.today)
    shutil.copytree(scene.yesterday, scene.today)


def _stage(scene: Scene) -> None:
    scene.put_back("history/train")
    scene.put_back("train.checkpoint")


def _newest_removed(scene: Scene) -> None:
    take_away(scene.version("train", 6))


def _stage_removed(scene: Scene) -> None:
    shutil.rmtree(scene.history("train"))
    (scene.today / "train.checkpoint").unlink()


def _newest_removed_below_a_deletion(scene: Scene) -> None:
    cm = open_store(scene.today)
    cm.delete_versions("train", [5])
    cm.load_checkpoint("train")
    _newest_removed(scene)


def _deletion_undone(scene: Scene) -> None:
    scene.put_back("history/train/000000000002.checkpoint")
    (scene.history("train") / "gaps").unlink()


def _stranger_with_the_dropped_key(scene: Scene) -> None:
    """Someone whose slot was dropped writes on, in his copy of yesterday, and puts it in the place of the store."""
    state = Path(os.environ["HOME"]) / ".local" / "state"
    kept = scene.yesterday.parent / "kept"
    shutil.copytree(state, kept)
    _forget()
    forged = open_store(scene.yesterday)
    for number in range(20):
        forged.save_checkpoint("train", f"forged {number}")
    shutil.rmtree(state)
    shutil.copytree(kept, state)
    _whole_copy(scene)


UNNOTICED: dict[str, Callable[[Scene], None]] = {
    "an older copy of the whole store": _whole_copy,
    "an older copy of one stage, beside today's others": _stage,
    "the newest versions removed": _newest_removed,
    "a stage removed": _stage_removed,
    "a deleted version put back, and the record of deletions removed": _deletion_undone,
    "an older record of tags": lambda scene: scene.put_back("history/train/tags"),
    "a store that was written on from an older copy, by someone with its key": _stranger_with_the_dropped_key,
}
NOTICED: dict[str, Callable[[Scene], None]] = {
    "a version removed from the middle": lambda scene: scene.version("train", 4).unlink(),
    "the oldest version removed": lambda scene: scene.version("train", 1).unlink(),
    "the newest version removed, with a deletion recorded beside it": _newest_removed_below_a_deletion,
    "the record of deletions removed": lambda scene: (scene.history("train") / "gaps").unlink(),
    "the version of another stage": lambda scene: (
        shutil.copy(scene.version("clean", 6), scene.version("train", 6).with_suffix(".x")),
        os.replace(scene.version("train", 6).with_suffix(".x"), scene.version("train", 6)),
    )[1],
    "the keyring removed": lambda scene: (scene.today / "keyring.json").unlink(),
}
NOTICED_AFTER_A_ROTATION: dict[str, Callable[[Scene], None]] = {
    "an older copy of one stage": _stage,
    "an older version": lambda scene: scene.put_back("history/train/000000000004.checkpoint"),
    "an older keyring": lambda scene: scene.put_back("keyring.json"),
    "an older record of tags": lambda scene: scene.put_back("history/train/tags"),
}


@pytest.mark.parametrize("attack", UNNOTICED.values(), ids=UNNOTICED)
def test_what_only_a_user_who_saw_the_store_can_notice(attack: Callable[[Scene], None], scene: Scene) -> None:
    attack(scene)
    assert notices(scene.today)
    _forget()
    assert not notices(scene.today)


@pytest.mark.parametrize("attack", NOTICED.values(), ids=NOTICED)
def test_what_every_user_notices(attack: Callable[[Scene], None], scene: Scene) -> None:
    attack(scene)
    assert notices(scene.today)
    _forget()
    assert notices(scene.today)


@pytest.mark.parametrize("scene", ["rotated"], indirect=True)
@pytest.mark.parametrize("attack", NOTICED_AFTER_A_ROTATION.values(), ids=NOTICED_AFTER_A_ROTATION)
def test_after_a_rotation_every_user_notices_a_mixture_of_old_and_new(attack: Callable[[Scene], None], scene: Scene) -> None:
    attack(scene)
    assert notices(scene.today)
    _forget()
    assert notices(scene.today)


@pytest.mark.parametrize("scene", ["rotated"], indirect=True)
def test_a_former_holder_of_the_key_is_believed_by_nobody_who_saw_the_rotation(scene: Scene) -> None:
    """And by a user who never saw the store, if that user's own secret opened the older copy, too."""
    _stranger_with_the_dropped_key(scene)
    assert notices(scene.today)
    _forget()
    assert not notices(scene.today)


def test_a_state_directory_that_is_carried_along_notices_what_a_new_one_can_not(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in a container or a CI job: XDG_STATE_HOME on a volume that persists."""
    carried = tmp_path / "volume"
    shutil.copytree(Path(os.environ["HOME"]) / ".local" / "state", carried)
    _whole_copy(scene)
    monkeypatch.setenv("HOME", str(tmp_path / "a new container"))
    assert not notices(scene.today)
    monkeypatch.setenv("XDG_STATE_HOME", str(carried))
    assert notices(scene.today)
