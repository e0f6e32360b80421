"""Situations that show the messages of the library and the program: how each comes about, and what its hint leads to.

A situation is provoked for real. ``test_messages`` does then what the hint says, and looks whether that leads further.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from checkpoint_manager import CheckpointManager, KeyFile, Passphrase, Pipelines
from checkpoint_manager._store.key_sources import create_key_file
from checkpoint_manager.errors import Hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass(frozen=True)
class Situation:
    """One situation.

    Attributes:
        name: What happened.
        kind: The name of the error's class.
        code: The exit code of the program, or None for a call.
        act: The command, or for a program a call.
        prepare: Brings it about in a folder with a store.
        hint: The hint that it shows, where that has a command of its own.
        follow: The commands that the hint names, in order.
        after: What works then, with the exit code 0; None: the same command.
    """

    name: str
    kind: str
    code: int | None
    act: str | Callable[[Path], object]
    prepare: Callable[[Path], contextlib.AbstractContextManager[None]] | None = None
    hint: Hint | None = None
    follow: tuple[str, ...] = ()
    after: str | None = None


def version(folder: Path, stage: str, number: int) -> Path:
    return folder / "checkpoints" / "history" / stage / f"{number:012d}.checkpoint"


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(10)


def opened(folder: Path) -> CheckpointManager:
    return CheckpointManager(folder / "checkpoints")


@contextlib.contextmanager
def put_back(folder: Path) -> Iterator[None]:
    shutil.copytree(folder / "checkpoints", folder / "older")
    opened(folder).save_checkpoint("train", {"epoch": 4})
    shutil.rmtree(folder / "checkpoints")
    (folder / "older").rename(folder / "checkpoints")
    yield


@contextlib.contextmanager
def copied(folder: Path) -> Iterator[None]:
    """Copy the store with the system's means, look at the copy, and go on with the original."""
    shutil.copytree(folder / "checkpoints", folder / "copied")
    CheckpointManager(folder / "copied").load_checkpoint("train")
    opened(folder).save_checkpoint("train", {"epoch": 4})
    yield


@contextlib.contextmanager
def older_keyring(folder: Path) -> Iterator[None]:
    keyring = folder / "checkpoints" / "keyring.json"
    before = keyring.read_bytes()
    opened(folder).keys.add(Passphrase("correct horse"))
    keyring.write_bytes(before)
    yield


@contextlib.contextmanager
def moved_key(folder: Path) -> Iterator[None]:
    key = next(Path.home().rglob("default.key"))
    key.rename(folder / "moved.key")
    yield


@contextlib.contextmanager
def further_slot(folder: Path) -> Iterator[None]:
    secret(folder, "alice.txt", "correct horse")
    opened(folder).keys.add(Passphrase("correct horse"), label="alice")
    yield


def secret(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    (folder / name).chmod(0o600)


@contextlib.contextmanager
def bundle_of_another_history(folder: Path) -> Iterator[None]:
    secret(folder, "words.txt", "x y z")
    other = CheckpointManager(folder / "other")
    for number in range(5):
        other.save_checkpoint("train", number)
    other.export_bundle(folder / "train.bundle", key=Passphrase("x y z"))
    yield


@contextlib.contextmanager
def damaged(folder: Path) -> Iterator[None]:
    damage(version(folder, "train", 2))
    yield


@contextlib.contextmanager
def missing(folder: Path) -> Iterator[None]:
    version(folder, "train", 2).unlink()
    yield


@contextlib.contextmanager
def tagged(folder: Path) -> Iterator[None]:
    opened(folder).tag("train", 1, "good")
    yield


@contextlib.contextmanager
def damaged_tags(folder: Path) -> Iterator[None]:
    opened(folder).tag("train", 1, "good")
    damage(folder / "checkpoints" / "history" / "train" / "tags")
    yield


@contextlib.contextmanager
def tag_of_a_version_that_was_replaced(folder: Path) -> Iterator[None]:
    """Put an older copy back, keep the tags, and save another version of the number that is tagged."""
    shutil.copytree(folder / "checkpoints", folder / "older")
    opened(folder).save_checkpoint("train", {"epoch": 4})
    opened(folder).tag("train", 4, "good")
    tags = Path("history", "train", "tags")
    (folder / "checkpoints" / tags).rename(folder / "older" / tags)
    shutil.rmtree(folder / "checkpoints")
    (folder / "older").rename(folder / "checkpoints")
    save_as_another_user(folder)
    opened(folder).accept_rollback()
    yield


@contextlib.contextmanager
def cleared(folder: Path) -> Iterator[None]:
    opened(folder).clear_checkpoint("clean")
    yield


@contextlib.contextmanager
def files(folder: Path) -> Iterator[None]:
    (folder / "one.json").write_text("1")
    (folder / "text").write_text("no bundle, no JSON")
    secret(folder, "words.txt", "x y z")
    yield


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    (folder / "one.json").write_text("1")
    store = opened(folder)._store
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.lock("train"):
            ready.set()
            done.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    ready.wait(60)
    try:
        yield
    finally:
        done.set()
        holder.join()


def save_as_another_user(folder: Path) -> None:
    program = (
        f"from checkpoint_manager import CheckpointManager as C; C({str(folder / 'checkpoints')!r}).save_checkpoint('train', 4)"
    )
    environment = {"XDG_STATE_HOME": str(folder / "another")}
    subprocess.run([sys.executable, "-c", program], env=os.environ | environment, check=True, capture_output=True)


@contextlib.contextmanager
def saved_over(folder: Path) -> Iterator[None]:
    """Let another user, who has not seen the newest version, save over it after it was damaged."""
    opened(folder).load_checkpoint("train")
    damage(version(folder, "train", 3))
    save_as_another_user(folder)
    yield


def run_twice_at_once(folder: Path, wait: float = 0.1) -> object:
    cm = opened(folder)
    ready, done = threading.Event(), threading.Event()

    def slow() -> int:
        ready.set()
        done.wait(60)
        return 1

    runner = threading.Thread(target=cm.stage("slow")(slow))
    runner.start()
    ready.wait(60)
    try:
        return opened(folder).stage("slow", wait=wait)(slow)()
    finally:
        done.set()
        runner.join()


def export_onto_a_file(folder: Path) -> object:
    (folder / "there").write_text("")
    return opened(folder).export_bundle(folder / "there", key=Passphrase("x"))


def return_an_object(folder: Path) -> object:
    def train() -> Any:
        return object()

    return opened(folder).stage(train)()


def compare_an_object(folder: Path) -> object:
    def train(model: object) -> int:
        return 1

    return opened(folder).stage(train)(object())


@contextlib.contextmanager
def last_slot(folder: Path) -> Iterator[None]:
    secret(folder, "words.txt", "x y z")
    create_key_file(folder / "labelled.key")
    cm = opened(folder)
    first = cm.keys.list()[0].slot
    cm.keys.add(KeyFile(str(folder / "labelled.key")), label="default")
    CheckpointManager(folder / "checkpoints", key=KeyFile(str(folder / "labelled.key"))).keys.remove(first)
    yield


def restore_that_is_left(folder: Path) -> None:
    """Restore two stores, while another writer saves in the second one; the newest version of the first one was damaged."""
    cm, other = opened(folder), CheckpointManager(folder / "other")
    other.save_checkpoint("load", 1)
    for each, stage in ((cm, "train"), (other, "load")):
        each.tag(stage, 1, "good")
        each.save_checkpoint(stage, 2)
    damage(version(folder, "train", cm.get_version("train").number))
    pipelines = Pipelines([opened(folder), other])
    plan = pipelines.plan_restore(tag="good")
    other.save_checkpoint("load", 3)
    pipelines.restore(plan)


SITUATIONS = [
    Situation(
        "a copy of the directory is looked at when the original has moved on",
        "RollbackError",
        13,
        "show train --store copied",
        copied,
        Hint.COPY_OR_ACCEPT,
        ("copy another", "save train another/keyring.json --store another"),
        "show train --store checkpoints",
    ),
    Situation(
        "an older copy was put back",
        "RollbackError",
        13,
        "show train",
        put_back,
        Hint.ACCEPT_ROLLBACK,
        ("repair --accept-rollback --yes",),
    ),
    Situation(
        "so it was, and verify looks", "", 13, "verify", put_back, Hint.ACCEPT_ROLLBACK, ("repair --accept-rollback --yes",)
    ),
    Situation(
        "an older keyring was put back",
        "RollbackError",
        13,
        "status",
        older_keyring,
        Hint.ACCEPT_KEYRING,
        ("repair --accept-rollback --yes",),
    ),
    Situation(
        "the key file is not where it was",
        "KeyUnavailableError",
        12,
        "status",
        moved_key,
        Hint.GIVE_A_KEY,
        (),
        "status --key file:moved.key",
    ),
    Situation(
        "a slot's key is not known",
        "CheckpointError",
        16,
        "key rotate",
        further_slot,
        Hint.GIVE_OR_DROP_SLOTS,
        (),
        "key rotate --also passphrase-file:alice.txt",
    ),
    Situation(
        "likewise, and it is given up",
        "CheckpointError",
        16,
        "key rotate",
        further_slot,
        Hint.GIVE_OR_DROP_SLOTS,
        ("key rotate --drop alice --yes",),
    ),
    Situation(
        "a stage has another history here",
        "VersionConflictError",
        16,
        "import train.bundle --bundle-key passphrase-file:words.txt",
        bundle_of_another_history,
        Hint.IMPORT_RENAMED,
        (),
        "import train.bundle --bundle-key passphrase-file:words.txt --rename train theirs",
    ),
    Situation(
        "a version is damaged",
        "IntegrityError",
        13,
        "show train@2",
        damaged,
        Hint.LOAD_ANOTHER,
        ("repair --yes",),
        "show train@1",
    ),
    Situation("a listing has a damaged version", "", 13, "log train", damaged, Hint.VERIFY_AND_REPAIR, ("repair --yes",)),
    Situation("verify finds a damaged version", "", 13, "verify", damaged, None, ("repair --dry-run", "repair --yes")),
    Situation("a version is missing", "IntegrityError", 13, "show train@2", missing, Hint.PUT_IT_BACK, (), "show train@1"),
    Situation(
        "another version has the tag", "TagError", 16, "tag train@2 good", tagged, Hint.MOVE_TAG, (), "tag train@2 good --force"
    ),
    Situation(
        "the tags of a stage are damaged",
        "IntegrityError",
        13,
        "show train@good",
        damaged_tags,
        Hint.RESTORE_TAGS,
        ("repair --yes", "repair --accept-rollback --yes"),
        "tag train@1 good",
    ),
    Situation(
        "a tagged version was replaced",
        "IntegrityError",
        13,
        "show train@good",
        tag_of_a_version_that_was_replaced,
        Hint.TAG_AGAIN,
        ("tag train@4 good --force",),
    ),
    Situation(
        "a tagged version is to be deleted",
        "CheckpointError",
        16,
        "delete train 1 --yes",
        tagged,
        Hint.REMOVE_TAG,
        ("tag --delete train good",),
    ),
    Situation(
        "the newest version is to be deleted",
        "CheckpointError",
        16,
        "delete train 3 --yes",
        None,
        None,
        ("delete train --all --dry-run", "clear train --yes"),
    ),
    Situation(
        "it is not said which versions are to be deleted",
        "UsageError",
        2,
        "delete train --yes",
        None,
        None,
        ("log train",),
        "delete train 1 --yes",
    ),
    Situation(
        "a version has no attachment of this name",
        "AttachmentNotFoundError",
        None,
        lambda folder: opened(folder).get_checkpoint("train").attachments["weights"],
    ),
    Situation("a bundle is there already", "StorageError", None, export_onto_a_file, None, Hint.OVERWRITE),
    Situation(
        "a stage is cleared",
        "CheckpointNotFoundError",
        14,
        "show clean",
        cleared,
        Hint.RESTORE_EARLIER,
        ("log clean", "restore clean@1 --yes"),
    ),
    Situation(
        "there is no such version",
        "CheckpointNotFoundError",
        14,
        "show train@9",
        None,
        Hint.SEE_HISTORY,
        ("log train",),
        "show train@3",
    ),
    Situation(
        "there is one version, and not the one asked for",
        "CheckpointNotFoundError",
        14,
        "show clean@9",
        None,
        Hint.SEE_HISTORY,
        ("log clean",),
        "show clean@1",
    ),
    Situation(
        "another user saved over a damaged version",
        "RollbackError",
        13,
        "show train",
        saved_over,
        Hint.REPAIR_OR_RESTORE,
        ("repair --yes",),
    ),
    Situation(
        "a stage's name is misspelt",
        "CheckpointNotFoundError",
        14,
        "show trian",
        None,
        Hint.SEE_STAGES,
        ("list",),
        "show train",
    ),
    Situation(
        "a tag is misspelt",
        "CheckpointNotFoundError",
        14,
        "show train@goood",
        tagged,
        Hint.SEE_TAGS,
        ("tag",),
        "show train@good",
    ),
    Situation(
        "another writer holds the stage",
        "LockTimeoutError",
        11,
        "save train one.json --lock-timeout 0.1",
        held,
        Hint.WAIT_FOR_LOCK,
    ),
    Situation("the same function runs already", "LockTimeoutError", None, run_twice_at_once, None, Hint.WAIT_FOR_RUN),
    Situation(
        "another version was saved meanwhile",
        "VersionConflictError",
        16,
        "save train one.json --expect 1",
        files,
        None,
        (),
        "save train one.json --expect 3",
    ),
    Situation(
        "metadata has a key of the library's",
        "PayloadError",
        2,
        "save train one.json --metadata @run=a7",
        files,
        None,
        (),
        "save train one.json --metadata run=a7",
    ),
    Situation(
        "a value can't be saved",
        "PayloadError",
        None,
        lambda folder: opened(folder).save_checkpoint("train", {"a": object(), "b": iter(())}),
    ),
    Situation(
        "a stage's name is too long", "StageNameError", 2, f"save {'x' * 256} one.json", files, None, (), "save y one.json"
    ),
    Situation("a tag can't be one", "TagError", 2, "tag train@1 7", None, None, (), "tag train@1 v7"),
    Situation("an argument can't be compared", "FingerprintError", None, compare_an_object),
    Situation("a result can't be saved", "ResultNotSavedError", None, return_an_object),
    Situation(
        "the scheme is not known", "LocationError", 2, "status --store ftp://x", None, None, (), "status --store checkpoints"
    ),
    Situation("a restore of two stores is taken back in part", "PartlyRestoredError", None, restore_that_is_left),
    Situation("the location is empty", "LocationError", None, lambda _: CheckpointManager("")),
    Situation("another key is given", "WrongKeyError", 12, "status --key passphrase-file:words.txt", files, None, (), "status"),
    Situation("a file is not a bundle", "IntegrityError", 13, "import text --bundle-key passphrase-file:words.txt", files),
    Situation(
        "an argument is of another type",
        "ArgumentError",
        None,
        lambda folder: CheckpointManager(folder / "checkpoints", lock_timeout="5"),
    ),  # type: ignore[arg-type]
    Situation(
        "a bundle's name is taken",
        "StorageError",
        16,
        "export text --bundle-key passphrase-file:words.txt",
        files,
        Hint.OVERWRITE,
        (),
        "export text --bundle-key passphrase-file:words.txt --overwrite",
    ),
    Situation(
        "there is no such folder",
        "StorageError",
        20,
        "export nowhere/all.bundle --bundle-key passphrase-file:words.txt",
        files,
        None,
        (),
        "export all.bundle --bundle-key passphrase-file:words.txt",
    ),
    Situation(
        "a bundle is not there", "StorageError", 20, "import nowhere.bundle --bundle-key passphrase-file:words.txt", files
    ),
    Situation("there is no store", "NoStoreError", 10, "status --store other", None, None, ("init --store other",)),
    Situation(
        "there is a file where a store should be",
        "NoStoreError",
        10,
        "status --store text",
        files,
        None,
        (),
        "status --store checkpoints",
    ),
    Situation("a command is misspelt", "UnknownCommandError", 2, "stauts", None, None, (), "status"),
    Situation(
        "there is no terminal to ask at",
        "UsageError",
        2,
        "clear clean",
        None,
        None,
        ("clear clean --dry-run",),
        "clear clean --yes",
    ),
    Situation(
        "likewise, without a plan",
        "UsageError",
        2,
        "key remove alice",
        further_slot,
        None,
        ("key list",),
        "key remove alice --yes",
    ),
    Situation(
        "a key slot is misspelt",
        "CheckpointNotFoundError",
        14,
        "key remove alcie --yes",
        further_slot,
        None,
        (),
        "key remove alice --yes",
    ),
    Situation(
        "it is the last key slot",
        "CheckpointError",
        16,
        "key remove default --yes --key file:labelled.key",
        last_slot,
        None,
        ("key add passphrase-file:words.txt --key file:labelled.key",),
    ),
    Situation(
        "it is not said which version",
        "UsageError",
        2,
        "restore train --yes",
        None,
        None,
        ("log train",),
        "restore train@prev --yes",
    ),
    Situation(
        "it is not said how far all go back",
        "UsageError",
        2,
        "restore --all --yes",
        None,
        None,
        (),
        "restore --all --at 10m --yes",
    ),
    Situation(
        "a tag is asked for that no stage has",
        "CheckpointNotFoundError",
        14,
        "restore --all --tag release-7 --yes",
        None,
        Hint.SEE_TAGS,
        ("tag --all release-7",),
    ),
    Situation(
        "a version is written with its stage",
        "UsageError",
        2,
        "diff train train@1",
        None,
        None,
        ("diff train 1 3",),
        "diff train 1",
    ),
    Situation("an option is misspelt", "NoSuchOption", 2, "status --stroe x", None, None, ("status --help",), "status"),
    Situation("no rule is given", "UsageError", 2, "prune --yes", None, None, (), "prune --keep-last 5 --yes"),
    Situation(
        "a place in the data is not there",
        "CheckpointNotFoundError",
        14,
        "show train --path /epoc",
        None,
        None,
        (),
        "show train --path /epoch",
    ),
    Situation("a file does not hold JSON", "UsageError", 2, "save train text", files, None, (), "save train one.json"),
    Situation("a time is none", "BadParameter", 2, "show train --at yesterday", None, None, (), "show train --at 0s"),
]
