"""A store, and a folder, of another user of this host."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoint_manager import CheckpointManager

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.cli.conftest import Result

    Cli = Callable[..., Result]

OTHER = 65_534
COMMANDS = ("status", "list", "log train", "show train", "has train", "save train -", "verify", "repair --yes", "key list")

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can act as another user")


@contextlib.contextmanager
def acting_as(user: int) -> Iterator[None]:
    """Act as another user, who has this home and is not above the rules of the file system."""
    home = Path.home()
    for path in (home, *home.rglob("*")):
        os.chown(path, user, user)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user of this host can reach, with a store of this one."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:  # the test's own folders are closed to others
        Path(name).chmod(0o755)
        (Path(name) / "home").mkdir()
        monkeypatch.setenv("HOME", f"{name}/home")
        CheckpointManager(Path(name) / "checkpoints").save_checkpoint("train", 1)
        monkeypatch.setenv("CHECKPOINT_MANAGER_STORE", f"{name}/checkpoints")
        yield Path(name)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("mode", [0o700, 0o755], ids=["closed", "readable"])
def test_the_store_of_another_user_is_an_error_of_the_system(command: str, mode: int, cli: Cli, place: Path) -> None:
    cli(*command.split())  # loads what the command needs
    cli("save", "nowhere")
    (place / "checkpoints").chmod(mode)
    with acting_as(OTHER):
        result = cli(*command.split())
    assert result.code == 20
    assert result.out == ""
    assert f"{place}/checkpoints" in result.err
    assert "Give this user access" in result.err or "Run this as root" in result.err


def test_a_store_that_is_closed_to_writers_is_read_and_refuses_to_change(cli: Cli, place: Path) -> None:
    for command in ("init", "save train -", "tag train@1 good", "run other -- true", "show train"):
        cli(*command.split())  # loads what the commands need
    place.chmod(0o777)
    for path in (place / "checkpoints", *(place / "checkpoints").rglob("*")):
        os.chown(path, OTHER, OTHER)
        path.chmod(path.stat().st_mode & 0o500)
    with acting_as(OTHER):
        shown, *refused = [
            cli(*each.split()) for each in ("show train", "tag train@1 other", "run new -- true", "clear train --yes")
        ]
    assert (shown.code, shown.out) == (0, "1\n")
    for result in refused:
        assert (result.code, "waits" in result.err) == (20, False)
        assert result.err.endswith("Permission denied. Give this user access to it, or choose another directory\n")


def test_a_version_that_can_not_be_read_is_named_by_its_path(cli: Cli, place: Path) -> None:
    cli("show", "train@1")  # loads what the command needs
    place.chmod(0o777)
    for path in (place / "checkpoints", *(place / "checkpoints").rglob("*")):
        os.chown(path, OTHER, OTHER)
    version = place / "checkpoints" / "history" / "train" / "000000000001.checkpoint"
    version.chmod(0)
    with acting_as(OTHER):
        result = cli("show", "train@1")
    assert result.code == 20
    assert f"{version}: Permission denied" in result.err


@pytest.mark.parametrize(
    ("closed", "mode", "command", "named"),
    [
        ("history/train/gaps", 0, "show train", "history/train/gaps"),
        ("history/train/tags", 0, "tag train@3 best", "history/train/tags"),
        ("history/train", 0, "show train", "history/train"),
        ("history/train", 0o500, "save train -", "history/train/."),
        ("history/train", 0o500, "tag train@3 best", "history/train/."),
        ("history", 0o500, "save new -", "history/new"),
        ("history", 0, "show train", "history"),
        (".locks/train.lock", 0, "save train -", ".locks/train.lock"),
        (".locks", 0, "save train -", ".locks"),
        ("keyring.json", 0, "show train", "keyring.json"),
    ],
)
def test_what_is_closed_to_this_user_is_named_by_its_path_and_what_to_do(
    cli: Cli, place: Path, closed: str, mode: int, command: str, named: str
) -> None:
    (place / "one.json").write_text("1")
    words = command.replace(" -", f" {place}/one.json").split()
    cm = CheckpointManager(place / "checkpoints")
    for number in (2, 3):
        cm.save_checkpoint("train", number)
    cm.tag("train", 1, "good")
    cm.delete_versions("train", [2])
    (place / "elsewhere").mkdir()
    CheckpointManager(place / "elsewhere").save_checkpoint("train", 1)
    cli(*words, "--store", f"{place}/elsewhere")  # loads what the command needs
    place.chmod(0o777)
    store = place / "checkpoints"
    for path in (store, *store.rglob("*")):
        os.chown(path, OTHER, OTHER)
    (store / closed).chmod(mode)
    with acting_as(OTHER):
        result = cli(*words)
    (store / closed).chmod(0o700)
    assert (result.code, result.out) == (20, "")
    assert f": {store}/{named}" in result.err
    assert result.err.endswith(": Permission denied. Give this user access to it, or choose another directory\n")


def test_a_version_that_can_not_be_read_hides_no_other_one(cli: Cli, place: Path) -> None:
    for number in (2, 3):
        CheckpointManager(place / "checkpoints").save_checkpoint("train", number)
    for command in ("log train", "find", "verify", "status"):
        cli(*command.split())  # loads what the commands need
    place.chmod(0o777)
    for path in (place / "checkpoints", *(place / "checkpoints").rglob("*")):
        os.chown(path, OTHER, OTHER)
    version = place / "checkpoints" / "history" / "train" / "000000000002.checkpoint"
    version.chmod(0)
    with acting_as(OTHER):
        listed, document, found, status, verified = [
            cli(*each.split()) for each in ("log train", "log train --json", "find --status unreadable", "status", "verify")
        ]
    expected = [["3", "completed"], ["2", "unreadable"], ["1", "completed"]]
    assert [line.split()[:2] for line in listed.out.splitlines()[1:]] == expected
    assert [[str(each["version"]), each["status"]] for each in document.json["versions"]] == expected
    assert "the operating system does not let 1 of 3 versions be read. See which and why with: " in listed.err
    assert [line.split()[:3] for line in found.out.splitlines()[1:]] == [["train", "2", "unreadable"]]
    assert f"{version}: Permission denied" in verified.out
    assert [result.code for result in (listed, document, found, status, verified)] == [13, 13, 13, 0, 13]


def test_a_stage_that_can_not_be_read_keeps_no_other_one_from_being_repaired(cli: Cli, place: Path) -> None:
    for stage in ("clean", "clean"):
        CheckpointManager(place / "checkpoints").save_checkpoint(stage, 1)
    for command in ("verify", "repair --dry-run", "status"):
        cli(*command.split())  # loads what the commands need
    place.chmod(0o777)
    history = place / "checkpoints" / "history"
    (history / "clean" / "000000000001.checkpoint").write_bytes(b"damaged")
    for path in (place / "checkpoints", *(place / "checkpoints").rglob("*")):
        os.chown(path, OTHER, OTHER)
    (history / "train").chmod(0)
    with acting_as(OTHER):
        repaired, status, verified = [cli(*each.split()) for each in ("repair --yes", "status", "verify")]
    (history / "train").chmod(0o700)
    assert (repaired.code, status.code, verified.code) == (3, 20, 13)
    assert f"can't open the folder of stage train: {history}/train: Permission denied" in repaired.err + repaired.out
    assert [line.split()[:2] for line in status.out.splitlines()[1:]] == [["clean", "completed"], ["train", "unreadable"]]
    assert f"{history}/train: Permission denied. Give this user access to it" in status.err


def test_a_folder_of_another_user_can_not_become_a_store(cli: Cli, place: Path) -> None:
    (place / "theirs").mkdir(mode=0o755)
    cli("init", "--store", f"{place}/loads")
    cli("demo", "nowhere")
    with acting_as(OTHER):
        result = cli("init", "--store", f"{place}/theirs")
        shown = cli("demo", "--store", f"{place}/theirs/demo")
    assert result.code == 20
    assert f"{place}/theirs" in result.err
    assert (shown.code, shown.err) == (2, f"error: no store can be made in {place}/theirs. Name another place with --store\n")
    assert list((place / "theirs").iterdir()) == []
