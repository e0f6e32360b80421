"""Attacks by planting: links, FIFOs and directories where the store's own files belong; wide permissions; a seized lock."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import threading
from typing import TYPE_CHECKING, Any

import pytest

from checkpoint_manager import CheckpointError, CheckpointManager, IntegrityError, LockTimeoutError, Retention
from checkpoint_manager.backends.local import LocalBackend
from checkpoint_manager.backends.stage_names import to_filename

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Opened = Callable[..., CheckpointManager]

KEY = bytes(range(32))
PRECIOUS = b"what lies outside of the store"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(PRECIOUS)
    return tmp_path / "outside" / "file"


def plant(kind: str, place: Path, outside: Path) -> None:
    if place.is_dir() and not place.is_symlink():
        place.rename(place.with_name("moved away"))
    place.unlink(missing_ok=True)
    match kind:
        case "symlink":
            place.symlink_to(outside)
        case "dangling link":
            place.symlink_to(outside.with_name("nothing"))
        case "link to itself":
            place.symlink_to(place.name)
        case "link to a directory":
            place.symlink_to(outside.parent)
        case "hard link":
            os.link(outside, place)
        case "fifo":
            os.mkfifo(place)
        case "directory":
            place.mkdir()
        case "socket":
            here = os.getcwd()
            os.chdir(place.parent)  # a socket's path is short
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(place.name)
            os.chdir(here)


KINDS = ["symlink", "dangling link", "link to itself", "link to a directory", "hard link", "fifo", "directory", "socket"]


@pytest.mark.parametrize("kind", KINDS)
class TestPlanted:
    def test_planted_at_the_head(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / "train.checkpoint", outside)
        cm = opened(forgetful=True)
        assert cm.load_checkpoint("train")["number"] == 4
        assert cm.save_checkpoint("train", 5).number == 5
        assert opened().load_checkpoint("train") == 5
        assert outside.read_bytes() == PRECIOUS
        assert os.listdir(outside.parent) == ["file"]

    def test_planted_in_the_history(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / "history" / "train" / "000000000004.checkpoint", outside)
        cm = opened()
        with pytest.raises(IntegrityError):
            cm.load_checkpoint("train")
        assert not cm.has_checkpoint("train")
        assert [finding.version for finding in cm.verify("train").problems if finding.state == "damaged"] == [4]
        cm.repair()
        assert cm.save_checkpoint("train", 5).number > 4
        assert cm.verify().ok
        assert outside.read_bytes() == PRECIOUS
        assert os.listdir(outside.parent) == ["file"]

    def test_planted_in_place_of_the_next_version(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / "history" / "train" / "000000000005.checkpoint", outside)
        cm = opened()
        assert not cm.has_checkpoint("train")
        assert cm.save_checkpoint("train", "sixth").number == 6
        assert cm.load_checkpoint("train") == "sixth"
        assert outside.read_bytes() == PRECIOUS

    def test_planted_at_the_stages_folder(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        place = store / "history" / "train"
        plant(kind, place, outside)
        cm = opened()
        if kind == "directory":
            with pytest.raises(CheckpointError, match="rolled back"):
                cm.save_checkpoint("train", 5)
        else:
            with pytest.raises(IntegrityError, match="stands where a file or folder of the store belongs"):
                cm.save_checkpoint("train", 5)
            with pytest.raises(IntegrityError):
                cm.load_checkpoint("train")
        assert cm.load_checkpoint("clean")["number"] == 4
        assert cm.stages() == ["clean", "train"]  # it was seen
        assert not cm.verify().ok
        assert opened(forgetful=True).stages() == ["clean", "train"], "from its head"
        assert not opened(forgetful=True).verify().ok
        assert outside.read_bytes() == PRECIOUS
        assert os.listdir(outside.parent) == ["file"]

    def test_planted_at_the_history(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / "history", outside)
        assert {"damaged", "rolled-back"} & {finding.state for finding in opened().verify().problems}
        with pytest.raises(CheckpointError):
            opened().save_checkpoint("train", 5)
        assert outside.read_bytes() == PRECIOUS
        assert os.listdir(outside.parent) == ["file"]

    def test_planted_at_the_lock(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / ".locks" / "train.lock", outside)
        cm = opened()
        if kind == "hard link":  # locked, and not written to
            cm.save_checkpoint("train", 5)
        else:
            with pytest.raises(LockTimeoutError, match=r"train\.lock"):
                cm.save_checkpoint("train", 5)
        assert outside.read_bytes() == PRECIOUS
        assert os.listdir(outside.parent) == ["file"]
        assert cm.load_checkpoint("clean")["number"] == 4

    def test_planted_at_the_locks_folder(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / ".locks", outside)
        cm = opened()
        if kind == "directory":
            cm.save_checkpoint("train", 5)
        else:
            with pytest.raises(LockTimeoutError, match="in place of its folder"):
                cm.save_checkpoint("train", 5)
        assert outside.read_bytes() == PRECIOUS
        assert os.listdir(outside.parent) == ["file"]

    def test_planted_at_the_keyring(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / "keyring.json", outside)
        with pytest.raises(IntegrityError):
            opened()
        assert outside.read_bytes() == PRECIOUS

    def test_planted_at_the_record_of_deletions(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / "history" / "train" / "gaps", outside)
        cm = opened()
        with pytest.raises(IntegrityError):
            cm.history("train")
        assert not cm.verify().ok
        assert outside.read_bytes() == PRECIOUS

    def test_planted_at_the_record_of_tags(self, opened: Opened, store: Path, outside: Path, kind: str) -> None:
        plant(kind, store / "history" / "train" / "tags", outside)
        cm = opened()
        for call in (lambda: cm.tags("train"), lambda: cm.tag("train", 2, "good"), lambda: cm.delete_versions("train", [2])):
            with pytest.raises(CheckpointError):
                call()
        assert not cm.verify().ok
        assert cm.load_checkpoint("train", 2)["number"] == 2
        assert outside.read_bytes() == PRECIOUS


@pytest.fixture
def over_all_stages(opened: Opened, tmp_path: Path) -> dict[str, Callable[[CheckpointManager], object]]:
    """Return the operations that go through all stages, those that change something last."""
    opened().tag_pipeline("before")
    return {
        "stages": lambda cm: cm.stages(),
        "stale_stages": lambda cm: cm.stale_stages(),
        "tag_pipeline": lambda cm: cm.tag_pipeline("now"),
        "export_bundle": lambda cm: cm.export_bundle(tmp_path / "bundle", key=KEY, overwrite=True),
        "repair, dry run": lambda cm: cm.repair(dry_run=True),
        "repair": lambda cm: cm.repair(),
        "accept_rollback": lambda cm: cm.accept_rollback(),
        "rotate": lambda cm: cm.keys.rotate(),
        "prune": lambda cm: cm.prune(Retention(keep_last=2)),
        "restore_pipeline": lambda cm: cm.restore_pipeline(tag="before"),
        "clear_checkpoints": lambda cm: cm.clear_checkpoints(),
    }


@pytest.mark.parametrize("kind", ["link to a directory", "hard link", "fifo", "socket"])
def test_a_file_that_is_named_like_the_folder_of_a_stage_stops_no_operation(
    opened: Opened, store: Path, outside: Path, over_all_stages: dict[str, Callable[[CheckpointManager], object]], kind: str
) -> None:
    heads = {"alone": None, "beside junk": b"junk", "beside another's head": (store / "train.checkpoint").read_bytes()}
    for name, head in heads.items():
        plant(kind, store / "history" / to_filename(name), outside)
        if head is not None:
            (store / f"{to_filename(name)}.checkpoint").write_bytes(head)
    running = opened()
    for operate in over_all_stages.values():
        operate(running)
        operate(opened(forgetful=True))
    assert opened().stages() == ["clean", "train"]
    damaged = {each.path for each in opened().verify().problems if each.state == "damaged"}
    assert damaged >= {str(store / "history" / to_filename(name)) for name in heads}
    assert outside.read_bytes() == PRECIOUS


def test_no_rotation_drops_the_key_of_a_stage_in_whose_place_a_file_stands(opened: Opened, store: Path) -> None:
    """Its folder may come back, and its head may be all that is left."""
    folder = store / "history" / "train"
    folder.rename(store.with_name("folder"))
    folder.write_text("planted")
    for forgetful in (False, True):
        with pytest.raises(
            IntegrityError, match="the old key stays until this is repaired: can't open the folder of stage train"
        ):
            opened(forgetful=forgetful).keys.rotate()
        opened(forgetful=forgetful).repair()
    folder.unlink()
    store.with_name("folder").rename(folder)
    opened().keys.rotate()
    assert opened(forgetful=True).load_checkpoint("train")["number"] == 4


def test_a_link_in_the_middle_of_the_path_leads_a_running_process_nowhere(opened: Opened, store: Path, outside: Path) -> None:
    """A process that knows the stage's folder opens it by its whole path, and checks that it is the same folder."""
    cm = opened()
    number = cm.save_checkpoint("train", "inside").number
    shutil.copytree(store / "history", outside.parent / "history")
    plant("symlink", store / "history", outside.parent / "history")
    for call in (lambda: cm.load_checkpoint("train"), lambda: cm.save_checkpoint("train", "outside")):
        with pytest.raises(IntegrityError, match="symbolic link"):
            call()
    assert not (outside.parent / "history" / "train" / f"{number + 1:012d}.checkpoint").exists()


def test_a_link_in_the_place_of_the_directory_leads_a_running_process_nowhere(
    opened: Opened, store: Path, outside: Path
) -> None:
    cm = opened()
    cm.load_checkpoint("train")
    plant("link to a directory", store, outside)
    for call in (lambda: cm.save_checkpoint("train", 5), cm.keys.rotate, lambda: cm.clear_checkpoint("train")):
        with pytest.raises(CheckpointError):
            call()
    assert os.listdir(outside.parent) == ["file"]


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "directory"])
@pytest.mark.parametrize("size", ["small", "large"])
def test_planted_at_the_temporary_name(
    opened: Opened, store: Path, outside: Path, kind: str, size: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even an attacker who guesses the 64 random bits of the name, or knows that of a small version, gets nothing written."""
    from checkpoint_manager._filesystem import files
    from checkpoint_manager.backends.local import pending

    if size == "large":
        monkeypatch.setattr(pending, "MAX_BYTES", 0)
    cm = opened()
    assert cm.save_checkpoint("train", 5).number == 5  # what is there before the first save is removed as a leftover
    monkeypatch.setattr(files, "temporary_name", lambda: ".0123456789abcdef.tmp")
    plant(kind, store / "history" / "train" / (pending.next_head(6) if size == "small" else ".0123456789abcdef.tmp"), outside)
    try:
        saved = cm.save_checkpoint("train", 6).number  # what was planted is removed, and not followed, by the first attempt
    except CheckpointError:
        saved = 5
    assert outside.read_bytes() == PRECIOUS
    assert os.stat(outside).st_nlink == (2 if kind == "hard link" and saved == 5 else 1)
    assert opened().load_checkpoint("train") == saved


def test_many_junk_files_are_passed_over_and_reported(opened: Opened, store: Path) -> None:
    folder = store / "history" / "train"
    for name in (
        "0.checkpoint",
        "000000000000.checkpoint",
        "00000000004.checkpoint",
        "\N{ARABIC-INDIC DIGIT FIVE}" * 12 + ".checkpoint",
        "5.checkpoint",
    ):
        (folder / name).write_bytes(b"junk")
    (store / "history" / "notes.txt").write_bytes(b"junk")
    (store / "history" / "%zz").mkdir()
    (store / "junk.txt").write_bytes(b"junk")
    (store / "nothing.checkpoint").write_bytes(b"junk")
    (store / "left.0123456789abcdef").write_bytes(b"junk")
    (store / ".0123456789abcdef.tmp").write_bytes(b"junk")
    cm = opened()
    assert cm.stages() == ["clean", "train"]
    assert cm.load_checkpoint("train")["number"] == 4
    assert cm.save_checkpoint("train", 5).number == 5
    reported = {os.path.basename(finding.path) for finding in cm.verify().problems}
    assert {"0.checkpoint", "000000000000.checkpoint", "5.checkpoint", "notes.txt", "%zz", "junk.txt"} <= reported
    cm.repair()
    assert not (store / ".0123456789abcdef.tmp").exists()
    assert (store / "junk.txt").exists()


def test_a_directory_that_others_may_write_to_is_warned_of(
    opened: Opened, store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store.chmod(0o777)
    (store / "history" / "train" / "000000000004.checkpoint").chmod(0o644)
    cm = opened()
    assert "Other users of this host may write to" in caplog.text
    exposed = [finding for finding in cm.verify().problems if finding.state == "exposed"]
    assert {os.path.basename(finding.path) for finding in exposed} == {"store", "000000000004.checkpoint"}
    assert cm.verify().ok


def test_a_repair_sets_many_planted_files_aside_with_few_flushes(
    opened: Opened, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(10, 200):
        (store / "history" / "train" / f"{number:012d}.checkpoint").write_bytes(b"junk")
    cm = opened()
    flushed: list[None] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: flushed.append(fsync(descriptor)))
    assert [step.action for step in cm.repair()].count("set-aside") == 190
    assert len(flushed) < 20
    assert cm.load_checkpoint("train")["number"] == 4


def test_a_planted_file_that_vanishes_during_a_repair_is_told_as_gone(
    opened: Opened, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = store / "history" / "train" / "000000000010.checkpoint"
    planted.write_bytes(b"junk")
    cm = opened()
    quarantine = LocalBackend.quarantine

    def after_the_attacker(backend: LocalBackend, stage: str, what: Any) -> Any:
        planted.unlink()
        return quarantine(backend, stage, what)

    monkeypatch.setattr(LocalBackend, "quarantine", after_the_attacker)
    assert "has no valid header; gone by now" in [step.detail for step in cm.repair()]


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files away")
@pytest.mark.parametrize("name", ["history", "history/train", "history/train/000000000004.checkpoint", ".locks"])
def test_what_belongs_to_another_user_is_found(opened: Opened, store: Path, name: str) -> None:
    os.chown(store / name, 12345, 12345)
    exposed = [finding for finding in opened().verify().problems if finding.state == "exposed"]
    assert [(finding.path, finding.detail) for finding in exposed] == [
        (str(store / name), "belongs to user 12345, who can change it")
    ]


@pytest.mark.parametrize("umask", [0o000, 0o777, 0o022])
def test_modes_do_not_depend_on_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        cm = CheckpointManager(tmp_path / "store", key=KEY)
        cm.save_checkpoint("train", 1)
        cm.save_checkpoint("x" * 255, 2)
        cm.save_checkpoint("train", 3)
        cm.delete_versions("train", [1])
    finally:
        os.umask(before)
    for path in (tmp_path / "store", *(tmp_path / "store").rglob("*")):
        expected = 0o700 if path.is_dir() else 0o600
        if path.suffix == ".lock" or path.name == "store.record":  # nothing is in it; the umask may only narrow it
            assert stat.S_IMODE(path.stat().st_mode) & ~expected == 0
        else:
            assert stat.S_IMODE(path.stat().st_mode) == expected, path


def test_a_lock_held_for_ever_is_a_timeout_and_readers_go_on(opened: Opened, store: Path) -> None:
    import fcntl

    with (store / ".locks" / "train.lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write("{}" + " " * 600)
        lock.flush()
        cm = opened()
        with pytest.raises(LockTimeoutError, match=f"held by process {os.getpid()}"):
            cm.save_checkpoint("train", 5)
        assert cm.load_checkpoint("train")["number"] == 4


def test_a_lock_that_is_unlinked_while_held_lets_no_version_be_lost(opened: Opened, store: Path) -> None:
    """Removing the lock file admits a second writer; the exclusive link still gives each version to one of them."""
    first, second = opened(), opened()
    inside, go_on = threading.Event(), threading.Event()

    def slow(present: object) -> object:
        inside.set()
        go_on.wait(10)
        return ["slow", present]

    caught: list[BaseException] = []

    def update() -> None:
        try:
            first.update_checkpoint("train", slow)
        except CheckpointError as error:
            caught.append(error)

    thread = threading.Thread(target=update)
    thread.start()
    inside.wait(10)
    (store / ".locks" / "train.lock").unlink()
    assert second.save_checkpoint("train", "quick").number == 5
    go_on.set()
    thread.join()
    assert not caught
    assert opened().load_checkpoint("train") == ["slow", "quick"], "its function was called again"
    assert opened().load_checkpoint("train", 5) == "quick"


@pytest.mark.parametrize(
    "place",
    [
        "history/train/000000000005." + "a" * 64 + ".pending",
        "history/train/.0000000000000005.tmp",
        "history/train/.0123456789abcdef.tmp",
        ".0123456789abcdef.tmp",
        "train.checkpoint",
        "other.checkpoint",
    ],
)
def test_a_directory_at_a_name_that_can_be_known_before_stops_no_operation(
    opened: Callable[..., CheckpointManager], store: Path, place: str
) -> None:
    (store / place).unlink(missing_ok=True)
    (store / place).mkdir()
    for number in (5, 6, 7):
        cm = opened()
        assert cm.save_checkpoint("train", number).number == number
        assert cm.load_checkpoint("train") == number
    opened().delete_versions("train", [2])
    opened().keys.rotate()
    opened().repair()
    assert {each.path for each in opened().verify().problems} == {str(store / place)}, "it is told, and left where it is"
    assert opened().load_checkpoint("train") == 7
